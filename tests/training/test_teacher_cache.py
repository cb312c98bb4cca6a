"""A teacher's outputs on disk: what is learnt from them, what they hold, and when they are refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from test_distillation import distilling
from tiny_runs import journal

from gossamer.models import Model
from gossamer.training.loop import train
from gossamer.training.objectives.teacher import Teacher

SETTINGS: dict[str, Any] = {"steps": 12, "checkpoints": {"every": 6}, "evaluation": {"held_out": 6, "every": 6}}


def cached(folder: Path, kind: str, name: str, cache: Any, **changes: Any) -> dict[str, Any]:
    """A run beside a cache; of plain text one document a row."""
    config = {**distilling(folder, kind, name, **SETTINGS)}
    if kind == "causal-lm":
        config["data"] = {**config["data"], "pack": False}
    config["objective"] = {**config["objective"], "cache": cache}
    return {**config, **changes}


def count_readings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows teachers read from now on, a number a call."""
    read: list[int] = []
    on = Teacher.model_on

    def counted(teacher: Teacher, device: torch.device) -> Model:
        model = on(teacher, device)
        if not hasattr(model, "_is_counted"):
            model.register_forward_pre_hook(
                lambda _, given, named: read.append(len(named["input_ids"])), with_kwargs=True
            )
            model.__dict__["_is_counted"] = True
        return model

    monkeypatch.setattr(Teacher, "model_on", counted)
    return read


@pytest.mark.parametrize("kind", ["classification", "causal-lm", "vectors"])
def test_a_student_learns_the_same_from_a_cache(kind: str, tmp_path: Path) -> None:
    """All scores in float32: the same run but for rounding, for the teacher reads rows without padding."""
    whole = {"folder": str(tmp_path / "cache"), "top_k": "all" if kind == "causal-lm" else None}
    train(cached(tmp_path, kind, "plain", None))
    train(cached(tmp_path, kind, "cached", whole))
    ours, theirs = (load_file(tmp_path / name / "last" / "model.safetensors") for name in ("plain", "cached"))
    before = load_file(tmp_path / "plain" / "checkpoints" / "step-6" / "model.safetensors")
    assert max(float((ours[name] - before[name]).abs().max()) for name in ours) > 0.01
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=2e-3, msg=lambda text, name=name: name + text)
    for one, other in zip(journal(tmp_path / "plain"), journal(tmp_path / "cached"), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)
