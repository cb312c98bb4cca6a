"""Each verb on a small model: what it prints, what it writes, what it says as JSON."""

import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import gossamer as gs
from gossamer.cli.command import VERBS, load_verb
from gossamer.cli.texts import _spread

Command = Callable[..., Any]


def test_help_lists_the_verbs_and_each_has_a_page(gossamer: Command) -> None:
    page = gossamer("--help")
    assert page.code == 0
    for name, text in VERBS.items():
        assert f"  {name} " in page.out
        assert text in page.out
    for name in set(VERBS) - {"demo", "help"}:
        done = gossamer(name, "-h")
        assert done.code == 0
        assert done.out.startswith(f"Usage: gossamer {name} ")
        assert "--json" in done.out
        assert load_verb(name).name == name


def test_nothing_at_all_is_a_call_for_help(gossamer: Command) -> None:
    for args in ([], ["summary"]):
        done = gossamer(*args)
        assert (done.code, done.err) == (2, "")
        assert done.out.startswith("Usage: gossamer")


def test_version(gossamer: Command) -> None:
    assert gossamer("--version").out == f"gossamer {gs.__version__}\n"


def test_summary(gossamer: Command, small: Path) -> None:
    page = gossamer("summary", small, "--lengths", "16,64")
    assert (page.code, page.err) == (0, "")
    for shown in ("layers 0–1", "2 alike", "embed: mean", "* reads 32 tokens at most; gossamer lengthen MODEL --to 64"):
        assert shown in page.out
    data = gossamer("summary", small, "--lengths", "16,64", "--json").json
    assert [one["length"] for one in data["costs"]] == [16, 64]
    assert data["parameters"] == sum(one.numel() for one in gs.load(small).parameters())


def test_lengthen(gossamer: Command, small: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "long"
    done = gossamer("lengthen", small, "--to", 128, "--window", 32, "--out", out)
    assert (done.code, done.err) == (0, "")
    assert str(out) in done.out
    assert "32 -> 128" in done.out
    assert gs.load(out).architecture.length == 128


def test_lengthen_says_what_it_replaces_and_leaves_the_models_of_others(
    gossamer: Command, small: Path, tmp_path: Path
) -> None:
    out, options = tmp_path / "long", ("--to", 128, "--window", 32, "--out", tmp_path / "long")
    gossamer("lengthen", small, *options)
    done = gossamer("lengthen", small, *options)
    assert (done.code, done.error) == (0, f"gossamer: {out}: the model that was there was replaced")
    (out / "gossamer.json").unlink()
    before = (out / "model.safetensors").read_bytes()
    done = gossamer("lengthen", small, *options)
    assert (done.code, done.error) == (
        2,
        f"gossamer: {out}: holds a model that Gossamer did not write; name another directory",
    )
    assert (out / "model.safetensors").read_bytes() == before


def test_what_the_library_remarks_is_a_note(gossamer: Command, small: Path, tmp_path: Path) -> None:
    shutil.copytree(small, tmp_path / "model")
    settings = {"model_type": "SentenceTransformer", "odd": 3}
    (tmp_path / "model" / "config_sentence_transformers.json").write_text(json.dumps(settings))
    done = gossamer("embed", tmp_path / "model", "a cat")
    said = "config_sentence_transformers.json: 'odd': not read by Gossamer; vectors are made without"
    assert (done.code, done.error) == (0, f"gossamer: {tmp_path / 'model'}/{said}")


def test_lengthen_as_json_with_a_window_for_each_layer(gossamer: Command, small: Path, tmp_path: Path) -> None:
    data = gossamer("lengthen", small, "--to", 64, "--window", "8,16", "--out", tmp_path / "long", "--json").json
    assert data["out"] == str(tmp_path / "long")
    assert data["receipt"]["settings"]["window"] == [8, 16]
    assert data["family"] == gs.load(tmp_path / "long").family == "longformer"
    patterns = [str(layer.attention.pattern) for layer in gs.load(tmp_path / "long").architecture.layers]
    assert patterns == ["window 4+4 | global", "window 8+8 | global"]


def test_embed_prints_a_table_with_likenesses(gossamer: Command, small: Path) -> None:
    done = gossamer("embed", small, "a cat", "a cat", "the state of the union")
    assert (done.code, done.err) == (0, "")
    assert "3 texts, 9 tokens → 3 vectors of 16" in done.out
    assert "the state of the union" in done.out
    assert done.out.count("1.00") >= 5


def test_embed_as_json_gives_the_vectors_of_the_task(gossamer: Command, small: Path) -> None:
    texts = ["a cat", "the state of the union"]
    data = gossamer("embed", small, *texts, "--json").json
    expected = gs.task("embed", gs.load(small))(texts)
    torch.testing.assert_close(torch.tensor([row["vector"] for row in data["rows"]]), expected.vectors)
    assert [row["span"] for row in data["rows"]] == [list(span) for span in expected.spans]
    assert data["texts"][1] == {"source": "argument 2", "tokens": 5, "passes": 1}
    assert data["size"] == 16


def test_embed_reads_files_lines_and_standard_input(
    gossamer: Command, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.txt").write_text("one text\nof two lines", encoding="utf-8-sig")
    (tmp_path / "b.jsonl").write_text('{"body": "first"}\n\n{"body": "second\u2028line"}\n', encoding="utf-8")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"from a pipe")))
    files = [tmp_path / "a.txt", tmp_path / "b.jsonl", "-"]
    data = gossamer("embed", small, "given", "--file", *files, "--field", "body", "--json").json
    sources = ["argument 1", str(files[0]), f"{files[1]}:1", f"{files[1]}:3", "stdin"]
    assert [one["source"] for one in data["texts"]] == sources
    texts = ["given", "one text\nof two lines", "first", "second\u2028line", "from a pipe"]
    expected = gs.task("embed", gs.load(small))(texts).vectors
    torch.testing.assert_close(torch.tensor([row["vector"] for row in data["rows"]]), expected)


