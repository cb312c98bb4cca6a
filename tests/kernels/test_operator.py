"""`blocked` and `cpu` as operators of torch: its registration, torch.compile, checkpointing, and what it refuses."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from kernel_cases import Call, random_call, relative_error, run
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from torch._subclasses import FakeTensorMode
from torch.utils.checkpoint import checkpoint

from gossamer import Full, Global, PerHead, Window, attend
from gossamer.errors import InputError
from gossamer.kernels.backends.blocked.attention import OPERATOR as BLOCKED
from gossamer.kernels.backends.cpu.attention import OPERATOR as CPU
from gossamer.kernels.inputs import make_inputs
from gossamer.kernels.once import differentiable_once
from gossamer.kernels.operator import Operator

COMPILED = {
    "window": Window(5, 3),
    "global": Window(5, 3) | Global(),
    "per head": PerHead((Window(5, 3) | Global(), 1), (Window(3, 3, 2), 1)),
}


@pytest.fixture(autouse=True)
def fresh_compiler() -> None:
    torch._dynamo.reset()


def padded_call(pattern: object, length: int) -> Call:
    real = torch.arange(length) < torch.tensor([[length], [length - length // 3]])
    flags = torch.arange(length).expand(2, -1) % 9 == 0
    return random_call(pattern, length, seed=length, key_mask=real, global_mask=flags)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"key_mask": torch.arange(20).expand(2, -1) < 15, "dropout": 0.2, "seed": 3},
        {"segments": torch.arange(20).expand(2, -1) // 7, "global_mask": torch.arange(20).expand(2, -1) == 3},
    ],
    ids=["plain", "padding and dropout", "segments and global"],
)
@pytest.mark.parametrize(
    ("operator", "dtype"), [(BLOCKED, torch.float64), (CPU, torch.float32)], ids=["blocked", "cpu"]
)
def test_opcheck(operator: Operator, dtype: torch.dtype, options: dict[str, object]) -> None:
    call = random_call(Window(3, 2) | Global(), 20, **options).to(dtype)  # type: ignore[arg-type]
    inputs = make_inputs(*(x.requires_grad_() for x in (call.q, call.k, call.v)), call.pattern, **call.options)
    torch.library.opcheck(operator.attention, operator.operands(inputs))


def test_all_optional_tensors_at_once() -> None:
    """torch treats a list of nothing but tensors in a way of its own."""
    call = padded_call(COMPILED["global"], 30).with_options(
        segments=torch.zeros(2, 30, dtype=torch.long), positions=torch.arange(30).expand(2, -1), dropout=0.1, seed=1
    )
    q = call.q.requires_grad_()
    attend(q, call.k, call.v, call.pattern, backend="blocked", **call.options).sum().backward()
    assert q.grad is not None


@pytest.mark.parametrize("name", COMPILED)
def test_compiled_once_for_all_lengths(name: str) -> None:
    """One whole graph, forward and backward, and a second one where `auto` changes its mind."""
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(attention, fullgraph=True, dynamic=True, backend=counter)
    counts = {}
    for length in (40, 60, 300, 1000, 1300):
        call = padded_call(COMPILED[name], length).to(torch.float32)
        assert relative_error(gradients(compiled, call), gradients(attention, call)) < 1e-6
        counts[length] = counter.frame_count
    assert counts[300] == counts[40]
    assert counts[1300] == counts[1000] <= counts[40] + 1


def attention(q: Tensor, k: Tensor, v: Tensor, call: Call) -> Tensor:
    return attend(q, k, v, call.pattern, **call.options)


def gradients(function: Callable[..., Tensor], call: Call) -> Tensor:
    """The output and all gradients, one after the other."""
    q, k, v = (x.detach().clone().requires_grad_() for x in (call.q, call.k, call.v))
    out = function(q, k, v, call)
    return torch.cat([x.flatten() for x in (out.detach(), *torch.autograd.grad(out, (q, k, v), call.grad_out))])


def test_compiled_dropout_draws_its_seed_anew() -> None:
    compiled = torch.compile(
        lambda x: attend(x, x, x, Window(5, 5), dropout=0.5), fullgraph=True, dynamic=True, backend="aot_eager"
    )
    x = torch.randn(1, 1, 50, 8)
    assert not torch.equal(compiled(x), compiled(x))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.torch.jit.*is deprecated:DeprecationWarning")  # torch's own, as inductor loads
def test_inductor() -> None:
    compiled = torch.compile(attention, fullgraph=True, dynamic=True)
    for length in (40, 111, 1000):
        call = padded_call(COMPILED["global"], length).to(torch.float32)
        assert relative_error(gradients(compiled, call), gradients(attention, call)) < 1e-5


def test_checkpointing_replays_the_dropout() -> None:
    """Recomputed activations drop what they dropped: the seed comes from torch's generator, which is put back."""
    call = random_call(Window(9, 9), 60)

    def block(q: Tensor) -> Tensor:
        return attend(q * 2, call.k, call.v, call.pattern, dropout=0.5, backend="blocked")

    grads = []
    for function in (block, lambda q: checkpoint(block, q, use_reentrant=False)):
        torch.manual_seed(3)
        q = call.q.clone().requires_grad_()
        function(q).square().sum().backward()
        grads.append(q.grad)
    assert torch.equal(*grads)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("backend", ["auto", "cpu", "blocked", "dense"])
