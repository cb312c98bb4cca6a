"""Part `long` of benchmarks/slim.py: the year of a speech, read whole, to the old limit, or as averaged chunks."""

from __future__ import annotations

import copy
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from harness import progress
from slim_part import Part, named, names_of, text_table
from slim_plots import long_plot
from slim_speeches import by_fold

import gossamer as gs
from gossamer.metrics import PairedDifference, paired_difference
from gossamer.models import Model, SequenceClassification
from gossamer.text import Tokenizer
from gossamer.text.speeches import Speech
from gossamer.training.loop import train

LONG, LIMIT, CHUNKS = "lengthened", "its own limit", "averaged chunks"
FLOOR = "mean year learnt"
PARTIES = {"Democratic": -1.0, "Republican": 1.0}
"""What is predicted beside the year; of all others 0, and they are not counted."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Every speaker is in one of `parts`; `folds` of them are judged by models that learnt from the others.

    Of a speech `length` tokens are read; a step has `rows` speeches. `speeches`: so many alone are learnt from, and as
    many at most are judged (None: all).
    """

    purpose: str
    folds: int
    seeds: int
    epochs: int = 2
    rows: int = 2
    parts: int = 3
    length: int = 4096
    window: int = 512
    learning_rate: float = 1e-4
    speeches: int | None = None


PLANS = {
    "cpu": Plan(purpose="measurement", folds=1, seeds=1, speeches=80),  # half of those to learn from: 40 minutes
    "gpu": Plan(purpose="measurement", folds=3, seeds=3),
    "smoke": Plan(
        purpose="smoke test: its numbers mean nothing", folds=1, seeds=1, epochs=1, length=1024, speeches=4
    ),
}  # fmt: skip


def rows(plan: Plan, work: Path, seed: int) -> Iterator[dict[str, Any]]:
    """A record a model, seed and fold: the year and the party that it says of each speech that is judged."""
    for number in range(seed, seed + plan.seeds):
        for fold in range(plan.folds):
            learnt, judged = (_evenly(some, plan.speeches) for some in by_fold(fold, plan.parts))
            case = {
                "seed": number,
                "fold": fold,
                "speakers": [one.speaker for one in judged],
                "years": [one.year for one in judged],
                "parties": [PARTIES.get(one.party, 0.0) for one in judged],
            }
            yield {"name": FLOOR, **case, **_floor(learnt, len(judged))}
            for name in (LIMIT, CHUNKS, LONG):
                progress(f"{name}, seed {number}, fold {fold}: {len(learnt)} speeches to learn from")
                folder = work / f"{name.replace(' ', '-')}-{number}-{fold}"
                yield {"name": name, **case, **_trained(name, plan, learnt, judged, folder, number)}


