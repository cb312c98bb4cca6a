"""The benchmark of byte-level models: it runs, and says of each claim whether it holds."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bytes as bench
import bytes_parts
import pytest
from bytes_runs import PLANS, Bench, raw_tokenizer
from bytes_text import claims

from gossamer.patterns import Strided
from gossamer.text import TokenFile
from gossamer.training.data.token_batches import Batches
from gossamer.training.objectives import Objective


def test_parts_of_times_run_and_others_stay_in_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "bytes.json"
    given = ["--budget", "smoke", "--out", str(out), "--work", str(tmp_path / "work")]
    assert bench.main([*given, "--only", "steps"]) == 0
    assert "a step at 512 tokens: strided" in capsys.readouterr().out
    assert bench.main([*given, "--only", "layers", "--plots", str(tmp_path)]) == 0
    written = json.loads(out.read_text())
    assert {one["pattern"] for one in written["steps"]} == {"dense", "fixed", "strided"}
    assert len(written["layers"]) == 2 * 5
    assert all(one["median"] > 0 for one in [*written["steps"], *written["layers"]])
    assert {part: run["budget"] for part, run in written["runs"].items()} == {"steps": "smoke", "layers": "smoke"}
    assert (tmp_path / "bytes-layers.svg").stat().st_size > 0
    assert "a model of one layer: hashed, 4 takes less time than dense" in capsys.readouterr().out


def test_a_part_that_is_broken_off_leaves_what_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "bytes.json"
    given = ["--budget", "smoke", "--out", str(out), "--work", str(tmp_path / "work"), "--only"]
    monkeypatch.setitem(bench.PARTS, "hashed", lambda made: iter(result("some", dense=2.0, hashed=1.0)))
    assert bench.main([*given, "hashed"]) == 0

    def broken(made: Bench) -> Iterator[dict[str, Any]]:
        yield result("some", dense=9.0)[0]
        raise KeyboardInterrupt

    monkeypatch.setitem(bench.PARTS, "hashed", broken)
    with pytest.raises(KeyboardInterrupt):
        bench.main([*given, "hashed"])
    written = json.loads(out.read_text())
    assert [one["bits_per_byte"] for one in written["hashed"]] == [2.0, 1.0]
    assert [one["bits_per_byte"] for one in written["unfinished"]["hashed"]] == [9.0]
    with pytest.raises(SystemExit, match="holds results of --budget smoke, not cpu"):
        bench.main(["--budget", "cpu", "--out", str(out), "--only", "layers"])
    out.write_text('{"benchmark": "bytes", "run": {}}')
    with pytest.raises(SystemExit, match="or an older version's; name another file"):
        bench.main([*given, "layers"])


def test_all_models_have_equal_parameters_and_other_patterns() -> None:
    made = Bench(PLANS["smoke"], Path(), seed=0)
    patterns = bytes_parts.text_patterns(made)
    models = {name: made.model(one, made.plan.length) for name, one in patterns.items()}
    assert len({sum(one.numel() for one in model.parameters()) for model in models.values()}) == 1
    assert len({str(model.architecture.layers[0].attention.pattern) for model in models.values()}) == len(models) == 5


def test_training_and_evaluation_of_one_model(tmp_path: Path) -> None:
    made = Bench(PLANS["smoke"], tmp_path, seed=0)
    texts = ["the quick brown fox jumps over the lazy dog " * 20, "a second text, shorter" * 9]
    files = made.write("some", {"train": texts, "held out": texts[1:]})
    record = made.trained(files, Strided(16), length=64, rows=2, seconds=0.3)
    assert 0 < record["bits_per_byte"] < 9
    assert record["steps"] >= 2
    assert record["tokens"] == record["steps"] * 2 * 64


def test_dilations_double_from_layer_to_layer(tmp_path: Path) -> None:
    made = Bench(PLANS["smoke"], tmp_path, seed=0)
    assert {one["pattern"]: one["means"] for one in bytes_parts.dilations(made)} == {
        "window": "window 15+0", "doubling": "window 15+0; window 15+0, every 2nd"
    }  # fmt: skip


def test_an_image_is_a_row_whose_bytes_lie_where_its_axes_say(tmp_path: Path) -> None:
    every = bytes(range(256))
    made = Bench(PLANS["smoke"], tmp_path, seed=0)
    files = made.write_images("all", [every, every[::-1]], [every])
    file, tokenizer = TokenFile.open(files["train"]), raw_tokenizer()
    assert [list(file.document(i)) for i in range(2)] == [list(every), list(every[::-1])]
    objective = Objective(kind="causal-lm")
    batches = Batches(file=file, tokenizer=tokenizer, objective=objective, length=256, batch=1, pack=False)
    assert batches.rows_per_epoch == 2
    rows = {tuple(batches.at(step)["input_ids"][0].tolist()) for step in range(2)}
    assert rows == {tuple(every), tuple(every[::-1])}
    record = made.trained(files, Strided(16), length=256, seconds=0.1, axes=(16, 16))
    assert 7 < record["bits_per_byte"] < 10


def result(corpus: str, **bits: float) -> list[dict[str, Any]]:
    usual = {"corpus": corpus, "gzip": 2.6, "means": "", "steps": 1, "tokens": 1, "seconds": 1.0, "parameters": 1}
    return [usual | {"pattern": name, "bits_per_byte": one} for name, one in bits.items()]


def test_claims_follow_the_numbers() -> None:
    results = {
        "corpora": result("speeches", dense=2.2, fixed=2.1, strided=2.7),
        "digits": result("digits", dense=2.0, strided=1.9, fixed=1.8),
        "steps": [{"pattern": name, "median": time, "n": 9} for name, time in
                  {"dense": 1.0, "fixed": 0.5, "strided": 0.1}.items()],
    }  # fmt: skip
    assert [holds for _, holds in claims(results)] == [False, True, True, True, False, False, True]
    assert not list(claims({"runs": {}}))


def test_claims_of_hashing_and_of_dilations() -> None:
    layers = [
        {"n": n, "pattern": name, "median": time, "lower_quartile": time, "upper_quartile": time}
        for n, times in ((64, (1, 2, 3)), (128, (4, 3, 2)), (256, (9, 4, 5)))
        for name, time in zip(("dense", "window", "hashed, 1"), times, strict=True)
    ]
    results = {
        "hashed": [
            *result("short", dense=2.0, window=2.1, strided=1.8, hashed=1.9), *result("long", dense=1.0, hashed=2.0)
        ],
        "dilations": result("windows", window=2.0, doubling=2.1), "layers": layers,
    }  # fmt: skip
    told = dict(claims(results))
    # Of a corpus that is not whole those patterns that are there.
    assert [holds for _, holds in claims(results)] == [True, True, False, False, False, True, False]
    assert told["a model of one layer: hashed, 1 takes less time than dense from 128 tokens"]
    assert not told["a model of one layer: hashed, 1 takes less time than window"]
    results["layers"] = [one | {"upper_quartile": 9} for one in layers]
    assert not dict(claims(results))["a model of one layer: hashed, 1 takes less time than dense"]


def test_parts_that_were_broken_off_tell_what_they_can() -> None:
    assert not list(claims({"hashed": result("some", dense=2.0), "corpora": result("some", dense=1.0)[:0]}))
    assert len(list(claims({"corpora": result("speeches", dense=1.0)}))) == 1
