"""Ranks against a loop that says what they mean, ties, and what is refused."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

from gossamer.errors import InputError
from gossamer.metrics import mean_reciprocal_rank, ndcg_at, recall_at, retrieval_ranks

EYE = torch.eye(3)


def ranks_by_loop(queries, vectors, documents, targets, similarity) -> list[int]:
    ranks = []
    for query, target in zip(queries.double(), targets.tolist(), strict=True):
        best: dict[int, float] = {}
        for vector, document in zip(vectors.double(), documents.tolist(), strict=True):
            score = float(query @ vector)
            if similarity == "cosine":
                score /= float(query.norm() * vector.norm())
            best[document] = max(score, best.get(document, -math.inf))
        ranks.append(sum(score >= best[target] for score in best.values()))
    return ranks


@given(seed=st.integers(0, 2**20), q=st.integers(1, 300), extra=st.integers(0, 30), count=st.integers(1, 8))
def test_ranks_are_those_of_the_loop(seed: int, q: int, extra: int, count: int):
    g = torch.Generator().manual_seed(seed)
    names = torch.randperm(100, generator=g)[:count] - 50
    documents = torch.cat([names, names[torch.randint(count, (extra,), generator=g)]])
    queries, vectors = torch.randn(q, 4, generator=g), torch.randn(count + extra, 4, generator=g)
    targets = names[torch.randint(count, (q,), generator=g)]
    for similarity in ("cosine", "dot"):
        got = retrieval_ranks(queries, vectors, documents, targets, similarity)
        assert got.dtype == torch.int64
        assert got.tolist() == ranks_by_loop(queries, vectors, documents, targets, similarity)


def test_the_best_vector_of_a_document_counts():
    vectors = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.9, 0.1]])
    ranks = retrieval_ranks(torch.tensor([[1.0, 0.0]]), vectors, torch.tensor([5, 5, 7]), torch.tensor([5]))
    assert ranks.tolist() == [1]


def test_similarity_matters():
    queries, vectors = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0], [5.0, 5.0]])
    documents, targets = torch.tensor([0, 1]), torch.tensor([0])
    assert retrieval_ranks(queries, vectors, documents, targets).tolist() == [1]
    assert retrieval_ranks(queries, vectors, documents, targets, "dot").tolist() == [2]


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_ties_count_against_us_whatever_the_scale(similarity, scale: float):
    g = torch.Generator().manual_seed(0)
    vectors = (scale * torch.randn(1, 384, generator=g)).repeat(50, 1)
    queries = torch.randn(7, 384, generator=g)
    ranks = retrieval_ranks(queries, vectors, torch.arange(50), torch.arange(7), similarity)
    assert ranks.tolist() == [50] * 7


def test_rounding_does_not_break_a_tie():
    g = torch.Generator().manual_seed(1)
    values = torch.randn(100, generator=g, dtype=torch.float64)
    vectors = torch.stack([values[torch.randperm(100, generator=g)] for _ in range(30)])
    assert len((vectors @ torch.ones(100, dtype=torch.float64)).unique()) > 1
    for similarity in ("cosine", "dot"):
        ranks = retrieval_ranks(torch.ones(30, 100), vectors, torch.arange(30), torch.arange(30), similarity)
        assert ranks.tolist() == [30] * 30


def test_recall_and_reciprocal_rank_by_hand():
    ranks = torch.tensor([1, 2, 4, 1])
    assert recall_at(ranks, 1).value == 0.5
    assert recall_at(ranks, 2).value == 0.75
    assert recall_at(ranks, 4).value == 1.0
    assert mean_reciprocal_rank(ranks).value == (1 + 0.5 + 0.25 + 1) / 4
    assert mean_reciprocal_rank(ranks).count == 4


def test_queries_of_one_speech_hang_together():
    ranks = torch.tensor([1, 9]).repeat_interleave(4).repeat(10)
    speech = torch.arange(20).repeat_interleave(4)
    for metric in (lambda g: recall_at(ranks, 1, g), lambda g: mean_reciprocal_rank(ranks, g)):
        assert metric(speech).standard_error > 1.9 * metric(None).standard_error


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"queries": EYE.clone().fill_diagonal_(math.nan)}, r"queries has 3 NaN or infinite entries"),
        ({"vectors": EYE / 0}, r"vectors has 9 NaN or infinite entries"),
        ({"vectors": torch.diag(torch.tensor([1.0, 0.0, 1.0]))}, r"vectors\[1\] is all zeros"),
        ({"vectors": torch.ones(3, 4)}, r"vectors have shape \[3, 4\]; give \[count, 3\]"),
        ({"queries": torch.ones(0, 3), "targets": torch.arange(0)}, r"queries have shape \[0, 3\]"),
        ({"documents": torch.arange(2)}, r"3 vectors but labels of shape \[2\]"),
        ({"targets": torch.rand(3)}, r"type torch.float32; give one whole number"),
        ({"targets": torch.tensor([0, 8, 9])}, r"2 targets have no vector, the first is document 8"),
        ({"similarity": "l2"}, r"similarity is 'l2'"),
    ],
)
def test_wrong_arguments(change, match):
    arguments = {"queries": EYE, "vectors": EYE, "documents": torch.arange(3), "targets": torch.arange(3), **change}
    with pytest.raises(InputError, match=match):
        retrieval_ranks(**arguments)


@pytest.mark.parametrize("ranks", [torch.tensor([0, 1]), torch.tensor([1.0]), torch.ones(0, dtype=torch.int64)])
def test_wrong_ranks(ranks):
    for metric in (mean_reciprocal_rank, lambda r: recall_at(r, 1)):
        with pytest.raises(InputError, match="give a vector of whole numbers from 1"):
            metric(ranks)
    with pytest.raises(InputError, match="k is 0"):
        recall_at(torch.tensor([1]), 0)


@given(seed=st.integers(0, 2**20), documents=st.integers(2, 12), k=st.integers(1, 14), queries=st.integers(1, 5))
def test_ndcg_is_that_of_scikit_learn(seed: int, documents: int, k: int, queries: int) -> None:
    g = torch.Generator().manual_seed(seed)
    several, single, expected_several, expected_single = [], [], [], []
    for _ in range(queries):
        ranks = torch.randperm(documents, generator=g)[: 1 + int(torch.randint(documents, (1,), generator=g))] + 1
        for chosen, found, peer in ((ranks, several, expected_several), (ranks[:1], single, expected_single)):
            relevance = torch.zeros(documents)
            relevance[chosen - 1] = 1
            found.append(chosen)
            peer.append(ndcg_score([relevance.tolist()], [list(range(documents, 0, -1))], k=k))
    assert ndcg_at(several, k).value == pytest.approx(sum(expected_several) / queries)
    assert ndcg_at(torch.cat(single), k).value == pytest.approx(sum(expected_single) / queries)


@pytest.mark.parametrize(
    ("ranks", "k", "message"),
    [
        (torch.tensor([1]), 0, "k is 0; nDCG is over the first 1 or more documents"),
        (torch.tensor([0]), 1, "give a vector of whole numbers from 1"),
        ([torch.tensor([2, 2])], 1, r"ranks \[2, 2\] of one query's documents repeat"),
        ([torch.tensor([1.0])], 1, "give a vector of whole numbers from 1"),
        ([], 1, r"values have shape \[0\]"),
    ],
)
def test_ranks_without_ndcg(ranks, k: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ndcg_at(ranks, k)
