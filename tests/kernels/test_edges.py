"""Where attention usually breaks: nothing to see, NaN where nobody may look, extreme scores, empty and odd shapes."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kernel_cases import OUTPUT_ERROR, Call, assert_same, check, poisoned, random_call, relative_error, run

from gossamer import Fixed, Full, Global, PerHead, Strided, Window, attend
from gossamer.patterns import Pattern

BACKENDS = ("reference", "dense", "blocked", "portable")
PATTERNS = (
    Full(),
    Full(causal=True),
    Window(9, 4),
    Window(3, 3, 2),
    Window(9, 4) | Global(),
    Global(),
    Strided(9) | Window(4, 4, 3),
    Fixed(9, 2) | Window(4, 4),
    PerHead((Fixed(16, 3, "summary"), 1), (Strided(7, "column"), 1)),
    PerHead((Full(), 1), (Window(40, 40) | Global(), 1)),
)
every_pattern = pytest.mark.parametrize("pattern", PATTERNS, ids=str)
every_backend = pytest.mark.parametrize("backend", BACKENDS)


def padded(pattern: Pattern, **options: object) -> Call:
    real = torch.rand(2, 70, generator=torch.Generator().manual_seed(3)) < 0.6
    return random_call(pattern, 70, key_mask=real, global_mask=torch.arange(70).expand(2, -1) % 20 == 1, **options)  # type: ignore[arg-type]


@every_backend
@every_pattern
def test_rows_that_see_nothing(pattern: Pattern, backend: str) -> None:
    """Output 0, log-sum-exp -inf, gradients 0; other texts of the batch are as if alone."""
    real = torch.ones(2, 70, dtype=torch.bool)
    real[0] = False
    call = random_call(pattern, 70, key_mask=real, global_mask=torch.ones(2, 70, dtype=torch.bool)).to(torch.float32)
    with poisoned():
        found = run(call, backend, return_lse=backend != "dense")
    assert not found.out[0].any()
    assert found.lse is None or found.lse[0].isneginf().all()
    assert all(not grad[0].any() and grad.isfinite().all() for grad in found.grads)
    assert found.out[1].any()


@every_backend
@pytest.mark.parametrize("junk", [float("nan"), -float("inf"), 3e38, 1e20])
@pytest.mark.parametrize("pattern", [Full(), PATTERNS[-1], PerHead((Global(), 1), (Window(3, 3, 2), 1))], ids=str)
def test_what_padding_holds_reaches_nobody(pattern: Pattern, junk: float, backend: str) -> None:
    call = padded(pattern).to(torch.float32)
    padding = ~call.options["key_mask"][:, None, :, None]
    dirty = replace(call, k=call.k.masked_fill(padding, junk), v=call.v.masked_fill(padding, junk))
    found, wanted = (run(one, backend, return_lse=backend != "dense") for one in (dirty, call))
    assert relative_error(found.out, wanted.out) < 1e-6
    assert relative_error(found.gradient, wanted.gradient) < 1e-6
    assert all(not grad.masked_select(padding).any() for grad in found.grads[1:])


@every_backend
@every_pattern
def test_a_nan_query_reaches_its_own_row_alone(pattern: Pattern, backend: str) -> None:
    call = replace(padded(pattern).to(torch.float32), grad_out=None)
    q = call.q.clone()
    q[0, 0, 33] = float("nan")
    found, wanted = (run(one, backend, return_lse=backend != "dense").out for one in (replace(call, q=q), call))
    others = torch.ones(found.shape[:3], dtype=torch.bool)
    others[0, 0, 33] = False
    assert relative_error(found[others], wanted[others]) < 1e-6


@pytest.mark.parametrize("factor", [1e2, 1e4, 1e8])
@pytest.mark.parametrize("pattern", PATTERNS[-1:] + PATTERNS[1:4:2], ids=str)
def test_large_scores(pattern: Pattern, factor: float) -> None:
    """One key takes it all; log-sum-exps as large as the scores, gradients (nearly) of the values alone."""
    call = padded(pattern)
    call = replace(call, q=call.q * factor, grad_lse=None)
    # A score's rounding is its size times 1e-16, and so is that of every probability.
    for backend in ("blocked", "portable"):
        assert_same(run(call, backend), run(call, "reference"), 1e-14 * factor, 1e-13 * factor)
    found, wanted = (
        run(call.to(dtype), one) for dtype, one in ((torch.float32, "blocked"), (torch.float64, "reference"))
    )
    assert all(x.isfinite().all() for x in (found.out, *found.grads))
    assert factor > 1e2 or relative_error(found.out, wanted.out) < 1e-4


@pytest.mark.parametrize("backend", ["dense", "blocked", "portable"])
@every_pattern
def test_equal_scores_average_the_values(pattern: Pattern, backend: str) -> None:
    call = padded(pattern)
    call = replace(call, q=torch.ones_like(call.q), k=torch.full_like(call.k, -3.0))
    for dtype in (torch.float64, torch.float32):
        check(call, backend, dtype, return_lse=backend != "dense")


@pytest.mark.parametrize("size", [1, 3, 24, 100, 256])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_head_sizes(size: int, dtype: torch.dtype) -> None:
    call = random_call(Window(9, 4) | Global(), 90, size=size, global_mask=torch.arange(90).expand(2, -1) == 7)
    check(call, "blocked", dtype)


@every_backend
@every_pattern
def test_empty_shapes(pattern: Pattern, backend: str) -> None:
    for batch, queries, keys in ((0, 5, 5), (2, 0, 6), (2, 6, 0), (1, 0, 0)):
        call = random_call(pattern, queries, keys, batch=batch, global_mask=torch.ones(batch, keys, dtype=torch.bool))
        with poisoned():
            found = run(call, backend, return_lse=backend != "dense")
        assert found.out.shape == call.q.shape
        assert not found.out.any()
        assert found.lse is None or found.lse.isneginf().all()
        assert not found.gradient.any()


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 60) | st.integers(0, 2000))
def test_queries_far_beyond_the_keys(queries: int, keys: int, start: int) -> None:
    """Cross attention with a window: whole texts of queries may see nothing."""
    for pattern in (Window(30, 5), Window(5, 5, 4), Full(causal=True)):
        call = random_call(pattern, queries, keys, batch=1, query_start=start)
        check(call, "blocked", torch.float64)
        check(call, "portable", torch.float64)


def test_windows_and_dilations_beyond_any_text() -> None:
    for pattern in (Window(2**31 - 1, 2**31 - 1), Window(10**6, 0), Window(3, 3, 2**31 - 1)):
        call = random_call(pattern, 50)
        check(call, "blocked", torch.float64)
        check(call, "dense", torch.float64, return_lse=False)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@every_pattern
def test_half_precision(pattern: Pattern, dtype: torch.dtype) -> None:
    """Rounded once at the end: within one unit of the last place of the float64 result's rounding, on the whole."""
    call = padded(pattern).to(dtype)
    wanted = run(call.to(torch.float64), "reference")
    found = run(call, "blocked")
    assert found.out.dtype == dtype
    assert found.lse is not None
    assert found.lse.dtype == torch.float32
    unit = torch.finfo(dtype).eps
    assert relative_error(found.out, wanted.out) < unit
    assert relative_error(found.gradient, wanted.gradient) < 2 * unit


