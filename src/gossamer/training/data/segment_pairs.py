"""Rows of two segments of documents: does the second follow the first, is it from elsewhere, are they exchanged?"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np

from gossamer.errors import InputError
from gossamer.models.checks import require
from gossamer.models.heads.labels import IGNORED
from gossamer.text import Tokenizer
from gossamer.text.surroundings import PROBES
from gossamer.training.data.packing import ROWS, Frame, Layout, Rows, remembered
from gossamer.training.data.sentences import SentenceMarks

__all__ = ["PairFrame", "Second", "SegmentPairs", "pair_frame_of"]

Second = Literal["exchanged", "elsewhere"]
"""What label 1 means: the two segments stand in the other order, or the second is another document's."""

_DRAWN, _IN_ORDER = 5, 6  # what a generator is for


@dataclass(frozen=True, kw_only=True)
class PairFrame(Frame):
    """The special tokens around and between two texts, and what second text a first one gets.

    types: of the tokens before, of the first text, between, of the second text, and after. shorter: with which
    probability both together are shorter than a row.
    """

    between: tuple[int, ...]
    types: tuple[int, int, int, int, int]
    second: Second
    shorter: float

    def __len__(self) -> int:
        return len(self.before) + len(self.between) + len(self.after)


def pair_frame_of(tokenizer: Tokenizer, second: Second, shorter: float) -> PairFrame:
    """What a tokenizer puts around and between two texts. InputError where it puts nothing before or between them."""
    for probe in PROBES:
        batch = tokenizer(probe, text_pair=probe, truncation=False, return_offsets=True)
        ids, special = batch["input_ids"][0].tolist(), batch["special_tokens_mask"][0].tolist()
        types = batch["token_type_ids"][0].tolist() if "token_type_ids" in batch else [0] * len(ids)
        own = (len(ids) - sum(special)) // 2
        begin = special.index(0) if own else 0
        if not own or 1 not in special[begin + own :]:
            continue
        other = special.index(0, begin + own)
        if begin == 0 or other == begin + own:
            continue
        ends = (begin + own, other, other + own)
        last = types[ends[2]] if ends[2] < len(ids) else types[other]
        return PairFrame(
            before=tuple(ids[:begin]), between=tuple(ids[ends[0] : ends[1]]), after=tuple(ids[ends[2] :]),
            types=(types[0], types[begin], types[ends[0]], types[other], last), second=second, shorter=shorter,
        )  # fmt: skip
    raise InputError(
        "the tokenizer puts no tokens before and between two texts, as pairs of segments need; take one that does, "
        "such as one of 'gossamer tokenizer train --family bert', or data.tokenizer: bytes"
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Chunk:
    """Sentences of one document, as many as fill a row, or the last ones: their ends, the last one's included."""

    slot: int
    begin: int
    cuts: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class SegmentPairs(Layout):
    """Two segments a row, from as many sentences of one document as fill it; their order is a new one each epoch.

    The sentences are cut in two at one of their ends, and half of the rows have label 1: the segments are exchanged, or
    the second is from a place of another document. With the probability `shorter` only the first sentences are taken,
    up to a length drawn from 2 on. What is too long loses tokens of the longer segment, at either end by chance.

    How a segment is spelled, and which one loses tokens, says nothing of its place. White space at its ends is left
    out, and its first word is spelled as the tokenizer does where a text begins. The sentence that a row has not room
    for is by chance the last one or the one before the first, so that either segment is the longer one. A single
    sentence is cut in two anywhere, one longer than a row is cut where it fills rows, and their label is -100: what is
    cut inside of a sentence tells which part is first.

    Sources: Devlin et al. 2019, appendix A.2, and its released `create_pretraining_data.py`; Lan et al. 2020, section
    3.1. Different from theirs: sentences that a row leaves over, because it is shorter or its second segment is from
    elsewhere, are not put back but read in another epoch, so that what a step reads depends on seed and step alone; and
    next-sentence prediction gives a single sentence no label, where theirs is always 1, which its length would tell.
    """

    marks: SentenceMarks
    _orders: dict[int, np.ndarray] = field(init=False, default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        least = len(self.frame) + 2
        require(self.room > 1, "length", self.length, f"at least {least}, special tokens and one of each segment")
        if not self.count:
            raise InputError("no document has two tokens; there are no two segments in them")
        if all(len(chunk.cuts) == 1 for chunk in self._chunks):
            raise InputError(
                f"no document has two sentences of which the first fits in a row of {self.length:,} tokens, as pairs "
                "of segments need; take longer documents (data.split) or rows, or an objective 'masked-lm'"
            )
        if self._pair.second == "elsewhere" and len(self._with_text) < 2:
            raise InputError(
                "objective.kind is 'next-sentence', which takes segments from other documents, but the data are one: "
                "data.split, 'lines' or 'paragraphs', makes several of a text; or take 'sentence-order'"
            )

    @property
    def _pair(self) -> PairFrame:
        assert isinstance(self.frame, PairFrame)
        return self.frame

    @property
    def count(self) -> int:
        """Rows of all documents."""
        return len(self._chunks)

    @property
    def rows_per_epoch(self) -> float:
        """The same number."""
        return float(self.count)

    def rows(self, slots: np.ndarray) -> Rows:
        """The rows that are read as number `slots` [rows], from the beginning of training."""
        numbers = [self._number(*divmod(int(slot), self.count)) for slot in slots]
        generators = [np.random.default_rng((_DRAWN, self.seed, int(slot))) for slot in slots]
        return self._built(numbers, generators)

    def in_order(self, numbers: np.ndarray) -> Rows:
        """The rows with these numbers [rows], counted through the documents as the file has them, whatever the seed."""
        return self._built(
            [int(one) for one in numbers], [np.random.default_rng((_IN_ORDER, int(one))) for one in numbers]
        )

    def _number(self, epoch: int, nth: int) -> int:
        return int(remembered(self._orders, epoch, lambda: self._permutation(self.count, epoch, ROWS))[nth])

    @cached_property
    def _with_text(self) -> np.ndarray:
        """Which documents have any."""
        return np.flatnonzero([len(cuts) > 0 for cuts in self._sentences])

    @cached_property
    def _sentences(self) -> list[np.ndarray]:
        """Where sentences end, of every document, the end of its text included; white space behind it is no text."""
        found = []
        for slot in range(len(self.corpus.sizes)):
            text = self.corpus.text(slot)
            filled = np.flatnonzero(~self.marks.blank[text])
            cuts = np.flatnonzero(self.marks.ends[text]) + 1
            size = int(filled[-1]) + 1 if len(filled) else 0
            found.append(cuts if not size or (len(cuts) and cuts[-1] == size) else np.append(cuts, size))
        return found

    @cached_property
    def _chunks(self) -> list[_Chunk]:
        chunks = []
        for slot, cuts in enumerate(self._sentences):
            begin, size = 0, int(cuts[-1]) if len(cuts) else 0
            while size - begin > 1:
                own = self._next_cuts(cuts, begin)
                chunks.append(_Chunk(slot=slot, begin=begin, cuts=own))
                begin = int(own[-1])
        return [one for one in chunks if one.cuts[-1] - one.begin > 1]

    def _next_cuts(self, cuts: np.ndarray, begin: int) -> np.ndarray:
        """The ends of the sentences from `begin` on that fill a row, the last one's inside of it where it is long."""
        first, last = np.searchsorted(cuts, (begin + 1, begin + self.room))
        if begin and cuts[first - 1] != begin:  # what is left of a sentence
            last = first
        if cuts[min(last, len(cuts) - 1)] <= begin + 2 * self.room:
            return cuts[first : last + 1]
        return cuts[first:last] if last > first else np.array([begin + self.room])

    def _built(self, numbers: list[int], generators: list[np.random.Generator]) -> Rows:
        drawn = [self._draw(self._chunks[one], random) for one, random in zip(numbers, generators, strict=True)]
        shape, frame = (len(drawn), self.length), self._pair
        ids, types = np.full(shape, self.pad_id, dtype=np.int64), np.zeros(shape, dtype=np.int64)
        segments, real = np.full(shape, 2, dtype=np.int64), np.zeros(shape, dtype=bool)
        document, place = np.full(shape, -1, dtype=np.int64), np.full(shape, -1, dtype=np.int64)
        for row, (first, second, _) in enumerate(drawn):
            at = 0
            one, other = self._spelled(first, second)
            marks = [(np.array(part, dtype=np.int64), -1, -1) for part in (frame.before, frame.between, frame.after)]
            pieces: list[tuple[np.ndarray, np.ndarray | int, int]] = [marks[0], one, marks[1], other, marks[2]]
            for i, (part, places, number) in enumerate(pieces):
                here = slice(at, at + len(part))
                at = here.stop
                ids[row, here], place[row, here], document[row, here] = part, places, number
                types[row, here], segments[row, here], real[row, here] = frame.types[i], int(i > 2), True
        pairs = np.array([label for _, _, label in drawn], dtype=np.int64)
        return Rows(ids=ids, segments=segments, real=real, document=document, place=place, types=types, pairs=pairs)

    def _draw(self, chunk: _Chunk, random: np.random.Generator) -> tuple[_Segment, _Segment, int]:
        """Two segments of a chunk and their label, -100 where a sentence is cut between them."""
        target = int(random.integers(2, self.room + 1)) if random.random() < self._pair.shorter else self.room
        cuts = chunk.cuts[: np.searchsorted(chunk.cuts, chunk.begin + target) + 1]
        bounds = np.append(chunk.begin, cuts)
        if len(cuts) > 1 and cuts[-1] > chunk.begin + target and random.random() < 0.5:
            bounds = self._earlier(chunk, bounds)
        begin, inner, end = int(bounds[0]), bounds[1:-1], int(bounds[-1])
        cut = int(random.choice(inner)) if len(inner) else int(random.integers(begin + 1, end))
        first, second = _Segment(chunk.slot, begin, cut), _Segment(chunk.slot, cut, end)
        label = int(random.random() < 0.5) if len(inner) else IGNORED
        if label == 1 and self._pair.second == "elsewhere":
            second = self._elsewhere(chunk.slot, max(1, target - len(first)), random)
        elif label == 1:
            first, second = second, first
        shortened = _shortened(self._trimmed(first), self._trimmed(second), self.room, random)
        first, second = (self._trimmed(one) for one in shortened)
        return first, second, IGNORED if self._is_blank(first) or self._is_blank(second) else label

    def _earlier(self, chunk: _Chunk, bounds: np.ndarray) -> np.ndarray:
        """The sentence before instead of the last one, where there is one that is not too long."""
        before = np.append(0, self._sentences[chunk.slot])
        nth = int(np.searchsorted(before, chunk.begin))
        if nth == 0 or bounds[-2] - before[nth - 1] > 2 * self.room:
            return bounds
        return np.append(before[nth - 1], bounds[:-1])

    def _elsewhere(self, slot: int, size: int, random: np.random.Generator) -> _Segment:
        """Sentences from any place of any other document, up to so many tokens or one sentence more."""
        others = self._with_text
        nth = int(random.integers(len(others) - 1))
        other = int(others[nth + (nth >= np.searchsorted(others, slot))])
        cuts = self._sentences[other]
        begin = int(random.choice(np.append(0, cuts[:-1])))
        end = int(cuts[min(int(np.searchsorted(cuts, begin + size)), len(cuts) - 1)])
        return _Segment(other, begin, min(end, begin + 2 * self.room))

    def _text(self, segment: _Segment) -> np.ndarray:
        return self.corpus.text(segment.slot)[segment.begin : segment.end]

    def _is_blank(self, segment: _Segment) -> bool:
        return bool(self.marks.blank[self._text(segment)].all())

    def _trimmed(self, segment: _Segment) -> _Segment:
        """Without white space at its ends; as it is where that is all."""
        filled = segment.begin + np.flatnonzero(~self.marks.blank[self._text(segment)])
        return _Segment(segment.slot, int(filled[0]), int(filled[-1]) + 1) if len(filled) else segment

    def _spelled(self, *segments: _Segment) -> list[tuple[np.ndarray, np.ndarray, int]]:
        """The tokens of two segments, their places in the document, and its number in the file.

        A first word may be spelled with more tokens than it had: then the longer one ends sooner.
        """
        pairs = [self.marks.alone(self._text(one)) for one in segments]
        sizes = [len(ids) for ids, _ in pairs]
        if sum(sizes) > self.room:
            longer = int(sizes[1] > sizes[0])
            sizes[1 - longer] = min(sizes[1 - longer], self.room // 2)
            sizes[longer] = self.room - sizes[1 - longer]
        return [
            (ids[:size], one.begin + places[:size], int(self.corpus.numbers[one.slot]))
            for one, (ids, places), size in zip(segments, pairs, sizes, strict=True)
        ]


@dataclass(frozen=True)
class _Segment:
    """Tokens of a document."""

    slot: int
    begin: int
    end: int

    def __len__(self) -> int:
        return self.end - self.begin


def _shortened(first: _Segment, second: _Segment, room: int, random: np.random.Generator) -> tuple[_Segment, _Segment]:
    """Both together in so many tokens: the longer one loses first, each token at its front or end by chance."""
    sizes = [len(first), len(second)]
    excess = max(0, sum(sizes) - room)
    longer = int(sizes[1] > sizes[0])
    of_longer = min(excess, abs(sizes[0] - sizes[1]))
    lost = [0, 0]
    lost[longer] = of_longer
    lost = [one + (excess - of_longer + i) // 2 for i, one in enumerate(lost)]
    fronts = [int(random.binomial(one, 0.5)) for one in lost]
    return (
        _Segment(first.slot, first.begin + fronts[0], first.end - (lost[0] - fronts[0])),
        _Segment(second.slot, second.begin + fronts[1], second.end - (lost[1] - fronts[1])),
    )
