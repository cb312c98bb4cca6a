"""Vectors of texts while they are read: tokens come in parts, states are pooled and dropped, vectors go in order."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.models.batches import tokens_at_once
from gossamer.models.evaluation import evaluating
from gossamer.models.heads import SentenceEmbedding, pool
from gossamer.models.model import Model
from gossamer.tasks.frames import Frame
from gossamer.tasks.passes import Pass, PassPlan, in_batches, read_rows, room
from gossamer.text import EncodedPart

__all__ = ["OpenText", "PooledRow", "PooledRows", "RunningPool", "TextTokens"]

GROUP_TOKENS = 2**14
"""Passes of so many tokens are sorted by their width and read before the next tokens are asked for."""

PooledRow = tuple[Tensor, tuple[int, int]]
"""A vector and the characters that it stands for."""


@dataclass(frozen=True, kw_only=True)
class TextTokens:
    """What is to be read of text number `text`: its tokens in parts, which come once, in the frame of every pass.

    most: how many tokens are read; the others are counted. leave_out: how many tokens of the frame, from its beginning,
    a vector does not hold. skip_empty: a text without tokens gives no vector.
    """

    text: int
    parts: Iterable[EncodedPart]
    frame: Frame = field(default_factory=Frame)
    most: int | None = None
    leave_out: int = 0
    skip_empty: bool = False


class RunningPool:
    """The pooled state of tokens that come bit by bit; to the bit what `pool` gives where they come at once."""

    def __init__(self, head: SentenceEmbedding) -> None:
        self._head = replace(head, normalized=False)
        self._pooled: Tensor | None = None
        self._count = 0

    def add(self, states: Float[Tensor, "tokens size"]) -> None:
        """More tokens, behind those that came."""
        if not len(states):
            return
        new = pool(self._head, states[None], None)[0].double()
        self._count += len(states)
        if self._pooled is None:
            self._pooled = new
        elif self._head.pooling == "mean":
            self._pooled += (new - self._pooled) * (len(states) / self._count)
        elif self._head.pooling == "max":
            self._pooled = torch.maximum(self._pooled, new)

    def result(self, size: int) -> Float[Tensor, "size"]:
        """In float32; zeros where no tokens came."""
        return torch.zeros(size) if self._pooled is None else self._pooled.float()


@dataclass
class _Span:
    pool: RunningPool
    start: int
    end: int
    tokens: int = 0
    pooled: int = 0


class _Spans:
    """The vectors of one text, one for each run of `size` tokens, or, where that is None, one of all and the frame."""

    def __init__(self, head: SentenceEmbedding, size: int | None) -> None:
        self._head, self._size = head, size
        self._open: deque[_Span] = deque()
        self._first = 0  # the number of the first open one

    def locate(self, token: int, offsets: Sequence[tuple[int, int]]) -> None:
        """Where in the text the tokens from number `token` on stand."""
        size, at = self._size or sys.maxsize, 0
        while at < len(offsets):
            number = (token + at) // size
            stop = min(len(offsets), (number + 1) * size - token)
            if number - self._first == len(self._open):
                self._open.append(_Span(RunningPool(self._head), *offsets[at]))
            span = self._open[number - self._first]
            span.end = offsets[stop - 1][1]
            span.tokens += stop - at
            at = stop

    def open_empty(self) -> None:
        """One vector, of the frame, for a text without tokens."""
        self._open.append(_Span(RunningPool(self._head), 0, 0))

    def add_whole(self, states: Tensor, tokens: int) -> None:
        """States of a pass, those of the frame among them, and of how many tokens it kept states."""
        self._open[0].pool.add(states)
        self._open[0].pooled += tokens

    def add_kept(self, states: Tensor, first: int) -> None:
        """States of the tokens from number `first` on."""
        size = self._size or sys.maxsize
        at = 0
        while at < len(states):
            number = (first + at) // size
            stop = min(len(states), (number + 1) * size - first)
            span = self._open[number - self._first]
            span.pool.add(states[at:stop])
            span.pooled += stop - at
            at = stop

    def finished(self, is_ended: bool, is_done: bool) -> Iterator[_Span]:
        """Spans of which nothing is to come any more, in order, each once."""
        while self._open:
            span = self._open[0]
            is_known = span.tokens == self._size or is_ended
            if not (is_done or (self._size is not None and is_known and span.pooled == span.tokens > 0)):
                return
            self._first += 1
            yield self._open.popleft()


@dataclass(frozen=True)
class _TextPass:
    """A pass with what it reads. characters: of the text, up to its last kept token."""

    text: OpenText
    part: Pass
    ids: list[int]
    characters: int

    @property
    def width(self) -> int:
        return len(self.ids) + len(self.text.frame)


class OpenText:
    """A text that is being read: the tokens that no pass has, and the vectors that are not finished."""

    def __init__(self, tokens: TextTokens, capacity: int, head: SentenceEmbedding, sizes: Sequence[int | None]) -> None:
        self.text, self.frame = tokens.text, tokens.frame
        self.tokens = self.passes = self.characters = 0
        self._tokens, self._head, self._plan = tokens, head, PassPlan(tokens.text, capacity)
        self._spans, self._sizes = [_Spans(head, size) for size in sizes], list(sizes)
        self._ids: list[int] = []
        self._ends: list[int] = []
        self._first = self._planned = self._told = 0
        self._is_ended = False

    @property
    def is_done(self) -> bool:
        """Nothing more of it will come."""
        return self._is_ended and self._plan.is_complete and self.passes == self._planned

    def extend(self, part: EncodedPart) -> None:
        """More tokens of it."""
        ids, offsets, self.characters = part
        self.tokens += len(ids)
        if self._tokens.most is not None:
            left = max(0, self._tokens.most - self._known)
            ids, offsets = ids[:left], offsets[:left]
        for spans in self._spans:
            spans.locate(self._known, offsets)
        self._ids += ids
        self._ends += [end for _, end in offsets]

    def end(self) -> None:
        """There are no more."""
        self._is_ended = True
        if self._known:
            return
        if self._tokens.skip_empty or not len(self.frame):
            self._plan.is_complete = True
        if not self._tokens.skip_empty:
            for spans in self._spans:
                spans.open_empty()

    def next_passes(self) -> Iterator[_TextPass]:
        """The passes that are settled by what has come."""
        for part in self._plan.passes(self._known, self._is_ended):
            self._planned += 1
            ids = self._ids[part.start - self._first : part.stop - self._first]
            is_last = self._is_ended and part.stop == self._known
            end = self.characters if is_last else self._ends[part.keep_stop - 1 - self._first]
            yield _TextPass(self, part, ids, end)
        drop = self._plan.start - self._first
        if drop > len(self._ids) // 2:
            del self._ids[:drop], self._ends[:drop]
            self._first += drop

    def take(self, part: Pass, row: Float[Tensor, "tokens size"]) -> None:
        """The states that a pass gave."""
        self.passes += 1
        before = len(self.frame.before)
        kept = slice(before + part.keep_start - part.start, before + part.keep_stop - part.start)
        for size, spans in zip(self._sizes, self._spans, strict=True):
            if size is None or part.stop == 0:
                spans.add_whole(self._with_frame(part, row, kept), part.keep_stop - part.keep_start)
            else:
                spans.add_kept(row[kept], part.keep_start)

    def rows(self, hidden_size: int) -> list[list[PooledRow]]:
        """For each size, the rows that are finished and were not given before."""
        done = self.is_done
        return [
            [(span.pool.result(hidden_size), (span.start, span.end)) for span in spans.finished(self._is_ended, done)]
            for spans in self._spans
        ]

    def told(self, characters: int) -> int:
        """How many more characters are read than when it was asked before."""
        more = max(0, characters - self._told)
        self._told += more
        return more

    @property
    def _known(self) -> int:
        return self._first + len(self._ids)

    def _with_frame(self, part: Pass, row: Tensor, kept: slice) -> Tensor:
        """The kept states, with those of the frame at the text's beginning and end."""
        is_last = self._is_ended and part.stop == self._known
        if self._head.pooling == "cls":
            return row[: 1 if part.start == 0 else 0]
        return row[self._tokens.leave_out if part.start == 0 else kept.start : len(row) if is_last else kept.stop]


