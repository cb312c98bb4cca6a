"""Whatever goes wrong: one line that quotes the value, the right exit code, JSON where it was asked for."""

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gossamer.cli import summary as summary_verb
from gossamer.errors import GossamerError

Command = Callable[..., Any]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["nope"], "No such command 'nope'; see 'gossamer --help'"),
        (["embedd"], "Did you mean 'embed'?"),
        (["--nope"], "No such option: --nope"),
        (["summary", "--lengths", "512"], "Missing argument 'MODEL'"),
        (["summary", "{small}", "--lengths", "512,many"], "'512,many' is not a list of numbers"),
        (["summary", "{small}", "--lengths", ""], "'' is not a list of numbers"),
        (["summary", "{small}", "--lengths", "0"], "'0' has 0; each must be 1 or more tokens"),
        (["summary", "{empty}/missing"], "no such directory; name a model directory"),
        (["summary", "{empty}"], "config.json: no such file"),
        (["summary", "{small}/config.json"], "config.json: is a file"),
        (["lengthen", "{small}"], "Missing option '--out'"),
        (["lengthen", "{small}", "--out", "{small}"], "is the model to be lengthened"),
        (
            ["lengthen", "{small}", "--out", "{empty}/x", "--to", "many"],
            "--to is 'many'; it must be a whole number such as 4096",
        ),
        (["lengthen", "{small}", "--out", "{empty}/x", "--window", "a"], "'a' is not a number such as 512"),
        (["lengthen", "{small}", "--out", "{empty}/x", "--window", "7"], "7; it must be even"),
        (["lengthen", "{small}", "--out", "{empty}/x", "--window", "8,8,8"], "window has 3 entries"),
        (["lengthen", "{small}", "--out", "{empty}/x", "--to", "8"], "to is 8"),
        (["embed", "{small}"], "there is no text; give TEXT, or --file FILE"),
        (["embed", "{small}", "a", "--dtype", "int7"], "dtype is 'int7'; it must be one of"),
        (["embed", "{small}", "a", "--long", "cut"], "Invalid value for '--long': 'cut' is not one of"),
        (["embed", "{small}", "a", "--spans", "abc"], "--spans is 'abc'; it must be a whole number such as 256; see"),
        (["embed", "{small}", "a", "--spans", "0"], "--spans is 0; it must be"),
        (["embed", "{small}", "--file", "{empty}/none.txt"], "none.txt: no such file"),
        (["embed", "{small}", "--file", "{empty}"], "is a directory; name its files"),
        (["embed", "{small}", "--file", "-", "-"], "'-' is given twice"),
        (["embed", "{small}", "a", "--out", "x.txt"], "x.txt: the name must end in .npy or .jsonl"),
        (["embed", "{small}", "a", "--out", "{empty}/none/x.npy"], "there is no directory"),
        (["embed", "{small}", "word " * 40, "--long", "error"], "the model reads 32"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_mistakes_are_told_in_one_line(
    gossamer: Command, small: Path, tmp_path: Path, args: list[str], said: str
) -> None:
    done = gossamer(*[one.format(small=small, empty=tmp_path) for one in args])
    assert (done.code, done.out) == (2, "")
    assert done.error.startswith("gossamer: ")
    assert said in done.error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["summary", "/nowhere", "--lengths", "8,-1"], "'8,-1' has -1"),
        (["embed", "/nowhere", "a", "--spans", "-3"], "--spans is -3"),
        (["lengthen", "/nowhere", "--out", "{empty}/x", "--window", "7"], "window is 7; it must be even"),
        (["lengthen", "/nowhere", "--out", "{empty}/x", "--to", "0"], "--to is 0"),
        (["lengthen", "/nowhere", "--out", __file__], "is a file; name a directory"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_options_are_checked_before_the_model_is_read(
    gossamer: Command, tmp_path: Path, args: list[str], said: str
) -> None:
    done = gossamer(*[one.format(empty=tmp_path) for one in args])
    assert done.code == 2
    assert said in done.error


@pytest.mark.parametrize("args", [["summary", "/nowhere", "--json"], ["embed", "--json"], ["--json"], ["x", "--json"]])
def test_with_json_errors_are_json_too(gossamer: Command, args: list[str]) -> None:
    done = gossamer(*args)
    assert done.code == 2
    assert done.error == f"gossamer: {done.json['error']['message']}"
    assert set(done.json["error"]) == {"type", "message"}


def test_a_text_that_looks_like_an_option_asks_for_nothing(gossamer: Command, small: Path) -> None:
    done = gossamer("embed", small, "--long", "nope", "--", "--json")
    assert (done.code, done.out) == (2, "")


@pytest.mark.parametrize(
    ("problem", "code", "said"),
    [
        (GossamerError("two\nlines  of it"), 2, "gossamer: two lines of it"),
        (OSError(errno.ENOSPC, "No space left on device", "out.npy"), 2, "gossamer: out.npy: No space left on device"),
        (PermissionError(errno.EACCES, "Permission denied", "out"), 2, "gossamer: out: Permission denied"),
        (MemoryError(), 2, "gossamer: out of memory; read shorter or fewer texts at once"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't"), 2, "gossamer: out of memory"),
        (KeyboardInterrupt(), 130, "gossamer: interrupted"),
        (ZeroDivisionError("division by zero"), 1, "gossamer: ZeroDivisionError: division by zero (a bug: GOSSAMER"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_what_the_verbs_raise(
    gossamer: Command, monkeypatch: pytest.MonkeyPatch, problem: BaseException, code: int, said: str
) -> None:
    def fail(model: str) -> None:
        raise problem

    monkeypatch.setattr(summary_verb, "summary", fail)
    done = gossamer("summary", "x")
    assert done.code == code
    assert done.error.startswith(said)


def test_the_traceback_comes_when_asked_for(gossamer: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOSSAMER_DEBUG", "1")
    done = gossamer("summary", "/nowhere")
    assert done.code == 2
    assert "Traceback" in done.err
    assert done.err.splitlines()[-1].startswith("gossamer: ")
    assert "/nowhere" in done.err


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("bytes.txt", b"caf\xe9", "bytes.txt: is no UTF-8 text (it holds the byte 0xe9)"),
        ("a.jsonl", b'{"text": "good"}\n{bad', "a.jsonl:2: is no JSON"),
        (
            "a.jsonl",
            b'{"body": "x", "id": 3}',
            "is missing (it has: body, id); name the field that holds the text with --field",
        ),
        ("a.jsonl", b"[1]", "a.jsonl:1: is [1]; each line must be an object with the field 'text'"),
        ("a.jsonl", b"\n\n", "there is no text"),
    ],
)
def test_files_that_cannot_be_read(
    gossamer: Command, small: Path, tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    (tmp_path / name).write_bytes(content)
    done = gossamer("embed", small, "--file", tmp_path / name)
    assert done.code == 2
    assert said in done.error


def test_a_text_is_never_overwritten_by_its_vectors(gossamer: Command, small: Path, tmp_path: Path) -> None:
    texts = tmp_path / "texts.jsonl"
    texts.write_text('{"text": "a"}\n')
    done = gossamer("embed", small, "--file", texts, "--out", texts)
    assert "is one of the texts to be read" in done.error
    assert texts.read_text() == '{"text": "a"}\n'


def test_a_directory_that_is_no_model_is_not_overwritten(gossamer: Command, small: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    done = gossamer("lengthen", small, "--to", 64, "--window", 8, "--out", tmp_path)
    assert (done.code, [one.name for one in tmp_path.iterdir()]) == (2, ["thesis.txt"])
    assert "holds files but no model" in done.error
