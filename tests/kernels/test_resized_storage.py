"""Tensors whose memory was given back or cut off are refused in one line: to read them would end the process."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from gossamer import Full, Global, Window, attend, explain
from gossamer.errors import InputError
from gossamer.kernels import attention_rows, top_keys

BACKENDS = ["auto", "cpu", "blocked", "dense", "reference"]
LENGTH = 40


def arguments() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 2, LENGTH, 16, generator=generator) for _ in range(3))
    return {"q": q, "k": k, "v": v}


def per_token() -> dict[str, Tensor]:
    count = torch.arange(LENGTH).expand(2, -1).contiguous()
    return {
        "key_mask": count > 2,
        "segments": count // 9,
        "positions": count.clone(),
        "global_mask": count % 7 == 1,
    }


def shrunk(x: Tensor, bytes_left: int) -> Tensor:
    x = x.clone()
    x.untyped_storage().resize_(bytes_left)
    return x


def refused(name: str, left: int, function: Any, **options: Any) -> None:
    message = rf"{name} needs a storage of \d+ bytes and its own has {left}: it was resized; give a tensor whose memory"
    with pytest.raises(InputError, match=message) as error:
        function(**options)
    assert "\n" not in str(error.value)


def cuts(x: Tensor) -> list[int]:
    return [0, x.untyped_storage().nbytes() - 1]


@pytest.mark.parametrize("backend", BACKENDS)
def test_q_k_and_v(backend: str) -> None:
    for name in "qkv":
        whole = arguments()
        for left in cuts(whole[name]):
            cut = {**whole, name: shrunk(whole[name], left)}
            for function in (attend, explain):
                refused(name, left, function, **cut, pattern=Window(5, 3), backend=backend)


def test_calls_like_earlier_ones() -> None:
    """The short way for calls that are known, with gradients and without, and views behind the end of a storage."""
    whole = arguments()
    for _ in range(2):
        attend(**whole, pattern=Full(), backend="cpu")
    for name in "qkv":
        for left in cuts(whole[name]):
            refused(name, left, attend, **{**whole, name: shrunk(whole[name], left)}, pattern=Full(), backend="cpu")
    longer = torch.randn(2, 2, LENGTH + 9, 16)
    view = longer[:, :, 9:]
    attend(view, view, view, Full(), backend="cpu")
    longer.untyped_storage().resize_(longer.numel() * 4 - 4)
    refused("q", longer.numel() * 4 - 4, attend, q=view, k=view, v=view, pattern=Full(), backend="cpu")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", per_token())
def test_values_of_tokens(name: str, backend: str) -> None:
    pattern = Window(5, 3) | Global()
    x = per_token()[name]
    for left in cuts(x):
        options = {"global_mask": per_token()["global_mask"], name: shrunk(x, left)}
        refused(name, left, attend, **arguments(), pattern=pattern, backend=backend, **options)
        if name in ("segments", "positions"):
            for pair in ((shrunk(x, left), x), (x, shrunk(x, left))):
                refused(name, left, attend, **arguments(), pattern=pattern, backend=backend, **{**options, name: pair})


def test_bias_and_seed() -> None:
    bias, seed = torch.zeros(1, 1, LENGTH, LENGTH), torch.tensor([5])
    refused("bias", 0, attend, **arguments(), pattern=Full(), bias=shrunk(bias, 0))
    refused("seed", 0, attend, **arguments(), pattern=Full(), dropout=0.1, seed=shrunk(seed, 0))


def test_weights() -> None:
    whole = arguments()
    q, k, lse = whole["q"], whole["k"], torch.zeros(2, 2, LENGTH)
    refused("q", 0, attention_rows, q=shrunk(q, 0), k=k, pattern=Full(), rows=[1])
    refused("k", 0, top_keys, q=q, k=shrunk(k, 0), pattern=Full(), count=2)
    refused("lse", 0, attention_rows, q=q, k=k, pattern=Full(), rows=[1], lse=shrunk(lse, 0))
    refused("rows", 0, attention_rows, q=q, k=k, pattern=Full(), rows=shrunk(torch.tensor([1]), 0))


@pytest.mark.parametrize("backend", ["cpu", "blocked"])
def test_between_a_call_and_its_backward_pass(backend: str) -> None:
    for name in "qkv":
        leaves = {n: x.requires_grad_() for n, x in arguments().items()}
        out = attend(**leaves, pattern=Window(5, 3), backend=backend)
        leaves[name].untyped_storage().resize_(0)
        refused(name, 0, out.sum().backward)


def compiled(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return attend(q, k, v, Window(5, 3), backend="cpu")


def test_compiled_programs() -> None:
    program, whole = torch.compile(compiled, backend="aot_eager", fullgraph=True), arguments()
    program(**whole)
    refused("k", 0, program, **{**whole, "k": shrunk(whole["k"], 0)})


def test_tensors_without_memory_of_their_own() -> None:
    """A transform's tensors, and those of no bytes, have no storage to look at."""
    q = torch.randn(3, 2, 2, 9, 4)
    found = torch.func.vmap(lambda x: attend(x, x, x, Full(), backend="reference"))(q)
    assert torch.allclose(found[1], attend(q[1], q[1], q[1], Full()), atol=1e-6)
    nothing = torch.empty(0, 2, 9, 4)
    nothing.untyped_storage().resize_(0)
    assert attend(nothing, nothing, nothing, Full()).shape == (0, 2, 9, 4)