def test_a_second_derivative_is_refused_with_a_way_out(backend: str, dtype: torch.dtype) -> None:
    if backend == "cpu" and dtype == torch.float64:
        dtype = torch.float32
    call = random_call(Window(2, 2), 9).to(dtype)
    q = call.q.requires_grad_()
    out = attend(q, call.k, call.v, call.pattern, backend=backend)
    (grad,) = torch.autograd.grad(out.square().sum(), q, create_graph=True)
    with pytest.raises(InputError, match=r"no second derivative; use backend='reference'"):
        grad.sum().backward()


def test_the_reference_has_second_derivatives() -> None:
    call = random_call(Window(2, 2), 5, batch=1, heads=1, size=3, key_mask=torch.tensor([[1, 1, 0, 1, 1]]).bool())
    tensors = tuple(x.requires_grad_() for x in (call.q, call.k, call.v))
    assert torch.autograd.gradgradcheck(
        lambda *qkv: attend(*qkv, call.pattern, backend="reference", **call.options), tensors
    )


def test_a_bias_that_learns_leaves_second_derivatives_as_they_were() -> None:
    call = random_call(Full(), 6)
    q, bias = call.q.requires_grad_(), torch.zeros(1, 1, 6, 6, dtype=torch.float64, requires_grad=True)
    grads = []
    for backend in ("dense", "reference"):
        out = attend(q, call.k, call.v, call.pattern, bias=bias, backend=backend)
        (grad,) = torch.autograd.grad(out.square().sum(), q, create_graph=True)
        grads.append(torch.autograd.grad(grad.square().sum(), q)[0])
    torch.testing.assert_close(grads[0], grads[1], rtol=0, atol=1e-10)


def test_what_does_not_learn_does_not_begin_to_on_dense() -> None:
    call = random_call(Full(), 6)
    q, k, v = differentiable_once(call.q.requires_grad_(), call.k, call.v)
    assert (q.requires_grad, k.requires_grad, v.requires_grad) == (True, False, False)


def test_the_first_derivative_of_dense_goes_on_through_what_was_before() -> None:
    """A graph of the gradients is made, and is of use for all that is not attention."""
    call = random_call(Window(2, 2), 9)
    weight = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    out = attend(call.q * weight, call.k, call.v, call.pattern, backend="dense")
    (grad,) = torch.autograd.grad(out.square().sum(), weight, create_graph=True)
    other = run(replace(call, q=call.q * 2, grad_out=None), "reference").out
    assert torch.allclose(out, other)
    with pytest.raises(InputError, match="backend 'dense' has no second derivative"):
        grad.backward()


@pytest.mark.parametrize("backend", ["blocked", "dense", "reference"])
def test_autocast_computes_what_half_precision_inputs_give(backend: str) -> None:
    call = random_call(Full(causal=True), 40).to(torch.float32)
    wanted = attend(*(x.bfloat16() for x in (call.q, call.k, call.v)), call.pattern, backend=backend)
    q = call.q.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        found = attend(q, call.k, call.v, call.pattern, backend=backend)
        found.sum().backward()
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, wanted)
    assert q.grad is not None
    assert q.grad.dtype == torch.float32


def test_autocast_leaves_float64_alone() -> None:
    call = random_call(Window(3, 3), 20)
    with torch.autocast("cpu", torch.bfloat16):
        found = attend(call.q, call.k, call.v, call.pattern, backend="blocked")
    assert torch.equal(found, attend(call.q, call.k, call.v, call.pattern, backend="blocked"))


@pytest.mark.parametrize("backend", ["blocked", "dense"])
def test_training_after_inference_mode(backend: str) -> None:
    """What the first call keeps for later ones must serve a call that trains."""
    call = random_call(Window(6, 7), 43)
    with torch.inference_mode():
        inferred = attend(call.q, call.k, call.v, call.pattern, backend=backend)
    q = call.q.requires_grad_()
    out = attend(q, call.k, call.v, call.pattern, backend=backend)
    out.sum().backward()
    assert torch.equal(out, inferred)


def test_fake_tensors_leave_nothing_behind() -> None:
    with FakeTensorMode() as mode:
        fake = mode.from_tensor(torch.randn(1, 1, 37, 4))
        assert attend(fake, fake, fake, Window(4, 4), backend="dense").shape == fake.shape
        assert attend(fake, fake, fake, Window(4, 4), backend="blocked").shape == fake.shape
    x = torch.randn(1, 1, 37, 4)
    assert relative_error(*(attend(x, x, x, Window(4, 4), backend=one) for one in ("dense", "reference"))) < 1e-6
