"""Pruning without training: what is kept, what else stays as it was, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import gossamer as gs
from gossamer.families import get_family
from gossamer.models import Model
from gossamer.training.pruning.choice import keep_highest
from gossamer.training.pruning.units import find_units, mean_scores

IDS = torch.arange(30).view(2, 15)
LAYERS = ("attention.", "feed_forward.")
SIZES = {"vocab_size": 50, "hidden_size": 16, "num_attention_heads": 4, "num_hidden_layers": 2}


def encoder(**fields: Any) -> Model:
    """With biases that are not 0."""
    torch.manual_seed(0)
    sizes = {**SIZES, "intermediate_size": 24, "max_position_embeddings": 40}
    model = Model(get_family("bert").read({**sizes, **fields}, head="masked-lm"), family="bert").eval()
    with torch.no_grad():
        for name, one in model.named_parameters():
            if name.endswith("bias"):
                one.normal_(0, 0.1)
    return model


def llama() -> Model:
    """Two query heads to a key head, a gate, no biases."""
    torch.manual_seed(0)
    sizes = {**SIZES, "intermediate_size": 24, "num_key_value_heads": 2, "max_position_embeddings": 40}
    return Model(get_family("llama").read({**sizes, "rms_norm_eps": 1e-6}, head="causal-lm"), family="llama").eval()


def weights(model: Model) -> dict[str, Tensor]:
    return {name: one for name, one in model.named_parameters() if name.startswith(LAYERS) and one.dim() == 2}


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_the_largest_weights_stay_and_nothing_else_changes(scope: str) -> None:
    model = encoder()
    before = {name: one.clone() for name, one in model.state_dict().items()}
    new, receipt = gs.prune(model, score="magnitude", keep=0.3, scope=scope)
    old = weights(model)
    numbers = [one.numel() for one in old.values()]
    least = torch.cat([one.abs().flatten() for one in old.values()]).sort(descending=True).values
    for name, one in old.items():
        left = int(new.get_parameter(name).count_nonzero())
        of_map = one.abs().flatten().sort(descending=True).values
        bound = of_map[round(0.3 * len(of_map)) - 1] if scope == "layer" else least[round(0.3 * sum(numbers)) - 1]
        assert torch.equal(new.get_parameter(name), one.where(one.abs() >= bound, 0))
        assert scope == "global" or left == round(0.3 * one.numel())
    for name, one in new.state_dict().items():
        assert torch.equal(model.state_dict()[name], before[name]), "the given model"
        assert name in old or torch.equal(one, before[name]), name
    count = sum(int(new.get_parameter(name).count_nonzero()) for name in old)
    assert receipt.before["nonzero weights of layers"] == sum(numbers)
    assert receipt.after["nonzero weights of layers"] == count
    assert abs(count - 0.3 * sum(numbers)) < len(numbers)
    shares = receipt.after["density of attention"], receipt.after["density of feed-forward"]
    assert [len(one) for one in shares] == [2, 2]
    assert scope == "global" or shares[0] == [pytest.approx(0.3, abs=0.01)] * 2
    assert receipt.changes == (f"{count:,} of {sum(numbers):,} single weights are left",)
    assert (new.architecture, new.family) == (model.architecture, model.family)


def test_it_is_saved_and_read_as_any_model(tmp_path: Path) -> None:
    new, _ = gs.prune(encoder(), score="random", keep=0.5, seed=3)
    again = gs.load(gs.save(new, tmp_path / "pruned"))
    assert again.family == "bert"
    for name, one in weights(new).items():
        assert torch.equal(again.get_parameter(name) == 0, one == 0)
        assert int(one.count_nonzero()) == one.numel() // 2
    torch.testing.assert_close(again(IDS).logits, new(IDS).logits, rtol=0, atol=1e-6)


def test_what_is_drawn_depends_on_the_seed_alone() -> None:
    first, same, other = (gs.prune(encoder(), score="random", keep=0.5, seed=seed)[0] for seed in (1, 1, 2))
    ours, theirs = weights(first), weights(other)
    assert all(torch.equal(one, weights(same)[name]) for name, one in ours.items())
    assert not any(torch.equal(one, theirs[name]) for name, one in ours.items())


@pytest.mark.parametrize("structure", ["weight", "block", "heads", "neurons", "hybrid", ["heads", "neurons"]])
def test_with_everything_kept_nothing_changes(structure: Any) -> None:
    model = encoder()
    new, _ = gs.prune(model, score="magnitude", structure=structure, keep=1.0, block=(5, 3))
    torch.testing.assert_close(new(IDS).logits, model(IDS).logits, rtol=0, atol=1e-6)


def test_of_blocks_those_of_the_largest_mean_stay() -> None:
    model = encoder()
    new, _ = gs.prune(model, score="magnitude", structure="block", keep=0.5, block=(5, 7))
    for name, one in weights(model).items():
        means = {
            (i, j): float(one.detach()[i : i + 5, j : j + 7].double().abs().mean())
            for i in range(0, one.shape[0], 5)
            for j in range(0, one.shape[1], 7)
        }
        best = sorted(means, key=lambda place: -means[place])[: round(0.5 * len(means))]
        for i, j in means:
            part = new.get_parameter(name)[i : i + 5, j : j + 7]
            assert torch.equal(part, one[i : i + 5, j : j + 7]) if (i, j) in best else not part.any(), (name, i, j)


@pytest.mark.parametrize("make", [encoder, llama])
def test_a_removed_neuron_is_out_of_all_its_maps_and_a_masked_one_gives_the_same(make: Any) -> None:
    model = make()
    new, receipt = gs.prune(model, score="magnitude", structure="neurons", keep=0.25)
    for old, part in zip(model.feed_forward, new.feed_forward, strict=True):
        maps = [one for one in (old.up, old.gate) if one is not None]
        rows = torch.cat([*(one.weight for one in maps), old.down.weight.T], dim=1)
        best = rows.double().abs().mean(1).argsort(descending=True)[:6].sort().values
        left = part.down.weight.any(0).nonzero().flatten()
        assert torch.equal(left, best)
        for one in (part.up, part.gate):
            if one is not None:
                assert torch.equal(one.weight.any(1).nonzero().flatten(), best)
                assert one.bias is None or bool((one.bias[~torch.isin(torch.arange(24), best)] == 0).all())
        with torch.no_grad():
            old.down.weight[:, ~torch.isin(torch.arange(24), best)] = 0
    assert receipt.changes == ("12 of 48 neurons are left",)
    torch.testing.assert_close(new(IDS).logits, model(IDS).logits, rtol=0, atol=1e-6)


@pytest.mark.parametrize("make", [encoder, llama])
def test_a_removed_head_is_out_of_all_its_maps_and_switched_off(make: Any) -> None:
    """`head_mask` is the definition; heads that share their keys go together."""
    model = make()
    new, receipt = gs.prune(model, score="magnitude", structure="heads", keep=0.5, scope="global")
    mask = torch.ones(2, 4)
    for i, part in enumerate(new.attention):
        mask[i] = part.output.weight.unflatten(1, (4, 4)).any(2).any(0)
        of_heads = part.query.weight.unflatten(0, (4, 4)).any(2).any(1)
        assert torch.equal(of_heads, mask[i] == 1)
        keys = len(part.key.weight) // 4
        shared = mask[i].view(keys, -1).any(1)
        for one in (part.key, part.value):
            assert torch.equal(one.weight.unflatten(0, (keys, 4)).any(2).any(1), shared)
            assert one.bias is None or not one.bias.unflatten(0, (keys, 4))[~shared].any()
    assert int(mask.sum()) == 4
    assert receipt.changes == (f"{4 if make is encoder else 2} of {8 if make is encoder else 4} heads are left",)
    torch.testing.assert_close(new(IDS).logits, model(IDS, head_mask=mask).logits, rtol=0, atol=1e-6)


@pytest.mark.parametrize("make", [encoder, llama])
def test_parts_of_layers_go_whole(make: Any) -> None:
    model = make()
    with torch.no_grad():
        model.attention[1].output.weight.mul_(1e-3)
        model.attention[1].query.weight.mul_(1e-3)
    new, receipt = gs.prune(model, score="magnitude", structure="layers", keep=0.75, scope="global")
    assert receipt.changes == ("3 of 4 parts of layers are left",)
    assert "nothing is left of attention.1.query, attention.1.key, attention.1.value" in receipt.notes[0]
    left = [name for name, one in weights(new).items() if one.any()]
    assert left == [name for name in weights(model) if not name.startswith("attention.1.")]
    mask = torch.tensor([[1.0] * 4, [0.0] * 4])
    torch.testing.assert_close(new(IDS).logits, model(IDS, head_mask=mask).logits, rtol=0, atol=1e-6)


def test_scores_of_units_are_means_in_float64() -> None:
    model = llama().double()
    scores = {name: one.whole_weight().detach().abs() for name, one in model.named_modules() if hasattr(one, "storage")}
    heads, neurons = find_units(model, ("heads", "neurons"), (1, 1))[::2]
    assert (heads.map, neurons.map) == ("attention.0.output", "feed_forward.0.down")
    part = model.attention[0]
    second = [part.output.weight[:, 8:], part.query.weight[8:], part.key.weight[4:], part.value.weight[4:]]
    wanted = torch.cat([one.detach().abs().flatten() for one in second]).mean()
    torch.testing.assert_close(mean_scores(heads, scores)[0, 1], wanted, rtol=1e-12, atol=0)


def test_of_equal_scores_the_first_stay_and_exactly_so_many() -> None:
    scores = [torch.tensor([[1.0, 2.0, 1.0], [1.0, 0.0, 1.0]]), torch.tensor([[1.0, 3.0]])]
    layers = keep_highest(scores, 0.5, "layer")
    assert [one.tolist() for one in layers] == [[[1, 1, 1], [0, 0, 0]], [[0, 1]]]
    whole = keep_highest(scores, 0.5, "global")
    assert [one.tolist() for one in whole] == [[[1, 1, 1], [0, 0, 0]], [[0, 1]]]
    assert [one.tolist() for one in keep_highest(scores, 0.0, "layer")] == [[[0, 0, 0], [0, 0, 0]], [[0, 0]]]


def test_a_map_without_anything_left_is_told() -> None:
    model = encoder()
    with torch.no_grad():
        model.feed_forward[1].down.weight.mul_(1e-3)
    _, receipt = gs.prune(model, score="magnitude", keep=0.3, scope="global")
    assert "nothing is left of feed_forward.1.down: such a map adds its bias alone" in receipt.notes


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"score": "size"}, r"^score is 'size'; it must be one of 'gradient', 'l0', 'magnitude', 'movement'"),
    (
        {"score": "movement"},
        r"^score is 'movement', which rows or texts tell; give some",
    ),
    ({"structure": 3}, r"^structure is 3; it must be one or several of weight"),
    ({"block": 3}, r"^block is 3; it must be rows and columns"),
    ({"keep": 0}, r"^keep is 0; it must be a share of what is there, above 0, up to 1"),
    ({"keep": float("nan")}, r"^keep is nan"),
    ({"scope": "model"}, r"^scope is 'model'; it must be one of 'row', 'layer', 'global'"),
    ({"block": (3,)}, r"^block is \(3,\); it must be rows and columns"),
    ({"structure": "rows"}, r"^structure is 'rows'; it must be one or several of weight, block, heads, neurons"),
    ({"structure": ["weight", "hybrid"]}, r"weight and block are of all parts of layers: take one of them"),
    ({"structure": "layers"}, r"^scope is 'layer'; it must be 'global': of structure 'layers' each part of a layer is"),
    ({"structure": "heads", "keep": 0.1}, r"^keep is 0\.1; of the 4 heads units of attention\.0\.output that leaves"),
    ({"seed": -1}, r"^seed is -1; it must be a whole number, 0 or more"),
]


@pytest.mark.parametrize(("settings", "message"), WRONG, ids=lambda one: str(one)[:40])
def test_what_cannot_be_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(gs.InputError, match=message):
        gs.prune(encoder(), **{"score": "magnitude", **settings})


def test_maps_in_parts_are_refused() -> None:
    from gossamer.layers import LowRank
    from gossamer.surgery.storages import store

    adapted = store(encoder(), ["attention.0.query"], LowRank(rank=2))
    said = r"^maps of the model are kept low-rank; make them whole first, as gossamer\.compact does, then prune$"
    with pytest.raises(gs.InputError, match=said):
        gs.prune(adapted, score="magnitude")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("structure", ["heads", "layers"])
def test_half_precision_holds_no_sum_of_a_unit_and_needs_none(dtype: torch.dtype, structure: str) -> None:
    """A head has more weights here than float16 can count."""
    model = encoder(hidden_size=256, intermediate_size=256)
    with torch.no_grad():
        for layer, part in enumerate(model.attention):
            for head in range(4):
                part.output.weight[:, 64 * head : 64 * (head + 1)] *= (head + 1) * (layer + 1)
    asked: dict[str, Any] = {"score": "magnitude", "structure": structure, "keep": 0.5, "scope": "global"}
    wide, _ = gs.prune(model, **asked)
    half, _ = gs.prune(model.to(dtype), **asked)
    for name, one in weights(wide).items():
        assert torch.equal(one == 0, half.get_parameter(name) == 0), name
