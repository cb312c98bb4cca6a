"""The task similar against sentence-transformers' semantic search: exact, whatever comes in whatever order."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers import SentenceTransformer, util
from tiny_embedders import embedder

import gossamer as gs
from gossamer.errors import InputError
from gossamer.models import SentenceEmbedding
from gossamer.text.speeches import speeches

QUERIES = ["war with Spain", "the price of wheat", "thanks for a good harvest"]


def test_real_vectors_find_what_semantic_search_finds(minilm: Path) -> None:
    texts = [speech.text[at : at + 300] for speech in list(speeches())[:40] for at in (1000, 3000)]
    found = gs.task("similar", gs.load(minilm))(QUERIES, iter(texts), top_k=7)
    peer = SentenceTransformer(str(minilm), device="cpu")
    expected = util.semantic_search(peer.encode(QUERIES), peer.encode(texts), top_k=7)
    for mine, other in zip(found.neighbours, expected, strict=True):
        assert [one.index for one in mine] == [one["corpus_id"] for one in other]
        assert [one.score for one in mine] == pytest.approx([one["score"] for one in other], abs=1e-5)
        assert all(one.text == texts[one.index].strip() for one in mine)
    assert found.compared == [80] * 3
    assert found.similarity == "cosine"


def searcher(similarity: Any = "cosine") -> Any:
    return gs.task("similar", embedder(SentenceEmbedding(similarity_fn_name=similarity), length=64))


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.text("abcdefgh", min_size=1, max_size=12), min_size=1, max_size=12),
    st.integers(1, 14),
    st.sampled_from(["cosine", "dot", "euclidean", "manhattan"]),
)
def test_all_are_looked_at(texts: list[str], top_k: int, similarity: str) -> None:
    task = searcher(similarity)
    queries = ["abc", "h"]
    found = task(queries, texts, top_k=top_k)
    embed = task.embed
    scores = embed.similarity(embed(queries).vectors, torch.cat([embed(text).vectors for text in texts]))
    for mine, row in zip(found.neighbours, scores.tolist(), strict=True):
        expected = sorted(row, reverse=True)[:top_k]
        assert [one.score for one in mine] == pytest.approx(expected, abs=1e-5)
        assert len({one.index for one in mine}) == len(mine) == min(top_k, len(texts))
        assert all(one.score == pytest.approx(row[one.index], abs=1e-5) for one in mine)
        assert all(one.text == texts[one.index] for one in mine)


def test_equally_near_texts_keep_their_order() -> None:
    (found,) = searcher()("ab", ["cd", "ab", "cd", "ab", "ab"], top_k=3).neighbours
    assert [one.index for one in found] == [1, 3, 4]


def test_stretches_of_a_long_text_are_found() -> None:
    task = searcher()
    text = "".join(random.Random(1).choices("abcdefghijklm", k=200))
    found = task("abc", [text, "xyz"], top_k=4, spans=10)
    assert found.compared == [21]
    expected = task.embed([text, "xyz"], spans=10)
    scores = task.embed.similarity(task.embed("abc").vectors, expected.vectors)[0]
    order = scores.argsort(descending=True)[:4].tolist()
    assert [(one.index, one.start, one.end) for one in found.neighbours[0]] == [
        (expected.text_of_row[i], *expected.spans[i]) for i in order
    ]
    for one in found.neighbours[0]:
        assert one.text == [text, "xyz"][one.index][one.start : one.end]
    assert any("read in overlapping passes" in note for note in found.notes)


def test_queries_and_texts_have_their_own_prompts() -> None:
    head = SentenceEmbedding(prompts={"query": "q ", "document": "d "})
    task = gs.task("similar", embedder(head, length=64))
    embed = task.embed
    expected = embed.similarity(embed.encode_query(["ab"]), embed.encode_document(["cd", "ef"]))[0]
    found = {one.index: one.score for one in task("ab", ["cd", "ef"]).neighbours[0]}
    assert [found[0], found[1]] == pytest.approx(expected.tolist(), abs=1e-6)


REFUSED: list[tuple[tuple[Any, Any], dict[str, Any], str]] = [
    (([], ["a"]), {}, "there are no queries: give at least one"),
    ((["a", 5], ["a"]), {}, "query 1 is 5, a int; it must be a string"),
    (("a", []), {}, "there are no texts"),
    (("a", ["b", 5]), {}, "text 1 is 5, a int; it must be a string"),
    (("a", {"b": 1}), {}, "texts is .*, a dict; give one string or a list of strings"),
    (("a", ["", ""]), {"skip_empty": True}, "there are no texts to compare with: give at least one that is not empty"),
    (("a", ["b"]), {"top_k": 0}, "top_k is 0; it must be a whole number of texts, 1 or more"),
    (("a", ["b"]), {"spans": 0}, "spans is 0"),
]


@pytest.mark.parametrize(("texts", "options", "said"), REFUSED, ids=lambda one: str(one)[:40])
def test_what_is_refused(texts: tuple[Any, Any], options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        searcher()(*texts, **options)
