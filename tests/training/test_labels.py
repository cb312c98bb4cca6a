"""Labels of texts and of tokens: what is learnt from rows, how it is counted, and how a run of them goes on."""

import json
import math
import random
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from broken_runs import broken_off
from tiny_labels import NAMES, labels_config, save_encoder, texts, write_rows
from tiny_runs import assert_same_run, journal
from torch.nn import functional as F
from transformers import AutoTokenizer

import gossamer as gs
from gossamer.errors import InputError
from gossamer.models.heads import SequenceClassification, TokenClassification
from gossamer.text import Document
from gossamer.training.config import TrainingConfig
from gossamer.training.data.labelled import LabelledBatches
from gossamer.training.loop import train
from gossamer.training.material import gather
from gossamer.training.objectives import ClassificationObjective, LabelObjective, TaggingObjective
from gossamer.training.objectives.base import learnt
from gossamer.training.objectives.labelled.labels import Example
from gossamer.training.processes import Processes
from gossamer.training.stops import RunStopped


def batches_of(config: dict[str, Any]) -> LabelledBatches:
    found = gather(TrainingConfig.read(config), None, Processes()).batches
    assert isinstance(found, LabelledBatches)
    return found


def test_a_classifier_learns_and_answers(tmp_path: Path) -> None:
    config = labels_config(tmp_path, steps=40, evaluation={"held_out": 0.2, "every": 10})
    _, receipt = gs.train(config)
    model = gs.load(tmp_path / "out" / "last")
    assert isinstance(model.architecture.head, SequenceClassification)
    assert model.architecture.head.labels == ("book", "film", "song")
    assert model.architecture.head.problem_type == "single_label_classification"
    assert receipt.evaluation is not None
    assert receipt.evaluation.keys() == {"loss", "accuracy", "f1_macro", "matthews"}
    assert receipt.evaluation["accuracy"] == receipt.evaluation["f1_macro"] == 1.0
    held = [one for one in journal(tmp_path / "out") if one["split"] == "held-out"]
    assert [one["step"] for one in held] == [10, 20, 30, 40]
    assert held[-1]["loss"] < held[0]["loss"] / 2
    found = gs.task("classify", model)(["song song", "film film film"])
    assert [one[0].label for one in found.labels] == ["song", "film"]


def test_a_tagger_learns_and_tags(tmp_path: Path) -> None:
    config = labels_config(tmp_path, objective="tagging", steps=60, batch={"tokens": 100})
    _, receipt = gs.train(config)
    model = gs.load(tmp_path / "out" / "last")
    assert isinstance(model.architecture.head, TokenClassification)
    assert model.architecture.head.labels == ("B-PER", "I-PER", "O")
    assert receipt.evaluation is not None
    assert receipt.evaluation.keys() == {"loss", "accuracy", "f1"}
    assert (receipt.evaluation["accuracy"], receipt.evaluation["f1"]) == (1.0, 1.0)
    (entities,) = gs.task("tag", model)(f"song {' '.join(NAMES)} day", aggregation="first").entities
    assert [(one.label, one.text) for one in entities] == [("PER", " ".join(NAMES))]


@pytest.mark.parametrize(
    ("rows", "labels", "problem", "scores"),
    [
        (
            [{"text": "a", "label": 3}, {"text": "b", "label": 10}],
            ("3", "10"), "single_label_classification", "accuracy",
        ),
        (
            [{"text": "a", "label": ["x", "y"]}, {"text": "b", "label": []}],
            ("x", "y"), "multi_label_classification", "f1",
        ),
        ([{"text": "a", "label": 1}, {"text": "b", "label": 0.5}], ("LABEL_0",), "regression", "mean_absolute_error"),
        ([{"text": "a", "label": [1, 2.5]}] * 2, ("LABEL_0", "LABEL_1"), "regression", "mean_absolute_error"),
        (
            [{"text": "a", "text_pair": "b", "label": "x"}, {"text": "b", "label": "y"}],
            ("x", "y"), "single_label_classification", "accuracy",
        ),
    ],
)  # fmt: skip
def test_what_labels_are_is_told_by_the_data(
    tmp_path: Path, rows: list[dict[str, Any]], labels: tuple[str, ...], problem: str, scores: str
) -> None:
    data = str(write_rows(tmp_path / "rows.jsonl", rows * 2))
    config = labels_config(tmp_path, data=data, batch={"rows": 2}, steps=2, evaluation={"data": data})
    model, receipt = gs.train(config)
    head = model.architecture.head
    assert isinstance(head, SequenceClassification)
    assert (head.labels, head.problem_type) == (labels, problem)
    assert receipt.evaluation is not None
    assert scores in receipt.evaluation
    assert math.isfinite(receipt.evaluation["loss"] or math.nan)


