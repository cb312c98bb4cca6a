"""Captured attention weights against `transformers`' own, on drawn models of every family."""

from typing import Any

import pytest
import torch
from drawn_cases import Case, cases
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import build, distance, double_bound, our_outputs, through_disk
from torch import Tensor

from gossamer.inspection import CapturedAttention, capture

FAMILIES = ("bert", "roberta", "distilbert", "albert", "electra", "longformer")


def their_weights(theirs: Any, case: Case) -> list[Tensor]:
    """Of every layer, [batch, heads, length, length]."""
    batch = dict(case.batch)
    if case.embedded:
        batch["inputs_embeds"] = theirs.get_input_embeddings()(batch.pop("input_ids"))
    if case.global_mask is not None:
        batch["global_attention_mask"] = case.global_mask.long()
    out = theirs(**batch, output_attentions=True)
    if case.family != "longformer":
        return list(out.attentions)
    return [spread(case, i, out.attentions[i], out.global_attentions) for i in range(len(out.attentions))]


def spread(case: Case, layer: int, local: Tensor, of_flagged: tuple[Tensor, ...] | None) -> Tensor:
    """transformers' Longformer tells columns of flagged keys, then those of the window; rows of flagged queries apart.

    Those rows lie in global_attentions, [batch, heads, padded length, flagged]. Window columns of flagged keys are 0.
    """
    rows, heads, length, _ = local.shape
    most = 0 if not of_flagged else of_flagged[layer].shape[-1]
    half = case.config.attention_window[layer] // 2
    full = local.new_zeros(rows, heads, length, length)
    for c in range(2 * half + 1):
        for i in range(max(0, half - c), min(length, length + half - c)):
            full[:, :, i, i + c - half] = local[:, :, i, most + c]
    if case.global_mask is None or not of_flagged:
        return full
    real = case.batch.get("attention_mask", torch.ones(rows, length))
    for row, flags in enumerate(case.global_mask & (real > 0)):
        for column, key in enumerate(flags.nonzero()[:, 0].tolist()):
            full[row, :, :, key] += local[row, :, :, column]
        for column, query in enumerate(flags.nonzero()[:, 0].tolist()):
            full[row, :, query] = of_flagged[layer][row, :, :length, column]
    return full


def check_layer(
    attention: CapturedAttention, layer: int, wanted: Tensor, bound: float, random: torch.Generator
) -> None:
    length = wanted.shape[-1]
    every = attention.rows(layer, range(length))
    assert distance(every, wanted) <= bound
    sums = every.sum(-1)
    assert ((sums - 1).abs().minimum(sums.abs()) <= 1e-9).all()
    some = torch.randint(length, (3,), generator=random).tolist()
    torch.testing.assert_close(attention.rows(layer, some), every[:, :, some], rtol=0, atol=1e-12)
    for rows in (None, some):
        top = attention.top_keys(layer, 3, rows)
        chosen = every if rows is None else every[:, :, rows]
        best = torch.nn.functional.pad(chosen, (0, 3)).topk(3).values
        torch.testing.assert_close(top.weights, best, rtol=0, atol=1e-12)
        found = chosen.gather(-1, top.keys.clamp(min=0)).masked_fill(top.keys < 0, 0)
        torch.testing.assert_close(found, best, rtol=0, atol=1e-12)


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=max(4, settings.default.max_examples // 5))
@given(data=st.data())
def test_weights_of_every_layer(family: str, data: st.DataObject) -> None:
    case = data.draw(cases(family, None))
    theirs = build(case, torch.float64)
    ours = through_disk(theirs)
    with torch.no_grad():
        wanted, plain = their_weights(theirs, case), our_outputs(ours, case)
        with capture(ours) as attention:
            outputs = our_outputs(ours, case)
    assert all(torch.equal(outputs[name], plain[name]) for name in plain)
    assert attention.layers == tuple(range(len(wanted)))
    for layer, expected in enumerate(wanted):
        check_layer(attention, layer, expected, double_bound(family), case.random)
