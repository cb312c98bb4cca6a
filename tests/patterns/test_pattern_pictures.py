"""Pictures for terminals and pages."""

from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from pattern_strategies import flat, places

from gossamer.patterns import Fixed, Full, Global, PerHead, Strided, Window

SVG = "{http://www.w3.org/2000/svg}"


def flagged(length: int, *places: int) -> torch.Tensor:
    return torch.zeros(length, dtype=torch.bool).index_fill(0, torch.tensor(places), True)


def colours(svg: str) -> set[str]:
    return {path.get("fill") for path in ElementTree.fromstring(svg).iter(f"{SVG}path")}


def test_a_small_text_picture():
    assert (Window(1, 1) | Global()).text(6, flags=flagged(6, 1)).split("\n") == [
        "██    ",
        "██████",
        " ███  ",
        " ████ ",
        " █ ███",
        " █  ██",
    ]


def test_the_pictures_of_the_sparse_transformer():
    assert Strided(3).text(8).split("\n") == [
        "█       ",
        "██      ",
        "███     ",
        "████    ",
        " ████   ",
        "  ████  ",
        "█  ████ ",
        " █  ████",
    ]
    assert Fixed(3, 1).text(8).split("\n") == [
        "█       ",
        "██      ",
        "███     ",
        "  ██    ",
        "  ███   ",
        "  ████  ",
        "  █  ██ ",
        "  █  ███",
    ]


def test_the_pictures_of_the_docs_are_the_code_s():
    images = Path(__file__).parents[2] / "docs" / "images"
    for name, pattern in (("strided", Strided(8)), ("fixed", Fixed(8, 2))):
        assert (images / f"{name}.svg").read_text() == pattern.svg(48, size=240) + "\n"


@given(flat, places(lead=False))
def test_small_text_is_the_mask(pattern, place):
    mask = pattern.mask(**place)
    assume(mask.numel())
    assert pattern.text(**place) == "\n".join("".join(" █"[seen] for seen in row) for row in mask.tolist())


@given(flat, st.integers(1, 6), st.integers(1, 6), st.sampled_from([0, 5]))
def test_a_shade_is_the_share_of_allowed_pairs(pattern, high, wide, start):
    place = {"queries": 3 * high, "keys": 3 * wide, "query_start": start, "flags": flagged(3 * wide, 0, wide)}
    mask = pattern.mask(**place).double()
    share = mask.unflatten(0, (3, high)).unflatten(2, (3, wide)).mean((1, 3))
    shades = [["█" if s == 1 else " " if s == 0 else "░▒▓"[int(3 * s + 1e-9)] for s in row] for row in share.tolist()]
    assert pattern.text(**place, width=3) == "\n".join("".join(row) for row in shades)


def test_heads_are_drawn_one_below_the_other():
    text = PerHead((Window(0, 0), 2), (Full(causal=True), 1)).text(2)
    assert text == "2 x window 0+0\n█ \n █\n\n1 x causal full\n█ \n██"


def test_the_svg_of_a_long_text_is_small():
    svg = (Window(256, 256) | Global()).svg(8192, flags=flagged(8192, 0, 4000))
    assert len(svg) < 100_000
    root = ElementTree.fromstring(svg)
    assert root.tag == f"{SVG}svg"
    assert root.get("role") == "img"
    assert root.find(f"{SVG}title").text == "window 256+256 | global: 8192 queries (rows) by 8192 keys (columns)"
    assert len(colours(svg)) == 2


@pytest.mark.parametrize("length", [96, 97, 191])
def test_the_busiest_svg_is_small(length):
    assert len((Window(99, 99, dilation=2) | Global()).svg(length, flags=flagged(length, 3))) < 100_000
    assert len(PerHead(*[(Window(99, 99, dilation=2), 1)] * 16).svg(length)) < 100_000
    assert len(Strided(2, "column").svg(length)) < 100_000
    assert len(Fixed(2, 1, "summary").svg(length)) < 100_000


def test_an_svg_says_nothing_of_global_tokens_that_are_not_there():
    assert len(colours(Window(1, 1).svg(9))) == 1
    assert colours((Window(1, 1) | Global()).svg(9)) == colours(Window(1, 1).svg(9))
    assert colours(Global().svg(9, flags=flagged(9, 2))) != colours(Window(1, 1).svg(9))


@given(flat, places(lead=False))
def test_the_paths_of_an_svg_are_the_mask(pattern, place):
    mask = pattern.mask(**place)
    assume(mask.numel())
    drawn = torch.zeros_like(mask)
    for path in ElementTree.fromstring(pattern.svg(**place)).iter(f"{SVG}path"):
        for step in path.get("d").split("z")[:-1]:
            corner, rest = step[1:].split("h", 1)
            column, row = map(int, corner.split())
            assert not drawn[row, column]
            drawn[row, column : column + int(rest.split("v")[0])] = True
    assert torch.equal(drawn, mask)


def test_each_group_of_heads_has_a_panel():
    root = ElementTree.fromstring(PerHead((Window(1, 1), 2), (Full(), 1), (Global(), 3)).svg(20))
    titles = [panel.find(f"{SVG}title").text for panel in root.iter(f"{SVG}g")]
    assert titles == ["2 x window 1+1", "1 x full", "3 x global"]
    assert float(root.get("width")) == 320
