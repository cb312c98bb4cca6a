"""Weights that are mostly zeros: a smaller file, the same bits when it is read, nothing that it says believed."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tiny_checkpoints import BERT, build

import gossamer as gs
from gossamer.checkpoints.compressed import COMPRESSED, compress, expand
from gossamer.errors import InputError
from gossamer.models import Model

NAME = "feed_forward.0.up.weight"


def sparse(shape: tuple[int, int], share: float, dtype: torch.dtype, seed: int) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    weight = torch.randn(shape, generator=random)
    weight[torch.rand(shape, generator=random) < share] = 0
    return weight.to(dtype)


@given(
    st.tuples(st.integers(1, 20), st.integers(1, 20)),
    st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16]),
    st.floats(0, 1),
    st.integers(0, 2**31),
)
def test_the_same_bits_come_back(shape: tuple[int, int], dtype: torch.dtype, share: float, seed: int) -> None:
    weight = sparse(shape, share, dtype, seed)
    if seed % 2:
        weight.view(-1)[0] = -0.0
    stored, metadata = compress({NAME: weight})
    is_sparse = float((weight == 0).sum()) / weight.numel() > 0.85
    assert (COMPRESSED in metadata) == is_sparse
    if is_sparse:
        back = expand(stored[f"{NAME}.nonzero"], stored[f"{NAME}.places"], shape)
        assert torch.equal(back.view(torch.uint8), weight.view(torch.uint8))
    else:
        assert stored[NAME] is weight


@pytest.fixture
def pruned() -> Model:
    """One map of single weights, one of none at all, a table of zeros that is no map, a bias of them."""
    model = build({**BERT, "intermediate_size": 64})
    with torch.no_grad():
        weight = model.get_submodule("feed_forward.0.up").weight
        weight.copy_(sparse(tuple(weight.shape), 0.9, torch.float32, 0))
        model.get_submodule("attention.1.query").weight.zero_()
        model.get_submodule("attention.1.query").bias.zero_()
        model.embeddings.word.weight.zero_()
    return model


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_is_saved_smaller_and_read_as_it_was(pruned: Model, tmp_path: Path, dtype: torch.dtype) -> None:
    pruned.to(dtype)
    public, own = (gs.save(pruned, tmp_path / name, family=name) for name in ("bert", "gossamer"))
    saved = [len((folder / "model.safetensors").read_bytes()) for folder in (public, own)]
    left = saved[0] - 0.7 * (64 * 8 + 8 * 8) * dtype.itemsize
    assert saved[1] < left
    again = gs.load(own)
    for name, tensor in pruned.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name])
    assert set(load_file(own / "model.safetensors")) - set(pruned.state_dict()) == {
        f"{name}.{ending}" for name in (NAME, "attention.1.query.weight") for ending in ("nonzero", "places")
    }
    assert gs.load(public).state_dict().keys() == pruned.state_dict().keys()


def test_the_receipt_says_what_they_bring(pruned: Model) -> None:
    _, receipt = gs.compact(pruned)
    assert "they bring no speed" in receipt.notes[0]
    assert receipt.notes[0].endswith("; Gossamer's own format writes 1 map above 85% zeros compressed")


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ("[]", "its metadata's 'compressed' is '[]'"),
        ("{", "its metadata's 'compressed' is '{'"),
        ({NAME: [64, 9]}, "of shape [64, 9] is compressed, and what it holds of it does not fit"),
        ({NAME: [64, -8]}, "of shape [64, -8] is compressed"),
        ({NAME: [2**40, 2**40]}, "is compressed"),
        ({NAME: 8}, "of shape 8 is compressed"),
        ({NAME: [64, 8], "embeddings.word.weight": [20, 8]}, "'embeddings.word.weight' of shape [20, 8] is comp"),
        ({NAME: [64, 8], "absent": [1, 1]}, "tensor 'absent' of shape [1, 1] is compressed"),
    ],
)  # fmt: skip
def test_what_the_file_says_wrongly_is_one_line(pruned: Model, tmp_path: Path, told: Any, said: str) -> None:
    refused(pruned, tmp_path, {}, told if isinstance(told, str) else json.dumps(told), said)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"places": torch.zeros(64, dtype=torch.uint8)}, f"tensor '{NAME}' cannot be read"),
        ({"places": torch.zeros(63, dtype=torch.uint8)}, "does not fit"),
        ({"places": torch.zeros(64)}, f"tensor '{NAME}' cannot be read"),
        ({"nonzero": torch.full((512,), math.nan), "places": torch.full((64,), 255, dtype=torch.uint8)}, "holds NaN"),
        ({"nonzero": torch.zeros(64 * 8 + 1)}, "does not fit"),
    ],
)  # fmt: skip
def test_damaged_tensors_are_one_line(pruned: Model, tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    told = json.dumps({NAME: [64, 8], "attention.1.query.weight": [8, 8]})
    refused(pruned, tmp_path, {f"{NAME}.{ending}": tensor for ending, tensor in changes.items()}, told, said)


def refused(model: Model, folder: Path, tensors: dict[str, Any], told: str, said: str) -> None:
    path = gs.save(model, folder / "own", family="gossamer") / "model.safetensors"
    (path.parent / "gossamer.json").unlink()
    save_file({**load_file(path), **tensors}, path, metadata={"format": "pt", COMPRESSED: told})
    with pytest.raises(InputError) as problem:
        gs.load(path.parent)
    assert said in str(problem.value)
    assert len(str(problem.value)) < 600
