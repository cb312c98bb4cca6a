"""A second pass through a part in the backward pass: what it computed with, and the gradients that it gives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from gossamer.layers.slices import Cut
from gossamer.layers.split import SharedCut

__all__ = ["AnyCut", "Gradients", "Moments", "Surroundings", "add_learnt", "gradients_of", "is_rebuilding"]

AnyCut = Cut | SharedCut
STATES_IN_BLOCK = 64
"""Of a generator, 5 kB each on a CPU."""

_REBUILDING: ContextVar[bool] = ContextVar("_REBUILDING", default=False)


def is_rebuilding() -> bool:
    """Whether a part runs for the second time, in a backward pass."""
    return _REBUILDING.get()


@dataclass(kw_only=True, eq=False)
class Gradients:
    """Those of what a part read and of what learns, added up over slices; `learnt` in the order of what learns."""

    source: Tensor | None
    learnt: list[Tensor | None]
    _is_own: bool = False

    def add(
        self, cut: AnyCut, read: Tensor, added: Tensor, learnt: Sequence[Tensor], grad: Tensor, source: Tensor
    ) -> None:
        """What one slice gives."""
        of_read, *of_learnt = gradients_of(added, (read,), learnt, grad)
        add_learnt(self.learnt, of_learnt)
        if of_read is None:
            return
        if isinstance(cut, Cut) and cut.places is None and of_read.shape == source.shape:
            self.source = of_read if self.source is None else self.source + of_read
            return
        if not self._is_own:
            self.source = torch.zeros_like(source) if self.source is None else self.source.clone()
            self._is_own = True
        assert self.source is not None
        cut.add_to(self.source, of_read)


@dataclass(kw_only=True, eq=False, slots=True)
class Moments:
    """The surroundings of one part after the other, for as long as the parts are not taken back.

    States of generators (5 kB each on a CPU) lie together in blocks: one by one between large tensors, they keep the
    heap from being handed back and used again (docs/LOG.md). Where nothing is drawn, all parts share one.
    """

    _last: Surroundings | None = None
    _block: Tensor | None = None
    _filled: int = 0

    def now(self, device: torch.device) -> Surroundings:
        """Those of this moment; the last ones, where nothing has changed since."""
        last, new = self._last, Surroundings.now(device)
        if last is not None and last.is_like(new):
            return last
        if last is not None and torch.equal(last.cpu, new.cpu):
            self._last = replace(new, cpu=last.cpu)
        else:
            self._last = replace(new, cpu=self._stored(new.cpu))
        return self._last

    def _stored(self, state: Tensor) -> Tensor:
        if self._block is None or self._filled == len(self._block):
            self._block, self._filled = state.new_empty(STATES_IN_BLOCK, len(state)), 0
        row = self._block[self._filled].copy_(state)
        self._filled += 1
        return row


def gradients_of(
    added: Tensor, read: tuple[Tensor, ...], learnt: Sequence[Tensor], grad: Tensor
) -> list[Tensor | None]:
    """Those of what was read and of what learns; sharded parameters get theirs where their owner collects them."""
    grad = grad.to(added.dtype)
    if not added.requires_grad:
        return [None] * (len(read) + len(learnt))
    if any(isinstance(one, DTensor) for one in learnt):
        torch.autograd.backward(added, grad)
        return [*(one.grad for one in read), *(None for _ in learnt)]
    return list(torch.autograd.grad(added, (*read, *learnt), grad, allow_unused=True))


def add_learnt(into: list[Tensor | None], new: Sequence[Tensor | None]) -> None:
    """Add gradients of what learns to those that there are."""
    for i, one in enumerate(new):
        before = into[i]
        into[i] = one if before is None else before if one is None else before + one


@dataclass(frozen=True, kw_only=True, slots=True)
class Surroundings:
    """What a part computed with besides its tensors: generators of random numbers, and autocast."""

    device: torch.device
    cpu: Tensor
    of_device: Tensor | None
    autocast: tuple[bool, torch.dtype]

    @classmethod
    def now(cls, device: torch.device) -> Surroundings:
        """Those of this moment."""
        kind = device.type
        return cls(
            device=device, cpu=torch.get_rng_state(),
            of_device=torch.cuda.get_rng_state(device) if kind == "cuda" else None,
            autocast=(torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)),
        )  # fmt: skip

    def is_like(self, other: Surroundings) -> bool:
        """Whether a part would compute the same with either."""
        if (self.device, self.autocast) != (other.device, other.autocast) or not torch.equal(self.cpu, other.cpu):
            return False
        mine, theirs = self.of_device, other.of_device
        return mine is theirs or (mine is not None and theirs is not None and torch.equal(mine, theirs))

    @contextmanager
    def again(self) -> Iterator[None]:
        """As it was then; generators go on afterwards from where they are now."""
        enabled, dtype = self.autocast
        with ExitStack() as stack:
            devices = [] if self.of_device is None else [self.device]
            stack.enter_context(torch.random.fork_rng(devices, device_type="cuda"))
            torch.set_rng_state(self.cpu.clone())  # torch 2.13 reads a row of a block from the block's beginning
            if self.of_device is not None:
                torch.cuda.set_rng_state(self.of_device, self.device)
            stack.enter_context(torch.autocast(self.device.type, enabled=enabled, dtype=dtype))
            token = _REBUILDING.set(True)
            stack.callback(_REBUILDING.reset, token)
            yield
