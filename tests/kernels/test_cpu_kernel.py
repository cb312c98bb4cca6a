"""The compiled CPU kernel, in every instruction set that this machine runs, against the float64 reference."""

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import LAYOUTS, Call, assert_same, calls, check, poisoned, random_call, relative_error, run
from torch.nn.functional import scaled_dot_product_attention

from gossamer import Fixed, Full, Global, PerHead, Window, attend, explain
from gossamer.errors import InputError
from gossamer.kernels.backends.cpu import attention as cpu_attention
from gossamer.kernels.backends.cpu import library
from gossamer.kernels.inputs import make_inputs
from gossamer.kernels.visible import visible

SETS = [
    name
    for name in library.INSTRUCTION_SETS
    if library.library().gs_supports(name.encode()) and library._open(name) is not None
]
OUTPUT, GRADIENT = 2e-6, 5e-6
BFLOAT16_ERROR = 2**-8
"""The result's rounding, and that of weights: 2^-9 each at most."""
PATTERNS = [Full(), Full(causal=True), Window(10, 5), Window(5, 2, 3), Window(90, 90), Window(10, 5) | Global()]


@pytest.fixture(params=SETS, autouse=True)
def instructions(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every test runs on each instruction set."""
    opened = library._open(request.param)
    monkeypatch.setattr(cpu_attention, "library", lambda: opened)
    return request.param


def compare(call: Call) -> None:
    """Output, log-sum-exp and gradients in float32, within the kernel's own bounds."""
    call = call.to(torch.float32)
    wanted = run(call.to(torch.float64), "reference")
    with poisoned():
        found = run(call, "cpu")
    assert_same(found, wanted, OUTPUT, GRADIENT)


@given(call=calls())
def test_equals_the_reference(call: Call) -> None:
    compare(call)


@pytest.mark.parametrize("size", [1, 16, 20, 64, 100, 128, 256])
def test_head_sizes(size: int) -> None:
    compare(random_call(Window(20, 30), 130, size=size, heads=4, key_heads=2))


@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_every_length(pattern: Any) -> None:
    for length in range(1, 301, 1 if pattern == Window(10, 5) else 23):
        flags = torch.arange(length).expand(2, -1) % 50 == 7
        compare(random_call(pattern, length, heads=1, global_mask=flags))


@settings(max_examples=20)
@given(data=st.data())
def test_positions_and_documents_in_any_order(data: st.DataObject) -> None:
    queries, keys = data.draw(st.integers(1, 120)), data.draw(st.integers(1, 120))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 10**6)))
    far = data.draw(st.sampled_from([5, 60, 10**9]))
    placed = [torch.randint(0, far, (2, n), generator=generator) for n in (queries, keys)]
    options: dict[str, Any] = {"positions": tuple(placed)}
    if data.draw(st.booleans()):
        options["segments"] = tuple(torch.randint(0, 4, (2, n), generator=generator) for n in (queries, keys))
    pattern = data.draw(st.sampled_from([Window(6, 3), Window(9, 9, 4), Full(causal=True), Window(10**9, 2)]))
    compare(random_call(pattern, queries, keys, seed=far, **options))


@pytest.mark.parametrize("kind", ["ramp", "constant", "huge"])
def test_adversarial_scores(kind: str) -> None:
    call = random_call(Window(100, 100), 400, heads=2, size=64)
    ramp = torch.linspace(-30, 30, 400, dtype=torch.float64)[None, None, :, None]
    if kind == "ramp":
        call = replace(call, k=call.k * 0.1 + ramp, q=call.q * 0 + 1)
    elif kind == "constant":
        call = replace(call, k=call.k * 0 + 0.5, q=call.q * 0 + 2)
    else:
        call = replace(call, q=call.q * 40, k=call.k * 40)
    call = call.to(torch.float32)
    wanted, found = run(call.to(torch.float64), "reference"), run(call, "cpu")
    # Large scores are themselves off by float32's rounding, for everybody.
    mask = visible(make_inputs(call.q, call.k, call.v, call.pattern))
    theirs = scaled_dot_product_attention(call.q, call.k, call.v, attn_mask=mask)
    assert relative_error(found.out, wanted.out) <= max(OUTPUT, 1.2 * relative_error(theirs, wanted.out))
    assert found.gradient.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("pattern", [Full(), Window(40, 40), Window(40, 40) | Global(), Window(9, 0, 4)], ids=str)