def test_embed_with_spans_writes_files_whole(gossamer: Command, small: Path, tmp_path: Path) -> None:
    text = "many words in one row, " * 10
    expected = gs.task("embed", gs.load(small))([text], spans=8)
    done = gossamer("embed", small, text, "--spans", 8, "--out", tmp_path / "v.npy")
    assert done.code == 0
    assert "60       " in done.out
    assert f"written to {tmp_path / 'v.npy'}" in done.out
    np.testing.assert_allclose(np.load(tmp_path / "v.npy"), expected.vectors.numpy(), rtol=1e-5, atol=1e-6)
    data = gossamer("embed", small, text, "--spans", 8, "--out", tmp_path / "v.jsonl", "--json").json
    rows = [json.loads(line) for line in (tmp_path / "v.jsonl").read_text().splitlines()]
    assert [{**row, "vector": 0} for row in rows] == [{**row, "vector": 0} for row in data["rows"]]
    assert [row["span"] for row in rows] == [list(span) for span in expected.spans]
    assert len(rows[0]["vector"]) == 16
    assert "vector" not in data["rows"][0]
    assert sorted(one.name for one in tmp_path.iterdir()) == ["v.jsonl", "v.npy", "v.spans.jsonl"]


def test_embed_says_what_it_did_to_long_texts(gossamer: Command, small: Path) -> None:
    done = gossamer("embed", small, *["word " * 40] * 5, "--json")
    assert done.code == 0
    assert len(done.err.splitlines()) == 4
    assert done.err.startswith("gossamer: argument 1 is 42 tokens long, the model reads 32")
    assert "and 2 more texts like these" in done.err
    assert done.json["texts"][0]["passes"] > 1
    assert gossamer("embed", small, "word " * 40, "--long", "truncate", "--json").json["texts"][0]["passes"] == 1


def test_embed_in_another_dtype(gossamer: Command, small: Path) -> None:
    done = gossamer("embed", small, "a cat", "--dtype", "bfloat16", "--json")
    assert done.code == 0
    assert abs(sum(x * x for x in done.json["rows"][0]["vector"]) - 1) < 0.02


def test_env(gossamer: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    page = gossamer("env")
    data = gossamer("env", "--json").json
    assert (page.code, page.err) == (0, "")
    assert data["versions"]["torch"] == torch.__version__
    assert data["torch"]["threads"] == torch.get_num_threads()
    assert data["devices"][0]["device"] == "cpu"
    assert "blocked" in data["backends"]
    assert "secret" not in page.out + json.dumps(data)
    assert str(Path.home()) + "/" not in page.out


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("M --file a b c", "M --file a --file b --file c"),
        ("M x -f a b --spans 3", "M x -f a -f b --spans 3"),
        ("M --file a --file b - --out v.npy", "M --file a --file b --file - --out v.npy"),
        ("M x y --spans 3", "M x y --spans 3"),
        ("M --file a -- b c", "M --file a -- b c"),
        ("M --file", "M --file"),
    ],
)
def test_file_takes_all_names_that_follow(given: str, meant: str) -> None:
    assert _spread(given.split(), ("--file", "-f")) == meant.split()
