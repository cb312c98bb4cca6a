"""The task similar: the texts whose vectors are nearest to a query's, found by looking at all of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.checks import require_whole
from gossamer.errors import InputError
from gossamer.models.heads import SentenceEmbedding
from gossamer.models.model import Model
from gossamer.tasks.base import Long, Result, Task, check_text, iterate, list_texts, of_the_call
from gossamer.tasks.embed import Embed, ReadCharacters
from gossamer.tasks.names import checks_options
from gossamer.tasks.similarity import compare_all

__all__ = ["Neighbour", "Similar", "SimilarTexts"]


@dataclass(frozen=True, kw_only=True)
class Neighbour:
    """A text near a query, or a stretch of it from character `start` to `end`; `index`: which text.

    `score` is the similarity; `text` what stands there.
    """

    index: int
    score: float
    start: int
    end: int
    text: str


@dataclass(frozen=True, kw_only=True)
class SimilarTexts(Result):
    """The nearest texts to each query, the nearest first; equally near ones in the order in which they were given.

    `compared` is how many vectors each query was compared with, `similarity` how: "cosine", "dot", "euclidean" or
    "manhattan", the last two as negative distances. `notes` are remarks, a line each.
    """

    neighbours: list[list[Neighbour]]
    compared: list[int]
    similarity: str
    notes: list[str]

    def part(self, i: int) -> SimilarTexts:
        """What is given for query number i alone; notes are on texts, whose numbers stay."""
        return super().part(i).with_notes(self.notes)


@dataclass(kw_only=True)
class _Nearest:
    """For each query the best rows so far: their scores, in order, and (text, start, end) of each."""

    most: int
    scores: Float[Tensor, "queries kept"]
    rows: list[list[tuple[int, int, int]]]
    texts: dict[int, str] = field(default_factory=dict)
    compared: int = 0

    def add(self, scores: Float[Tensor, "queries rows"], new: Sequence[tuple[int, int, int]], text: str) -> None:
        """Rows of one text."""
        self.compared += len(new)
        kept = self.scores.shape[1]
        together = torch.cat([self.scores, scores.to(self.scores)], dim=1)
        # Stable: of equal ones those that came first.
        order = together.argsort(dim=1, descending=True, stable=True)[:, : self.most]
        self.scores = together.gather(1, order)
        if bool((order < kept).all()):
            return
        self.rows = [
            [rows[place] if place < kept else new[place - kept] for place in places]
            for rows, places in zip(self.rows, order.tolist(), strict=True)
        ]
        self.texts[new[0][0]] = text
        named = {number for rows in self.rows for number, _, _ in rows}
        self.texts = {number: held for number, held in self.texts.items() if number in named}

    def neighbours(self) -> list[list[Neighbour]]:
        """The rows of each query."""
        return [
            [
                Neighbour(index=number, score=score, start=start, end=end, text=self.texts[number][start:end])
                for (number, start, end), score in zip(rows, scores, strict=True)
            ]
            for rows, scores in zip(self.rows, self.scores.tolist(), strict=True)
        ]


class Similar(Task):
    """Find the texts that are nearest to a query, with a model that embeds texts. Raises InputError as `Embed` does."""

    heads, load_with, doing, needs_head = (SentenceEmbedding,), "embed", "compare", False

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        self.embed = Embed(model)

    @checks_options
    def __call__(
        self,
        queries: str | Sequence[str],
        texts: Iterable[str],
        top_k: int = 10,
        spans: int | None = None,
        long: Long = "chunk",
        max_length: int | None = None,
        batch_tokens: int | None = None,
        progress: ReadCharacters | None = None,
        skip_empty: bool = False,
    ) -> SimilarTexts:
        """The `top_k` nearest texts to each query, or with `spans` the nearest stretches of so many tokens.

        texts: strings from anything that can be iterated over. Each is embedded as it comes and dropped unless it is
        among the nearest: memory does not grow with them. Queries and texts have the model's prompts for either
        ("query"; "document", "passage" or "corpus") where it has such, and are compared by its `similarity_fn_name`.
        Other options, and `progress`, are those of the task embed.

        Raises InputError for no queries, no texts and whatever `embed` refuses.
        """
        require_whole("top_k", top_k, of="texts")
        asked, embed = list_texts("queries", queries), self.embed
        with of_the_call():
            for i, query in enumerate(asked):
                self._tokenize("query", i, query)
        read: dict[str, Any] = {"long": long, "max_length": max_length, "batch_tokens": batch_tokens}
        vectors = embed(asked, **embed.with_prompt(read, "query")).vectors
        near = _Nearest(most=top_k, scores=vectors.new_empty(len(asked), 0), rows=[[] for _ in asked])
        held: dict[int, str] = {}
        prompted = embed.with_prompt(read, "document", "passage", "corpus")
        parts = embed.stream(_held(texts, held), spans, progress=progress, skip_empty=skip_empty, **prompted)
        notes: list[str] = []
        for part in parts:
            notes += part.notes
            scores = compare_all(embed.head.similarity_fn_name, vectors, part.vectors)
            near.add(scores, [(part.text, *span) for span in part.spans], held[part.text])
            if part.is_last:
                del held[part.text]
        if not near.compared:
            raise InputError("there are no texts to compare with: give at least one that is not empty")
        return SimilarTexts(
            neighbours=near.neighbours(),
            compared=[near.compared] * len(asked),
            similarity=self.embed.similarity_fn_name,
            notes=notes,
        )


def _held(texts: object, held: dict[int, str]) -> Iterator[str]:
    """The texts, which `held` has from when they are asked for."""
    for number, text in enumerate(iterate("texts", texts)):
        held[number] = check_text("text", number, text)
        yield held[number]
