"""Residuals that can be undone: two streams, and a part's input is computed from its output instead of being kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from gossamer.errors import InputError
from gossamer.kernels.hashing import recorded_buckets, replayed_buckets
from gossamer.kernels.torch_state import in_transform
from gossamer.layers.again import AnyCut, Gradients, Moments
from gossamer.layers.slices import Cut

__all__ = ["Streams", "add_reversibly", "with_all_of"]

States = Float[Tensor, "batch length hidden"]


@dataclass(kw_only=True, eq=False)
class _Last:
    """The states after the last part that has not been taken back, without their history: its source and its target.

    parts: how many parts have not been. whole: all rows as one slice, of parts that are not cut. Autograd's nodes hold
    this, and never a state with a history, which would hold them in turn.
    """

    source: Tensor | None = None
    target: Tensor | None = None
    parts: int = 0
    whole: Sequence[AnyCut] = ()
    moments: Moments = field(default_factory=Moments)


@dataclass(kw_only=True, eq=False)
class Streams:
    """The two streams of a stack. The next part reads `source`, and what it gives is added to `target`; then they swap.

    They are float32 or wider whatever the parts compute in, as what is subtracted must be what was added. While
    autograd watches, nothing is kept of the parts but the last states.
    """

    source: States
    target: States
    _last: _Last = field(default_factory=_Last)
    _swapped: bool = False

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
        self._swapped = not self._swapped


def add_reversibly(
    streams: Streams,
    part: Callable[[Tensor, AnyCut], Tensor],
    reads: Callable[[], Iterable[Tensor]],
    cuts: Sequence[AnyCut] | None = None,
) -> None:
    """`target + part(source)` becomes the source, and the source the target; by slices where there are `cuts`.

    part: is handed the rows that a slice reads, or all of them, and gives those that it writes.

    Of the part nothing is kept for the backward pass, which computes it once more, with the same dropout and buckets,
    and takes it off again. reads: tells all tensors that it reads and that may learn, but its input. Hooks on modules
    and on parameters run in both passes. Raises InputError in the backward pass where that has run before, as it has
    taken the states back, and where the part reads other tensors by then.
    Sources: Gomez et al. 2017 (RevNet, arXiv 1707.04585), section 3.2, algorithm 1; Reformer (arXiv 2001.04451),
    section 3.
    """
    source, target = streams.source, streams.target
    every = streams._last.whole if cuts is None else cuts
    if not every:
        length = source.shape[1]
        every = streams._last.whole = [Cut(start=0, stop=length, low=0, high=length)]
    learnt = _learning(reads)
    watched = bool(learnt) or source.requires_grad or target.requires_grad
    if not torch.is_grad_enabled() or not watched or in_transform():
        streams.source, streams.target = _sum(part, source, target, every), source
        return
    # Nobody but `streams` holds a state.
    streams.source = streams.target = cast(Tensor, None)
    call = _Call(part=part, reads=reads, cuts=every, last=streams._last, swapped=streams._swapped)
    found = _Part.apply(call, source, target, *learnt)
    streams.source, streams.target = cast(tuple[Tensor, Tensor], found)
    streams._swapped = False


def with_all_of(states: States, last: States) -> States:
    """Earlier states, for a loss of their own: its backward pass takes back all parts, those behind them first."""
    return cast(Tensor, _Tied.apply(states, last)) if torch.is_grad_enabled() else states


def _learning(reads: Callable[[], Iterable[Tensor]]) -> list[Tensor]:
    return [one for one in reads() if one.requires_grad]


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class _Call:
    """A part, what it reads, and whether the streams swapped once more since the part before it."""

    part: Callable[[Tensor, AnyCut], Tensor]
    reads: Callable[[], Iterable[Tensor]]
    cuts: Sequence[AnyCut]
    last: _Last
    swapped: bool


class _Part(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, call: _Call, source: Tensor, target: Tensor, *learnt: Tensor) -> tuple[Tensor, Tensor]:
        ctx.call, ctx.learnt = call, learnt
        ctx.number = call.last.parts
        ctx.surroundings = call.last.moments.now(source.device)
        with torch.no_grad(), recorded_buckets() as ctx.buckets:
            total = _sum(call.part, source, target, call.cuts)
        call.last.parts += 1
        call.last.source, call.last.target = total.detach(), source.detach()
        return total, source.view_as(source)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_total: Tensor | None, grad_source: Tensor | None) -> tuple[Tensor | None, ...]:
        call, last = ctx.call, ctx.call.last
        _check(ctx, call, last)
        total, source = cast(Tensor, last.source), cast(Tensor, last.target)
        found = Gradients(source=grad_source, learnt=[None] * len(ctx.learnt))
        target = torch.empty_like(total) if len(call.cuts) > 1 else None
        with ctx.surroundings.again(), replayed_buckets(ctx.buckets):
            for cut in call.cuts:
                with torch.enable_grad():
                    read = cut.read(source).detach().requires_grad_()
                    added = call.part(read, cut)
                own = slice(cut.start, cut.stop)
                if target is None:
                    target = total - added.detach()
                else:
                    torch.sub(total[:, own], added.detach(), out=target[:, own])
                if grad_total is not None:
                    found.add(cut, read, added, ctx.learnt, grad_total[:, own], source)
        last.parts -= 1
        assert target is not None
        last.source, last.target = (target, source) if call.swapped else (source, target)
        return None, found.source, grad_total, *found.learnt


class _Tied(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, last: Tensor) -> Tensor:
        ctx.like = torch.empty(0, dtype=last.dtype, device=last.device), last.shape
        return states.view_as(states)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        like, shape = ctx.like
        return grad, like.new_zeros(shape)


def _check(ctx: Any, call: _Call, last: _Last) -> None:
    if last.parts != ctx.number + 1:
        raise InputError(
            "the backward pass of a reversible model ran before, or ran in part, and takes its states back as it "
            "goes: run it once, from the model's outputs, without retain_graph"
        )
    if list(map(id, _learning(call.reads))) != list(map(id, ctx.learnt)):
        raise InputError(
            "weights of a reversible model were exchanged, frozen or let loose between its forward and its backward "
            "pass, which computes its states once more: change them after that (torch.func.functional_call does it)"
        )


def _sum(part: Callable[[Tensor, AnyCut], Tensor], source: Tensor, target: Tensor, cuts: Sequence[AnyCut]) -> Tensor:
    """The target and what the part gives."""
    if len(cuts) == 1:
        return target + part(cuts[0].read(source), cuts[0])
    if torch.is_grad_enabled():
        added = [target[:, cut.start : cut.stop] + part(cut.read(source), cut) for cut in cuts]
        return torch.cat(added, 1)
    total = torch.empty_like(target)
    for cut in cuts:
        own = slice(cut.start, cut.stop)
        torch.add(target[:, own], part(cut.read(source), cut), out=total[:, own])
    return total
