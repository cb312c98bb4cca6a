"""gs.prune to a share of the model's time: what stays takes that by the table, in every family and while it learns."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from cut_models import drawn
from invented_times import invented, inventing

import gossamer as gs
from gossamer.models import Model
from gossamer.models.decoders import decoder
from gossamer.recipes.pruning.timing import _widths, measure_times
from gossamer.recipes.receipts import measure
from gossamer.settings import plain
from gossamer.text import byte_tokenizer
from gossamer.training import run as run_module
from gossamer.training.pruning.settings import Selection
from gossamer.training.pruning.time_table import TimeTable

FAMILIES = ("bert", "gpt2", "llama", "albert", "modernbert")
BOTH = ["heads", "neurons"]


def time_of(architecture: Any, table: TimeTable) -> float:
    """What layers of these widths take: all that are of a kind take the same in an invented table."""
    sets: dict[str, float] = {}
    for layer in architecture.layers:
        groups = layer.attention.key_heads or layer.attention.heads
        sets[f"attention.{layer.attention.weights}"] = table.parts["attention.0"].at(groups)
        sets[f"feed_forward.{layer.feed_forward.weights}"] = table.parts["feed_forward.0"].at(layer.feed_forward.width)
    return (table.rest + sum(sets.values())) / table.milliseconds({})


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("structure", "latency"), [(BOTH, 0.6), ("layers", 0.75)], ids=str)
def test_what_is_left_when_it_is_compacted_takes_what_the_receipt_says(
    family: str, structure: Any, latency: float
) -> None:
    model = drawn(family, dtype=torch.float32)
    table = invented(model)
    with inventing():
        new, receipt = gs.prune(model, score="random", structure=structure, scope="global", latency=latency)
    smaller, _ = gs.compact(new)
    by_the_table = receipt.measured["latency_by_the_table"]
    assert by_the_table <= latency
    assert by_the_table == pytest.approx(time_of(smaller.architecture, table), rel=1e-12)
    assert receipt.measured["latency_when_compacted"] == 0.75
    assert receipt.settings["latency"] == latency
    assert "keep" not in receipt.settings
    assert "8 texts of" in receipt.conditions["timed"]


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_one_unit_more_would_take_too_long(family: str) -> None:
    """Of each map so many units are kept as a share that is the same for all of them gives."""
    model = drawn(family, dtype=torch.float32)
    with inventing():
        _, receipt = gs.prune(model, score="magnitude", structure=BOTH, latency=0.7)
    table, layers = invented(model), model.architecture.layers
    size = layers[0].attention.key_heads or layers[0].attention.heads
    width = layers[0].feed_forward.width
    fitting = []
    for permille in range(1001):
        heads, neurons = round(permille / 1000 * size), round(permille / 1000 * width)
        parts = table.parts["attention.0"].at(heads) + table.parts["feed_forward.0"].at(neurons)
        share = (table.rest + len(layers) * parts) / table.milliseconds({})
        if share <= 0.7:
            fitting.append((share, f"{len(layers) * heads} of", f"{len(layers) * neurons} of"))
    share, *left = fitting[-1]
    assert receipt.measured["latency_by_the_table"] == pytest.approx(share, rel=1e-12)
    assert all(line.startswith(count) for line, count in zip(receipt.changes, left, strict=True))


def test_all_of_the_time_changes_nothing() -> None:
    model = drawn("bert", dtype=torch.float32)
    with inventing():
        new, receipt = gs.prune(model, score="magnitude", structure=BOTH, latency=1.0)
    assert all(torch.equal(one, model.state_dict()[name]) for name, one in new.state_dict().items())
    assert receipt.measured["latency_by_the_table"] == 1.0


def writer() -> Model:
    sizes = {"layers": 2, "hidden_size": 16, "heads": 4, "length": 32, "vocabulary_size": 257}
    torch.manual_seed(0)
    return Model(decoder(**sizes, patterns=[gs.Full(causal=True)]), family="gpt2", tokenizer=byte_tokenizer())


QUICK = {"journal.live": False, "threads": 1, "steps": 6, "checkpoints.every": 2, "data.split": "lines"}
LEARNT: dict[str, Any] = {
    "structure": BOTH, "scope": "global", "latency": 0.6, "batch": 4, "learning_rate": 0.01, "settings": QUICK,
}  # fmt: skip


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    (tmp_path / "texts.txt").write_text("\n".join(f"text {i} about nothing at all" for i in range(40)))
    return tmp_path / "texts.txt"


def killed(at: int, model: Model, texts: Path, **given: Any) -> None:
    """A pruning that ends in the middle of this step of all its trainings, counted on."""
    done, update = 0, run_module.Run.update

    def end(run: run_module.Run) -> None:
        nonlocal done
        done += 1
        if done == at:
            raise KeyboardInterrupt
        update(run)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module.Run, "update", end)
        with pytest.raises(KeyboardInterrupt):
            gs.prune(model, texts, **given)


def test_killed_while_it_is_pruned_it_goes_on_to_the_same_bits_by_the_same_table(tmp_path: Path, texts: Path) -> None:
    with inventing() as asked:
        whole, receipt = gs.prune(writer(), texts, output=tmp_path / "whole", **LEARNT)
        killed(4, writer(), texts, output=tmp_path / "killed", **LEARNT)
        assert len(asked) == 2
        again, _ = gs.prune(writer(), texts, output=tmp_path / "killed", resume="must", **LEARNT)
        assert all(torch.equal(one, whole.state_dict()[name]) for name, one in again.state_dict().items())
        assert len(asked) == 2, "who goes on reads the table of before"
    assert TimeTable.read(tmp_path / "whole" / "latency.json") == invented(writer())
    assert receipt.measured["latency_by_the_table"] <= 0.6
    lines = [json.loads(line) for line in (tmp_path / "whole" / "pruning" / "journal.jsonl").read_text().splitlines()]
    steps = [line for line in lines if line.get("split") == "train"]
    assert all(line["time"] <= line["latency"] for line in steps)
    assert (steps[0]["kept"], steps[0]["time"], steps[0]["latency"]) == (1.0, 1.0, 1.0)
    assert steps[-1]["latency"] == 0.6
    assert steps[-1]["time"] == receipt.measured["latency_by_the_table"]
    assert "keep" not in steps[0]


def test_the_table_of_another_model_is_refused(tmp_path: Path, texts: Path) -> None:
    (tmp_path / "out").mkdir()
    other = invented(drawn("bert", dtype=torch.float32))
    (tmp_path / "out" / "latency.json").write_text(json.dumps(plain(other)))
    with pytest.raises(
        gs.InputError, match=r"latency\.json: the table of times is another model's: attention\.2 has 0"
    ):
        gs.prune(writer(), texts, output=tmp_path / "out", **LEARNT)


def test_a_table_of_other_widths_or_of_a_wider_model_is_refused(tmp_path: Path, texts: Path) -> None:
    (tmp_path / "out").mkdir()
    table = plain(invented(writer()))
    table["parts"]["feed_forward.1"] = {"units": [0, 64], "milliseconds": [0.0, 9.0]}
    (tmp_path / "out" / "latency.json").write_text(json.dumps(table))
    with pytest.raises(
        gs.InputError, match=r"latency\.json has times for other structures, feed_forward\.1 at too few"
    ):
        gs.prune(writer(), texts, output=tmp_path / "out", **LEARNT)
    table = plain(invented(writer())) | {"conditions": {"model": "0123456789abcdef"}}
    (tmp_path / "out" / "latency.json").write_text(json.dumps(table))
    with pytest.raises(
        gs.InputError, match=r"latency\.json: the model of the table of times is '0123456789abcdef'; it"
    ):
        gs.prune(writer(), texts, output=tmp_path / "out", **LEARNT)


def test_a_run_whose_table_is_missing_is_not_measured_anew(tmp_path: Path, texts: Path) -> None:
    with inventing() as asked:
        killed(4, writer(), texts, output=tmp_path / "out", **LEARNT)
        (tmp_path / "out" / "latency.json").unlink()
        with pytest.raises(
            gs.InputError, match=r"latency\.json is missing, the times by which the run there is pruned"
        ):
            gs.prune(writer(), texts, output=tmp_path / "out", **LEARNT)
        assert len(asked) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"latency": 0.02}, r"^latency is 0\.02; what has to stay"),
        ({"resume": "must"}, r"holds no whole checkpoint to go on from"),
        ({"length": 64}, r"^batch\.length is 64; the model reads 32"),
        ({"settings": {**QUICK, "train_only": ["nothing"]}}, r"^train_only"),
        ({"settings": {**QUICK, "pruning.latency": 0.7}}, r"^settings name pruning\.latency, which is an argum"),
        ({"settings": {**QUICK, "pruning": {"structure": "heads"}}}, r"^settings name pruning\.structure, which is an"),
        ({"score": "wanda", "refine": True, "settings": {"pruning.times": "x.json"}, "learning_rate": 5e-5},
         r"^settings name pruning\.times; leave it out: the score reads rows without training"),
    ],
)  # fmt: skip
def test_what_cannot_be_leaves_no_table(changes: dict[str, Any], message: str, tmp_path: Path, texts: Path) -> None:
    with inventing() as asked, pytest.raises(gs.InputError, match=message):
        gs.prune(writer(), texts, output=None if "score" in changes else tmp_path / "out", **{**LEARNT, **changes})
    assert len(asked) == ("resume" not in changes and changes.get("latency") == 0.02)
    assert not (tmp_path / "out" / "latency.json").exists()


def test_a_table_lies_at_home_where_its_run_does(tmp_path: Path, texts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with inventing():
        gs.prune(writer(), texts, output="~/out", **LEARNT)
    assert (tmp_path / "out" / "latency.json").exists()
    assert (tmp_path / "out" / "last").exists()
    assert not (tmp_path / "~").exists()


@pytest.mark.parametrize("how", [{"latency": 0.5}, {"keep": 0.5}])
def test_a_model_that_has_none_of_it_left_is_refused(how: dict[str, float]) -> None:
    without, _ = gs.prune(writer(), heads={0: range(4), 1: range(4)})
    with (
        inventing() as asked,
        pytest.raises(gs.InputError, match=r"^structure is 'heads'; no layer of the model has any"),
    ):
        gs.prune(without, score="magnitude", structure="heads", scope="global", **how)  # type: ignore[arg-type]
    assert asked == []


def test_a_table_of_elsewhere_is_read_in_place_of_measuring(tmp_path: Path, texts: Path) -> None:
    (tmp_path / "there.json").write_text(json.dumps(plain(invented(writer()))))
    settings = {**QUICK, "pruning.times": str(tmp_path / "there.json")}
    with inventing() as asked:
        _, receipt = gs.prune(writer(), texts, refine=False, **{**LEARNT, "settings": settings})
    assert asked == []
    assert receipt.measured["latency_by_the_table"] <= 0.6


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"keep": 0.5}, r"^keep is 0\.5; it must be left out where there is a latency"),
    ({"structure": "weight"}, r"^structure is 'weight'; single weights and blocks bring no time until"),
    ({"score": "l0"}, r"^score is 'l0', whose penalty decides what stays; with a latency take"),
    ({"score": "soft-movement"}, r"^score is 'soft-movement', whose penalty decides what stays"),
    (
        {"latency": 0.02, "score": "magnitude"},
        r"^latency is 0\.02; what has to stay of the model takes up to .* or more",
    ),
    ({"latency": "half"}, r"^latency is 'half'; it must be a share of the model's time"),
    ({"heads": {0: [1]}, "structure": "weight"}, r"^latency is 0\.5; it must be left out: heads, neurons or layers"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG, ids=lambda one: str(one)[:40])
def test_what_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    with inventing(), pytest.raises(gs.InputError, match=message):
        gs.prune(writer(), **{"latency": 0.5, "structure": "heads", **changes})


@pytest.mark.parametrize("family", ["llama", "modernbert"])
def test_a_real_table_has_all_parts_and_more_of_one_never_takes_less(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "_AT_LEAST", 1e-4)
    model = drawn(family, dtype=torch.float32)
    before = {name: one.clone() for name, one in model.state_dict().items()}
    table = measure_times(model, Selection(structure="heads", keep=1.0).units(model))
    groups = model.architecture.layers[0].attention.key_heads or 4
    assert {name: times.units for name, times in table.parts.items()} == {
        f"{part}.{i}": tuple(range(groups + 1)) if part == "attention" else (0, 12)
        for part in ("attention", "feed_forward")
        for i in range(3)
    }
    assert all(times.milliseconds[0] == 0 for times in table.parts.values())
    assert table.rest > 0
    assert table.conditions["tokens"] == min(128, model.architecture.length)
    table.check(model.architecture)
    assert all(torch.equal(one, before[name]) for name, one in model.state_dict().items())


def test_layers_that_share_their_weights_count_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each layer of a drawn model takes a millisecond a unit, and what is left of the model five."""
    from gossamer.recipes.pruning import timing

    def taken(models: dict[str, Model]) -> dict[str, float]:
        return {
            name: 5 + sum(layer.attention.heads + layer.feed_forward.width for layer in model.architecture.layers)
            for name, model in models.items()
        }

    monkeypatch.setattr(timing, "milliseconds_in_turns", taken)
    for family, layers in (("bert", 1), ("albert", 3)):
        model = drawn(family, dtype=torch.float32)
        table = timing.measure_times(model, Selection(structure=BOTH, keep=1.0).units(model))
        assert table.parts["attention.0"].milliseconds == tuple(float(layers * heads) for heads in range(5))
        assert table.parts["feed_forward.0"].at(12) == 12 * layers
        assert table.rest == 5
        assert table.milliseconds({}) == 5 + 3 * (4 + 12)


def test_feed_forwards_are_timed_at_odd_widths_and_whole() -> None:
    """A pruning leaves any number of neurons, and odd ones take longest."""
    widths = _widths(1536, "neurons")
    assert (widths[:3], widths[-1]) == ([0, 33, 129], 1536)
    assert all(width % 32 == 1 for width in widths[1:-1])
    assert 12 <= len(widths) <= 20
    assert _widths(12, "neurons") == _widths(12, None) == [0, 12]
    assert _widths(3, "heads") == [0, 1, 2, 3]
    assert all(10 <= len(_widths(size, "neurons")) <= 20 for size in (512, 768, 1024, 3072, 4096, 8192, 11008))


def test_a_pruning_by_a_real_table_tells_what_it_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "_AT_LEAST", 1e-4)
    said: list[str] = []
    model = drawn("gpt2", dtype=torch.float32)
    _, receipt = gs.prune(model, score="random", structure="layers", scope="global", latency=1.0, remark=said.append)
    assert said == ["measuring how long each part of the model takes at each width"]
    assert receipt.measured["latency_by_the_table"] == 1.0
    assert receipt.measured["latency_when_compacted"] > 0
