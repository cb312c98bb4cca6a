"""gossamer tokenize: the file, the page, the JSON document, and what wrong command lines are told."""

import gzip
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gossamer.text import TokenFile, Tokenizer, byte_tokenizer, read_documents, speeches, tokenize

Command = Callable[..., Any]


def test_the_speeches_as_bytes(gossamer: Command, tmp_path: Path) -> None:
    done = gossamer("tokenize", "speeches", "--tokenizer", "bytes", "--out", tmp_path / "a.tokens")
    assert (done.code, done.err) == (0, "")
    file = TokenFile.open(tmp_path / "a.tokens")
    file.check()
    assert file.documents == 233
    assert bytes(file.document(7).tolist()).decode() == speeches()[7].text
    assert done.out.startswith(f"{file.tokens:,} tokens of 233 documents\n10.8 MB of text, 1.00 bytes a token, ")
    assert f"saved in {tmp_path / 'a.tokens'}" in done.out
    assert file.digest == tokenize(read_documents(["speeches"]), byte_tokenizer(), name="bytes").digest


def test_files_in_their_order_and_json(gossamer: Command, minilm: Path, tmp_path: Path) -> None:
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(b"one line\n\ntwo words more\n"))
    (tmp_path / "a.jsonl").write_text('{"body": "third"}\n{"body": " "}\n')
    inputs = (tmp_path / "b.txt.gz", tmp_path / "a.jsonl")
    options = (
        "--tokenizer",
        minilm,
        "--split",
        "lines",
        "--jsonl-field",
        "body",
        "--out",
        tmp_path / "x.tokens",
        "--json",
    )
    done = gossamer("tokenize", *inputs, *options)
    file, tokenizer = TokenFile.open(tmp_path / "x.tokens"), Tokenizer.load(minilm)
    assert [tokenizer.decode(file.document(i)) for i in range(3)] == ["one line", "two words more", "third"]
    assert [Path(file.name_of(i)).name for i in range(3)] == ["b.txt.gz:1", "b.txt.gz:3", "a.jsonl:1"]
    assert done.error == "gossamer: left out, having no tokens: 1 of the documents"
    found = {name: value for name, value in done.json.items() if name != "seconds"}
    assert found == {
        "out": str(tmp_path / "x.tokens"),
        "documents": 3,
        "empty_documents": 1,
        "tokens": 6,
        "text_bytes": 27,
        "bytes_per_token": 4.5,
        "tokenizer": str(minilm)[:200],
        "vocabulary_size": 30522,
        "dtype": "uint16",
        "end_id": 102,
        "digest": file.digest,
    }


@pytest.mark.parametrize(("options", "counts"), [((), True), (("--no-control-tokens",), False)])
def test_control_tokens_are_letters_when_asked(
    gossamer: Command, minilm: Path, tmp_path: Path, options: tuple[str, ...], counts: bool
) -> None:
    (tmp_path / "a.txt").write_text("the mark [SEP] ends it\n")
    gossamer("tokenize", tmp_path / "a.txt", "--tokenizer", minilm, "--out", tmp_path / "a.tokens", *options)
    assert (Tokenizer.load(minilm).sep_id in TokenFile.open(tmp_path / "a.tokens").document(0)) == counts
    shown = gossamer("tokenizer", "show", minilm, "a [SEP] b", "--json", *options).json["texts"][0]["tokens"]
    assert [one["token"] for one in shown].count("[SEP]") == 1 + counts


def test_it_says_how_far_it_is(gossamer: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gossamer.cli.output.PATIENCE", 0)
    monkeypatch.setattr("gossamer.cli.output.LINES_EVERY", 0)
    (tmp_path / "a.txt").write_text("text " * 200_000)
    done = gossamer("tokenize", tmp_path / "a.txt", "--tokenizer", "bytes", "--out", tmp_path / "a.tokens")
    lines = [line for line in done.err.splitlines() if "tokenizing: " in line]
    assert lines[-1].startswith("gossamer: tokenizing: 1.0 of 1.0 MB, ")
    assert lines[-1].endswith(" MB a second")


@pytest.mark.parametrize(
    ("args", "match"),
    [
        (["none.txt", "--tokenizer", "bytes", "--out", "a.tokens"], "none.txt: no such file; name a text or"),
        (["speeches", "--tokenizer", "nowhere/at all", "--out", "a.tokens"], "no such directory"),
        (["speeches", "--tokenizer", "bytes", "--out", "a.bin"], "a.bin: the name must end in .tokens"),
        (["speeches", "--tokenizer", "bytes", "--out", "no/a.tokens"], "there is no directory 'no'; make it first"),
        (["a.tokens", "--tokenizer", "bytes", "--out", "a.tokens"], "is one of the texts to be read"),
        (["speeches", "--tokenizer", "bytes", "--out", "b.tokens", "--split", "words"], "'words' is not one of 'file'"),
        (["a.jsonl", "--tokenizer", "bytes", "--out", "b.tokens"], "1: the field 'text' is missing (it has: body)"),
        (["speeches", "--out", "b.tokens"], "Missing option '--tokenizer'"),
    ],
)
def test_wrong_command_lines(
    gossamer: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: list[str], match: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.tokens").write_text("a text")
    (tmp_path / "a.jsonl").write_text(json.dumps({"body": "x"}))
    done = gossamer("tokenize", *args, "--json")
    assert done.code == 2
    assert match in done.error
    assert match in done.json["error"]["message"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "a.tokens"]
    assert (tmp_path / "a.tokens").read_text() == "a text"


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_an_interrupt_leaves_nothing(tmp_path: Path) -> None:
    """Ctrl-C in the middle of a pipe that never ends."""
    os.mkfifo(tmp_path / "pipe")
    script = (
        "import signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a job in the background may have it ignored
        "from gossamer.cli.main import main\n"
        "main()"
    )
    args = ["tokenize", tmp_path / "pipe", "--tokenizer", "bytes", "--out", tmp_path / "a.tokens"]
    process = subprocess.Popen([sys.executable, "-c", script, *args], stderr=subprocess.PIPE, text=True)
    with (tmp_path / "pipe").open("w") as pipe:
        pipe.write("some words " * 500_000)
        pipe.flush()
        assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".a.tokens")]
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.splitlines()[-1] == "gossamer: interrupted"
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]
