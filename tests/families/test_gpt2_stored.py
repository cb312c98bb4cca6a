"""Several tensors in one and matrices the other way round: both directions, from one description."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gossamer.families import get_family
from gossamer.families.stored import StoredTensor

NAMES = ("first", "second", "third")


@st.composite
def several(draw: st.DrawFn) -> tuple[StoredTensor, dict[str, torch.Tensor]]:
    columns = draw(st.none() | st.integers(1, 4))
    names = NAMES[: draw(st.integers(1, 3))]
    rows = {name: draw(st.integers(1, 5)) for name in names}
    shapes = {name: (count,) if columns is None else (count, columns) for name, count in rows.items()}
    random = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    tensors = {name: torch.randn(shape, generator=random) for name, shape in shapes.items()}
    return StoredTensor(ours=names, transposed=draw(st.booleans())), tensors


@given(several())
def test_what_is_joined_is_split_again_bit_for_bit(drawn: tuple[StoredTensor, dict[str, torch.Tensor]]) -> None:
    stored, tensors = drawn
    shapes = {name: tuple(one.shape) for name, one in tensors.items()}
    whole = stored.join(tensors)
    assert whole.is_contiguous()
    assert tuple(whole.shape) == stored.shape(shapes)
    again = stored.split(whole.clone(), shapes)
    assert again.keys() == tensors.keys()
    for name, one in again.items():
        assert torch.equal(one, tensors[name])
        assert one.is_contiguous()
        # Memory of its own: no view that keeps the whole alive.
        assert one.untyped_storage().nbytes() == one.numel() * one.element_size()


def test_parts_lie_along_the_outputs() -> None:
    stored = StoredTensor(ours=("query", "key"), transposed=True)
    query, key = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0], [5.0, 6.0]])
    whole = stored.join({"query": query, "key": key})
    assert whole.tolist() == [[1.0, 3.0, 5.0], [2.0, 4.0, 6.0]]


def test_a_joined_tensor_is_not_the_models_own() -> None:
    weight = torch.zeros(2, 3)
    StoredTensor(ours=("weight",)).join({"weight": weight})[0, 0] = 1
    StoredTensor(ours=("weight",), transposed=True).join({"weight": weight})[0, 0] = 1
    assert weight.count_nonzero() == 0


@pytest.mark.parametrize("kind", ["weight", "bias"])
def test_gpt2_keeps_query_key_and_value_in_one(kind: str) -> None:
    form = get_family("gpt2")
    architecture = form.read({"n_layer": 2})
    ours = [f"attention.1.{part}.{kind}" for part in ("value", "query", "output", "key")]
    stored = form.stored(ours, architecture)
    assert stored == {
        f"h.1.attn.c_attn.{kind}": StoredTensor(ours=(ours[1], ours[3], ours[0]), transposed=True),
        f"h.1.attn.c_proj.{kind}": StoredTensor(ours=(ours[2],), transposed=True),
    }
    assert form.names(ours, architecture)[ours[3]] == (f"h.1.attn.c_attn.{kind}",)
