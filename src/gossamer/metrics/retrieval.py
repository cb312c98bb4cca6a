"""Does a query find its document? Ranks, recall, reciprocal rank and nDCG, with standard errors."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from gossamer.errors import InputError
from gossamer.metrics.estimate import Estimate, Groups, estimate_mean, refuse_not_finite

__all__ = ["mean_reciprocal_rank", "ndcg_at", "recall_at", "retrieval_ranks"]

# Rounding of a float64 product of d terms is about d * 1e-16 of the vectors' lengths; scores nearer than this are tied.
_TIE = 1e-12
_QUERIES_AT_ONCE = 256


def retrieval_ranks(
    queries: Tensor,
    vectors: Tensor,
    documents: Tensor,
    targets: Tensor,
    similarity: Literal["cosine", "dot"] = "cosine",
) -> Tensor:
    """Rank, from 1, of each query's right document among all documents: int64 [q].

    queries: [q, d]. vectors: [m, d], one or more for each document. documents: integer [m], whose vector each is.
    targets: integer [q], the right document of each query. A document scores the best of its vectors, in float64.
    Ties are pessimistic: every document that scores as high as the right one counts as ranked before it. Raises
    InputError for shapes that do not fit, NaN or infinities, zero vectors under cosine, and targets without a vector.
    """
    _check(queries, vectors, documents, targets, similarity)
    q, v = (x.detach().to("cpu", torch.float64) for x in (queries, vectors))
    if similarity == "cosine":
        q, v = (x / x.norm(dim=1, keepdim=True) for x in (q, v))
    names, owner = torch.unique(documents.cpu(), return_inverse=True)
    right = torch.searchsorted(names, targets.cpu())
    longest = v.norm(dim=1).max()
    ranks = [
        _ranks(part, v, owner, len(names), target, longest)
        for part, target in zip(q.split(_QUERIES_AT_ONCE), right.split(_QUERIES_AT_ONCE), strict=True)
    ]
    return torch.cat(ranks)


def _ranks(q: Tensor, v: Tensor, owner: Tensor, count: int, right: Tensor, longest: Tensor) -> Tensor:
    scores = torch.full((len(q), count), -torch.inf, dtype=torch.float64)
    scores = scores.scatter_reduce(1, owner.expand(len(q), -1), q @ v.T, "amax")
    bar = scores.gather(1, right[:, None]) - _TIE * longest * q.norm(dim=1, keepdim=True)
    return (scores >= bar).sum(dim=1)


def recall_at(ranks: Tensor, k: int, groups: Groups | None = None) -> Estimate:
    """Share of queries whose right document is among the first `k`; `groups` [q]: which queries hang together."""
    _check_ranks(ranks)
    if k < 1:
        raise InputError(f"k is {k}; recall is over the first 1 or more documents")
    return estimate_mean((ranks <= k).double(), groups)


def mean_reciprocal_rank(ranks: Tensor, groups: Groups | None = None) -> Estimate:
    """Mean of 1 / rank; `groups` [q]: which queries hang together (the speech they were cut from)."""
    _check_ranks(ranks)
    return estimate_mean(1 / ranks.double(), groups)


def ndcg_at(ranks: Tensor | Sequence[Tensor], k: int, groups: Groups | None = None) -> Estimate:
    """Discounted cumulative gain among the first `k` documents, of the most that a ranking can have.

    ranks: of the right document of each query, [q]; or of all its right documents, a vector of different ranks for each
    query. A right document at rank r gains 1 / log2(1 + r). `groups` [q]: which queries hang together. Source: Jarvelin
    and Kekalainen 2002, as trec_eval and BEIR have it. Raises InputError for ranks that cannot be and k below 1.
    """
    if k < 1:
        raise InputError(f"k is {k}; nDCG is over the first 1 or more documents")
    if isinstance(ranks, Tensor):
        _check_ranks(ranks)
        return estimate_mean(_gains(ranks, k), groups)
    shares = []
    for right in ranks:
        _check_ranks(right)
        if len(right.unique()) < len(right):
            raise InputError(f"ranks {right.tolist()} of one query's documents repeat; every document has its own")
        shares.append(_gains(right, k).sum() / _gains(torch.arange(1, len(right) + 1), k).sum())
    return estimate_mean(torch.stack(shares) if shares else torch.empty(0), groups)


def _gains(ranks: Tensor, k: int) -> Tensor:
    return (ranks <= k) / (1 + ranks.double()).log2()


def _check_ranks(ranks: Tensor) -> None:
    if ranks.dim() != 1 or len(ranks) == 0 or ranks.is_floating_point() or int(ranks.min()) < 1:
        raise InputError(
            f"ranks have shape {list(ranks.shape)} and type {ranks.dtype}; give a vector of whole numbers from 1"
        )


def _check(queries: Tensor, vectors: Tensor, documents: Tensor, targets: Tensor, similarity: str) -> None:
    if similarity not in ("cosine", "dot"):
        raise InputError(f"similarity is {similarity!r}; it must be 'cosine' or 'dot'")
    for name, x, labels in (("queries", queries, targets), ("vectors", vectors, documents)):
        if x.dim() != 2 or x.shape[1] != queries.shape[-1] or len(x) == 0:
            raise InputError(f"{name} have shape {list(x.shape)}; give [count, {queries.shape[-1]}] with count >= 1")
        if labels.shape != x.shape[:1] or labels.is_floating_point():
            raise InputError(
                f"{len(x)} {name} but labels of shape {list(labels.shape)} and type {labels.dtype}; "
                "give one whole number for each"
            )
        refuse_not_finite(name, x)
        if similarity == "cosine" and not bool(x.ne(0).any(dim=1).all()):
            row = int(x.eq(0).all(dim=1).nonzero()[0])
            raise InputError(f"{name}[{row}] is all zeros: it has no direction; use similarity='dot' or leave it out")
    missing = sorted(set(targets.tolist()) - set(documents.tolist()))
    if missing:
        raise InputError(f"{len(missing)} targets have no vector, the first is document {missing[0]}; add its vectors")
