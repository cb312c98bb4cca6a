"""gossamer train: what it prints and writes, its exit codes, and how it goes on."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import gossamer as gs
from gossamer.models import Architecture, Model
from gossamer.text import train_tokenizer
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


def small_encoder() -> Architecture:
    """One layer, 16 wide, that reads 256 tokens."""
    part = {"weights": 0, "residual_dropout": 0.0}
    full = {"pattern": "full", "causal": False}
    layer = {"attention": {**part, "pattern": full, "heads": 2, "head_size": 8}, "feed_forward": {**part, "width": 32}}
    embeddings = {"vocabulary_size": 60, "size": 16, "positions": {"length": 256}}
    return Architecture.from_dict({"hidden_size": 16, "embeddings": embeddings, "layers": [layer]})


@pytest.mark.parametrize(
    ("example", "rows"),
    [
        ("classify", [{"text": f"{word} {i}", "label": word} for i in range(6) for word in ("ham", "spam")]),
        (
            "tag",
            [
                *({"tokens": ["Anna", "sings", str(i)], "tags": ["B-PER", "O", "O"]} for i in range(6)),
                *({"text": f"{i} Anna", "entities": [{"start": 2, "end": 6, "label": "PER"}]} for i in range(6)),
            ],
        ),
    ],
)
def test_the_examples_with_labels_train(
    gossamer: Command, tmp_path: Path, example: str, rows: list[dict[str, Any]]
) -> None:
    """As they are written, but for a model of two layers, two steps and rows of one's own."""
    model = Model(small_encoder())
    words = ["ham spam Anna sings 0 1 2 3 4 5"]
    model.tokenizer = train_tokenizer(words, family="bert", vocabulary_size=60, max_length=256)
    gs.save(model, tmp_path / "model")
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    changes = {
        "model.checkpoint": tmp_path / "model", "data.train": tmp_path / "rows.jsonl", "epochs": "null", "steps": 2,
        "schedule.warmup": 1, "evaluation.every": 1, "batch.tokens": 64, "journal.live": "false", "threads": 1,
    }  # fmt: skip
    settings = [part for name, value in changes.items() for part in ("--set", f"{name}={value}")]
    path = Path(__file__).parents[2] / "examples" / f"{example}.yaml"
    done = gossamer("train", path, "--out", tmp_path / "out", *settings)
    # All rows that are held out of this one are of one class.
    told = "gossamer: not defined on the held-out rows: f1 macro, matthews\n" if example == "classify" else ""
    assert (done.code, done.err) == (0, told)
    assert "held out: loss" in done.out
    assert "accuracy" in done.out
    found = gs.task(example, gs.load(tmp_path / "out" / "best"))("Anna ham")
    assert len(found.tokens) == 1
