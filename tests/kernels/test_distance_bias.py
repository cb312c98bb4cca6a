"""A table by distance, added to the scores: against the same numbers as a dense bias, with its gradient."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kernel_cases import Call, calls, random_call, relative_error, run
from torch import Tensor
from torch.autograd import forward_ad

from gossamer import Full, Global, Hashed, Window, attend, explain
from gossamer.errors import InputError
from gossamer.kernels import attention_rows, top_keys
from gossamer.kernels.distance_bias import DistanceBias

LENGTHS = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 3e-3}


def looked_up(table: Tensor, before: int, q_positions: Tensor, k_positions: Tensor) -> Tensor:
    """[batch, heads, queries, keys], by masks: one for each column, those at the ends open to one side."""
    distance = k_positions[:, None, None, :] - q_positions[:, None, :, None]
    after = table.shape[1] - 1 - before
    total = torch.zeros((), dtype=table.dtype)
    for column, at in enumerate(range(-before, after + 1)):
        is_there = distance == at
        if at == -before:
            is_there = is_there | (distance < at)
        if at == after:
            is_there = is_there | (distance > at)
        total = total + is_there * table[:, column, None, None]
    return total


def positions_of(call: Call) -> tuple[Tensor, Tensor]:
    """[batch, queries] and [batch, keys]."""
    given, start = call.options.get("positions"), call.options.get("query_start", 0)
    batch, _, queries, _ = call.q.shape
    if given is not None:
        return given, given
    first = start[:, None] if isinstance(start, Tensor) else start
    return (torch.arange(queries) + first).expand(batch, -1), torch.arange(call.k.shape[2]).expand(batch, -1)


def gradients(call: Call, table: Tensor, total_of: Any) -> tuple[Tensor, list[Tensor]]:
    """The output, and the gradients of q, k, v and of the table."""
    leaves = [x.detach().clone().requires_grad_() for x in (call.q, call.k, call.v, table)]
    out = total_of(*leaves)
    return out.detach(), list(torch.autograd.grad((out * call.grad_out).sum(), leaves, allow_unused=True))


def defined(call: Call, table: Tensor, before: int) -> tuple[Tensor, list[Tensor]]:
    """By the reference, from a dense bias."""
    at = positions_of(call)
    options = dict(call.options)
    other = options.pop("bias", 0)
    return gradients(
        call, table, lambda q, k, v, t: attend(
            q, k, v, call.pattern, backend="reference", bias=looked_up(t, before, *at) + other, **options
        )
    )  # fmt: skip


def compare(call: Call, table: Tensor, before: int, backend: str, bound: float) -> None:
    exact = call.to(torch.float64)
    wanted, wanted_grads = defined(exact, table.double(), before)
    found, grads = gradients(
        call, table, lambda q, k, v, t: attend(
            q, k, v, call.pattern, backend=backend, distance_bias=(t, before), **call.options
        )
    )  # fmt: skip
    assert found.dtype == call.q.dtype
    assert relative_error(found, wanted) <= bound
    for grad, right in zip(grads, wanted_grads, strict=True):
        assert grad.dtype in (call.q.dtype, table.dtype)
        assert (grad.double() - right).norm() <= bound * max(1.0, right.norm().item())


@given(calls(dropout=False, bias=True), st.data())
def test_a_table_is_the_bias_of_its_distances(call: Call, data: st.DataObject) -> None:
    columns = data.draw(st.sampled_from([1, 2, 9, 40]))
    before = data.draw(st.integers(0, columns - 1))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 10**6)))
    table = torch.randn(call.q.shape[1], columns, generator=generator, dtype=torch.float64)
    compare(call, table, before, data.draw(st.sampled_from(["auto", "dense", "reference"])), 1e-11)
    said = explain(call.q, call.k, call.v, call.pattern, distance_bias=(table, before), **call.options)
    assert said.backend in ("dense", "blocked")
    given = replace(call, options={**call.options, "distance_bias": (table, before)})
    wanted = run(given, "reference", return_lse=False).out
    rows = attention_rows(call.q, call.k, call.pattern, range(call.q.shape[2]), **given.options)
    v = call.v if "key_mask" not in call.options else call.v * call.options["key_mask"][:, None, :, None]
    shared = v.repeat_interleave(call.q.shape[1] // v.shape[1], 1)
    assert relative_error(rows @ shared, wanted) <= 1e-11
    count = min(3, call.k.shape[2])
    best = top_keys(call.q, call.k, call.pattern, count, **given.options)
    torch.testing.assert_close(best.weights, rows.topk(count).values, rtol=0, atol=1e-12)


@pytest.mark.parametrize("pattern", [Full(), Full(causal=True), Window(3, 5)], ids=str)
def test_each_text_has_an_offset_of_its_own(pattern: Any) -> None:
    call = random_call(pattern, 7, 12, batch=3, query_start=torch.tensor([0, 5, -2]))
    table = torch.randn(2, 11, dtype=torch.float64)
    for backend in ("auto", "dense", "reference"):
        compare(call, table, 6, backend, 1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["its own", "float32"])
def test_in_every_precision(dtype: torch.dtype, kind: str) -> None:
    call = random_call(Window(40, 40), 90, heads=4, key_heads=2, size=16).to(dtype)
    table = torch.randn(4, 61, generator=torch.Generator().manual_seed(1)).to(dtype if kind == "its own" else None)
    for backend in ("auto", "dense", "reference"):
        compare(call, table, 30, backend, LENGTHS[dtype])


def t5_bucket(distance: int, buckets: int, farthest: int, both: bool) -> int:
    """Raffel et al. 2020, section 2.1, as in the authors' `_relative_position_bucket`; distance is key less query."""
    offset = 0
    if both:
        buckets //= 2
        offset = buckets if distance > 0 else 0
        distance = abs(distance)
    else:
        distance = max(0, -distance)
    exact = buckets // 2
    if distance < exact:
        return offset + distance
    grown = exact + int(math.log(distance / exact) / math.log(farthest / exact) * (buckets - exact))
    return offset + min(grown, buckets - 1)


