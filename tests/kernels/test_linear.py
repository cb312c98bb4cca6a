"""Products with weights: every way against float64, with gradients of every order, and who takes which."""

from __future__ import annotations

import inspect
import itertools
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from gossamer import InputError
from gossamer.kernels import ACTIVATIONS, explain_linear, linear
from gossamer.layers import Linear

WAYS = ["torch", "onednn"]
ERROR = 2e-6
"""Of a sum of n products in float32, relative to the sum of their sizes, which cancelling does not make small."""


@pytest.fixture
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("GOSSAMER_LINEAR", request.param)
    return str(request.param)


def relative_error(found: Tensor, wanted: Tensor) -> float:
    return float((found.double() - wanted).norm() / wanted.norm().clamp(min=1e-300))


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "plain": lambda x: x,
    "transposed": lambda x: x.mT.contiguous().mT if x.dim() > 1 else x,
    "every second": lambda x: x.repeat_interleave(2, -1)[..., ::2],
    "expanded": lambda x: x[:1].expand(x.shape),
    "overlapping": lambda x: x.as_strided(x.shape, (1,) * x.dim()),
}


@settings(max_examples=60)
@given(
    shape=st.sampled_from([(64,), (65,), (3, 40), (2, 3, 33), (1, 1, 300)]),
    sizes=st.tuples(st.sampled_from([1, 3, 16, 65, 384]), st.sampled_from([1, 2, 31, 128])),
    bias=st.booleans(),
    layouts=st.tuples(*[st.sampled_from([*LAYOUTS])] * 3),
    seed=st.integers(0, 10**6),
)
def test_onednn_is_right_with_gradients(
    shape: tuple[int, ...],
    sizes: tuple[int, int],
    bias: bool,
    layouts: tuple[str, str, str],
    seed: int,
) -> None:
    generator = torch.Generator().manual_seed(seed)

    def drawn(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator)

    inputs, outputs = sizes
    x, weight = LAYOUTS[layouts[0]](drawn(*shape, inputs)), LAYOUTS[layouts[1]](drawn(outputs, inputs))
    drawn_ones = [x, weight, LAYOUTS[layouts[2]](drawn(outputs)) if bias else None]
    grad = drawn(*shape, outputs)
    results = product_and_gradients(drawn_ones, grad, torch.float32)
    wanted = product_and_gradients(drawn_ones, grad, torch.float64)
    sizes_of_sums = product_and_gradients([one if one is None else one.abs() for one in drawn_ones], grad.abs())
    for result, right, size in zip(results, wanted, sizes_of_sums, strict=True):
        assert result.shape == right.shape
        assert (result.double() - right).norm() < ERROR * size.norm()


def product_and_gradients(
    tensors: list[Tensor | None], grad: Tensor, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, ...]:
    """What `onednn` gives of x, weight and bias in this type: the product, then a gradient for each of them."""
    leaves = [None if one is None else one.detach().to(dtype).requires_grad_() for one in tensors]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GOSSAMER_LINEAR", "onednn")
        if dtype == torch.float32:
            assert explain_linear(*leaves).way == "onednn"  # type: ignore[arg-type]
        out = linear(*leaves)  # type: ignore[arg-type]
        grads = torch.autograd.grad(out, [one for one in leaves if one is not None], grad.to(dtype))
    return (out.detach(), *grads)


@pytest.mark.parametrize("way", WAYS, indirect=True)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activation_and_residual_come_after_the_product(way: str, activation: str) -> None:
    x, weight, bias, residual = torch.randn(70, 6), torch.randn(5, 6), torch.randn(5), torch.randn(70, 5)
    plain = linear(x, weight, bias)
    assert torch.equal(linear(x, weight, bias, activation, residual), ACTIVATIONS[activation](plain) + residual)
    assert torch.equal(linear(x, weight, bias, residual=residual), plain + residual)


@pytest.mark.filterwarnings("ignore:.torch.jit.*is deprecated:DeprecationWarning")  # torch's own, as it loads the rules
@pytest.mark.parametrize("way", WAYS, indirect=True)
def test_derivatives_of_any_order_and_kind(way: str) -> None:
    x, weight, bias = torch.randn(70, 6), torch.randn(5, 6), torch.randn(5)

    def function(w: Tensor) -> Tensor:
        return (linear(x, w, bias).tanh() ** 2).sum()

    def defined(w: Tensor) -> Tensor:
        return (F.linear(x.to(w), w, bias.to(w)).tanh() ** 2).sum()

    hessian = torch.autograd.functional.hessian(defined, weight.double())
    assert relative_error(torch.autograd.functional.hessian(function, weight), hessian) < 1e-5
    assert relative_error(torch.func.hessian(function)(weight), hessian) < 1e-5
    tangent = torch.func.jvp(function, (weight,), (weight,))[1]
    assert relative_error(tangent, torch.func.jvp(defined, (weight.double(),), (weight.double(),))[1]) < 1e-5
    each = torch.vmap(torch.func.grad(function))(torch.stack([weight, 2 * weight]))
    assert relative_error(each[1], torch.func.grad(defined)(2 * weight.double())) < 1e-5
    w = weight.clone().requires_grad_()
    rows = torch.autograd.grad(linear(x, w, bias), w, torch.randn(3, 70, 5), is_grads_batched=True)[0]
    assert rows.shape == (3, 5, 6)


