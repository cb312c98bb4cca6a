"""Every way of computing attention against the float64 reference: outputs, log-sum-exp and gradients."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from kernel_cases import LAYOUTS, Call, calls, check, random_call, relative_error, run
from torch.nn.functional import scaled_dot_product_attention

from gossamer import Chunks, Fixed, Full, Global, PerHead, Prefix, Sink, Strided, Window, attend
from gossamer.kernels.inputs import make_inputs
from gossamer.kernels.visible import visible

WINDOW = 16
PATTERNS = {
    "full": Full(),
    "causal": Full(causal=True),
    "window": Window(10, 5),
    "causal window": Window(15, 0),
    "dilated": Window(5, 2, 3),
    "wide": Window(120, 90),
    "global": Window(10, 5) | Global(),
    "per head": PerHead((Window(10, 5) | Global(), 1), (Window(3, 3, 2), 1)),
    "strided": Strided(WINDOW),
    "strided, its parts": PerHead((Strided(WINDOW, "local"), 1), (Strided(WINDOW, "column"), 1)),
    "strided and window": PerHead((Strided(WINDOW) | Window(40, 3), 1), (Strided(WINDOW, "column") | Window(4, 2), 1)),
    "strided and dilated": PerHead((Strided(WINDOW) | Window(9, 1, 6), 1), (Strided(6, "column") | Window(9, 9, 4), 1)),
    "fixed": Fixed(WINDOW, 3),
    "fixed, its parts": PerHead((Fixed(WINDOW, 3, "block"), 1), (Fixed(WINDOW, 3, "summary"), 1)),
    "fixed, offsets": PerHead((Fixed(WINDOW, 2, offset=2), 1), (Fixed(WINDOW, 2, "summary", 14), 1)),
    "fixed and window": PerHead((Fixed(WINDOW, 3) | Window(4, 2), 1), (Fixed(WINDOW, 1, "summary") | Window(40, 0), 1)),
    "sink": PerHead((Sink(3), 1), (Sink(20), 1)),
    "sink and window": PerHead((Sink(3) | Window(10, 0), 1), (Sink(4) | Window(6, 2, 3), 1)),
    "prefix": PerHead((Prefix(5), 1), (Prefix(40), 1)),
    "chunks": PerHead((Chunks(WINDOW), 1), (Chunks(WINDOW, causal=False), 1)),
    "chunks and window": PerHead((Chunks(WINDOW) | Window(5, 1), 1), (Chunks(40) | Window(9, 0, 4), 1)),
    "fixed and dilated": PerHead((Fixed(WINDOW, 3) | Window(9, 1, 3), 1), (Fixed(40, 3) | Window(2, 0, 7), 1)),
}
LENGTHS = (1, WINDOW - 1, WINDOW, WINDOW + 1, 63, 111, 300)


@given(calls())
def test_blocked_equals_the_reference_in_float64(call: Call) -> None:
    check(call, "blocked", torch.float64)


@given(calls())
def test_blocked_equals_the_reference_in_float32(call: Call) -> None:
    check(call, "blocked", torch.float32)


@given(calls(positions=False, dropout=False))
def test_portable_equals_the_reference(call: Call) -> None:
    check(call, "portable", torch.float64)


@given(calls(dropout=False, bias=True))
def test_dense_equals_the_reference_in_float64(call: Call) -> None:
    check(call, "dense", torch.float64, return_lse=False)


@given(calls(dropout=False, bias=True))
def test_dense_equals_the_reference_in_float32(call: Call) -> None:
    check(call, "dense", torch.float32, return_lse=False)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("name", PATTERNS)
def test_awkward_lengths(name: str, length: int) -> None:
    flags = torch.zeros(2, length, dtype=torch.bool)
    flags[0, 0] = flags[1, length // 2] = True
    call = random_call(PATTERNS[name], length, global_mask=flags)
    check(call, "blocked", torch.float64)
    check(replace(call, grad_lse=None), "blocked", torch.float32)
    check(call, "portable", torch.float64)
    check(call, "dense", torch.float32, return_lse=False)


@pytest.mark.parametrize("backend", ["blocked", "dense"])
def test_left_padded_positions(backend: str) -> None:
    """Positions count real tokens only; blocked declines where the padding's positions stand still, dense never."""
    real = torch.arange(50) >= torch.tensor([[20], [0]])
    positions = torch.where(real, real.cumsum(1), torch.arange(50) - 50)
    call = random_call(Window(4, 4), 50, key_mask=real, positions=positions)
    check(call, backend, torch.float64, return_lse=False)


