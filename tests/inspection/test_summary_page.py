"""The page of a summary: its numbers are the summary's, its words say what differs, and nothing in it runs."""

from __future__ import annotations

import dataclasses
import re
from html import unescape
from pathlib import Path

import pytest
from drawn import architectures
from hypothesis import given, settings
from page_models import KINDS, WINDOW, encoder, small_decoder
from parsed_page import Element, parsed

import gossamer as gs
from gossamer.errors import InputError
from gossamer.inspection import Node, Summary, cost, summary
from gossamer.inspection.page import flops_text, size_text
from gossamer.inspection.summary_page.layer_facts import layer_facts
from gossamer.inspection.summary_page.model_facts import parts_of
from gossamer.inspection.summary_page.wording import number_change, ratio, spans
from gossamer.models import Architecture, Model, SequenceClassification
from gossamer.patterns import Full, Hashed, Window

LENGTHS = (8, 64, 200)
HOSTILE = "</script><img src=x onerror=alert(1)>"
EVERY = pytest.mark.parametrize("kind", KINDS)


def summed(architecture: Architecture) -> Summary:
    return summary(architecture, LENGTHS)


def page_of(first: Architecture, other: Architecture | None = None) -> Element:
    return parsed(summed(first).html(None if other is None else summed(other)))


def table(page: Element, title: str) -> list[list[str]]:
    return page.one("div", aria_label=title).one("table").rows()


def layer_numbers(told: str) -> list[int]:
    ends = [[int(one) for one in part.split("–")] for part in told.split(", ")]
    return [number for one in ends for number in range(one[0], one[-1] + 1)]


def tree_lines(page: Element) -> list[list[str]]:
    """Name, what each model has, and the mark, of every part."""
    tree = page.one("div", class_="tree")
    lines = [*tree.all("summary"), *tree.all("div", class_="line")]
    shown = ("name", "cell", "mark")
    cells = [[one for one in line.all("span") if (one.attributes["class"] or "").split()[0] in shown] for line in lines]
    return [[one.text for one in line] for line in cells]


def nodes(root: Node) -> list[Node]:
    return [root, *(node for one in root.children for node in nodes(one))]


@EVERY
def test_the_tree_is_the_summarys(kind: str) -> None:
    found, page = summed(KINDS[kind]), page_of(KINDS[kind])
    lines = tree_lines(page)
    wanted = []
    for one in nodes(found.root):
        count = f" {one.parameters:,} {size_text(4 * one.parameters)}" if one.parameters else ""
        wanted.append([one.name, f"{one.text}{count}".strip()])
    assert sorted(lines) == sorted([name, " ".join(text.split())] for name, text in wanted)


@EVERY
def test_sizes_and_costs_are_the_summarys(kind: str) -> None:
    found, page = summed(KINDS[kind]), page_of(KINDS[kind])
    facts = {row[0]: row[1] for row in table(page, "The whole")[1:]}
    assert facts["parameters"] == f"{found.parameters:,}"
    assert facts["bytes of weights"] == f"{4 * found.parameters:,}"
    assert facts["layers"] == str(len(found.architecture.layers))
    parts = [int(row[1].replace(",", "")) for row in table(page, "Parameters by part")[1:]]
    assert sum(parts) == found.parameters
    rows = table(page, "Cost by length")[1:]
    assert [row[0] for row in rows] == [f"{n:,}" for n in LENGTHS]
    for row, one in zip(rows, found.costs, strict=True):
        beyond = "*" if one.length > found.architecture.length else ""
        assert row[1] == flops_text(one.flops) + beyond
        assert row[3] == size_text(one.peak)
    assert (rows[0][4] == "it has that") == (not found.full_costs)


@EVERY
def test_each_layer_has_its_pattern_sizes_and_costs(kind: str) -> None:
    architecture = KINDS[kind]
    found, page = summed(architecture), page_of(architecture)
    stacks = {"Layers": architecture.layers}
    if architecture.decoder is not None:
        stacks["Decoder layers"] = architecture.decoder.layers
    for title, layers in stacks.items():
        rows = {number: row for row in table(page, title)[2:] for number in layer_numbers(row[0])}
        assert list(rows) == list(range(len(layers)))
        for i, layer in enumerate(layers):
            row, one = rows[i], layer.attention
            assert row[1] == (str(one.pattern) if one.heads else "none")
            assert row[2].startswith(f"{one.heads} head" if one.heads else "no heads")
            assert row[3].startswith(f"{layer.feed_forward.width} wide" if layer.feed_forward.width else "no neurons")
            for j, whole in enumerate(found.costs):
                mine = next(x for x in whole.layers if (x.number, x.of_decoder) == (i, title != "Layers"))
                assert row[6 + 2 * j : 8 + 2 * j] == [flops_text(mine.flops), size_text(mine.activations)]


