"""What a summary shows, and that it agrees with the model."""

import dataclasses
import io
import json
from pathlib import Path

import pytest
import torch
from drawn import architectures
from hypothesis import given
from rich.console import Console

import gossamer as gs
from gossamer.errors import InputError
from gossamer.inspection import Node, cost, summary
from gossamer.inspection.page import flops_text, size_text
from gossamer.models import Architecture, Model, SequenceClassification
from gossamer.models.decoders import decoder
from gossamer.patterns import Full, Global, PerHead, Window


@pytest.fixture(scope="module")
def model(minilm: Path) -> Model:
    return gs.load(minilm)


def windowed(architecture: Architecture, pattern: object) -> Architecture:
    layers = tuple(
        dataclasses.replace(one, attention=dataclasses.replace(one.attention, pattern=pattern, global_projections=True))
        for one in architecture.layers
    )
    return dataclasses.replace(architecture, layers=layers)


def leaves(node: Node) -> int:
    return sum(leaves(one) for one in node.children) if node.children else node.parameters


def names(node: Node) -> list[str]:
    return [node.name, *(name for one in node.children for name in names(one))]


@given(architectures())
def test_the_tree_adds_up(architecture: Architecture) -> None:
    found = summary(architecture, lengths=(5,))
    assert found.parameters == sum(one.numel() for one in Model(architecture).parameters())
    assert leaves(found.root) == found.parameters
    assert sum(one.parameters for one in found.root.children) == found.parameters


@given(architectures())
def test_any_architecture_prints_and_reads_as_json(architecture: Architecture) -> None:
    found = summary(architecture, lengths=(5, 100))
    data = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert Architecture.from_dict(data["architecture"]) == architecture
    assert [one["readable"] for one in data["costs"]] == [True, False]
    assert f"{found.parameters:,} parameters" in str(found)


def test_the_sample_model_on_one_page(model: Model) -> None:
    text = str(summary(model))
    for shown in ("layers 0–5", "6 alike", "12 heads × 32", "30,522 × 384", "22,713,216", "90.9 MB", "embed: mean"):
        assert shown in text
    assert "* reads 512 tokens at most; gossamer lengthen MODEL --to 16384 --out DIR" in text
    assert not any(line != line.rstrip() for line in text.splitlines())
    assert "full attention" not in text


def test_a_windowed_model_shows_its_pattern_and_what_full_attention_would_cost(model: Model) -> None:
    architecture = windowed(model.architecture, Window(32, 32) | Global())
    found = summary(architecture, lengths=(256, 512))
    text = str(found)
    assert "window 32+32 | global: who (rows) sees whom (columns), the first token flagged global" in text
    assert "█" in text
    assert "full attention" in text
    assert found.full_costs[1].flops == summary(model, lengths=(512,)).costs[0].flops
    assert found.costs[1].flops < found.full_costs[1].flops
    assert "global q, k, v" in names(found.root)


def test_groups_of_heads_are_told_apart(model: Model) -> None:
    pattern = PerHead((Window(8, 8), 4), (Full(), 8))
    found = summary(windowed(model.architecture, pattern), lengths=(64,))
    assert {"4 heads", "8 heads"} <= set(names(found.root))


def test_layers_that_differ_are_told_apart(model: Model) -> None:
    first, *rest = model.architecture.layers
    changed = dataclasses.replace(first, attention=dataclasses.replace(first.attention, pattern=Window(8, 8)))
    found = summary(dataclasses.replace(model.architecture, layers=(changed, *rest)), lengths=(8,))
    assert {"layer 0", "layers 1–5"} <= set(names(found.root))


def test_shared_weights_are_said_to_be(model: Model) -> None:
    layers = tuple(
        dataclasses.replace(one, feed_forward=dataclasses.replace(one.feed_forward, weights=0))
        for one in model.architecture.layers
    )
    found = summary(dataclasses.replace(model.architecture, layers=layers), lengths=(8,))
    assert "feed-forward: 1 weight set for 6 layers" in str(found)
    assert found.parameters == 22_713_216 - 5 * 1_182_336


def shared(architecture: Architecture, sets: list[int]) -> Architecture:
    layers = tuple(
        dataclasses.replace(
            one,
            attention=dataclasses.replace(one.attention, weights=number),
            feed_forward=dataclasses.replace(one.feed_forward, weights=number),
        )
        for one, number in zip(architecture.layers, sets, strict=True)
    )
    return dataclasses.replace(architecture, layers=layers)


@pytest.mark.parametrize(
    ("sets", "said"), [([0] * 6, "6 alike, 1 weight set for 6 layers"), ([0, 0, 0, 1, 1, 1], "6 alike, 2 weight sets")]
)
def test_layers_that_share_all_their_weights_say_so_once(model: Model, sets: list[int], said: str) -> None:
    found = summary(shared(model.architecture, sets), lengths=(8,))
    assert said in str(found)
    assert str(found).count("weight set") == 1
    assert "shared" not in names(found.root)


def test_a_windowed_classifier_counts_its_global_token(model: Model) -> None:
    head = SequenceClassification(labels=("bad", "good"))
    plain = dataclasses.replace(model.architecture, head=head, pooler=False)
    long = windowed(plain, Window(32, 32) | Global())
    found = summary(long, lengths=(256,))
    assert "sequence-classification, 2 labels: bad, good" in str(found)
    assert "one text, its first token global; 2 FLOPs" in str(found)
    assert found.costs[0] == cost(long, 256, global_tokens=1)
    assert found.to_dict()["costs"][0]["global_tokens"] == 1
    assert found.full_costs[0].flops == summary(plain, lengths=(256,)).costs[0].flops
    assert "its first token global" not in str(summary(plain, lengths=(256,)))


def test_bytes_follow_the_dtype(model: Model) -> None:
    half = summary(model.architecture, lengths=(8,), dtype=torch.bfloat16)
    assert half.to_dict()["bytes"] == 2 * half.parameters
    assert summary(Model(model.architecture).to(torch.float64), lengths=(8,)).dtype == "float64"


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("colour", [None, "truecolor"])
def test_the_page_fits_the_terminal(model: Model, width: int, colour: str | None) -> None:
    console = Console(width=width, record=True, color_system=colour, file=io.StringIO())
    console.print(summary(windowed(model.architecture, Window(256, 256) | Global())))
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= width
    assert any(line.startswith("├─ pooler") and "(unused by head)" in line for line in lines), "wrapped"


@pytest.mark.parametrize("lengths", [(0,), (-5,), (2.0,), (512, "many"), (2**40,)])
def test_impossible_lengths_are_refused(model: Model, lengths: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="lengths has"):
        summary(model, lengths)


def test_sizes_read_well() -> None:
    assert [size_text(n) for n in (0, 999, 1000, 90_852_864, 999_600, 10**12)] == [
        *("0 B", "999 B", "1.00 kB", "90.9 MB", "1.00 MB", "1.00 TB")
    ]
    assert flops_text(2.82e12) == "2.82 TFLOP"


def test_a_decoder_is_summed_up_and_not_to_be_lengthened() -> None:
    described = decoder(
        vocabulary_size=50, length=64, layers=2, hidden_size=16, heads=2, patterns=Window(7, 0), tied=False
    )
    found = summary(described, lengths=(32, 128))
    assert found.parameters == sum(one.numel() for one in Model(described).parameters())
    told = str(found)
    assert "causal-lm, a table of its own" in told
    assert "final norm" in told
    assert "of what is read" in told
    assert "reads 64 tokens at most" in told
    assert "lengthen" not in told
