"""The task embed: one vector a text, or one for every so many tokens of it, for text of any length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.errors import InputError
from gossamer.models.architecture import SentenceEmbedding
from gossamer.models.encoder import Model
from gossamer.models.heads import pool
from gossamer.tasks.passes import Progress, Reading, read_states

__all__ = ["Embed", "Embeddings"]

GROUP_TOKENS = 200_000
"""The states of so many tokens, and of one text more, are held at a time."""

Long = Literal["chunk", "truncate", "error"]


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


class Embed:
    """Embed texts with a model; its pooling is that of its head, or the mean where it has none.

    Raises InputError for a model without tokenizer or with a head that is not for embedding.
    """

    def __init__(self, model: Model) -> None:
        head = model.architecture.head
        if head is not None and not isinstance(head, SentenceEmbedding):
            raise InputError(f"the model's head is {head.kind!r}; load it with head='embed' to embed texts")
        if model.tokenizer is None:
            raise InputError("the model has no tokenizer: put tokenizer.json into its directory to embed texts")
        self.model = model
        self.head = head or SentenceEmbedding()

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
        self._check(spans, long, batch_tokens)
        listed = [texts] if isinstance(texts, str) else list(texts)
        if not listed:
            raise InputError("there are no texts: give at least one")
        readings = [self._tokenize(i, text) for i, text in enumerate(listed)]
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
        total, done = sum(len(one.ids) for one in readings), 0
        training = self.model.training
        self.model.eval()
        try:
            for group in _groups(readings):
                read_states(self.model, group, batch_tokens, _shifted(progress, done, total))
                for one in group:
                    for into, size in zip(rows, sizes, strict=True):
                        into += [(one.text, vector, span) for vector, span in self._pool(one, size)]
                    one.forget()
                    done += len(one.ids)
        finally:
            self.model.train(training)
        return rows

    def _check(self, spans: int | None, long: str, batch_tokens: int) -> None:
        if long not in get_args(Long):
            raise InputError(f"long is {long!r}; it must be one of {', '.join(get_args(Long))}")
        if batch_tokens < 1:
            raise InputError(f"batch_tokens is {batch_tokens}; it must be 1 or more")
        if spans is None:
            return
        if type(spans) is not int or spans < 1:
            raise InputError(f"spans is {spans!r}; it must be a whole number of tokens, 1 or more, or None")
        if self.head.pooling == "cls":
            raise InputError("spans need mean or max pooling; this model's vector is the state of its first token")

    def _tokenize(self, i: int, text: str) -> Reading:
        if not isinstance(text, str):
            raise InputError(f"text {i} is a {type(text).__name__}; it must be a string")
        ids, offsets = self.model.tokenizer.encode_plain(text)
        if not ids:
            raise InputError(f"text {i} is empty ({text[:20]!r}): there is nothing to embed; leave it out")
        return Reading(text=i, ids=ids, offsets=offsets)

    def _fit(self, readings: Sequence[Reading], long: str) -> list[str]:
        """Refuse, cut or announce the texts that are longer than the model."""
        most = self.model.architecture.length
        notes = []
        for i, one in enumerate(readings):
            length = len(one.ids) + 2
            if length <= most:
                continue
            longer = 1 << (length - 1).bit_length()
            said = f"text {i} is {length} tokens long, the model reads {most}"
            remedy = f"lengthen the model to read it at once: gossamer.lengthen(model, to={longer})"
            if long == "error":
                raise InputError(f"{said}: {remedy}, or give long='chunk' or long='truncate'")
            if long == "truncate":
                one.ids, one.offsets = one.ids[: most - 2], one.offsets[: most - 2]
            notes.append(f"{said}: {'cut' if long == 'truncate' else 'read in overlapping passes'}; {remedy}")
        return notes

    def _pool(self, one: Reading, spans: int | None) -> list[tuple[Tensor, tuple[int, int]]]:
        """The vectors of a text with their spans of characters."""
        if spans is None:
            states = torch.cat([one.first[None], one.states, one.last[None]])
            return [(pool(self.head, states[None], None)[0], (one.offsets[0][0], one.offsets[-1][1]))]
        vectors = []
        for start in range(0, len(one.ids), spans):
            stop = min(start + spans, len(one.ids))
            vector = pool(self.head, one.states[None, start:stop], None)[0]
            vectors.append((vector, (one.offsets[start][0], one.offsets[stop - 1][1])))
        return vectors


def _groups(readings: Sequence[Reading]) -> Iterator[list[Reading]]:
    group: list[Reading] = []
    tokens = 0
    for one in readings:
        group.append(one)
        tokens += len(one.ids)
        if tokens >= GROUP_TOKENS:
            yield group
            group, tokens = [], 0
    if group:
        yield group


def _shifted(progress: Progress | None, done: int, total: int) -> Progress | None:
    """The progress of one group as a part of the whole."""
    return None if progress is None else lambda read, _: progress(done + read, total)