@pytest.mark.parametrize("kind", ["classification", "tagging"])
@pytest.mark.parametrize("batch", [{"rows": 5}, {"tokens": 40}])
def test_held_out_numbers_are_those_of_every_row_alone(tmp_path: Path, kind: str, batch: dict[str, int]) -> None:
    """Neither padding nor batches show: loss and accuracy are those of rows read one by one, in float64."""
    config = labels_config(tmp_path, objective=kind, batch=batch, steps=3)
    batches = batches_of(config)
    model, receipt = gs.train(config)
    model = model.double()
    losses: list[torch.Tensor] = []
    right: list[bool] = []
    for one in batches.held_out:
        logits = model(torch.from_numpy(one.ids)[None]).logits[0].detach()
        labels = torch.from_numpy(one.labels)
        logits, labels = (
            (logits[labels != -100], labels[labels != -100]) if kind == "tagging" else (logits[None], labels[None])
        )
        losses += F.cross_entropy(logits, labels, reduction="none")
        right += (logits.argmax(-1) == labels).tolist()
    assert receipt.evaluation is not None
    assert receipt.evaluation["loss"] == pytest.approx(float(torch.stack(losses).mean()), rel=1e-5)
    assert receipt.evaluation["accuracy"] == pytest.approx(sum(right) / len(right))


@pytest.mark.parametrize("labels", [np.array(1), np.array([0.5], dtype=np.float32), np.array([-100, 2, -100])])
def test_a_row_that_fills_up_has_no_labels(labels: np.ndarray) -> None:
    """Two rows a batch for three processes: each has a row, and together they have the labels of one process."""
    ids = np.array([5, 6, 7])
    rows = [Example(name=str(i), ids=ids, types=ids * 0, labels=labels, cut=False) for i in range(4)]
    common: dict[str, Any] = {"examples": rows, "held_out": rows, "pad_id": 0, "batch": 2}
    alone = LabelledBatches(**common)
    shares = [LabelledBatches(**common, rank=rank, world=3) for rank in range(3)]
    of_tokens = labels.ndim == 1 and labels.dtype.kind == "i"
    model, objective = cast(Any, None), TaggingObjective() if of_tokens else ClassificationObjective()
    for whole, *parts in [
        (alone.at(0), *(one.at(0) for one in shares)),
        *zip(alone.evaluation(), *(one.evaluation() for one in shares), strict=True),
    ]:
        assert all(len(one["input_ids"]) == 1 for one in parts)
        counts = [objective.count_labels(model, one) for one in parts]
        assert sum(counts) == objective.count_labels(model, whole) == 2
        assert 0 in counts
        assert all(bool(learnt(objective.any_labels(one)).any()) for one in parts)


@pytest.mark.parametrize("how", [RunStopped, MemoryError])
@pytest.mark.parametrize(
    ("kind", "batch"),
    [("classification", {"rows": 8}), ("tagging", {"tokens": 60, "accumulation": 2})],
)
def test_a_run_goes_on_to_the_same_bits(
    tmp_path: Path, kind: str, batch: dict[str, int], how: type[BaseException]
) -> None:
    settings = {"objective": kind, "batch": batch, "steps": 10, "checkpoints": {"every": 4}}
    gs.train(labels_config(tmp_path, "unbroken", **settings))
    broken_off(labels_config(tmp_path, "broken", **settings), 6, how)
    train(labels_config(tmp_path, "broken", **settings), resume="must")
    assert_same_run(tmp_path / "unbroken", tmp_path / "broken", 10)


def test_other_rows_are_not_gone_on_with(tmp_path: Path) -> None:
    gs.train(labels_config(tmp_path))
    write_rows(tmp_path / "classification.jsonl", [*texts()[:-1], {"text": "song", "label": "film"}])
    with pytest.raises(InputError, match="the data are not those of the run"):
        gs.train(labels_config(tmp_path, steps=9))