def test_half_precision_is_no_worse_than_torch(pattern: Any, dtype: torch.dtype) -> None:
    flags = torch.arange(400).expand(2, -1) % 97 == 0
    call = replace(random_call(pattern, 400, heads=4, size=32, global_mask=flags).to(dtype), grad_lse=None)
    wanted = run(call.to(torch.float64), "reference")
    mask = visible(make_inputs(call.q, call.k, call.v, call.pattern, global_mask=flags))
    q, k, v = (x.detach().requires_grad_() for x in (call.q, call.k, call.v))
    out = scaled_dot_product_attention(q, k, v, attn_mask=mask)
    theirs = torch.cat([x.flatten() for x in torch.autograd.grad(out, (q, k, v), call.grad_out)])
    ours = run(call, "cpu")
    assert relative_error(ours.out, wanted.out) <= 1.05 * relative_error(out.detach(), wanted.out)
    assert relative_error(ours.gradient, wanted.gradient) <= 1.05 * relative_error(theirs, wanted.gradient)


BFLOAT16 = [
    (Window(20, 30), 1), (Window(3, 4), 2), (Window(5, 2, 3), 15), (Window(90, 91), 17), (Full(), 31),
    (Full(causal=True), 33), (Window(33, 0), 48), (Window(7, 7) | Global(), 65), (Window(100, 101), 100),
    (Window(9, 8), 512),
]  # fmt: skip


def no_worse_than_torch(call: Call) -> None:
    """Output and gradients in bfloat16, against the float64 reference of the same numbers."""
    call = replace(call.to(torch.bfloat16), grad_lse=None)
    wanted = run(call.to(torch.float64), "reference")
    options = {name: x for name, x in call.options.items() if name != "scale"}
    mask = visible(make_inputs(call.q, call.k, call.v, call.pattern, **options))
    q, k, v = (x.detach().requires_grad_() for x in (call.q, call.k, call.v))
    out = scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=call.options.get("scale"))
    theirs = torch.autograd.grad(out, (q, k, v), call.grad_out)
    with poisoned():
        ours = run(call, "cpu")
    pairs = [(ours.out, out, wanted.out), *zip(ours.grads, theirs, wanted.grads, strict=True)]
    for mine, their, exact in pairs:
        assert relative_error(mine, exact) <= 1.05 * relative_error(their.detach(), exact)


@pytest.mark.parametrize(("pattern", "size"), BFLOAT16, ids=str)
def test_bfloat16_sizes_and_spans_are_no_worse_than_torch(pattern: Any, size: int) -> None:
    flags = torch.arange(277).expand(2, -1) % 91 == 7
    for scale in (None, -0.3):
        no_worse_than_torch(random_call(pattern, 277, size=size, heads=2, key_heads=2, scale=scale, global_mask=flags))


def test_bfloat16_of_every_length() -> None:
    for length in range(1, 301):
        call = replace(random_call(Window(10, 5), length, batch=1, heads=1, size=9).to(torch.bfloat16), grad_out=None)
        wanted, found = run(call.to(torch.float64), "reference"), run(call, "cpu")
        assert relative_error(found.out, wanted.out) <= BFLOAT16_ERROR
        assert found.lse is not None
        assert (found.lse - wanted.lse).abs().max() <= BFLOAT16_ERROR


def test_bfloat16_dropout_coordinates_and_continued_pieces() -> None:
    real = torch.arange(150) < torch.tensor([[149], [77]])
    documents = torch.arange(150).expand(2, -1) // 37
    flags = torch.arange(150).expand(2, -1) % 31 == 3
    options: dict[str, Any] = {"key_mask": real, "segments": documents, "global_mask": flags}
    for pattern in (Window(9, 4) | Global(), PerHead((Window(5, 4, 3), 2), (Fixed(11, 3), 2))):
        call = random_call(pattern, 150, heads=4, key_heads=2, size=20, **options).with_options(dropout=0.3, seed=5)
        call = replace(call.to(torch.bfloat16), grad_lse=None)
        wanted = run(call.to(torch.float64), "reference")
        hidden = ~real[:, None, :, None]
        k, v = (x.masked_fill(hidden, float("nan")) for x in (call.k, call.v))
        found = run(replace(call, k=k, v=v), "cpu")
        assert relative_error(found.out, wanted.out) <= BFLOAT16_ERROR
        assert relative_error(found.gradient, wanted.gradient) <= 2 * BFLOAT16_ERROR


