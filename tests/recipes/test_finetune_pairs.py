"""Fine-tuning a sentence encoder: two texts that belong together, or not, teach its vectors."""

from pathlib import Path
from typing import Any

import pytest
import torch
from finetune_rows import PAIRS, TEXTS, save_bare, write_rows

import gossamer as gs
from gossamer.errors import InputError
from gossamer.models import Model, SentenceEmbedding
from gossamer.models.heads import SequenceClassification
from gossamer.recipes import finetune
from gossamer.recipes.evaluate import evaluate

QUICK: dict[str, Any] = {"journal.live": False, "threads": 1, "steps": 2, "epochs": None, "schedule.warmup": 0}
RETRIEVAL = {"loss", "ndcg_at_10", "mrr_at_10", "recall_at_1", "recall_at_10"}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentence-transformers folder."""
    return save_bare(tmp_path_factory.mktemp("sentences"), "bert", SentenceEmbedding(normalized=True))


def tuned(model: Any, rows: Any, evaluate: Any = None, **given: Any) -> tuple[Model, Any]:
    settings = QUICK | given.pop("settings", {})
    return finetune(model, rows, evaluate, batch=4, **given, settings=settings)


def alike(value: Any, name: str) -> list[dict[str, Any]]:
    return [{"sentence1": row["query"], "sentence2": row["positive"], name: value(i)} for i, row in enumerate(PAIRS)]


CASES: dict[str, tuple[list[dict[str, Any]], str | None, set[str]]] = {
    "pairs": (PAIRS, None, RETRIEVAL),
    "triplets": ([{**row, "negative": "Ann"} for row in PAIRS], None, RETRIEVAL | {"triplet_accuracy"}),
    "scores": (alike(lambda i: i / 12, "score"), None, {"loss", "spearman"}),
    "labels": (alike(lambda i: i % 2, "label"), None, {"loss", "spearman"}),
    "cells": (alike(lambda i: str(i % 2), "label"), None, {"loss", "spearman"}),
    "answers": ([{"question": row["query"], "answer": row["positive"]} for row in PAIRS], None, RETRIEVAL),
}


@pytest.mark.parametrize("name", CASES)
def test_pairs_teach_the_vectors(encoder: Path, name: str) -> None:
    rows, _, scores = CASES[name]
    before = gs.load(encoder)
    model, receipt = tuned(encoder, rows, rows[:6])
    assert model.architecture.head == before.architecture.head
    assert receipt.settings["objective"]["kind"] == "sentence-pairs"
    assert receipt.evaluation.keys() == scores
    texts = [row.get("query", "film") for row in PAIRS]
    vectors = [gs.task("embed", one)(texts).vectors for one in (before, model)]
    assert not torch.allclose(torch.as_tensor(vectors[0]), torch.as_tensor(vectors[1]), atol=1e-5)
    told = evaluate(model, rows[:6], batch=4)
    assert {"loss": told.loss, **told.scores} == pytest.approx(receipt.evaluation, rel=1e-4)


def test_names_of_classes_are_for_a_classifier(encoder: Path) -> None:
    for label in (lambda i: f"class {i % 2}", lambda i: i % 3 + 5, lambda i: 0.5 + i):
        model, _ = tuned(encoder, alike(label, "label"))
        assert isinstance(model.architecture.head, SequenceClassification)
    model, _ = tuned(encoder, alike(lambda i: i % 2, "label"), head="sequence-classification")
    assert isinstance(model.architecture.head, SequenceClassification)
    model, _ = tuned(encoder, TEXTS)
    assert isinstance(model.architecture.head, SequenceClassification)


def test_columns_of_other_names(encoder: Path) -> None:
    def renamed(row: dict[str, Any], **more: Any) -> dict[str, Any]:
        return {"asked": row["query"], "said": row["positive"], **more}

    names = {"anchor": "asked", "positive": "said"}
    triplets = [renamed(row, wrong="Ann") for row in PAIRS]
    _, receipt = tuned(encoder, triplets, 4, columns={**names, "negative": "wrong"})
    assert "triplet_accuracy" in receipt.evaluation
    for ours, values in (("label", (0, 1)), ("score", (0.5, -0.5))):
        rows = [renamed(row, likeness=values[i % 2]) for i, row in enumerate(PAIRS)]
        _, receipt = tuned(encoder, rows, 6, columns={**names, ours: "likeness"})
        assert receipt.evaluation.keys() == {"loss", "spearman"}


@pytest.mark.parametrize("in_memory", [False, True])
def test_a_plain_encoder_takes_the_mean_of_its_states(tmp_path: Path, in_memory: bool) -> None:
    plain: Any = save_bare(tmp_path, "bert")
    model, _ = tuned(gs.load(plain) if in_memory else plain, PAIRS, 4, output=tmp_path / "out")
    assert model.architecture.head == SentenceEmbedding()
    again = gs.load(tmp_path / "out" / "last")
    assert again.architecture.head == SentenceEmbedding()
    labels = alike(lambda i: i % 2, "label")
    assert isinstance(tuned(plain, labels)[0].architecture.head, SequenceClassification)
    assert tuned(plain, labels, head="embed")[0].architecture.head == SentenceEmbedding()


def test_the_best_epoch_by_a_score_of_rankings(tmp_path: Path, encoder: Path) -> None:
    settings = {"steps": None, "epochs": 3, "optimizer.learning_rate": 0.5, "objective.dimensions": [16, 4]}
    model, receipt = tuned(encoder, PAIRS, PAIRS, output=tmp_path / "out", metric="mrr_at_10", settings=settings)
    assert receipt.best.keys() == {"step", "mrr_at_10"}
    assert evaluate(model, PAIRS, batch=4).scores["mrr_at_10"] == pytest.approx(receipt.best["mrr_at_10"])


@pytest.mark.parametrize(
    ("rows", "given", "message"),
    [
        ([*PAIRS, {"query": "a"}], {}, r"^rows\.jsonl:13: has no column 'positive'"),
        ([*PAIRS, {**PAIRS[0], "negative": "a"}], {}, r"^rows\.jsonl:13 has neither score nor label and 1 negative, "),
        (alike(lambda i: i, "score"), {}, r"^rows\.jsonl:3: score is 2; it must be a cosine, from -1 to 1"),
        (alike(lambda i: i, "label"), {}, r"^rows\.jsonl:3: label is 2; it must be 1 where both mean the same"),
        (PAIRS, {"settings": {"objective.criterion": "cosine"}}, r"^objective\.criterion is 'cosine', but rows\.jsonl"),
        (TEXTS, {"head": "embed"}, r"^rows\.jsonl:1: has .*; the head 'embed' is trained on 'anchor' and 'positive'"),
    ],
)
def test_bad_pairs_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoder: Path, rows: Any, given: dict[str, Any], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_rows(Path("rows.jsonl"), rows)
    with pytest.raises(InputError, match=message):
        tuned(encoder, "rows.jsonl", output="out", **given)
    assert not Path("out/journal.jsonl").exists()