@pytest.mark.parametrize("both", [True, False])
def test_the_buckets_of_t5_are_columns_that_are_alike(both: bool) -> None:
    """Beyond `farthest` all distances share a bucket, so the table ends there; the buckets get their gradients."""
    heads, buckets, farthest, length = 3, 32, 128, 200
    call = random_call(Full(causal=not both), length, heads=heads, batch=1)
    after = farthest if both else 0
    column_of = torch.tensor([t5_bucket(one, buckets, farthest, both) for one in range(-farthest, after + 1)])
    every = torch.tensor([[t5_bucket(j - i, buckets, farthest, both) for j in range(length)] for i in range(length)])
    embedding = torch.randn(buckets, heads, dtype=torch.float64)
    wanted, wanted_grads = gradients(
        call, embedding, lambda q, k, v, t: attend(q, k, v, call.pattern, bias=t[every].permute(2, 0, 1))
    )
    found, grads = gradients(
        call, embedding, lambda q, k, v, t: attend(q, k, v, call.pattern, distance_bias=(t[column_of].T, farthest))
    )
    assert relative_error(found, wanted) < 1e-12
    assert all(relative_error(one, right) < 1e-12 for one, right in zip(grads, wanted_grads, strict=True))


def test_alibi_is_a_table() -> None:
    """Press et al. 2022 (arXiv 2108.12409), section 3: slopes of a geometric sequence times the distance."""
    heads, length = 4, 60
    call = random_call(Full(causal=True), length, heads=heads, batch=1)
    slopes = 2.0 ** (-8 * torch.arange(1, heads + 1, dtype=torch.float64) / heads)
    table = slopes[:, None] * torch.arange(-(length - 1), 1)
    dense = slopes[:, None, None] * (torch.arange(length)[None] - torch.arange(length)[:, None])
    for backend in ("auto", "reference"):
        found = attend(call.q, call.k, call.v, call.pattern, distance_bias=(table, length - 1), backend=backend)
        wanted = attend(call.q, call.k, call.v, call.pattern, bias=dense, backend="reference")
        assert relative_error(found, wanted) < 1e-12


def test_distances_may_be_of_other_positions_than_the_pattern_reads() -> None:
    call = random_call(Window(2, 2), 9, heads=2)
    own = torch.randint(0, 30, (2, 9), generator=torch.Generator().manual_seed(0))
    table = torch.randn(2, 21, dtype=torch.float64)
    value = DistanceBias(table=table, before=10, positions=(own, own))
    wanted = attend(call.q, call.k, call.v, call.pattern, bias=looked_up(table, 10, own, own))
    assert relative_error(attend(call.q, call.k, call.v, call.pattern, distance_bias=value), wanted) < 1e-12
    rows = attention_rows(call.q, call.k, call.pattern, range(9), distance_bias=value)
    assert relative_error(rows @ call.v, wanted) < 1e-12


def test_only_minus_infinity_hides() -> None:
    call = random_call(Full(), 5, heads=1, batch=1)
    lowest = torch.finfo(torch.float64).min
    table = torch.tensor([[0.0, float("-inf"), lowest]], dtype=torch.float64)  # behind, itself, ahead
    bias = torch.full((1, 1, 5, 5), lowest, dtype=torch.float64)
    for backend in ("auto", "reference"):
        out = attend(call.q, call.k, call.v, call.pattern, distance_bias=(table, 1), backend=backend)
        torch.testing.assert_close(out[0, 0, 1], call.v[0, 0, 0])
        both = attend(call.q, call.k, call.v, call.pattern, bias=bias, distance_bias=(table, 1), backend=backend)
        assert both.isfinite().all()
        assert (both.norm(dim=-1) > 0).all()


