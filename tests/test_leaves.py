"""The leaves that every part builds on: lines for people, and files that others wrote."""

import os
import socket
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossamer.errors import LONGEST_LINE, GossamerError, InputError, Remark, clean_line, quote, remark
from gossamer.regular_files import check_regular, open_regular, read_regular
from gossamer.text import byte_tokenizer

HOSTILE = "\x1b[31mred\x1b]0;title\x07 \x9b1m‮abc⁦ \x00\r\n\t\x85 ​\ud800"


@given(st.text())
def test_a_line_is_one_line_of_printable_characters(text: str) -> None:
    for line in (clean_line(text), str(InputError(text)), quote(text)):
        assert all(one.isprintable() for one in line)
        assert len(line) <= LONGEST_LINE
        assert line.strip() == line
    assert clean_line(clean_line(text)) == clean_line(text)


@pytest.mark.parametrize("error", [GossamerError, InputError])
def test_an_error_shows_nothing_that_moves_a_terminal(error: type[GossamerError]) -> None:
    message = str(error(f"weights: names {HOSTILE}; restore it"))
    assert message.startswith("weights: names ")
    assert message.endswith("; restore it")
    assert message.isprintable()


def test_a_remark_points_at_the_users_line(tmp_path: Path) -> None:
    """However deep in the package it is made: Python shows one a line."""
    with pytest.warns(Remark) as told:
        remark("here")
    assert told[0].filename == __file__
    tokenizer = byte_tokenizer().with_max_length(4)
    with pytest.warns(Remark) as told:
        tokenizer("a longer text")
    assert told[0].filename == __file__


@pytest.mark.parametrize("size", [LONGEST_LINE - 1, LONGEST_LINE, LONGEST_LINE + 1, 10**4, 10**7])
def test_of_a_long_line_the_place_and_the_remedy_stay(size: int) -> None:
    line = clean_line("place: " + "x" * (size - 15) + "; remedy")
    assert line.startswith("place: xxx")
    assert line.endswith("xxx; remedy")
    assert len(line) == min(size, LONGEST_LINE)
    assert (" ... " in line) == (size > LONGEST_LINE)


def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "socket"))
    kinds = {"pipe": "named pipe", "link": "named pipe", "zero": "device", "socket": "socket", ".": "directory"}
    for name, kind in kinds.items():
        for use in (check_regular, open_regular, read_regular):
            with pytest.raises(InputError, match=rf"is a {kind}(, not a regular file)?; take another"):
                use(tmp_path / name, "take another")
    listener.close()
    with pytest.raises(FileNotFoundError):
        check_regular(tmp_path / "none")
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "none")


def test_a_regular_file_is_read_whole_and_nothing_stays_open(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    os.mkfifo(tmp_path / "pipe")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        assert read_regular(tmp_path / "link") == b"abc"
        with pytest.raises(InputError):
            read_regular(tmp_path / "pipe")
    assert len(os.listdir("/proc/self/fd")) == before


def test_reading_does_not_wait_for_a_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    refused: list[str] = []

    def read() -> None:
        try:
            read_regular(tmp_path / "pipe")
        except InputError as problem:
            refused.append(str(problem))

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(timeout=20)
    assert len(refused) == 1