def _evenly(some: Sequence[Speech], count: int | None) -> Sequence[Speech]:
    return some if count is None or len(some) <= count else [some[i * len(some) // count] for i in range(count)]


def _floor(learnt: Sequence[Speech], count: int) -> dict[str, Any]:
    """What is said without reading: the mean year, and the more frequent party."""
    party = 1.0 if sum(PARTIES.get(one.party, 0.0) for one in learnt) > 0 else -1.0
    year = statistics.mean(one.year for one in learnt)
    return {"said_years": [year] * count, "said_parties": [party] * count}


def _trained(
    name: str, plan: Plan, learnt: Sequence[Speech], judged: Sequence[Speech], folder: Path, seed: int
) -> dict[str, Any]:
    """What a model of this kind says of the speeches that are judged, and the tokens that it was trained on."""
    years = [one.year for one in learnt]
    middle, spread = statistics.mean(years), statistics.pstdev(years)
    model = _model(plan, seed)
    short = model.reading_length()
    chunks = plan.length // short
    cut = _Cut(tokenizer=model.tokenizer, size=short - 2, chunks=chunks)
    pieces = {LONG: cut.whole, LIMIT: cut.first, CHUNKS: cut.all}[name]
    if name == LONG:
        model, _ = gs.lengthen(model, to=plan.length, window=plan.window)
    texts = [
        {"text": piece, "label": [(speech.year - middle) / spread, PARTIES.get(speech.party, 0.0)]}
        for speech in learnt
        for piece in pieces(speech.text)
    ]
    size = plan.rows * (chunks if name == CHUNKS else 1)
    model, receipt = train(_settings(plan, size, seed) | {"output": str(folder)}, model=model, rows=texts)
    said = [_says(model, pieces(speech.text)) for speech in judged]
    return {
        "said_years": [middle + spread * year for year, _ in said],
        "said_parties": [party for _, party in said],
        "steps": receipt.steps,
        "tokens": receipt.tokens,
    }


def _model(plan: Plan, seed: int) -> Model:
    """MiniLM with a head of two numbers, the year's and the party's, that reads the mean of its states."""
    torch.manual_seed(seed)
    head = SequenceClassification(labels=("year", "party"), problem_type="regression", reads="mean")
    return copy.deepcopy(gs.load("sample:minilm", head=head, dtype="float32"))


@dataclass(frozen=True, kw_only=True)
class _Cut:
    """The beginning of a text, `chunks` of `size` tokens, which is the same for all models that read all of it."""

    tokenizer: Tokenizer
    size: int
    chunks: int

    def all(self, text: str) -> list[str]:
        """In pieces of the model's own limit."""
        offsets = self._offsets(text)
        starts = range(0, len(offsets), self.size)
        return [text[offsets[i][0] : offsets[min(i + self.size, len(offsets)) - 1][1]] for i in starts]

    def whole(self, text: str) -> list[str]:
        """In one piece."""
        return [text[: self._offsets(text)[-1][1]]]

    def first(self, text: str) -> list[str]:
        """The first piece alone."""
        return self.all(text)[:1]

    def _offsets(self, text: str) -> list[tuple[int, int]]:
        return self.tokenizer.encode_plain(text)[1][: self.size * self.chunks]


def _says(model: Model, pieces: Sequence[str]) -> tuple[float, float]:
    """Year and party, averaged over the pieces."""
    found = gs.task("classify", model)(list(pieces), long="truncate")
    scores = [{label.label: label.score for label in one} for one in found.labels]
    year, party = (statistics.mean(one[name] for one in scores) for name in ("year", "party"))
    return year, party


def _settings(plan: Plan, size: int, seed: int) -> dict[str, Any]:
    return {
        "objective": {"kind": "classification"},
        "batch": {"rows": size},
        "optimizer": {"learning_rate": plan.learning_rate, "weight_decay": 0.01},
        "schedule": {"name": "linear", "warmup": 0.1},
        "epochs": plan.epochs,
        "checkpoints": {"every": 25, "keep": 1},
        "journal": {"live": False},
        "seed": seed,
    }


def years_off(results: dict[str, Any], name: str) -> tuple[list[float], list[str]]:
    """How far the year of each judged speech is missed, the seeds averaged; and whose speech it is."""
    return _by_speech(results, name, lambda row, i: abs(row["said_years"][i] - row["years"][i]))


def parties_right(results: dict[str, Any], name: str) -> tuple[list[float], list[str]]:
    """The same of parties, 1 where it is told rightly, of speeches of the two that are predicted."""
    return _by_speech(
        results, name, lambda row, i: None if not row["parties"][i] else row["said_parties"][i] * row["parties"][i] > 0
    )


def _by_speech(results: dict[str, Any], name: str, score: Any) -> tuple[list[float], list[str]]:
    found: dict[tuple[int, int], list[float]] = {}
    speakers = {}
    for row in named(results, name):
        for i, speaker in enumerate(row["speakers"]):
            value = score(row, i)
            if value is not None:
                found.setdefault((row["fold"], i), []).append(float(value))
                speakers[row["fold"], i] = speaker
    return [statistics.mean(values) for values in found.values()], list(speakers.values())


def _against(results: dict[str, Any], judged: Any, first: str, second: str | None) -> PairedDifference | None:
    """A model's mean, less another's, with an interval clustered by speaker; None where there is none."""
    values, speakers = judged(results, first)
    others = [0.0] * len(values) if second is None else judged(results, second)[0]
    return paired_difference(values, others, speakers) if values else None


def verdicts(results: dict[str, Any]) -> list[str]:
    """Which wins, the lengthened model or the other; a difference whose interval holds 0 is none."""
    if not named(results, LONG):
        return []
    told = []
    for what, judged, sign in (("years off", years_off, -1), ("parties told", parties_right, 1)):
        for other in (LIMIT, CHUNKS):
            gap = _against(results, judged, LONG, other)
            if gap is not None:
                told.append(f"{what}: {_winner(gap, sign, other)}: lengthened less {other} {gap}")
    return told


def _winner(gap: PairedDifference, sign: int, other: str) -> str:
    if gap.low <= 0 <= gap.high:
        return f"neither wins against {other}"
    return f"{LONG if gap.value * sign > 0 else other} wins"


def tables(results: dict[str, Any]) -> list[str]:
    """A line a model."""
    lines = []
    for name in names_of(results):
        cells = [_against(results, judged, name, None) for judged in (years_off, parties_right)]
        told = ["-" if one is None else f"{one.value:.3f} ({one.low:.3f} to {one.high:.3f})" for one in cells]
        lines.append([name, *told, f"{named(results, name)[0].get('tokens', 0):,}"])
    return text_table(["speakers held out", "years off", "parties told", "tokens trained on"], lines)


PART = Part(plans=PLANS, rows=rows, tables=tables, verdicts=verdicts, plot=long_plot)
