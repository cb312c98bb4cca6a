"""What is told of a training on rows with labels before they are read: the most that any of its batches takes."""

import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kept_bytes import kept_bytes
from tiny_labels import labels_config

import gossamer as gs
from gossamer.errors import InputError
from gossamer.training.config import TrainingConfig
from gossamer.training.estimate.estimate import Estimate, estimate, rows_of_budget
from gossamer.training.material import gather
from gossamer.training.processes import Processes

NAMES = {"classification": ["book", "film", "song"], "tagging": ["B-PER", "I-PER", "O"]}


@pytest.fixture(autouse=True)
def _untimed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gossamer.training.estimate.estimate.step_seconds", lambda *rest, **more: {"maps": 1.0})


def named(folder: Path, kind: str, **changes: Any) -> dict[str, Any]:
    return labels_config(folder, objective={"kind": kind, "labels": NAMES[kind]}, **changes)


def told_kept(estimated: Estimate) -> int:
    """All that is kept where the backward pass begins."""
    from gossamer.training.estimate.saved import Pass, parts_of

    step = Pass(rows=estimated.rows, length=estimated.length, padded=True)
    return sum(part.kept for part in parts_of(estimated.architecture, step))


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("batch", [{"rows": 6}, {"tokens": 100}, {"rows": 4, "length": 16}, {"tokens": 30}])
def test_no_batch_takes_more_than_is_told(tmp_path: Path, kind: str, batch: dict[str, int]) -> None:
    config = named(tmp_path, kind, batch=batch)
    estimated = estimate(config)
    assert estimated.is_upper_bound
    read = TrainingConfig.read(config)
    material = gather(read, None, Processes())
    model = material.model
    assert estimated.parameters == sum(one.numel() for one in model.parameters())
    batches = [material.batches.at(step) for step in range(material.batches.steps(1))]
    assert max(one["input_ids"].numel() for one in batches) <= estimated.tokens
    told = told_kept(estimated)
    for one in batches:
        rows, length = one["input_ids"].shape
        assert length <= estimated.length
        # Numbers a text, of which more rows than were told have more, and single ones are not in the formulas.
        kept = kept_bytes(partial(read.objective.loss, model.train(), one), model)
        assert kept <= told * 1.005 + 2000 * max(rows - estimated.rows, 0), one


@given(st.integers(1, 60), st.integers(1, 400), st.integers(1, 6))
def test_no_part_of_a_budget_of_tokens_has_more(longest: int, tokens: int, parts: int) -> None:
    """Rows of any one length that fit, dealt out to so many parts."""
    longest = min(longest, tokens)
    told = rows_of_budget(tokens, longest, parts) * longest
    assert max(math.ceil(tokens // length / parts) * length for length in range(1, longest + 1)) <= told


@pytest.mark.parametrize(
    ("batch", "processes", "rows", "length"),
    [
        ({"rows": 8}, 1, 8, 32),
        ({"rows": 8, "accumulation": 2, "length": 20}, 2, 2, 20),
        ({"tokens": 96}, 1, 3, 32),
        ({"tokens": 100}, 1, 4, 32),
        ({"tokens": 100}, 2, 3, 32),
        ({"tokens": 100, "length": 10, "accumulation": 3}, 1, 4, 10),
        ({"tokens": 20}, 1, 1, 20),
    ],
)
def test_rows_are_as_many_and_as_long_as_they_may_be(
    tmp_path: Path, batch: dict[str, int], processes: int, rows: int, length: int
) -> None:
    estimated = estimate(named(tmp_path, "tagging", batch=batch), processes=processes)
    assert (estimated.rows, estimated.length) == (rows, length)
    assert estimated.to_dict()["is_upper_bound"] is True


def test_the_labels_of_a_new_head_must_be_named(tmp_path: Path) -> None:
    for kind in NAMES:
        with pytest.raises(InputError, match=r"objective\.labels is missing, .*: name all labels"):
            estimate(labels_config(tmp_path, objective=kind))


def test_the_labels_of_a_head_that_is_there_are_its_own(tmp_path: Path) -> None:
    gs.train(labels_config(tmp_path, "first", steps=2))
    there = {"model": str(tmp_path / "first" / "last")}
    assert estimate(labels_config(tmp_path, **there)).length == 32
    for objective, message in (
        ({"kind": "classification", "labels": ["film", "song", "book"]}, r"objective\.labels is \('film'"),
        ({"kind": "classification", "problem": "regression"}, r"objective\.problem is 'regression'"),
        ("tagging", r"objective\.kind is 'tagging', but the model .* head"),
    ):
        for take in (estimate, gs.train):
            with pytest.raises(InputError, match=message):
                take(labels_config(tmp_path, "second", **there, objective=objective))


def test_a_second_model_is_not_reckoned(tmp_path: Path) -> None:
    for objective in ("replaced-token", {"kind": "teacher-vectors", "teacher": "an-embedder"}):
        kind = objective if isinstance(objective, str) else objective["kind"]
        with pytest.raises(InputError, match=rf"'{kind}'; training is reckoned for 'causal-lm', "):
            estimate(labels_config(tmp_path, data="speeches", objective=objective))
