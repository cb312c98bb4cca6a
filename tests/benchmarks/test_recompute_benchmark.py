"""benchmarks/recompute.py: all ways give the same gradients, wrong ones are refused, and it runs to the end."""

import json
from pathlib import Path

import pytest
import recompute
import torch
from gate import ParityError
from recompute import Benchmark, Case, estimated_peak
from recompute_models import PLANS, WAYS, Training, pattern_of


@pytest.fixture
def trainings():
    return {way: Training(PLANS["smoke"], "strided", 64, way, seed=0) for way in WAYS}


def test_all_ways_give_the_same_bits(trainings):
    found = Benchmark(PLANS["smoke"], seed=0)._gate(Case(pattern="strided", n=64), trainings)
    assert [(one["name"], one["error"]) for one in found] == [(way, 0.0) for way in WAYS]


def test_other_gradients_are_refused(trainings):
    with torch.no_grad():
        next(trainings["both"].model.parameters())[0, 0] += 1e-3
    with pytest.raises(ParityError, match="strided, n = 64, both: relative error"):
        Benchmark(PLANS["smoke"], seed=0)._gate(Case(pattern="strided", n=64), trainings)


def test_ways_recompute_what_they_say():
    for way in WAYS:
        layers = Training(PLANS["smoke"], "window", 64, way, seed=0).model.architecture.layers
        assert {layer.recompute for layer in layers} == {way}


def test_patterns_grow_as_in_the_paper():
    assert [pattern_of("strided", n).stride for n in (64, 1024, 4096, 12288)] == [8, 32, 64, 128]
    assert all(pattern_of(name, 1024).causal for name in ("dense", "window", "strided"))


def test_the_estimate_is_within_6_percent_of_every_recorded_peak():
    recorded = json.loads((Path(recompute.__file__).parent / "results" / "recompute.json").read_text())["memory"]
    assert len(recorded) == 36
    for one in recorded:
        told = estimated_peak(PLANS["cpu"], Case(pattern=one["pattern"], n=one["n"]), one["name"])
        assert told == pytest.approx(one["extra"], rel=0.06), one


@pytest.mark.slow
def test_recompute_smoke_run_goes_to_the_end(tmp_path, capsys):
    out = tmp_path / "results.json"
    given = ["--budget", "smoke", "--out", str(out), "--plots", str(tmp_path), "--only", "window"]
    assert recompute.main(given) == 0
    results = json.loads(out.read_text())
    assert results["complete"]
    assert {(m["n"], m["name"]) for m in results["memory"]} == {(n, way) for n in (64, 256) for way in WAYS}
    assert all(m["extra"] > 0 and m["estimate"] > 0 for m in results["memory"])
    assert (tmp_path / "recompute.svg").stat().st_size > 0
    assert "window, n = 256: both" in capsys.readouterr().out
