"""Whether anything of torch's reads along when a kernel is called; if not, the call can leave torch out.

Going through torch's operators takes longer than the attention of a short text.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import Parameter

__all__ = ["is_plain_tensor", "nobody_reads_along", "somebody_transforms"]


def nobody_reads_along(*tensors: Tensor) -> bool:
    """Whether these are plain tensors in main memory, and no gradient, trace, transform, mode or profile is made."""
    return (
        not torch.compiler.is_compiling()
        and all(map(is_plain_tensor, tensors))
        and not (torch.is_grad_enabled() and any(x.requires_grad for x in tensors))
        and not somebody_transforms()
        and not torch._C._autograd._profiler_enabled()
    )


def somebody_transforms() -> bool:
    """Whether a trace, a mode, a transform or a forward-mode derivative takes part in what torch computes now."""
    return (
        torch._C._get_tracing_state() is not None
        or bool(torch._C._len_torch_dispatch_stack())
        or bool(torch._C._len_torch_function_stack())
        or torch._C._functorch.maybe_current_level() is not None
        or forward_ad._current_level >= 0
    )


def is_plain_tensor(x: Tensor) -> bool:
    """Whether the numbers lie where `data_ptr` says, as they are: torch lists what else it does in a tensor's keys."""
    return type(x) in (Tensor, Parameter) and _keys(x) in _PLAIN_KEYS


def _keys(x: Tensor) -> int:
    return int(torch._C._dispatch_keys(x).raw_repr())


def _keys_of_plain_tensors() -> frozenset[int]:
    with torch.inference_mode():
        inferred = torch.empty(0)
    return frozenset({_keys(torch.empty(0)), _keys(inferred)})


_PLAIN_KEYS = _keys_of_plain_tensors()
