"""How well vectors of held-out pairs find their own, order pairs by likeness, and tell a positive from a negative."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from gossamer.metrics import ndcg_at, spearman

__all__ = ["likeness_scores", "retrieval_scores", "triplet_accuracy"]

_QUERIES_AT_ONCE = 256
_FIRST = 10


def retrieval_scores(
    vectors: Sequence[Float[Tensor, "rows size"]], texts: Int[Tensor, "rows texts"]
) -> dict[str, float | None]:
    """nDCG@10, MRR@10 and recall@1 and @10 of every anchor among all other texts of the rows, by the cosine.

    Equal texts are one query, or one document; right documents of a query are all positives that stand beside it. A
    document that scores as high as a right one counts as ranked before it.
    """
    queries, firsts = _different(texts[:, 0])
    documents, places = _different(texts[:, 1:].T.reshape(-1))
    q, d = vectors[0].double()[firsts], torch.cat(list(vectors[1:])).double()[places]
    is_right = torch.zeros(len(q), len(d), dtype=torch.bool)
    anchors, positives = (one.contiguous() for one in texts[:, :2].unbind(1))
    is_right[torch.searchsorted(queries, anchors), torch.searchsorted(documents, positives)] = True
    ranks = _right_ranks(F.normalize(q, dim=-1), F.normalize(d, dim=-1), is_right)
    first = torch.stack([one.min() for one in ranks])
    recall = {k: torch.stack([(one <= k).double().mean() for one in ranks]).mean() for k in (1, _FIRST)}
    return {
        f"ndcg_at_{_FIRST}": ndcg_at(ranks, _FIRST).value,
        f"mrr_at_{_FIRST}": float(torch.where(first <= _FIRST, 1 / first.double(), 0).mean()),
        **{f"recall_at_{k}": float(share) for k, share in recall.items()},
    }


def likeness_scores(
    first: Float[Tensor, "rows size"], second: Float[Tensor, "rows size"], wanted: Float[Tensor, "rows"]
) -> dict[str, float | None]:
    """Spearman's correlation of cosines with what was wanted; None where either is constant."""
    cosines = F.cosine_similarity(first.double(), second.double())
    return {"spearman": spearman(cosines, wanted.double())}


def triplet_accuracy(vectors: Sequence[Float[Tensor, "rows size"]]) -> dict[str, float | None]:
    """The share of negatives that are farther from their anchor than its positive, by the cosine."""
    anchors, *others = (F.normalize(one.double(), dim=-1) for one in vectors)
    near, *far = ((anchors * one).sum(dim=-1) for one in others)
    return {"triplet_accuracy": float((near > torch.stack(far)).double().mean())}


def _different(texts: Int[Tensor, "texts"]) -> tuple[Int[Tensor, "different"], Int[Tensor, "different"]]:
    """The texts that differ, sorted, and where each stands first."""
    different, numbers = torch.unique(texts, return_inverse=True)
    places = torch.full((len(different),), len(texts))
    return different, places.scatter_reduce(0, numbers, torch.arange(len(texts)), "amin")


def _right_ranks(
    queries: Float[Tensor, "queries size"],
    documents: Float[Tensor, "documents size"],
    is_right: Bool[Tensor, "queries documents"],
) -> list[Int[Tensor, "right"]]:
    """The ranks, from 1, of each query's right documents; a wrong one that scores as high stands before them."""
    ranks = []
    for part, right in zip(queries.split(_QUERIES_AT_ONCE), is_right.split(_QUERIES_AT_ONCE), strict=True):
        scores = part @ documents.T
        wrong_first = right.int().argsort(dim=1, stable=True)
        order = wrong_first.gather(1, scores.gather(1, wrong_first).argsort(dim=1, descending=True, stable=True))
        ranks += [row.nonzero()[:, 0] + 1 for row in right.gather(1, order)]
    return ranks
