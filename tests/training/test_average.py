"""The running average of the weights: its formula, what is saved and evaluated, and going on to the same bits."""

from pathlib import Path
from typing import Any

import pytest
import torch
from broken_runs import broken_off
from safetensors.torch import load_file
from tiny_labels import labels_config
from tiny_runs import assert_same_run, decoder_config, tensors

import gossamer as gs
from gossamer.training.config import TrainingConfig
from gossamer.training.estimate.estimate import estimate
from gossamer.training.optimization.average import AverageSettings, decay_at

STEPS = 6
EVALUATED = {"evaluation": {"held_out": 0.2, "every": 2}, "checkpoints": {"every": 1, "keep": 99}}


def raw(folder: Path, step: int) -> dict[str, torch.Tensor]:
    return load_file(folder / "checkpoints" / f"step-{step}" / "model.safetensors")


def test_the_warm_up_bounds_the_half_life_by_a_share_of_the_steps() -> None:
    settings = AverageSettings(decay=0.5 ** (1 / 100), warmup=0.05)
    assert decay_at(settings, 0) == 0
    for step in (1, 20, 1000, 1999):
        assert decay_at(settings, step) == pytest.approx(0.5 ** (1 / (0.05 * step)))
    assert [decay_at(settings, step) for step in (2001, 10**6)] == [settings.decay] * 2
    assert decay_at(AverageSettings(decay=0.9), 0) == 0.9


@pytest.mark.parametrize("warmup", [None, 0.5])
def test_what_is_saved_is_the_average_of_the_steps(tmp_path: Path, warmup: float | None) -> None:
    """By hand in float64, from the weights before the first step and after each."""
    settings = {"decay": 0.8, "warmup": warmup}
    config = labels_config(tmp_path, steps=STEPS, average=settings, **EVALUATED)
    torch.manual_seed(0)
    begun = gs.training.material.gather(TrainingConfig.read(config), None, gs.training.processes.Processes()).model
    wanted = {name: one.double() for name, one in begun.state_dict().items()}
    model, receipt = gs.train(config)
    for step in range(STEPS):
        decay = 0.8 if warmup is None else min(0.8, 0.5 ** (1 / (warmup * step)) if step else 0)
        for name, one in raw(tmp_path / "out", step + 1).items():
            wanted[name] = decay * wanted[name] + (1 - decay) * one.double()
    kept, last = tensors(tmp_path / "out", STEPS), gs.load(tmp_path / "out" / "last").state_dict()
    learnt = [name for name in wanted if f"{name}/average" in kept]
    assert len(learnt) > 20
    for name in learnt:
        torch.testing.assert_close(kept[f"{name}/average"].double(), wanted[name], rtol=0, atol=1e-6)
        assert torch.equal(last[name], kept[f"{name}/average"])
        assert torch.equal(model.state_dict()[name], last[name])
    assert any(not torch.equal(last[name], raw(tmp_path / "out", STEPS)[name]) for name in learnt)
    best = gs.load(tmp_path / "out" / "best").state_dict()
    then = tensors(tmp_path / "out", receipt.best["step"])
    assert all(torch.equal(best[name], then[f"{name}/average"]) for name in learnt)


def test_held_out_numbers_are_those_of_the_average(tmp_path: Path) -> None:
    """The model that is saved, evaluated by a run of its own that learns nothing."""
    config = labels_config(tmp_path, average={"decay": 0.8}, **EVALUATED)
    _, receipt = gs.train(config)
    still = {**config, "model": {"checkpoint": str(tmp_path / "out" / "last")}, "average": None, "steps": 2}
    still |= {"optimizer": {"learning_rate": 1e-30, "weight_decay": 0.0}, "output": str(tmp_path / "still")}
    _, again = gs.train(still)
    assert receipt.evaluation is not None
    assert again.evaluation is not None
    assert again.evaluation.keys() == receipt.evaluation.keys()
    for name, value in receipt.evaluation.items():  # a coefficient that these rows do not define is None in both
        assert again.evaluation[name] == (None if value is None else pytest.approx(value, rel=1e-6)), name


def test_averaging_changes_nothing_of_what_is_learnt(tmp_path: Path) -> None:
    gs.train(decoder_config(tmp_path, "without", **EVALUATED))
    gs.train(decoder_config(tmp_path, "with", average={"decay": 0.8}, **EVALUATED))
    one, other = (raw(tmp_path / name, STEPS) for name in ("without", "with"))
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("broken_at", [4, 5])
def test_a_run_with_an_average_goes_on_exactly(tmp_path: Path, broken_at: int) -> None:
    settings: dict[str, Any] = {"average": {"decay": 0.8, "warmup": 0.5}, "evaluation": {"held_out": 0.2, "every": 2}}
    gs.train(decoder_config(tmp_path, "unbroken", **settings))
    broken_off(decoder_config(tmp_path, "broken", **settings), broken_at, KeyboardInterrupt)
    gs.train(decoder_config(tmp_path, "broken", **settings))
    assert_same_run(tmp_path / "broken", tmp_path / "unbroken", STEPS)
    assert any(name.endswith("/average") for name in tensors(tmp_path / "broken", STEPS))


def test_an_average_that_was_not_there_is_refused_on_the_way(tmp_path: Path) -> None:
    gs.train(decoder_config(tmp_path))
    with pytest.raises(gs.InputError, match=r"average\.decay was None, is 0\.8"):
        gs.train(decoder_config(tmp_path, average={"decay": 0.8}))


@pytest.mark.parametrize(
    ("average", "message"),
    [
        ({"decay": 1}, r"^average\.decay is 1; it must be a number above 0 and below 1"),
        ({"decay": 0.9, "warmup": 0}, r"^average\.warmup is 0; it must be a finite number above 0"),
        ({"rate": 0.9}, r"^average\.rate is no field"),
        (0.9, r"^average is 0\.9; it must be a mapping"),
    ],
)
def test_an_average_that_is_none_is_refused(tmp_path: Path, average: Any, message: str) -> None:
    with pytest.raises(gs.InputError, match=message):
        gs.train(decoder_config(tmp_path, average=average))


def test_an_estimate_counts_the_average(tmp_path: Path) -> None:
    plain, averaged = (estimate(decoder_config(tmp_path, average=one)) for one in (None, {"decay": 0.9}))
    assert averaged.peak_bytes - plain.peak_bytes == 4 * plain.parameters