@EVERY
def test_each_pattern_has_its_picture_once(kind: str) -> None:
    architecture = KINDS[kind]
    page = page_of(architecture)
    layers = [*architecture.layers, *(architecture.decoder.layers if architecture.decoder else ())]
    wanted = dict.fromkeys(str(one.attention.pattern) for one in layers if one.attention.heads)
    figures = page.one("section", id="patterns").all("figure")
    assert [one.one("b").text for one in figures] == list(wanted)
    assert all(one.all("svg")[0].all("path") for one in figures)
    drawn = {one.all("svg")[0].attributes["id"] for one in figures}
    used = {(one.attributes["href"] or "").removeprefix("#") for one in page.all("use")}
    assert used == drawn
    assert ("there is no attention" in page.text) == (not wanted)


@EVERY
def test_beside_itself_nothing_differs(kind: str) -> None:
    page = page_of(KINDS[kind], KINDS[kind])
    assert "Both descriptions are the same." in page.text
    assert "≠" not in page.text
    assert not [one for tag in ("tr", "tbody", "details", "div") for one in page.all(tag, class_="differs")]


@given(architectures(), architectures())
@settings(max_examples=10)
def test_any_two_stand_beside_each_other(first: Architecture, other: Architecture) -> None:
    page = page_of(first, other)
    rows = table(page, "Layers")[2:]
    numbers = [number for row in rows[::2] for number in layer_numbers(row[0])]
    assert numbers == list(range(max(len(first.layers), len(other.layers))))


@given(architectures())
def test_layers_and_parts_add_up(architecture: Architecture) -> None:
    found, known = summary(architecture, (5, 30)), cost(architecture, 1)
    facts = layer_facts(found, {part.name: part.parameters for part in known.parts})
    parts = parts_of(known)
    inside = ("attention", "cross-attention", "distances", "feed-forward")
    assert sum(one.parameters for one in facts) == sum(count for name, count in parts.items() if name in inside)
    for i, whole in enumerate(found.costs):
        names = ("attention", "feed_forward", "distance_bias")
        of_parts = [part for part in whole.parts if part.name.split(".")[0] in names]
        assert sum(one.costs[i].flops for one in facts) == sum(part.flops for part in of_parts)
        assert sum(one.costs[i].pair_flops for one in facts) == whole.pair_flops
        assert max(one.costs[i].activations for one in facts) <= whole.activations


def test_layers_that_share_weights_have_costs_of_their_own() -> None:
    """That of a layer is its pattern's, whosever weights it has."""
    patterns = [Window(2, 2), Full(), Window(4, 4)]
    ours, shared = (cost(encoder(patterns, sets=sets), 64).layers for sets in ((0, 1, 2), (0, 0, 0)))
    assert shared == ours
    assert shared[0].pair_flops < shared[2].pair_flops < shared[1].pair_flops


def test_pruned_beside_the_original() -> None:
    original, pruned = encoder(), encoder(heads=(4, 1, 0), widths=(20, 20, 7))
    page = page_of(original, pruned)
    told = page.one("section", id="changes").text
    assert "Layer 1: attention 4 heads × 4 → 1 head × 4." in told
    assert "Layer 2: attention 4 heads × 4 → no heads; pattern full → none; feed-forward 20 wide → 7 wide." in told
    assert "layers.1.attention.heads: 4 != 1" in told
    rows = table(page, "Layers")[2:]
    assert [row[:2] for row in rows[::2]] == [
        ["0", "same"], ["1", "≠ attention"], ["2", "≠ attention, pattern, feed-forward"]
    ]  # fmt: skip
    ours, theirs = (cost(one, 64).layers[1].flops for one in (original, pruned))
    assert rows[3][8] == f"{flops_text(theirs)} {ratio(theirs, ours)}"
    lines = {line[0]: line for line in tree_lines(page) if line[0].startswith("layer")}
    assert list(lines) == ["layer 0", "layer 1", "layer 2"], "layers stand by number"
    assert lines["layer 0"][3] == ""
    assert re.fullmatch(r"≠ differs: −\d+ \(×0\.\d+\) parameters", lines["layer 1"][3])


