"""A sequence split over processes: each has a run of its tokens, and what its queries see of its neighbours'.

What travels are states, before a layer's norm: so many rows as a pattern reaches back and ahead to the neighbours, and
the first rows (sinks) to all. Their gradients travel back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor

from gossamer.errors import InputError, plural
from gossamer.layers.slices import Cut, cut_at
from gossamer.patterns import Pattern

if TYPE_CHECKING:
    from gossamer.layers.attention import TokenInfo
    from gossamer.layers.rotary import Rotation

__all__ = ["SequenceSplit", "SharedCut"]

Rows = Float[Tensor, "batch rows size"]


@dataclass(kw_only=True, eq=False)
class SequenceSplit:
    """This process's part of every sequence: number `rank` of `count` equal ones, of which the last may be shorter.

    group: of processes, torch's default one unless given. sent: bytes of states and gradients that this process has
    sent to others so far.
    """

    rank: int
    count: int
    group: Any = None
    sent: int = field(default=0)

    def share(self, length: int, rank: int | None = None) -> slice:
        """The tokens of a process among so many; this one's unless a rank is given."""
        size = -(-length // self.count)
        start = min((self.rank if rank is None else rank) * size, length)
        return slice(start, min(start + size, length))

    def cut(
        self, pattern: Pattern, length: int, packed: bool, device: torch.device | None = None, size: int | None = None
    ) -> SharedCut:
        """What this process reads for its tokens, of which so many (`size`) are to be attended to at once, or all.

        InputError where it lies beyond its neighbours.
        """
        reach = pattern.reach()
        if reach is None:
            raise InputError(
                f"the pattern '{pattern}' sees without bounds, and a sequence that is split over processes takes one "
                "that sees a bounded way: Window, Chunks, Sink and their unions"
            )
        if packed and (reach.first or reach.block > 1):
            raise InputError(
                f"the pattern '{pattern}' counts from each document's first token, and documents that share a row are "
                "split over processes: give one document a row, or a window alone"
            )
        shares = [self.share(length, rank) for rank in range(self.count)]
        cuts = [cut_at(reach, length, share.start, share.stop, None, device) for share in shares]
        for rank, (share, one) in enumerate(zip(shares, cuts, strict=True)):
            before, after = share.start - one.low, one.high - share.stop
            first = 0 if one.places is None else one.places.shape[1]
            there = [shares[at].stop - shares[at].start for at in (rank - 1, rank + 1) if 0 <= at < self.count]
            sizes = shares[0].stop, there[0] if rank else 0, there[-1] if rank + 1 < self.count else 0
            is_near = first <= sizes[0] and before <= sizes[1] and after <= sizes[2]
            if share.start == share.stop or not is_near:
                raise InputError(
                    f"{length:,} tokens are split over {plural(self.count, 'process', 'processes')}, "
                    f"{shares[0].stop:,} each, and '{pattern}' reaches {max(before, after, first):,} of others': take "
                    "fewer processes or longer texts, so that each has at least so many"
                )
        own = cuts[self.rank].own
        slices = []
        if size is not None and size < own.stop - own.start:
            # What is read is a shorter text, which the same pattern reads as it does the whole one.
            rows = own.stop + cuts[self.rank].high - cuts[self.rank].stop
            stops = ((at, min(at + size, own.stop)) for at in range(own.start, own.stop, size))
            slices = [cut_at(reach, rows, start, stop, None, device) for start, stop in stops]
        return SharedCut(split=self, whole=cuts[self.rank], cuts=cuts, shares=shares, slices=slices)

    def _exchange(self, to_last: Rows, to_next: Rows, from_last: Rows, from_next: Rows) -> None:
        """Send rows to the neighbours, and fill those that come from them; empty ones do not travel."""
        operations = []
        for tensor, peer, sends in (
            (to_last, self.rank - 1, True), (to_next, self.rank + 1, True),
            (from_last, self.rank - 1, False), (from_next, self.rank + 1, False),
        ):  # fmt: skip
            if not tensor.numel():
                continue
            self.sent += tensor.nbytes if sends else 0
            there = peer if self.group is None else dist.get_global_rank(self.group, peer)
            operations.append(dist.P2POp(dist.isend if sends else dist.irecv, tensor, there, self.group))
        for work in dist.batch_isend_irecv(operations) if operations else ():
            work.wait()


@dataclass(frozen=True, kw_only=True, eq=False)
class SharedCut:
    """A `Cut` of the whole sequence whose rows lie on several processes: states are this process's, tokens all.

    cuts, shares: of all processes. slices: of the rows that are read, where attention is to see so many at once.
    """

    split: SequenceSplit
    whole: Cut
    cuts: Sequence[Cut]
    shares: Sequence[slice]
    slices: Sequence[Cut] = ()

    start = 0

    @property
    def stop(self) -> int:
        return self.whole.stop - self.whole.start

    @property
    def own(self) -> slice:
        """The rows that are written, among those that are read."""
        return self.whole.own

    @property
    def positions(self) -> Tensor | None:
        return self.whole.positions

    def read(self, x: Rows) -> Rows:
        """This process's rows between those of its neighbours, behind the first of the sequence."""
        return cast(Tensor, _Read.apply(self, x)) if x.requires_grad and torch.is_grad_enabled() else self._gathered(x)

    def add_to(self, whole: Rows, rows: Rows) -> None:
        """Add to this process's states, in place, what belongs to them of the rows that all processes read."""
        whole += self._returned(rows)

    def tokens(self, whole: TokenInfo, batch: int) -> TokenInfo:
        """What is known of the rows that are read, of what is known of all."""
        return self.whole.tokens(whole, batch)

    def turned(self, whole: Rotation | None) -> Rotation | None:
        """The rotation of the rows that are read, of that of all."""
        return self.whole.turned(whole)

    def _edges(self, rank: int) -> tuple[int, int]:
        """How many rows a process reads of the one before it, and of the one after; 0 for one that is not there."""
        if not 0 <= rank < self.split.count:
            return 0, 0
        return self.shares[rank].start - self.cuts[rank].low, self.cuts[rank].high - self.shares[rank].stop

    @property
    def _first(self) -> int:
        """How many of the sequence's first rows any process reads."""
        return max(0 if one.places is None else one.places.shape[1] for one in self.cuts)

    def _gathered(self, x: Rows) -> Rows:
        split, rank = self.split, self.split.rank
        (before, after), (_, to_last), (to_next, _) = (self._edges(at) for at in (rank, rank - 1, rank + 1))
        from_last, from_next = (x.new_empty(len(x), count, x.shape[2]) for count in (before, after))
        split._exchange(x[:, :to_last].contiguous(), x[:, x.shape[1] - to_next :].contiguous(), from_last, from_next)
        parts = [from_last, x, from_next]
        if self._first:
            first = x[:, : self._first].contiguous() if rank == 0 else x.new_empty(len(x), self._first, x.shape[2])
            split.sent += first.nbytes * (split.count - 1) if rank == 0 else 0
            dist.broadcast(first, _root(split), group=split.group)
            mine = 0 if self.whole.places is None else self.whole.places.shape[1]
            parts.insert(0, first[:, :mine])
        return torch.cat(parts, 1)

    def _returned(self, rows: Rows) -> Rows:
        """The gradients of this process's rows: its own, and what others found for theirs among what they read."""
        split, rank = self.split, self.split.rank
        (before, after), (_, to_last), (to_next, _) = (self._edges(at) for at in (rank, rank - 1, rank + 1))
        first = 0 if self.whole.places is None else self.whole.places.shape[1]
        mine = rows[:, self.own].clone()
        from_last, from_next = (rows.new_empty(len(rows), count, rows.shape[2]) for count in (to_last, to_next))
        split._exchange(
            rows[:, first : first + before].contiguous(), rows[:, rows.shape[1] - after :].contiguous(),
            from_last, from_next,
        )  # fmt: skip
        mine[:, :to_last] += from_last
        mine[:, mine.shape[1] - to_next :] += from_next
        if self._first:
            of_first = rows.new_zeros(len(rows), self._first, rows.shape[2])
            of_first[:, :first] = rows[:, :first]
            split.sent += of_first.nbytes if rank else 0
            dist.reduce(of_first, _root(split), group=split.group)
            if rank == 0:
                mine[:, : self._first] += of_first
        return mine


class _Read(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, cut: SharedCut, x: Tensor) -> Tensor:
        ctx.cut = cut
        return cut._gathered(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor]:
        return None, ctx.cut._returned(grad.contiguous())


def _root(split: SequenceSplit) -> int:
    return 0 if split.group is None else dist.get_global_rank(split.group, 0)
