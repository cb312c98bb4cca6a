"""Texts of the verbs: arguments, names of files, standard input, and what is said about them."""

import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gossamer.cli.texts import read_texts
from gossamer.errors import InputError

Command = Callable[..., Any]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "speech.txt").write_text("The state of the Union")
    (tmp_path / "rows.csv").write_text("id,text,other\n7,first,x\n8,second,y\n")
    (tmp_path / "letters").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def give(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def read(*arguments: str, files: tuple[str, ...] = (), **options: Any) -> list[tuple[str, str]]:
    return [(one.source, one.text) for one in read_texts(arguments, [Path(name) for name in files], **options)]


@pytest.mark.usefixtures("folder")
def test_the_name_of_a_file_is_read_as_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert read("one", "speech.txt", "letters") == [
        ("argument 1", "one"),
        ("speech.txt", "The state of the Union"),
        ("argument 3", "letters"),
    ]
    said = capsys.readouterr().err
    assert said == (
        "gossamer: letters: is the name of a directory too; it is read as the text itself\n"
        "gossamer: speech.txt: is the name of a file, and read as such; with --text a name itself is the text\n"
    )
    assert read("one", "speech.txt", "-", as_text=True)[1:] == [("argument 2", "speech.txt"), ("argument 3", "-")]
    assert capsys.readouterr().err == ""
    assert read("rows.csv") == [("rows.csv:2", "first"), ("rows.csv:3", "second")]
    read(*["speech.txt"] * 30)
    assert "speech.txt, speech.txt, speech.txt, ...: are names of 30 files" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("name", ["sbeech.txt", "none/a.JSONL", "report.pdf"])
def test_the_name_of_a_file_that_is_not_there_is_no_text(name: str) -> None:
    with pytest.raises(InputError, match="no such file; if this is the text itself, add --text"):
        read("a text", name)
    assert read(name, as_text=True) == [("argument 1", name)]
    assert read("I wrote it in speech.md, you know it.") != []
    assert read("a text about report.pdf") == [("argument 1", "a text about report.pdf")]


@pytest.mark.parametrize("text", ["x" * 100_000, "a\0b", "/" * 5000, "\n", "a\nb.txt"])
def test_texts_that_could_not_be_names(text: str) -> None:
    assert read(text, may_be_empty=True) == [("argument 1", text)]


def test_standard_input_in_every_format(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    give(monkeypatch, b"plain\ntext")
    assert read("-") == [("stdin", "plain\ntext")]
    assert capsys.readouterr().err == ""
    give(monkeypatch, b'{"text": "a", "id": 1}\n{"text": "b"}\n')
    assert read("-") == [("stdin:1", "a"), ("stdin:2", "b")]
    assert "stdin: is read as jsonl: it begins with a JSON object; " in capsys.readouterr().err
    give(monkeypatch, b"id,body\n1,a\n")
    assert read(files=("-",), field="body") == [("stdin:2", "a")]
    give(monkeypatch, b'{"text": "a"}')
    assert read("-", format="txt") == [("stdin", '{"text": "a"}')]
    give(monkeypatch, b"text\na\n")
    assert read("-", format="csv") == [("stdin:2", "a")]
    with pytest.raises(InputError, match="'-' is given twice"):
        read("-", files=("-",))


@pytest.mark.usefixtures("folder")
def test_what_is_wrong_is_known_before_anything_is_read() -> None:
    for arguments, files, match in (
        ((), (), "there is no text; give TEXT"),
        (("a",), ("none.txt",), "none.txt: no such file"),
        (("a",), ("letters",), "letters: is a directory; name its files"),
    ):
        with pytest.raises(InputError, match=match):
            read_texts(arguments, [Path(name) for name in files])
    Path("a.pdf").write_bytes(b"%PDF")
    with pytest.raises(InputError, match=r"'\.pdf' is no format"):
        read_texts(["a.pdf"], [])


@pytest.mark.usefixtures("folder")
def test_empty_texts_and_halves_of_characters() -> None:
    Path("rows.json").write_text('["a", "", "\\ud800"]')
    texts = read_texts([], [Path("rows.json")], may_be_empty=True)
    assert [next(texts).text, next(texts).text] == ["a", ""]
    with pytest.raises(InputError, match=r"rows\.json:3: character 0 is no character"):
        next(texts)
    with pytest.raises(InputError, match=r"rows\.json:2: the text is empty"):
        read(files=("rows.json",))
    with pytest.raises(InputError, match="argument 1: character 2 is no character"):
        read("ab\udcff")


def test_other_fields_come_along(folder: Path) -> None:
    (first, _) = read_texts(["rows.csv"], [])
    assert (first.fields, first.whole) == ({"id": "7", "other": "x"}, False)
    assert next(read_texts([], [folder / "speech.txt"])).whole


@pytest.mark.usefixtures("folder")
def test_every_verb_reads_them(gossamer: Command, small: Path, minilm: Path) -> None:
    for verb in (("embed", small), ("tokenizer", "show", minilm)):
        done = gossamer(*verb, "speech.txt", "--json")
        assert done.code == 0
        assert "speech.txt: is the name of a file, and read as such" in done.error
    data = gossamer("embed", small, "rows.csv", "--json").json
    assert [one["source"] for one in data["texts"]] == ["rows.csv:2", "rows.csv:3"]
    shown = gossamer("tokenizer", "show", minilm, "--text", "speech.txt", "--json")
    assert shown.json["texts"][0]["text"] == "speech.txt"
    assert shown.err == ""
    for verb in ("classify", "tag", "fill-mask", "generate", "attention"):
        assert "/nowhere" in gossamer(verb, "/nowhere", "speech.txt").err.splitlines()[-1]
        assert "no such file; if this is the text" in gossamer(verb, "/nowhere", "sbeech.txt").error
    assert "QUESTION is 'speech.txt', the name of a file" in gossamer("answer", "/nowhere", "speech.txt", "a").error
    assert "--pair is 'speech.txt', the name" in gossamer("classify", "/nowhere", "a", "--pair", "speech.txt").error


def test_a_text_is_never_overwritten_though_it_was_an_argument(gossamer: Command, small: Path, folder: Path) -> None:
    (folder / "a.jsonl").write_text(json.dumps({"text": "a"}))
    done = gossamer("embed", small, "a.jsonl", "--out", "a.jsonl")
    assert "is one of the texts to be read" in done.err


def test_tokenize_reads_standard_input(gossamer: Command, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    give(monkeypatch, b"id,text\n1,abc\n")
    done = gossamer("tokenize", "-", "rows.csv", "--tokenizer", "bytes", "--out", folder / "a.tokens", "--json")
    assert (done.code, done.json["tokens"]) == (0, 3 + 5 + 6)
    assert done.error == (
        "gossamer: stdin: is read as csv: its first line names a column 'text'; --format txt takes it as one text"
    )


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="needs a device without end")
def test_a_device_is_never_read(gossamer: Command, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "is a device, not a regular file" in gossamer("embed", small, "/dev/zero").error
    with open("/dev/zero") as zero:
        monkeypatch.setattr(sys, "stdin", zero)
        assert "standard input is a device, which never ends" in gossamer("embed", small, "-").error


@pytest.mark.usefixtures("folder")
def test_a_directorys_name_is_the_text_and_said_to_be(capsys: pytest.CaptureFixture[str]) -> None:
    assert read("letters") == [("argument 1", "letters")]
    assert "letters: is the name of a directory too; it is read as the text itself" in capsys.readouterr().err
    assert read("letters", as_text=True) == [("argument 1", "letters")]
    assert capsys.readouterr().err == ""
    with pytest.raises(InputError, match=r"letters/: is a directory; name its files, such as letters/\*\.txt, or add"):
        read("letters/")


@pytest.mark.parametrize("line", ["Hello, text, world", 'a "text", b', "one,'text' two"])
def test_prose_that_has_the_columns_name_among_commas_is_one_text(monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    """What is taken for a table is what the reader of tables can read."""
    give(monkeypatch, f"{line}\nSecond line\n".encode())
    assert [text for _, text in read("-")] == [f"{line}\nSecond line\n"]
