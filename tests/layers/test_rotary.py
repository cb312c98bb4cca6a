"""Rotary positions against turns of complex numbers, and what they are for: scores know distances alone."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gossamer.layers import SelfAttention, TokenInfo, rotation
from gossamer.patterns import Full, Window


def turned_by_hand(x: Tensor, positions: Tensor, columns: int, base: float) -> Tensor:
    """Column i and column i + columns / 2 as one complex number, turned by position * base ** (-2 i / columns)."""
    half = columns // 2
    rates = torch.tensor([base ** (-2 * i / columns) for i in range(half)], dtype=torch.float64)
    turns = torch.polar(torch.ones(()).double(), positions[:, None, :, None].double() * rates)
    turned = torch.complex(x[..., :half], x[..., half:columns]) * turns
    return torch.cat([turned.real, turned.imag, x[..., columns:]], dim=-1)


@given(
    size=st.integers(2, 9),
    pairs=st.integers(1, 4),
    base=st.sampled_from([10.0, 1e4, 5e5]),
    rows=st.integers(1, 2),
    seed=st.integers(0, 99),
)
def test_turns_are_those_of_complex_numbers(size: int, pairs: int, base: float, rows: int, seed: int) -> None:
    """Angles are in float32 (as in `transformers`), hence the bound: positions up to 500 times its last digit."""
    generator = torch.Generator().manual_seed(seed)
    columns = 2 * min(pairs, size // 2)
    x = torch.randn(2, 3, 5, size, generator=generator, dtype=torch.float64)
    positions = torch.randint(0, 500, (rows, 5), generator=generator)
    found = rotation(positions, columns, base, torch.float64).turn(x)
    torch.testing.assert_close(found, turned_by_hand(x, positions, columns, base), rtol=0, atol=500 * 2**-22)
    assert torch.equal(found[..., columns:], x[..., columns:])


def attention(**changes: object) -> SelfAttention:
    torch.manual_seed(0)
    return SelfAttention(6, 4, 4, norm=torch.nn.LayerNorm(6), **changes).double()  # type: ignore[arg-type]


@given(shift=st.integers(0, 300), seed=st.integers(0, 99))
def test_only_distances_count(shift: int, seed: int) -> None:
    layer, hidden = attention(), torch.randn(1, 7, 6, generator=torch.Generator().manual_seed(seed)).double()
    positions = torch.arange(7)[None]
    near, far = (
        layer(hidden, Full(causal=True), TokenInfo(), rotation=rotation(one, 4, 1e4, torch.float64))
        for one in (positions, positions + shift)
    )
    torch.testing.assert_close(near, far, rtol=0, atol=1e-4)
    other = layer(hidden, Full(causal=True), TokenInfo(), rotation=rotation(2 * positions, 4, 1e4, torch.float64))
    assert not torch.allclose(near, other, atol=1e-4)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("pattern", [Full(), Full(causal=True), Window(2, 1)], ids=str)
def test_fewer_key_heads_are_repeated_ones(pattern: Full | Window, bias: bool) -> None:
    """Each key head stands for the query heads that share it."""
    few, many = attention(key_heads=2, bias=bias, output_bias=bias), attention(bias=bias, output_bias=bias)
    assert few.key.weight.shape == (8, 6)
    assert all((one.bias is None) == (not bias) for one in (few.query, few.key, few.value, few.output))
    state = few.state_dict()
    repeated = {
        name: one.unflatten(0, (2, 4)).repeat_interleave(2, dim=0).flatten(0, 1)
        if name.startswith(("key", "val"))
        else one
        for name, one in state.items()
    }
    many.load_state_dict(repeated)
    hidden = torch.randn(2, 9, 6, dtype=torch.float64)
    turned = rotation(torch.arange(9)[None], 2, 1e4, torch.float64)
    one, other = (layer(hidden, pattern, TokenInfo(), rotation=turned) for layer in (few, many))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_heads_are_normalised_before_they_turn() -> None:
    """Their sizes then say nothing."""
    norms = {name: torch.nn.RMSNorm(4, eps=1e-12) for name in ("query_norm", "key_norm")}
    layer, hidden = attention(bias=False, **norms), torch.randn(1, 6, 6, dtype=torch.float64)
    turned = rotation(torch.arange(6)[None], 4, 1e4, torch.float64)
    before = layer(hidden, Full(), TokenInfo(), rotation=turned)
    with torch.no_grad():
        layer.query.weight.mul_(5.0)
        layer.key.weight.mul_(0.1)
    torch.testing.assert_close(layer(hidden, Full(), TokenInfo(), rotation=turned), before, rtol=1e-7, atol=1e-9)
