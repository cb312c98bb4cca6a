"""Healing: what is trained and what is not, what is measured, and how new positions begin."""

import copy
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import gossamer as gs
from gossamer import InputError
from gossamer.models import (
    Architecture,
    Attention,
    Embeddings,
    FeedForward,
    Layer,
    MaskedLM,
    Model,
    Positions,
)
from gossamer.patterns import Full
from gossamer.recipes import heal
from gossamer.text import byte_tokenizer
from gossamer.training.config import TrainingConfig
from gossamer.training.evaluation import evaluate

OLD, NEW = 32, 96
TABLE = "embeddings.position.weight"


@pytest.fixture
def short() -> Model:
    """A byte-level masked LM of fresh weights that reads 32 tokens."""
    torch.manual_seed(0)
    tokenizer = byte_tokenizer(mask=True)
    layers = tuple(
        Layer(
            attention=Attention(pattern=Full(), heads=2, head_size=8, weights=i, dropout=0.0, residual_dropout=0.0),
            feed_forward=FeedForward(width=32, weights=i, residual_dropout=0.0),
        )
        for i in range(2)
    )
    embeddings = Embeddings(
        vocabulary_size=tokenizer.vocabulary_size,
        size=16,
        positions=Positions(length=OLD),
        padding_id=None,
        dropout=0.0,
    )
    architecture = Architecture(hidden_size=16, embeddings=embeddings, layers=layers, head=MaskedLM())
    return Model(architecture, tokenizer=tokenizer.with_max_length(OLD)).eval()


@pytest.fixture
def long(short: Model) -> Model:
    return gs.lengthen(short, to=NEW, window=16)[0]


@pytest.fixture
def config(tmp_path: Path) -> dict[str, Any]:
    """A text of a few letters, in long lines, some of them held out."""
    text = "\n".join("".join("abcd"[(i * j) % 4] for j in range(400)) for i in range(1, 30))
    (tmp_path / "text.txt").write_text(text)
    return {
        "data": {"train": str(tmp_path / "text.txt"), "split": "lines"},
        "batch": {"rows": 4},
        "optimizer": {"learning_rate": 0.02},
        "steps": 12,
        "evaluation": {"held_out": 4},
        "journal": {"live": False},
        "threads": 1,
        "output": str(tmp_path / "out"),
    }


def test_new_positions_alone_are_trained_and_all_else_stays_bit_for_bit(long: Model, config: dict[str, Any]) -> None:
    given = {name: one.clone() for name, one in long.state_dict().items()}
    new, receipt = heal(long, config, what="positions")
    for name, one in new.state_dict().items():
        same = torch.equal(one, given[name])
        assert same == (name != TABLE), name
    assert torch.equal(new.state_dict()[TABLE][:OLD], given[TABLE][:OLD])
    moved = (new.state_dict()[TABLE][OLD:] != given[TABLE][OLD:]).any(dim=1)
    assert bool(moved.all())
    assert all(torch.equal(one, given[name]) for name, one in long.state_dict().items())
    assert "the positions from 32 on; all else stayed as it was" in str(receipt)
    assert receipt.settings == {"what": "positions", "old_length": OLD, "steps": 12, "tokens": 12 * 4 * NEW}


def test_healing_all_weights_lowers_the_bits_of_held_out_text(long: Model, config: dict[str, Any]) -> None:
    new, receipt = heal(long, config)
    assert new.receipt is receipt
    assert not new.training
    measured = receipt.measured
    assert measured["bits_per_masked_token_after"] < measured["bits_per_masked_token_before"] - 1
    assert not torch.equal(new.attention[0].query.weight, long.attention[0].query.weight)
    assert receipt.recipe == "heal"
    assert receipt.to_dict()["before"] == receipt.to_dict()["after"]


