"""Attention weights on demand against their definition: dense, float64."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import Call, calls, key_masks, poisoned, random_call, relative_error
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from gossamer import Full, Global, PerHead, Window, attend
from gossamer.errors import InputError
from gossamer.kernels import attention_rows, top_keys
from gossamer.kernels.backends.cpu import attention as cpu_attention
from gossamer.kernels.backends.cpu import library
from gossamer.kernels.inputs import make_inputs
from gossamer.kernels.visible import visible
from gossamer.kernels.weights import walk
from gossamer.patterns import Fixed, Pattern, Strided

SETS = [
    name
    for name in library.INSTRUCTION_SETS
    if library.library().gs_supports(name.encode()) and library._open(name) is not None
]
BACKENDS = ["reference", "dense", "blocked", *(f"cpu {name}" for name in SETS)]


def defined(call: Call) -> Tensor:
    """Every weight, [batch, heads, queries, keys], in float64; a row that sees nothing is 0."""
    inputs = make_inputs(call.q, call.k, call.v, call.pattern, **call.options).with_repeated_heads()
    k = inputs.k.double()
    if inputs.keys.real is not None:
        k = k.masked_fill(~inputs.keys.real[:, None, :, None], 0)
    scores = inputs.q.double() @ k.mT * inputs.scale
    if inputs.bias is not None:
        scores = scores + inputs.bias.double()
    return scores.masked_fill(~visible(inputs), float("-inf")).softmax(-1).nan_to_num(0)


@contextmanager
def small_blocks(chunk: int, scores: int) -> Iterator[None]:
    with patch.object(walk, "CHUNK", chunk), patch.object(walk, "BLOCK_SCORES", scores):
        yield


def check_top(call: Call, weights: Tensor, seen: Tensor, count: int, **options: Any) -> None:
    """The largest of these weights [batch, heads, rows, keys], of as many different keys as are seen."""
    found = top_keys(call.q, call.k, call.pattern, count, **call.options, **options)
    assert found.weights.shape == found.keys.shape == (*weights.shape[:3], count)
    best = torch.nn.functional.pad(weights, (0, count)).topk(count).values
    torch.testing.assert_close(found.weights, best, rtol=0, atol=1e-12)
    missing = found.keys < 0
    assert torch.equal((~missing).sum(-1), seen.expand(weights.shape).sum(-1).clamp(max=count))
    assert (found.weights[missing] == 0).all()
    assert (missing.int().diff(dim=-1) >= 0).all()
    keys = found.keys.clamp(min=0)
    torch.testing.assert_close(weights.gather(-1, keys).masked_fill(missing, 0), best, rtol=0, atol=1e-12)
    assert seen.expand(weights.shape).gather(-1, keys)[~missing].all()
    ordered = found.keys.sort(-1).values
    assert ((ordered.diff(dim=-1) > 0) | (ordered[..., 1:] < 0)).all(), "a key is listed twice"


@settings(max_examples=40)
@given(call=calls(dropout=False, bias=True), data=st.data())
def test_rows_and_top_keys_are_their_definition(call: Call, data: st.DataObject) -> None:
    wanted = defined(call)
    inputs = make_inputs(call.q, call.k, call.v, call.pattern, **call.options)
    seen = visible(inputs).expand(wanted.shape)
    index = st.integers(0, call.q.shape[2] - 1)
    rows = data.draw(st.lists(index, max_size=9))
    lse = attend(call.q, call.k, call.v, call.pattern, backend="reference", return_lse=True, **call.options)[1]
    options = {"lse": data.draw(st.sampled_from([None, lse]))}
    with small_blocks(*data.draw(st.sampled_from([(256, 2**20), (16, 400), (7, 30)]))), poisoned():
        found = attention_rows(call.q, call.k, call.pattern, rows, **call.options, **options)
        torch.testing.assert_close(found, wanted[:, :, rows], rtol=0, atol=1e-12)
        assert (found[~seen[:, :, rows]] == 0).all()
        sums = found.sum(-1)
        torch.testing.assert_close(sums, seen[:, :, rows].any(-1).to(sums.dtype), rtol=0, atol=1e-12)
        count = data.draw(st.sampled_from([1, 2, 5, 40]))
        check_top(call, wanted, seen, count, **options)
        check_top(call, wanted[:, :, rows], seen[:, :, rows], count, rows=rows, **options)


@settings(max_examples=20)
@given(data=st.data())
def test_positions_and_documents_in_any_order(data: st.DataObject) -> None:
    queries, keys = data.draw(st.integers(1, 70)), data.draw(st.integers(1, 70))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 10**6)))
    placed = [
        torch.randint(0, data.draw(st.sampled_from([5, 60])), (2, n), generator=generator) for n in (queries, keys)
    ]
    options: dict[str, Any] = {"positions": tuple(placed), "key_mask": key_masks("random", 2, keys, generator)}
    if data.draw(st.booleans()):
        options["segments"] = tuple(torch.randint(0, 4, (2, n), generator=generator) for n in (queries, keys))
    pattern = data.draw(
        st.sampled_from([Window(6, 3), Window(9, 9, 4), Full(causal=True), Window(6, 3) | Window(2, 2, 5)])
    )
    call = random_call(pattern, queries, keys, **options)
    wanted = defined(call)
    with small_blocks(8, 100):
        found = attention_rows(call.q, call.k, pattern, range(queries), **options)
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)
        check_top(call, wanted, visible(make_inputs(call.q, call.k, call.v, pattern, **options)), 3)


SPARSE = [
    Strided(7), Strided(7, "local"), Strided(7, "column"), Fixed(10, 2), Fixed(10, 2, "block"),
    Fixed(10, 2, "summary", offset=3), Strided(9) | Window(2, 4, 3),
    PerHead((Fixed(8, 1), 1), (Strided(5, "column"), 1)),
]  # fmt: skip


@pytest.mark.parametrize("documents", [False, True])
@pytest.mark.parametrize("pattern", SPARSE, ids=str)
def test_patterns_of_the_sparse_transformer(pattern: Pattern, documents: bool) -> None:
    """Blocks are counted from each document's own start."""
    options = {"segments": torch.arange(90).expand(2, -1) // 37} if documents else {}
    call = random_call(pattern, 90, **options)
    wanted = defined(call)
    for blocks in ((256, 2**20), (8, 100)):
        with small_blocks(*blocks):
            found = attention_rows(call.q, call.k, pattern, range(90), **options)
            check_top(call, wanted, wanted > 0, 4)
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("pattern", [Full(), Window(20, 9), Window(6, 4, 3), Window(20, 9) | Global()], ids=str)
def test_the_log_sum_exp_of_every_backend(backend: str, pattern: Pattern, monkeypatch: pytest.MonkeyPatch) -> None:
    """In float32, within the bound of outputs; bfloat16 is read as it is and computed in float32."""
    name, _, instructions = backend.partition(" ")
    opened = library._open(instructions) if instructions else None
    if opened is not None:
        monkeypatch.setattr(cpu_attention, "library", lambda: opened)
    flags = torch.arange(150).expand(2, -1) % 40 == 7
    real = torch.arange(150) < torch.tensor([[150], [90]])
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        if dtype == torch.float64 and name == "cpu":
            continue
        call = random_call(pattern, 150, heads=4, key_heads=2, size=32, global_mask=flags, key_mask=real).to(dtype)
        lse = None
        if name != "dense":
            lse = attend(call.q, call.k, call.v, pattern, **call.options, backend=name, return_lse=True)[1]
        wanted, bound = defined(call), 1e-12 if dtype == torch.float64 else 3e-6
        found = attention_rows(call.q, call.k, pattern, range(150), lse=lse, **call.options)
        assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        assert relative_error(found, wanted) <= bound
        assert (
            relative_error(top_keys(call.q, call.k, pattern, 5, lse=lse, **call.options).weights, wanted.topk(5).values)
            <= bound
        )


def test_a_pattern_without_a_rule_of_its_own() -> None:
    @dataclass(frozen=True)
    class Squares(Pattern, kind="squares of a test"):
        """Whoever is a square number of tokens away."""

        causal = False

        def allowed(self, query_positions: Tensor, key_positions: Tensor, *flags: Tensor | None) -> Tensor:
            distance = (query_positions[..., :, None] - key_positions[..., None, :]).abs()
            return distance.double().sqrt().round().long() ** 2 == distance

        def covers(self, queries: int, keys: int, query_start: int = 0) -> bool:
            return False

        def __str__(self) -> str:
            return "squares"

    for pattern in (Squares(), PerHead((Squares(), 1), (Window(2, 2), 1))):
        call = random_call(pattern, 90, segments=torch.arange(90).expand(2, -1) // 40)
        wanted = defined(call)
        with small_blocks(16, 200):
            found = attention_rows(call.q, call.k, pattern, range(90), **call.options)
            check_top(call, wanted, wanted > 0, 4)
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("chunk", [(256, 2**20), (16, 50)])
def test_equal_scores_stand_in_the_order_of_their_keys(chunk: tuple[int, int]) -> None:
    q = torch.ones(1, 1, 60, 4)
    k = torch.ones(1, 1, 60, 4).index_fill(2, torch.tensor([30]), 2)
    flags = torch.arange(60)[None] == 50
    with small_blocks(*chunk):
        found = top_keys(q, k, Window(20, 20) | Global(), 4, global_mask=flags).keys[0, 0]
    assert found[5].tolist() == [0, 1, 2, 3]
    assert found[25].tolist() == [30, 5, 6, 7]
    assert found[55].tolist() == [35, 36, 37, 38]
    assert found[50].tolist() == [30, 0, 1, 2]
    assert found[0].tolist() == [0, 1, 2, 3]
    few = top_keys(q, k, Window(0, 1) | Global(), 4, global_mask=flags).keys[0, 0]
    assert few[29].tolist() == [30, 29, 50, -1]
    assert few[31].tolist() == [31, 32, 50, -1]


def test_rows_of_their_own_for_each_text() -> None:
    call = random_call(Window(5, 5), 40)
    rows = torch.tensor([[3, 9, 9], [39, 0, 1]])
    wanted = defined(call).gather(2, rows[:, None, :, None].expand(-1, 2, -1, 40))
    torch.testing.assert_close(attention_rows(call.q, call.k, call.pattern, rows), wanted)
    found = top_keys(call.q, call.k, call.pattern, 2, rows=rows)
    torch.testing.assert_close(found.weights, wanted.topk(2).values)


def test_nan_stays_where_it_belongs() -> None:
    real = torch.arange(40) < 33
    bias = torch.zeros(1, 1, 1, 40, dtype=torch.float64)
    bias[..., 20] = float("-inf")
    flags = torch.arange(40)[None] == 2
    call = random_call(
        Window(5, 5) | Global(), 40, batch=1, key_mask=real[None], global_mask=flags, bias=bias, key_heads=1
    )
    wanted = defined(call)
    call.k[:, :, 33:] = call.k[:, :, 20] = float("nan")
    call.q[:, :, 7] = float("nan")
    found = attention_rows(call.q, call.k, call.pattern, range(40), **call.options)
    assert found[:, :, 7].isnan().any()
    others = torch.arange(40) != 7
    torch.testing.assert_close(found[:, :, others], wanted[:, :, others])
    assert (found[wanted == 0] == 0).all()
    best = top_keys(call.q, call.k, call.pattern, 3, **call.options)
    assert best.weights[:, :, 7].isnan().all()
    assert best.keys[0, :, 7].tolist() == [[2, 3, 4]] * 2
    torch.testing.assert_close(best.weights[:, :, others], wanted[:, :, others].topk(3).values)
    assert (best.keys < 33).all()


def gradients(loss: Tensor, q: Tensor, k: Tensor) -> tuple[Tensor, ...]:
    """Of q and k; 0 where nothing depends on them."""
    if not loss.requires_grad:
        return torch.zeros_like(q), torch.zeros_like(k)
    found = torch.autograd.grad(loss, (q, k), allow_unused=True, retain_graph=True)
    return tuple(torch.zeros_like(x) if one is None else one for x, one in zip((q, k), found, strict=True))


def check_gradients(found: Tensor, wanted: Tensor, q: Tensor, k: Tensor, bound: float) -> None:
    """Of a drawn sum of weights, against those of its definition."""
    grad = torch.randn(found.shape, generator=torch.Generator().manual_seed(0), dtype=found.dtype)
    pairs = zip(*(gradients((weights * grad).sum(), q, k) for weights in (found, wanted)), strict=True)
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs, rtol=0, atol=bound)


@settings(max_examples=40)
@given(call=calls(dropout=False, bias=True), data=st.data())
def test_gradients_are_those_of_the_dense_definition(call: Call, data: st.DataObject) -> None:
    """In float64. A log-sum-exp that is given changes nothing: it stands for that of q and k."""
    lse = attend(call.q, call.k, call.v, call.pattern, backend="reference", return_lse=True, **call.options)[1]
    options = {**call.options, "lse": data.draw(st.sampled_from([None, lse.detach()]))}
    q, k = (x.detach().clone().requires_grad_() for x in (call.q, call.k))
    rows = data.draw(st.lists(st.integers(0, q.shape[2] - 1), max_size=9))
    wanted = defined(replace(call, q=q, k=k))[:, :, rows]
    with small_blocks(*data.draw(st.sampled_from([(256, 2**20), (16, 400), (7, 30)]))):
        check_gradients(attention_rows(q, k, call.pattern, rows, **options), wanted, q, k, 1e-11)
        best = top_keys(q, k, call.pattern, data.draw(st.sampled_from([1, 5, 40])), rows=rows, **options)
        shown = wanted.gather(-1, best.keys.clamp(min=0)).masked_fill(best.keys < 0, 0)
        check_gradients(best.weights, shown, q, k, 1e-11)


@pytest.mark.parametrize(
    ("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 3e-6), (torch.bfloat16, 2**-7)], ids=str
)
def test_gradients_of_rows_that_are_asked_for_twice(dtype: torch.dtype, bound: float) -> None:
    """Each text its own rows; the sums are made in float32, half precision too."""
    rows, flags = torch.tensor([[3, 9, 9], [39, 0, 1]]), torch.arange(40).expand(2, -1) == 2
    call = random_call(Window(5, 5) | Global(), 40, heads=4, key_heads=2, global_mask=flags).to(dtype)
    q, k = (x.requires_grad_() for x in (call.q, call.k))
    exact = defined(call).gather(2, rows[:, None, :, None].expand(-1, 4, -1, 40))
    best = top_keys(q, k, call.pattern, 3, rows=rows, **call.options)
    for found, wanted in (
        (attention_rows(q, k, call.pattern, rows, **call.options), exact),
        (best.weights, exact.gather(-1, best.keys)),
    ):
        for ours, theirs in zip(*(gradients(x.square().sum(), q, k) for x in (found, wanted)), strict=True):
            assert ours.dtype == dtype
            assert relative_error(ours, theirs) <= bound


def test_gradients_keep_nan_where_it_belongs() -> None:
    """A query without numbers, and keys that a row does not see, reach no other gradient than their own."""
    real, segments = torch.arange(40)[None] < 33, torch.arange(40)[None] // 20
    call = random_call(Window(5, 5), 40, batch=1, key_mask=real, segments=segments)
    call.k[:, :, 33:] = call.q[:, :, 7] = call.k[:, :, 25] = float("nan")
    q, k = (x.requires_grad_() for x in (call.q, call.k))
    rows = attention_rows(q, k, call.pattern, [2, 7, 12, 19], **call.options)
    best = top_keys(q, k, call.pattern, 3, rows=[2, 7, 12, 19], **call.options)
    for found in (rows, best.weights):
        grad_q, grad_k = torch.autograd.grad(found[:, :, [0, 2, 3]].square().sum(), (q, k))
        assert grad_q[:, :, [2, 12, 19]].isfinite().all()
        assert (grad_q[:, :, [2, 12, 19]] != 0).any()
        assert grad_k[:, :, [18, 20, 25, 39]].isfinite().all()


def test_a_second_derivative_is_refused_in_our_words() -> None:
    q, k = (torch.randn(1, 2, 20, 8, requires_grad=True) for _ in range(2))
    for found in (attention_rows(q, k, Full(), [3]), top_keys(q, k, Full(), 2).weights):
        first = torch.autograd.grad(found.square().sum(), q, create_graph=True)[0]
        with pytest.raises(InputError, match="attention weights on demand have no second derivative"):
            first.sum().backward()


def test_only_what_learns_is_differentiated_and_nothing_cast() -> None:
    q, k = (torch.randn(1, 2, 20, 8, requires_grad=True) for _ in range(2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = attention_rows(q, k, Full(), [3])
    assert found.dtype == torch.float32
    assert torch.autograd.grad(found.square().sum(), q)[0].dtype == torch.float32
    assert not attention_rows(q.detach(), k.detach(), Full(), [3]).requires_grad
    with torch.no_grad():
        assert not top_keys(q, k, Full(), 3).weights.requires_grad
    rounded = (x.detach().bfloat16().float() for x in (q, k))
    torch.testing.assert_close(found.detach(), attention_rows(*rounded, Full(), [3]))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rows": [0, 20]}, "rows holds 20; the queries go from 0 to 19"),
        ({"rows": [-1]}, "rows holds -1; the queries go from 0 to 19"),
        ({"rows": [0.5]}, "rows is float32 of shape [1]; it must be integers"),
        ({"rows": [True]}, "rows is bool"),
        ({"rows": 3}, "rows is 3; it must list the indices of queries"),
        ({"rows": torch.zeros(2, 1, dtype=torch.int64)}, "here batch 1"),
        ({"lse": torch.zeros(1, 2, 19)}, "lse is torch.float32 of shape [1, 2, 19]; it must be what attend gave"),
        ({"lse": torch.zeros(1, 2, 20).half()}, "lse is torch.float16"),
        ({"scale": float("nan")}, "scale is nan"),
        ({"count": 0}, "count is 0; it must be a whole number of keys, 1 or more"),
        ({"count": 2.0}, "count is 2.0"),
    ],
    ids=str,
)  # fmt: skip
def test_mistakes_are_told(change: dict[str, Any], said: str) -> None:
    q = torch.randn(1, 2, 20, 8)
    options = {"rows": [0], "count": 2} | change
    with pytest.raises(InputError) as told:
        top_keys(q, q, Full(), options.pop("count"), **options)
    assert said in str(told.value)
    if "count" not in change:
        options.pop("count", None)
        with pytest.raises(InputError) as told:
            attention_rows(q, q, Full(), options.pop("rows"), **options)
        assert said in str(told.value)


def test_work_is_that_of_the_visible_pairs() -> None:
    """Blocks are at most so much larger than what they show: a chunk of 256 meets the keys of 256."""
    n, flags = 8192, torch.arange(8192)[None] % 1000 == 3
    q = torch.randn(1, 1, n, 4)
    for pattern, most in (
        (Window(256, 256), 1.6), (Window(64, 64, 8), 3.2), (Full(causal=True), 1.1), (Window(256, 256) | Global(), 1.6),
        (Strided(128), 4.5), (Fixed(128, 8), 2.0),
    ):  # fmt: skip
        inputs = make_inputs(q, q, q, pattern, global_mask=flags)
        held = sum(block.scores.numel() for block in walk.walk(inputs, 0, torch.arange(n)))
        assert held <= most * pattern.pairs(n, flags=flags[0]), pattern
    documents = make_inputs(q, q, q, Full(), segments=torch.arange(n)[None] // 512)
    assert sum(block.scores.numel() for block in walk.walk(documents, 0, torch.arange(n))) == n * 512


def peak_bytes(
    pattern: Pattern, length: int, dtype: torch.dtype, size: int = 64, rows: Any = None, learns: bool = False
) -> int:
    """The most that torch's allocator held at once beyond the inputs; with `learns`, in the backward pass, too."""
    q = torch.randn(1, 2, length, size, dtype=dtype, requires_grad=learns)
    flags = torch.arange(length)[None] % 100 == 3
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        weights = top_keys(q, q, pattern, 4, rows=rows, global_mask=flags).weights
        if learns:
            weights.sum().backward()
    held = peak = 0
    for event in sorted(record.profiler.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("pattern", [Full(), Window(200, 200) | Global(), Window(16, 16, 4)], ids=str)
def test_memory_is_linear(pattern: Pattern, dtype: torch.dtype) -> None:
    """A result of 12 bytes a place, held a few times, and one block."""
    for length in (2048, 6144):
        result = 2 * length * 4 * 12
        assert peak_bytes(pattern, length, dtype) <= 20 * 2**20 + 3 * result


@pytest.mark.parametrize("pattern", [Full(), Window(16, 16, 4)], ids=str)
def test_memory_with_gradients_is_linear(pattern: Pattern) -> None:
    """Besides, the gradients of q and k, in float32 and once more as they are handed over."""
    for length in (2048, 6144):
        result, gradient = 2 * length * 4 * 12, 2 * length * 64 * 4
        assert peak_bytes(pattern, length, torch.float32, learns=True) <= 20 * 2**20 + 3 * result + 4 * gradient


def test_memory_of_one_row_is_not_that_of_all_keys() -> None:
    assert peak_bytes(Full(), 2**14, torch.bfloat16, size=256, rows=[5]) <= 20 * 2**20


@pytest.mark.parametrize("low", [-65504.0, -1e9, torch.finfo(torch.float32).min])
def test_weights_of_very_low_rows_add_up(low: float) -> None:
    call = random_call(Window(20, 20), 60).to(torch.float32)
    bias = torch.zeros(1, 2, 60, 60)
    bias[:, 0], bias[:, 1, ::3] = low, low
    wanted, found = (
        attention_rows(x.q, x.k, Window(20, 20), range(60), bias=b)
        for x, b in ((call, bias), (call.to(torch.float64), bias.double()))
    )
    assert wanted.sum(-1).sub(1).abs().max() <= 1e-6
    if low == -65504.0:
        assert relative_error(wanted, found) <= 2e-3  # scores are rounded beside such a bias
    with small_blocks(16, 200):
        best = top_keys(call.q, call.k, Window(20, 20), 5, bias=bias).weights
    torch.testing.assert_close(best, wanted.topk(5).values, rtol=1e-5, atol=1e-7)
    large = 1e5 * call.q
    assert attention_rows(large, large, Full(), range(60)).sum(-1).sub(1).abs().max() <= 1e-6


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("least", [-1e300, torch.finfo(torch.float64).min])
def test_a_finite_bias_hides_no_key(dtype: torch.dtype, least: float) -> None:
    """Where all keys have it, it says nothing; beside others, such a key has no weight; only -inf hides."""
    bias = torch.zeros(4, 4, dtype=torch.float64)
    bias[0], bias[1, :2], bias[2] = least, least, float("-inf")
    q, k = torch.randn(2, 1, 1, 4, 8, generator=torch.Generator().manual_seed(0)).to(dtype)
    weights = attention_rows(q, k, Full(), range(4), bias=bias)[0, 0]
    torch.testing.assert_close(weights[0], torch.full_like(weights[0], 0.25))
    assert torch.equal(weights[1, :2], torch.zeros_like(weights[1, :2]))
    torch.testing.assert_close(weights[1].sum(), torch.ones_like(weights[1, 0]))
    assert (weights[2] == 0).all()
    keys = top_keys(q, k, Full(), 4, bias=bias).keys[0, 0]
    assert keys[0].tolist() == [0, 1, 2, 3]
    assert keys[2].tolist() == [-1] * 4
