"""benchmarks/million.py, deep.py and duplicate.py: what they conclude, and smoke runs to the end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import deep
import duplicate
import million
import pytest
import torch


def steps_of(*costs: float, peak: float = 8e9) -> list[dict[str, Any]]:
    lengths = (4096, 16_384, 65_536)
    return [
        {"length": length, "microseconds a token": cost, "peak": peak, "seconds": 60.0}
        for length, cost in zip(lengths, costs, strict=True)
    ]


def test_million_says_what_holds() -> None:
    run = {"steps": 20, "losses": [3.0] * 10 + [2.0] * 10, "killed at step": 7}
    assert million.verdicts({"steps": steps_of(900.0, 400.0, 480.0), "run": run}) == [
        "holds: a step of 65,536 tokens in 8.00 GB (goal: under 12) and 1.0 minutes",
        "holds: a token costs 400 to 480 us from 16,384 tokens on, 20% apart (goal: 25%)",
        "holds: the loss of 20 steps falls from 3.000 to 2.000",
        "holds: killed at step 7 and resumed to the end",
    ]
    worse = million.verdicts({"steps": steps_of(1.0, 400.0, 600.0, peak=13e9), "run": run | {"killed at step": None}})
    assert [one.split(":")[0] for one in worse] == ["falls short", "falls short", "holds", "falls short"]


def test_deep_says_what_holds() -> None:
    memory = [
        {"width": 64, "layers": layers, "way": "reversible", "extra": extra, "needed": needed}
        for layers, extra, needed in ((8, 100e6, 50e6), (128, 104e6, 54e6), (512, 109e6, 56e6))
    ]
    ends = {"computed again": 1.9, "reversible": 2.1, "plain": 2.0}
    train = [
        {"way": way, "layers": 8 if way == "plain" else 128, "held out": loss, "steps": 50}
        for way, loss in ends.items()
    ]
    told = deep.verdicts({"memory": memory, "drift": [], "train": train})
    assert told[0].startswith(
        "holds: width 64: beyond weights, gradients and optimizer a reversible step of 512 layers takes 109 MB"
    )
    assert told[1].startswith(
        "falls short: width 64: beyond weights, gradients and optimizer a reversible step of 512 layers needs"
    )
    assert [one.split(":")[0] for one in told[2:4]] == ["holds", "falls short"]
    assert told[4].startswith("reversible less computed again at equal steps: +0.200")


@pytest.mark.slow
def test_million_goes_to_the_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--budget", "smoke", "--out", str(tmp_path / "m.json"), "--plots", str(tmp_path), "--work", str(tmp_path)]
    assert million.main(given) == 0
    assert json.loads((tmp_path / "m.json").read_text())["complete"]
    assert (tmp_path / "million.svg").stat().st_size > 0
    assert "4 steps" in capsys.readouterr().out


def test_sequences_are_words_twice() -> None:
    plan = duplicate.PLANS["smoke"]
    found = duplicate.sequences(plan, 3, 5)
    assert found.shape == (3, plan.length)
    assert torch.equal(found[:, : plan.length // 2], found[:, plan.length // 2 :])
    assert (found[:, 0] == 0).all()
    assert (found[:, 1 : plan.word + 1] > 0).all()
    assert torch.equal(found, duplicate.sequences(plan, 3, 5))
    assert not torch.equal(found, duplicate.sequences(plan, 3, -5))
    assert duplicate.PLANS["cpu"].pattern("full").hashes.is_whole(128)


def test_duplicate_goes_to_the_end_and_takes_finished_models(tmp_path: Path) -> None:
    given = ["--budget", "smoke", "--out", str(tmp_path / "d.json"), "--plots", str(tmp_path), "--work", str(tmp_path)]
    assert duplicate.main(given) == 0
    first = json.loads((tmp_path / "d.json").read_text())
    assert [row["trained"] for row in first["rows"]] == ["full", "4", "2", "1"]
    assert (tmp_path / "duplicate.svg").stat().st_size > 0
    assert duplicate.main(given) == 0
    assert json.loads((tmp_path / "d.json").read_text())["rows"] == first["rows"]


@pytest.mark.slow
def test_deep_goes_to_the_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--budget", "smoke", "--out", str(tmp_path / "d.json"), "--plots", str(tmp_path), "--work", str(tmp_path)]
    assert deep.main(given) == 0
    results = json.loads((tmp_path / "d.json").read_text())
    assert results["runs"].keys() == set(deep.PARTS)
    assert {one["way"] for one in results["memory"]} == set(deep.WAYS)
    needed = {one["way"] for one in results["memory"] if one.get("needed", -1) >= 0}
    assert needed == {"reversible", "reversible, dropout"}
    assert all(one["states"] < 1e-5 and one["gradients"] < 1e-4 for one in results["drift"])
    assert [one["steps"] for one in results["train"]] == [2, 2, 2]
    assert (tmp_path / "deep.svg").stat().st_size > 0
    assert "reversible less computed again" in capsys.readouterr().out
