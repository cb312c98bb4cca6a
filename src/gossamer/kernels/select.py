"""Which backend computes a call, and why the others do not: chosen out loud, never replaced in silence."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd import forward_ad

from gossamer.errors import InputError
from gossamer.kernels.cpu import CPU_TYPES, why_no_library
from gossamer.kernels.inputs import Inputs, tracing
from gossamer.kernels.pieces import HeadGroup, compile_pattern, why_not_pieces
from gossamer.kernels.portable import is_wide
from gossamer.kernels.tiles import band_area, block_size
from gossamer.kernels.torch_state import in_forward_mode, in_transform, is_jit_traced, is_plain_eager, transforms
from gossamer.patterns import Band, Full

__all__ = ["BACKENDS", "Explanation", "choose", "in_plain_operations", "kernel_is_there"]

BACKENDS = ("reference", "dense", "blocked", "cpu")

# What blocked attention costs beside its pairs, in pairs of dense attention; fitted by benchmarks/crossover.py on two
# cores of a Xeon with AVX-512 (docs/LOG.md, 2026-11-23), where the choice then costs at most 6% over the faster one.
CALL = 200_000
GROUP_OF_TILES = 16_000
NARROW_TILE = 45
"""A tile of k keys runs at k / (k + NARROW_TILE) of the rate of dense attention."""

# Pairs of all heads up to which torch's own attention is faster than starting the compiled kernel through torch, as
# calls with gradients or lists of rows do; measured as above.
CPU_CALL_PLAIN = 1_000_000
CPU_CALL_LISTED = 300_000
"""Where rows are listed first: padding, documents, positions."""
CPU_CALL_PATTERN = 100_000
"""Where torch's own needs a mask of the pattern."""


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
    if backend in impossible:
        raise InputError(f"backend {backend!r} cannot compute this call: {impossible[backend]}; try backend='auto'")
    if backend != "auto":
        others = {name: impossible.get(name, "not asked for") for name in BACKENDS if name != backend}
        return Explanation(backend=backend, reason="asked for by name", others=others)
    others = {"reference": "slow: it is the definition, for tests"}
    if "cpu" not in impossible:
        return _cpu_or_dense(inputs, others | impossible)
    others["cpu"] = impossible["cpu"]
    if "blocked" in impossible and "dense" in impossible:
        return Explanation(backend="reference", reason="the only one that can", others=impossible)
    if "blocked" in impossible:
        return Explanation(backend="dense", reason="blocked cannot", others=others | impossible)
    if "dense" in impossible:
        return Explanation(backend="blocked", reason="dense cannot", others=others | impossible)
    return _faster(inputs, others)


def kernel_is_there() -> bool:
    """Whether the compiled kernel can be used at all."""
    return why_no_library() is None


def in_plain_operations(inputs: Inputs) -> bool:
    """Whether `blocked` means its formulation in plain operations: while exporting, and on devices such as MPS, XLA."""
    return torch.compiler.is_exporting() or inputs.q.device.type not in ("cpu", "cuda")


def _cpu_or_dense(inputs: Inputs, others: dict[str, str]) -> Explanation:
    """Gossamer's kernel, unless the call is so small that starting it takes longer than dense attention."""
    others = {"blocked": "slower than the compiled kernel"} | others
    if "dense" in others:
        return Explanation(backend="cpu", reason="dense cannot", others=others)
    if tracing():
        return Explanation(backend="cpu", reason="compiled for this processor", others=others | {"dense": "slower"})
    plain = inputs.key_mask is None and inputs.q_segments is None and inputs.q_positions is None
    if plain and inputs.k_flags is None and is_plain_eager(inputs.q, inputs.k, inputs.v):
        return Explanation(backend="cpu", reason="compiled for this processor", others=others | {"dense": "slower"})
    batch, heads, queries, _ = inputs.q.shape
    pairs = batch * heads * queries * inputs.keys
    full = inputs.pattern.covers(inputs.queries, inputs.keys, inputs.query_start)
    least = CPU_CALL_LISTED if not plain else CPU_CALL_PLAIN if full else CPU_CALL_PATTERN
    if pairs <= least:
        return Explanation(backend="dense", reason="so small a call", others=others | {"cpu": "slower to start"})
    return Explanation(backend="cpu", reason="compiled for this processor", others=others | {"dense": "slower"})


def _faster(inputs: Inputs, others: dict[str, str]) -> Explanation:
    """Blocked or dense, where both can."""
    if torch.compiler.is_exporting() and inputs.pattern not in (Full(), Full(causal=True)):
        groups = compile_pattern(inputs.pattern, inputs.q.shape[1])
        linear = all(band.low is not None and not is_wide(band) for group in groups for band in group.bands)
        reason = f"exporting: plain operations {'in linear memory' if linear else 'on little more than its pairs'}"
        return Explanation(backend="blocked", reason=reason, others=others | {"dense": "quadratic"})
    plain = inputs.key_mask is None and inputs.q_segments is None and inputs.q_positions is None
    full = torch.compiler.is_exporting() or inputs.pattern.covers(inputs.queries, inputs.keys, inputs.query_start)
    if full and (plain or torch.compiler.is_exporting()):
        why = {"blocked": "no pair to leave out"}
        return Explanation(backend="dense", reason="full attention", others=others | why)
    dense, blocked = _dense_cost(inputs, plain), _blocked_cost(inputs)
    numbers = "pairs in tiles against dense pairs" if tracing() else f"{blocked:,} pairs in tiles, {dense:,} dense ones"
    if dense <= blocked:
        return Explanation(backend="dense", reason=numbers, others=others | {"blocked": "slower on so short an input"})
    return Explanation(backend="blocked", reason=numbers, others=others | {"dense": "slower: it computes every pair"})


