"""gossamer trim: what it writes and tells, and what it refuses in a line."""

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import gossamer as gs
from gossamer.text import Tokenizer

Command = Callable[..., Any]


def test_it_cuts_a_vocabulary(gossamer: Command, small: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("the state of the union")
    (tmp_path / "b.jsonl").write_text('{"text": "another state"}\n')
    (tmp_path / "c.md").write_text("an unfathomable state")
    out = tmp_path / "new" / "out"
    call = ("trim", small, "--texts", tmp_path / "a.txt", tmp_path / "b.jsonl", "--output", out)
    done = gossamer(*call)
    assert (done.code, done.err) == (0, "")
    assert f"saved in {out}" in done.out
    assert "tokens kept 1" in done.out
    new = gs.load(out)
    assert new.tokenizer.vocabulary_size == new.architecture.embeddings.vocabulary_size
    assert new.tokenizer.vocabulary_size < Tokenizer.load(small).vocabulary_size
    again = gossamer(*call, "--evaluate", tmp_path / "c.md", "--keep", "president", "##ing", "--json")
    assert again.err == f"gossamer: {out}: the model that was there was replaced\n"
    receipt = again.json["receipt"]
    assert receipt["recipe"] == "trim"
    assert receipt["settings"] == {"keep": ["president", "##ing"]}
    assert receipt["conditions"]["texts"].startswith("2 documents, 35 bytes")
    assert receipt["measured"]["evaluate_tokens_after"] > receipt["measured"]["evaluate_tokens_before"]


def test_standard_input(gossamer: Command, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"the state of the union")))
    done = gossamer("trim", small, "--texts", "-", "--output", tmp_path / "out", "--json")
    assert done.json["receipt"]["conditions"]["texts"].startswith("1 document, 22 bytes")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--texts", "{empty}/none.txt", "--output", "{empty}/x"], "none.txt: no such file"),
        (["--texts", "-", "-", "--output", "{empty}/x"], "'-' is given twice; standard input can be read once"),
        (["--texts", "speeches", "--output", "{small}"], "is the model to be trimmed; name another directory"),
        (["--texts", "{empty}/a.txt", "--output", "{empty}/x", "--at-least", "0"], "at_least is 0; it must be"),
        (["--texts", "{empty}/a.txt", "--output", "{empty}/x", "--size", "3"], "size is 3; special tokens"),
        (["--texts", "{empty}/a.txt", "--output", "{empty}/x", "--keep", "nonsense!"], "keep holds 'nonsense!'"),
        (["--texts", "{empty}/a.txt", "--output", "{empty}/x", "--characters", "no"], "'no' is not one of 'all'"),
        (["--output", "{empty}/x"], "Missing option '--texts'"),
        (["--texts", "{empty}/a.txt", "--output", "{empty}/a.txt"], "is a file; name a directory"),
    ],
)
def test_what_is_wrong_is_one_line(
    gossamer: Command, small: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    (tmp_path / "a.txt").write_text("a text")
    done = gossamer("trim", small, *(one.format(small=small, empty=tmp_path) for one in options))
    assert done.code == 2
    assert message in done.error
