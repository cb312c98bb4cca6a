"""Layers of several widths in training: some without heads, some without neurons; runs go on to the same bits."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from broken_runs import broken_off
from tiny_runs import assert_same_run, encoder_config, llama_config

import gossamer as gs
from gossamer.models import Architecture, Model
from gossamer.training.estimate.estimate import estimate
from gossamer.training.loop import train


class Killed(BaseException):
    """Nothing is saved after it."""


def uneven(config: dict[str, Any]) -> dict[str, Any]:
    """Four layers: as before, without heads, without neurons, without either."""
    architecture = copy.deepcopy(config["model"]["architecture"])
    layers = []
    for i in range(4):
        layer = copy.deepcopy(architecture["layers"][0])
        layer["attention"]["weights"] = layer["feed_forward"]["weights"] = i
        layer["attention"] |= {"output_bias": True} | ({"heads": 0, "key_heads": None} if i % 2 else {})
        layer["feed_forward"] |= {"bias": True} | ({"width": 0} if i > 1 else {})
        layers.append(layer)
    return {**config, "model": {"architecture": {**architecture, "layers": layers}}}


@pytest.mark.parametrize("of", [encoder_config, llama_config])
def test_a_killed_run_of_uneven_layers_goes_on_to_the_same_bits(tmp_path: Path, of: Any) -> None:
    """Norms after the sum, and before the parts."""
    whole, broken = (uneven(of(tmp_path, name)) for name in ("whole", "broken"))
    model, _ = train(whole)
    broken_off(broken, 5, Killed)
    train(broken)
    assert_same_run(tmp_path / "whole", tmp_path / "broken", 6)
    again = gs.load(tmp_path / "whole" / "last")
    assert again.architecture == model.architecture
    assert all(torch.equal(one, again.state_dict()[name]) for name, one in model.state_dict().items())


def test_what_is_left_of_a_part_learns(tmp_path: Path) -> None:
    described = Architecture.from_dict(uneven(llama_config(tmp_path))["model"]["architecture"])
    model = Model(described)
    ids = torch.arange(12)[None]
    model(ids, labels=ids).loss.backward()
    assert [name for name, one in model.named_parameters() if one.grad is None or not one.grad.any()] == []


def test_an_estimate_knows_them(tmp_path: Path) -> None:
    even, odd = (estimate(config) for config in (encoder_config(tmp_path), uneven(encoder_config(tmp_path))))
    assert odd.parameters == sum(one.numel() for one in Model(
        Architecture.from_dict(uneven(encoder_config(tmp_path))["model"]["architecture"])
    ).parameters())  # fmt: skip
    assert even.parameters != odd.parameters
