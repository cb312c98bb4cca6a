"""How well a model in training predicts held-out text."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gossamer.metrics.language import bits_per_byte, perplexity
from gossamer.models import count_labels
from gossamer.models.encoder import Model
from gossamer.training.processes import Processes
from gossamer.training.steps import autocast

__all__ = ["Evaluation", "evaluate"]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The mean loss over the held-out labels in nats, exp of it, and the bits that a byte of their text takes."""

    loss: float
    perplexity: float
    bits_per_byte: float | None

    def numbers(self) -> dict[str, float | None]:
        """For a journal."""
        return {"loss": self.loss, "perplexity": self.perplexity, "bits_per_byte": self.bits_per_byte}


@torch.no_grad()
def evaluate(
    model: Model, wrapped: nn.Module, batches: Iterable[dict[str, Tensor]], processes: Processes, precision: str
) -> Evaluation:
    """Read the held-out batches once, this process's share of them; the same numbers in every process.

    Bits per byte are given for decoders: a masked LM predicts some of the tokens only.
    """
    was_training = model.training
    wrapped.eval()
    losses, labels, size = [], 0, 0
    try:
        for batch in batches:
            size += int(batch.pop("bytes"))
            count = count_labels(model.architecture, batch["labels"], batch.get("segments"))
            with autocast(processes.device, precision):
                loss = wrapped(**{name: one.to(processes.device) for name, one in batch.items()}).loss
            losses.append(float(loss) * count if count else 0.0)
            labels += count
    finally:
        wrapped.train(was_training)
    nats, total, covered = processes.total(math.fsum(losses), labels, size)
    mean = nats / total if total else math.nan
    told = math.isfinite(mean)
    causal = model.architecture.is_decoder and told and covered >= 1
    return Evaluation(
        loss=mean,
        perplexity=perplexity(mean) if told else math.nan,
        bits_per_byte=bits_per_byte(nats, int(covered)) if causal else None,
    )
