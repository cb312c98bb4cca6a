"""The compiled kernel in torch's machinery: opcheck, compiling, transforms, autocast, threads, forks and loaders."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from kernel_cases import Call, Outcome, assert_same, random_call, relative_error, run
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.autograd import forward_ad
from torch.utils.data import DataLoader, Dataset

from gossamer import Full, Global, PerHead, Window, attend
from gossamer.errors import InputError
from gossamer.kernels.backends.cpu.attention import OPERATOR
from gossamer.kernels.inputs import make_inputs
from gossamer.patterns import Pattern

MIXED = PerHead((Window(5, 3) | Global(), 1), (Window(3, 3, 2), 1), (Full(causal=True), 1))
LENGTH = 40


def call_of(dtype: torch.dtype = torch.float32, pattern: Pattern = MIXED, length: int = LENGTH, **options: Any) -> Call:
    flags = torch.arange(length).expand(2, -1) % 9 == 0
    call = random_call(pattern, length, heads=3, seed=length, global_mask=flags).with_options(**options)
    return call.to(dtype)


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "padding and dropout": {"key_mask": torch.arange(LENGTH).expand(2, -1) < 30, "dropout": 0.2, "seed": 3},
    "documents": {"segments": torch.arange(LENGTH).expand(2, -1) // 13, "scale": 0.4},
    "table": {"distance_bias": (torch.linspace(-1, 1, 33).view(3, 11).requires_grad_(), 4)},
    "positions": {"positions": torch.arange(LENGTH).expand(2, -1) * 2, "query_start": 0},
}


@pytest.mark.parametrize(
    ("dtype", "options"),
    [*((torch.float32, name) for name in OPTIONS), (torch.bfloat16, "plain"), (torch.float16, "padding and dropout")],
    ids=str,
)
def test_opcheck_of_the_operator_and_its_backward(dtype: torch.dtype, options: str) -> None:
    call = call_of(dtype, **OPTIONS[options])
    leaves = [x.requires_grad_() for x in (call.q, call.k, call.v)]
    operands = OPERATOR.operands(make_inputs(*leaves, call.pattern, **call.options))
    torch.library.opcheck(OPERATOR.attention, operands)
    with torch.no_grad():
        out, lse = OPERATOR.attention(*operands)
    fixed = [x.detach() if isinstance(x, Tensor) else x for x in operands]
    for grad_lse in (None, torch.randn_like(lse)):
        torch.library.opcheck(
            OPERATOR.attention_backward,
            (torch.randn_like(out), grad_lse, out, lse, *fixed, "distance_bias" in call.options),
            # It has a formula of its own, which refuses.
            test_utils=("test_schema", "test_faketensor"),
        )


def attention(q: Tensor, k: Tensor, v: Tensor, call: Call) -> Tensor:
    return attend(q, k, v, call.pattern, backend="cpu", **call.options)


def gradients(function: Callable[..., Tensor], call: Call) -> Tensor:
    """The output and all gradients, one after the other."""
    q, k, v = (x.detach().clone().requires_grad_() for x in (call.q, call.k, call.v))
    out = function(q, k, v, call)
    grads = torch.autograd.grad(out, (q, k, v), call.grad_out)
    return torch.cat([x.float().flatten() for x in (out.detach(), *grads)])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_graph_serves_every_length(dtype: torch.dtype) -> None:
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(attention, fullgraph=True, dynamic=True, backend=counter)
    counts = []
    for length in (40, 61, 300, 1100):
        call = call_of(dtype, length=length)
        assert torch.equal(gradients(compiled, call), gradients(attention, call))
        counts.append(counter.frame_count)
    assert len(set(counts)) == 1, counts


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.torch.jit.*is deprecated:DeprecationWarning")  # torch's own, as inductor loads
def test_one_inductor_graph_serves_every_length() -> None:
    torch._dynamo.reset()
    compiled = torch.compile(attention, fullgraph=True, dynamic=True)
    for length in (40, 111, 700):
        call = call_of(length=length)
        assert relative_error(gradients(compiled, call), gradients(attention, call)) < 1e-6


class Attention(nn.Module):
    def __init__(self, backend: str) -> None:
        super().__init__()
        self.backend = backend

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attend(q, k, v, Window(5, 3), backend=self.backend)


def test_an_exported_program_does_without_the_kernel() -> None:
    """`auto` writes plain operations into it; the kernel by name is refused."""
    call = call_of()
    arguments = (call.q, call.k, call.v)
    program = torch.export.export(Attention("auto"), arguments)
    assert not [node for node in program.graph.nodes if "gossamer" in str(node.target)]
    assert relative_error(program.module()(*arguments), Attention("reference")(*arguments)) < 1e-6
    with pytest.raises(InputError, match="'cpu' cannot compute this call: an exported program may run where it is not"):
        torch.export.export(Attention("cpu"), arguments)


def test_twice_in_one_graph() -> None:
    """Its output goes into it again, and all inputs are used twice; as the reference does."""
    call = call_of()

    def twice(q: Tensor, k: Tensor, v: Tensor, call: Call, backend: str = "cpu") -> Tensor:
        once = attend(q, k, v, call.pattern, backend=backend, **call.options)
        return attend(once, k + once, v, Full(), backend=backend) + once

    wanted = gradients(lambda *args: twice(*args, backend="reference"), call.to(torch.float64))
    assert relative_error(gradients(twice, call), wanted) < 2e-6
    compiled = torch.compile(twice, fullgraph=True, backend="aot_eager")
    assert torch.equal(gradients(compiled, call), gradients(twice, call))


Tensors = tuple[Tensor, Tensor, Tensor]
TRANSFORMS: dict[str, Callable[[Callable[..., Tensor], Tensors], Tensor]] = {
    "grad": lambda f, x: torch.func.grad(lambda q: f(q, *x[1:]).square().sum())(x[0]),
    "vmap": lambda f, x: torch.vmap(f)(*(torch.stack([one, 2 * one]) for one in x)),
    "vmap of grad": lambda f, x: torch.vmap(torch.func.grad(lambda q: f(q, *x[1:]).sum()))(torch.stack([x[0]] * 2)),
    "jvp": lambda f, x: torch.func.jvp(f, x, x)[1],
    "jvp of vmap": lambda f, x: torch.func.jvp(torch.vmap(f), *[tuple(torch.stack([y, y / 2]) for y in x)] * 2)[1],
    "hessian": lambda f, x: torch.func.hessian(lambda t: f(t[0] * x[0], t[1] * x[1], x[2]).sum())(torch.ones(2)),
    "grad of grad": lambda f, x: torch.func.grad(lambda v: gradient_of_sum(f, x, v))(x[2]),
    "forward mode": lambda f, x: tangent(f, x),
}


def gradient_of_sum(function: Callable[..., Tensor], inputs: Tensors, v: Tensor) -> Tensor:
    """The sum of the queries' gradient, as a function of the values."""
    return torch.func.grad(lambda q: function(q, inputs[1], v).sum())(inputs[0]).sum()