@pytest.mark.parametrize("way", WAYS, indirect=True)
def test_no_more_is_kept_for_the_backward_pass_than_torch_keeps(way: str) -> None:
    """Of frozen weights no states, which are most of what a model of frozen layers would hold."""

    def kept(product: Callable[..., Tensor], learns: tuple[bool, ...]) -> set[int]:
        shapes: list[int] = []
        tensors = [x.detach().requires_grad_(one) for x, one in zip(given, learns, strict=True)]
        with torch.autograd.graph.saved_tensors_hooks(lambda x: shapes.append(x.numel()) or x, lambda x: x):
            product(*tensors)
        return set(shapes)

    given = torch.randn(70, 6), torch.randn(5, 6), torch.randn(5)
    for learns in itertools.product([False, True], repeat=3):
        assert kept(linear, learns) == kept(F.linear, learns), learns


@pytest.mark.parametrize("way", WAYS, indirect=True)
def test_frozen_parts_get_no_gradient(way: str) -> None:
    x, weight, bias = torch.randn(70, 6), torch.randn(5, 6, requires_grad=True), torch.randn(5)
    linear(x, weight, bias).sum().backward()
    assert weight.grad is not None
    assert x.grad is None
    x.requires_grad_()
    out = linear(x, weight.detach(), bias)
    assert torch.autograd.grad(out.sum(), x)[0].shape == x.shape
    with torch.no_grad():
        assert not linear(x, weight, bias).requires_grad


@pytest.mark.parametrize(
    ("x", "weight", "why"),
    [
        (torch.randn(70, 6, dtype=torch.float64), torch.randn(5, 6, dtype=torch.float64), "for float32"),
        (torch.randn(70, 6).bfloat16(), torch.randn(5, 6).bfloat16(), "for float32"),
        (torch.randn(63, 6), torch.randn(5, 6), "fewer than 64 rows"),
        (torch.randn(0, 6), torch.randn(5, 6), "fewer than 64 rows"),
        (torch.randn(70, 6, device="meta"), torch.randn(5, 6, device="meta"), "not plain tensors"),
        (torch.randn(70, 6), torch.randn(0, 6), "fewer than 64 rows"),
        (torch.randn(70, 0), torch.randn(5, 0), "fewer than 64 rows"),
    ],
)
def test_what_onednn_is_not_for_is_torch_s_and_said(
    x: Tensor, weight: Tensor, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOSSAMER_LINEAR", "onednn")
    found = explain_linear(x, weight)
    assert found.way == "torch"
    assert why in str(found)
    assert linear(x, weight).shape == (len(x), len(weight))


@pytest.mark.parametrize(
    ("weight", "bias"),
    [
        ((6,), None), ((6,), ()), ((5, 6), ()), ((5, 6), (1,)), ((5, 6), (1, 5)), ((5, 6), (70, 5)), ((5, 6), (4,)),
        ((5, 6), (50,)), ((), None), ((5, 6, 2), None), ((5, 7), None),
    ],
)  # fmt: skip
def test_other_shapes_are_torch_s_to_broadcast_or_to_refuse(
    weight: tuple[int, ...], bias: tuple[int, ...] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOSSAMER_LINEAR", "onednn")
    tensors = torch.randn(70, 6), torch.randn(weight), None if bias is None else torch.randn(bias)

    def answer(product: Callable[..., Tensor]) -> Tensor | str:
        try:
            return product(*tensors)
        except RuntimeError as problem:
            return str(problem)

    # Where tests check annotations these shapes are none of its own: the bare function takes them as torch does.
    ours, wanted = answer(inspect.unwrap(linear)), answer(F.linear)
    if isinstance(wanted, str):
        assert ours == wanted
    else:
        torch.testing.assert_close(ours, wanted)


def test_where_onednn_is_switched_off_torch_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOSSAMER_LINEAR", "onednn")
    x, weight = torch.randn(70, 6), torch.randn(5, 6)
    with monkeypatch.context() as patch:
        patch.setattr(torch.backends.mkldnn, "enabled", False)
        assert str(explain_linear(x, weight)) == "torch: torch.backends.mkldnn is switched off"
    assert explain_linear(x, weight).way == "onednn"


@pytest.mark.parametrize("way", WAYS, indirect=True)
def test_compilers_counters_and_autocast_see_torch_s_product(way: str) -> None:
    module, x = Linear(8, 4), torch.randn(70, 8)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), F.linear(x, module.weight, module.bias))
    exported = torch.export.export(module, (x,))
    torch.testing.assert_close(exported.module()(x), F.linear(x, module.weight, module.bias))
    with FlopCounterMode(display=False) as counter:
        module(x)
    assert counter.get_total_flops() == 2 * 70 * 8 * 4
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert module(x).dtype == torch.bfloat16


def test_an_unknown_way_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOSSAMER_LINEAR", "mkl")
    for x in (torch.randn(70, 6), torch.randn(1, 6)):  # the second is torch's whatever the variable says
        with pytest.raises(InputError, match="GOSSAMER_LINEAR is 'mkl'; it must be one of auto, torch, onednn"):
            linear(x, torch.randn(5, 6))
    monkeypatch.setenv("GOSSAMER_LINEAR", "")
    assert linear(torch.randn(70, 6), torch.randn(5, 6)).shape == (70, 5)


def test_auto_is_the_same_in_every_process() -> None:
    """Resumed trainings rest on it."""
    code = (
        "import torch; from gossamer.kernels import explain_linear; "
        "print(explain_linear(torch.ones(64, 8), torch.ones(8, 8)).way)"
    )
    line = [sys.executable, "-c", code]
    assert len({subprocess.run(line, capture_output=True, text=True, check=True).stdout for _ in range(2)}) == 1
