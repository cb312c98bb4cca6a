"""The benchmark of byte-level models: it runs, and says of each claim whether it holds."""

import json
from pathlib import Path
from typing import Any

import bytes as bench
import pytest
from bytes_text import claims


def test_the_steps_part_runs_and_writes_conditions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "bytes.json"
    assert bench.main(["--budget", "smoke", "--only", "steps", "--out", str(out)]) == 0
    written = json.loads(out.read_text())
    assert {one["pattern"] for one in written["steps"]} == {"dense", "fixed", "strided"}
    assert all(one["median"] > 0 for one in written["steps"])
    assert written["run"]["budget"] == "smoke"
    assert "a step at 512 tokens: strided" in capsys.readouterr().out


def test_all_models_have_equal_parameters_and_other_patterns() -> None:
    plan = bench.PLANS["smoke"]
    made = bench.Bench(plan, Path(), seed=0)
    models = {name: made._model(one, plan.length, plan.heads) for name, one in plan.patterns().items()}
    assert len({sum(one.numel() for one in model.parameters()) for model in models.values()}) == 1
    assert len({str(model.architecture.layers[0].attention.pattern) for model in models.values()}) == len(models) == 5


def test_training_and_evaluation_of_one_model(tmp_path: Path) -> None:
    made = bench.Bench(bench.PLANS["smoke"], tmp_path, seed=0)
    texts = ["the quick brown fox jumps over the lazy dog " * 20, "a second text, shorter" * 9]
    files = made._write("some", {"train": texts, "held out": texts[1:]})
    record = made._trained(files, bench.Strided(16), 64, 2, 0.3, 2)
    assert 0 < record["bits_per_byte"] < 9
    assert record["steps"] >= 2
    assert record["tokens"] == record["steps"] * 2 * 64


def result(corpus: str, **bits: float) -> list[dict[str, Any]]:
    return [{"corpus": corpus, "pattern": name, "bits_per_byte": one, "gzip": 2.6} for name, one in bits.items()]


def test_claims_follow_the_numbers() -> None:
    results = {
        "corpora": result("speeches", dense=2.2, fixed=2.1, strided=2.7),
        "digits": result("digits", dense=2.0, strided=1.9, fixed=1.8),
        "steps": [{"pattern": name, "median": time, "n": 9} for name, time in
                  {"dense": 1.0, "fixed": 0.5, "strided": 0.1}.items()],
    }  # fmt: skip
    assert [holds for _, holds in claims(results)] == [False, True, True, True, False, False, True]
    assert not list(claims({"run": {}}))
