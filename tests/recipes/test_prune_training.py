"""gs.prune with something to learn from: what is left, what stays, a teacher, and being killed at any moment."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import gossamer as gs
from gossamer.families import get_family
from gossamer.models import Model
from gossamer.models.decoders import decoder
from gossamer.models.heads import SequenceClassification
from gossamer.text import byte_tokenizer, train_tokenizer
from gossamer.training import run as run_module

THINGS = ["film", "song", "book"]
ROWS = [{"text": f"{THINGS[i % 3]} {i % 7}", "label": THINGS[i % 3]} for i in range(40)]
QUICK = {"journal.live": False, "threads": 1, "steps": 6, "checkpoints.every": 2}
LEARNT: dict[str, Any] = {"keep": 0.5, "batch": 8, "learning_rate": 0.01, "settings": QUICK, "block": (4, 4)}


def classifier() -> Model:
    torch.manual_seed(0)
    tokenizer = train_tokenizer(THINGS, family="bert", vocabulary_size=40, max_length=32)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2, "num_hidden_layers": 2}
    sizes |= {"vocab_size": tokenizer.vocabulary_size, "max_position_embeddings": 32}
    read = get_family("bert").read(sizes, head=SequenceClassification(labels=tuple(THINGS)))
    return Model(read, family="bert", tokenizer=tokenizer).eval()


def weights(model: Model) -> dict[str, Tensor]:
    layers = ("attention.", "feed_forward.")
    return {name: one for name, one in model.named_parameters() if name.startswith(layers) and one.dim() == 2}


def assert_equal(one: Model, other: Model) -> None:
    ours, theirs = one.state_dict(), other.state_dict()
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


def test_it_learns_while_it_is_pruned_and_on_with_what_is_left(tmp_path: Path) -> None:
    model = classifier()
    before = {name: one.clone() for name, one in model.state_dict().items()}
    new, receipt = gs.prune(model, ROWS, 0.2, output=tmp_path / "out", **LEARNT)
    assert all(torch.equal(one, before[name]) for name, one in model.state_dict().items()), "the given model"
    middle = gs.load(tmp_path / "out" / "pruning" / "last")
    assert_equal(gs.load(tmp_path / "out" / "last"), new)
    for name, one in weights(new).items():
        assert int(one.count_nonzero()) == one.numel() // 2, name
        assert torch.equal(one == 0, middle.get_parameter(name) == 0)
        assert not torch.equal(one, middle.get_parameter(name))
    for name, one in new.state_dict().items():
        assert torch.equal(one, before[name]) == name.startswith("embeddings."), name
    assert (new.family, new.architecture.layers) == ("bert", model.architecture.layers)
    assert receipt.changes[:2] == ("1,792 of 3,584 single weights are left", "pruned over 6 and refined over 3 steps")
    assert receipt.after["density of attention"] == [0.5, 0.5]
    assert receipt.settings["refine"] is True
    assert "held_out_accuracy" in receipt.measured


@pytest.mark.parametrize("score", ["movement", "soft-movement", "l0", "magnitude"])
def test_every_score_leaves_an_ordinary_model(score: str, tmp_path: Path) -> None:
    settings = {**QUICK, "pruning.learning_rate": 1.0, "steps": 12}
    asked = {**LEARNT, "settings": settings, "structure": "hybrid", "score": score}
    new, receipt = gs.prune(classifier(), ROWS, refine=False, **asked)
    again = gs.load(gs.save(new, tmp_path / "pruned"))
    assert again.family == "bert"
    assert_equal(again, new)
    for part in new.feed_forward:
        kept = part.down.weight.any(0)
        assert torch.equal(part.up.weight.any(1), kept)
        assert not part.up.bias[~kept].any()
    if score in ("movement", "magnitude"):
        assert receipt.changes[:2] == ("64 of 128 blocks are left", "24 of 48 neurons are left")


@pytest.mark.parametrize("named", [True, False])
def test_a_teacher_is_learnt_from_in_both_trainings(tmp_path: Path, whole: Model, named: bool) -> None:
    torch.manual_seed(1)
    teacher = classifier()
    gs.save(teacher, tmp_path / "teacher")
    before = {name: one.clone() for name, one in teacher.state_dict().items()}
    given = tmp_path / "teacher" if named else teacher
    taught, _ = gs.prune(classifier(), ROWS, teacher=given, **LEARNT)
    assert not torch.equal(taught.head.output.weight, whole.head.output.weight)
    assert all(torch.equal(one, before[name]) for name, one in teacher.state_dict().items())
    assert taught.state_dict().keys() == whole.state_dict().keys()


def killed(at: int, **given: Any) -> None:
    """A pruning that ends in the middle of this step of all its trainings, counted on."""
    done = 0
    update = run_module.Run.update

    def end(run: run_module.Run) -> None:
        nonlocal done
        done += 1
        if done == at:
            raise KeyboardInterrupt
        update(run)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module.Run, "update", end)
        with pytest.raises(KeyboardInterrupt):
            gs.prune(classifier(), ROWS, **given)


@pytest.fixture(scope="module")
def whole() -> Model:
    """What a pruning that nobody kills gives."""
    return gs.prune(classifier(), ROWS, **LEARNT)[0]


@pytest.mark.parametrize("at", [4, 7, 9])
def test_killed_at_any_moment_it_goes_on_to_the_same_bits(tmp_path: Path, whole: Model, at: int) -> None:
    """In the training that prunes, between both, and in the one that refines."""
    killed(at, output=tmp_path / "killed", **LEARNT)
    again, _ = gs.prune(classifier(), ROWS, output=tmp_path / "killed", resume="must", **LEARNT)
    assert_equal(again, whole)
    with pytest.raises(gs.InputError, match="a run is there already"):
        gs.prune(classifier(), ROWS, output=tmp_path / "killed", resume="never", **LEARNT)


def test_texts_prune_a_decoder_that_still_generates_with_its_cache(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("\n".join(f"text {i} about nothing at all" for i in range(40)))
    sizes = {"layers": 2, "hidden_size": 16, "heads": 2, "length": 32, "vocabulary_size": 257}
    torch.manual_seed(0)
    model = Model(decoder(**sizes, patterns=[gs.Full(causal=True)]), family="gpt2", tokenizer=byte_tokenizer())
    quick = {**QUICK, "data.split": "lines", "steps": 4}
    new, receipt = gs.prune(model, text, structure=["heads", "neurons"], **{**LEARNT, "settings": quick})
    assert receipt.changes[:2] == ("2 of 4 heads are left", "64 of 128 neurons are left")
    wanted = {"max_new_tokens": 6, "temperature": 0.0, "ignore_end": True}
    with_cache, without = (gs.generate(new, "text 7", use_cache=used, **wanted) for used in (True, False))
    assert with_cache.texts == without.texts


def test_another_head_is_drawn_where_the_rows_ask_for_it() -> None:
    model = classifier()
    rows = [{**row, "label": row["label"].upper()} for row in ROWS]
    new, _ = gs.prune(model, rows, refine=False, **LEARNT)
    assert set(new.architecture.head.labels) == {"FILM", "SONG", "BOOK"}


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"score": "size"}, r"^score is 'size'; it must be one of"),
    ({"refine": 0}, r"^refine is 0; it must be true, false, or a number of epochs above 0"),
    ({"settings": {**QUICK, "pruning.cooldown": 1.5}}, r"^pruning\.cooldown is 1\.5"),
    ({"settings": {**QUICK, "model.adapters": {"rank": 2}}}, r"^pruning is .*left out: with model\.adapters"),
    ({"structure": "heads", "keep": 0.1}, r"^keep is 0\.1; of the 2 heads units"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG, ids=lambda one: str(one)[:40])
def test_what_cannot_be_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(gs.InputError, match=message):
        gs.prune(classifier(), ROWS, output=tmp_path / "out", **{**LEARNT, **changes})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("score", "told"), [("soft-movement", True), ("movement", False)])
def test_a_penalty_that_left_more_is_told(score: str, told: bool) -> None:
    _, receipt = gs.prune(classifier(), ROWS, score=score, refine=False, **LEARNT)
    notes = [note for note in receipt.notes if "a score whose penalty removes needs more steps" in note]
    assert bool(notes) == told


def test_a_block_of_pruning_stands_beside_what_was_asked_for() -> None:
    """Not in its place: who wants another cool-down still wants these neurons."""
    receipts = []
    for pruning in ({"pruning.cooldown": 0.5}, {"pruning": {"cooldown": 0.5}}):
        asked = {**LEARNT, "structure": "neurons", "score": "magnitude", "settings": {**QUICK, **pruning}}
        receipts.append(gs.prune(classifier(), ROWS, refine=False, **asked)[1])
    wanted, receipt = receipts
    assert receipt.after == wanted.after
    assert receipt.changes[0] == "24 of 48 neurons are left"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"settings": {"pruning": None}}, r"^settings\['pruning'\] is None; it must be a mapping of its"),
        ({"settings": {"pruning": {"keep": 0.2}}}, r"^settings name pruning\.keep, which is an argument of prune"),
        ({"head": "foo"}, r"^head is 'foo'; it must be one of 'question-answering', "),
        ({"epochs": 50}, r"^epochs is 50; it must be left out: settings name steps$"),
        ({"structure": ["heads", "neurons", "weight"]}, r"^structure is .*; heads and neurons are all that layers"),
        ({"structure": ["hybrid", "heads"]}, r"^structure is .*; .* so that nothing is left for block: leave out one"),
        ({"train": ""}, r"^train is ''; it must be a file, a list of files, or a sequence of dicts$"),
        ({"train": ["a long text " * 100]}, r"^train has 'a long text .*\.\.\., which is no name of a file; to"),
    ],
)  # fmt: skip
def test_what_would_be_passed_over_is_refused(asked: dict[str, Any], said: str) -> None:
    given = {"train": ROWS, **LEARNT, **asked}
    with pytest.raises(gs.InputError, match=said) as told:
        gs.prune(classifier(), **given)
    assert "\n" not in str(told.value)
    assert len(str(told.value)) < 300


def test_an_objective_without_the_teacher_is_refused_beside_one() -> None:
    settings = {**QUICK, "objective": {"kind": "classification"}}
    with pytest.raises(
        gs.InputError, match=r"^settings name an objective \('classification'\) in which the teacher has"
    ):
        gs.prune(classifier(), ROWS, teacher=classifier(), **{**LEARNT, "settings": settings})


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"score": "l0"}, r"pruning\.score was 'movement', is 'l0'"),
        ({"structure": "hybrid"}, r"pruning\.structure was 'weight', is 'hybrid'"),
    ],
)
def test_a_run_that_goes_on_with_other_options_names_them(changed: dict[str, Any], said: str, tmp_path: Path) -> None:
    gs.prune(classifier(), ROWS, output=tmp_path / "out", refine=False, **LEARNT)
    with pytest.raises(gs.InputError, match=said):
        gs.prune(classifier(), ROWS, output=tmp_path / "out", refine=False, **{**LEARNT, **changed})


def test_shares_of_numpy_are_shares() -> None:
    new, _ = gs.prune(classifier(), score="random", keep=np.float64(0.5), seed=np.int64(1))
    wanted, receipt = gs.prune(classifier(), score="random", keep=0.5, seed=1)
    assert_equal(new, wanted)
    json.dumps(receipt.to_dict())
