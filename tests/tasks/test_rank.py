"""The task rank against sentence-transformers' CrossEncoder, and what it does beyond."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from pipeline_models import CORPUS, save_pipeline_model
from sentence_transformers import CrossEncoder
from tiny_embedders import embedder

import gossamer as gs
from gossamer.errors import InputError
from gossamer.models import SequenceClassification
from gossamer.tasks import stream

TEXTS = [*CORPUS, "Turin", "a river to the sea", "the engine in London, by Babbage"]


@pytest.fixture(scope="module", params=["bert", "roberta"])
def both(request: pytest.FixtureRequest, minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    directory = tmp_path_factory.mktemp("rank") / "model"
    one_label = {"id2label": {0: "LABEL_0"}, "label2id": {"LABEL_0": 0}}
    save_pipeline_model(request.param, "text-classification", directory, minilm, **one_label)
    return gs.task("rank", gs.load(directory)), CrossEncoder(str(directory), device="cpu")


@pytest.mark.parametrize("top_k", [None, 2])
def test_order_and_scores_are_those_of_a_cross_encoder(both: tuple[Any, Any], top_k: int | None) -> None:
    ours, theirs = both
    for query in ("who built the engine?", "where does the river go"):
        expected = theirs.rank(query, TEXTS, top_k=top_k, return_documents=True, show_progress_bar=False)
        (found,) = ours(query, TEXTS, top_k=top_k).texts
        assert [one.index for one in found] == [one["corpus_id"] for one in expected]
        assert [one.text for one in found] == [one["text"] for one in expected]
        assert [one.score for one in found] == pytest.approx([float(one["score"]) for one in expected], abs=1e-5)


def ranker(labels: tuple[str, ...] = ("fits",), **options: Any) -> Any:
    model = embedder(SequenceClassification(labels=labels), **options)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(3)
    return gs.task("rank", model)


def letters(count: int, seed: int = 0) -> list[str]:
    drawn = random.Random(seed)
    return ["".join(drawn.choices("abcdefghij", k=drawn.randint(1, 6))) for _ in range(count)]


@pytest.mark.parametrize("at_once", [1, 3, 256])
@pytest.mark.parametrize("top_k", [None, 1, 4, 50])
def test_groups_of_texts_are_one_ranking(at_once: int, top_k: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    rank, texts = ranker(), letters(13)
    monkeypatch.setattr(stream, "GROUP_ITEMS", at_once)
    found = rank(["ab", "c"], iter(texts), top_k=top_k, function_to_apply="none")
    for query, ranked in zip(("ab", "c"), found.texts, strict=True):
        classify = gs.task("classify", rank.model)
        scores = [classify(query, text, function_to_apply="none").labels[0][0].score for text in texts]
        order = sorted(range(len(texts)), key=lambda i: -round(scores[i], 6))[:top_k]
        assert [round(one.score, 4) for one in ranked] == [round(scores[i], 4) for i in order]
        assert all(one.text == texts[one.index] for one in ranked)
        assert len({one.index for one in ranked}) == len(ranked)


def test_equal_texts_keep_their_order() -> None:
    (found,) = ranker()("ab", ["c", "d", "c", "c"]).texts
    places = [one.index for one in found if one.text == "c"]
    assert places == sorted(places)


def test_a_long_text_counts_by_its_best_pass_or_by_their_mean() -> None:
    rank = ranker()
    text = "abcdefghijklmnopqrstuvw"
    best = rank("xy", [text, "ab"], function_to_apply="none")
    mean = rank("xy", [text, "ab"], function_to_apply="none", over_passes="mean")
    assert best.passes == mean.passes == [4]
    assert best.tokens == [2 + 23 + 2 + 2]
    assert "text 0 with its pair is 28 tokens long" in best.notes[0]
    score = {one.index: one.score for one in best.texts[0]}[0]
    averaged = {one.index: one.score for one in mean.texts[0]}[0]
    classified = gs.task("classify", rank.model)("xy", text, function_to_apply="none").labels[0][0].score
    assert averaged == pytest.approx(classified, abs=1e-6)
    assert score > averaged


def test_with_top_k_other_texts_are_not_held() -> None:
    class Counted(str):
        alive = 0

        def __new__(cls, text: str) -> "Counted":
            cls.alive += 1
            return super().__new__(cls, text)

        def __del__(self) -> None:
            Counted.alive -= 1

    most = 0

    def many() -> Iterator[str]:
        nonlocal most
        for text in letters(1500):
            most = max(most, Counted.alive)
            yield Counted(text)

    ranker()("ab", many(), top_k=3)
    assert most <= 2 * stream.GROUP_ITEMS + 3


def test_bad_texts_are_refused_or_left_out() -> None:
    rank, texts = ranker(), ["ab", "", "c", 5]
    with pytest.raises(InputError, match="text 1 is empty"):
        rank("x", texts)
    found = rank("x", texts, skip_bad=True)
    assert sorted(one.index for one in found.texts[0]) == [0, 2]
    assert [note.split(" is ")[0] for note in found.notes] == ["left out: text 1", "left out: text 3"]
    with pytest.raises(InputError, match="text 0 is empty"):
        rank("x", ["", ""], skip_bad=True)


def test_the_label_that_counts_is_named_where_there_are_several() -> None:
    rank = ranker(("no", "yes"))
    (yes,), (no,) = (rank("ab", letters(6), label=label, function_to_apply="none").texts for label in ("yes", "no"))
    assert {one.index for one in yes} == {one.index for one in no}
    assert [one.score for one in yes] == sorted((one.score for one in yes), reverse=True)
    with pytest.raises(InputError, match="the model has 2 labels; name the one whose score counts, label"):
        rank("ab", ["c"])
    with pytest.raises(InputError, match="label is 'maybe'; name the one"):
        rank("ab", ["c"], label="maybe")


REFUSED: list[tuple[tuple[Any, Any], dict[str, Any], str]] = [
    (("", ["a"]), {}, "query 0 is empty"),
    (("a", []), {}, "there are no texts: give at least one"),
    (("a", {"b": 1}), {}, "texts is .*, a dict; give one string or a list of strings"),
    (("a", 5), {}, "texts is 5; give one string or a list of strings"),
    (("a", ["b"]), {"top_k": 0}, "top_k is 0; it must be a whole number of texts, 1 or more, or None"),
    (("a", ["b"]), {"over_passes": "min"}, "over_passes is 'min'; it must be 'max' or 'mean'"),
    (("a", ["b"]), {"function_to_apply": "tanh"}, "function_to_apply is 'tanh'; it must be one of softmax"),
    (("a", ["b"]), {"documents": ["c"]}, "there is no option 'documents' here; it is texts"),
]


@pytest.mark.parametrize(("texts", "options", "said"), REFUSED, ids=lambda one: str(one)[:40])
def test_what_is_refused(texts: tuple[Any, Any], options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        ranker()(*texts, **options)


def test_a_text_without_room_is_left_out_too() -> None:
    rank = ranker()
    texts = ["ab", "x" * 40, "c"]
    with pytest.raises(InputError, match="text 1 with its pair is"):
        rank("y", texts, long="error")
    found = rank("y", texts, long="error", skip_bad=True)
    assert sorted(one.index for one in found.texts[0]) == [0, 2]
    assert found.notes[0].startswith("left out: text 1 with its pair is")
