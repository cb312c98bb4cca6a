"""Learning rates that fall from layer to layer: who stands how deep, and what each optimizer makes of it."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from broken_runs import broken_off
from tiny_labels import labels_config
from tiny_runs import assert_same_run, decoder_config, encoder_config, tensors
from torch import Tensor, nn

import gossamer as gs
from gossamer.models import Architecture, Model
from gossamer.training.optimization.layer_depths import depths_from_top
from gossamer.training.optimization.optimizers import OptimizerSettings, build_optimizer

DECAY = 0.5


def encoder(folder: Path, sets: tuple[int, ...]) -> Model:
    """A masked LM whose layers take these weight sets."""
    fields = encoder_config(folder)["model"]["architecture"]
    layer = fields["layers"][0]
    parts = ("attention", "feed_forward")
    fields["layers"] = [{name: {**layer[name], "weights": one} for name in parts} for one in sets]
    return Model(Architecture.from_dict({**fields, "pooler": True, "head": None}))


@pytest.mark.parametrize(
    ("sets", "expected"),
    [((0, 1, 2), {"0": 3, "1": 2, "2": 1}), ((0, 0, 0), {"0": 1}), ((0, 1, 0, 1, 2), {"0": 3, "1": 2, "2": 1})],
)
def test_the_topmost_application_of_a_weight_tells_its_depth(
    tmp_path: Path, sets: tuple[int, ...], expected: dict[str, int]
) -> None:
    model = encoder(tmp_path, sets)
    depths = depths_from_top(model)
    assert depths.keys() == dict(model.named_parameters()).keys()
    for name, depth in depths.items():
        part, number, *_ = name.split(".")
        if part == "embeddings":
            assert depth == len(sets) + 1
        elif part in ("attention", "feed_forward"):
            assert depth == expected[number]
        else:
            assert (part, depth) == ("pooler", 0)


def test_a_tied_table_is_an_embedding_and_a_final_norm_is_read_at_the_top(tmp_path: Path) -> None:
    config = gs.training.config.TrainingConfig.read(decoder_config(tmp_path))
    assert config.model is not None
    depths = depths_from_top(Model(config.model.describe(257)))
    assert depths["embeddings.word.weight"] == 3
    assert {depth for name, depth in depths.items() if name.startswith("final_norm")} == {0}


class Deep(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.low, self.middle, self.top = nn.Linear(3, 4), nn.Linear(4, 3), nn.Linear(3, 2)


DEPTHS = {f"{part}.{name}": depth for part, depth in (("low", 2), ("middle", 1)) for name in ("weight", "bias")}


def learnt(model: nn.Module, settings: OptimizerSettings, depths: dict[str, int], rate: float) -> list[Tensor]:
    """The weights after three steps of fixed gradients."""
    model = copy.deepcopy(model)
    optimizer = build_optimizer(settings, model.named_parameters(), depths)
    for step in range(3):
        generator = torch.Generator().manual_seed(step)
        for one in model.parameters():
            one.grad = torch.randn(one.shape, generator=generator, dtype=one.dtype)
        for group in optimizer.param_groups:
            group["lr"] = rate * group["rate_share"]
        optimizer.step()
    return [one.detach() for one in model.parameters()]


@pytest.mark.parametrize("name", ["adamw", "adafactor", "lamb"])
def test_each_depth_learns_as_a_model_alone_with_its_rate(name: Any) -> None:
    """In float64 to the last bit: a rate is no more than a factor of the optimizer's own."""
    model, rate = Deep().double(), 0.01
    settings = OptimizerSettings(name=name, weight_decay=0.1, layer_decay=DECAY)
    whole = OptimizerSettings(name=name, weight_decay=0.1)
    found = learnt(model, settings, DEPTHS, rate)
    for i, (full_name, _) in enumerate(model.named_parameters()):
        share = DECAY ** DEPTHS.get(full_name, 0)
        assert torch.equal(found[i], learnt(model, whole, {}, rate * share)[i]), full_name
    assert not torch.equal(found[0], learnt(model, whole, DEPTHS, rate)[0])


def test_groups_say_their_share_of_the_rate() -> None:
    settings = OptimizerSettings(learning_rate=0.1, weight_decay=0.3, layer_decay=DECAY)
    groups = build_optimizer(settings, Deep().named_parameters(), DEPTHS).param_groups
    assert [(one["rate_share"], one["weight_decay"]) for one in groups] == [
        (share, decay) for share in (1.0, 0.5, 0.25) for decay in (0.3, 0.0)
    ]
    assert [one["lr"] for one in groups] == [0.1 * one["rate_share"] for one in groups]


def test_a_run_with_layer_decay_moves_what_is_low_less_and_goes_on_exactly(tmp_path: Path) -> None:
    optimizer = {"learning_rate": 0.02, "layer_decay": 1e-6}
    gs.train(labels_config(tmp_path, "unbroken", optimizer=optimizer))
    broken_off(labels_config(tmp_path, "broken", optimizer=optimizer), 5, KeyboardInterrupt)
    gs.train(labels_config(tmp_path, "broken", optimizer=optimizer))
    assert_same_run(tmp_path / "broken", tmp_path / "unbroken", 6)
    before = gs.load(tmp_path / "encoder").state_dict()
    after = gs.load(tmp_path / "unbroken" / "last").state_dict()
    moved = {name: float((after[name] - one).abs().max()) for name, one in before.items() if name in after}
    assert 0 < max(moved.values()) < 1e-6
    head = [tensors(tmp_path / "unbroken", step)["head.output.weight"] for step in (3, 6)]
    assert float((head[1] - head[0]).abs().max()) > 0.01


@pytest.mark.parametrize("value", [0, -0.5, 1.5, True, "0.9x"])
def test_a_decay_that_is_none_is_refused(tmp_path: Path, value: Any) -> None:
    config = labels_config(tmp_path, optimizer={"layer_decay": value})
    with pytest.raises(gs.InputError, match=r"^optimizer\.layer_decay is .*; it must be a number"):
        gs.train(config)
