"""Heads, neurons and layers that are named go: outputs are those of the model with the same ones switched off."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from cut_models import HEADS, NEURONS, OF, close, drawn, head_mask, ids, same_for_all, states, zeroed

import gossamer as gs
from gossamer.errors import InputError
from gossamer.inspection import capture, summary
from gossamer.layers import LowRank
from gossamer.models import Cache
from gossamer.models.architecture import DistanceTable
from gossamer.patterns import Full, PerHead, Window
from gossamer.recipes.removal import remove
from gossamer.surgery.rebuild import rebuild
from gossamer.surgery.storages import store
from gossamer.surgery.students import make_student

SIZE_OF = {"bert": "num_hidden_layers", "gpt2": "n_layer"}


@pytest.mark.parametrize("family", OF)
def test_what_stays_gives_what_it_gave(family: str, tmp_path: Path) -> None:
    """In float64 to rounding, after saving and loading too; every layer has other widths, some no heads, no neurons."""
    model = drawn(family)
    heads, neurons = same_for_all(family, HEADS), same_for_all(family, NEURONS)
    smaller = remove(model, heads=heads, neurons=neurons)
    more = {"global_mask": torch.arange(9).expand(2, -1) < 2} if family == "longformer" else {}
    expected = states(zeroed(model, heads, neurons), **more)
    close(states(zeroed(model, {}, neurons), head_mask=head_mask(model, heads), **more), expected)
    close(states(smaller, **more), expected)
    assert sum(one.numel() for one in smaller.parameters()) < sum(one.numel() for one in model.parameters())
    assert all(one.numel() for one in smaller.parameters())
    again = gs.load(gs.save(smaller, tmp_path / "smaller"))
    assert again.architecture == smaller.architecture
    close(states(again.double(), **more), expected, 1e-6)


@pytest.mark.parametrize("family", [name for name in OF if name != "albert"])
def test_layers_go_with_their_norms(family: str, tmp_path: Path) -> None:
    """In the format of before: a student of the other layers."""
    model = drawn(family)
    smaller = remove(model, layers=[1], heads={2: [0]} if family == "gpt2" else None)
    expected = remove(remove(model, heads={2: [0]}), layers=[1]) if family == "gpt2" else make_student(model, [0, 2])
    close(states(smaller), states(expected))
    assert len(smaller.architecture.layers) == 2
    assert smaller.family == ("gossamer" if family == "gpt2" else family)


def test_layers_that_share_weights_lose_the_same() -> None:
    model = drawn("albert")
    with pytest.raises(InputError, match=r"^layers 0 and 1 share their weights, and heads names others for layer 1: "):
        remove(model, heads={0: [1]})
    smaller = remove(model, heads={0: [1], 2: [1]}, layers=[1])
    assert [layer.attention.heads for layer in smaller.architecture.layers] == [3, 3]
    assert len(smaller.attention) == 1


@pytest.mark.parametrize("family", ["bert", "gpt2"])
@pytest.mark.parametrize("heads", [[], [2], [0, 1, 2, 3]], ids=["all-heads", "three-heads", "no-heads"])
@pytest.mark.parametrize("neurons", [[], [1, 4], range(12)], ids=["all-neurons", "ten-neurons", "no-neurons"])
def test_every_combination_of_widths_is_saved_and_loaded(
    family: str, heads: list[int], neurons: list[int], tmp_path: Path
) -> None:
    """Of the last layer, after which a file may end."""
    model = drawn(family, None, torch.float32, **{SIZE_OF[family]: 2})
    smaller = remove(model, heads={1: heads}, neurons={1: neurons})
    again = gs.load(gs.save(smaller, tmp_path / "smaller"))
    assert again.architecture == smaller.architecture
    close(states(again), states(smaller), 1e-6)
    assert again.family == (family if not heads and len(neurons) == 0 else "gossamer")


def test_a_head_mask_is_as_wide_as_the_widest_layer() -> None:
    model = drawn("bert")
    smaller = remove(model, heads={0: [0], 1: [0, 1, 2, 3]})
    mask = torch.ones(3, 4).double()
    mask[0, 2] = mask[2, 1] = 0
    close(
        states(smaller, head_mask=mask), states(model, head_mask=head_mask(model, {0: [0, 3], 1: [0, 1, 2, 3], 2: [1]}))
    )


def test_nothing_is_removed_where_nothing_is_named() -> None:
    model = drawn("bert")
    same = remove(model)
    assert same is not model
    assert same.architecture == model.architecture
    close(states(same), states(model))


def test_groups_of_heads_that_share_keys_stay_equal() -> None:
    """Of two groups of two heads one loses one: it stays, silent. A group that loses both goes with its keys."""
    model = drawn("llama")
    cases = (([1], 4, 2, 1), ([1, 2], 2, None, 0), ([0, 1], 2, 1, 0), ([0, 2, 3], 1, None, 0))
    for gone, left, key_heads, silent in cases:
        smaller = remove(model, heads={0: gone})
        settings = smaller.architecture.layers[0].attention
        assert (settings.heads, settings.key_heads) == (left, key_heads)
        columns = smaller.state_dict()["attention.0.output.weight"].unflatten(1, (settings.heads, settings.head_size))
        assert int((columns == 0).all(dim=2).all(dim=0).sum()) == silent
        close(states(smaller), states(model, head_mask=head_mask(model, {0: gone})))


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_smaller_decoder_writes_what_the_masked_one_does(family: str) -> None:
    """With its cache, a layer without heads among its layers; the cache holds what is left."""
    model = drawn(family, "causal-lm", torch.float32, initializer_range=0.3)
    smaller = remove(model, heads=HEADS, neurons=NEURONS)
    told = [
        gs.generate(one, ids(2, 5), max_new_tokens=12, temperature=0).ids
        for one in (zeroed(model, HEADS, NEURONS), smaller)
    ]
    assert told[0] == told[1]
    caches = [Cache(one.architecture) for one in (model, smaller)]
    with torch.no_grad():
        for one, cache in zip((model, smaller), caches, strict=True):
            one(ids(2, 5), cache=cache)
            cache.select([1])
    assert caches[1].bytes < caches[0].bytes


def test_heads_take_their_patterns_and_distances_along() -> None:
    """Layers that shared a table by distance share it while the same heads stay, and have their own rows else."""
    patterns = PerHead((Window(1, 1), 1), (Full(), 2), (Window(2, 0), 1))
    model = drawn("bert", num_hidden_layers=4)
    table = DistanceTable(before=2, after=2, weights=0)
    described = replace(
        model.architecture,
        layers=tuple(
            replace(layer, attention=replace(layer.attention, pattern=patterns, distance_bias=table))
            for layer in model.architecture.layers
        ),
    )
    model = rebuild(model, described, {"distance_bias.0.weight": torch.randn(4, 5).double()}, source=str)
    heads = {0: [0], 1: [1], 2: [1], 3: [0, 3]}
    smaller = remove(model, heads=heads)
    close(states(smaller), states(model, head_mask=head_mask(model, heads)))
    layers = [layer.attention for layer in smaller.architecture.layers]
    assert [one.distance_bias and one.distance_bias.weights for one in layers] == [0, 1, 1, 2]
    assert layers[0].pattern == PerHead((Full(), 2), (Window(2, 0), 1))
    assert layers[3].pattern == Full()
    none = remove(model, heads={i: [0, 1, 2, 3] for i in range(4)})
    close(states(none), states(model, head_mask=torch.zeros(4, 4).double()))
    assert len(none.distance_bias) == 0


def test_what_is_left_is_counted_and_told() -> None:
    smaller = remove(drawn("bert", "masked-lm"), heads=HEADS, neurons=NEURONS)
    told = str(summary(smaller))
    assert "no heads" in told
    assert "no neurons" in told
    assert f"{sum(one.numel() for one in smaller.parameters()):,} parameters" in told
    with capture(smaller) as seen:
        smaller(ids())
    assert seen.layers == (0, 2)
    assert seen.rows(2, [0]).shape == (2, 1, 1, 9)
    with pytest.raises(InputError, match=r"^layer 1 has no heads, so its tokens attend to nothing; name another$"):
        seen.rows(1, [0])


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ({"layers": [3]}, "layers has 3; the model's layers go from 0 to 2"),
        ({"layers": "12"}, "layers is '12'; it must be a list of numbers"),
        ({"layers": [1, 1]}, "layers has 1 twice; name it once"),
        ({"layers": [0, 1, 2]}, "layers names all 3; leave at least one of them"),
        ({"heads": [1]}, "heads is [1]; it must name them by layer, such as {0: [1, 2]}"),
        ({"heads": {5: [1]}}, "heads has 5; the model's layers go from 0 to 2"),
        ({"heads": {0: [4]}}, "heads[0] has 4; those of the layer go from 0 to 3"),
        ({"heads": {0: [True]}}, "heads[0] has true; those of the layer"),
        ({"heads": {0: 1}}, "heads[0] is 1; it must be a list of numbers"),
        ({"neurons": {2: [12]}}, "neurons[2] has 12; those of the layer go from 0 to 11"),
        ({"neurons": {2: [-1]}}, "neurons[2] has -1; those"),
    ],
)
def test_what_is_not_there_is_one_line(named: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as refused:
        remove(drawn("bert"), **named)
    assert str(refused.value).replace("True", "true").startswith(said)


def test_weights_in_parts_are_refused() -> None:
    with pytest.raises(InputError, match=r"^the model keeps some weights in parts \(low-rank\); make them whole"):
        remove(store(drawn("bert"), ["attention.0.query"], LowRank(rank=1)), layers=[0])
    without = remove(drawn("bert"), heads={0: range(4)})
    with pytest.raises(InputError, match=r"^heads\[0\] has 0; the layer has none$"):
        remove(without, heads={0: [0]})
