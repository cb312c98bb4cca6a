"""The task embed: one vector a text, or one for every so many tokens of it, for text of any length."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from gossamer.checks import require_whole
from gossamer.errors import InputError, quote
from gossamer.models.heads import EmbeddingHead, SentenceEmbedding
from gossamer.models.model import Model
from gossamer.tasks.base import Long, Task, check_text, iterate
from gossamer.tasks.names import checks_options
from gossamer.tasks.passes import Progress, Reading, check_progress, room
from gossamer.tasks.pooled import OpenText, PooledRow, PooledRows, TextTokens
from gossamer.tasks.sentence_methods import SentenceMethods
from gossamer.text import Document, EncodedPart, encode_text

__all__ = ["Embed", "EmbeddedPart", "Embeddings", "ReadCharacters"]

ReadCharacters = Callable[[int, int | None], None]
"""Called with the characters read so far and all to read, None where texts come one by one."""


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


@dataclass(frozen=True, kw_only=True)
class EmbeddedPart:
    """Vectors [rows, size] of text number `text` that are finished, and the characters that each stands for.

    Most texts come in one part; of a long one with `spans` several come. With the one that `is_last` come the text's
    `tokens` and `passes` in all, and the remarks on it.
    """

    text: int
    vectors: Float[Tensor, "rows size"]
    spans: list[tuple[int, int]]
    is_last: bool
    tokens: int
    passes: int
    notes: list[str]


@dataclass(frozen=True, kw_only=True)
class _Settings:
    """What one call asks for. prompt: put before each text; so many tokens of it, of which a vector holds none where
    `leaves_out`. notes: on the call as a whole."""

    spans: int | None
    long: Long
    batch_tokens: int | None
    batch_size: int | None
    max_length: int | None
    prompt: str
    prompt_tokens: int
    leaves_out: bool
    normalize: bool | None
    truncate_dim: int | None
    skip_empty: bool
    notes: list[str] = field(default_factory=list)


class Embed(SentenceMethods, Task):
    """Embed texts with a model; its pooling is that of its head, or the mean where it has none.

    Raises InputError for a model without tokenizer, with a head that is not for embedding, or too short for one token.
    """

    heads, load_with, doing, needs_head = (SentenceEmbedding,), "embed", "embed", False

    def __init__(self, model: Model) -> None:
        if model.decoder is not None:
            raise InputError(
                "the model reads one text and writes another, of which no vector is taken: take an encoder, such as "
                "BERT or MPNet, to embed texts"
            )
        super().__init__(model)
        head = model.architecture.head
        self.head = head if isinstance(head, SentenceEmbedding) else SentenceEmbedding()

    @checks_options
    def __call__(
        self,
        texts: str | Document | Iterable[str | Document],
        spans: int | None = None,
        long: Long = "chunk",
        batch_tokens: int | None = None,
        progress: ReadCharacters | None = None,
        *,
        prompt: str | None = None,
        prompt_name: str | None = None,
        normalize: bool | None = None,
        truncate_dim: int | None = None,
        max_length: int | None = None,
        batch_size: int | None = None,
        skip_empty: bool = False,
    ) -> Embeddings:
        """One vector a text, or with `spans` one for each run of so many tokens, pooled from the same pass.

        texts: one or more strings, or `gossamer.text.Document`s, from anything that can be iterated over.

        A text longer than the model reads is read in overlapping passes (`long="chunk"`), cut to what it reads
        ("truncate") or refused ("error"); `passes` and `notes` of the result say so. That limit is the checkpoint's
        own, or `max_length`, special tokens included. `batch_tokens`: how many tokens, padding included, are read at
        once, by themselves 512 a thread on a CPU, 1,024 at least, and 16,384 elsewhere; or `batch_size`: how many
        passes. `progress(done, total)` counts characters, in the other tasks tokens.

        `prompt`, or the checkpoint's prompt `prompt_name`, or else its default one, is put before each text, in every
        pass; "" is none. Vectors have length 1 where the checkpoint or `normalize` says so, and their first
        `truncate_dim` numbers, or as many as the checkpoint says. A text without tokens, such as an empty one, gives
        the vector of the special tokens, or with `skip_empty` none; either is noted.

        Raises InputError for no texts, for text that is none, and for spans under a head that pools the first token.
        """
        parts = list(
            self.stream(
                texts, spans, long, batch_tokens, progress, prompt=prompt, prompt_name=prompt_name, normalize=normalize,
                truncate_dim=truncate_dim, max_length=max_length, batch_size=batch_size, skip_empty=skip_empty,
            )
        )  # fmt: skip
        return Embeddings(
            vectors=torch.cat([part.vectors for part in parts]),
            text_of_row=[part.text for part in parts for _ in part.spans],
            spans=[span for part in parts for span in part.spans],
            tokens=[part.tokens for part in parts if part.is_last],
            passes=[part.passes for part in parts if part.is_last],
            notes=[note for part in parts for note in part.notes],
        )

    def stream(
        self,
        texts: str | Document | Iterable[str | Document],
        spans: int | None = None,
        long: Long = "chunk",
        batch_tokens: int | None = None,
        progress: ReadCharacters | None = None,
        *,
        prompt: str | None = None,
        prompt_name: str | None = None,
        normalize: bool | None = None,
        truncate_dim: int | None = None,
        max_length: int | None = None,
        batch_size: int | None = None,
        skip_empty: bool = False,
    ) -> Iterator[EmbeddedPart]:
        """The same vectors as they come, in the same order, with a memory that does not grow with the texts.

        Texts are asked for, and long `Document`s are read on, as far as the model is ready for them.
        """
        self._check(long, batch_tokens, max_length)
        check_progress(progress)
        self._check_spans(spans)
        if batch_size is not None:
            require_whole("batch_size", batch_size, of="passes", instead="None")
        for name, value in (("normalize", normalize), ("skip_empty", skip_empty)):
            if not isinstance(value, bool) and (name == "skip_empty" or value is not None):
                raise InputError(f"{name} is {quote(value)}; it must be True or False")
        text = self.head.resolve_prompt(prompt, prompt_name)
        settings = _Settings(
            spans=spans, long=long, batch_tokens=batch_tokens, batch_size=batch_size, max_length=max_length,
            prompt=text, prompt_tokens=self._count_prompt(text, max_length), leaves_out=not self.head.include_prompt,
            normalize=normalize, truncate_dim=self._size(truncate_dim), skip_empty=skip_empty,
            notes=[*self._say_prompt(text, prompt, prompt_name), *self._say_longer(max_length)],
        )  # fmt: skip
        listed = [texts] if isinstance(texts, Document) else iterate("texts", texts)
        return self._stream(listed, _characters(texts), settings, progress)

    def pooled(
        self,
        readings: Sequence[Reading],
        sizes: Sequence[int | None],
        batch_tokens: int | None = None,
        progress: Progress | None = None,
    ) -> list[list[tuple[int, Tensor, tuple[int, int]]]]:
        """For each size of span, the rows (text, vector, characters) of texts that are tokens already, read once."""
        texts = [
            TextTokens(text=reading.text, parts=[(reading.ids, reading.offsets, len(reading.ids))], frame=self.frame)
            for reading in readings
        ]
        told = _counted(progress, sum(len(reading.ids) for reading in readings))
        reader = PooledRows(model=self.model, head=self.head, sizes=sizes, batch_tokens=batch_tokens, told=told)
        rows: list[list[tuple[int, Tensor, tuple[int, int]]]] = [[] for _ in sizes]
        for text, finished in reader.read(texts):
            for into, new in zip(rows, finished, strict=True):
                vectors = self._vectors(new, None, None)
                into += [(text.text, vector, span) for vector, (_, span) in zip(vectors, new, strict=True)]
        return rows

    def _stream(
        self,
        texts: Iterable[object],
        characters: int | None,
        settings: _Settings,
        progress: ReadCharacters | None,
    ) -> Iterator[EmbeddedPart]:
        told = _counted(progress, characters)
        told(0)
        reader = PooledRows(
            model=self.model, head=self.head, sizes=[settings.spans], batch_tokens=settings.batch_tokens,
            batch_size=settings.batch_size, max_length=settings.max_length, told=told,
        )  # fmt: skip
        notes = settings.notes
        for text, (rows,) in reader.read(self._tokenized(texts, settings)):
            yield EmbeddedPart(
                text=text.text,
                vectors=self._vectors(rows, settings.normalize, settings.truncate_dim),
                spans=[span for _, span in rows],
                is_last=text.is_done,
                tokens=text.tokens,
                passes=text.passes,
                notes=notes + (self._notes(text, settings) if text.is_done else []),
            )
            notes = []

    def _tokenized(self, texts: Iterable[object], settings: _Settings) -> Iterator[TextTokens]:
        """Each text in the frame of the special tokens and the prompt, whose tokens are those of the two together."""
        count = 0
        for i, text in enumerate(texts):
            count += 1
            encoded = encode_text(chain([settings.prompt], _parts(i, text)), self.model.tokenizer)
            ids, offsets, end = next(encoded, ([], [], 0))
            of_prompt = _within(len(settings.prompt), offsets)
            frame = replace(self.frame, before=[*self.frame.before, *ids[:of_prompt]])
            first = (ids[of_prompt:], offsets[of_prompt:], end)
            capacity = room(self.model, frame, settings.max_length)
            yield TextTokens(
                text=i,
                parts=self._checked(i, chain([first], encoded), len(frame), settings),
                frame=frame,
                most=capacity if settings.long == "truncate" else None,
                leave_out=len(frame.before) if settings.leaves_out and settings.prompt else 0,
                skip_empty=settings.skip_empty,
            )
        if not count:
            raise InputError("there are no texts: give at least one")

    def _checked(self, i: int, parts: Iterable[EncodedPart], frame: int, settings: _Settings) -> Iterator[EncodedPart]:
        """The parts, counted from behind the prompt. InputError for a text that is longer than it may be."""
        most, prompt = self.model.reading_length(settings.max_length), len(settings.prompt)
        tokens = frame
        for ids, offsets, end in parts:
            tokens += len(ids)
            if settings.long != "error" or tokens <= most:
                shifted = [(max(0, first - prompt), max(0, last - prompt)) for first, last in offsets]
                yield ids, shifted if prompt else offsets, end - prompt
        if settings.long == "error":
            self._say_long(i, tokens, "error", most, len(self.frame))

    def _vectors(
        self, rows: Sequence[PooledRow], normalize: bool | None, truncate_dim: int | None
    ) -> Float[Tensor, "rows size"]:
        """Pooled states as sentence-transformers finishes them: through the model's maps, normalised by the model, cut,
        normalised if asked."""
        size = self.head.vector_size(self.model.architecture.output_size)
        vectors = self._project(torch.stack([row for row, _ in rows])) if rows else torch.empty(0, size)
        if self.head.normalized and normalize is not False:
            vectors = F.normalize(vectors, dim=-1)
        if truncate_dim is not None:
            vectors = vectors[:, :truncate_dim].contiguous()
        return F.normalize(vectors, dim=-1) if normalize else vectors

    @torch.no_grad()
    def _project(self, pooled: Float[Tensor, "rows hidden"]) -> Float[Tensor, "rows size"]:
        """What the model's head makes of pooled states where it has maps, which compute where and as it lies."""
        head = self.model.head
        if not isinstance(head, EmbeddingHead):
            return pooled
        return head.project(pooled.to(next(head.parameters()))).float().cpu()

    def _notes(self, text: OpenText, settings: _Settings) -> list[str]:
        if not text.tokens:
            gives = "the prompt and the special tokens" if settings.prompt else "the special tokens"
            vector = f"its vector is that of {gives}" if len(text.frame) else "its vector is zeros"
            return [f"text {text.text} is empty: {'left out' if settings.skip_empty else vector}"]
        most = self.model.reading_length(settings.max_length)
        said = self._say_long(text.text, text.tokens + len(text.frame), settings.long, most, len(self.frame))
        return [] if said is None else [said]

    def _say_prompt(self, text: str, prompt: str | None, prompt_name: str | None) -> list[str]:
        """That the checkpoint's own prompt was taken, where nobody asked for it."""
        if not text or prompt is not None or prompt_name is not None:
            return []
        name = quote(self.head.default_prompt_name)
        return [
            f"the model's default prompt {name}, {quote(text)}, is put before each text; an empty prompt leaves it out"
        ]

    def _count_prompt(self, prompt: str, max_length: int | None) -> int:
        """Its tokens as sentence-transformers counts them: of the prompt alone. InputError where they leave no room."""
        tokens = len(self.model.tokenizer.encode_plain(check_text("prompt", 0, prompt))[0]) if prompt else 0
        if tokens >= room(self.model, self.frame, max_length):
            raise InputError(
                f"the prompt {quote(prompt)} is {tokens} tokens long, which leaves no room for texts, as the model "
                f"reads {self.model.reading_length(max_length)}: give a shorter prompt"
            )
        return tokens

    def _size(self, truncate_dim: int | None) -> int | None:
        size = self.head.vector_size(self.model.architecture.output_size)
        if truncate_dim is None:
            return self.head.truncate_dim
        if type(truncate_dim) is not int or not 1 <= truncate_dim <= size:
            raise InputError(
                f"truncate_dim is {quote(truncate_dim)}; it must be a whole number from 1 to {size}, or None"
            )
        return truncate_dim

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


def _characters(texts: object) -> int | None:
    """Of all texts together, where that is known before they are read."""
    if isinstance(texts, str):
        return len(texts)
    if isinstance(texts, list | tuple) and all(isinstance(text, str) for text in texts):
        return sum(map(len, texts))
    return None


def _parts(i: int, text: object) -> Iterator[str]:
    if not isinstance(text, Document):
        yield check_text("text", i, text)
        return
    before = 0
    for part in text.parts:
        yield check_text("text", i, part, before)
        before += len(part)


def _counted(progress: Callable[[int, Any], None] | None, total: int | None) -> Callable[[int], None]:
    """Adds up what is read, and reports the sum."""
    done = 0

    def told(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(done, total)

    return told


def _within(prompt: int, offsets: Sequence[tuple[int, int]]) -> int:
    """How many tokens stand within a prompt of so many characters; one that holds more than that is the text's."""
    return next((i for i, (_, last) in enumerate(offsets) if last > prompt), len(offsets))
