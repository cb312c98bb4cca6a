"""The task embed: one vector a text, or one for every so many tokens of it, for text of any length."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.errors import InputError, quote
from gossamer.models.encoder import Model
from gossamer.models.evaluation import evaluating
from gossamer.models.head_settings import SentenceEmbedding
from gossamer.models.heads import pool
from gossamer.patterns import Full
from gossamer.tasks.passes import Progress, Reading, find_frame, read_states

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

    Raises InputError for a model without tokenizer, with a head that is not for embedding, or too short for one token.
    """

    def __init__(self, model: Model) -> None:
        head = model.architecture.head
        if head is not None and not isinstance(head, SentenceEmbedding):
            raise InputError(f"the model's head is {head.kind!r}; load it with head='embed' to embed texts")
        if model.tokenizer is None:
            raise InputError("the model has no tokenizer: put tokenizer.json into its directory to embed texts")
        self.model = model
        self.head = head or SentenceEmbedding()
        self.frame = find_frame(model.tokenizer)
        self.capacity = model.architecture.length - len(self.frame)
        if self.capacity < 1:
            raise InputError(
                f"the model reads {model.architecture.length} tokens, the special ones alone are {len(self.frame)}: "
                "lengthen it to embed texts"
            )

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
        listed = _list(texts)
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
        with evaluating(self.model):
            for group in _groups(readings):
                read_states(self.model, self.frame, group, batch_tokens, _shifted(progress, done, total))
                for one in group:
                    for into, size in zip(rows, sizes, strict=True):
                        into += [(one.text, vector, span) for vector, span in self._pool(one, size)]
                    one.forget()
                    done += len(one.ids)
        return rows

    def _check(self, spans: int | None, long: str, batch_tokens: int) -> None:
        if long not in get_args(Long):
            raise InputError(f"long is {quote(long)}; it must be one of {', '.join(get_args(Long))}")
        if type(batch_tokens) is not int or batch_tokens < 1:
            raise InputError(f"batch_tokens is {quote(batch_tokens)}; it must be a whole number of tokens, 1 or more")
        if spans is None:
            return
        if type(spans) is not int or spans < 1:
            raise InputError(f"spans is {quote(spans)}; it must be a whole number of tokens, 1 or more, or None")
        if self.head.pooling == "cls":
            raise InputError("spans need mean or max pooling; this model's vector is the state of its first token")

    def _tokenize(self, i: int, text: str) -> Reading:
        if not isinstance(text, str):
            raise InputError(f"text {i} is {quote(text)}, a {type(text).__name__}; it must be a string")
        ids, offsets = self.model.tokenizer.encode_plain(text)
        if not ids:
            raise InputError(f"text {i} is empty ({text[:20]!r}): there is nothing to embed; leave it out")
        return Reading(text=i, ids=ids, offsets=offsets)

    def _fit(self, readings: Sequence[Reading], long: str) -> list[str]:
        """Refuse, cut or announce the texts that are longer than the model."""
        most = self.model.architecture.length
        notes = []
        for i, one in enumerate(readings):
            length = len(one.ids) + len(self.frame)
            if length <= most:
                continue
            said = f"text {i} is {length} tokens long, the model reads {most}"
            if long == "error":
                raise InputError(f"{said}: {self._remedy(length)}, or give long='chunk' or long='truncate'")
            if long == "truncate":
                one.ids, one.offsets = one.ids[: self.capacity], one.offsets[: self.capacity]
            notes.append(f"{said}: {self._done_instead(long)}; {self._remedy(length)}")
        return notes

    def _done_instead(self, long: str) -> str:
        if long == "truncate":
            return "cut"
        only_first = " (its vector, the first token's state, sees the first alone)" * (self.head.pooling == "cls")
        return f"read in overlapping passes{only_first}"

    def _remedy(self, length: int) -> str:
        # A model that was lengthened cannot be once more.
        is_original = all(one.attention.pattern == Full() for one in self.model.architecture.layers)
        which = "the model" if is_original else "the original model"
        call = f"gossamer.lengthen(model, to={1 << (length - 1).bit_length()})"
        return f"lengthen {which} to read it at once: {call}"

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


def _list(texts: object) -> list[Any]:
    if isinstance(texts, str):
        return [texts]
    if isinstance(texts, bytes) or not isinstance(texts, Iterable):
        raise InputError(f"texts is {quote(texts)}; give one string or a list of strings")
    listed = list(texts)
    if not listed:
        raise InputError("there are no texts: give at least one")
    return listed


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
