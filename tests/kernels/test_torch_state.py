"""Torch's private names mean what Gossamer takes them for, and where they are missing nothing is taken for plain."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import gossamer
from gossamer.kernels import torch_state
from gossamer.kernels.torch_state import is_intercepted, is_plain_eager, is_plain_tensor

PRIVATE = re.compile(r"\btorch\._[a-zA-Z]|\bforward_ad\._|\bops\.\w+\._")
x = torch.zeros(3)


def seen_by(read: Callable[[], object], around: Callable[[Callable[[Tensor], Tensor]], object]) -> object:
    """What `read` says inside of a transform or a trace."""
    said = []

    def function(y: Tensor) -> Tensor:
        said.append(read())
        return y.sum()

    around(function)
    return said[0]


def test_this_torch_has_all_of_them() -> None:
    assert torch_state.MISSING == []
    assert torch_state.has_fused_attention()


def test_no_other_file_reads_private_names() -> None:
    sources = Path(gossamer.__file__).parent.rglob("*.py")
    assert [path.name for path in sources if PRIVATE.search(path.read_text())] == ["torch_state.py"]


def test_nothing_is_seen_where_nothing_is() -> None:
    assert not is_intercepted()
    assert not torch_state.is_jit_traced()
    assert not torch_state.in_forward_mode()
    assert not torch_state.in_transform()
    assert torch_state.transforms() == []
    assert is_plain_eager(x)
    with torch.inference_mode():
        assert is_plain_eager(torch.zeros(3))


@pytest.mark.parametrize("mode", [TorchFunctionMode, TorchDispatchMode])
def test_modes_intercept(mode: type) -> None:
    class Passing(mode):  # type: ignore[misc, valid-type]
        def __torch_function__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            return function(*args, **(kwargs or {}))

        __torch_dispatch__ = __torch_function__

    with Passing():
        assert is_intercepted()
        assert not is_plain_eager(x)


def test_transforms_are_named_from_the_outermost_on() -> None:
    def both(function: Callable[[Tensor], Tensor]) -> object:
        return torch.func.vmap(torch.func.grad(function))(x[None])

    assert seen_by(torch_state.transforms, both) == ["Vmap", "Grad"]
    assert seen_by(is_intercepted, both) is True
    assert seen_by(torch_state.in_transform, both) is True
    said: list[bool] = []
    torch.func.vmap(lambda y: said.append(torch_state.is_wrapped_by_transform(y)) or y.sum())(x[None])
    assert said == [True]
    assert not torch_state.is_wrapped_by_transform(x)


def test_traces_forward_mode_and_profiles_are_seen() -> None:
    def traced(function: Callable[[Tensor], Tensor]) -> object:
        return torch.jit.trace(function, x, check_trace=False)

    with pytest.warns(DeprecationWarning, match="torch.jit"):
        assert seen_by(torch_state.is_jit_traced, traced) is True
    with forward_ad.dual_level():
        assert torch_state.in_forward_mode()
        assert is_intercepted()
    with torch.profiler.profile():
        assert not is_intercepted()
        assert not is_plain_eager(x)


def test_only_tensors_that_are_what_they_hold_are_plain() -> None:
    assert is_plain_tensor(torch.nn.Parameter(x))
    assert is_plain_tensor(x.requires_grad_(False).clone())
    for other in (torch._neg_view(x), torch.zeros(3, device="meta"), torch._to_functional_tensor(x)):
        assert not is_plain_tensor(other)
    assert not is_plain_eager(torch.zeros(3, requires_grad=True))
    with torch.no_grad():
        assert is_plain_eager(torch.zeros(3, requires_grad=True))


def test_fused_attention_is_attention() -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v, grad = (torch.randn(1, 2, 5, 8, generator=generator) for _ in range(4))
    mask = torch.randn(1, 1, 5, 5, generator=generator)
    out, lse = torch_state.fused_attention(q, k, v, mask, 0.3)
    grads = torch_state.fused_attention_backward(grad, q, k, v, out, lse, mask, 0.3)
    exact = [one.double().requires_grad_() for one in (q, k, v)]
    scores = exact[0] @ exact[1].mT * 0.3 + mask
    wanted = scores.softmax(-1) @ exact[2]
    torch.testing.assert_close(out.double(), wanted, rtol=0, atol=1e-6)
    torch.testing.assert_close(lse.double(), scores.logsumexp(-1), rtol=0, atol=1e-6)
    for found, one in zip(grads, torch.autograd.grad(wanted, exact, grad.double()), strict=True):
        torch.testing.assert_close(found.double(), one, rtol=0, atol=1e-6)


@pytest.mark.skipif(not torch_state.has_onednn_linear(), reason="this torch has no oneDNN")
def test_the_product_of_onednn_is_a_product() -> None:
    generator = torch.Generator().manual_seed(0)
    rows, weight, bias = (torch.randn(*shape, generator=generator) for shape in ((7, 5), (3, 5), (3,)))
    for one in (bias, None):
        wanted = torch.nn.functional.linear(rows, weight, one)
        torch.testing.assert_close(torch_state.onednn_linear(rows, weight, one), wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["_C._len_torch_dispatch_stack", "_C._functorch.maybe_current_level"])
def test_without_a_name_nothing_is_plain_and_attention_is_the_same(name: str) -> None:
    """In a process of its own, in which this torch has lost the name after torch itself was loaded."""
    owner, attribute = name.rsplit(".", 1)
    script = (
        f"import torch, gossamer as gs; real = torch.{owner}.{attribute}; del torch.{owner}.{attribute}\n"
        "from gossamer.kernels import torch_state\n"
        f"torch.{owner}.{attribute} = real\n"
        "x = torch.arange(24.0).view(1, 1, 6, 4)\n"
        f"assert torch_state.MISSING == [{name!r}] and not torch_state.is_plain_eager(x)\n"
        "assert gs.explain(x, x, x, gs.Window(1, 1)).backend == 'dense'\n"
        "a, b = (gs.attend(x, x, x, gs.Window(1, 1), backend=name) for name in ('cpu', 'reference'))\n"
        "torch.testing.assert_close(a, b)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
