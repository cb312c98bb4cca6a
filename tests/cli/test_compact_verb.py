"""gossamer compact: what it prints, writes and refuses."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import gossamer as gs

Command = Callable[..., Any]


@pytest.fixture
def pruned(small: Path, tmp_path: Path) -> Path:
    """A model whose second layer has no head that gives anything."""
    model = gs.load(small)
    with torch.no_grad():
        model.get_submodule("attention.1.output").weight.zero_()
    return gs.save(model, tmp_path / "pruned")


@pytest.mark.parametrize("option", ["--out", "--output"])
def test_compact(gossamer: Command, pruned: Path, tmp_path: Path, option: str) -> None:
    out = tmp_path / "smaller"
    done = gossamer("compact", pruned, option, out)
    assert (done.code, done.err) == (0, "")
    for shown in (str(out), "heads of all layers: ", "family", " -> gossamer", "measured: relative difference at"):
        assert shown in done.out
    assert gs.load(out).architecture.layers[1].attention.heads == 0
    page = gossamer("summary", out)
    assert "no heads" in page.out


def test_compact_as_json_for_transformers(gossamer: Command, pruned: Path, tmp_path: Path) -> None:
    data = gossamer("compact", pruned, "--out", tmp_path / "padded", "--padded", "--json").json
    assert data["family"] == gs.load(pruned).family
    assert data["receipt"]["settings"] == {"padded": True}
    assert "padded with zeros to one width for all layers" in data["receipt"]["changes"][-1]


def test_a_model_without_zeros_is_as_it_was(gossamer: Command, small: Path, tmp_path: Path) -> None:
    done = gossamer("compact", small, "--out", tmp_path / "same")
    assert "nothing was zero as a whole: the model is as it was" in done.out
    before, after = gs.load(small), gs.load(tmp_path / "same")
    assert after.architecture == before.architecture
    assert all(torch.equal(one, after.state_dict()[name]) for name, one in before.state_dict().items())


def test_what_compact_refuses(gossamer: Command, small: Path) -> None:
    done = gossamer("compact", small, "--out", small)
    assert (done.code, done.error) == (
        2,
        f"gossamer: {small}: is the model to be made smaller; name another directory, so that both are there",
    )
    assert gossamer("compact", small).code == 2
