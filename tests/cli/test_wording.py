"""Errors and notes in the command line's words, and nothing in them that moves a terminal."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from gossamer.cli import output
from gossamer.cli.command import load_verb, run
from gossamer.cli.wording import Wording

Command = Callable[..., Any]
HOSTILE = "a\x1b[31mred\x1b]0;title\x07b\u202ec[bold]d"


@pytest.mark.parametrize(
    ("verb", "said", "meant"),
    [
        ("tag", "give long='chunk' or long='truncate'", "give --long chunk or --long truncate"),
        ("train", "go on with it (resume='auto'), or", "go on with it (--resume auto), or"),
        ("tag", "gossamer.lengthen(model, to=4096)", "gossamer lengthen MODEL --to 4096 --out DIR"),
        ("attention", "load it with head='none'", "load it with head='none' (in Python)"),
        ("embed", "load it with head='embed' to", "load it with --head embed to"),
        ("attention", "there is none; head=3", "there is none; --head 3"),
        (
            "tag",
            "head=gossamer.models.TokenClassification(...)",
            "head=gossamer.models.TokenClassification(...) (in Python)",
        ),
        ("answer", "give impossible=True", "give --impossible"),
        ("embed", "stride=2 and x='y'", "stride=2 and x='y'"),
        ("embed", "format='txt' takes it", "--format txt takes it"),
    ],
)
def test_arguments_become_the_options_of_the_verb(verb: str, said: str, meant: str) -> None:
    wording = Wording()
    wording.take(load_verb(verb))
    assert wording(said) == meant


def is_harmless(text: str) -> bool:
    return all(sign.isprintable() or sign == "\n" for sign in text)


@pytest.mark.parametrize(
    "args",
    [
        ("embed", "{small}", HOSTILE, "--json"),
        ("embed", "{small}", HOSTILE),
        ("embed", "{small}", "{file}"),
        ("embed", "{small}", "a", "--field", HOSTILE, "--file", "{file}"),
        ("embed", f"/{HOSTILE}", "a"),
        ("embed", "{small}", "a", "--long", HOSTILE),
        ("embed", "{small}", "a", f"--{HOSTILE}"),
        ("embed", "{small}", "a", "--out", HOSTILE),
        (HOSTILE,),
        ("help", HOSTILE),
        ("train", "{yaml}", "--set", f"{HOSTILE}=1"),
        ("train", f"{HOSTILE}.yaml"),
        ("tokenizer", "show", "{small}", HOSTILE),
        ("attention", "{small}", HOSTILE, "--token", HOSTILE),
        ("embed", "{small}", "x" * 100_000, "--dtype", "y" * 100_000),
    ],
    ids=lambda args: " ".join(args)[:30].encode("ascii", "replace").decode(),
)
def test_nothing_from_outside_moves_a_terminal(
    gossamer: Command, small: Path, tmp_path: Path, args: tuple[str, ...]
) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({HOSTILE: "text"}))
    (tmp_path / "a.yaml").write_text(json.dumps({HOSTILE: 1}))
    names = {"small": small, "file": tmp_path / "a.jsonl", "yaml": tmp_path / "a.yaml"}
    for name, value in names.items():
        args = tuple(one.replace(f"{{{name}}}", str(value)) for one in args)
    done = gossamer(*args)
    assert is_harmless(done.err)
    assert all(len(line) < 2100 for line in done.err.splitlines())
    assert "--json" in args or is_harmless(done.out)
    if "--json" in args:
        assert set(done.json) & {"error", "texts"}
    else:
        refused = gossamer(*args, "--json")
        assert refused.code == done.code
        assert set(refused.json)


def test_labels_of_waiting_are_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(output, "_console", lambda stream: Console(file=screen, force_terminal=True, width=80))
    with output.working(HOSTILE):
        pass
    assert "[bold]d" in screen.getvalue()
    assert "\x1b[31mred" not in screen.getvalue()
    assert "\x07" not in screen.getvalue()


def test_numbers_of_many_digits_are_no_bugs(gossamer: Command, small: Path, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(f"steps: {'9' * 5000}\n")
    digits, most = "9" * 5000, "9" * 400
    for args in (
        ("lengthen", small, "--out", tmp_path / "x", "--window", digits),
        ("lengthen", small, "--out", tmp_path / "x", "--window", most),
        ("summary", small, "--lengths", digits),
        ("train", tmp_path / "a.yaml"),
        ("train", tmp_path / "a.yaml", "--set", f"steps={digits}"),
        ("embed", small, "a", "--spans", digits),
        ("fill-mask", small, "a\udcff"),
        ("fill-mask", small, "a", "--target", "b\udcff"),
        ("generate", small, "a", "--stop", "b\udcff"),
    ):
        done = gossamer(*args)
        assert done.code == 2
        assert "a bug" not in done.error
        assert len(done.error) < 400


def test_where_the_shell_stands_is_not_replaced(
    gossamer: Command, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").mkdir()
    monkeypatch.chdir(tmp_path / "in")
    for out in (".", "..", tmp_path):
        assert "the folder you are in, or one around it" in gossamer("lengthen", small, "--out", out).error


def test_a_model_behind_the_files(gossamer: Command, small: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a text")
    assert (
        "MODEL is missing: --file takes all names that follow it"
        in gossamer("embed", "--file", tmp_path / "a.txt", small).error
    )
    assert gossamer("embed", "--file", tmp_path / "a.txt", "--", small).code == 0
    assert gossamer("embed", "--spans", 3, small, "a text").code == 0


def test_help_and_version(gossamer: Command) -> None:
    for verb in ((), ("embed",), ("tokenizer", "show")):
        assert gossamer("help", *verb).out.strip() == gossamer(*verb, "--help").out.strip()
    assert gossamer("-V").out == gossamer("--version").out
    assert "'gossamer embed' has no verbs of its own" in gossamer("help", "embed", "x").error


def test_a_shell_completes_verbs_and_options(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_GOSSAMER_COMPLETE", "complete_bash")
    for words, completed in (("gossamer em", "embed"), ("gossamer tag --agg", "--aggregation")):
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
        with pytest.raises(SystemExit):
            run([])
        assert capsys.readouterr().out.split() == [completed]


def test_a_device_that_is_not_there(gossamer: Command, small: Path) -> None:
    assert "device is 'cuda:99', which is not there" in gossamer("tag", small, "a", "--device", "cuda:99").error
    assert gossamer("attention", small, "a cat", "--device", "cpu", "--json").code == 0


def test_words_are_put_into_the_commands_once() -> None:
    """A message is reworded where it is made and where it is shown."""
    once = Wording()("read the text with errors='replace' or load it with head='none'")
    assert once == "read the text with errors='replace' (in Python) or load it with head='none' (in Python)"
    assert Wording()(once) == once
