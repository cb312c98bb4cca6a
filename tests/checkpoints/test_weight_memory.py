"""Where weights lie in memory once they are read, and how much memory reading them takes."""

from pathlib import Path

import pytest
import torch
from fuzz_templates import FAMILIES, from_transformers, outputs, serialised
from safetensors.torch import load_file
from tiny_checkpoints import BERT, write

import gossamer as gs
from gossamer.models import MaskedLM

ALIGNED = 64  # bytes, as torch's own allocator aligns: a product may differ in its last bits where a matrix lies else
DTYPES = ["float32", "float16", "bfloat16", "float64"]


def check_own_memory(model: torch.nn.Module) -> None:
    """That every tensor begins where torch would have put it, in memory that holds nothing else."""
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    assert tensors
    for name, tensor in tensors.items():
        assert tensor.data_ptr() % ALIGNED == 0, name
        assert tensor.is_contiguous(), name
        assert tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size(), name


@pytest.mark.parametrize("storage", ["safetensors", "sharded safetensors", "bin", "sharded bin", "old bin"])
@pytest.mark.parametrize("name", FAMILIES)
def test_weights_lie_where_torch_would_put_them(name: str, storage: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    from_transformers(name, tmp_path, storage)
    model, again = gs.load(tmp_path), gs.load(tmp_path)
    check_own_memory(model)
    found = outputs(again)
    assert all(torch.equal(one, found[key]) for key, one in outputs(model).items())


@pytest.mark.parametrize(("stored", "wanted"), [*((one, one) for one in DTYPES), ("bfloat16", "float32")])
@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_of_every_type_they_do(stored: str, wanted: str, kind: str, tmp_path: Path) -> None:
    """A header of any length comes before the numbers, so that those of two bytes begin anywhere."""
    torch.manual_seed(0)
    from_transformers("gpt2", tmp_path, "safetensors")
    tensors = load_file(tmp_path / "model.safetensors")
    content = serialised({name: one.to(getattr(torch, stored)) for name, one in tensors.items()}, kind)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / ("model.safetensors" if kind == "safetensors" else "pytorch_model.bin")).write_bytes(content)
    check_own_memory(gs.load(tmp_path, dtype=wanted))


def test_so_do_drawn_and_untied_ones(tmp_path: Path) -> None:
    write(tmp_path / "model", BERT)
    check_own_memory(gs.load(tmp_path / "model", head=MaskedLM(tied=False)))


def most_allocated(directory: Path, mapped: int, **options: str) -> int:
    """Bytes that torch held at once while a checkpoint was read; what is of a mapped file's size is no memory."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiled:
        model = gs.load(directory, **options)
    assert model
    events = profiled.profiler.kineto_results.events()  # type: ignore[union-attr]
    changes = sorted((one.start_ns(), one.nbytes()) for one in events if one.name() == "[memory]")
    held = most = 0
    for _, change in changes:
        held += change if abs(change) < mapped else 0
        most = max(most, held)
    return most


@pytest.mark.parametrize(("storage", "dtype"), [("safetensors", "float16"), ("bin", "float64"), ("old bin", "float32")])
def test_no_second_copy_of_the_model_is_held(storage: str, dtype: str, tmp_path: Path) -> None:
    """Beside the model there is no more than a few tensors of it, though the file has another type or is not mapped."""
    config = {**BERT, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 24}
    write(tmp_path, config)
    tensors = load_file(tmp_path / "model.safetensors")
    size = sum(one.numel() for one in tensors.values())
    if storage != "safetensors":
        (tmp_path / "model.safetensors").unlink()
        (tmp_path / "pytorch_model.bin").write_bytes(serialised(tensors, storage))
    larger = max(4, torch.empty(0, dtype=getattr(torch, dtype)).element_size())
    assert most_allocated(tmp_path, mapped=4 * size, dtype=dtype) < 1.25 * larger * size