def test_lengthened_beside_the_original(minilm: Path) -> None:
    original = gs.load(minilm)
    long, _ = gs.lengthen(original, to=2048, window=256)
    first, other = summary(original, (512, 2048)), summary(long, (512, 2048))
    page = parsed(first.html(other))
    told = page.one("section", id="changes").text
    assert "Tokens read at once: 512 → 2,048, ×4." in told
    assert "Layers 0–5: pattern full → window 128+128 | global." in told
    facts = {row[0]: row[1:] for row in table(page, "The whole")[1:]}
    assert facts["parameters"] == [
        f"{first.parameters:,}", f"{other.parameters:,}",
        f"≠ {number_change(first.parameters, other.parameters)}",
    ]  # fmt: skip
    assert facts["layers"] == ["6", "6", "same"]
    rows = table(page, "Cost by length")[1:]
    a, b = first.costs[1], other.costs[1]
    assert rows[2][:3] == ["2,048", "A", f"{flops_text(a.flops)}*"]
    assert rows[3][:2] == ["B", f"{flops_text(b.flops)} (×{b.flops / a.flops:.3g})"]
    assert rows[3][3] == f"{size_text(b.peak)} (×{b.peak / a.peak:.3g})"
    assert "* A reads 512 tokens at most." in page.text
    marks = {line[0]: line[-1] for line in tree_lines(page)}
    assert marks["global q, k, v"] == "≠ only in B"
    assert marks["pattern"] == "≠ differs"
    assert marks["feed-forward"] == ""


def test_shared_beside_the_original() -> None:
    page = page_of(encoder(), encoder(sets=(0, 0, 0)))
    assert "Layers 0–2: weights its own → shared by 0–2." in page.one("section", id="changes").text
    facts = {row[0]: row[1:] for row in table(page, "The whole")[1:]}
    assert facts["weight sets of attention"] == ["3", "1", "≠ −2 (×0.333)"]
    assert "1 weight set for 3 layers" in page.one("div", class_="tree").text


def test_fewer_layers_are_said_to_be_missing() -> None:
    page = page_of(encoder(), KINDS["one layer"])
    rows = table(page, "Layers")[2:]
    assert [row[:2] for row in rows[::2]] == [["0", "same"], ["1–2", "≠ only in A"]]
    assert rows[3] == ["B", "no such layer"]
    assert "Layers 1–2: only in A." in page.text
    marks = {line[0]: line[-1] for line in tree_lines(page) if line[0].startswith("layer")}
    assert marks == {"layer 0": "", "layers 1–2": "≠ only in A"}


def test_a_decoder_beside_an_encoder_decoder() -> None:
    page = page_of(small_decoder(Window(7, 0)), KINDS["two texts"])
    assert {row[1] for row in table(page, "Decoder layers")[2::2]} == {"≠ only in B"}


def test_what_only_a_setting_changes_is_listed() -> None:
    first = encoder([WINDOW] * 3)
    other = first.with_layers(
        lambda one: dataclasses.replace(one, attention=dataclasses.replace(one.attention, dropout=0.3))
    )
    told = page_of(first, other).one("section", id="changes")
    assert "every field of the descriptions that differs (3)" in told.text
    assert "layers.0.attention.dropout: 0.1 != 0.3" in [one.text for one in told.all("code")]


@pytest.mark.parametrize("two", [False, True])
def test_names_and_labels_that_are_markup_show_as_text(two: bool) -> None:
    head = SequenceClassification(labels=(HOSTILE, '"><svg onload=alert(1)>'))
    model = Model(encoder(head=head), family="bert")
    model.source = f"models/{HOSTILE}"
    found = summary(model, LENGTHS)
    text = found.html(found if two else None)
    page = parsed(text)  # which allows no script, image or handler
    assert HOSTILE not in text
    assert f"models/{HOSTILE} (bert)" in page.one("header").text
    assert HOSTILE in page.one("head").one("title").text
    assert HOSTILE in page.one("div", class_="tree").text
    frame = found._repr_html_()
    assert HOSTILE not in frame
    assert frame.count("<") == 2, "the frame alone"


