"""The best model by a metric, stopping early on it, and reading held-out text at the end of each epoch."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from broken_runs import broken_off
from safetensors.torch import load_file
from tiny_labels import labels_config, texts, write_rows
from tiny_runs import assert_same_run, decoder_config, encoder_config, journal

import gossamer as gs
from gossamer.training import run as run_module
from gossamer.training.best import ends_epoch
from gossamer.training.evaluation import Evaluation
from gossamer.training.objectives import Objective


def readings(monkeypatch: pytest.MonkeyPatch, name: str, values: list[float | None]) -> None:
    """Held-out text that gives these values of a score one after the other, and a loss that falls meanwhile."""
    scores = iter(enumerate(values))

    def told(*_: object) -> Evaluation:
        i, value = next(scores)
        return Evaluation(loss=9.0 - i, scores={name: value})

    monkeypatch.setattr(run_module, "evaluate", told)


@pytest.mark.parametrize(
    ("objective", "metric", "values", "best"),
    [
        ("classification", "accuracy", [0.25, 0.75, 0.5, 0.75, 0.9], 4),
        ("tagging", "f1", [None, 0.5, None, 0.4, 0.9], 4),
        ("tagging", "f1", [math.nan, 0.0, -0.0, math.nan, 0.9], 4),
    ],
    ids=["accuracy", "none", "nan"],
)
def test_the_best_by_a_score_is_kept_and_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, objective: str, metric: str, values: list[Any], best: int
) -> None:
    readings(monkeypatch, metric, values)
    evaluation = {"held_out": 0.2, "every": 2, "metric": metric, "patience": 2}
    settings = {"steps": 40, "checkpoints": {"every": 2, "keep": 9}, "evaluation": evaluation}
    told: list[str] = []
    config = labels_config(tmp_path, objective=objective, **settings)
    _, receipt = gs.training.loop.train(config, remark=told.append)
    assert receipt.steps == 8
    assert receipt.ended == f"no higher {metric} on held-out text 2 times in a row"
    assert receipt.best == {"step": best, metric: values[best // 2 - 1]}
    assert f"best: {metric} {receipt.best[metric]:.4f} after step {best}" in str(receipt)
    then = load_file(tmp_path / "out" / "checkpoints" / f"step-{best}" / "model.safetensors")
    saved = gs.load(tmp_path / "out" / "best").state_dict()
    assert saved.keys() == then.keys()
    assert all(torch.equal(saved[name], then[name]) for name in saved)
    untold = f"{metric} of the held-out text cannot be told: such a reading is never the best"
    assert [one for one in told if "cannot be told" in one] == ([untold] if objective == "tagging" else [])


def test_of_a_loss_the_lowest_is_the_best_and_of_a_score_that_falls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings(monkeypatch, "perplexity", [8.0, 4.0, 5.0, 4.0])
    evaluation = {"held_out": 0.1, "every": 2, "metric": "perplexity", "patience": 2}
    _, receipt = gs.train(decoder_config(tmp_path, steps=40, evaluation=evaluation))
    assert (receipt.best, receipt.ended) == (
        {"step": 4, "perplexity": 4.0},
        "no lower perplexity on held-out text 2 times in a row",
    )


def test_a_metric_that_is_never_told_leaves_no_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readings(monkeypatch, "accuracy", [None, None, None])
    evaluation = {"held_out": 0.2, "every": 2, "metric": "accuracy", "patience": 3}
    _, receipt = gs.train(labels_config(tmp_path, steps=40, evaluation=evaluation))
    assert (receipt.steps, receipt.best) == (6, None)
    assert not (tmp_path / "out" / "best").exists()
    assert (tmp_path / "out" / "last" / "config.json").is_file()


def test_the_scores_of_a_run_are_those_whose_direction_is_known(tmp_path: Path) -> None:
    rows = [{"text": one["text"], "label": [one["label"]] * (i % 2)} for i, one in enumerate(texts())]
    write_rows(tmp_path / "several.jsonl", rows)
    numbers = [{"text": one["text"], "label": len(one["text"]) + 0.5} for one in texts()]
    write_rows(tmp_path / "numbers.jsonl", numbers)
    configs = {
        "one": labels_config(tmp_path, "one", steps=2),
        "several": labels_config(tmp_path, "several", steps=2, data=str(tmp_path / "several.jsonl")),
        "numbers": labels_config(tmp_path, "numbers", steps=2, data=str(tmp_path / "numbers.jsonl")),
        "tags": labels_config(tmp_path, "tags", steps=2, objective="tagging"),
        "decoder": decoder_config(tmp_path, "decoder", steps=2, evaluation={"held_out": 0.2}),
        "masked": encoder_config(tmp_path, "masked", steps=2, evaluation={"held_out": 0.2}),
    }
    for name, config in configs.items():
        model, receipt = gs.train(config)
        kind = config.get("objective", "causal-lm")
        scores = {one for one, value in receipt.evaluation.items() if value is not None} - {"loss"}
        scores |= {"matthews"} if name == "one" else set()  # which so short a run does not define
        assert Objective(kind=kind).directions(model).keys() == scores, name
        assert Objective(kind=kind).directions(model).items() <= Objective(kind=kind).directions().items(), name


WRONG = [
    (
        {"held_out": 0.2, "metric": "acuracy"},
        r"^evaluation\.metric is 'acuracy'; .* tells 'loss', 'accuracy', 'f1', 'f1_macro', 'matthews', ",
    ),
    (
        {"held_out": 0.2, "metric": "f1"},
        r"^evaluation\.metric is 'f1'; .*with this model, tells 'loss', 'accuracy', 'f1_macro', 'matthews': name",
    ),
    ({"metric": "loss"}, r"^evaluation\.metric is 'loss'; it must be left out, or held_out or data given"),
    (
        {"held_out": 0.2, "every": "epochs"},
        r"^evaluation\.every is 'epochs'; it must be a whole number or one of 'epoch'",
    ),
    ({"held_out": 0.2, "every": 0}, r"^evaluation\.every is 0; it must be a whole number from 1"),
]


@pytest.mark.parametrize(("evaluation", "message"), WRONG)
def test_a_metric_that_is_not_told_is_refused(tmp_path: Path, evaluation: dict[str, Any], message: str) -> None:
    with pytest.raises(gs.InputError, match=message):
        gs.train(labels_config(tmp_path, evaluation=evaluation))
    assert not (tmp_path / "out" / "journal.jsonl").exists()


@pytest.mark.parametrize("per_epoch", [0.4, 1.0, 1.1, 2.5, 7.0])
def test_epochs_end_where_everything_was_read_so_often(per_epoch: float) -> None:
    batches: Any = SimpleNamespace(steps=lambda epochs: math.ceil(epochs * per_epoch))
    ends = {math.ceil(i * per_epoch) for i in range(1, 100)}
    assert [step for step in range(1, 40) if ends_epoch(batches, step)] == sorted(one for one in ends if one < 40)


@pytest.mark.parametrize("broken_at", [7, 13])
def test_readings_at_the_end_of_epochs_go_on_exactly(tmp_path: Path, broken_at: int) -> None:
    """48 rows, 10 a step: epochs end with the steps 5, 10 and 15."""
    evaluation = {"held_out": 0.2, "every": "epoch", "metric": "accuracy", "patience": 9}
    settings = {"steps": None, "epochs": 3, "batch": {"rows": 10}, "evaluation": evaluation}
    gs.train(labels_config(tmp_path, "unbroken", **settings))
    broken_off(labels_config(tmp_path, "broken", **settings), broken_at, KeyboardInterrupt)
    gs.train(labels_config(tmp_path, "broken", **settings))
    assert_same_run(tmp_path / "broken", tmp_path / "unbroken", 15)
    lines = journal(tmp_path / "broken")
    assert [one["step"] for one in lines if one["split"] == "held-out"] == [5, 10, 15]
