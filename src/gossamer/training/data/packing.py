"""Documents laid out in rows of one length: packed end to end, or one to a row."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

import numpy as np

from gossamer.errors import InputError
from gossamer.text import TokenFile, Tokenizer
from gossamer.text.surroundings import special_tokens_around

__all__ = ["ROWS", "Corpus", "Frame", "Layout", "Line", "Rows", "Stream", "Windows", "frame_of", "remembered"]

T = TypeVar("T")

_DOCUMENTS, ROWS = 0, 1  # what a permutation is drawn for
_EPOCHS = 3  # whose order is remembered


@dataclass(frozen=True, kw_only=True)
class Frame:
    """The special tokens before and after a text."""

    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.before) + len(self.after)


def frame_of(tokenizer: Tokenizer) -> Frame:
    """What a tokenizer puts before and after a text. InputError where no text shows where the text goes."""
    before, after = special_tokens_around(tokenizer)
    return Frame(before=tuple(before), after=tuple(after))


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """Some rows, all of them int64 or bool [rows, length].

    segments: numbers the documents within a row, padding last. real: where there is no padding. document: whose token
    it is, as the file numbers them; place: which token of it. Both are -1 for special tokens and padding. Of rows of
    two segments also the token types, and 0 or 1 for each row.
    """

    ids: np.ndarray
    segments: np.ndarray
    real: np.ndarray
    document: np.ndarray
    place: np.ndarray
    types: np.ndarray | None = None
    pairs: np.ndarray | None = None


class Corpus:
    """Some documents of a file, each with `frame` around it, as one sequence of `total` tokens."""

    def __init__(self, file: TokenFile, numbers: np.ndarray, frame: Frame) -> None:
        self.frame = frame
        self.numbers = numbers
        self.sizes = np.diff(file.ends, prepend=0)[numbers]
        self.framed = self.sizes + len(frame)
        self.total = int(self.framed.sum())
        self._begins = file.ends[numbers] - self.sizes
        self._tokens = file.all_tokens
        self._marks = np.array([*frame.before, *frame.after, 0], dtype=np.int64)

    def text(self, slot: int) -> np.ndarray:
        """The tokens of a document, without its frame."""
        return self._tokens[self._begins[slot] : self._begins[slot] + self.sizes[slot]]

    def read(self, slot: np.ndarray, within: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The tokens at places `within` framed documents, and which token of the document's own each is, or -1."""
        sizes = self.sizes[slot]
        place = within - len(self.frame.before)
        inside = (place >= 0) & (place < sizes)
        ids = self._marks[np.where(inside, 0, np.where(place < 0, within, within - sizes))]
        ids[inside] = self._tokens[(self._begins[slot] + place)[inside]]
        return ids, np.where(inside, place, -1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Layout:
    """What all ways to lay out rows share.

    length: of a row. frame: special tokens around each row's own part of the corpus. pad_id: fills rows up. overlap: so
    many tokens at a row's end are those that the next one begins with.
    """

    corpus: Corpus
    length: int
    frame: Frame
    pad_id: int
    overlap: int = 0
    seed: int = 0

    @property
    def room(self) -> int:
        """Tokens of the corpus in a row."""
        return self.length - len(self.frame)

    def _permutation(self, count: int, epoch: int, what: int) -> np.ndarray:
        return np.random.default_rng([self.seed, epoch, what]).permutation(count)

    def _lay_out(self, slot: np.ndarray, within: np.ndarray, counts: np.ndarray) -> Rows:
        """Rows from the documents [rows, room], the places in them, and how many of these each row has [rows].

        A cut of a packed sequence may fall between two documents. The row's own special token is then one too many, and
        stands in a segment of its own, where no other token sees it.
        """
        corpus, first = self.corpus, len(self.frame.before)
        body, place = corpus.read(slot, within)
        shape, row = (len(body), self.length), np.arange(len(body))
        filled = np.arange(self.room) < counts[:, None]
        inner = slice(first, first + self.room)
        ids = np.full(shape, self.pad_id, dtype=np.int64)
        ids[:, :first] = self.frame.before
        ids[:, inner] = np.where(filled, body, self.pad_id)
        starts = np.zeros(shape, dtype=bool)
        starts[:, inner] = filled & (within == 0)
        if not corpus.frame.before:
            starts[:, first] = False  # this token and those before it belong together
        starts[:, 0] = True
        end = first + counts
        for mark in self.frame.after:
            ids[row, end] = mark
            end = end + 1
        if self.frame.after:
            ended = within[row, counts - 1] == corpus.framed[slot[row, counts - 1]] - 1
            starts[row, first + counts] = ended & bool(corpus.frame.after)
        real = np.arange(self.length) < end[:, None]
        starts[:, 1:] |= real[:, :-1] & ~real[:, 1:]
        outside = np.full(shape, -1, dtype=np.int64)
        document, places = outside.copy(), outside
        places[:, inner] = np.where(filled, place, -1)
        document[:, inner] = np.where(places[:, inner] >= 0, corpus.numbers[slot], -1)
        return Rows(ids=ids, segments=starts.cumsum(axis=1) - 1, real=real, document=document, place=places)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Sequence(Layout):
    """Documents end to end, cut into rows."""

    def _find(self, order: np.ndarray, ends: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Places in the sequence of documents in some order: which document, and where within it."""
        nth = np.searchsorted(ends, at, side="right")
        slot = order[nth]
        return slot, at - (ends[nth] - self.corpus.framed[slot])


@dataclass(frozen=True, kw_only=True, eq=False)
class Stream(_Sequence):
    """An endless sequence: all documents in a new order each epoch; its rows are read in a new order each epoch too.

    The row in which one epoch ends goes on with the next one, so no row is ever padded and every token comes once an
    epoch. A row belongs to the epoch that it begins in.
    """

    _orders: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]] = field(init=False, default_factory=dict, repr=False)

    @property
    def rows_per_epoch(self) -> float:
        """How many there are on average."""
        return self.corpus.total / self.room

    def rows(self, slots: np.ndarray) -> Rows:
        """The rows that are read as number `slots` [rows], from the beginning of training."""
        numbers = np.array([self._number(int(slot)) for slot in slots], dtype=np.int64)
        epochs, at = np.divmod(numbers[:, None] * self.room + np.arange(self.room), self.corpus.total)
        slot, within = np.empty_like(at), np.empty_like(at)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            order, ends, _ = self._order(int(epoch))
            slot[here], within[here] = self._find(order, ends, at[here])
        return self._lay_out(slot, within, np.full(len(slots), self.room))

    def _number(self, slot: int) -> int:
        epoch = slot * self.room // self.corpus.total
        first = self._first(epoch)
        return first + int(self._order(epoch)[2][slot - first])

    def _first(self, epoch: int) -> int:
        """The first row that begins in an epoch."""
        return -(-epoch * self.corpus.total // self.room)

    def _order(self, epoch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """An epoch's order of documents, where each of them ends, and its order of rows."""

        def make() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            order = self._permutation(len(self.corpus.numbers), epoch, _DOCUMENTS)
            rows = self._permutation(self._first(epoch + 1) - self._first(epoch), epoch, ROWS)
            return order, np.cumsum(self.corpus.framed[order]), rows

        return remembered(self._orders, epoch, make)


@dataclass(frozen=True, kw_only=True, eq=False)
class Line(_Sequence):
    """All documents once, in the order of the file; the last row may be padded."""

    @cached_property
    def _order(self) -> tuple[np.ndarray, np.ndarray]:
        return np.arange(len(self.corpus.numbers)), np.cumsum(self.corpus.framed)

    @property
    def count(self) -> int:
        """Rows."""
        stride = self.room - self.overlap
        return max(1, -(-(self.corpus.total - len(self.frame) - self.overlap) // stride))

    def in_order(self, numbers: np.ndarray) -> Rows:
        """The rows with these numbers [rows]."""
        begin = numbers * (self.room - self.overlap) + len(self.frame.before)
        end = self.corpus.total - len(self.frame.after)
        at = np.minimum(begin[:, None] + np.arange(self.room), end - 1)
        slot, within = self._find(*self._order, at)
        return self._lay_out(slot, within, np.minimum(end - begin, self.room))


@dataclass(frozen=True, kw_only=True, eq=False)
class Windows(Layout):
    """One document to a row, padded; a longer one takes several rows. Their order is a new one each epoch."""

    _orders: dict[int, np.ndarray] = field(init=False, default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if not self.count:
            raise InputError("no document has two tokens; there is nothing to predict in them")

    @cached_property
    def _ends(self) -> np.ndarray:
        """Rows up to each document's end; what has no token to predict takes none."""
        learnt = np.maximum(self.corpus.framed - self.overlap, 0)
        return np.cumsum(-(-learnt // (self.room - self.overlap)))

    @property
    def count(self) -> int:
        """Rows of all documents."""
        return int(self._ends[-1])

    @property
    def rows_per_epoch(self) -> float:
        """The same number."""
        return float(self.count)

    @cached_property
    def lengths(self) -> np.ndarray:
        """Tokens of each row, special ones included, int64 [count]."""
        slot, begin = self._parts(np.arange(self.count))
        return np.minimum(self.corpus.framed[slot] - begin, self.room) + len(self.frame)

    def rows(self, slots: np.ndarray) -> Rows:
        """The rows that are read as number `slots` [rows], from the beginning of training."""
        return self.in_order(np.array([self._number(*divmod(int(slot), self.count)) for slot in slots]))

    def in_order(self, numbers: np.ndarray) -> Rows:
        """The rows with these numbers [rows], counted through the documents as the file has them."""
        slot, begin = self._parts(numbers)
        sizes = self.corpus.framed[slot]
        within = np.minimum(begin[:, None] + np.arange(self.room), sizes[:, None] - 1)
        slots = np.broadcast_to(slot[:, None], within.shape)
        return self._lay_out(slots, within, np.minimum(sizes - begin, self.room))

    def _parts(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of each row its document, and where in it the row begins."""
        slot = np.searchsorted(self._ends, numbers, side="right")
        before = np.where(slot > 0, self._ends[slot - 1], 0)
        return slot, (numbers - before) * (self.room - self.overlap)

    def _number(self, epoch: int, nth: int) -> int:
        return int(remembered(self._orders, epoch, lambda: self._permutation(self.count, epoch, ROWS))[nth])


def remembered(orders: dict[int, T], epoch: int, make: Callable[[], T]) -> T:
    """An epoch's order, made where it isn't among the last few that were asked for."""
    if epoch not in orders:
        while len(orders) >= _EPOCHS:
            del orders[next(iter(orders))]
        orders[epoch] = make()
    return orders[epoch]
