"""Generating token by token: all rows read, each chooses and takes its next token, those that ended leave."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Literal

import torch

from gossamer.generation.readers import Reader, reader_of
from gossamer.generation.rules import Following, Rules, Written, check_left, ruled
from gossamer.generation.sampling import Sampling, checked_scores, choose
from gossamer.generation.stream import TextStream
from gossamer.models.evaluation import evaluating, without_head
from gossamer.models.model import Model

__all__ = ["Piece", "Row", "Stopped", "continue_rows"]

Stopped = Literal["stop", "max_new_tokens", "length"]


@dataclass(frozen=True, kw_only=True)
class Piece:
    """What is new of one continuation: of which prompt, its text, and the tokens since the last piece.

    The text is whole characters, and holds back what may be the beginning of a stop string; "" without a tokenizer.
    """

    prompt: int
    text: str
    ids: tuple[int, ...]


@dataclass(kw_only=True)
class Row:
    """A prompt and its continuation so far. room: how many new tokens the model's length leaves.

    source: of a model of two texts, the one that is read; `given` is what stands before the other. choices: what alone
    may be written.
    """

    prompt: int
    given: list[int]
    source: list[int] | None = None
    most: int
    room: int
    stop_ids: set[int]
    generator: torch.Generator
    text: TextStream | None
    choices: Following | None = None
    ids: list[int] = field(default_factory=list)
    stopped: Stopped | None = None
    stop: int | str | None = None
    _shown: int = 0

    @property
    def tokens(self) -> int:
        """How long the prompt is."""
        return len(self.given if self.source is None else self.source)

    @property
    def written(self) -> Written:
        """All of it, for the rules of what comes next."""
        most, ends = min(self.most, self.room + 1), frozenset(self.stop_ids)
        return Written(ids=[*self.given, *self.ids], new=len(self.ids), most=most, ends=ends, choices=self.choices)

    def take(self, token: int) -> Piece | None:
        """One more token; what it adds that can be shown."""
        self.ids.append(token)
        said = ""
        if token in self.stop_ids:
            self.stopped, self.stop = "stop", token
        elif self.text is not None:
            said = self.text.push(token)
        # The model reads all but the last token, so that one may stand beyond its length.
        if self.stopped is None and len(self.ids) in (self.most, self.room + 1):
            self.stopped = "max_new_tokens" if len(self.ids) == self.most else "length"
        if self.text is not None:
            said += self.text.finish() if self.stopped else ""
            if self.text.stop is not None:
                self.stopped, self.stop = "stop", self.text.stop
        return self._piece(said)

    def _piece(self, said: str) -> Piece | None:
        if not said and self.text is not None and self.stopped is None:
            return None
        shown, self._shown = self._shown, len(self.ids)
        return Piece(prompt=self.prompt, text=said, ids=tuple(self.ids[shown:]))


def continue_rows(
    model: Model, rows: Sequence[Row], sampling: Sampling, rules: Rules, use_cache: bool, clock: list[float]
) -> Iterator[Piece]:
    """Continue all rows until each has stopped; adds the seconds it took, those of the caller left out, to `clock`.

    The model is in evaluation mode while a step is computed, and never while the caller has a piece in hand: several
    streams may take turns, and who leaves one early, by an error too, finds the model as it was.
    """
    with evaluating(model):
        body = without_head(model)
    parts = list(model.modules())
    reader = reader_of(body, [one.source for one in rows if one.source is not None], use_cache)
    going, new = list(rows), [one.given for one in rows]
    while going:
        begun = time.perf_counter()
        # Setting modes takes as long as a part of a small model's step.
        with evaluating(model) if any(one.training for one in parts) else nullcontext():
            tokens = _next_tokens(model, reader, new, going, sampling, rules)
        pieces = [row.take(token) for row, token in zip(going, tokens, strict=True)]
        left = [i for i, row in enumerate(going) if row.stopped is None]
        if 0 < len(left) < len(going):
            reader.select(left)
        going = [going[i] for i in left]
        new = [row.ids[-1:] for row in going]
        clock.append(time.perf_counter() - begun)
        yield from (one for one in pieces if one is not None)


@torch.inference_mode()
def _next_tokens(
    model: Model, reader: Reader, new: Sequence[list[int]], rows: Sequence[Row], sampling: Sampling, rules: Rules
) -> list[int]:
    scores = model.scores(reader.read(new))
    if not rules.change_nothing or any(one.choices is not None for one in rows):
        scores = check_left(ruled(checked_scores(scores), [one.written for one in rows], rules))
    draws = [torch.rand((), dtype=torch.float64, generator=one.generator) for one in rows]
    return choose(scores, sampling, torch.stack(draws)).tolist()
