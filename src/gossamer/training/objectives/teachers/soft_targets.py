"""How far a student's word is from its teacher's: divergences of scores at a temperature, and of states."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

__all__ = ["TopTargets", "cosine_distance", "soft_target_loss", "top_targets", "vocabulary_losses"]

CHUNK_SCORES = 2**23
"""Scores of each of the two models that exist at once."""


@dataclass(frozen=True, kw_only=True)
class TopTargets:
    """A teacher's k highest scores of each item, and what all its other scores come to at a temperature.

    logits: float [items, k]. classes: int [items, k], whose they are. rest: float [items], the logarithm of the sum of
    `exp(score / T)` over all other classes.
    """

    logits: Tensor
    classes: Tensor
    rest: Tensor

    def __getitem__(self, items: Any) -> TopTargets:
        return TopTargets(logits=self.logits[items], classes=self.classes[items], rest=self.rest[items])


def top_targets(scores: Float[Tensor, "items classes"], k: int, temperature: float) -> TopTargets:
    """The k highest of some scores, fewer than there are classes."""
    wide = scores.to(torch.promote_types(scores.dtype, torch.float32))
    top = wide.topk(k, dim=-1)
    rest = (wide / temperature).scatter(-1, top.indices, -torch.inf).logsumexp(-1)
    return TopTargets(logits=top.values, classes=top.indices, rest=rest)


def soft_target_loss(
    student: Float[Tensor, "items classes"], teacher: Float[Tensor, "items classes"] | TopTargets, temperature: float
) -> Float[Tensor, "items"]:
    """`T^2 KL(softmax(teacher / T) || softmax(student / T))` of each item, in nats, in float32 or wider.

    Of `TopTargets` it is the divergence of k + 1 outcomes, each of those classes and "another one", with the exact
    probabilities of both models: never above that of all classes, and the same where k is all but one.

    Source: Hinton et al. 2015 (arXiv 1503.02531), section 2: the square keeps gradients as large at any temperature.
    """
    wide = torch.promote_types(student.dtype, torch.float32)
    scores = student.to(wide) / temperature
    if isinstance(teacher, TopTargets):
        classes = teacher.classes.long()
        others = scores.scatter(-1, classes, -torch.inf).logsumexp(-1, keepdim=True)
        told = torch.cat([scores.gather(-1, classes), others], dim=-1).log_softmax(-1)
        theirs = torch.cat([teacher.logits.to(wide) / temperature, teacher.rest.to(wide)[:, None]], dim=-1)
    else:
        told, theirs = scores.log_softmax(-1), teacher.to(wide) / temperature
    wanted = theirs.log_softmax(-1)
    return F.kl_div(told, wanted, reduction="none", log_target=True).sum(-1) * temperature**2


def vocabulary_losses(
    student: tuple[Float[Tensor, "tokens hidden"], Callable[[Tensor], Tensor]],
    teacher: tuple[Tensor | TopTargets, Callable[[Any], Tensor | TopTargets]] | None,
    labels: Int[Tensor, "tokens"],
    temperature: float,
    *,
    vocabulary: int,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """The mean cross-entropy of a student with the labels, and its mean `soft_target_loss`, 0 without a teacher.

    student, teacher: states, and what makes scores over the vocabulary of them; of the teacher also what is known of
    its scores, left as it is. They are scored in chunks of tokens of at most `CHUNK_SCORES` scores, again in the
    backward pass, so that no model's [tokens, vocabulary] is there whole.
    """
    states, scores_of = student
    size = max(1, CHUNK_SCORES // vocabulary)

    def losses(some: Tensor, theirs: Tensor | TopTargets | None, wanted: Tensor) -> tuple[Tensor, Tensor]:
        scores = scores_of(some)
        wide = scores.to(torch.promote_types(scores.dtype, torch.float32))
        hard = F.cross_entropy(wide, wanted, reduction="sum")
        if teacher is None or theirs is None:
            return hard, hard.new_zeros(())
        with torch.no_grad():
            soft_targets = teacher[1](theirs)
        return hard, soft_target_loss(wide, soft_targets, temperature).sum()

    hard = soft = states.sum() * 0.0  # of the graph, where there is no token to learn
    for start in range(0, len(labels), size):
        rows = slice(start, start + size)
        theirs = None if teacher is None else teacher[0][rows]
        parts = checkpoint(losses, states[rows], theirs, labels[rows], use_reentrant=False)
        hard, soft = hard + parts[0], soft + parts[1]
    count = max(len(labels), 1)
    return hard / count, soft / count


def cosine_distance(
    student: Float[Tensor, "batch length hidden"],
    teacher: Float[Tensor, "batch length hidden"],
    is_real: Bool[Tensor, "batch length"],
) -> Float[Tensor, ""]:
    """The mean of `1 - cos` between both models' states over real tokens (Sanh et al. 2019, section 3)."""
    wide = torch.promote_types(student.dtype, torch.float32)
    return 1 - F.cosine_similarity(student[is_real].to(wide), teacher[is_real].to(wide), dim=-1).mean()
