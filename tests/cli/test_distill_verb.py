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


def test_the_teachers_outputs_are_kept(gossamer: Command, teacher: Path, tmp_path: Path) -> None:
    """And read by a second student, which says nothing of it; the size is told before."""
    call = ("distill", teacher, "--train", tmp_path / "text.txt", "--cache", tmp_path / "kept", *QUICK)
    settings = ("--set", "data.pack=false", "--set", "objective.cache.top_k=4")
    done = gossamer(*call, *settings, "--out", tmp_path / "out")
    assert done.code == 0
    assert "cache: the teacher reads 62 of 62 rows (1,937 tokens)" in done.err
    assert "logits 16 bytes a token, classes 16 bytes a token, rest 4 bytes a token, states 64 bytes" in done.err
    assert gossamer(*call, *settings, "--out", tmp_path / "other").err == ""
    other = gossamer(*call, *settings[:2], "--out", tmp_path / "third")
    assert other.code == 2
    assert "which was made with something else: logits '4 x float32', now '32 x float32'; name" in other.error


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--layers", "some"], "'some' is not every-other, or numbers such as 0,2,4"),
        (["--layers", "7"], "layers has 7; the teacher's layers go from 0 to 2"),
        (["--temperature", "0"], "temperature is 0"),
        (["--set", "stepps=4"], "stepps is no field"),
        (["--hidden-size", "6"], "hidden_size is 6; heads are 8 wide"),
        (["--heads", "two"], "'two' is not a number, or numbers such as 0,2,4"),
        (["--heads", "0,2"], "heads is [0, 2]; the teacher has 2: give a number from 1"),
        (["--narrow", "linear"], "narrow is 'linear', which maps hidden dimensions; give hidden_size"),
        (["--objective", "vectors"], "'vectors' is not one of 'embed'"),
        (["--objective", "embed"], "teacher-vectors"),
        (["--objective", "embed", "--task", "causal-lm"], "it must be left out: with --objective embed the teacher's"),
        (["--task", "tagging"], "task is 'tagging', but the teacher has the head 'causal-lm'"),
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


def test_widths_are_lists_and_a_share_is_held_out(gossamer: Command, teacher: Path, tmp_path: Path) -> None:
    options = ("--heads", "1,", "--feedforward-size", "0,2,5", "--evaluate", "0.1", "--task", "causal-lm")
    call = ("distill", teacher, "--train", tmp_path / "text.txt", "--out", tmp_path / "out", *options, *QUICK)
    done = gossamer(*call, "--json")
    assert done.code == 0
    receipt = done.json["receipt"]
    assert (receipt["settings"]["heads"], receipt["settings"]["feedforward_size"]) == ([1], [0, 2, 5])
    assert receipt["settings"]["task"] == "causal-lm"
    assert receipt["measured"]["held_out_perplexity"] > 1


def test_an_embedder_teaches_its_vectors(gossamer: Command, small: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("\n".join(f'{{"text": "film {i}"}}' for i in range(20)))
    call = ("distill", small, "--train", tmp_path / "rows.jsonl", "--out", tmp_path / "out")
    quick = ("--set", "steps=2", "--set", "journal.live=false", "--set", "batch.rows=4")
    told = gossamer(*call, *quick)
    assert told.code == 2
    assert "the teacher gives vectors of texts; --objective embed teaches those" in told.error
    done = gossamer(*call, "--objective", "embed", *quick, "--json")
    assert done.code == 0
    assert done.json["receipt"]["settings"]["objective"] == "embed"


def test_a_narrower_student_is_made(gossamer: Command, teacher: Path, tmp_path: Path) -> None:
    options = ("--hidden-size", "8", "--feedforward-size", "20", "--narrow", "linear")
    call = ("distill", teacher, "--train", tmp_path / "text.txt", "--out", tmp_path / "out", *options, *QUICK)
    done = gossamer(*call)
    assert (done.code, done.err) == (0, "")
    assert "states 8 of 16 wide, by a linear map; 1 of 2 heads; 20 of 64 feed-forward neurons" in done.out
    student = gs.load(tmp_path / "out" / "last")
    assert (student.family, student.architecture.hidden_size) == ("gpt2", 8)
