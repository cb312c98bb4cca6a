"""Fine-tuning that measures: the model before and after side by side, the score of held-out rows with its interval."""

import json
from pathlib import Path
from typing import Any

import pytest
from finetune_rows import PAIRS, QUESTIONS, TEXTS, save_bare

from gossamer.errors import InputError
from gossamer.recipes import finetune
from gossamer.recipes.evaluate import evaluate

COUNTED = {"latency": False, "memory": False}
SETTINGS: dict[str, Any] = {"journal.live": False, "threads": 1, "steps": 2, "epochs": None, "schedule.warmup": 0}


def tuned(model: Any, rows: Any, **given: Any) -> tuple[Any, Any]:
    settings = SETTINGS | given.pop("settings", {})
    return finetune(model, rows, rows[:6], batch=4, settings=settings, **{"measure": COUNTED, **given})


def test_the_receipt_has_the_model_before_and_after(tmp_path: Path) -> None:
    encoder = save_bare(tmp_path, "bert")
    first, receipt = tuned(encoder, TEXTS, output=tmp_path / "out")
    names = [row.name for row in receipt.comparison.rows]
    assert {"parameters", "weights on disk", "time to make it", "FLOPs to make it"} <= set(names)
    assert receipt.before["parameters"] < receipt.after["parameters"]
    assert receipt.comparison.rows[-1].values[0] is None  # without a classifier, nothing is right or wrong
    assert receipt.comparison.rows[-1].values[1] == pytest.approx(receipt.evaluation["accuracy"])
    told = json.loads((tmp_path / "out" / "receipt.json").read_text())
    assert told == json.loads(json.dumps(receipt.to_dict()))
    assert told["recipe"] == "finetune"
    assert first.receipt is receipt
    for text in (str(receipt), receipt.to_markdown(), receipt.to_html()):
        assert "accuracy, mean of 6 held-out rows" in text
        assert "parameters" in text
    assert "<svg" in receipt.to_html()
    # Both have the head: the difference is paired, row by row.
    settings = {"objective.class_weights": "balanced"}
    _, receipt = tuned(first, TEXTS, settings=settings)
    assert receipt.comparison.rows[-1].differences[1].count == 6


def test_each_row_is_judged_by_itself(tmp_path: Path) -> None:
    """Of answers over all windows of a context; retrieval is nothing that one row has."""
    model, receipt = tuned(save_bare(tmp_path, "bert"), QUESTIONS, metric="answer_f1")
    row = receipt.comparison.rows[-1]
    assert row.name == "answer f1, mean of 6 held-out rows"
    assert row.values[1] == pytest.approx(evaluate(model, QUESTIONS[:6]).scores["answer_f1"])
    _, receipt = tuned(save_bare(tmp_path / "pairs", "bert"), PAIRS)
    assert receipt.comparison.rows[-1].unit != "score"


def test_time_and_memory_are_measured_where_they_are_asked_for(tmp_path: Path) -> None:
    measure = {"batches": [1], "tokens": [8], "threads": [1], "rounds": 1, "memory": False}
    _, receipt = tuned(save_bare(tmp_path, "bert"), TEXTS, measure=measure)
    (row,) = [row for row in receipt.comparison.rows if row.name == "time, 1 x 8 tokens, 1 thread"]
    assert all(value > 0 for value in row.values)


@pytest.mark.parametrize(
    ("measure", "message"),
    [
        ({"speed": True}, r"^measure is \{'speed': True\}; it must be true, false, or settings of gossamer\.compare"),
        ("yes", r"^measure is 'yes'; it must be true, false"),
        ({"tokens": [0]}, r"tokens is 0"),
        ({"rounds": 0}, r"^rounds is 0"),
        ({"latency": "no"}, r"^measure\.latency is 'no'; it must be true or false"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is_read(measure: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        finetune("no/such/model", TEXTS, measure=measure)
