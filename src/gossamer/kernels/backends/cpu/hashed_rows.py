"""The pieces of a hashed pattern as the kernel reads them: for each round the rows of each head, sorted by bucket."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from gossamer.errors import InputError
from gossamer.kernels.backends.cpu.rows import EVERYWHERE, FAR, MOST, Piece, RowList
from gossamer.kernels.hashing import meeting_coordinates
from gossamer.kernels.operator import Arguments
from gossamer.patterns import Hashes

__all__ = ["MOST_ROUNDS", "hashed_pieces"]

MOST_ROUNDS = 16
"""In which a pair may have met before it meets itself: as many coordinates as the kernel compares (GS_MOST_MET)."""

Places = Int[Tensor, "batch heads rows"]


@dataclass(frozen=True, kw_only=True)
class _Side:
    """What is known of the queries or the keys.

    rounds: their coordinates in each round, orders: the rows in the order of these. itself: a coordinate of the token's
    own, None where it may see itself. second: positions, if they matter.
    """

    rounds: Int[Tensor, "batch heads rounds rows"]
    orders: Int[Tensor, "batch heads rounds rows"]
    itself: Places | None
    second: Places | None
    real: Bool[Tensor, "batch heads rows"] | None

    def listed(self, number: int, shift: int, within: tuple[int, int] | None, earlier: int) -> RowList:
        """The real rows of every head in the order of a round, their coordinates moved, only those `within` bounds.

        earlier: so many first rounds are those in which pairs may have met.
        """
        places, order = self.rounds[:, :, number] + shift, self.orders[:, :, number]
        rows = places.shape[-1]
        chosen = None if self.real is None else self.real.gather(-1, order)
        if within is not None:
            ordered = places.gather(-1, order)
            inside = (ordered >= within[0]) & (ordered <= within[1])
            chosen = inside if chosen is None else chosen & inside

        def taken(values: Tensor) -> Tensor:
            values = values.gather(-1, order)
            return (values.flatten() if chosen is None else values[chosen]).int()

        elsewhere = [*([] if self.itself is None else [self.itself]), *self.rounds[:, :, :earlier].unbind(2)]
        lists = order.shape[0] * order.shape[1]
        counts = torch.full((lists,), rows) if chosen is None else chosen.sum(-1).flatten()
        return RowList(
            rows=rows,
            index=(order.flatten() if chosen is None else order[chosen]).int(),
            band=taken(places),
            second=None if self.second is None else taken(self.second),
            offsets=torch.cat([counts.new_zeros(1), counts.cumsum(0)]),
            by_head=True,
            met=torch.stack([taken(one) for one in elsewhere]) if elsewhere else None,
        )


def hashed_pieces(call: Arguments) -> Iterator[Piece]:
    """For each round, and each other one that its ring reaches, a piece: the queries, and the keys where chunks lie.

    Nobody sees itself here, unless hashes say so, and, where pairs count once, nobody a key that it has met in an
    earlier round.
    """
    (group,) = call.groups
    hashes = group.hashes
    assert hashes is not None
    if not call.q.shape[0] or not call.q.shape[2] or not call.k.shape[2]:
        return
    queries, keys = _sides(call, hashes)
    tokens, rounds = keys.rounds.shape[3], keys.rounds.shape[2]
    for number in range(rounds):
        earlier = 0 if hashes.released else number
        for shift in hashes.shifts(tokens):
            other, moved = (number + shift) % rounds, shift * hashes.chunks_of(tokens)
            reached = reach = None
            if shift:
                least, most = _ends(queries.rounds[:, :, number])
                reach = (least + hashes.low, most + hashes.high)
                least, most = _ends(keys.rounds[:, :, other])
                reached = (least + moved - hashes.high, most + moved - hashes.low)
            lists = queries.listed(number, 0, reached, earlier), keys.listed(other, moved, reach, earlier)
            if all(one.index is not None and len(one.index) for one in lists):
                yield Piece(
                    start=group.start, stop=group.stop, queries=lists[0], keys=lists[1],
                    band=(hashes.low, hashes.high), second=(-FAR, 0) if hashes.causal else EVERYWHERE,
                )  # fmt: skip


def _ends(places: Places) -> tuple[int, int]:
    return int(places.min()), int(places.max())


def _sides(call: Arguments, hashes: Hashes) -> tuple[_Side, _Side]:
    assert call.buckets is not None
    of_queries, of_keys = meeting_coordinates(hashes, call.buckets, call.queries, call.keys, call.query_start)
    queries, keys = of_queries.shape[3], of_keys.shape[3]
    # Two tokens are one where these are in the band, as others are further apart.
    at = (torch.arange(queries) + call.query_start).clamp(-1, keys)  # -1 and `keys`: no key
    own = at * hashes.width, torch.arange(keys) * hashes.width
    seconds = _positions(call, own[0].shape[0], keys) if hashes.causal else (None, None)
    largest = max((int(one.abs().max()) for one in (of_queries, of_keys, *own) if one.numel()), default=0)
    if largest > MOST // 4:
        raise InputError(
            f"{keys:,} keys in so many documents or buckets are too many for the CPU kernel; try backend='blocked'"
        )
    lead = of_queries.shape[:2]
    real = None if call.keys.real is None else call.keys.real[:, None].expand(*lead, keys)
    orders = of_keys.argsort(dim=-1, stable=True)
    q_orders = orders if of_queries is of_keys else of_queries.argsort(dim=-1, stable=True)
    sides = ((of_queries, q_orders, own[0], seconds[0], None), (of_keys, orders, own[1], seconds[1], real))
    found = [
        _Side(
            rounds=places, orders=order, itself=None if hashes.itself else itself.expand(*lead, -1), real=is_real,
            second=None if second is None else second[:, None].expand(*lead, -1),
        )
        for places, order, itself, second, is_real in sides
    ]  # fmt: skip
    return found[0], found[1]


def _positions(call: Arguments, queries: int, keys: int) -> tuple[Tensor, Tensor]:
    """Of queries and keys, [batch or 1, rows], counted from the least of them."""
    for of_queries, of_keys in (
        (call.queries.positions, call.keys.positions), (call.queries.places, call.keys.places),
    ):  # fmt: skip
        if of_queries is not None and of_keys is not None:
            break
    else:
        of_queries, of_keys = torch.arange(queries)[None] + call.query_start, torch.arange(keys)[None]
    least = min(int(of_queries.min()), int(of_keys.min()))
    most = max(int(of_queries.max()), int(of_keys.max()))
    if most - least > MOST:
        raise InputError(f"positions reach from {least} to {most}; the CPU kernel takes at most {MOST} between any two")
    return of_queries - least, of_keys - least
