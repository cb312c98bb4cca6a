"""What benchmarks/slim.py reads of the shipped speeches: sentences, passages, and queries whose passage is known."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from slim_part import named, names_of

import gossamer as gs
from gossamer.metrics import retrieval_ranks
from gossamer.models import Model
from gossamer.text.speeches import Speech, speeches

_BETWEEN = re.compile(r"(?<=[.!?;])\s+(?=[\"'(\u201c\u2018A-Z])")
FIRST = (1, 10)
"""The k of the recalls that are told."""
_LEAST_WORDS = 8
"""Of a sentence that is asked with: shorter ones ("Thank you.") are in every speech."""


@dataclass(frozen=True, kw_only=True)
class Retrieval:
    """`queries[i]` asks for `documents[i]`, and for no other; `speeches[i]` is where both are from."""

    queries: list[str]
    documents: list[str]
    speeches: list[int]


def by_speakers(held_out: int) -> tuple[list[Speech], list[Speech]]:
    """The speeches to learn from, and those of so many speakers, whom a hash decides, to be judged on."""
    return _without(set(_speakers()[:held_out]))


def by_fold(fold: int, folds: int) -> tuple[list[Speech], list[Speech]]:
    """The same where every speaker is judged in one of the folds."""
    return _without(set(_speakers()[fold::folds]))


def _speakers() -> list[str]:
    return sorted({one.speaker for one in speeches()}, key=lambda name: hashlib.sha256(name.encode()).digest())


def _without(last: Set[str]) -> tuple[list[Speech], list[Speech]]:
    return [one for one in speeches() if one.speaker not in last], [one for one in speeches() if one.speaker in last]


def sentences(text: str) -> list[str]:
    """A text cut behind full stops and semicolons that a capital follows; joined by spaces it is whole again."""
    return [one for one in _BETWEEN.split(text) if one]


def passages(speech: Speech, words: int) -> list[list[str]]:
    """Sentences in a row, as few as have that many words; what is left at the end is left out."""
    found, current, count = [], [], 0
    for sentence in sentences(speech.text):
        current.append(sentence)
        count += len(sentence.split())
        if count >= words:
            found.append(current)
            current, count = [], 0
    return found


def sentence_queries(some: Sequence[Speech], words: int, most: int | None) -> Retrieval:
    """Of each passage one sentence asks for the others: the middle one of those with eight words or more."""
    rows = []
    for number, speech in enumerate(some):
        for passage in passages(speech, words):
            able = [i for i, one in enumerate(passage) if len(one.split()) >= _LEAST_WORDS]
            if able and len(passage) > 1:
                asked = able[len(able) // 2]
                rest = [one for i, one in enumerate(passage) if i != asked]
                rows.append((passage[asked], " ".join(rest), number))
    return _retrieval(rows, most)


def neighbours(some: Sequence[Speech], words: int, most: int | None) -> Retrieval:
    """Each passage asks for the next; no passage is in two pairs."""
    rows = []
    for number, speech in enumerate(some):
        texts = [" ".join(passage) for passage in passages(speech, words)]
        rows += [(first, second, number) for first, second in list(pairwise(texts))[::2]]
    return _retrieval(rows, most)


def _retrieval(rows: Sequence[tuple[str, str, int]], most: int | None) -> Retrieval:
    """Those rows of which no text comes twice, at most so many, evenly over all speeches."""
    seen: set[str] = set()
    once = [row for row in rows if not (seen & {row[0], row[1]} or seen.update(row[:2]))]
    if most is not None and len(once) > most:
        once = [once[i * len(once) // most] for i in range(most)]
    queries, documents, numbers = (list(column) for column in zip(*once, strict=True))
    return Retrieval(queries=queries, documents=documents, speeches=numbers)


def vectors_of(model: Model, texts: Sequence[str], length: int) -> torch.Tensor:
    """A vector a text [texts, size], of its first `length` tokens."""
    return gs.task("embed", model)(texts, max_length=length, long="truncate").vectors


def ranks_in(index: torch.Tensor, queries: torch.Tensor) -> list[int]:
    """The rank, from 1, of each query's own document among all: row i of either belongs to row i of the other."""
    numbers = torch.arange(len(index))
    return retrieval_ranks(queries, index, numbers, numbers).tolist()


def hits(records: Sequence[dict[str, Any]], first: int) -> list[float]:
    """The share of these runs in which each query finds its document among the first so many."""
    return [sum(rank <= first for rank in ranks) / len(ranks) for ranks in _by_query(records)]


def _by_query(records: Sequence[dict[str, Any]]) -> Iterator[tuple[int, ...]]:
    return zip(*(row["ranks"] for row in records), strict=True)


def recalls(results: dict[str, Any], first: int) -> dict[str, float]:
    """The share of queries that find their document among the first so many, by model."""
    searched = (name for name in names_of(results) if "ranks" in named(results, name)[0])
    found = {name: hits(named(results, name), first) for name in searched}
    return {name: sum(each) / len(each) for name, each in found.items()}
