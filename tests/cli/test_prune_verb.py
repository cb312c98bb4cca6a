"""gossamer prune: what it writes and tells, and what it refuses in a line."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import gossamer as gs
from gossamer.recipes.receipts.comparison import compare

Command = Callable[..., Any]


def test_it_prunes_at_once(gossamer: Command, small: Path, tmp_path: Path) -> None:
    call = ("prune", small, "--score", "magnitude", "--structure", "heads,neurons", "--keep", 0.5)
    done = gossamer(*call, "--out", tmp_path / "pruned")
    assert (done.code, done.err) == (0, "")
    assert "nonzero weights of layers" in done.out
    assert f"saved in {tmp_path / 'pruned'}" in done.out
    model = gs.load(tmp_path / "pruned")
    assert all(2 * int(part.down.weight.any(0).sum()) == part.down.in_features for part in model.feed_forward)
    again = gossamer(*call, "--out", tmp_path / "again", "--scope", "global", "--json")
    assert again.code == 0
    assert again.json["family"] == model.family
    settings = {"score": "magnitude", "structure": "heads+neurons", "keep": 0.5, "scope": "global"}
    assert again.json["receipt"]["settings"] == settings


def test_it_learns_while_it_is_pruned(gossamer: Command, small: Path, tmp_path: Path) -> None:
    rows = [{"text": f"{thing} {i}", "label": thing} for i in range(8) for thing in ("film", "song")]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    quick = ("--set", "steps=3", "--set", "journal.live=false", "--batch", 4, "--learning-rate", 0.01)
    call = ("prune", small, "--train", tmp_path / "rows.jsonl", "--structure", "neurons", "--keep", 0.5, *quick)
    done = gossamer(*call, "--out", tmp_path / "out")
    assert done.code == 0
    assert "pruned over 3 and refined over 2 steps" in done.out
    assert f"saved in {tmp_path / 'out' / 'last'}" in done.out
    model = gs.load(tmp_path / "out" / "last")
    assert all(2 * int(part.down.weight.any(0).sum()) == part.down.in_features for part in model.feed_forward)
    again = gossamer(*call, "--out", tmp_path / "out", "--resume", "must", "--json")
    assert (again.code, again.json["receipt"]["settings"]["score"]) == (0, "movement")
    assert gossamer(*call, "--out", tmp_path / "out", "--resume", "never").code == 2
    read = ("--train", tmp_path / "rows.jsonl", "--score", "gradient", "--keep", 0.5, "--samples", 8, "--head")
    other = gossamer("prune", tmp_path / "out" / "last", *read, "sequence-classification", "--out", tmp_path / "read")
    assert (other.code, other.err) == (0, "")
    assert f"saved in {tmp_path / 'read'}" in other.out
    assert gs.load(tmp_path / "read").architecture == model.architecture


def test_it_removes_what_is_named(gossamer: Command, small: Path, tmp_path: Path) -> None:
    call = ("prune", small, "--heads", "0:1", "--neurons", "0:0-2,5", "--neurons", "1:3")
    done = gossamer(*call, "--out", tmp_path / "named")
    assert (done.code, done.err) == (0, "")
    old, model = gs.load(small), gs.load(tmp_path / "named")
    wanted, _ = gs.prune(old, heads={0: [1]}, neurons={0: [0, 1, 2, 5], 1: [3]})
    assert model.architecture == wanted.architecture
    for name, one in wanted.state_dict().items():
        assert model.state_dict()[name].equal(one), name
    shorter = gossamer("prune", small, "--layers", "1-1", "--out", tmp_path / "shorter", "--json")
    assert shorter.json["receipt"]["settings"] == {"layers": [1]}
    assert len(gs.load(tmp_path / "shorter").architecture.layers) == len(old.architecture.layers) - 1


def test_it_measures_both_models(
    gossamer: Command, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = partial(compare, latency=False, memory=False, tokens=[16])
    monkeypatch.setattr("gossamer.recipes.receipts.receipt.compare", counted)
    done = gossamer("prune", small, "--layers", "1", "--measure", "--out", tmp_path / "shorter", "--json")
    assert done.code == 0
    assert done.json["receipt"]["comparison"]["models"] == ["before", "after"]


def test_it_prunes_to_a_share_of_the_time(gossamer: Command, small: Path, tmp_path: Path) -> None:
    """The goal is one that noise cannot miss: everything is allowed."""
    call = ("prune", small, "--score", "random", "--structure", "layers", "--scope", "global", "--latency", 1)
    done = gossamer(*call, "--out", tmp_path / "pruned", "--json")
    assert done.code == 0
    assert "measuring how long each part of the model takes" in done.err
    assert done.json["receipt"]["settings"]["latency"] == 1.0
    assert done.json["receipt"]["measured"]["latency_by_the_table"] == 1.0
    assert done.json["receipt"]["measured"]["latency_when_compacted"] > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--heads", "0"], "'0' is not of the form LAYER:NUMBERS, such as 0:1,2 or 1:5-9"),
        (["--heads", "0:"], "'0:' is not of the form LAYER:NUMBERS"),
        (["--heads", "0:1", "--heads", "x:1"], "'x:1' is not of the form LAYER:NUMBERS"),
        (["--neurons", "0:9-5"], "'0:9-5' is not of the form LAYER:NUMBERS"),
        (["--neurons", "0:1,,2"], "'0:1,,2' is not of the form LAYER:NUMBERS"),
        (["--layers", "first"], "'first' is not of the form NUMBERS, such as 4,5 or 0-2"),
        (["--layers", "-1"], "'-1' is not of the form NUMBERS, such as 4,5 or 0-2"),
        (["--heads", "0:77"], "heads[0] has 77"),
        (["--heads", "0:1", "--heads", "0:1"], "heads[0] has 1 twice; name it once"),
        (["--heads", "0:1", "--keep", "0.5"], "keep is 0.5; it must be left out: heads, neurons or layers are named"),
        (["--latency", "0.5", "--score", "random"], "structure is 'weight'; single weights and blocks bring no time"),
        (["--latency", "0.5", "--keep", "0.5"], "keep is 0.5; it must be left out where there is a latency"),
        (["--score", "movement"], "score is 'movement', which rows or texts tell; give some"),
        (["--keep", "0"], "keep is 0.0; it must be a share of what is there"),
        (["--score", "size"], "score is 'size'; it must be one of 'gradient', 'l0'"),
        (["--structure", "rows"], "structure is ['rows']; it must be one or several of weight"),
        (["--block", "big"], "'big' is not rows and columns such as 32,32"),
        (["--block", "3,0"], "block is (3, 0); it must be rows and columns"),
        (["--scope", "model"], "'model' is not one of 'row', 'layer', 'global'"),
    ],
)
def test_bad_input_is_one_line(
    gossamer: Command, small: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    done = gossamer("prune", small, "--out", tmp_path / "out", *options)
    assert done.code == 2
    assert message in done.error
    assert not (tmp_path / "out").exists()


def test_it_does_not_write_over_what_it_reads(gossamer: Command, small: Path) -> None:
    done = gossamer("prune", small, "--out", small, "--score", "random")
    assert (done.code, "is the model to be pruned; name another directory" in done.error) == (2, True)