def test_the_bits_before_are_those_of_the_model_itself(long: Model, config: dict[str, Any]) -> None:
    """Healing that does nothing measures the same before and after: the same text under the same masks."""
    idle = {**config, "steps": 1, "optimizer": {"learning_rate": 1e-30, "weight_decay": 0.0}}
    measured = heal(long, idle)[1].measured
    assert measured["bits_per_masked_token_before"] == pytest.approx(measured["bits_per_masked_token_after"], rel=1e-6)
    without = {**config, "steps": 1, "evaluation": {}, "output": config["output"] + "2"}
    assert heal(long, without)[1].measured == {}


def test_where_no_held_out_token_is_masked_no_bits_are_told(long: Model, config: dict[str, Any]) -> None:
    rare = {**config, "steps": 1, "objective": {"kind": "masked-lm", "share": 1e-9}}
    (Path(config["output"]).parent / "other.txt").write_text("abcd")
    rare["evaluation"] = {"data": str(Path(config["output"]).parent / "other.txt")}
    assert heal(long, rare)[1].measured == {}


def test_the_output_of_a_run_at_work_is_not_touched(long: Model, config: dict[str, Any]) -> None:
    fcntl = pytest.importorskip("fcntl")
    output = Path(config["output"])
    output.mkdir()
    (output / "train.tokens").write_bytes(b"of the other run")
    with (output / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="where another run is at work; name another"):
            heal(long, config)
    assert (output / "train.tokens").read_bytes() == b"of the other run"


