"""How far a student's attention is from its teacher's, over chosen rows: never [length, length]."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

__all__ = ["attention_loss", "draw_rows"]

Weights = Float[Tensor, "batch heads rows keys"]


def attention_loss(
    student: Weights, teacher: Weights, row_is_real: Bool[Tensor, "batch rows"], is_real: Bool[Tensor, "batch keys"],
    loss: str,
) -> Float[Tensor, ""]:  # fmt: skip
    """The mean over heads and real rows of the distance between two rows of attention weights.

    loss: "kl", the divergence `sum_j t_j (log t_j - log s_j)` of the student's s from the teacher's t in nats (MiniLM:
    Wang et al. 2020, arXiv 2002.10957, section 3.1); "cosine", 1 - cos; "mse", the squared difference of weights and
    "log-mse" that of their logarithms, the scores less a number a row, each a mean over real keys (TinyBERT: Jiao et
    al. 2020, arXiv 1909.10351, section 3, which compares scores). Keys that neither model sees add nothing. Logarithms
    stop at that of the smallest normal number. A row in which the teacher sees nothing does not count.
    """
    counts = row_is_real[:, None] & (teacher > 0).any(-1)
    every = _of_each(student, teacher, is_real, loss)
    return torch.where(counts, every, 0).sum() / counts.sum().clamp(min=1)


def _of_each(student: Weights, teacher: Weights, is_real: Tensor, loss: str) -> Float[Tensor, "batch heads rows"]:
    if loss == "cosine":
        return 1 - F.cosine_similarity(student, teacher, dim=-1)
    if loss == "mse":
        differences = (student - teacher).square()
    else:
        logs = [one.clamp(min=torch.finfo(one.dtype).tiny).log() for one in (student, teacher)]
        if loss == "kl":
            return (teacher * (logs[1] - logs[0])).sum(-1)
        differences = (logs[0] - logs[1]).square()
    keys = is_real[:, None, None].sum(-1).clamp(min=1)
    return differences.masked_fill(~is_real[:, None, None], 0).sum(-1) / keys


def draw_rows(
    is_real: Bool[Tensor, "batch length"], count: int
) -> tuple[Int[Tensor, "batch rows"], Bool[Tensor, "batch rows"]]:
    """At most `count` real tokens of each text, all of one that has no more, and which of them are real.

    They are drawn by torch's generator of the CPU, which a run seeds anew for each part of a step: the same on every
    device, and when the run goes on. Texts with fewer real tokens than others are filled up with padding.
    """
    real = is_real.cpu()
    most = int(real.sum(dim=1).max())
    ranks = torch.rand(real.shape).masked_fill(~real, -1)
    rows = ranks.topk(min(count, most), dim=1).indices.sort(dim=1).values
    return rows.to(is_real.device), real.gather(1, rows).to(is_real.device)