def _dense_cost(inputs: Inputs, plain: bool) -> int:
    batch, heads, queries, _ = inputs.q.shape
    pairs = batch * heads * queries * inputs.keys
    causal = plain and inputs.pattern == Full(causal=True) and queries == inputs.keys and inputs.query_start == 0
    return pairs // 2 if causal else pairs


def _blocked_cost(inputs: Inputs) -> int:
    """Calls and tiles of blocked attention in pairs of dense attention; no loop, so that lengths may be symbols."""
    batch, heads = inputs.q.shape[:2]
    return CALL + batch * sum(_group_cost(inputs, group) for group in compile_pattern(inputs.pattern, heads))


def _group_cost(inputs: Inputs, group: HeadGroup) -> int:
    return sum(_band_cost(inputs, band, group.stop - group.start) for band in group.bands)


def _band_cost(inputs: Inputs, band: Band, heads: int) -> int:
    low, high, step = band.low, band.high, band.dilation
    queries, keys = (inputs.queries + step - 1) // step, (inputs.keys + step - 1) // step
    groups, pairs = band_area(queries, keys, low, high, inputs.query_start // step, block_size(low, high))
    if band.stride and not band.own_block:
        pairs = pairs * (band.stop - band.first) // band.stride
    return step * ((pairs + NARROW_TILE * queries) * heads + GROUP_OF_TILES * groups)


def _why_not(backend: str, inputs: Inputs, return_lse: bool) -> str | None:
    if backend == "reference":
        return None
    if why := why_not_pieces(inputs.pattern):
        return why
    if backend == "dense":
        if inputs.dropout:
            return "torch's dropout is not the counter-based one"
        if _forward_mode(inputs):
            return "torch's has no forward-mode derivative"
        if _transforms().count("Grad") > 1:
            return "torch's has no second derivative"
        return "it gives no log-sum-exp" if return_lse else None
    if inputs.bias is not None:
        return "it takes no bias"
    if not in_plain_operations(inputs) and (why := _why_no_operator(inputs)):
        return why
    if backend == "cpu":
        return _why_not_cpu(inputs)
    if in_plain_operations(inputs) and (inputs.dropout or inputs.q_positions is not None):
        return "in plain operations (while exporting, and on this device) it has neither dropout nor positions"
    return _why_not_positions(inputs)


def _why_no_operator(inputs: Inputs) -> str | None:
    """What is made of the call that operators of our own have no rules for: torch would fail, or drop a derivative."""
    if tracing():
        return None
    if in_transform():
        return "it has no rules for the transforms of torch.func"
    if _forward_mode(inputs):
        return "it has no forward-mode derivative"
    return "torch.jit cannot trace it" if is_jit_traced() else None


def _transforms() -> list[str]:
    """The transforms of torch.func that this call is under: "Grad", "Jvp", "Vmap" ..., the outermost first."""
    return [] if tracing() else transforms()


def _forward_mode(inputs: Inputs) -> bool:
    if "Jvp" in _transforms():  # of an outer transform: the tangents are not in sight here
        return True
    if tracing() or not in_forward_mode():
        return False
    return any(forward_ad.unpack_dual(x).tangent is not None for x in (inputs.q, inputs.k, inputs.v))


def _why_not_cpu(inputs: Inputs) -> str | None:
    if inputs.q.device.type != "cpu":
        return "it is for the CPU"
    if inputs.q.dtype not in CPU_TYPES:
        return f"it computes no {str(inputs.q.dtype).removeprefix('torch.')}"
    if torch.compiler.is_exporting():
        return "an exported program may run where it is not"
    return why_no_library()


def _why_not_positions(inputs: Inputs) -> str | None:
    """A window over positions is a band of indices only where positions rise by one or more from token to token."""
    if inputs.q_positions is None or inputs.k_positions is None or inputs.pattern == Full():
        return None
    groups = compile_pattern(inputs.pattern, inputs.q.shape[1])
    if any(band.dilation > 1 for group in groups for band in group.bands):
        return "a dilated window over positions, or a column of Strided, is no band of indices"
    if tracing():
        return "positions cannot be looked at while compiling"
    own = slice(inputs.query_start, inputs.query_start + inputs.queries)
    if not torch.equal(inputs.q_positions, inputs.k_positions[:, own]):
        return "positions differ between queries and keys"
    steps = inputs.k_positions.diff(dim=1)
    if inputs.q_segments is not None and inputs.k_segments is not None:
        if not torch.equal(inputs.q_segments, inputs.k_segments[:, own]) or not _in_one_piece(inputs.k_segments):
            return "positions of documents that lie in several pieces are no band of indices"
        steps = steps.masked_fill(inputs.k_segments.diff(dim=1) != 0, 1)
    return None if bool((steps >= 1).all()) else "positions do not rise from token to token"


def _in_one_piece(segments: Tensor) -> bool:
    """Whether each document's tokens lie next to each other, in every row."""
    runs, ids = ((x.diff(dim=1) != 0).sum(1) for x in (segments, segments.sort(dim=1).values))
    return torch.equal(runs, ids)
