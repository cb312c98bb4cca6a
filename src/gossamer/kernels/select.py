"""Which backend computes a call, and why the others do not: chosen out loud, never replaced in silence."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from gossamer.errors import InputError
from gossamer.kernels.inputs import Inputs, tracing
from gossamer.kernels.pieces import HeadGroup, compile_pattern, why_not_pieces
from gossamer.kernels.tiles import band_tiles, block_size
from gossamer.patterns import Full

__all__ = ["BACKENDS", "Explanation", "choose"]

BACKENDS = ("reference", "dense", "blocked")

# What blocked attention costs beside its pairs, in pairs of dense attention (2-core Xeon, docs/LOG.md, 2026-11-23):
CALL = 300_000
GROUP_OF_TILES = 128_000
NARROW_TILE = 90
"""A tile of k keys runs at k / (k + NARROW_TILE) of the rate of dense attention."""


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """The backend that computes a call, why, and why each other one does not."""

    backend: str
    reason: str
    others: dict[str, str]

    def __str__(self) -> str:
        lines = [f"{self.backend}: {self.reason}"]
        return "\n".join(lines + [f"not {name}: {why}" for name, why in self.others.items()])


def choose(inputs: Inputs, backend: str = "auto", return_lse: bool = False) -> Explanation:
    """Choose the backend. Raises InputError for an unknown name and for one that cannot compute this call."""
    if backend not in (*BACKENDS, "auto"):
        raise InputError(f"backend is {backend!r}; it must be one of auto, {', '.join(BACKENDS)}")
    impossible = {name: why for name in BACKENDS if (why := _why_not(name, inputs, return_lse))}
    if backend != "auto":
        if backend in impossible:
            raise InputError(f"backend {backend!r} cannot compute this call: {impossible[backend]}; try backend='auto'")
        return Explanation(backend=backend, reason="asked for by name", others=impossible)
    if "blocked" in impossible and "dense" in impossible:
        return Explanation(backend="reference", reason="the only one that can", others=impossible)
    return _fastest(inputs, impossible)


def _fastest(inputs: Inputs, impossible: dict[str, str]) -> Explanation:
    others = dict(impossible, reference="slow: it is the definition, for tests")
    if "blocked" in impossible:
        return Explanation(backend="dense", reason="blocked cannot", others=others)
    if "dense" in impossible:
        return Explanation(backend="blocked", reason="dense cannot", others=others)
    if torch.compiler.is_exporting():
        if isinstance(inputs.pattern, Full):
            return Explanation(
                backend="dense", reason="full attention", others={**others, "blocked": "no tile is empty"}
            )
        return Explanation(
            backend="blocked",
            reason="exporting: plain operations in linear memory",
            others={**others, "dense": "quadratic"},
        )
    plain = inputs.key_mask is None and inputs.q_segments is None and inputs.q_positions is None
    if plain and inputs.pattern.covers(inputs.queries, inputs.keys, inputs.query_start):
        return Explanation(
            backend="dense", reason="every query sees every key", others={**others, "blocked": "no pair to leave out"}
        )
    dense, blocked = inputs.queries * inputs.keys * inputs.q.shape[1] * inputs.q.shape[0], _blocked_cost(inputs)
    numbers = f"{blocked:,.0f} pairs in tiles, calls included, against {dense:,.0f} dense ones"
    if dense <= blocked:
        return Explanation(backend="dense", reason=numbers, others={**others, "blocked": "slower on so short an input"})
    return Explanation(backend="blocked", reason=numbers, others={**others, "dense": "slower: it computes every pair"})


def _blocked_cost(inputs: Inputs) -> float:
    batch, heads = inputs.q.shape[:2]
    return CALL + batch * sum(_group_cost(inputs, group) for group in compile_pattern(inputs.pattern, heads))


def _group_cost(inputs: Inputs, group: HeadGroup) -> float:
    if group.band is None:
        return 0.0
    low, high, step = group.band.low, group.band.high, group.band.dilation
    sizes = (-(-inputs.queries // step), -(-inputs.keys // step), low, high, inputs.query_start // step)
    cost = 0.0
    for tiles in band_tiles(*sizes, block_size(low, high)):
        pairs = tiles.blocks * tiles.rows * (tiles.keys + NARROW_TILE)
        cost += pairs * (group.stop - group.start) + GROUP_OF_TILES
    return step * cost


def _why_not(backend: str, inputs: Inputs, return_lse: bool) -> str | None:
    if backend == "reference":
        return None
    if why := why_not_pieces(inputs.pattern):
        return why
    if backend == "dense":
        if inputs.dropout:
            return "torch's dropout is not the counter-based one"
        return "it gives no log-sum-exp" if return_lse else None
    if inputs.bias is not None:
        return "it takes no bias"
    return _why_not_positions(inputs) or _why_not_exporting(inputs)


def _why_not_exporting(inputs: Inputs) -> str | None:
    if torch.compiler.is_exporting() and (inputs.dropout or inputs.q_positions is not None):
        return "exported graphs hold neither dropout nor positions"
    return None


def _why_not_positions(inputs: Inputs) -> str | None:
    """A window over positions is a band of indices only where positions rise by one or more from token to token."""
    if inputs.q_positions is None or inputs.k_positions is None or _positions_free(inputs):
        return None
    if any(
        group.band is not None and group.band.dilation > 1
        for group in compile_pattern(inputs.pattern, inputs.q.shape[1])
    ):
        return "a dilated window over positions is no band of indices"
    if tracing():
        return "positions cannot be looked at while compiling"
    same = inputs.q_positions.shape[1] + inputs.query_start <= inputs.keys and torch.equal(
        inputs.q_positions, inputs.k_positions[:, inputs.query_start : inputs.query_start + inputs.queries]
    )
    steps = inputs.k_positions.diff(dim=1)
    if inputs.k_segments is not None:
        steps = steps.masked_fill(inputs.k_segments.diff(dim=1) != 0, 1)
    if same and bool((steps >= 1).all()):
        return None
    return "positions do not rise from token to token, or differ between queries and keys"


def _positions_free(inputs: Inputs) -> bool:
    return isinstance(inputs.pattern, Full) and not inputs.pattern.causal
