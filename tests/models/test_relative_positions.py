"""States of distances in a model: their definition by hand, windows, packing, tables, captured, told, refused."""

import re
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import gossamer as gs
from gossamer.errors import InputError
from gossamer.families import get_family
from gossamer.inspection import capture, summary
from gossamer.models import Architecture, DistanceTable, Model, Norm, RelativePositions, Rotary

SMALL = {
    "vocab_size": 37, "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 10,
    "max_position_embeddings": 30, "relative_attention": True, "pos_att_type": "c2p|p2c",
    "position_biased_input": False, "norm_rel_ebd": "layer_norm",
}  # fmt: skip
IDS = torch.arange(22).view(2, 11) % 37


def described(*tables: RelativePositions | DistanceTable, **attention: Any) -> Architecture:
    plain = get_family("deberta-v2").read(SMALL)
    layers = tuple(
        replace(one, attention=replace(one.attention, distance_bias=table, **attention))
        for one, table in zip(plain.layers, tables, strict=True)
    )
    return replace(plain, layers=layers)


def built(architecture: Architecture) -> Model:
    torch.manual_seed(3)
    model = Model(architecture, family="deberta-v2").double().eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.3)
    return model


def by_hand(model: Model, ids: Tensor, seen: Tensor) -> Tensor:
    """The last states by the definition, with a state for each pair."""
    x = model.embeddings(ids, None, torch.zeros_like(ids), None)
    apart = torch.arange(ids.shape[1])[:, None] - torch.arange(ids.shape[1])
    for layer in model.architecture.layers:
        one, inner = model.attention[layer.attention.weights], model.feed_forward[layer.feed_forward.weights]
        given = layer.attention.distance_bias
        table = model.distance_bias[given.weights]
        states = table.states if table.norm is None else table.norm(table.states)
        pairs = states[(apart + given.span).clamp(0, 2 * given.span - 1)]
        to_key, to_query = (one.relative_key, one.relative_query) if given.own_maps else (one.key, one.query)
        q, k, v = (to(x).unflatten(-1, (3, -1)).transpose(1, 2) for to in (one.query, one.key, one.value))
        r_keys, r_queries = (to(pairs).unflatten(-1, (3, -1)) for to in (to_key, to_query))
        scores = q @ k.mT + torch.einsum("bhid,ijhd->bhij", q, r_keys) + torch.einsum("bhjd,ijhd->bhij", k, r_queries)
        weights = (scores * layer.attention.scale).masked_fill(~seen, -torch.inf).softmax(-1)
        x = one.norm(x + one.output((weights @ v).transpose(1, 2).flatten(2)))
        x = inner.norm(x + inner.down(torch.nn.functional.gelu(inner.up(x))))
    return x


@pytest.mark.parametrize("pattern", [gs.Full(), gs.Window(3, 2)], ids=str)
@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("apart", [False, True], ids=["one table", "a table each"])
def test_the_definition_and_its_gradients(apart: bool, own: bool, pattern: gs.Full | gs.Window) -> None:
    tables = [RelativePositions(span=4 + i * apart, weights=i * apart, own_maps=own) for i in range(2)]
    model = built(described(*tables, pattern=pattern))
    assert len(model.distance_bias) == 1 + apart
    wanted, found = by_hand(model, IDS, pattern.mask(11)), model(IDS).last_hidden_state
    torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-11)
    weights = list(model.parameters())
    mine, theirs = (torch.autograd.grad(one.square().sin().sum(), weights) for one in (found, wanted))
    for one, hand in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, hand, rtol=1e-8, atol=1e-9)


def test_packed_documents_are_as_separate_ones() -> None:
    model = built(described(*[RelativePositions(span=4, weights=0)] * 2))
    ids, segments = torch.arange(13)[None], torch.tensor([[0] * 8 + [1] * 5])
    together = model(ids, segments=segments).last_hidden_state
    apart = [model(one).last_hidden_state for one in ids.split([8, 5], dim=1)]
    torch.testing.assert_close(together, torch.cat(apart, dim=1), rtol=1e-11, atol=1e-11)


def test_captured_weights_are_those_of_the_layer_and_learn() -> None:
    model = built(described(*[RelativePositions(span=4, weights=0)] * 2))
    with capture(model, learns=True) as seen:
        model(IDS)
    weights = seen.rows(1, range(11))
    torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]))
    learned = torch.autograd.grad(weights.square().sum(), model.distance_bias[0].states)[0]
    assert bool((learned != 0).any(dim=1).all())


def test_a_summary_names_them() -> None:
    told = str(summary(built(described(*[RelativePositions(span=4, farthest=20, weights=0)] * 2))))
    assert re.search(r"distance states +2 × 4, ranges of distances to 20 +120 ", told)
    assert "1 weight set for 2 layers" in told
    own = str(summary(built(described(*[RelativePositions(span=4, weights=0, own_maps=True)] * 2))))
    assert re.search(r"distance keys, queries +12 → 12 each +624 ", own)


def test_a_description_survives_json() -> None:
    table = RelativePositions(span=6, farthest=40, weights=0, terms=("position-to-content",), norm=Norm(eps=1e-3))
    architecture = described(table, DistanceTable(before=3, after=3, weights=1))
    assert Architecture.from_dict(architecture.to_dict()) == architecture
    data = architecture.to_dict()
    data["layers"][0]["attention"]["distance_bias"]["kind"] = "circular"
    with pytest.raises(InputError, match=r"distance_bias\.kind is 'circular'; it must be 'relative-positions'"):
        Architecture.from_dict(data)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"span": 0}, "span is 0"),
        ({"span": 1, "farthest": 9}, "span is 1; it must be 2 or more with a farthest"),
        ({"farthest": 3}, "farthest is 3; it must be a whole number from 4 on"),
        ({"terms": ()}, r"terms is \(\); it must be a tuple of 'content-to-position'"),
        ({"terms": ("content",)}, "terms is"),
        ({"own_maps": 1}, "own_maps is 1"),
        ({"norm": "layer"}, "norm is 'layer'"),
        ({"dropout": 1.0}, "dropout is 1.0"),
    ],
)
def test_bad_values_are_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        RelativePositions(**{"span": 4, "weights": 0, **fields})


@pytest.mark.parametrize(
    "fields", [{"key_heads": 1}, {"query_key_norm": Norm()}, {"rotary": Rotary()}, {"shared_query_key": True}], ids=str
)
def test_what_does_not_go_with_them_is_refused(fields: dict[str, Any]) -> None:
    (name,) = fields
    with pytest.raises(InputError, match=rf"{name} is .*; it must be (None|False) with RelativePositions"):
        described(*[RelativePositions(span=4, weights=0)] * 2, **fields)


def test_layers_that_share_a_table_agree_on_it() -> None:
    with pytest.raises(InputError, match=r"layers\[1\]\.distance_bias shares weight set 0 but is shaped"):
        described(RelativePositions(span=4, weights=0), RelativePositions(span=5, weights=0))
