"""What Gossamer's own kernel cannot do, and what it costs to start it beside dense attention."""

from __future__ import annotations

import torch

from gossamer.kernels.backend import SLOW_DEFINITION, Backend, Cost
from gossamer.kernels.backends.cpu.attention import CPU_TYPES, cpu
from gossamer.kernels.backends.cpu.hashed_rows import MOST_ROUNDS
from gossamer.kernels.backends.cpu.library import why_no_library
from gossamer.kernels.backends.dense import is_causal_alone
from gossamer.kernels.hashing import why_not_own
from gossamer.kernels.inputs import Inputs, tracing
from gossamer.kernels.operator import why_no_operator
from gossamer.kernels.torch_state import is_plain_eager

__all__ = ["CPU", "kernel_is_there"]

# Pairs that torch's own attention computes while the compiled kernel is started through torch, as calls with gradients
# or lists of rows do; measured like those of `blocked`.
CPU_CALL_PLAIN = 1_000_000
CPU_CALL_LISTED = 300_000
"""Where rows are listed first: padding, documents, positions."""
CPU_CALL_PATTERN = 100_000
"""Where torch's own needs a mask of the pattern, or a table by distance written out."""
CPU_CALL_CAUSAL = CPU_CALL_PATTERN // 2
"""Where torch's own leaves out one half of the pairs."""


def kernel_is_there() -> bool:
    """Whether the compiled kernel can be used at all."""
    return why_no_library() is None


def _why_not(inputs: Inputs) -> str | None:
    if why := why_no_operator(inputs):
        return why
    if inputs.q.device.type != "cpu":
        return "it is for the CPU"
    if inputs.q.dtype not in CPU_TYPES:
        return f"it computes no {str(inputs.q.dtype).removeprefix('torch.')}"
    hashes = inputs.pattern.hashes
    if hashes is not None and not hashes.released and hashes.rounds > MOST_ROUNDS:
        return f"it counts the pairs of at most {MOST_ROUNDS} rounds once"
    if why := why_not_own(inputs):
        return why
    if torch.compiler.is_exporting():
        return "an exported program may run where it is not"
    return why_no_library()


def _cost(inputs: Inputs) -> Cost:
    """Nothing but what starting it takes: it is compiled for this processor."""
    return Cost(
        pairs=_pairs_to_start(inputs),
        if_less=("compiled for this processor", "slower"),
        if_more=("so small a call", "slower to start"),
    )


def _pairs_to_start(inputs: Inputs) -> int:
    if tracing():
        return 0
    if not inputs.is_plain:
        return CPU_CALL_LISTED
    if inputs.keys.flags is None and is_plain_eager(inputs.q, inputs.k, inputs.v, *inputs.tables):
        return 0
    if inputs.tables:
        return CPU_CALL_PATTERN
    if inputs.pattern.covers(inputs.num_queries, inputs.num_keys, inputs.query_start):
        return CPU_CALL_PLAIN
    return CPU_CALL_CAUSAL if is_causal_alone(inputs) else CPU_CALL_PATTERN


CPU = Backend(
    name="cpu",
    why_not=_why_not,
    cost=_cost,
    run=cpu,
    outruns=SLOW_DEFINITION | {"blocked": "slower than the compiled kernel"},
    lets_out="v",
)
