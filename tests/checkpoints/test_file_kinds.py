"""Every family in every kind of file: the same model, and a load, a save and a load change no bit."""

import json
from pathlib import Path

import pytest
import torch
from fuzz_templates import FAMILIES, from_transformers, outputs
from safetensors.torch import load_file, save_file
from tiny_checkpoints import same
from torch import Tensor

import gossamer as gs
from gossamer.models import Model, SentenceEmbedding

STORAGES = ["safetensors", "sharded safetensors", "bin", "sharded bin", "old bin"]


def write(name: str, directory: Path, storage: str = "safetensors") -> Path:
    torch.manual_seed(0)
    from_transformers(name, directory, storage)
    return directory


def as_sentence_folder(directory: Path, old: bool) -> None:
    """Add sentence-transformers' files; in the old layout the encoder moves to a folder of its own."""
    if old:
        inner = directory / "0_Transformer"
        inner.mkdir()
        for file in [one for one in directory.iterdir() if one.is_file()]:
            file.rename(inner / file.name)
        (directory / "config.json").write_text('{"__version__": "0.3.8"}')
    kinds = {"0_Transformer" if old else "": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"}
    modules = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in kinds.items()]
    (directory / "modules.json").write_text(json.dumps(modules))
    (directory / "1_Pooling").mkdir()
    (directory / "1_Pooling" / "config.json").write_text('{"pooling_mode_max_tokens": true}')


def check_round_trip(model: Model, place: Path) -> None:
    """Saved and read it is the same to the bit, and saved once more the same files."""
    first = gs.save(model, place / "first")
    again = gs.load(first)
    assert again.architecture == model.architecture
    assert again.family == model.family
    assert same(again, model)
    assert {one.dtype for one in again.parameters()} == {one.dtype for one in model.parameters()}
    ours, theirs = outputs(again), outputs(model)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(one, theirs[name]) for name, one in ours.items())
    second = gs.save(again, place / "second")
    for file in ("model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"):
        assert (first / file).read_bytes() == (second / file).read_bytes(), file


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("name", FAMILIES)
def test_every_kind_of_file_holds_the_same_model(name: str, storage: str, tmp_path: Path) -> None:
    expected = gs.load(write(name, tmp_path / "plain"))
    found = gs.load(write(name, tmp_path / "model", storage))
    assert found.architecture == expected.architecture
    assert same(found, expected)
    assert not same(found, gs.load(spoil(tmp_path / "plain")))
    check_round_trip(found, tmp_path)


def spoil(directory: Path) -> Path:
    """Change one bit of one number."""
    path = directory / "model.safetensors"
    tensors = load_file(path)
    norms = ("LayerNorm.weight", "layer_norm.weight", "ln_1.weight", "input_layernorm.weight", "mlp_norm.weight")
    name = next(one for one in sorted(tensors) if one.endswith(norms))
    bits = tensors[name].view(torch.int32)
    bits[0] ^= 1
    save_file(tensors, path)
    return directory


@pytest.mark.parametrize("old", [False, True], ids=["new layout", "old layout"])
@pytest.mark.parametrize("storage", ["safetensors", "sharded bin"])
@pytest.mark.parametrize("name", FAMILIES)
def test_sentence_folder_of_every_family(name: str, storage: str, old: bool, tmp_path: Path) -> None:
    expected = gs.load(write(name, tmp_path / "plain"), head="none")
    as_sentence_folder(write(name, tmp_path / "model", storage), old)
    found = gs.load(tmp_path / "model")
    assert found.architecture.head == SentenceEmbedding(pooling="max", normalized=True)
    assert found.tokenizer is not None
    state: dict[str, Tensor] = found.state_dict()
    assert all(torch.equal(state[key], one) for key, one in expected.state_dict().items() if key in state)
    assert same(gs.load(tmp_path / "model", head="none"), expected)
    check_round_trip(found, tmp_path)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
@pytest.mark.parametrize("name", FAMILIES)
def test_every_type_survives(name: str, dtype: str, tmp_path: Path) -> None:
    model = gs.load(write(name, tmp_path / "plain"), dtype=dtype)
    again = gs.load(gs.save(model, tmp_path / "copy"))
    assert same(again, model)
    assert {one.dtype for one in again.parameters()} == {getattr(torch, dtype)}
