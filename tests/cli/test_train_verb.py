"""gossamer train: what it prints and writes, its exit codes, and how it goes on."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import gossamer as gs
from gossamer.training import run as run_module

Command = Callable[..., Any]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "text.txt").write_text("\n".join(f"line {i} of a text about nothing at all" for i in range(60)))
    fields = {
        "model": {"decoder": {"layers": 1, "hidden_size": 16, "heads": 2, "length": 32}},
        "data": {"train": str(tmp_path / "text.txt"), "split": "lines"},
        "batch": {"rows": 4},
        "steps": 4,
        "checkpoints": {"every": 2},
        "journal": {"live": False},
        "output": str(tmp_path / "out"),
    }
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(fields))
    return tmp_path / "c.yaml"


def test_it_trains_and_tells(gossamer: Command, config: Path, tmp_path: Path) -> None:
    done = gossamer("train", config, "--set", "sample.prompt=line", "--set", "sample.tokens=4")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("line")
    for told in ("train of fresh weights", "4 steps, 512 tokens", f"saved in {tmp_path / 'out'}"):
        assert told in done.out
    assert gs.load(tmp_path / "out" / "last").architecture.length == 32


def test_it_tells_as_json(gossamer: Command, config: Path, tmp_path: Path) -> None:
    done = gossamer("train", config, "--out", tmp_path / "new", "--set", "optimizer.learning_rate=3e-4", "--json")
    assert (done.code, done.err) == (0, "")
    assert done.json["out"] == str(tmp_path / "new")
    assert done.json["receipt"] == json.loads((tmp_path / "new" / "receipt.json").read_text())
    assert done.json["receipt"]["settings"]["optimizer"]["learning_rate"] == 3e-4
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--set", "stepps=4"], "stepps is no field; did you mean 'steps'?"),
        (["--set", "batch.rows=x"], "batch.rows is 'x'; it must be a whole number"),
        (["--set", "steps"], "'steps' is not of the form FIELD=VALUE"),
        (["--set", "data.train=none.txt"], "data.train is 'none.txt': no such file"),
        (["--out", "{config}"], "is a file; name a directory"),
        (["--resume", "must"], "holds no whole checkpoint to go on from"),
        (["--resume", "maybe"], "'maybe'"),
    ],
)
def test_what_is_wrong_is_one_line_and_code_2(
    gossamer: Command, config: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    done = gossamer("train", config, *[one.format(config=config) for one in options])
    assert done.code == 2
    assert message in done.error
    assert not (tmp_path / "out" / "journal.jsonl").exists()


def test_a_file_that_is_not_there(gossamer: Command, tmp_path: Path) -> None:
    done = gossamer("train", tmp_path / "none.yaml", "--json")
    assert done.code == 2
    assert "none.yaml: no such file" in done.json["error"]["message"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_the_same_command_goes_on(
    gossamer: Command, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: int
) -> None:
    update = run_module.Run.update

    def receive(run: run_module.Run) -> None:
        if run.step == 2:
            signal.raise_signal(number)
        update(run)

    monkeypatch.setattr(run_module.Run, "update", receive)
    done = gossamer("train", config, "--json")
    assert done.code == code
    line = f"stopped after step 3 of 4 and saved in {tmp_path / 'out'}; run the same command to go on"
    assert line in done.error
    assert done.json == {"out": str(tmp_path / "out"), "stopped": line, "signal": number}
    monkeypatch.undo()
    done = gossamer("train", config, "--resume", "must", "--json")
    assert (done.code, done.json["receipt"]["steps"]) == (0, 4)


def test_other_processes_than_the_first_print_nothing(
    gossamer: Command, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    done = gossamer("train", config)
    assert (done.code, done.out, done.err) == (0, "", "")
