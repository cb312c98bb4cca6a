"""Files written whole: in whose place they come, with whose permissions, and what is refused before the work."""

import errno
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from gossamer.atomic_files import check_writable, write_whole
from gossamer.errors import InputError
from gossamer.text import Document, byte_tokenizer, write_token_file


def put(text: bytes) -> Callable[[BinaryIO], int]:
    return lambda stream: stream.write(text)


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "v.npy"
    write_whole(path, put(b"old"))

    def fill_the_disk(stream: BinaryIO) -> None:
        stream.write(b"half of the n")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="could not be written") as caught:
        write_whole(path, fill_the_disk)
    assert caught.value.filename == str(path)
    assert path.read_bytes() == b"old"

    def interrupted(stream: BinaryIO) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(path, interrupted)
    assert [one.name for one in tmp_path.iterdir()] == ["v.npy"]
    assert path.read_bytes() == b"old"


def test_a_link_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "real.npy").write_bytes(b"old")
    (tmp_path / "link.npy").symlink_to("real.npy")
    write_whole(tmp_path / "link.npy", put(b"new"))
    assert (tmp_path / "real.npy").read_bytes() == b"new"
    assert (tmp_path / "link.npy").is_symlink()


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644, 0o664])
def test_the_permissions_of_an_old_file_stay(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "v.npy"
    path.write_bytes(b"old")
    path.chmod(mode)
    write_whole(path, put(b"new"))
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"new", mode)
    write_token_file(path, [Document(source="a", parts=["text"])], byte_tokenizer())
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_new_file_has_the_permissions_that_are_usual(tmp_path: Path) -> None:
    (tmp_path / "usual").write_bytes(b"")
    write_whole(tmp_path / "new", put(b"new"))
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_a_name_of_any_length_that_the_system_takes(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 251 + ".npy")
    check_writable(path)
    write_whole(path, put(b"new"))
    assert path.read_bytes() == b"new"


def test_what_is_no_file_is_left_as_it_is(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    (tmp_path / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        here = os.open(".", os.O_RDONLY)
        os.chdir(tmp_path)  # a socket's whole path may have a hundred characters
        server.bind("socket")
        os.fchdir(here)
        os.close(here)
        for name, kind in (
            ("pipe", "a named pipe"),
            ("link", "a named pipe"),
            ("folder", "a directory"),
            ("socket", "a socket"),
        ):
            for act in (check_writable, lambda path: write_whole(path, put(b"new"))):
                with pytest.raises(InputError, match=f"is {kind}.*; name a regular file, or a new one"):
                    act(tmp_path / name)
    with pytest.raises(InputError, match="is a device"):
        check_writable(Path("/dev/null"))
    assert sorted(one.name for one in tmp_path.iterdir()) == ["folder", "link", "pipe", "socket"]
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_names_that_cannot_be_written_are_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "circle").symlink_to("circle")
    for name, said in (
        ("n" * 256, "cannot be a file's name (File name too long); choose another"),
        ("none/v.npy", "there is no directory"),
        ("circle", "cannot be a file's name"),
        ("nul\0l", "cannot be a file's name"),
    ):
        with pytest.raises(InputError) as caught:
            check_writable(tmp_path / name)
        assert said in str(caught.value)
    (tmp_path / "old").write_bytes(b"")
    may_write = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "old" and may_write(path, mode))
    with pytest.raises(InputError, match="old: is there, and may not be written; change its permissions, or"):
        check_writable(tmp_path / "old")


def test_a_link_to_a_new_name_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "link.npy").symlink_to("new.npy")
    check_writable(tmp_path / "link.npy")
    write_whole(tmp_path / "link.npy", put(b"new"))
    assert (tmp_path / "new.npy").read_bytes() == b"new"