def test_where_log_sum_exp_or_dropout_are_asked_for() -> None:
    call = random_call(Window(4, 4) | Global(), 20, global_mask=torch.arange(20).expand(2, -1) == 3)
    table = torch.randn(2, 7, dtype=torch.float64)
    given = {"distance_bias": (table, 3), **call.options}
    assert explain(call.q, call.k, call.v, call.pattern, return_lse=True, **given).backend == "blocked"
    assert explain(call.q, call.k, call.v, call.pattern, dropout=0.1, **given).backend == "blocked"
    out, lse = attend(call.q, call.k, call.v, call.pattern, return_lse=True, **given)
    torch.testing.assert_close(out, attend(call.q, call.k, call.v, call.pattern, **given))
    assert lse.isfinite().all()


def test_others_say_why_they_do_not_take_it() -> None:
    call = random_call(Hashed(rounds=2, buckets=4, chunk=8), 20).to(torch.float32)
    table = torch.zeros(2, 5)
    said = explain(call.q, call.k, call.v, call.pattern, distance_bias=(table, 2))
    assert said.backend == "reference"
    assert {said.others[name] for name in ("blocked", "cpu")} == {"it takes no table by distance"}
    for name in ("blocked", "cpu"):
        with pytest.raises(InputError, match=f"backend '{name}' cannot compute this call: it takes no table by dist"):
            attend(call.q, call.k, call.v, call.pattern, distance_bias=(table, 2), backend=name)


def test_a_call_without_it_is_not_remembered_for_one_with_it() -> None:
    call = random_call(Window(4, 4), 20).to(torch.float32)
    plain = attend(call.q, call.k, call.v, call.pattern)
    table = torch.tensor([[0.0, 3.0, 0.0]]).expand(2, -1)
    other = attend(call.q, call.k, call.v, call.pattern, distance_bias=(table, 1))
    assert (other - plain).abs().max() > 0.1
    assert torch.equal(attend(call.q, call.k, call.v, call.pattern), plain)


def test_numbers_that_are_not_finite_stay_in_their_document() -> None:
    documents = (torch.arange(20) >= 8).long().expand(2, -1)
    call = random_call(Full(), 20, segments=documents)
    table = torch.randn(2, 7, dtype=torch.float64)
    right = attend(call.q, call.k, call.v, call.pattern, distance_bias=(table, 3), **call.options)
    damaged = call.v.clone()
    damaged[:, :, 3] = float("nan")
    out = attend(call.q, call.k, damaged, call.pattern, distance_bias=(table, 3), **call.options)
    torch.testing.assert_close(out[:, :, 8:], right[:, :, 8:])
    assert out[:, :, :8].isnan().all()


@pytest.mark.filterwarnings("ignore:.torch.jit.*is deprecated:DeprecationWarning")  # torch's own, as it loads the rules
def test_compiled_and_under_transforms() -> None:
    call = random_call(Window(4, 4), 20).to(torch.float32)
    table = torch.randn(2, 7)

    def total(t: Tensor) -> Tensor:
        return (attend(call.q, call.k, call.v, call.pattern, distance_bias=(t, 3)) * call.grad_out).sum()

    leaf = table.clone().requires_grad_()
    (wanted,) = torch.autograd.grad(total(leaf), leaf)
    compiled = table.clone().requires_grad_()
    torch.compile(total, fullgraph=True, backend="aot_eager")(compiled).backward()
    torch.testing.assert_close(compiled.grad, wanted)
    torch.testing.assert_close(torch.func.grad(total)(table), wanted)
    tangent = torch.randn(2, 7)
    _, slope = torch.func.jvp(total, (table,), (tangent,))
    torch.testing.assert_close(slope, (wanted * tangent).sum())
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(table, tangent)
        torch.testing.assert_close(forward_ad.unpack_dual(total(dual)).tangent, slope)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (3, r"distance_bias is 3; it must be a pair \(table, before\)"),
        ((torch.zeros(2, 3),), r"it must be a pair \(table, before\)"),
        (([[0.0]], 0), r"the table of distance_bias is \[\[0.0\]\], a list; it must be a tensor"),
        ((torch.zeros(3), 0), r"has shape \[3\]; it must be \[heads, before \+ after \+ 1\], here of 2 heads"),
        ((torch.zeros(1, 3), 0), r"has shape \[1, 3\]"),
        ((torch.zeros(2, 0), 0), r"has shape \[2, 0\]"),
        ((torch.zeros(2, 3).long(), 0), r"is torch.int64 on cpu; it must be floating-point"),
        ((torch.zeros(2, 3), 3), r"before, of distance_bias, is 3; .* from 0 to 2"),
        ((torch.zeros(2, 3), -1), "is -1"),
        ((torch.zeros(2, 3), True), "is True"),
        ((torch.zeros(2, 3), 1.0), "is 1.0"),
    ],
)
def test_mistakes_are_told(given: Any, said: str) -> None:
    call = random_call(Full(), 4)
    for ask in (attend, explain):
        with pytest.raises(InputError, match=said):
            ask(call.q, call.k, call.v, call.pattern, distance_bias=given)
    with pytest.raises(InputError, match=said):
        attention_rows(call.q, call.k, call.pattern, [0], distance_bias=given)
