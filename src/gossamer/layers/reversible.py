"""Residuals that can be undone: two streams, and a part's input is computed from its output instead of being kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.distributed.tensor import DTensor

from gossamer.errors import InputError
from gossamer.kernels.hashing import recorded_buckets, replayed_buckets

__all__ = ["Streams", "add_reversibly"]

States = Float[Tensor, "batch length hidden"]


@dataclass(kw_only=True)
class Streams:
    """The two streams of a stack. The next part reads `source`, and what it gives is added to `target`; then they swap.

    They are float32 or wider whatever the parts compute in, as what is subtracted must be what was added. While
    autograd watches, nothing is kept of the parts but the last states: `kept`, two tensors that the backward pass takes
    back part by part.
    """

    source: States
    target: States
    parts: int = 0
    kept: list[Tensor] = field(default_factory=list)

    @classmethod
    def of(cls, states: States) -> Streams:
        """Both begin with the same states."""
        wide = states.to(torch.promote_types(states.dtype, torch.float32))
        return cls(source=wide, target=wide)

    @property
    def pair(self) -> tuple[States, States]:
        """Those of attention and of the feed-forward after whole layers: what the paper calls y1 and y2."""
        return self.target, self.source

    def swap(self) -> None:
        """What a part that does nothing leaves."""
        self.source, self.target = self.target, self.source
        self.kept.reverse()


def add_reversibly(streams: Streams, part: Callable[[Tensor], Tensor], reads: Sequence[Tensor]) -> None:
    """`target + part(source)` becomes the source, and the source the target.

    Of the part nothing is kept for the backward pass, which computes it once more, with the same dropout and buckets,
    and takes it off again. reads: all tensors that it reads and that may learn, but its input.
    Raises InputError in the backward pass where that has run before, as it has taken the states back.
    Sources: Gomez et al. 2017 (RevNet, arXiv 1707.04585), section 3.2, algorithm 1; Reformer (arXiv 2001.04451),
    section 3.
    """
    source, target = streams.source, streams.target
    learnt = [one for one in reads if one.requires_grad]
    if not torch.is_grad_enabled() or not (learnt or source.requires_grad or target.requires_grad):
        streams.source, streams.target = target + part(source), source
        return
    # Nobody but `streams` holds a state.
    streams.source = streams.target = cast(Tensor, None)
    found = _Part.apply(part, streams, source, target, *learnt)
    streams.source, streams.target = cast(tuple[Tensor, Tensor], found)


class _Part(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, part: Callable[[Tensor], Tensor], streams: Streams, source: Tensor, target: Tensor, *learnt: Tensor
    ) -> tuple[Tensor, Tensor]:
        ctx.part, ctx.streams, ctx.learnt = part, streams, learnt
        ctx.number = streams.parts
        ctx.surroundings = _Surroundings.now(source.device)
        with torch.no_grad(), recorded_buckets() as ctx.buckets:
            total = target + part(source)
        streams.parts += 1
        streams.kept = [total, source]
        return total, source.view_as(source)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_total: Tensor | None, grad_source: Tensor | None) -> tuple[Tensor | None, ...]:
        streams = ctx.streams
        if streams.parts != ctx.number + 1:
            raise InputError(
                "the backward pass of a reversible model ran before, or ran in part, and takes its states back as it "
                "goes: run it once, without retain_graph"
            )
        total, source = streams.kept
        with torch.enable_grad(), ctx.surroundings.again(), replayed_buckets(ctx.buckets):
            read = source.detach().requires_grad_()
            added = ctx.part(read)
        streams.parts -= 1
        streams.kept = [source, total - added.detach()]
        if grad_total is None:
            return None, None, grad_source, None, *(None for _ in ctx.learnt)
        of_source, *of_learnt = _gradients(added, read, ctx.learnt, grad_total)
        if of_source is not None:
            grad_source = of_source if grad_source is None else grad_source + of_source
        return None, None, grad_source, grad_total, *of_learnt


def _gradients(added: Tensor, read: Tensor, learnt: Sequence[Tensor], grad: Tensor) -> list[Tensor | None]:
    """Those of what was read and of what learns; sharded parameters get theirs where their owner collects them."""
    grad = grad.to(added.dtype)
    if not added.requires_grad:
        return [None] * (1 + len(learnt))
    if any(isinstance(one, DTensor) for one in learnt):
        torch.autograd.backward(added, grad)
        return [read.grad, *(None for _ in learnt)]
    return list(torch.autograd.grad(added, (read, *learnt), grad, allow_unused=True))


@dataclass(frozen=True, kw_only=True)
class _Surroundings:
    """What a part computed with besides its tensors: generators of random numbers, and autocast."""

    device: torch.device
    cpu: Tensor
    of_device: Tensor | None
    autocast: tuple[bool, torch.dtype]

    @classmethod
    def now(cls, device: torch.device) -> _Surroundings:
        kind = device.type
        return cls(
            device=device, cpu=torch.get_rng_state(),
            of_device=torch.cuda.get_rng_state(device) if kind == "cuda" else None,
            autocast=(torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)),
        )  # fmt: skip

    @contextmanager
    def again(self) -> Iterator[None]:
        """As it was then; generators go on afterwards from where they are now."""
        enabled, dtype = self.autocast
        with ExitStack() as stack:
            devices = [] if self.of_device is None else [self.device]
            stack.enter_context(torch.random.fork_rng(devices, device_type="cuda"))
            torch.set_rng_state(self.cpu)
            if self.of_device is not None:
                torch.cuda.set_rng_state(self.of_device, self.device)
            stack.enter_context(torch.autocast(self.device.type, enabled=enabled, dtype=dtype))
            yield
