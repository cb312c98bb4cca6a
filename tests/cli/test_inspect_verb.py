"""gossamer inspect: the page and the pictures it writes, and what it refuses before any work."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import gossamer as gs

Command = Callable[..., Any]
TEXT = "the cat saw the dog"


def test_the_page_is_that_of_the_function(gossamer: Command, small: Path, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    done = gossamer("inspect", small, TEXT, "--out", out, "--layers", "1", "--top", 2, "--importance", "--json")
    assert done.code == 0
    assert done.json == {"file": str(out), "bytes": out.stat().st_size, "tokens": [7], "notes": []}
    wanted = gs.inspect(gs.load(small), TEXT, layers=[1], top=2, importance=True)
    assert out.read_text(encoding="utf-8") == wanted.page()
    told = gossamer("inspect", small, TEXT, "--out", out, "--attribution", "integrated", "--token", 2)
    assert (told.code, told.out) == (0, "")
    assert "bert, 2 layers, 7 tokens" in told.err
    assert "state of token 2, along itself" in out.read_text(encoding="utf-8")


def test_pictures(gossamer: Command, small: Path, tmp_path: Path) -> None:
    out = tmp_path / "map.svg"
    assert gossamer("inspect", small, TEXT, "--out", out, "--map-layer", 0, "--map-head", 1).code == 0
    assert "Self-attention, layer 0, head 1" in out.read_text()
    assert gossamer("inspect", small, TEXT, "--out", tmp_path / "heads.png", "--picture", "heads").code == 0
    assert (tmp_path / "heads.png").read_bytes().startswith(b"\x89PNG")


def test_a_file_is_read(gossamer: Command, small: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    assert gossamer("inspect", small, "--file", tmp_path / "text.txt", "--out", tmp_path / "a.html").code == 0
    assert "7 tokens" in (tmp_path / "a.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["/nowhere", "a", "--top", "0"], "--top is 0; it must be a whole number, 1 or more"),
        (["/nowhere", "a", "--new-tokens", "-1"], "--new-tokens is -1; it must be a whole number of tokens, 0 or more"),
        (["/nowhere", "a", "--out", "x.pdf"], "x.pdf: the name must end in .html or .svg or .png"),
        (["/nowhere", "a", "--out", "/nowhere/x.html"], "there is no directory '/nowhere'; make it first"),
        (["/nowhere", "a", "--out", "{tmp}/x.html", "--map-head", "1"], "are of pictures"),
        (["/nowhere", "a", "--out", "{tmp}/x.html", "--layers", "1,b"], "--layers is '1,b'; give numbers"),
        (["/nowhere", "a", "b", "--out", "{tmp}/x.html"], "there are 2 texts; give one at a time"),
        (["/nowhere", "--out", "{tmp}/x.html"], "there is no text; give TEXT"),
        (["{small}", "a cat", "--out", "{tmp}/x.html", "--layers", "2"], "layers has 2; the model has 2"),
        (["{small}", "word " * 40, "--out", "{tmp}/x.html"], "the model reads 32: shorten it"),
        (["{small}", "a", "--out", "{tmp}/x.svg", "--map-head", "9"], "head is 9; the layer has 2"),
        (["{small}", "a", "--out", "{tmp}/x.svg", "--picture", "cross"], "of is 'cross'; there are main, heads"),
        (["{small}", "a", "--out", "{tmp}/x.html", "--label", "x"], "give attribution too"),
    ],
)
def test_what_is_refused(gossamer: Command, small: Path, tmp_path: Path, args: list[str], said: str) -> None:
    done = gossamer("inspect", *(arg.format(small=small, tmp=tmp_path) for arg in args))
    assert done.code == 2
    assert said in done.err
    assert done.err.count("\n") == 1
    assert not os.listdir(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written(gossamer: Command, small: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    done = gossamer("inspect", small, TEXT, "--out", tmp_path / "x.html")
    assert (done.code, "may not be written to" in done.err) == (2, True)
