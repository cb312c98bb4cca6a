"""What a decoder does beyond the common comparison: left padding, greedy continuation, settings without effect."""

import copy
from typing import Any

import pytest
import torch
from drawn_cases import DECODERS, Case, cases
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import BOUND, back_through_disk, build, distance, double_bound, their_class, through_disk
from transformers import AutoConfig

import gossamer as gs

DECODER = pytest.mark.parametrize("family", DECODERS)
FEW = settings(max_examples=max(3, settings.default.max_examples // 4))


def left_padded(case: Case) -> dict[str, torch.Tensor]:
    """The case's ids behind padding of drawn lengths, with positions as generation counts them."""
    ids = case.batch["input_ids"]
    rows, length = ids.shape
    kept = torch.randint(1, length + 1, (rows, 1), generator=case.random)
    mask = (torch.arange(length) >= length - kept).long()
    return {"input_ids": ids, "attention_mask": mask, "position_ids": (mask.cumsum(-1) - 1).clamp(min=0)}


@DECODER
@FEW
@given(data=st.data())
def test_real_tokens_behind_padding(family: str, data: st.DataObject) -> None:
    """In float32 where transformers takes the softmax in it: a mask in float64 overflows that, and padding is NaN."""
    case = data.draw(cases(family, "causal-lm"))
    theirs = build(case, torch.float32 if family == "llama" else torch.float64)
    ours, batch = through_disk(theirs), left_padded(case)
    real = batch["attention_mask"].bool()
    with torch.no_grad():
        assert distance(ours(**batch).logits[real], theirs(**batch).logits[real]) <= double_bound(family)


@DECODER
@FEW
@given(data=st.data())
def test_greedy_continuation_is_the_same(family: str, data: st.DataObject) -> None:
    """Token for token, of texts in float64, where no two scores are nearly equal."""
    case = data.draw(cases(family, "causal-lm"))
    theirs = build(case, torch.float64)
    ours, rows = through_disk(theirs), case.config.max_position_embeddings
    ids = case.batch["input_ids"][:, : max(1, rows - 4)]
    steps = min(4, rows - ids.shape[1])
    if not steps:
        return
    expected = theirs.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=steps,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )
    new = expected[:, ids.shape[1] :].tolist()
    for use_cache in (True, False):
        assert gs.generate(
            ours, ids, max_new_tokens=steps, temperature=0, ignore_end=True, use_cache=use_cache
        ).ids == new  # fmt: skip


@DECODER
@FEW
@given(data=st.data())
def test_tiled_loss_has_the_gradients_of_transformers(family: str, data: st.DataObject) -> None:
    """transformers takes this loss in float32, hence the bound."""
    case = data.draw(cases(family, "causal-lm").filter(lambda case: case.labels is not None))
    theirs = build(case, torch.float32)
    ours = through_disk(theirs)
    batch = {name: one for name, one in case.batch.items() if name != "position_ids"}
    mine, expected = ours(**batch, labels=case.labels).loss, theirs(**batch, labels=case.labels).loss
    assert abs(float(mine.detach()) - float(expected.detach())) <= BOUND * max(1.0, float(expected.detach()))
    mine.backward()
    expected.backward()
    assert distance(ours.embeddings.word.weight.grad, theirs.get_input_embeddings().weight.grad) <= BOUND


@pytest.mark.parametrize(
    "changes",
    [
        {"reorder_and_upcast_attn": True},
        {"use_cache": False},
        {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 3},
        {"summary_type": "last", "task_specific_params": {"text-generation": {"do_sample": True}}},
    ],
)
def test_settings_without_effect_are_kept(changes: dict[str, Any], tmp_path: Any) -> None:
    config = AutoConfig.for_model(
        "gpt2", vocab_size=30, n_positions=12, n_embd=8, n_layer=2, n_head=2, **copy.deepcopy(changes)
    )
    config._attn_implementation = "eager"
    case = Case("gpt2", "causal-lm", config, {"input_ids": torch.arange(4, 12)[None]}, seed=0)
    theirs = build(case, torch.float32)
    ours = through_disk(theirs)
    assert {name: ours.extra_config[name] for name in changes if name in ours.extra_config} != {}
    again = back_through_disk(ours, case)
    for name, value in changes.items():
        assert getattr(again.config, name) == value
    with torch.no_grad():
        ids = case.batch["input_ids"]
        assert distance(ours(ids).logits, theirs(ids).logits) <= BOUND
        assert distance(again(ids).logits, theirs(ids).logits) <= BOUND
    expected = theirs.state_dict()
    assert all(torch.equal(one, expected[name]) for name, one in again.state_dict().items())
    assert isinstance(again, their_class("gpt2", "causal-lm"))
