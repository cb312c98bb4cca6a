"""Losses of vectors of pairs and triplets, as sentence-transformers defines them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

__all__ = ["Distance", "contrastive_loss", "cosine_loss", "in_batch_loss", "same_texts", "triplet_loss"]

Distance = Literal["cosine", "euclidean"]


def in_batch_loss(
    anchors: Float[Tensor, "rows size"],
    candidates: Sequence[Float[Tensor, "rows size"]],
    scale: float,
    symmetric: bool = False,
    not_negative: Bool[Tensor, "rows candidates"] | None = None,
) -> Float[Tensor, ""]:
    """Cross entropy of each anchor's own positive among the candidates of all rows, by `scale` times their cosine.

    candidates: the positives, then each column of negatives. symmetric: the mean with the cross entropy of each
    positive's own anchor among all anchors. not_negative: pairs that are left out of the sums, as another row's
    candidate may be the very text of the right one. Source: Henderson et al. 2017, section 4.4; scale and symmetry as
    MultipleNegativesRankingLoss and MultipleNegativesSymmetricRankingLoss, which leave nothing out.
    """
    cosines = F.normalize(anchors, dim=-1) @ F.normalize(torch.cat(list(candidates)), dim=-1).T
    scores = scale * cosines
    if not_negative is not None:
        scores = scores.masked_fill(not_negative, -torch.inf)
    rows = torch.arange(len(anchors), device=anchors.device)
    loss = F.cross_entropy(scores, rows)
    return (loss + F.cross_entropy(scores[:, : len(rows)].T, rows)) / 2 if symmetric else loss


def same_texts(texts: Tensor) -> Bool[Tensor, "rows candidates"]:
    """Which candidates of other rows are right for an anchor too: its positive's text, or an equal anchor's positive.

    texts: a number for each text of a row, equal where texts are, int64 [rows, 1 + 1 + negatives].
    """
    anchors, positives, candidates = texts[:, 0], texts[:, 1], texts[:, 1:].T.reshape(-1)
    is_right = positives[:, None] == candidates
    is_right[:, : len(texts)] |= anchors[:, None] == anchors
    is_right[:, : len(texts)].fill_diagonal_(False)
    return is_right


def cosine_loss(
    first: Float[Tensor, "rows size"], second: Float[Tensor, "rows size"], scores: Float[Tensor, "rows"]
) -> Float[Tensor, ""]:
    """Mean squared difference between the cosine of a pair and its score, as CosineSimilarityLoss has it."""
    return F.mse_loss(F.cosine_similarity(first, second), scores.to(first.dtype))


def contrastive_loss(
    first: Float[Tensor, "rows size"], second: Float[Tensor, "rows size"], same: Tensor, margin: float,
    distance: Distance = "cosine",
) -> Float[Tensor, ""]:  # fmt: skip
    """Half the squared distance of pairs that mean the same, and of how far others are nearer than the margin.

    same: 1 or 0, [rows]. Source: Hadsell et al. 2006, equation 4, as ContrastiveLoss has it.
    """
    apart, is_same = _distance(first, second, distance), same.to(first.dtype)
    return (is_same * apart.square() + (1 - is_same) * F.relu(margin - apart).square()).mean() / 2


def triplet_loss(
    anchors: Float[Tensor, "rows size"], positives: Float[Tensor, "rows size"],
    negatives: Sequence[Float[Tensor, "rows size"]], margin: float, distance: Distance,
) -> Float[Tensor, ""]:  # fmt: skip
    """How far the positive is not nearer than the negative by the margin; the mean over rows and their negatives.

    Source: Schroff et al. 2015, equation 3, without squares, as TripletLoss has it.
    """
    near = _distance(anchors, positives, distance)
    return torch.stack([F.relu(near - _distance(anchors, far, distance) + margin) for far in negatives]).mean()


def _distance(first: Tensor, second: Tensor, distance: Distance) -> Float[Tensor, "rows"]:
    if distance == "cosine":
        return 1 - F.cosine_similarity(first, second)
    return torch.linalg.vector_norm(first - second, dim=-1)