def test_rows_that_see_nothing_and_numbers_that_are_none() -> None:
    real = torch.arange(100) >= torch.tensor([[30], [100]])
    call = random_call(Window(10, 0), 100, key_mask=real).to(torch.float32)
    k, v = (x.masked_fill(~real[:, None, :, None], float("nan")) for x in (call.k, call.v))
    found = run(replace(call, k=k, v=v), "cpu")
    assert found.out.isfinite().all()
    assert found.gradient.isfinite().all()
    assert not found.out[1].any()
    assert found.lse is not None
    assert found.lse[1].isneginf().all()
    q = call.q.clone()
    q[0, 0, 50] = float("nan")
    out = attend(q, call.k, call.v, call.pattern, key_mask=real, backend="cpu")
    assert out[0, 0, 50].isnan().all()
    out[0, 0, 50] = 0
    assert out.isfinite().all()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_are_read_in_place(layout: str) -> None:
    call = random_call(Window(20, 20) | Global(), 130, size=16, global_mask=torch.arange(130).expand(2, -1) == 3)

    compare(call.laid_out(layout))


def test_bitwise_the_same_again_and_for_any_number_of_threads() -> None:
    call = random_call(Window(100, 100) | Global(), 900, global_mask=torch.arange(900).expand(2, -1) % 200 == 5)
    call = call.to(torch.float32)
    first = run(call, "cpu")
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            assert_same(run(call, "cpu"), first, 0.0, 0.0)
    finally:
        torch.set_num_threads(threads)


def in_a_child(queue: Any) -> None:
    q = torch.ones(1, 2, 200, 16)
    queue.put(float(attend(q, q, q, Window(8, 8), backend="cpu").sum()))


def test_a_forked_child_does_not_hang() -> None:
    q = torch.ones(1, 2, 200, 16)
    expected = float(attend(q, q, q, Window(8, 8), backend="cpu").sum())
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=in_a_child, args=(queue,))
    child.start()
    assert queue.get(timeout=60) == expected
    child.join(timeout=60)
    assert child.exitcode == 0


def test_dropout_is_the_same_as_everywhere() -> None:
    call = random_call(PerHead((Window(9, 9), 2), (Full(), 1)), 150, heads=3).with_options(dropout=0.3, seed=5)
    check(call, "cpu", torch.float32)


def test_what_it_cannot_compute_is_said() -> None:
    q = torch.zeros(1, 1, 4, 4)
    with pytest.raises(InputError, match="it computes no float64"):
        attend(q.double(), q.double(), q.double(), Full(), backend="cpu")
    with pytest.raises(InputError, match="it takes no bias"):
        attend(q, q, q, Full(), bias=torch.zeros(1, 1, 4, 4), backend="cpu")


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    library._load.cache_clear()
    monkeypatch.delenv(library.FOLDER, raising=False)
    monkeypatch.setattr(library, "_open", lambda name: None)
    yield
    library._load.cache_clear()


@pytest.mark.usefixtures("missing")
def test_a_missing_kernel_is_said() -> None:
    q = torch.zeros(1, 1, 5000, 4)
    found = explain(q, q, q, Window(2, 2))
    assert found.backend == "blocked"
    assert "not compiled" in found.others["cpu"]
    with pytest.raises(InputError, match="install again with a C"):
        attend(q, q, q, Window(2, 2), backend="cpu")


@pytest.mark.parametrize("instructions", SETS[:1], indirect=True)
def test_the_variable_chooses_and_bad_values_are_refused() -> None:
    """In processes of their own, whatever this one runs on."""
    script = (
        "import os, sys, torch\n"
        "sys.meta_path = [m for m in sys.meta_path if 'ScikitBuild' not in type(m).__name__]\n"
        "import gossamer as gs\n"
        "q = torch.zeros(1, 1, 9000, 4)\n"
        "print(gs.explain(q, q, q, gs.Window(2, 2)))\n"
    )
    done = [
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment(value))
        for value in ("none", "baseline", "sse9")
    ]
    assert "GOSSAMER_CPU_KERNEL is 'none'" in done[0].stdout
    assert done[1].stdout.startswith("cpu: ")
    assert (
        "GOSSAMER_CPU_KERNEL is 'sse9'; it must be one of avx512_bf16, avx512, avx2, baseline, none" in done[2].stderr
    )


def environment(value: str) -> dict[str, str]:
    return {**os.environ, library.VARIABLE: value, "PYTHONPATH": os.pathsep.join(sys.path)}
