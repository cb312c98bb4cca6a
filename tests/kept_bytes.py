"""Bytes that autograd keeps of a forward pass, until its backward pass has run."""

from collections.abc import Callable
from weakref import WeakSet

import torch
from torch import Tensor, nn


class _Held:
    """A tensor that autograd keeps, for as long as it does: results that nobody reads take theirs with them."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


def kept_bytes(forward: Callable[[], Tensor], module: nn.Module) -> int:
    """Of one call of `forward`, the weights of a module left out, each storage once."""
    weights = {one.untyped_storage().data_ptr() for one in module.parameters()}
    held: WeakSet[_Held] = WeakSet()

    def keep(tensor: Tensor) -> _Held:
        one = _Held(tensor.detach())  # an output itself would hold the operation that made it
        held.add(one)
        return one

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda one: one.tensor):
        out = forward()
    assert out.requires_grad
    storages = {one.tensor.untyped_storage().data_ptr(): one.tensor.untyped_storage() for one in held}
    return sum(one.nbytes() for at, one in storages.items() if at not in weights)