def encoded(objective: LabelObjective, fields: dict[str, Any], path: Path, **more: Any) -> list[tuple[int, int]]:
    """A row's ids and labels as the model of a folder would read it."""
    tokenizer = gs.load(path).tokenizer if path.suffix != ".json" else None
    assert tokenizer is not None
    row = objective.read_row(Document(source="rows", number=1, parts=[], fields=fields), "text")
    labels = tuple(sorted(set(map(str, row.label.names()))))
    head = TokenClassification(labels=labels)
    (one,) = objective.encode([row], tokenizer, more.get("length", 64), head, control_tokens=True)
    return list(zip(one.ids.tolist(), one.labels.tolist(), strict=True))


def test_labels_of_words_stand_where_transformers_puts_them(minilm: Path) -> None:
    """`word_ids` of words that are given one by one; a label for each word's first token."""
    theirs = AutoTokenizer.from_pretrained(minilm)
    draw = random.Random(0)
    words = ["Gossamer", "unbelievable", "a", "tokenization", "Ærøskøbing", "x", "1,234.5", "co-operate", "(", "日本"]
    for _ in range(30):
        chosen = [draw.choice(words) for _ in range(draw.randint(1, 9))]
        tags = [draw.choice("abc") for _ in chosen]
        names = sorted(set(tags))
        given = theirs(chosen, is_split_into_words=True)
        ids = given.word_ids()
        wanted = [-100 if word is None or word == ids[i - 1] else names.index(tags[word]) for i, word in enumerate(ids)]
        found = encoded(TaggingObjective(), {"tokens": chosen, "tags": tags}, minilm)
        assert found == list(zip(given["input_ids"], wanted, strict=True))


def test_entities_become_labels_of_words(minilm: Path) -> None:
    text = "Gossamer met Ann-Marie Unwin in Lisbon, Lisbon."
    entities = [(13, 28, "PER"), (32, 38, "LOC"), (40, 46, "LOC")]
    fields = {"text": text, "entities": [{"start": a, "end": b, "label": label} for a, b, label in entities]}
    objective = TaggingObjective()
    names = ("B-LOC", "B-PER", "I-LOC", "I-PER", "O")
    row = objective.read_row(Document(source="rows", number=1, parts=[], fields=fields), "text")
    assert objective.new_head([row]).labels == names
    tokenizer = gs.load(minilm).tokenizer
    assert tokenizer is not None
    words: list[tuple[str, str]] = []
    for number, label in encoded(objective, fields, minilm):
        token = tokenizer.token(number)
        if label != -100:
            words.append((token, names[label]))
        elif token not in ("[CLS]", "[SEP]"):
            words[-1] = (words[-1][0] + token.removeprefix("##"), words[-1][1])
    assert words == [
        ("gossamer", "O"), ("met", "O"), ("ann", "B-PER"), ("-", "I-PER"), ("marie", "I-PER"), ("unwin", "I-PER"),
        ("in", "O"), ("lisbon", "B-LOC"), (",", "O"), ("lisbon", "B-LOC"), (".", "O"),
    ]  # fmt: skip


def test_long_texts_are_cut_and_that_is_said(tmp_path: Path) -> None:
    rows = [*texts(20), {"text": "book " * 40, "label": "book"}]
    data = str(write_rows(tmp_path / "rows.jsonl", rows))
    _, receipt = gs.train(labels_config(tmp_path, data=data, steps=2, evaluation={}, schedule="constant"))
    (note,) = receipt.notes
    assert note == "1 of 21 rows are longer than 32 tokens and were cut (batch.length)"


