"""Pruning in a training: what is masked when, what is saved, and going on to the same bits."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from broken_runs import broken_off
from tiny_labels import labels_config
from tiny_runs import assert_same_run, decoder_config, journal, tensors

import gossamer as gs
from gossamer.models.heads import MaskedLM, SequenceClassification
from gossamer.training.estimate.estimate import estimate
from gossamer.training.optimization.optimizers import OptimizerSettings, build_optimizer
from gossamer.training.pruning.pruner import Pruner
from gossamer.training.pruning.schedule import share_at, steps_of
from gossamer.training.pruning.settings import PruningSettings

SCORES = ("movement", "soft-movement", "l0", "magnitude", "random")
STRUCTURES = ("weight", "block", "layers", "heads", "hybrid")
PRUNING = {"keep": 0.5, "warmup": 1, "cooldown": 2, "block": [4, 8], "learning_rate": 0.1}


def pruned_config(folder: Path, name: str = "out", **changes: Any) -> dict[str, Any]:
    """A classifier that is pruned while it learns."""
    pruning = {**PRUNING, **changes.pop("pruning", {})}
    return labels_config(folder, name, **{"checkpoints": {"every": 3}, "pruning": pruning, **changes})


def left(model: Any, name: str) -> float:
    weight = model.get_parameter(f"{name}.weight")
    return int(weight.count_nonzero()) / weight.numel()


@pytest.mark.parametrize("score", ["movement", "random"])
def test_half_of_each_map_is_left_and_the_model_is_saved_whole(tmp_path: Path, score: str) -> None:
    model, receipt = gs.train(pruned_config(tmp_path, pruning={"score": score}))
    begun = gs.load(tmp_path / "encoder")
    saved = gs.load(tmp_path / "out" / "last")
    assert saved.architecture == model.architecture
    assert model.architecture.storages == ()
    assert saved.state_dict().keys() == model.state_dict().keys()
    for name, one in saved.state_dict().items():
        assert torch.equal(one, model.state_dict()[name]), name
        if name.startswith(("attention.", "feed_forward.")) and one.dim() == 2:
            assert int(one.count_nonzero()) == one.numel() // 2, name
            mine = tensors(tmp_path / "out", 6)
            key = name.removesuffix("weight")
            assert torch.equal(one, mine[name] * mine[f"{key}mask"])
            assert score != "movement" or mine[f"{key}mask_scores"].any()
    assert saved.family == begun.family
    assert receipt.trained == receipt.parameters == sum(one.numel() for one in model.parameters())
    kept = [line["kept"] for line in journal(tmp_path / "out") if line["split"] == "train"]
    assert kept[:2] == [1.0, 1.0]
    assert kept[-2:] == [0.5, 0.5]
    assert all(one.requires_grad and one.grad is None for one in model.parameters())


@pytest.mark.parametrize("structure", ["heads", "hybrid"])
def test_structures_are_left_out_of_all_their_maps(tmp_path: Path, structure: str) -> None:
    """The rows that lead to what is masked are 0 in what is saved and given back, and the run goes on with them."""
    settings = {"pruning": {"structure": structure, "scope": "global"}, "evaluation": {"held_out": 0.2, "every": 1}}
    model, _ = gs.train(pruned_config(tmp_path, **settings))
    saved = gs.load(tmp_path / "out" / "last")
    assert all(torch.equal(one, model.state_dict()[name]) for name, one in saved.state_dict().items())
    parts = (model.feed_forward[0], model.attention[0])
    if structure == "hybrid":
        kept = parts[0].down.weight.any(0)
        assert int(kept.sum()) == 16
        assert torch.equal(parts[0].up.weight.any(1), kept)
        assert not parts[0].up.bias[~kept].any()
    if structure == "heads":
        kept = parts[1].output.weight.unflatten(1, (2, 8)).any(2).any(0)
        assert int(kept.sum()) == 1
        for one in (parts[1].query, parts[1].key, parts[1].value, parts[1].value_global):
            assert torch.equal(one.weight.unflatten(0, (2, 8)).any(2).any(1), kept)
    plain = {**settings, "evaluation": {"held_out": 0.2}}
    gs.train(pruned_config(tmp_path, "other", **plain))
    ours, theirs = (tensors(tmp_path / name, 6) for name in ("out", "other"))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours), "saving the best changed nothing"


@pytest.mark.parametrize(("score", "structure", "broken_at"), [*zip(SCORES, STRUCTURES, (5, 5, 2, 2, 5), strict=True)])
def test_a_run_that_prunes_goes_on_exactly(tmp_path: Path, score: str, structure: str, broken_at: int) -> None:
    settings: dict[str, Any] = {"pruning": {"score": score, "structure": structure, "every": 2, "scope": "global"}}
    if broken_at == 5:
        settings["average"] = {"decay": 0.7}
    gs.train(pruned_config(tmp_path, "unbroken", **settings))
    broken_off(pruned_config(tmp_path, "broken", **settings), broken_at, KeyboardInterrupt)
    gs.train(pruned_config(tmp_path, "broken", **settings))
    assert_same_run(tmp_path / "broken", tmp_path / "unbroken", 6)


def test_the_schedule_falls_between_warm_up_and_cool_down() -> None:
    first, last = steps_of(0.1, 30, 100)
    assert (first, last) == (10, 70)
    shares = [share_at("cubic", 0.1, first, last, step) for step in range(100)]
    assert shares[:11] == [1.0] * 11
    assert shares[70:] == [0.1] * 30
    for step in range(10, 71):
        wanted = 0.1 + (1 - 0.1) * (1 - (step - 10) / 60) ** 3
        assert shares[step] == pytest.approx(wanted, abs=1e-15)
    line = [share_at("linear", 0.1, first, last, step) for step in range(100)]
    assert line[:11] == [1.0] * 11
    assert line[70:] == [0.1] * 30
    assert line[11:70] == pytest.approx([1 - 0.9 * (step - 10) / 60 for step in range(11, 70)], abs=1e-15)
    assert [share_at("one-shot", 0.3, 2, 9, step) for step in range(4)] == [1.0, 1.0, 0.3, 0.3]
    assert steps_of(0, 0, 7) == (0, 6), "the last step learns under the last mask"
    with pytest.raises(gs.InputError, match=r"^pruning\.cooldown is 4; .* leave some of the 6 steps between them"):
        steps_of(3, 4, 6)


@pytest.mark.parametrize("score", ["soft-movement", "l0"])
def test_the_penalty_is_that_of_the_paper_and_counts_while_too_much_is_kept(tmp_path: Path, score: str) -> None:
    model = gs.load(labels_config(tmp_path)["model"]["checkpoint"], head=SequenceClassification(labels=("a", "b")))
    pruner = Pruner(model.double(), PruningSettings(score=score, keep=0.5, warmup=2, cooldown=2, penalty=7.0), 0, 10)
    names = list(pruner.rates)
    scores = [model.get_parameter(name) for name in names]
    with torch.no_grad():
        for one in scores:
            one.normal_(1.0)
    shift = 2 / 3 * math.log(0.1 / 1.1) if score == "l0" else 0.0
    probable = torch.cat([1 / (1 + torch.exp(-(one.detach() - shift))).flatten() for one in scores])
    pruner.add_gradients(1)
    assert all(one.grad is None for one in scores), "everything may be kept yet"
    pruner.before_step(9)
    pruner.add_gradients(9)
    wanted = 7.0 * probable * (1 - probable) / len(probable)
    torch.testing.assert_close(torch.cat([one.grad.flatten() for one in scores]), wanted, rtol=1e-12, atol=0)
    assert pruner.numbers(9)["penalty"] == pytest.approx(7.0 * float(probable.mean()), rel=1e-12)
    if score == "soft-movement":
        for name, one in zip(names, scores, strict=True):
            mask = model.get_parameter(name.replace("mask_scores", "mask"))
            assert torch.equal(mask, (torch.sigmoid(one) > 0.1).double())
    with torch.no_grad():
        for one in scores:
            one.fill_(-9.0)
            one.grad = None
    pruner.before_step(9)
    pruner.add_gradients(9)
    assert all(one.grad is None for one in scores)
    assert pruner.numbers(9) == {"kept": 0.0, "keep": 0.5, "penalty": 0.0}


def test_a_penalty_brings_the_share_down(tmp_path: Path) -> None:
    quick = {"keep": 0.3, "score": "soft-movement", "learning_rate": 0.5, "penalty": 1e5, "cooldown": 10}
    gs.train(pruned_config(tmp_path, pruning=quick, steps=30, optimizer={"learning_rate": 1e-3}))
    lines = [line for line in journal(tmp_path / "out") if line["split"] == "train"]
    assert lines[0]["kept"] == 1.0
    assert lines[-1]["kept"] <= 0.3
    assert lines[-1]["penalty"] == 0.0


def test_the_best_model_is_one_that_is_pruned_and_patience_counts_from_there(tmp_path: Path) -> None:
    """With a rate at which nothing is learnt, all readings before the pruning are alike."""
    held_out = {"held_out": 0.2, "every": 1, "patience": 2}
    settings = {"steps": 12, "optimizer": {"learning_rate": 1e-12}, "evaluation": held_out}
    pruning = {"cooldown": 5, "score": "magnitude"}
    _, receipt = gs.train(pruned_config(tmp_path, **settings, pruning=pruning))
    assert receipt.steps >= 10
    assert receipt.best is not None
    assert receipt.best["step"] > 7
    best = gs.load(tmp_path / "out" / "best")
    assert best.architecture.storages == ()
    assert left(best, "feed_forward.0.up") == 0.5


def test_scores_are_looked_at_every_so_many_steps_and_when_the_pruning_ends(tmp_path: Path) -> None:
    model = gs.load(labels_config(tmp_path)["model"]["checkpoint"])
    pruner = Pruner(model, PruningSettings(score="magnitude", keep=0.5, warmup=1, cooldown=3, every=4), 0, 10)
    kept = []
    for step in range(10):
        pruner.before_step(step)
        kept.append(round(pruner.numbers(step)["kept"], 2))
    fifth = round(share_at("cubic", 0.5, 1, 7, 5), 2)
    assert kept == [1.0] * 5 + [fifth] * 2 + [0.5] * 3


def test_what_is_zero_stays_zero(tmp_path: Path) -> None:
    config = pruned_config(tmp_path, "second", pruning={"score": "zeros"})
    model, _ = gs.train(pruned_config(tmp_path, "first", pruning={"structure": "hybrid"}))
    before = {name: one.clone() for name, one in model.state_dict().items()}
    again, _ = gs.train({**config, "model": {"checkpoint": str(tmp_path / "first" / "last")}})
    for name, one in again.state_dict().items():
        if name.startswith(("attention.", "feed_forward.")) and one.dim() == 2:
            assert torch.equal(one == 0, before[name] == 0), name
    moved = before["attention.0.query.weight"] != again.get_parameter("attention.0.query.weight")
    assert bool(moved.any())
    third = {**config, "output": str(tmp_path / "third"), "model": {"checkpoint": str(tmp_path / "first" / "last")}}
    broken_off(third, 5, KeyboardInterrupt)
    gs.train(third)
    assert_same_run(tmp_path / "third", tmp_path / "second", 6)


def test_scores_have_a_rate_of_their_own_and_do_not_decay(tmp_path: Path) -> None:
    model = gs.load(labels_config(tmp_path)["model"]["checkpoint"])
    pruner = Pruner(model, PruningSettings(learning_rate=0.5), 0, 10)
    groups = build_optimizer(
        OptimizerSettings(learning_rate=0.1), model.named_parameters(), {}, pruner.rates
    ).param_groups
    names = {id(one): name for name, one in model.named_parameters()}
    (group,) = [one for one in groups if any("mask_scores" in names[id(each)] for each in one["params"])]
    assert {names[id(one)] for one in group["params"]} == set(pruner.rates)
    assert (group["rate_share"], group["weight_decay"], group["lr"]) == (5.0, 0.0, 0.5)
    assert sum(len(one["params"]) for one in groups) == sum(one.requires_grad for one in model.parameters())


def test_what_ends_in_an_error_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    config = decoder_config(tmp_path, objective="masked-lm", optimizer={"learning_rate": 1e38}, pruning={})
    del config["model"]
    labels_config(tmp_path)
    given = gs.load(tmp_path / "encoder", head=MaskedLM())
    names, architecture = list(given.state_dict()), given.architecture
    with pytest.raises(gs.GossamerError, match="not finite"):
        gs.train(config, model=given)
    assert (list(given.state_dict()), given.architecture) == (names, architecture)


def test_an_estimate_counts_masks_and_scores(tmp_path: Path) -> None:
    config = decoder_config(tmp_path)
    plain = estimate(config)
    config["pruning"] = {}
    pruned = estimate(config)
    weights = sum(
        one.numel()
        for name, one in gs.train({**config, "steps": 4})[0].named_parameters()
        if name.startswith(("attention.", "feed_forward.")) and name.endswith("weight") and one.dim() == 2
    )
    assert pruned.memory.optimizer - plain.memory.optimizer == 8 * weights


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"pruning": {"score": "size"}}, r"^pruning\.score is 'size'; it must be one of 'l0', 'magnitude', 'movement'"),
    ({"pruning": {"keep": 2}}, r"^pruning\.keep is 2; it must be a share of what is there, above 0, up to 1"),
    ({"pruning": {"structure": "rows"}}, r"^pruning\.structure is 'rows'; it must be one or several of weight"),
    ({"pruning": {"structure": "heads", "keep": 0.1}}, r"^keep is 0\.1; of the 2 heads units of attention\.0\.output"),
    ({"pruning": {"penalty": 3.0}}, r"^pruning\.penalty is 3\.0; it must be left out: movement has none"),
    ({"pruning": {"warmup": -1}}, r"^pruning\.warmup is -1; it must be a whole number of steps, or a share"),
    ({"pruning": {"cooldown": 6}}, r"^pruning\.cooldown is 6; it must be so that warm-up and cool-down leave"),
    ({"pruning": {"threshold": 1}}, r"^pruning\.threshold is 1; it must be a number between 0 and 1"),
    ({"pruning": {"schedule": "steep"}}, r"^pruning\.schedule is 'steep'; .* one of 'cubic', 'linear', 'one-shot'$"),
    ({"train_only": ["head"]}, r"^train_only is \['head'\], without attention\.0\.query, which pruning scores by"),
    ({"pruning": {"shares": 3}}, r"^pruning\.shares is no field"),
    (
        {"steps": None, "minutes": 1, "schedule": {"name": "constant", "warmup": 0}},
        r"^steps is None; .*pruning follows",
    ),
]


@pytest.mark.parametrize(("changes", "message"), WRONG, ids=lambda one: str(one)[:40])
def test_what_cannot_be_is_refused_before_anything_is_computed(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(gs.InputError, match=message):
        gs.train(pruned_config(tmp_path, **changes))
    assert not (tmp_path / "out" / "journal.jsonl").exists()


def test_adapters_and_pruning_exclude_each_other_and_settings_stay_what_they_were(tmp_path: Path) -> None:
    config = pruned_config(tmp_path)
    adapters = {**config["model"], "adapters": {"rank": 2}}
    with pytest.raises(gs.InputError, match=r"^pruning is .*left out: with model\.adapters the weights stay"):
        gs.train({**config, "model": adapters})
    gs.train(config)
    with pytest.raises(gs.InputError, match=r"pruning\.keep was 0\.5, is 0\.4"):
        gs.train(pruned_config(tmp_path, pruning={"keep": 0.4}))