def test_a_pair_of_positions_is_read_by_the_dense_backends() -> None:
    generator = torch.Generator().manual_seed(1)
    positions = tuple(torch.randint(0, 40, (2, n), generator=generator) for n in (30, 50))
    call = random_call(Window(6, 3), 30, 50, positions=positions)
    check(call, "dense", torch.float64, return_lse=False)
    check(call.with_options(positions=tuple(x % 5 for x in positions)), "dense", torch.float64, return_lse=False)
    everything = replace(call, pattern=Full())
    check(everything, "blocked", torch.float64)


def test_packed_documents_equal_separate_ones() -> None:
    lengths = (30, 1, 45)
    call = random_call(Window(6, 3) | Global(), sum(lengths), batch=1, global_mask=torch.arange(76)[None] % 11 == 0)
    documents = torch.arange(3).repeat_interleave(torch.tensor(lengths))[None]
    packed = run(call.with_options(segments=documents), "blocked").out
    parts = [
        attend(q, k, v, call.pattern, global_mask=flags, backend="blocked")
        for q, k, v, flags in zip(
            *(x.split(lengths, 2) for x in (call.q, call.k, call.v)),
            call.options["global_mask"].split(lengths, 1),
            strict=True,
        )
    ]
    assert relative_error(packed, torch.cat(parts, 2)) < 1e-12


@pytest.mark.parametrize("pattern", [Window(40, 40), Window(40, 40) | Global(), Full(causal=True), Window(9, 0, 4)])
def test_bfloat16_is_no_worse_than_torch(pattern: object) -> None:
    """Against float64, blocked may err no more than torch's own attention given the same mask (and a tenth)."""
    flags = torch.arange(400).expand(2, -1) % 97 == 0
    call = random_call(pattern, 400, heads=4, size=32, global_mask=flags).to(torch.bfloat16)
    call = replace(call, grad_lse=None)
    wanted = run(call.to(torch.float64), "reference")
    mask = visible(make_inputs(call.q, call.k, call.v, call.pattern, global_mask=flags))
    q, k, v = (x.detach().requires_grad_() for x in (call.q, call.k, call.v))
    out = scaled_dot_product_attention(q, k, v, attn_mask=mask)
    theirs = torch.cat([x.flatten() for x in torch.autograd.grad(out, (q, k, v), call.grad_out)])
    ours = run(call, "blocked")
    assert relative_error(ours.out, wanted.out) <= 1.1 * relative_error(out.detach(), wanted.out)
    assert relative_error(ours.gradient, wanted.gradient) <= 1.1 * relative_error(theirs, wanted.gradient)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout: str, dtype: torch.dtype) -> None:
    call = random_call(Window(20, 20) | Global(), 130, global_mask=torch.arange(130).expand(2, -1) == 3).to(dtype)

    other = call.laid_out(layout)
    for backend in ("blocked", "dense"):
        check(other, backend, dtype, return_lse=backend == "blocked")
    check(replace(other, grad_out=torch.ones((), dtype=torch.float64).expand(call.q.shape)), "blocked", dtype)


def test_gradcheck() -> None:
    call = random_call(
        PerHead((Window(2, 1) | Global(), 1), (Window(1, 1, 2), 1)), 6, size=2,
        key_mask=torch.arange(6) < torch.tensor([[6], [4]]), global_mask=torch.arange(6).expand(2, -1) == 3,
    ).with_options(dropout=0.2, seed=5)  # fmt: skip

    def function(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        out, lse = attend(q, k, v, call.pattern, backend="blocked", return_lse=True, **call.options)
        return out, lse.masked_fill(lse.isneginf(), 0)

    assert torch.autograd.gradcheck(function, [x.requires_grad_() for x in (call.q, call.k, call.v)])


@pytest.mark.parametrize("leaf", ["q", "k", "v", "bias"])
def test_a_gradient_for_one_input_alone(leaf: str) -> None:
    call = random_call(Window(5, 5), 40)
    options = {"bias": torch.randn(1, 2, 40, 40, dtype=torch.float64)} if leaf == "bias" else {}
    tensors = {"q": call.q, "k": call.k, "v": call.v, **options}
    tensors[leaf].requires_grad_()
    backend = "dense" if leaf == "bias" else "blocked"
    grads = [
        torch.autograd.grad(attend(pattern=call.pattern, backend=one, **tensors), tensors[leaf], call.grad_out)[0]
        for one in (backend, "reference")
    ]
    assert relative_error(*grads) < 1e-12
