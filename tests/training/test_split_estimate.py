"""What one process is told that splits sequences with others: rows, pairs and work as they run, refusals as trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from step_cases import Case
from tiny_runs import decoder_config, encoder_config

import gossamer as gs
from gossamer.layers import SequenceSplit
from gossamer.models import Architecture
from gossamer.models.decoders import decoder
from gossamer.training.estimate.estimate import estimate
from gossamer.training.estimate.saved import Pass, parts_of
from gossamer.training.estimate.step_time import count_work

BACK = gs.Window(20, 0)
AROUND = gs.Sink(60) | gs.Window(100, 50)


def architecture(pattern: gs.Pattern, length: int, **form: Any) -> Architecture:
    return decoder(
        vocabulary_size=30, length=length, layers=1, hidden_size=16, heads=2, width=24, patterns=pattern, **form
    )


def work(pattern: gs.Pattern, step: Pass, **form: Any) -> tuple[int, int]:
    """Pairs of attention, and rows that maps between 16 columns read."""
    units = {
        name: one.units for (name, detail), one in count_work(architecture(pattern, step.length, **form), step).items()
        if name == "attention" or detail == (16, 16)
    }  # fmt: skip
    return units["attention"], units["maps"] // 16**2


@pytest.mark.parametrize("reversible", ["no", "mean"])
@pytest.mark.parametrize("slice_length", [None, 25])
def test_queries_of_a_share_stand_behind_their_neighbours_keys(slice_length: int | None, reversible: str) -> None:
    step = Pass(rows=3, length=200, processes=2)
    pairs, rows = work(BACK, step, slice_length=slice_length, reversible=reversible)
    assert pairs == 3 * 2 * int(BACK.mask(200)[100:].sum())
    # Queries and outputs of its own; keys and values of what each slice reads.
    read = 100 + 20 if slice_length is None else 100 + 4 * 20
    assert rows == 3 * (2 * 100 + 2 * read)


def test_slices_of_a_whole_text_are_reckoned_as_they_are_read() -> None:
    pairs, rows = work(BACK, Pass(rows=3, length=100), slice_length=25)
    assert pairs == 3 * 2 * int(BACK.mask(100).sum())
    assert rows == 3 * (2 * 100 + 2 * (100 + 3 * 20))


@pytest.mark.parametrize(("processes", "reads"), [(4, 335), (5, 310)])
def test_the_process_that_reads_most_is_told_of(processes: int, reads: int) -> None:
    """With sinks it is neither the second nor the last."""
    step = Pass(rows=1, length=500, processes=processes)
    splits = [SequenceSplit(rank=rank, count=processes) for rank in range(processes)]
    cuts = [one.cut(AROUND, step.length, packed=False) for one in splits]
    assert max(one.own.stop + one.whole.high - one.whole.stop for one in cuts) == reads
    whole = Case(pattern="around", length=500, layers=1, hidden=16, heads=2).architecture
    layers = tuple(replace(one, attention=replace(one.attention, pattern=AROUND)) for one in whole.layers)
    rows = count_work(replace(whole, layers=layers), step)["maps", (16, 16)].units // 16**2
    # Queries and outputs of its own; keys and values of what it reads.
    assert rows == 2 * step.share + 2 * reads


def test_layers_without_heads_have_a_share() -> None:
    whole = architecture(BACK, 200)
    layers = tuple(replace(one, attention=replace(one.attention, heads=0)) for one in whole.layers)
    step = Pass(rows=2, length=200, processes=2)
    assert sum(one.kept for one in parts_of(replace(whole, layers=layers), step)) > 0


@pytest.mark.parametrize(
    ("length", "processes", "attention", "said"),
    [
        (9, 4, {}, "9 tokens are split over 4 processes, 3 each"),
        (32, 2, {"pattern": "full"}, "the pattern 'causal full' sees without bounds, and a sequence that is"),
    ],
)
def test_what_training_refuses_is_refused(
    tmp_path: Path, length: int, processes: int, attention: dict[str, Any], said: str
) -> None:
    fields = {"layers": 1, "hidden_size": 8, "heads": 2, "length": length, "pattern": "window(2)"} | attention
    config = decoder_config(tmp_path, parallel="sequence", model={"decoder": fields}, batch={"rows": 3})
    with pytest.raises(gs.InputError) as problem:
        estimate(config, processes=processes)
    assert said in str(problem.value)


def test_an_objective_that_is_not_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(gs.InputError, match="which takes the objective causal-lm, not masked-lm"):
        estimate(encoder_config(tmp_path, parallel="sequence"), processes=2)
