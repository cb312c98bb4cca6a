"""Models side by side: what is counted, the form of what is measured, and what is refused; never times."""

import json
import math
import re
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from drawn_models import bert

import gossamer as gs
from gossamer.errors import InputError
from gossamer.inspection.cost import cost
from gossamer.inspection.report import ReportTable, markdown_table
from gossamer.metrics import paired_difference
from gossamer.models import Model
from gossamer.recipes.receipts import measure
from gossamer.recipes.receipts.comparison import ComparedRow, Comparison, Making, compare, unique_names
from gossamer.recipes.receipts.measure import exchanged_bytes, measure_latency
from gossamer.recipes.receipts.peak_memory import peak_memory
from gossamer.recipes.receipts.receipt import Receipt
from gossamer.training.receipt import TrainingReceipt

CONFIG = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 32,
}


def encoder(head: str | None = None, **changes: Any) -> Model:
    return bert({**CONFIG, **changes}, head)


@pytest.fixture(scope="module")
def pair() -> dict[str, Model]:
    return {"teacher": encoder(), "student": encoder(num_hidden_layers=2, max_position_embeddings=16)}


def counted(models: Any, **settings: Any) -> Comparison:
    return compare(models, latency=False, memory=False, **settings)


def row(comparison: Comparison, name: str) -> ComparedRow:
    (found,) = (row for row in comparison.rows if row.name == name)
    return found