@every_pattern
def test_the_log_sum_exp_alone(pattern: Pattern) -> None:
    """A gradient may come back for the log-sum-exp only."""
    call = padded(pattern)
    check(replace(call, grad_out=torch.zeros_like(call.q)), "blocked", torch.float64)
    q = call.q.requires_grad_()
    _, lse = attend(q, call.k, call.v, pattern, backend="blocked", return_lse=True, **call.options)
    lse.masked_fill(lse.isneginf(), 0).sum().backward()
    assert q.grad is not None
    assert q.grad.isfinite().all()


def test_an_output_nobody_uses_costs_nothing() -> None:
    call = random_call(Window(3, 3), 20)
    q = call.q.requires_grad_()
    attend(q, call.k, call.v, call.pattern, backend="blocked")
    out, lse = attend(q, call.k, call.v, call.pattern, backend="blocked", return_lse=True)
    assert out.requires_grad
    assert lse.requires_grad


def test_pieces_of_the_keys_merge_by_log_sum_exp() -> None:
    """What return_lse is for: two halves of the keys, merged outside, equal the whole; gradients too."""
    call = random_call(Full(), 30, 50)
    tensors = [x.requires_grad_() for x in (call.q, call.k, call.v)]
    q, k, v = tensors
    halves = [
        attend(q, k[:, :, part], v[:, :, part], Full(), backend="blocked", return_lse=True)
        for part in (slice(0, 20), slice(20, 50))
    ]
    lse = torch.stack([one for _, one in halves])
    out = (torch.stack([one for one, _ in halves]) * lse.softmax(0)[..., None]).sum(0)
    whole = attend(q, k, v, Full(), backend="reference")
    assert relative_error(out, whole) < OUTPUT_ERROR[torch.float64]
    found, wanted = (torch.autograd.grad(one, tensors, call.grad_out) for one in (out, whole))
    for one, other in zip(found, wanted, strict=True):
        assert relative_error(one, other) < 1e-12


def test_nothing_in_place() -> None:
    """Inputs are left as they were."""
    call = padded(Window(9, 4) | Global())
    before = [x.clone() for x in (call.q, call.k, call.v, *call.options.values())]
    assert_same(run(call, "blocked"), run(call, "blocked"), 0.0, 0.0)
    after = [call.q, call.k, call.v, *call.options.values()]
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