def tangent(function: Callable[..., Tensor], inputs: Tensors) -> Tensor:
    with forward_ad.dual_level():
        q = forward_ad.make_dual(inputs[0], torch.ones_like(inputs[0]))
        return forward_ad.unpack_dual(function(q, *inputs[1:])).tangent


@pytest.mark.filterwarnings("ignore:.torch.jit.*is deprecated:DeprecationWarning")  # torch's own, as it loads the rules
@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")  # torch's own, of its attention in vmap
@pytest.mark.parametrize("length", [LENGTH, 1100])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms_work_or_are_refused(name: str, length: int) -> None:
    """`auto` leaves them to backends in torch's own operations; the compiled ones say that they cannot."""
    call = call_of(length=length)
    inputs = (call.q, call.k, call.v)
    found, wanted = (
        TRANSFORMS[name](lambda q, k, v, b=backend: attend(q, k, v, call.pattern, backend=b, **call.options), inputs)
        for backend in ("auto", "reference")
    )
    assert relative_error(found, wanted) < 2e-6
    for backend in ("cpu", "blocked"):
        with pytest.raises(InputError, match=f"{backend}' cannot compute this call: it has no (rules|forward-mode)"):
            TRANSFORMS[name](lambda q, k, v, b=backend: attend(q, k, v, Window(5, 3), backend=b), inputs)


