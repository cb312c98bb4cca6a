"""Slices of a text: the rows that a part writes, and those that it has to read for them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gossamer.layers.embeddings import count_positions
from gossamer.layers.rotary import Rotation
from gossamer.patterns import Pattern
from gossamer.patterns.reach import Reach

if TYPE_CHECKING:
    from gossamer.layers.attention import TokenInfo

__all__ = ["Cut", "cut_at", "cuts_of"]


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Cut:
    """Rows start to stop are written. Read are rows low to high, behind the first of each document (`places`).

    places: of those first rows, [batch or 1, count]; `apart` tells which of them are not among the others anyway.
    positions: of all rows that are read, for patterns that must be told them.
    """

    start: int
    stop: int
    low: int
    high: int
    places: Int[Tensor, "#batch first"] | None = None
    apart: Bool[Tensor, "#batch first"] | None = None
    positions: Int[Tensor, "#batch rows"] | None = None

    @property
    def own(self) -> slice:
        """The rows that are written, among those that are read."""
        first = 0 if self.places is None else self.places.shape[1]
        return slice(first + self.start - self.low, first + self.stop - self.low)

    def read(self, x: Float[Tensor, "batch length size"]) -> Float[Tensor, "batch rows size"]:
        """The rows of states that are read."""
        near = x[:, self.low : self.high]
        if self.places is None:
            return near
        at = self.places.expand(x.shape[0], -1)[..., None].expand(-1, -1, x.shape[2])
        return torch.cat([x.gather(1, at), near], 1)

    def add_to(self, whole: Float[Tensor, "batch length size"], rows: Float[Tensor, "batch rows size"]) -> None:
        """Add to all states, in place, what belongs to the rows that are read."""
        first = 0 if self.places is None else self.places.shape[1]
        whole[:, self.low : self.high] += rows[:, first:]
        if self.places is not None:
            at = self.places.expand(whole.shape[0], -1)[..., None].expand(-1, -1, whole.shape[2])
            whole.scatter_add_(1, at, rows[:, :first])

    def values(self, x: Tensor | None) -> Tensor | None:
        """Of a value for each token, [batch or 1, length], those of the rows that are read."""
        if x is None or self.places is None:
            return None if x is None else x[:, self.low : self.high]
        rows = max(len(x), len(self.places))
        at = self.places.expand(rows, -1)
        return torch.cat([x.expand(rows, -1).gather(1, at), x.expand(rows, -1)[:, self.low : self.high]], 1)

    def tokens(self, whole: TokenInfo, batch: int) -> TokenInfo:
        """What is known of the rows that are read: a first row that stands among the others as well is none here."""
        mask = self.values(whole.key_mask)
        if self.apart is not None:
            near = torch.ones(1, self.high - self.low, dtype=torch.bool, device=self.apart.device)
            once = torch.cat([self.apart.expand(batch, -1), near.expand(batch, -1)], 1)
            mask = once if mask is None else mask & once
        return replace(
            whole, key_mask=mask, segments=self.values(whole.segments), positions=self.values(whole.positions)
        )

    def turned(self, whole: Rotation | None) -> Rotation | None:
        """The rotation of the rows that are read."""
        if whole is None:
            return None
        angles = (x[:, 0].unbind(-1) for x in (whole.cosine, whole.sine))
        found = (torch.stack([self.values(one) for one in columns], -1)[:, None] for columns in angles)  # type: ignore[misc]
        return Rotation(*found)


def cuts_of(
    pattern: Pattern | None,
    length: int,
    size: int,
    segments: Int[Tensor, "batch length"] | None,
    device: torch.device | None = None,
) -> list[Cut] | None:
    """Slices of `size` rows under a pattern, or of a part that reads each row by itself (None).

    None where one slice is all of it, where the pattern sees too far to be cut, or where it counts from the first token
    of documents that do not lie together.
    """
    if length <= size:
        return None
    reach = None if pattern is None else pattern.reach()
    if pattern is None or reach is None:
        starts = range(0, length, size)
        own = [Cut(start=at, stop=min(at + size, length), low=at, high=min(at + size, length)) for at in starts]
        return own if pattern is None else None
    told = segments is not None and (reach.first > 0 or reach.block > 1)
    positions = None
    if told and segments is not None:
        if not _lie_together(segments):
            return None
        positions = count_positions(torch.ones_like(segments, dtype=torch.bool), segments) - 1
    stops = ((at, min(at + size, length)) for at in range(0, length, size))
    return [cut_at(reach, length, start, stop, positions, device) for start, stop in stops]


def _lie_together(segments: Int[Tensor, "batch length"]) -> bool:
    """Whether each document of a row is one run of tokens."""
    runs, kinds = ((x.diff(dim=1) != 0).sum(1) for x in (segments, segments.sort(dim=1).values))
    return bool((runs == kinds).all())


def cut_at(
    reach: Reach,
    length: int,
    start: int,
    stop: int,
    positions: Int[Tensor, "batch length"] | None,
    device: torch.device | None = None,
) -> Cut:
    """The cut of these rows of so many. positions: in documents, where the pattern has to be told them."""
    low, high = max(0, start - reach.before), min(length, stop + reach.after)
    first = min(reach.first, low)
    if positions is None and low > first:
        low = first + (low - first) // reach.block * reach.block  # what comes before moves by whole blocks
    elif positions is None:
        low = first = 0
    cut = Cut(start=start, stop=stop, low=low, high=high)
    return _with_first(cut, first, positions, device) if first or positions is not None else cut


def _with_first(cut: Cut, first: int, positions: Tensor | None, device: torch.device | None) -> Cut:
    """The same cut with so many rows of the document that its first row is in, or that its positions are told of."""
    if positions is None:
        return replace(cut, places=torch.arange(first, device=device)[None])
    begin = cut.start - positions[:, cut.start]
    places = begin[:, None] + torch.arange(first, device=positions.device)
    near = cut.values(positions)
    assert near is not None
    if not first:
        return replace(cut, positions=near)
    apart = places < cut.low
    places = places.clamp(max=positions.shape[1] - 1)
    return replace(cut, places=places, apart=apart, positions=torch.cat([positions.gather(1, places), near], 1))
