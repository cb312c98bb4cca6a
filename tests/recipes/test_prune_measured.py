"""What gs.prune tells where both models are to be measured: side by side, whichever way it went."""

import json
from pathlib import Path
from typing import Any

import pytest
from test_prune_at_once import encoder
from test_prune_training import LEARNT, ROWS, classifier

import gossamer as gs

COUNTED = {"latency": False, "memory": False, "tokens": [16]}


def rows_of(receipt: Any) -> dict[str, tuple[Any, ...]]:
    assert receipt.comparison is not None
    assert receipt.comparison.models == ("before", "after")
    return {row.name: row.values for row in receipt.comparison.rows}


@pytest.mark.parametrize("asked", [{"score": "magnitude"}, {"layers": [0]}], ids=["at once", "named"])
def test_both_models_are_measured(asked: dict[str, Any]) -> None:
    model = encoder()
    new, receipt = gs.prune(model, measure=COUNTED, **asked)
    before, after = rows_of(receipt)["parameters"]
    assert before == sum(one.numel() for one in model.parameters())
    assert after == sum(one.numel() for one in new.parameters())
    assert new.receipt is receipt
    assert gs.prune(model, **asked)[1].comparison is None


def test_of_a_training_what_it_cost_and_the_score_of_each_held_out_row(tmp_path: Path) -> None:
    new, receipt = gs.prune(classifier(), ROWS, 0.2, measure=COUNTED, output=tmp_path / "out", **LEARNT)
    rows = rows_of(receipt)
    (score,) = [values for name, values in rows.items() if name.startswith("accuracy, mean of ")]
    assert score[1] == pytest.approx(receipt.measured["held_out_accuracy"])
    (tokens,) = [values for name, values in rows.items() if "tokens" in name and values[0] is None]
    runs = [tmp_path / "out" / "pruning", tmp_path / "out"]
    assert tokens[1] == sum(json.loads((run / "receipt.json").read_text())["tokens"] for run in runs)
    assert new.receipt is receipt


@pytest.mark.parametrize(
    ("measure", "message"),
    [
        ("yes", r"^measure is 'yes'; it must be true, false, or settings of gossamer\.compare"),
        ({"round": 3}, r"^measure is .*settings of gossamer\.compare: latency, memory"),
    ],
)
def test_other_settings_are_refused_before_anything_is_computed(measure: Any, message: str) -> None:
    with pytest.raises(gs.InputError, match=message):
        gs.prune("no such model", measure=measure)