@EVERY
def test_the_page_asks_for_nothing_and_runs_nothing(kind: str) -> None:
    text = summed(KINDS[kind]).html()
    page = parsed(text)
    policy = page.one("meta", http_equiv="Content-Security-Policy").attributes["content"]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert "script" not in text.replace("every field of the descriptions", "").replace("description", "")
    assert not re.search(r"url\((?!#)|@import|https?://(?!www\.w3\.org/2000/svg)", text)
    assert page.one("html").attributes["lang"] == "en"
    ids = re.findall(r' id="([^"]*)"', text)
    assert len(ids) == len(set(ids))
    for link in page.all("a"):
        assert (link.attributes["href"] or "").removeprefix("#") in ids


def test_charts_show_the_numbers() -> None:
    page = page_of(KINDS["windows"], KINDS["encoder"])
    lines = page.one("section", id="cost").all("svg", class_="chart")
    assert len(lines) == 2
    assert [len(one.all("polyline")) for one in lines] == [3, 2], "A, B, and A with full attention"
    assert {one.text for one in lines[1].all("text", class_="end")} & {"A", "B", "A, B"}
    bars = page.one("section", id="layers").all("svg", class_="chart")
    assert len(bars) == 2 * len(LENGTHS)
    for i, one in enumerate(bars):
        heights = [float(bar.attributes["height"] or 0) for bar in one.all("rect", class_="bar")]
        costs = [cost(KINDS[kind], LENGTHS[i // 2], global_tokens=0).layers for kind in ("windows", "encoder")]
        values = [(layer.activations if i % 2 else layer.flops) for pair in zip(*costs, strict=True) for layer in pair]
        scaled = [height * max(values) / max(heights) for height in heights]
        assert scaled == pytest.approx(values, rel=0.01)


def test_a_length_of_its_own_and_none() -> None:
    assert "FLOPs, 1 token " in parsed(summary(encoder(), (1,)).html()).text
    assert "No lengths were asked for." in parsed(summary(encoder(), ()).html()).text


def test_summaries_at_other_lengths_are_refused() -> None:
    with pytest.raises(InputError, match=r"costs are told at the lengths \[8\] and \[16\]"):
        summary(encoder(), (8,)).html(summary(encoder(), (16,)))


def test_a_long_model_is_drawn_in_part() -> None:
    page = page_of(encoder([Window(512, 512)] * 3, length=100_000))
    assert "the first 4,096 of 100,000 tokens" in page.text
    hashed = page_of(small_decoder(Hashed(rounds=2, buckets=4, chunk=8)))
    assert "depends on what the tokens hash to" in hashed.text


def test_a_page_of_many_layers_stays_small() -> None:
    many = encoder([Full(), Window(4, 4)] * 48, heads=[4] * 96, widths=[20] * 96, sets=range(96))
    assert len(summed(many).html(summed(many))) < 600_000


def test_it_is_saved_whole_or_not_at_all(tmp_path: Path) -> None:
    found = summed(encoder())
    found.save(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == found.html()
    found.save(str(tmp_path / "page.html"), summed(KINDS["shared"]))
    assert "What changed from A to B" in (tmp_path / "page.html").read_text(encoding="utf-8")
    with pytest.raises(InputError, match=r"page.txt: the name must end in .html"):
        found.save(tmp_path / "page.txt")
    with pytest.raises(InputError, match="there is no directory"):
        found.save(tmp_path / "none" / "page.html")
    assert [one.name for one in tmp_path.iterdir()] == ["page.html"]


def test_a_notebook_shows_the_page_in_a_frame() -> None:
    found = summed(encoder())
    frame = found._repr_html_()
    assert frame.startswith("<iframe ")
    assert found.html() in unescape(frame)


def test_numbers_in_words() -> None:
    assert spans([0, 1, 2, 5, 7, 8]) == "0–2, 5, 7–8"
    assert number_change(3, 3) == "same"
    assert number_change(4, 2) == "−2 (×0.5)"
    assert number_change(0, 2) == "+2"