def test_a_graph_is_walked_twice() -> None:
    call = call_of()
    q = call.q.requires_grad_()
    out = attention(q, call.k, call.v, call)
    first, second = (torch.autograd.grad(out, q, call.grad_out, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)


def test_without_gradients() -> None:
    call = call_of()
    q = call.q.requires_grad_()
    wanted = attention(q, call.k, call.v, call)
    assert wanted.requires_grad
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            found = attention(q, call.k, call.v, call)
        assert not found.requires_grad
        assert torch.equal(found, wanted)
        assert found.is_inference() == (mode is torch.inference_mode)


@pytest.mark.parametrize("leaf", ["q", "k", "v"])
def test_a_gradient_for_one_input_alone(leaf: str) -> None:
    call = call_of()
    wanted = dict(zip("qkv", run(call, "cpu").grads, strict=True))[leaf]
    tensors = {name: getattr(call, name) for name in "qkv"}
    tensors[leaf].requires_grad_()
    out, lse = attend(**tensors, pattern=call.pattern, backend="cpu", return_lse=True, **call.options)
    assert call.grad_out is not None
    assert call.grad_lse is not None
    (found,) = torch.autograd.grad((out, lse), tensors[leaf], (call.grad_out, call.grad_lse.float()))
    assert relative_error(found, wanted) < 1e-6


def test_gradients_come_in_any_layout() -> None:
    """That of a sum has one number for all places; others lie transposed, or with gaps."""
    call = call_of()
    shape = call.q.shape
    layouts = (
        torch.ones(()).expand(shape),
        torch.arange(shape[3]).float().expand(shape),
        torch.randn(shape[::-1]).permute(3, 2, 1, 0),
        torch.randn(*shape, 2)[..., 1],
        torch._neg_view(torch.randn(shape)),
    )
    for grad_out in layouts:
        found, wanted = (run(replace(call, grad_out=x), "cpu") for x in (grad_out, grad_out.clone().contiguous()))
        assert_same(found, wanted, 0.0, 0.0)
    q = call.q.clone().requires_grad_()
    attention(q, call.k, call.v, call).sum().backward()
    wanted = run(replace(call, grad_out=torch.ones(shape), grad_lse=None), "cpu")
    assert q.grad is not None
    assert torch.equal(q.grad, wanted.grads[0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_computes_what_half_precision_inputs_give(dtype: torch.dtype) -> None:
    call = call_of()
    half = replace(call.to(dtype), grad_lse=None)
    wanted = run(half, "cpu")
    q, k, v = (x.detach().clone().requires_grad_() for x in (call.q, call.k, call.v))
    with torch.autocast("cpu", dtype):
        out = attention(q, k, v, call)
    assert out.dtype == dtype
    grads = torch.autograd.grad(out, (q, k, v), half.grad_out)
    assert torch.equal(out, wanted.out)
    for found, other in zip(grads, wanted.grads, strict=True):
        assert found.dtype == torch.float32
        assert torch.equal(found, other.float())


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


LARGE = [
    (Window(90, 70) | Global(), {}),
    (Full(), {}),
    (Window(20, 9, 3), {"key_mask": torch.arange(700) < torch.tensor([[700], [401]])}),
    (Full(causal=True), {"segments": torch.arange(700).expand(2, -1) // 131, "dropout": 0.1, "seed": 7}),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("pattern", "options"), LARGE, ids=str)
def test_bitwise_the_same_for_any_number_of_threads(
    pattern: Pattern, options: dict[str, Any], dtype: torch.dtype, threads: Callable[[int], None]
) -> None:
    call = call_of(dtype, pattern, 700, **options)
    call = replace(call, k=call.k[:, :1], v=call.v[:, :1])
    threads(1)
    first = run(call, "cpu")
    for count in (1, 2, 3, 5, 16):
        threads(count)
        for _ in range(2):
            assert_same(run(call, "cpu"), first, 0.0, 0.0)


def test_many_python_threads_at_once(threads: Callable[[int], None]) -> None:
    """Each with calls of its own, forward and backward, while the kernel has several threads too."""
    threads(2)
    jobs = [call_of(dtype, length=n) for n in (33, 150, 420) for dtype in (torch.float32, torch.bfloat16)]
    wanted = [run(call, "cpu") for call in jobs]
    found: dict[int, list[Outcome]] = {i: [] for i in range(4)}

    def work(number: int) -> None:
        torch.set_num_threads(2)
        for _ in range(3):
            found[number] += [run(call, "cpu") for call in jobs]

    workers = [threading.Thread(target=work, args=(number,)) for number in found]
    for one in workers:
        one.start()
    for one in workers:
        one.join(timeout=120)
    for outcomes in found.values():
        assert len(outcomes) == 3 * len(jobs)
        for i, outcome in enumerate(outcomes):
            assert_same(outcome, wanted[i % len(jobs)], 0.0, 0.0)


class Gradients(Dataset[Tensor]):
    """Outputs and gradients of calls, computed where the loader's worker is."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Tensor:
        call = call_of(length=150 + index)
        torch.set_num_threads(2)  # loaders ask for one; nothing may hang on it
        return torch.cat([gradients(attention, call).sum()[None], gradients(attention, call)[:50]])


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")  # what is tested
@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")  # on one core
def test_loaders_compute_in_their_workers(method: str, threads: Callable[[int], None]) -> None:
    """Forked after the parent has computed with several threads, or spawned; forward and backward, in both."""
    threads(3)
    data = Gradients()
    wanted = torch.stack([data[i] for i in range(4)])
    loader = DataLoader(data, batch_size=2, num_workers=2, multiprocessing_context=method, timeout=120)
    assert torch.equal(torch.cat(list(loader)), wanted)
    assert torch.equal(torch.stack([data[i] for i in range(4)]), wanted), "the parent goes on"
