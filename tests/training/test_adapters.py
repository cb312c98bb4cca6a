"""Low-rank adapters in a training: what learns, what is saved, and going on to the same bits."""

from pathlib import Path
from typing import Any

import pytest
import torch
from broken_runs import broken_off
from tiny_labels import labels_config
from tiny_runs import assert_same_run, decoder_config, tensors
from torch import Tensor

import gossamer as gs
from gossamer.models import Model
from gossamer.models.heads import MaskedLM
from gossamer.training.estimate.estimate import estimate
from gossamer.training.optimization.adapters import AdapterSettings, adapt, learning_names
from gossamer.training.optimization.merging import merged

ADAPTERS = {"rank": 3, "alpha": 6, "maps": ["query", "value"]}
MAPS = ("attention.0.query", "attention.0.value")
HELD_OUT = {"evaluation": {"held_out": 0.2, "every": 3}}


def adapted_config(folder: Path, name: str = "out", **changes: Any) -> dict[str, Any]:
    """A classifier on adapters."""
    config = labels_config(folder, name, **{**HELD_OUT, "checkpoints": {"every": 3}, **changes})
    config["model"] = {**config["model"], "adapters": {**ADAPTERS, **changes.get("adapters", {})}}
    config.pop("adapters", None)
    return config


def encoder(folder: Path) -> Model:
    """The classifier's body with a new head for masked tokens."""
    labels_config(folder)
    return gs.load(folder / "encoder", head=MaskedLM())


def by_hand(run: dict[str, Tensor], name: str) -> Tensor:
    """The weight that a map stands for, in float64: W + alpha / r B A (Hu et al. 2021, equation 3)."""
    low_rank = run[f"{name}.low_rank_b"].double() @ run[f"{name}.low_rank_a"].double()
    return run[f"{name}.weight"].double() + 6 / 3 * low_rank


def test_adapters_and_head_learn_and_the_model_is_saved_whole(tmp_path: Path) -> None:
    model, receipt = gs.train(adapted_config(tmp_path))
    begun = gs.load(tmp_path / "encoder").state_dict()
    run = tensors(tmp_path / "out", 6)
    saved = gs.load(tmp_path / "out" / "last")
    assert saved.architecture == model.architecture
    assert model.architecture.storages == ()
    last = saved.state_dict()
    assert last.keys() == model.state_dict().keys()
    for name, one in last.items():
        assert torch.equal(one, model.state_dict()[name]), name
        if name.rpartition(".")[0] in MAPS and name.endswith("weight"):
            wanted = by_hand(run, name.removesuffix(".weight"))
            torch.testing.assert_close(one.double(), wanted, rtol=0, atol=1e-6)
            assert float((one - begun[name]).abs().max()) > 1e-3
        elif not name.startswith("head."):
            assert torch.equal(one, begun[name]), name
    state = {name.rpartition("/")[0] for name in run if "/" in name}
    heads = {name for name in last if name.startswith("head.")}
    assert state == {f"{one}.{part}" for one in MAPS for part in ("low_rank_a", "low_rank_b")} | heads
    assert receipt.trained == sum(run[name].numel() for name in state)
    assert receipt.parameters == sum(one.numel() for one in model.parameters())
    assert all(one.requires_grad and one.grad is None for one in model.parameters())


def test_the_best_is_saved_whole_and_the_run_goes_on_as_if_nothing_were(tmp_path: Path) -> None:
    settings = {"steps": 8, "checkpoints": {"every": 1, "keep": 99}}
    gs.train(adapted_config(tmp_path, "one", **settings))
    _, receipt = gs.train(adapted_config(tmp_path, "other", **settings, evaluation={"held_out": 0.2, "every": 1}))
    ours, theirs = (tensors(tmp_path / name, 8) for name in ("one", "other"))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    best = gs.load(tmp_path / "other" / "best")
    assert best.architecture.storages == ()
    then = tensors(tmp_path / "other", receipt.best["step"])
    for name in MAPS:
        torch.testing.assert_close(
            best.get_parameter(f"{name}.weight").double(), by_hand(then, name), rtol=0, atol=1e-6
        )


@pytest.mark.parametrize("broken_at", [2, 5])
@pytest.mark.parametrize(
    ("average", "dropout"), [(None, 0.0), ({"decay": 0.7}, 0.0), (None, 0.5)], ids=["last", "average", "dropout"]
)
def test_a_run_on_adapters_goes_on_exactly(tmp_path: Path, broken_at: int, average: Any, dropout: float) -> None:
    settings: dict[str, Any] = {"average": average, "optimizer": {"learning_rate": 0.02, "layer_decay": 0.8}}
    settings["adapters"] = {"dropout": dropout}
    gs.train(adapted_config(tmp_path, "unbroken", **settings))
    broken_off(adapted_config(tmp_path, "broken", **settings), broken_at, KeyboardInterrupt)
    gs.train(adapted_config(tmp_path, "broken", **settings))
    assert_same_run(tmp_path / "broken", tmp_path / "unbroken", 6)


def test_dropout_of_adapters_is_learnt_under_and_not_saved(tmp_path: Path) -> None:
    runs = {rate: gs.train(adapted_config(tmp_path, f"at-{rate}", adapters={"dropout": rate})) for rate in (0.0, 0.5)}
    plain, dropped = (tensors(tmp_path / f"at-{rate}", 6) for rate in runs)
    assert not torch.allclose(plain[f"{MAPS[0]}.low_rank_b"], dropped[f"{MAPS[0]}.low_rank_b"], atol=1e-4)
    assert runs[0.5][0].architecture == runs[0.0][0].architecture
    with pytest.raises(gs.InputError, match=r"^model\.adapters\.dropout is 1\.0; it must be "):
        gs.train(adapted_config(tmp_path, "wrong", adapters={"dropout": 1.0}))


