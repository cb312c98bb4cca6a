"""Norms against what they are defined to be, in float64."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from gossamer.layers import RMSNorm, build_norm
from gossamer.models import Norm
from gossamer.models.building import norm_module


def by_hand(norm: Norm, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    centred = x - x.mean(dim=-1, keepdim=True) if norm.kind == "layer" else x
    mean_square = (centred * centred).sum(dim=-1, keepdim=True) / x.shape[-1]
    scaled = centred / (mean_square + norm.eps).sqrt() * (norm.offset + weight)
    return scaled if bias is None else scaled + bias


NORMS = st.one_of(
    st.builds(Norm, eps=st.floats(1e-8, 1e-1), bias=st.booleans()),
    st.builds(
        Norm, kind=st.just("rms"), eps=st.floats(1e-8, 1e-1), bias=st.just(False), offset=st.sampled_from([0.0, 1.0])
    ),
)


def with_weights(module: nn.Module) -> nn.Module:
    with torch.no_grad():
        for one in module.parameters():
            one.add_(torch.randn_like(one))
    return module


@given(norm=NORMS, size=st.integers(1, 9), seed=st.integers(0, 99))
def test_values_and_gradients_are_the_definition_s(norm: Norm, size: int, seed: int) -> None:
    torch.manual_seed(seed)
    module = with_weights(norm_module(norm, size).double())
    weights = dict(module.named_parameters())
    assert set(weights) == ({"weight", "bias"} if norm.bias else {"weight"})
    x = torch.randn(2, 3, size, dtype=torch.float64, requires_grad=True)
    inputs = (x, *weights.values())
    mine, expected = module(x), by_hand(norm, x, weights["weight"], weights.get("bias"))
    torch.testing.assert_close(mine, expected, rtol=1e-9, atol=1e-12)
    one, other = (torch.autograd.grad(out.square().sum(), inputs) for out in (mine, expected))
    torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_fresh_weights_change_nothing(offset: float) -> None:
    module = RMSNorm(6, eps=1e-12, offset=offset)
    x = torch.tensor([[1.0, -1.0, 1.0, -1.0, 1.0, 1.0]])
    torch.testing.assert_close(module(x), x)
    assert module.weight.tolist() == [1.0 - offset] * 6


def test_half_precision_is_computed_in_float32() -> None:
    """The squares of these are beyond float16's largest number."""
    x = torch.full((1, 8), 300.0, dtype=torch.float16)
    module = build_norm(8, kind="rms", eps=1e-6, bias=False, offset=0.0).half()
    torch.testing.assert_close(module(x), torch.ones_like(x))
