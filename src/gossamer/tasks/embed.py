"""The task embed: one vector a text, or one for every so many tokens of it, for text of any length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.errors import InputError, quote
from gossamer.models.encoder import Model
from gossamer.models.evaluation import evaluating
from gossamer.models.head_settings import SentenceEmbedding
from gossamer.models.heads import pool
from gossamer.tasks.base import Long, Task, list_texts
from gossamer.tasks.names import checks_options
from gossamer.tasks.passes import Progress, Reading, in_groups, read_states

__all__ = ["Embed", "Embeddings"]


@dataclass(frozen=True, kw_only=True)
class Embeddings:
    """Vectors [rows, size] in float32, in the order of the texts and of their spans.

    `text_of_row` says which text a row belongs to and `spans` from which character to which it goes; `tokens` and
    `passes` are, for each text, how long it is and in how many passes it was read; `notes` are remarks, a line each.
    """

    vectors: Float[Tensor, "rows size"]
    text_of_row: list[int]
    spans: list[tuple[int, int]]
    tokens: list[int]
    passes: list[int]
    notes: list[str]

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON-ready values."""
        return vars(self) | {"vectors": self.vectors.tolist(), "spans": [list(span) for span in self.spans]}


class Embed(Task):
    """Embed texts with a model; its pooling is that of its head, or the mean where it has none.

    Raises InputError for a model without tokenizer, with a head that is not for embedding, or too short for one token.
    """

    heads, load_with, doing, needs_head = (SentenceEmbedding,), "embed", "embed", False

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        head = model.architecture.head
        self.head = head if isinstance(head, SentenceEmbedding) else SentenceEmbedding()

    @checks_options
    def __call__(
        self,
        texts: str | Sequence[str],
        spans: int | None = None,
        long: Long = "chunk",
        batch_tokens: int = 4096,
        progress: Progress | None = None,
    ) -> Embeddings:
        """One vector a text, or with `spans` one for each run of so many tokens, pooled from the same pass.

        A text longer than the model is read in overlapping passes (`long="chunk"`), cut to what the model reads
        ("truncate") or refused ("error"); `passes` and `notes` of the result say so. `batch_tokens`: how many tokens,
        padding included, are read at once. `progress(done, total)` counts tokens.

        Raises InputError for empty texts, for text that is none, and for spans under a head that pools the first token.
        """
        self._check(long, batch_tokens)
        self._check_spans(spans)
        readings = self._readings(list_texts("texts", texts))
        tokens = [len(one.ids) for one in readings]
        notes = self._fit(readings, long)
        rows = self.pooled(readings, [spans], batch_tokens, progress)[0]
        return Embeddings(
            vectors=torch.stack([vector for _, vector, _ in rows]),
            text_of_row=[i for i, _, _ in rows],
            spans=[span for _, _, span in rows],
            tokens=tokens,
            passes=[one.passes for one in readings],
            notes=notes,
        )

    @torch.inference_mode()
    def pooled(
        self,
        readings: Sequence[Reading],
        sizes: Sequence[int | None],
        batch_tokens: int = 4096,
        progress: Progress | None = None,
    ) -> list[list[tuple[int, Tensor, tuple[int, int]]]]:
        """For each size of span, the rows (text, vector, characters) of all texts, read once for all sizes.

        Texts are read in groups, and the states of a group are dropped before the next.
        """
        rows: list[list[tuple[int, Tensor, tuple[int, int]]]] = [[] for _ in sizes]
        with evaluating(self.model):
            for group, report in in_groups(readings, progress):
                for one in group:
                    one.frame = self.frame
                read_states(self.model, group, batch_tokens, report)
                for one in group:
                    for into, size in zip(rows, sizes, strict=True):
                        into += [(one.text, vector, span) for vector, span in self._pool(one, size)]
                    one.forget()
        return rows

    def _check_spans(self, spans: int | None) -> None:
        if spans is None:
            return
        if type(spans) is not int or spans < 1:
            raise InputError(f"spans is {quote(spans)}; it must be a whole number of tokens, 1 or more, or None")
        if self.head.pooling == "cls":
            raise InputError("spans need mean or max pooling; this model's vector is the state of its first token")

    def _chunked(self) -> str:
        only_first = " (its vector, the first token's state, sees the first alone)" * (self.head.pooling == "cls")
        return f"{super()._chunked()}{only_first}"

    def _pool(self, one: Reading, spans: int | None) -> list[tuple[Tensor, tuple[int, int]]]:
        """The vectors of a text with their spans of characters."""
        if spans is None:
            states = torch.cat([one.before, one.states, one.after])
            # A copy: the first token's state would keep those of the whole text in memory.
            vector = pool(self.head, states[None], None)[0].clone()
            return [(vector, (one.offsets[0][0], one.offsets[-1][1]))]
        vectors = []
        for start in range(0, len(one.ids), spans):
            stop = min(start + spans, len(one.ids))
            vector = pool(self.head, one.states[None, start:stop], None)[0]
            vectors.append((vector, (one.offsets[start][0], one.offsets[stop - 1][1])))
        return vectors
