"""The decoders of benchmarks/recompute.py: their sizes, patterns and ways, and one of them in training."""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import dataclass

import torch

from gossamer.models import Architecture, Model
from gossamer.models.decoders import decoder
from gossamer.patterns import Full, Pattern, Strided, Window
from gossamer.training.optimization.optimizers import OptimizerSettings, build_optimizer

WAYS = ("nothing", "attention", "feed_forward", "both")


@dataclass(frozen=True, kw_only=True)
class Size:
    """A decoder's shape; the vocabulary is that of bytes."""

    layers: int
    hidden: int
    heads: int
    vocabulary: int = 256


@dataclass(frozen=True, kw_only=True)
class Plan:
    purpose: str
    size: Size
    lengths: tuple[int, ...]
    rounds: int
    device: str = "cpu"
    autocast: str | None = None


PLANS = {
    "cpu": Plan(
        purpose="measurement", size=Size(layers=6, hidden=384, heads=6), lengths=(1024, 4096, 12288), rounds=5
    ),
    "gpu": Plan(
        purpose="measurement", size=Size(layers=12, hidden=768, heads=12), lengths=(4096, 16384, 65536), rounds=9,
        device="cuda", autocast="bfloat16",
    ),
    "smoke": Plan(
        purpose="smoke test: its times mean nothing", size=Size(layers=2, hidden=32, heads=2), lengths=(64, 256),
        rounds=1,
    ),
}  # fmt: skip
PATTERNS = ("dense", "window", "strided")


def pattern_of(name: str, length: int) -> Pattern:
    """Window 256; a stride near the root of the length, as in the paper."""
    if name == "dense":
        return Full(causal=True)
    if name == "window":
        return Window(255, 0)
    return Strided(2 ** round(math.log2(length) / 2))


def architecture(plan: Plan, pattern: str, length: int, way: str) -> Architecture:
    size = plan.size
    return decoder(
        vocabulary_size=size.vocabulary, length=length, layers=size.layers, hidden_size=size.hidden, heads=size.heads,
        patterns=pattern_of(pattern, length), recompute=way,  # type: ignore[arg-type]
    )  # fmt: skip


class Training:
    """One decoder in training; every way of the same case starts from the same weights and reads the same bytes."""

    def __init__(self, plan: Plan, pattern: str, length: int, way: str, seed: int) -> None:
        torch.manual_seed(seed)
        self.plan = plan
        self.model = Model(architecture(plan, pattern, length, way)).to(plan.device).train()
        self.optimizer = build_optimizer(OptimizerSettings(learning_rate=1e-4), self.model.named_parameters())
        self.ids = torch.randint(0, plan.size.vocabulary, (1, length)).to(plan.device)

    def gradients(self) -> float:
        """The loss; the gradients lie in the parameters."""
        kind = self.plan.autocast
        with nullcontext() if kind is None else torch.autocast(self.plan.device, dtype=getattr(torch, kind)):
            loss = self.model(self.ids, labels=self.ids).loss
        loss.backward()
        return float(loss.detach())

    def step(self) -> None:
        self.gradients()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.plan.device == "cuda":
            torch.cuda.synchronize()
