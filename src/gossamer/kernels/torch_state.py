"""All that Gossamer takes of torch's private names: what torch does with a call, and undocumented operators.

Each name is looked up once. Where a torch has it no longer (`MISSING`), its function answers that nothing of the kind
is there, and no tensor counts as plain: calls then go through torch's operators, which know themselves.
"""

from __future__ import annotations

from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import Parameter

__all__ = [
    "MISSING",
    "fused_attention",
    "fused_attention_backward",
    "has_fused_attention",
    "has_onednn_linear",
    "has_tangents",
    "in_forward_mode",
    "in_transform",
    "is_intercepted",
    "is_jit_traced",
    "is_plain_eager",
    "is_plain_tensor",
    "is_wrapped_by_transform",
    "onednn_linear",
    "promise",
    "transforms",
]

MISSING: list[str] = []
"""The private names of state that this torch does not have."""


def _state(path: str, stand_in: Any) -> Any:
    """What torch has under this name, or else the stand-in."""
    found = _private(path)
    if found is None:
        MISSING.append(path)
        return stand_in
    return found


def _private(path: str) -> Any:
    owner: Any = torch
    return reduce(lambda owner, name: getattr(owner, name, None), path.split("."), owner)


_transform_level = _state("_C._functorch.maybe_current_level", lambda: None)
_transform_stack = _state("_C._functorch.get_interpreter_stack", lambda: None)
_is_wrapped = _state("_C._functorch.is_functorch_wrapped_tensor", lambda x: False)
_jit_state = _state("_C._get_tracing_state", lambda: None)
_dispatch_modes = _state("_C._len_torch_dispatch_stack", lambda: 0)
_function_modes = _state("_C._len_torch_function_stack", lambda: 0)
_is_profiled = _state("_C._autograd._profiler_enabled", lambda: False)
_dispatch_keys = _state("_C._dispatch_keys", None)
_HAS_FORWARD_LEVEL = _state("autograd.forward_ad._current_level", None) is not None

_fused = _private("ops.aten._scaled_dot_product_flash_attention_for_cpu")
_fused_backward = _private("ops.aten._scaled_dot_product_flash_attention_for_cpu_backward")
_onednn_linear = _private("ops.mkldnn._linear_pointwise")


def is_plain_eager(*tensors: Tensor) -> bool:
    """Whether these are plain tensors in main memory, and no gradient, trace, transform, mode or profile is made.

    Then a call can leave torch out: to go through its operators takes longer than the attention of a short text.
    """
    return (
        not torch.compiler.is_compiling()
        and all(map(is_plain_tensor, tensors))
        and not (torch.is_grad_enabled() and any(x.requires_grad for x in tensors))
        and not is_intercepted()
        and not _is_profiled()
    )


def is_intercepted() -> bool:
    """Whether a trace, a mode, a transform or a forward-mode derivative takes part in what torch computes now."""
    return (
        _jit_state() is not None
        or bool(_dispatch_modes())
        or bool(_function_modes())
        or _transform_level() is not None
        or in_forward_mode()
    )


def is_jit_traced() -> bool:
    """Whether torch.jit.trace records what is computed."""
    return _jit_state() is not None


def in_forward_mode() -> bool:
    """Whether a level of forward-mode derivatives is entered."""
    return _HAS_FORWARD_LEVEL and forward_ad._current_level >= 0


def in_transform() -> bool:
    """Whether a transform of torch.func is under way."""
    return _transform_level() is not None


def transforms() -> list[str]:
    """The transforms of torch.func that are under way: "Grad", "Jvp", "Vmap" ..., the outermost first."""
    return [str(level.key().name) for level in _transform_stack() or ()] if in_transform() else []


def has_tangents(*tensors: Tensor) -> bool:
    """Whether a forward-mode derivative is made of one of these; one of an outer transform is not in sight, so yes."""
    if "Jvp" in transforms():
        return True
    return in_forward_mode() and any(forward_ad.unpack_dual(x).tangent is not None for x in tensors)


def is_wrapped_by_transform(x: Tensor) -> bool:
    """Whether a transform of torch.func gave this tensor in place of another, whose memory it does not show."""
    return bool(_is_wrapped(x))


def is_plain_tensor(x: Tensor) -> bool:
    """Whether the numbers lie where `data_ptr` says, as they are: torch lists what else it does in a tensor's keys."""
    return type(x) in (Tensor, Parameter) and _keys(x) in _PLAIN_KEYS


def has_fused_attention() -> bool:
    """Whether torch has its fused attention for CPUs with log-sum-exp."""
    return _fused is not None and _fused_backward is not None


def fused_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float) -> tuple[Tensor, Tensor]:
    """Output and log-sum-exp of [batch, heads, length, size] in float32; `mask` is added to the scores."""
    out, lse = _fused(q, k, v, attn_mask=mask, scale=scale)
    return out, lse


def fused_attention_backward(
    grad_out: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, mask: Tensor | None, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v; `out` and `lse` may be those of more keys than these."""
    grad_q, grad_k, grad_v = _fused_backward(grad_out, q, k, v, out, lse, 0.0, False, attn_mask=mask, scale=scale)
    return grad_q, grad_k, grad_v


def has_onednn_linear() -> bool:
    """Whether torch has oneDNN's product with a weight."""
    return _onednn_linear is not None and torch.backends.mkldnn.is_available()


def onednn_linear(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """rows [rows, inputs] times weight [outputs, inputs], in float32."""
    out: Tensor = _onednn_linear(rows, weight, bias, "none", [], "")
    return out


def promise(condition: bool) -> None:
    """Tell torch.export that this always holds, of numbers that it cannot see."""
    torch._check(condition)


def _keys(x: Tensor) -> int:
    return 0 if _dispatch_keys is None else int(_dispatch_keys(x).raw_repr())


def _keys_of_plain_tensors() -> frozenset[int]:
    if MISSING:
        return frozenset()
    with torch.inference_mode():
        inferred = torch.empty(0)
    return frozenset({_keys(torch.empty(0)), _keys(inferred)})


_PLAIN_KEYS = _keys_of_plain_tensors()
