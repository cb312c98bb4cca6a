"""How long a training step takes: its operations counted, times what each was just measured to cost here."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gossamer.inspect.cost import pairs_of_all_heads
from gossamer.kernels import ACTIVATIONS, attend, linear
from gossamer.models.architecture import Architecture, Layer
from gossamer.models.architecture import Attention as AttentionSettings
from gossamer.models.encoder import Model
from gossamer.models.heads import MaskedLM, PreTraining
from gossamer.models.next_token import next_token_loss
from gossamer.models.settings import NORMS_AT
from gossamer.training.estimate_saved import WIDE, Pass, parts_of
from gossamer.training.optimizers import OptimizerSettings, build_optimizer

__all__ = ["Work", "count_work", "step_seconds"]

ROWS = 1024
"""Tokens of a sample that maps, norms and losses are measured on."""
PAIRS = 2**26
"""Pairs of all heads of a sample of attention."""
AT_LEAST, CALLS, LONG = 0.04, 5, 1.0
"""A measurement runs for so many seconds, and so many times unless that takes long."""

Operation = tuple[str, Any]
"""A kind, and what else its time depends on."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """Units of one operation in a step: numbers, multiply-adds or pairs; `again` of them once more forward."""

    units: float
    again: float


def step_seconds(
    architecture: Architecture, step: Pass, optimizer: OptimizerSettings, *, accumulation: int = 1
) -> dict[str, float]:
    """Seconds of one training step by kind of operation, on this machine as it is now.

    Each kind is run on a sample, forward and backward, for a moment; that is scaled to the step. What a step keeps it
    gives back in the end, so that on a CPU the system hands it out page by page again in the next one ("fresh memory").
    What has no kind (residual sums, tables, data) is not in it.
    """
    found: dict[str, float] = defaultdict(float)
    for operation, work in count_work(architecture, step).items():
        forward, backward = _measure(operation, architecture, step)
        seconds = work.units * (forward + backward) + work.again * forward
        found[operation[0]] += seconds * accumulation
    found["update"] = _update_seconds(architecture, optimizer, step)
    if step.device == "cpu":
        kept = sum(part.kept for part in parts_of(architecture, step))
        found["fresh memory"] = accumulation * kept * _fresh_byte_seconds()
    return dict(found)


def count_work(architecture: Architecture, step: Pass) -> dict[Operation, Work]:
    """What a pass over one micro-batch does."""
    units: dict[Operation, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for layer in architecture.layers:
        for part, operations in _layer_work(architecture.hidden_size, layer, step).items():
            for operation, count in operations:
                units[operation][0] += count
                units[operation][1] += count if layer.recompute in (part, "both") else 0
    settings = architecture.embeddings
    norms = int(settings.norm is not None) + int(architecture.final_norm is not None)
    units[("norm", None)][0] += norms * step.tokens * settings.size
    units[("dropout", None)][0] += step.tokens * settings.size if settings.dropout else 0
    units[("loss", None)][0] += step.tokens * settings.vocabulary_size
    return {operation: Work(units=one[0], again=one[1]) for operation, one in units.items() if one[0]}


def _layer_work(hidden: int, layer: Layer, step: Pass) -> dict[str, list[tuple[Operation, float]]]:
    one, other, tokens = layer.attention, layer.feed_forward, step.tokens
    norms = [NORMS_AT[place] for place in layer.norm_places]
    inner, key_inner, width = one.inner, one.key_inner, tokens * hidden
    reading = 2 if other.gated else 1
    return {
        "attention": [
            (("norm", None), norms[0] * width),
            (("maps", (hidden, inner)), width * inner),
            (("maps", (hidden, key_inner)), 2 * width * key_inner),
            (("maps", (inner, hidden)), width * inner),
            (("attention", replace(one, weights=0)), step.rows * pairs_of_all_heads(one, step.length)),
            (("dropout", None), width if one.residual_dropout else 0),
        ],
        "feed_forward": [
            (("norm", None), norms[1] * width),
            (("maps", (hidden, other.width)), reading * width * other.width),
            (("maps", (other.width, hidden)), width * other.width),
            (("activation", other.activation), tokens * other.width),
            (("dropout", None), width if other.residual_dropout else 0),
            (("dropout", None), tokens * other.width if other.dropout else 0),
        ],
    }


def _measure(operation: Operation, architecture: Architecture, step: Pass) -> tuple[float, float]:
    """Seconds a unit, forward and backward."""
    kind, detail = operation
    if kind == "attention":
        return _attention_rate(detail, step)
    rows, hidden = min(ROWS, step.tokens), architecture.hidden_size
    like: dict[str, Any] = {"dtype": step.weights, "device": step.device}
    if kind == "maps":
        inputs, outputs = detail
        x, weight = torch.randn(rows, inputs, **like), torch.randn(outputs, inputs, **like)
        return _rate(lambda a, b: linear(a, b), (x, weight), rows * inputs * outputs, step)
    if kind == "loss":
        return _loss_rate(architecture, rows, step)
    x = torch.randn(rows, hidden, **like)
    if kind == "norm":
        return _rate(lambda a: F.layer_norm(a, (hidden,)), (x,), x.numel(), step)
    if kind == "dropout":
        return _rate(lambda a: F.dropout(a, 0.1), (x,), x.numel(), step)
    return _rate(ACTIVATIONS[detail], (x if step.autocast is None else x.to(step.autocast),), x.numel(), step)


def _attention_rate(settings: AttentionSettings, step: Pass) -> tuple[float, float]:
    """Of a text as long as the real ones where those have few enough pairs."""
    length = step.length
    while pairs_of_all_heads(settings, length) > PAIRS and length > 256:
        length //= 2
    shape, dtype = (1, settings.heads, length, settings.head_size), step.autocast or step.weights
    q, k, v = (torch.randn(shape, dtype=dtype, device=step.device) for _ in range(3))
    k, v = (one[:, : settings.key_heads].contiguous() for one in (k, v))
    pairs = pairs_of_all_heads(settings, length)
    return _rate(lambda a, b, c: attend(a, b, c, settings.pattern, dropout=settings.dropout), (q, k, v), pairs, step)


def _loss_rate(architecture: Architecture, rows: int, step: Pass) -> tuple[float, float]:
    """Scores and cross-entropy, a score; those of a masked LM exist all at once."""
    settings = architecture.embeddings
    masked = isinstance(architecture.head, MaskedLM | PreTraining)
    size = settings.size if masked else architecture.hidden_size
    like: dict[str, Any] = {"dtype": step.weights, "device": step.device}
    # Small, for probabilities near 0 would be subnormal numbers, which are slow.
    x, table = torch.randn(rows, size, **like) / size, torch.randn(settings.vocabulary_size, size, **like)
    targets = torch.randint(0, settings.vocabulary_size, (rows,), device=step.device)

    def loss(states: Tensor, words: Tensor) -> Tensor:
        return F.cross_entropy(linear(states, words), targets) if masked else next_token_loss(states, words, targets)

    return _rate(loss, (x, table), rows * settings.vocabulary_size, step)


def _rate(call: Callable[..., Tensor], inputs: tuple[Tensor, ...], units: int, step: Pass) -> tuple[float, float]:
    for one in inputs:
        one.requires_grad_()

    def forward() -> Tensor:
        given = nullcontext() if step.autocast is None else torch.autocast(step.device, dtype=step.autocast)
        with given:
            return call(*inputs)

    gradient = torch.ones_like(forward())
    alone = _seconds(forward, step)
    both = _seconds(lambda: torch.autograd.grad(forward(), inputs, gradient), step)
    return alone / units, max(both - alone, 0.0) / units


def _seconds(call: Callable[[], object], step: Pass) -> float:
    """The middle one of several calls, after one that warms up; of two where a call is long."""
    call()
    samples: list[float] = []
    while (len(samples) < CALLS and sum(samples) < LONG) or sum(samples) < AT_LEAST:
        _finish(step)
        start = time.perf_counter()
        call()
        _finish(step)
        samples.append(time.perf_counter() - start)
    return sorted(samples)[(len(samples) - 1) // 2]


def _fresh_byte_seconds() -> float:
    """What the first touch of a byte costs more than a later one."""
    count = 2**24
    plain = Pass(rows=1, length=1)
    fresh = _seconds(lambda: torch.empty(count).fill_(1.0), plain)
    held = torch.empty(count)
    again = _seconds(lambda: held.fill_(1.0), plain)
    return max(fresh - again, 0.0) / (count * WIDE)


def _finish(step: Pass) -> None:
    """Wait for what was begun on a GPU."""
    if step.device == "cuda":
        torch.cuda.synchronize()


def _update_seconds(architecture: Architecture, settings: OptimizerSettings, step: Pass) -> float:
    """The optimizer on a sample of one matrix, scaled to all parameters."""
    size = 2**20
    sample = nn.Parameter(torch.randn(1024, size // 1024, dtype=step.weights, device=step.device))
    sample.grad = torch.randn_like(sample)
    optimizer = build_optimizer(settings, [("sample", sample)])
    with torch.device("meta"):
        total = sum(one.numel() for one in Model(architecture).parameters())
    return _seconds(optimizer.step, step) * total / size
