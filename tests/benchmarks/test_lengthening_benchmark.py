"""The comparison of lengthened models with the original: which states are compared, and what is written."""

import json
from pathlib import Path
from types import ModuleType

import pytest
import torch

import gossamer as gs
from gossamer.models import Model


@pytest.fixture(scope="module")
def model(minilm: Path) -> Model:
    return gs.load(minilm, head="none")


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    import lengthening

    monkeypatch.setattr(lengthening, "WINDOWS", (128,))
    monkeypatch.setattr(lengthening, "ROUNDS", (1,))
    return lengthening


@pytest.mark.parametrize("tokens", [512, 600, 1021, 1300])
@pytest.mark.parametrize("way", ["overlapping", "side_by_side"])
def test_every_token_is_read_once_in_its_place(
    benchmark: ModuleType, model: Model, monkeypatch: pytest.MonkeyPatch, tokens: int, way: str
) -> None:
    """A token's state here is its place and how far it lies from the ends of what was read."""

    def read(_: Model, ids: torch.Tensor, start: int, stop: int) -> torch.Tensor:
        assert stop - start <= 510
        places = torch.arange(start, stop)
        before, after = places - start, stop - 1 - places
        before[places < 510], after[places >= ids.shape[1] - 2 - 510] = 510, 510
        row = torch.stack([ids[0, 1 + start : 1 + stop], torch.minimum(before, after)], dim=1)
        return torch.nn.functional.pad(row.float(), (0, model.architecture.hidden_size - 2))

    monkeypatch.setattr(benchmark, "read", read)
    ids = torch.arange(tokens)[None]
    states = getattr(benchmark, way)(model, ids)
    assert torch.equal(states[1:-1, 0], ids[0, 1:-1].float())
    if way == "overlapping":
        assert float(states[1:-1, 1].min()) >= 126


def test_it_writes_a_cosine_for_each_way(
    benchmark: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert benchmark.main(["--texts", "1", "--tokens", "700", "--out", str(tmp_path / "out.json")]) == 0
    results = json.loads((tmp_path / "out.json").read_text())
    none, first = results["rows"]
    assert (none["global_tokens"], first["global_tokens"]) == ("none", "first")
    assert 0.5 < none["cosine"] < first["cosine"] < 1
    assert none["cosine_at_copies_of_position_0"] < 0.5
    (hashed,) = results["hashed"]
    assert hashed["pattern"]["rounds"] == 1
    assert 0 < hashed["cosine"] < 1
    said = capsys.readouterr().out
    assert f"{first['cosine']:.3f}" in said
    assert f"{hashed['cosine']:.3f}" in said
