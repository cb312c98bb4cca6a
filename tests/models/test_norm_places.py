"""Where the norms of a part stand: every pair of places against the sums written out, in float64."""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from model_inputs import architecture, model, texts
from torch import Tensor, nn

import gossamer as gs
from gossamer.inspection import cost, summary
from gossamer.layers import TokenInfo
from gossamer.models import Model, Norm
from gossamer.models.settings import NormPlace

PLACES = get_args(NormPlace)
PAIRS = list(itertools.product(PLACES, PLACES))
NORMS = (Norm(eps=1e-3), Norm(kind="rms", bias=False, eps=1e-3, offset=1.0))


def placed(attention: str, feed_forward: str, norm: Norm = NORMS[0], **more: Any) -> Model:
    described = architecture()
    layers = tuple(replace(one, norm=norm, norm_place=(attention, feed_forward), **more) for one in described.layers)
    return model(replace(described, layers=layers))


def normalised(norm: nn.Module, kind: str, x: Tensor) -> Tensor:
    weight = norm.weight
    if kind == "rms":
        return x / (x.square().mean(-1, keepdim=True) + 1e-3).sqrt() * (1 + weight)
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-3).sqrt() * weight + norm.bias


def written_out(built: Model, ids: Tensor, places: tuple[str, str], kind: str) -> Tensor:
    """Post-norm as Vaswani et al. 2017, section 5.4; the sandwich as Gemma 2: x + norm(part(norm(x)))."""
    x = built.embeddings(ids, None, torch.arange(ids.shape[1])[None], None)
    for i, layer in enumerate(built.architecture.layers):
        attention, network = built.attention[i], built.feed_forward[i]
        maps = (lambda y, a=attention, p=layer.attention.pattern: a(y, p, TokenInfo()), network)
        for part, owner, place in zip(maps, (attention, network), places, strict=True):
            if place == "post":
                x = normalised(owner.norm, kind, x + part(x))
            elif place == "pre":
                x = x + part(normalised(owner.norm, kind, x))
            elif place == "both":
                x = x + normalised(owner.output_norm, kind, part(normalised(owner.norm, kind, x)))
            else:
                x = x + part(x)
    return x


@pytest.mark.parametrize("recompute", ["nothing", "both"])
@pytest.mark.parametrize("norm", NORMS, ids=["layer", "rms"])
@pytest.mark.parametrize("places", PAIRS)
def test_states_and_gradients_are_those_written_out(places: tuple[str, str], norm: Norm, recompute: str) -> None:
    built, ids = placed(*places, norm=norm, recompute=recompute), texts()
    mine, expected = built(ids).last_hidden_state, written_out(built, ids, places, norm.kind)
    torch.testing.assert_close(mine, expected, rtol=1e-9, atol=1e-12)
    weights = list(built.attention.parameters()) + list(built.feed_forward.parameters())
    direction = torch.randn(mine.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found, wanted = (torch.autograd.grad((out * direction).sum(), weights) for out in (mine, expected))
    torch.testing.assert_close(found, wanted, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("places", PAIRS)
def test_each_place_has_norms_of_its_own_and_they_are_counted(places: tuple[str, str], tmp_path: Path) -> None:
    built = placed(*places)
    norms = {"post": {"norm"}, "pre": {"norm"}, "both": {"norm", "output_norm"}, "none": set()}
    for part, place in zip((built.attention, built.feed_forward), places, strict=True):
        for one in part:
            assert {name for name, _ in one.named_children() if name.endswith("norm")} == norms[place]
    parameters = sum(one.numel() for one in built.parameters())
    assert cost(built.architecture, 9).parameters == summary(built).root.parameters == parameters
    again = gs.load(gs.save(built, tmp_path / "model"))
    assert again.architecture == built.architecture
    assert torch.equal(again(texts()).last_hidden_state, built(texts()).last_hidden_state)


def test_the_tree_names_both_norms_of_a_sandwich() -> None:
    page = str(summary(placed("both", "none")))
    assert page.count("of what is read, eps 0.001") == 1
    assert page.count("of what is added, eps 0.001") == 1