def test_what_is_counted(pair: dict[str, Model]) -> None:
    comparison = counted(pair, tokens=(8, 128, 512), processes=4)
    sizes = [sum(weight.numel() for weight in model.parameters()) for model in pair.values()]
    assert comparison.models == ("teacher", "student")
    assert row(comparison, "parameters").values == tuple(sizes)
    assert row(comparison, "FLOPs, 1 x 8 tokens").values == tuple(
        cost(model.architecture, 8).flops for model in pair.values()
    )
    # 128 and 512 are cut to the 32 that the longer one reads; the shorter one does not.
    assert row(comparison, "FLOPs, 1 x 32 tokens").values == (cost(pair["teacher"].architecture, 32).flops, None)
    assert row(comparison, "sent a step by each of 4 processes").values == tuple(size * 4 * 6 // 4 for size in sizes)
    disk = row(comparison, "weights on disk").values
    assert all(4 * size < stored < 4 * size + 8000 for size, stored in zip(sizes, disk, strict=True) if stored)
    assert row(comparison, "parameters").relative(1) == sizes[1] / sizes[0]
    assert f"| {sizes[1]:,} ({sizes[1] / sizes[0]:.3g}x)" in str(comparison)
    assert [row.name for row in comparison.rows].count("FLOPs, 1 x 32 tokens") == 1


def test_only_what_learns_is_sent(pair: dict[str, Model]) -> None:
    model = encoder()
    model.embeddings.requires_grad_(False)
    frozen = sum(weight.numel() for weight in model.embeddings.parameters())
    values = row(counted([pair["teacher"], model]), "sent a step by each of 2 processes").values
    assert values[0] is not None
    assert values[1] == values[0] - 4 * frozen


def test_rounds_are_in_turn_and_the_median_is_told(monkeypatch: pytest.MonkeyPatch, pair: dict[str, Model]) -> None:
    """With a clock of its own: the seconds of a pass are 1, 2, 3 ... in the order in which passes are made."""
    order: list[str] = []
    threads_seen = set()
    before = torch.get_num_threads()

    def sample(model: Model, inputs: torch.Tensor, at_least: float = 1) -> float:
        threads_seen.add(torch.get_num_threads())
        order.append(next(name for name, each in pair.items() if each is model))
        return float(len(order))

    monkeypatch.setattr(measure, "_sample", sample)
    (timed,) = measure_latency(pair, batches=(2,), tokens=(8,), threads=(before + 1,), rounds=3)
    assert order == ["teacher", "student", *["teacher", "student"], *["student", "teacher"], *["teacher", "student"]]
    assert threads_seen == {before + 1}
    assert torch.get_num_threads() == before
    assert timed.seconds == {"teacher": (4.5, 6, 6.5), "student": (4.5, 5, 6.5)}
    assert (timed.median("teacher"), timed.rounds, timed.batch) == (6, 3, 2)


def test_threads_are_given_back_after_an_error(monkeypatch: pytest.MonkeyPatch, pair: dict[str, Model]) -> None:
    def fail(*arguments: Any, **options: Any) -> float:
        raise KeyboardInterrupt

    before = torch.get_num_threads()
    monkeypatch.setattr(measure, "_sample", fail)
    with pytest.raises(KeyboardInterrupt):
        measure_latency(pair, tokens=(8,), threads=(before + 1,))
    assert torch.get_num_threads() == before


def test_measuring_changes_no_model(pair: dict[str, Model]) -> None:
    model = pair["teacher"]
    model.train()
    ids = torch.arange(1, 9)[None]
    expected = {name: weight.clone() for name, weight in model.state_dict().items()}
    (timed,) = measure_latency(pair, batches=(1,), tokens=(32,), threads=(1,), rounds=2)
    assert timed.seconds["student"] is None
    quartiles = timed.seconds["teacher"]
    assert quartiles is not None
    assert 0 < quartiles[0] <= quartiles[1] <= quartiles[2]
    assert model.training
    assert all(torch.equal(weight, expected[name]) for name, weight in model.state_dict().items())
    assert all(weight.grad is None for weight in model.parameters())
    model.eval()
    assert torch.equal(model(ids).last_hidden_state, model(ids).last_hidden_state)


@pytest.mark.parametrize("head", [None, "masked-lm", "embed"])
def test_every_head_is_timed(head: str | None) -> None:
    models = {"a": encoder(head), "b": encoder(head)}
    (timed,) = measure_latency(models, batches=(2,), tokens=(8,), threads=(1,), rounds=1)
    assert all(quartiles is not None and quartiles[0] == quartiles[2] for quartiles in timed.seconds.values())


@pytest.mark.slow
def test_peak_memory_holds_the_weights_and_the_pass(tmp_path: Any) -> None:
    """In a process of its own; 24 MB of weights, of which a pass needs every one, beside a small model."""
    small = gs.save(encoder(), tmp_path / "small")
    wide = gs.save(encoder(vocab_size=90_000, hidden_size=64, num_hidden_layers=1), tmp_path / "wide")
    little, much = peak_memory(small, tokens=16), peak_memory(wide, tokens=16)
    assert much > little + 20 * 2**20
    with pytest.raises(gs.GossamerError, match=r"measuring memory, a process of its own ended with status 1: .*none"):
        peak_memory(tmp_path / "none")


def test_scores_are_compared_in_pairs(pair: dict[str, Model]) -> None:
    first, second = [1, 0, 1, 1, 0, 1], [1, 0, 0, 1, 0, 0]
    comparison = counted(pair, scores={"accuracy": {"teacher": first, "student": second}}, groups=list("aabbcc"))
    scored = row(comparison, "accuracy")
    assert scored.values == pytest.approx((4 / 6, 2 / 6))
    assert scored.differences == (None, paired_difference(second, first, list("aabbcc")))
    assert f"0.3333, {scored.differences[1]} |" in str(comparison)
    alone = counted(pair, scores={"accuracy": {"student": second}})
    assert row(alone, "accuracy").values == (None, pytest.approx(2 / 6))
    assert row(alone, "accuracy").differences == (None, None)


def test_seeds_of_a_score_are_told_apart_and_averaged_for_the_difference(pair: dict[str, Model]) -> None:
    first, seeds = [1, 0, 1, 1], [[1, 0, 0, 1], [0, 0, 0, 1], [1, 1, 0, 1]]
    scored = row(counted(pair, scores={"accuracy": {"teacher": first, "student": seeds}}), "accuracy")
    assert scored.values == pytest.approx((3 / 4, 6 / 12))
    assert scored.spreads == (None, pytest.approx((1 / 4, 3 / 4)))
    assert scored.differences == (None, paired_difference([2 / 3, 1 / 3, 0, 1], first))
    told = str(counted(pair, scores={"accuracy": {"teacher": first, "student": seeds}}))
    assert "0.5000 [0.2500 to 0.7500], -0.2500" in told


def test_what_it_cost_to_make(pair: dict[str, Model]) -> None:
    trained = TrainingReceipt(
        settings={}, source=None, steps=2, tokens=1000, seconds=90.0, ended="steps", loss=None, evaluation=None,
        best=None, parameters=1, trained=1, conditions={},
    )  # fmt: skip
    making = Making.of_training(trained, pair["student"], length=8)
    assert making.flops == pytest.approx(3 * 1000 / 8 * cost(pair["student"].architecture, 8).flops)
    comparison = counted(pair, made={"student": making})
    assert row(comparison, "time to make it").values == (None, 90.0)
    assert row(comparison, "tokens learnt from").values == (None, 1000)
    assert "| time to make it " in str(comparison)
    assert "90.0 s" in str(comparison)


def test_the_three_forms_tell_the_same(pair: dict[str, Model]) -> None:
    comparison = compare(pair, memory=False, batches=(1,), tokens=(8, 32), threads=(1,), rounds=2)
    fields = json.loads(json.dumps(comparison.to_dict()))
    assert [each["name"] for each in fields["rows"]] == [row.name for row in comparison.rows]
    assert fields["conditions"]["rounds"] == 2
    assert {"processor", "torch", "instruction_set"} <= set(fields["conditions"])
    table = comparison.table()
    for cell in (text for line in table.rows for text in line):
        assert cell in comparison.to_html()
    for line in table.rows:
        assert re.search("".join(rf"\| {re.escape(cell)} +" for cell in line), str(comparison))
    timed = row(comparison, "time, 1 x 32 tokens, 1 thread")
    assert (timed.values[1], timed.spreads and timed.spreads[1]) == (None, None)
    assert table.rows[-1][2] == "-"


HOSTILE = ["_under", "$x^$", "<script>alert(1)</script>", "a|b\n| c", "\x1b[31m\u202eabc", "模型", "x" * 500]


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_names_of_models_do_no_harm(pair: dict[str, Model], name: str) -> None:
    comparison = counted({"a": pair["teacher"], name: pair["student"]}, tokens=(8,))
    page = comparison.to_html()
    assert "<script" not in page
    assert not re.search(r'(src|href)="(?!#)', page)
    ElementTree.fromstring(page[page.index("<svg") : page.index("</svg>") + 6])
    assert all(
        line.count("|") - line.count("\\|") == 4 for line in str(comparison).splitlines() if line.startswith("|")
    )
    assert all(each.isprintable() for each in comparison.models)


def test_cells_of_markdown_stay_in_theirs() -> None:
    table = ReportTable(title="", head=("", "a|b"), rows=(("x", "1\n2"),))
    assert markdown_table(table) == "|     | a\\|b |\n| --- | ---- |\n| x   | 1 2  |"


def test_no_two_models_have_one_name() -> None:
    assert unique_names(["m", "m", "n", "m"]) == ["m", "m (2)", "n", "m (3)"]
    model = encoder()
    assert counted([model, model]).models == ("model 1", "model 2")


@pytest.mark.parametrize(("processes", "share"), [(1, 0), (2, 1), (4, 1.5), (8, 1.75)])
def test_a_ring_sends_each_byte_nearly_twice(processes: int, share: float) -> None:
    assert exchanged_bytes(8000, processes) == 8000 * share
    assert exchanged_bytes(1, 3) == math.ceil(4 / 3)


def test_scores_and_costs_without_numbers_are_refused_before_anything_is_measured(
    pair: dict[str, Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gossamer.recipes.receipts.comparison.save", lambda *arguments: pytest.fail("it measured"))
    cases: list[tuple[Callable[[], object], str]] = [
        (lambda: compare([pair["teacher"]]), "give two or more to compare, in a list or by name"),
        (lambda: compare("ab"), "models is 'ab'; give two or more"),  # type: ignore[arg-type]
        (lambda: compare([pair["teacher"], "x"]), "model is 'x', which names one; load it first"),  # type: ignore[list-item]
        (lambda: compare(pair, scores={"f1": {"nobody": [1]}}), "scores['f1'] has 'nobody', which is none of"),
        (lambda: compare(pair, made={"x": Making(seconds=1, tokens=1, flops=1)}), "made has 'x', which is none of"),
        (
            lambda: compare(pair, scores={"f1": {"teacher": [1], "student": [1, 2]}}),
            "scores['f1'] has vectors of [1, 2] values; give each model as many",
        ),
        (
            lambda: compare(pair, scores={"f1": {"teacher": [[1, 2], [1]]}}),
            "scores['f1']['teacher'] has seeds of [1, 2] values; give each as many",
        ),
        (lambda: compare(pair, scores={"f1": {"teacher": [math.nan]}}), "has 1 NaN or infinite entries"),
        (lambda: compare(pair, processes=0), "processes is 0; it must be a whole number, 1 or more"),
        (lambda: compare(pair, rounds=0), "rounds is 0; it must be a whole number, 1 or more"),
        (lambda: compare(pair, batches=(0,)), "batches is 0; it must be a whole number, 1 or more"),
        (lambda: compare(pair, tokens=(8, 1.5)), "tokens is 1.5; it must be a whole number, 1 or more"),  # type: ignore[arg-type]
        (lambda: compare({1: pair["teacher"], "x": pair["student"]}), "models has the name 1; names are texts"),  # type: ignore[dict-item]
        (
            lambda: compare([pair["teacher"], encoder().to("meta")]),
            "the device of model 2 is 'meta'; it must be the CPU: move it there to measure it",
        ),
        (lambda: compare(pair, threads=()), "threads is (); it must be one or more whole numbers in a list"),
    ]  # fmt: skip
    for call, message in cases:
        with pytest.raises(InputError, match=re.escape(message)):
            call()


def test_a_receipt_holds_the_comparison(pair: dict[str, Model]) -> None:
    long, receipt = gs.lengthen(pair["teacher"], to=64, window=8)
    assert "comparison" not in receipt.to_dict()
    beside = receipt.beside(pair["teacher"], long, latency=False, memory=False)
    assert beside.comparison is not None
    assert beside.comparison.models == ("before", "after")
    fields = json.loads(json.dumps(beside.to_dict()))
    assert fields["comparison"]["rows"][0]["name"] == "parameters"
    assert {name: value for name, value in fields.items() if name != "comparison"} == receipt.to_dict()
    assert str(beside) == f"{receipt}\n\n{beside.comparison}"
    assert str(beside.comparison) in beside.to_markdown()
    for page in (receipt.to_html(), beside.to_html()):
        assert page.count("<svg") == 1
        assert "positions: 32 learned rows" in page
        assert "relative difference at 5 tokens" in page
    assert "weights on disk" in beside.to_html()


def test_a_training_has_the_same_form(pair: dict[str, Model]) -> None:
    trained = TrainingReceipt(
        settings={}, source="<b>", steps=2, tokens=1000, seconds=90.0, ended="all steps", loss=0.5,
        evaluation={"f1": 0.25}, best=None, parameters=9, trained=9, conditions={"machine": "<i>"}, notes=("a <note>",),
    )  # fmt: skip
    page = trained.to_html()
    assert page.startswith("<!doctype html>")
    assert "held out: f1 0.2500" in page
    assert not re.search("<(b|i|note)>", page)
    receipt = Receipt.of_training("finetune", {"epochs": 3}, pair["teacher"], pair["student"], trained)
    assert receipt.to_dict()["measured"] == {"held_out_f1": 0.25}
    assert str(receipt).startswith("finetune(epochs=3) of a model\n  length      32 -> 16\n")
    assert str(receipt).count("a <note>") == 1
    assert receipt.to_html().count("<svg") == 1


def test_a_page_escapes_what_comes_from_files(pair: dict[str, Model]) -> None:
    model = encoder()
    model.source = "<img src=x onerror=alert(1)>"
    _, receipt = gs.lengthen(model, to=64, window=8)
    assert "<img" not in receipt.to_html()
    assert "&lt;img src=x" in receipt.to_html()
