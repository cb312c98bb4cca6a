"""`gossamer summary --html`: a page of one model or two, and what is refused before a model is read."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import gossamer as gs
from gossamer.inspection import summary

Command = Callable[..., Any]


@pytest.fixture(scope="module")
def long(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made, _ = gs.lengthen(gs.load(small), to=128, window=16)
    return gs.save(made, tmp_path_factory.mktemp("long") / "model")


def test_a_page_of_one_model(gossamer: Command, small: Path, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    done = gossamer("summary", small, "--lengths", "16,64", "--html", out)
    assert (done.code, done.out) == (0, "")
    assert done.error == f"gossamer: {out}: {out.stat().st_size / 1000:,.0f} kB"
    assert out.read_text(encoding="utf-8") == summary(gs.load(small), (16, 64)).html()


def test_a_page_of_two_models(gossamer: Command, small: Path, long: Path, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    done = gossamer("summary", small, long, "--lengths", "16,64", "--html", out, "--json")
    assert done.code == 0
    first, other = (summary(gs.load(one), (16, 64)) for one in (small, long))
    assert done.json == json.loads(json.dumps({"models": [first.to_dict(), other.to_dict()]}))
    assert out.read_text(encoding="utf-8") == first.html(other)
    assert "Layers 0–1: pattern full → window 8+8 | global." in out.read_text(encoding="utf-8")


def test_costs_by_layer_in_json(gossamer: Command, small: Path) -> None:
    data = gossamer("summary", small, "--lengths", "16", "--json").json
    layers = data["costs"][0]["layers"]
    assert [(one["number"], one["of_decoder"]) for one in layers] == [(0, False), (1, False)]
    assert sum(one["pair_flops"] for one in layers) == data["costs"][0]["pair_flops"]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["/nowhere", "--html", "{empty}/page.txt"], "page.txt: the name must end in .html"),
        (["/nowhere", "--html", "{empty}/none/page.html"], "there is no directory"),
        (["/nowhere", "/neither", "--html", "{empty}/page"], "the name must end in .html"),
        (["/nowhere", "/neither"], "a second model stands beside the first on a page: add --html FILE"),
        (["/nowhere", "/neither", "--json"], "add --html FILE, or run gossamer compare"),
        (["{small}", "/neither", "--html", "{empty}/page.html"], "/neither"),
    ],
)
def test_mistakes_are_told_in_one_line(
    gossamer: Command, small: Path, tmp_path: Path, args: list[str], said: str
) -> None:
    done = gossamer("summary", *[one.format(empty=tmp_path, small=small) for one in args])
    assert done.code == 2
    if "--json" not in args:
        assert said in done.error
        assert done.out == ""
    assert said in done.out + done.err
    assert not list(tmp_path.iterdir())


def test_a_folder_without_permission_is_refused_before_a_model_is_read(
    gossamer: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Root may write anywhere: what the system would say is said for it.
    monkeypatch.setattr(os, "access", lambda path, mode: not (str(path) == str(tmp_path) and mode & os.W_OK))
    done = gossamer("summary", "/nowhere", "--html", tmp_path / "page.html")
    assert done.code == 2
    assert "may not be written to; name another one" in done.error


def test_an_old_page_stays_where_the_model_cannot_be_read(gossamer: Command, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    out.write_text("old")
    assert gossamer("summary", "/nowhere", "--html", out).code == 2
    assert out.read_text() == "old"
    assert [one.name for one in tmp_path.iterdir()] == ["page.html"]
