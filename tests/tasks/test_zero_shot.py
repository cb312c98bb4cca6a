"""The task zero-shot against the pipeline of transformers, and what it does that the pipeline does not."""

import math
from pathlib import Path
from typing import Any

import pytest
from pipeline_models import CORPUS, save_pipeline_model
from tiny_embedders import embedder
from transformers import pipeline

import gossamer as gs
from gossamer.errors import InputError
from gossamer.models import SequenceClassification

LABELS = ["travel", "machines, old", "the sea"]
ORDERS = {
    "mnli": ["contradiction", "neutral", "entailment"],
    "first": ["ENTAILMENT", "neutral", "contradiction"],
    "middle": ["neutral", "entailment", "contradiction"],
    "two": ["entailment", "not_entailment"],
    "unnamed": ["LABEL_0", "Entailed"],
}


@pytest.fixture(scope="module", params=[(family, order) for family in ("bert", "roberta") for order in ORDERS], ids=str)
def both(request: pytest.FixtureRequest, minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    family, order = request.param
    names = ORDERS[order]
    directory = tmp_path_factory.mktemp("entailment") / "model"
    labels = {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}
    save_pipeline_model(family, "text-classification", directory, minilm, **labels)
    theirs = pipeline("zero-shot-classification", model=str(directory), device="cpu")
    return gs.task("zero-shot", gs.load(directory)), theirs


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("labels", [LABELS, ["travel"]])
def test_scores_are_those_of_the_pipeline(both: tuple[Any, Any], multi_label: bool, labels: list[str]) -> None:
    ours, theirs = both
    if ours.head.labels[0] == "neutral" and (multi_label or len(labels) == 1):
        return  # theirs takes "neutral" for the contradiction: see the test of names
    for template in ("This example is {}.", "It is about {}"):
        found = ours(CORPUS, labels, template=template, multi_label=multi_label)
        expected = theirs(CORPUS, labels, hypothesis_template=template, multi_label=multi_label)
        for mine, other in zip(found.labels, expected, strict=True):
            assert [one.label for one in mine] == other["labels"]
            assert [one.score for one in mine] == pytest.approx(other["scores"], abs=1e-5)


def entailing(labels: tuple[str, ...] = ("contradiction", "neutral", "entailment"), **options: Any) -> Any:
    return gs.task("zero-shot", embedder(SequenceClassification(labels=labels), **options))


def test_the_label_against_is_found_by_its_name() -> None:
    names = {("neutral", "contradiction", "entailment"): 1, ("entailment", "not_entailment"): 1,
             ("x", "entailment"): 0, ("entailment", "x", "y"): -1}  # fmt: skip
    for labels, place in names.items():
        assert entailing(labels)._contradiction == place


def test_labels_of_one_string_stand_between_commas() -> None:
    task = entailing(length=32)
    assert task("abc", "a, bc ,d", template="{}").labels == task("abc", ["a", "bc", "d"], template="{}").labels
    assert len(task("abc", ["a", "bc", "d"], template="{}", top_k=2).labels[0]) == 2


def test_a_long_text_is_read_in_passes_with_the_whole_hypothesis() -> None:
    task, classify = entailing(), gs.task("classify", entailing().model)
    text = "abcdefghijklmnopqrst"
    found = task([text, "ab"], ["x", "y"], template="z{}", multi_label=True)
    assert found.passes == [2, 1]
    assert found.tokens == [20, 2]
    assert len(found.notes) == 1
    assert found.notes[0].startswith("text 0 with its pair is 25 tokens long, the model reads 16: read in overlapping")
    of_pair = {one.label: one.score for one in classify(text, "zx", function_to_apply="none").labels[0]}
    both = [of_pair["contradiction"], of_pair["entailment"]]
    expected = 1 / (1 + math.exp(both[0] - both[1]))
    assert {one.label: one.score for one in found.labels[0]}["x"] == pytest.approx(expected, abs=1e-6)


def test_it_streams() -> None:
    task = entailing()
    items = list(task.stream(["ab", "", "cd"], labels=["x", "y"], template="{}"))
    assert [item.error is None for item in items] == [True, False, True]
    assert items[2].result.labels == task(["ab", "cd"], ["x", "y"], template="{}").labels[1:]
    with pytest.raises(InputError, match="label 1 is 5, a int"):  # of the call, not of a text
        list(task.stream(["ab", "cd"], labels=["x", 5], template="{}"))


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"labels": []}, "there are no labels: give at least one"),
    ({"labels": ["a", " "]}, r"label 1 of \['a', ' '\] is empty: leave it out"),
    ({"labels": "a,b,,c"}, "label 2 of 'a,b,,c' is empty"),
    ({"labels": ["a", "a"]}, "the label 'a' is given twice: give each once"),
    ({"labels": ["a"], "template": "no place"}, "template is 'no place'; it must hold {} where the label stands"),
    ({"labels": ["a"], "template": None}, "template is None; it must hold {}"),
    ({"labels": ["a"], "multi_label": "yes"}, "multi_label is 'yes'; it must be True or False"),
    ({"labels": ["a"], "top_k": 0}, "top_k is 0; it must be a whole number of labels, 1 or more, or None"),
    ({"labels": ["a"], "candidate_labels": ["b"]}, "there is no option 'candidate_labels' here; it is labels"),
]


@pytest.mark.parametrize(("options", "said"), REFUSED, ids=lambda one: str(one)[:40])
def test_what_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        entailing()("ab", **options)


@pytest.mark.parametrize("labels", [("no", "yes"), ("entailment",), ("entailment", "entails")])
def test_a_model_without_one_label_for_entailment_is_refused(labels: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="zero-shot needs one that begins with 'entail' beside others: take a model"):
        entailing(labels)
