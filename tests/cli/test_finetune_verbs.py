"""gossamer finetune, evaluate and predict: rows in, a model, its scores, and the same rows with labels out."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from finetune_rows import QUESTIONS, SENTENCES, TEXTS, write_rows

import gossamer as gs
from gossamer.families import get_family
from gossamer.models import Model
from gossamer.recipes.evaluate import evaluate
from gossamer.text import byte_tokenizer, train_tokenizer

Command = Callable[..., Any]
ROWS = {"classes": TEXTS, "tags": SENTENCES, "answers": QUESTIONS}
UNTOLD = "not defined on the held-out rows: matthews"
QUICK = ["--set", "steps=2", "--set", "epochs=", "--set", "schedule.warmup=0", "--set", "journal.live=false"]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokenizer = train_tokenizer(["film song Ann sings here"], family="bert", vocabulary_size=60, max_length=32)
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 16}
    config = {**sizes, "max_position_embeddings": 32, "vocab_size": tokenizer.vocabulary_size}
    torch.manual_seed(0)
    model = Model(get_family("bert").read(config), family="bert")
    model.tokenizer = tokenizer
    gs.save(model, tmp_path_factory.mktemp("verbs") / "encoder")
    return tmp_path_factory.getbasetemp() / "verbs0" / "encoder"


def tuned(gossamer: Command, folder: Path, encoder: Path, kind: str) -> Path:
    """A model, its scores at the end, and the file that it was tuned and evaluated on."""
    file = write_rows(folder / f"{kind}.jsonl", [{**row, "id": i} for i, row in enumerate(ROWS[kind])])
    rows = ["--train", file, "--evaluate", file, "--batch", 4]
    done = gossamer("finetune", encoder, *rows, "--out", folder / "out", *QUICK, "--json")
    # So short a run tells no class from the other, of which Matthews' coefficient says nothing.
    assert (done.code, done.err) == (0, {"classes": f"gossamer: {UNTOLD}\n"}.get(kind, ""))
    (folder / "scores.json").write_text(json.dumps(done.json["receipt"]["evaluation"]))
    return file


@pytest.mark.parametrize("kind", ROWS)
def test_a_model_is_tuned_scored_and_predicts(gossamer: Command, tmp_path: Path, encoder: Path, kind: str) -> None:
    file = tuned(gossamer, tmp_path, encoder, kind)
    before = json.loads((tmp_path / "scores.json").read_text())
    scored = gossamer("evaluate", tmp_path / "out" / "last", file, "--json").json
    assert scored["rows"] == 12
    told = {"loss": scored["loss"], **scored["scores"]}
    assert [name for name, value in told.items() if value is None] == (["matthews"] if kind == "classes" else [])
    before, told = ({name: one for name, one in each.items() if one is not None} for each in (before, told))
    assert told == pytest.approx(before, rel=1e-4)
    out = tmp_path / "predicted.jsonl"
    done = gossamer("predict", tmp_path / "out" / "last", file, "--out", out)
    assert (done.code, done.out.strip()) == (0, f"12 rows written to {out}")
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["id"] for row in rows] == list(range(12))
    if kind == "classes":
        right = [row["prediction"] == row["label"] for row in rows]
        assert sum(right) / 12 == pytest.approx(scored["scores"]["accuracy"])
        assert all(row["scores"].keys() == {"film", "song"} for row in rows)
        assert all(sum(row["scores"].values()) == pytest.approx(1) for row in rows)
    elif kind == "tags":
        pairs = [both for row in rows for both in zip(row["prediction"], row["tags"], strict=True)]
        assert sum(one == other for one, other in pairs) / len(pairs) == pytest.approx(scored["scores"]["accuracy"])
        assert all(len(row["scores"]) == len(row["tokens"]) for row in rows)
    else:
        assert all(row["prediction"] == row["context"][row["start"] : row["end"]] for row in rows)
        assert all(0 <= row["score"] <= 1 for row in rows)


def test_pages_and_refusals(gossamer: Command, tmp_path: Path, encoder: Path) -> None:
    file = write_rows(tmp_path / "rows.jsonl", TEXTS)
    done = gossamer("finetune", encoder, "--train", file, "--out", tmp_path / "out", "--batch", 4, *QUICK)
    assert "2 steps" in done.out
    one = write_rows(tmp_path / "one.jsonl", [row for row in TEXTS if row["label"] == "film"])
    page = gossamer("evaluate", tmp_path / "out" / "last", one).out
    assert page.startswith("6 rows\nloss  ")
    assert "not defined on these rows: f1 macro, matthews" in page
    long = write_rows(tmp_path / "long.jsonl", [*TEXTS, {"text": "film " * 40, "label": "film"}])
    assert gossamer("evaluate", tmp_path / "out" / "last", long).error == (
        "gossamer: 1 of 13 rows are longer than the model reads and were cut, as in training; gossamer predict reads "
        "them whole, in passes"
    )
    other = write_rows(tmp_path / "other.jsonl", [*TEXTS, {"text": "a", "label": "soup"}])
    assert (
        f"{other}:13: the label 'soup' is none of the model's"
        in gossamer("evaluate", tmp_path / "out" / "last", other).error
    )
    bare = gossamer("predict", encoder, file, "--out", tmp_path / "p.jsonl").error
    assert "the model's head is None, which predicts nothing of rows" in bare
    assert "is one of the texts to be read" in gossamer("predict", encoder, file, "--out", file).error
    renamed = gossamer("finetune", encoder, "--train", file, "--out", tmp_path / "x", "--column", "label=stars").error
    assert f"{file}:1: has no column 'stars' (it has: text, label)" in renamed
    assert (
        "'label' is not of the form OURS=YOURS"
        in gossamer("finetune", encoder, "--train", file, "--out", tmp_path / "x", "--column", "label").error
    )


def test_texts_that_a_model_writes_are_scored(gossamer: Command, tmp_path: Path) -> None:
    sizes = {"d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2, "vocab_size": 257}
    torch.manual_seed(0)
    described = get_family("t5").read({**sizes, "eos_token_id": 256}, head="seq2seq-lm")
    folder = gs.save(Model(described, family="t5", tokenizer=byte_tokenizer()), tmp_path / "writer")
    rows = [{"article": "one two three", "summary": "one"}, {"article": "four", "summary": "four"}]
    file = write_rows(tmp_path / "rows.jsonl", rows)
    options = ("--column", "text=article", "--metric", "chrf", "--metric", "rouge")
    done = gossamer("evaluate", folder, file, *options, "--json")
    found = evaluate(gs.load(folder), rows, columns={"text": "article"}, metrics=["chrf", "rouge"])
    assert done.json["scores"] == found.scores
    assert {"perplexity", "chrf", "rouge1", "rouge2", "rougeL"} == set(found.scores)
    assert "\nrougeL  " in gossamer("evaluate", folder, file, *options).out
    refused = gossamer("evaluate", folder, file, *options[:2], "--metric", "f1")
    assert "metrics is ['f1']; it must be a list of some of 'rouge', 'bleu', 'chrf'" in refused.err
