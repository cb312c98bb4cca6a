"""Progress and notes."""

import io
import sys
from pathlib import Path

import pytest
from rich.console import Console

from gossamer.cli import output
from gossamer.cli.main import main


def test_lines_of_progress_come_after_two_seconds_and_then_every_ten(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [100.0]
    monkeypatch.setattr(output.time, "monotonic", lambda: now[0])
    with output.progress("reading") as report:
        for second in range(31):
            now[0] = 100.0 + second
            report(second * 1000, 30_000)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "gossamer: reading: 2,000 of 30,000 tokens (7%)",
        "gossamer: reading: 12,000 of 30,000 tokens (40%)",
        "gossamer: reading: 22,000 of 30,000 tokens (73%)",
    ]


def test_on_a_terminal_progress_is_a_bar_that_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(output, "_console", lambda stream: Console(file=screen, force_terminal=True, width=80))
    with output.progress("reading") as report:
        report(5000, 10_000)
        report(10_000, 10_000)
    assert "10,000 of 10,000 tokens" in screen.getvalue()
    assert screen.getvalue().endswith("\x1b[2K"), "the line is erased"


def test_waiting_is_explained_only_when_it_is_long(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with output.working("thinking"):
        pass
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(output, "PATIENCE", 0.0)
    with output.working("thinking"):
        threads = [one for one in output.threading.enumerate() if isinstance(one, output.threading.Timer)]
        for one in threads:
            one.join()
    assert capsys.readouterr().err == "gossamer: thinking ...\n"


def test_json_has_no_words_for_infinity(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_json({"a": [float("nan"), float("inf"), 1.5], 3: (None, True)})
    assert "".join(capsys.readouterr().out.split()) == '{"a":[null,null,1.5],"3":[null,true]}'


def test_pages_in_a_pipe_have_no_trailing_blanks(capsys: pytest.CaptureFixture[str]) -> None:
    output.show("short   \nlines  ")
    assert capsys.readouterr().out == "short\nlines\n"


def test_a_terminal_without_unicode_gets_question_marks(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    monkeypatch.setattr(sys, "argv", ["gossamer", "summary", str(small), "--lengths", "16"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    assert b"layers 0?1" in written.getvalue()