def test_a_head_that_is_there_is_trained_on(tmp_path: Path) -> None:
    gs.train(labels_config(tmp_path, "first", steps=20))
    again = {"model": str(tmp_path / "first" / "last"), "steps": 2, "optimizer": {"learning_rate": 1e-9}}
    _, receipt = gs.train(labels_config(tmp_path, "second", **again))
    before = json.loads((tmp_path / "first" / "receipt.json").read_text())["evaluation"]
    assert receipt.evaluation == pytest.approx(before, rel=1e-4)
    other = {**again, "objective": {"kind": "classification", "labels": ["film", "book", "song"]}}
    with pytest.raises(InputError, match=r"objective\.labels is \('film', .*\), but the model's head has \('book', "):
        gs.train(labels_config(tmp_path, "third", **other))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"text": "a"},
            r"rows:1: the field 'label' is missing \(it has: text\); it must be a name, a number, or a list",
        ),
        ({"text": "a", "label": True}, r"the field 'label' is True"),
        ({"text": "a", "label": ["x", 1]}, r"the field 'label' is \['x', 1\]"),
        ({"text": "", "label": "x"}, r"rows:1: the field 'text' is ''; it must be a text"),
        ({"text": "a", "text_pair": 3, "label": "x"}, r"the field 'text_pair' is 3"),
    ],
)
def test_rows_without_a_label_of_texts(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ClassificationObjective().read_row(Document(source="rows", number=1, parts=[], fields=fields), "text")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"text": "a"}, r"rows:1: the field 'tokens' is missing \(it has: text\); it must be a list of words"),
        ({"tokens": ["a", " "], "tags": ["x", "y"]}, r"the field 'tokens' is \['a', ' '\]"),
        (
            {"tokens": ["a", "b"], "tags": ["x"]},
            r"'tags' is \['x'\]; it must be a list of labels, one for each of the 2",
        ),
        ({"text": "a", "entities": [{"start": 0, "end": 2, "label": "x"}]}, r"within the 1 characters"),
        (
            {"text": "abc", "entities": [{"start": 0, "end": 2, "label": "x"}, {"start": 1, "end": 3, "label": "y"}]},
            r"the entities 0 to 2 and 1 to 3 overlap",
        ),
    ],
)
def test_rows_without_labels_of_words(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TaggingObjective().read_row(Document(source="rows", number=1, parts=[], fields=fields), "text")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective": {"kind": "classification", "labels": ["book"]}}, r"all rows have the label 'book'"),
        ({"objective": {"kind": "classification", "labels": ["a", "b"]}}, r"jsonl:1: the label 'film' is none of"),
        (
            {"objective": {"kind": "classification", "problem": "regression"}},
            r"its label is 'film'; it must be a number",
        ),
        ({"objective": {"kind": "classification", "masking": "token"}}, r"objective\.masking is no field"),
        ({"data": "speeches"}, r"speeches: has no labels; objective\.kind is 'classification', which learns from rows"),
        ({"batch": {"tokens": 4}}, r"batch\.tokens is 4, but the longest row has \d+ tokens; give at least"),
        ({"batch": {"rows": 100}}, r"the data have 48 rows to train on, but a step takes 100"),
        ({"batch": {"rows": 4, "tokens": 99}}, r"batch\.rows is 4; it must be left out where there are tokens"),
        ({"evaluation": {"held_out": 60}}, r"held_out is 60; it must be a share below 1, or fewer than the 60 rows"),
        ({"sample": "x"}, r"sample is .*it must be left out: only a causal-lm"),
    ],
)
def test_what_does_not_fit_is_one_line(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        gs.train(labels_config(tmp_path, **changes))


def test_a_mixture_of_labels_names_two_rows(tmp_path: Path) -> None:
    data = str(write_rows(tmp_path / "rows.jsonl", [{"text": "a", "label": "x"}, {"text": "b", "label": ["x"]}]))
    with pytest.raises(
        InputError, match=r"jsonl:1 has a label for single_label_classification, .*jsonl:2 one for multi"
    ):
        gs.train(labels_config(tmp_path, data=data))


def test_rows_of_a_table_train_too(tmp_path: Path) -> None:
    lines = [f"{one['text']},{one['label']}" for one in texts(20)]
    (tmp_path / "rows.csv").write_text("\n".join(["body,kind", *lines]))
    data = {"train": str(tmp_path / "rows.csv"), "field": "body"}
    save_encoder(tmp_path)
    objective = {"kind": "classification", "label_field": "kind"}
    model, _ = gs.train(labels_config(tmp_path, data=data, objective=objective, steps=2))
    assert isinstance(model.architecture.head, SequenceClassification)
    assert model.architecture.head.labels == ("book", "film", "song")