def test_the_bits_before_are_measured_under_the_threads_that_are_asked_for(
    long: Model, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def noted(*given: Any) -> Any:
        seen.append(torch.get_num_threads())
        return evaluate(*given)

    monkeypatch.setattr(import_module("gossamer.recipes.heal"), "evaluate", noted)
    before = torch.get_num_threads()
    heal(long, {**config, "steps": 1, "threads": before + 1})
    assert (seen, torch.get_num_threads()) == ([before + 1], before)


def test_a_run_that_is_resumed_has_the_bits_of_the_given_model(long: Model, config: dict[str, Any]) -> None:
    first = heal(long, config)[1].measured
    again = heal(long, config)[1].measured
    assert again == first
    assert first["bits_per_masked_token_after"] < first["bits_per_masked_token_before"]


def test_a_run_does_not_go_on_with_another_model(long: Model, config: dict[str, Any]) -> None:
    heal(long, config)
    other = copy.deepcopy(long)
    with torch.no_grad():
        next(other.parameters()).add_(0.1)
    with pytest.raises(InputError, match=r"^the model is not that of the run, which stands at step "):
        heal(other, config)


@pytest.mark.parametrize("objective", [None, {"share": 0.3}, "masked-lm"])
def test_a_file_or_a_dict_that_names_no_objective_means_masked_lm(
    long: Model, config: dict[str, Any], tmp_path: Path, objective: Any
) -> None:
    fields = {**config, "steps": 1, **({} if objective is None else {"objective": objective})}
    path = tmp_path / "healing.yaml"
    path.write_text(yaml.safe_dump(fields))
    for i, source in enumerate((fields, path, str(path))):
        if isinstance(source, dict):
            source = {**source, "output": f"{config['output']}{i}"}
        said = heal(long, source)[1].conditions["objective"]
        assert "kind='masked-lm'" in said
        assert ("share=0.3" in said) == (objective == {"share": 0.3})


def test_another_objective_is_refused_wherever_it_is_named(long: Model, config: dict[str, Any], tmp_path: Path) -> None:
    """A TrainingConfig always has one: that of a decoder, unless it says another."""
    (tmp_path / "healing.yaml").write_text(yaml.safe_dump({**config, "objective": {"kind": "causal-lm"}}))
    for source in (tmp_path / "healing.yaml", TrainingConfig.read(config)):
        with pytest.raises(InputError, match=r"objective\.kind is 'causal-lm'; a lengthened encoder is healed by"):
            heal(long, source)
    with pytest.raises(InputError, match=r"none\.yaml: no such file"):
        heal(long, tmp_path / "none.yaml")


def test_the_old_length_is_in_the_receipt_or_given(short: Model, long: Model, config: dict[str, Any]) -> None:
    long.receipt = None
    with pytest.raises(InputError, match="old_length is None and the model has no receipt of lengthen; give"):
        heal(long, config)
    for wrong in (0, NEW, True, 2.0):
        with pytest.raises(InputError, match=rf"old_length is {wrong}; it must be from 1 to 95"):
            heal(long, config, old_length=wrong)  # type: ignore[arg-type]
    assert heal(long, {**config, "steps": 1}, old_length=OLD)[1].settings["old_length"] == OLD


@pytest.mark.parametrize(
    ("changes", "what", "said"),
    [
        ({}, "new", "what is 'new'; it must be 'all' or 'positions'"),
        ({"objective": "causal-lm"}, "all", "objective.kind is 'causal-lm'; a lengthened encoder is healed by"),
        ({"train_only": ["head"]}, "positions", "train_only is ('head',); leave it out where new positions are healed"),
        ({"frozen_rows": {TABLE: 3}}, "positions", f"frozen_rows is {{'{TABLE}': 3}}; leave it out"),
    ],
)
def test_what_does_not_fit_is_refused(
    long: Model, config: dict[str, Any], changes: dict[str, Any], what: Any, said: str
) -> None:
    with pytest.raises(InputError) as problem:
        heal(long, {**config, **changes}, what=what)
    assert str(problem.value).startswith(said)
    assert not Path(config["output"]).exists()


def test_a_model_without_the_head_is_refused(config: dict[str, Any], minilm: Path) -> None:
    with pytest.raises(InputError, match="the model has the head 'embed'; load it with a masked-lm head"):
        heal(gs.load(minilm), config)


def test_random_positions_are_drawn_beyond_the_old_ones(short: Model) -> None:
    copied, _ = gs.lengthen(short, to=NEW, window=16)
    drawn, receipt = gs.lengthen(short, to=NEW, window=16, positions="random", seed=3)
    again, _ = gs.lengthen(short, to=NEW, window=16, positions="random", seed=3)
    other, _ = gs.lengthen(short, to=NEW, window=16, positions="random")
    tables = [one.state_dict()[TABLE] for one in (copied, drawn, again, other)]
    assert all(torch.equal(one[:OLD], tables[0][:OLD]) for one in tables)
    assert torch.equal(tables[1], tables[2])
    for one in (tables[0], tables[3]):
        assert not bool((one[OLD:] == tables[1][OLD:]).any())
    assert float(tables[1][OLD:].std()) == pytest.approx(short.architecture.initializer_range, rel=0.1)
    assert receipt.settings == {
        "to": NEW, "window": 16, "global_tokens": "first", "positions": "random", "seed": 3,
    }  # fmt: skip
    assert "positions: 32 learned rows, then random ones to fill 96" in receipt.changes
    rest = [name for name in copied.state_dict() if name != TABLE]
    assert all(torch.equal(copied.state_dict()[name], drawn.state_dict()[name]) for name in rest)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"positions": "interpolated"}, "positions is 'interpolated'; it must be 'copied' or 'random'"),
        ({"positions": "random", "seed": -1}, "seed is -1; it must be a whole number, 0 or more"),
    ],
)
def test_other_positions_are_refused(short: Model, given: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as problem:
        gs.lengthen(short, to=NEW, window=16, **given)
    assert str(problem.value) == said


def test_both_models_are_measured_where_that_is_asked_for(long: Model, config: dict[str, Any]) -> None:
    _, receipt = heal(long, {**config, "steps": 2}, measure={"latency": False, "memory": False})
    assert receipt.comparison is not None
    assert receipt.comparison.models == ("before", "after")
    rows = {row.name: row.values for row in receipt.comparison.rows}
    assert rows["parameters"][0] == rows["parameters"][1]
    assert rows["tokens learnt from"] == (None, receipt.settings["tokens"])
    with pytest.raises(InputError, match=r"^measure is 'all'; it must be true, false"):
        heal(long, config, measure="all")  # type: ignore[arg-type]
