"""Dropout: counted, not stored; the same probabilities fall on every backend, at the right rate."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kernel_cases import check, random_call, run

from gossamer import Full, Global, Window, attend
from gossamer.kernels.dropout import keep_mask


def kept(
    rate: float, seed: int = 0, batch: int = 2, heads: int = 3, queries: int = 200, keys: int = 300
) -> torch.Tensor:
    b, h, q, k = (torch.arange(n) for n in (batch, heads, queries, keys))
    return keep_mask(rate, torch.tensor(seed), b[:, None, None, None], h[:, None, None], q[:, None], k)


@given(st.sampled_from([0.01, 0.1, 0.5, 0.9]), st.integers(-(2**62), 2**62))
def test_rate(rate: float, seed: int) -> None:
    """Within five standard deviations: of everything, of every row and of every column."""
    mask = kept(rate, seed).double()
    assert mask.mean().item() == pytest.approx(1 - rate, abs=5 * (rate * (1 - rate) / mask.numel()) ** 0.5)
    for dim in (0, 1, 2, 3):
        means = mask.mean([d for d in range(4) if d != dim])
        spread = (rate * (1 - rate) * len(means) / mask.numel()) ** 0.5
        assert (means - (1 - rate)).abs().max() < 6 * spread


def test_every_coordinate_matters() -> None:
    mask = kept(0.5)
    for dim, name in enumerate(("batch", "head", "query", "key")):
        one, other = mask.unbind(dim)[:2]
        assert (one == other).double().mean() == pytest.approx(0.5, abs=0.1), name
    assert (mask == kept(0.5, seed=1)).double().mean() == pytest.approx(0.5, abs=0.01)


def test_neighbouring_rows_do_not_follow_one_another() -> None:
    """No shift of one row is another row: the masks of (query, key) and (query + 1, key + 1) are independent."""
    mask = kept(0.5)[0, 0]
    for shift in range(1, 20):
        same = (mask[:-shift, :-shift] == mask[shift:, shift:]).double().mean()
        assert same == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("pattern", [Window(20, 9), Window(9, 9) | Global(), Full(causal=True), Window(4, 4, 3)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_blocked_drops_what_the_reference_drops(pattern: object, dtype: torch.dtype) -> None:
    flags = torch.arange(150).expand(2, -1) % 40 == 2
    call = random_call(pattern, 150, heads=4, key_heads=2, global_mask=flags)  # type: ignore[arg-type]
    check(call.with_options(dropout=0.4, seed=11), "blocked", dtype)


def test_what_is_kept_is_scaled_up() -> None:
    """The mean over many seeds is the output without dropout."""
    call = random_call(Window(5, 5), 40, batch=1, heads=1)
    plain = run(call, "blocked").out
    drawn = torch.stack([run(call.with_options(dropout=0.3, seed=seed), "blocked").out for seed in range(300)])
    spread = drawn.std(0) / 300**0.5
    assert ((drawn.mean(0) - plain).abs() / spread).mean() < 1.0  # 0.8 for a normal distribution


def test_the_log_sum_exp_knows_no_dropout() -> None:
    call = random_call(Window(5, 5), 40)
    assert torch.equal(run(call, "blocked").lse, run(call.with_options(dropout=0.5, seed=1), "blocked").lse)


def test_seeds() -> None:
    call = random_call(Window(5, 5), 40)

    def out(seed: object) -> torch.Tensor:
        return attend(call.q, call.k, call.v, call.pattern, dropout=0.5, seed=seed)  # type: ignore[call-overload]

    assert torch.equal(out(7), out(torch.tensor(7)))
    assert torch.equal(out(7), out(torch.tensor([7], dtype=torch.int32)))
    assert torch.equal(out(-1), out(2**32 - 1))
    assert not torch.equal(out(7), out(8))
    assert not torch.equal(out(None), out(None))
    torch.manual_seed(0)
    first = out(None)
    torch.manual_seed(0)
    assert torch.equal(first, out(None))


def test_half_precision_drops_the_same() -> None:
    call = random_call(Window(5, 5), 40).with_options(dropout=0.5, seed=3)
    for dtype in (torch.bfloat16, torch.float16):
        found, wanted = (run(call.to(dtype), one) for one in ("blocked", "reference"))
        assert torch.allclose(found.out, wanted.out, atol=1e-3, rtol=1e-2)
        assert torch.allclose(found.gradient, wanted.gradient, atol=2e-2, rtol=2e-2)