def test_a_model_at_hand_learns_in_place_and_comes_back_whole(tmp_path: Path) -> None:
    given = encoder(tmp_path)
    before = {name: one.clone() for name, one in given.state_dict().items()}
    parameters = dict(given.named_parameters())
    config = decoder_config(tmp_path, model={"adapters": {**ADAPTERS, "head": False}}, objective="masked-lm")
    trained, _ = gs.train(config, model=given)
    assert trained is given
    assert dict(given.named_parameters()).keys() == parameters.keys()
    assert all(torch.equal(one, parameters[name]) for name, one in given.named_parameters()), "the same memory"
    changed = {name for name, one in given.state_dict().items() if not torch.equal(one, before[name])}
    assert changed == {f"{name}.weight" for name in MAPS}
    with pytest.raises(gs.InputError, match="model is missing"):
        gs.train({**config, "output": str(tmp_path / "none")})


def test_what_ends_in_an_error_leaves_the_model_whole(tmp_path: Path) -> None:
    given = encoder(tmp_path)
    names = given.state_dict().keys()
    config = decoder_config(tmp_path, model={"adapters": ADAPTERS}, objective="masked-lm")
    broken = {**config, "optimizer": {"learning_rate": 1e38}}
    with pytest.raises(gs.GossamerError, match="not finite"):
        gs.train(broken, model=given)
    assert given.state_dict().keys() == names
    assert given.architecture.storages == ()


def test_inside_the_block_the_outputs_are_the_same_and_after_it_the_bits(tmp_path: Path) -> None:
    model = encoder(tmp_path).double().eval()
    adapt(model, AdapterSettings(rank=2, maps=("query", "down")), 0)
    with torch.no_grad():
        for name, one in model.named_parameters():
            if "low_rank" in name:
                one.normal_()
    before = {name: one.clone() for name, one in model.state_dict().items()}
    ids = torch.arange(1, 9)[None]
    states = model(ids).last_hidden_state
    with merged(model):
        assert model.architecture.storages == ()
        torch.testing.assert_close(model(ids).last_hidden_state, states, rtol=0, atol=1e-12)
    assert list(model.state_dict()) == list(before)
    assert all(torch.equal(one, before[name]) for name, one in model.state_dict().items())
    assert torch.equal(model(ids).last_hidden_state, states)
    assert learning_names(model, AdapterSettings(head=False)) == {name for name in before if "low_rank" in name}


def test_transformers_reads_what_is_saved(tmp_path: Path, minilm: Path) -> None:
    import transformers

    model = gs.load(minilm, head=MaskedLM())
    config = decoder_config(
        tmp_path, steps=2, model={"adapters": ADAPTERS}, objective="masked-lm", batch={"length": 32}
    )
    trained, _ = gs.train(config, model=model)
    theirs = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / "out" / "last").eval()
    ids = torch.arange(2000, 2012)[None]
    with torch.no_grad():
        torch.testing.assert_close(theirs(ids).logits, trained(ids).logits, rtol=0, atol=1e-4)


def test_an_estimate_counts_what_learns_alone(tmp_path: Path) -> None:
    config = decoder_config(tmp_path)
    whole = estimate(config)
    config["model"]["adapters"] = {"rank": 2, "maps": ["query", "up"]}
    _, receipt = gs.train(config)
    small = estimate(config)
    assert small.memory.optimizer == 8 * receipt.trained
    assert small.memory.optimizer < whole.memory.optimizer / 10
    assert small.peak_bytes < whole.peak_bytes


WRONG = [
    ({"rank": 0}, r"^model\.adapters\.rank is 0; it must be a whole number from 1"),
    ({"rank": 17}, r"^model\.adapters\.rank is 17; the map 'attention\.0\.query' has rank 16 at most"),
    ({"alpha": 0}, r"^model\.adapters\.alpha is 0; it must be a finite number above 0"),
    ({"maps": []}, r"^model\.adapters\.maps is \(\); it must be names of maps"),
    ({"maps": ["query", "qery"]}, r"^model\.adapters\.maps\[1\] is 'qery'; .* no map of that name, but down, .*query"),
    ({"maps": ["head.dense"]}, r"^model\.adapters\.maps\[0\] is 'head\.dense'"),
    ({"ranks": 3}, r"^model\.adapters\.ranks is no field; did you mean 'rank'"),
]


@pytest.mark.parametrize(("adapters", "message"), WRONG)
def test_adapters_that_do_not_fit_are_refused(tmp_path: Path, adapters: dict[str, Any], message: str) -> None:
    with pytest.raises(gs.InputError, match=message):
        gs.train(adapted_config(tmp_path, adapters=adapters))
    assert not (tmp_path / "out" / "journal.jsonl").exists()


def test_adapters_say_what_learns_and_stay_what_they_were(tmp_path: Path) -> None:
    with pytest.raises(gs.InputError, match=r"^train_only is .*left out: model\.adapters are what learns"):
        gs.train(adapted_config(tmp_path, train_only=["embeddings"]))
    gs.train(adapted_config(tmp_path))
    with pytest.raises(gs.InputError, match=r"model\.adapters\.head was true, is false|head was True, is False"):
        gs.train(adapted_config(tmp_path, adapters={"head": False}))