@dataclass(frozen=True, kw_only=True)
class PooledRows:
    """Reads texts with a model, pools by `head` into a row for each run of each of `sizes` tokens (None: a row a text).

    A batch holds at most `batch_tokens` tokens, padding included, or `batch_size` passes, where that is given.
    max_length: of a pass, with its frame, in place of the checkpoint's own limit. told: is called with the number of
    characters whenever some were read. What is held does not grow with the texts.
    """

    model: Model
    head: SentenceEmbedding
    sizes: Sequence[int | None]
    batch_tokens: int | None
    batch_size: int | None = None
    max_length: int | None = None
    told: Callable[[int], None] = lambda count: None

    def read(self, texts: Iterable[TextTokens]) -> Iterator[tuple[OpenText, list[list[PooledRow]]]]:
        """Texts in order with the rows, for each size, that are finished: a text several times, lastly when done."""
        queue: deque[OpenText] = deque()
        group: list[_TextPass] = []
        tokens = 0
        for text_pass in self._passes(texts, queue):
            group.append(text_pass)
            tokens += text_pass.width
            if tokens >= GROUP_TOKENS:
                self._read_group(group)
                group, tokens = [], 0
                yield from self._finished(queue)
        self._read_group(group)
        yield from self._finished(queue)

    def _passes(self, texts: Iterable[TextTokens], queue: deque[OpenText]) -> Iterator[_TextPass]:
        for given in texts:
            text = OpenText(given, room(self.model, given.frame, self.max_length), self.head, self.sizes)
            queue.append(text)
            for part in given.parts:
                text.extend(part)
                yield from text.next_passes()
            text.end()
            yield from text.next_passes()

    def _read_group(self, group: Sequence[_TextPass]) -> None:
        most = tokens_at_once(self.model, self.batch_tokens)
        for batch in in_batches(group, lambda text_pass: text_pass.width, most, self.batch_size):
            # Not around all of it: what the caller does between two rows is none of our business.
            with evaluating(self.model), torch.inference_mode():
                out = read_rows(self.model, [(text_pass.text.frame, text_pass.ids) for text_pass in batch])
                states = out.last_hidden_state
                assert states is not None
                for text_pass, row in zip(batch, states.float().cpu(), strict=True):
                    text_pass.text.take(text_pass.part, row[: text_pass.width])
            self.told(sum(text_pass.text.told(text_pass.characters) for text_pass in batch))

    def _finished(self, queue: deque[OpenText]) -> Iterator[tuple[OpenText, list[list[PooledRow]]]]:
        size = self.model.architecture.output_size
        while queue:
            text = queue[0]
            rows = text.rows(size)
            if text.is_done:
                queue.popleft()
                self.told(text.told(text.characters))
            if any(rows) or text.is_done:
                yield text, rows
            if not text.is_done:
                return
