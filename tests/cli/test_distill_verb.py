"""gossamer distill: what it writes and tells, and what it refuses in a line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import gossamer as gs
from gossamer.models import Model
from gossamer.models.decoders import decoder
from gossamer.text import byte_tokenizer

Command = Callable[..., Any]
QUICK = ("--set", "steps=3", "--set", "journal.live=false", "--set", "data.split=lines", "--set", "batch.rows=4")


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    (tmp_path / "text.txt").write_text("\n".join(f"line {i} of a text about nothing at all" for i in range(60)))
    torch.manual_seed(0)
    sizes = {"layers": 3, "hidden_size": 16, "heads": 2, "length": 32, "vocabulary_size": 257}
    model = Model(decoder(**sizes, patterns=[gs.Full(causal=True)]), family="gpt2", tokenizer=byte_tokenizer())
    gs.save(model, tmp_path / "teacher")
    return tmp_path / "teacher"


def test_it_makes_a_student(gossamer: Command, teacher: Path, tmp_path: Path) -> None:
    call = ("distill", teacher, "--train", tmp_path / "text.txt", "--out", tmp_path / "out", "--layers", "0,2", *QUICK)
    done = gossamer(*call)
    assert (done.code, done.err) == (0, "")
    assert "2 layers of the teacher's: 0, 2" in done.out
    assert f"saved in {tmp_path / 'out' / 'last'}" in done.out
    assert len(gs.load(tmp_path / "out" / "last").architecture.layers) == 2
    again = gossamer(*call, "--json")
    assert again.code == 0
    assert again.json["family"] == "gpt2"
    assert again.json["receipt"]["recipe"] == "distill"
    assert gossamer(*call, "--resume", "never").code == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--layers", "some"], "'some' is not every-other, or numbers such as 0,2,4"),
        (["--layers", "7"], "layers has 7; the teacher's layers go from 0 to 2"),
        (["--temperature", "0"], "temperature is 0"),
        (["--set", "stepps=4"], "stepps is no field"),
        (["--hidden-size", "6"], "hidden_size is 6; heads are 8 wide"),
        (["--narrow", "pca"], "'pca' is not one of 'neurons', 'linear'"),
        (["--shape", "distilbert"], "shape is 'distilbert', whose format cannot hold the student"),
    ],
)
def test_what_is_wrong_is_one_line(
    gossamer: Command, teacher: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    done = gossamer("distill", teacher, "--train", tmp_path / "text.txt", "--out", tmp_path / "out", *QUICK, *options)
    assert done.code == 2
    assert message in done.error
    assert not (tmp_path / "out" / "last").exists()


def test_a_narrower_student_is_made(gossamer: Command, teacher: Path, tmp_path: Path) -> None:
    options = ("--hidden-size", "8", "--feedforward-size", "20", "--narrow", "linear")
    call = ("distill", teacher, "--train", tmp_path / "text.txt", "--out", tmp_path / "out", *options, *QUICK)
    done = gossamer(*call)
    assert (done.code, done.err) == (0, "")
    assert "states 8 of 16 wide, by a linear map; 1 of 2 heads; 20 of 64 feed-forward neurons" in done.out
    student = gs.load(tmp_path / "out" / "last")
    assert (student.family, student.architecture.hidden_size) == ("gpt2", 8)
