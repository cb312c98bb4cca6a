"""How long a training step takes: its operations counted, times what each was just measured to cost here."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gossamer.kernels import ACTIVATIONS, attend, linear
from gossamer.kernels.accounts import AttentionWork, count_pairs
from gossamer.kernels.ledger import WIDE
from gossamer.models.account import model_without_memory
from gossamer.models.architecture import Architecture
from gossamer.models.heads import MaskedLM, PreTraining
from gossamer.models.next_token import next_token_loss
from gossamer.training.estimate.saved import Pass, parts_of
from gossamer.training.optimization.optimizers import OptimizerSettings, build_optimizer

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
    units: Counter[Operation] = Counter()
    again: Counter[Operation] = Counter()
    scores_words = architecture.head is not None and architecture.head.scores_words
    for part in parts_of(architecture, step):
        # Scores of words and their loss are measured together.
        units.update(
            {("loss", None): step.tokens * architecture.embeddings.vocabulary_size}
            if part.kind == "loss" and scores_words
            else part.work
        )
        again.update(part.again)
    return {operation: Work(units=count, again=again[operation]) for operation, count in units.items()}


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


def _attention_rate(work: AttentionWork, step: Pass) -> tuple[float, float]:
    """Of a text as long as the real ones where those have few enough pairs."""
    pattern, heads, key_heads, head_size, dropout = work
    length = step.share
    while count_pairs(pattern, heads, length, length) > PAIRS and length > 256:
        length //= 2
    like: dict[str, Any] = {"dtype": step.autocast or step.weights, "device": step.device}
    q, k, v = (torch.randn(1, count, length, head_size, **like) for count in (heads, key_heads, key_heads))
    pairs = count_pairs(pattern, heads, length, length)
    return _rate(lambda a, b, c: attend(a, b, c, pattern, dropout=dropout), (q, k, v), pairs, step)


def _loss_rate(architecture: Architecture, rows: int, step: Pass) -> tuple[float, float]:
    """Scores and cross-entropy, a score; those of a masked LM exist all at once."""
    settings = architecture.embeddings
    masked = isinstance(architecture.head, MaskedLM | PreTraining)
    size = settings.size if masked else architecture.output_size
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
    total = sum(one.numel() for one in model_without_memory(architecture).parameters())
    return _seconds(optimizer.step, step) * total / size
