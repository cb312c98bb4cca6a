"""Every family and head against `transformers`, on configurations that nobody chose."""

import pytest
import torch
from drawn_cases import EVERY, Case, cases
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import (
    BOUND,
    back_through_disk,
    build,
    distance,
    double_bound,
    gradients,
    in_their_names,
    our_outputs,
    their_outputs,
    through_disk,
)

PAIRS = pytest.mark.parametrize(("family", "head"), EVERY, ids=[f"{family}-{head}" for family, head in EVERY])


def examples(share: float) -> settings:
    """A share of the profile's examples for each pair of family and head; a family has six or more of them."""
    return settings(max_examples=max(1, round(settings.default.max_examples * share)))


def check(case: Case, dtype: torch.dtype, bound: float) -> None:
    theirs = build(case, dtype)
    ours = through_disk(theirs)
    reference, outputs = their_outputs(theirs, case), our_outputs(ours, case)
    assert outputs.keys() == reference.keys()
    assert ("loss" in reference) == (case.head is not None)
    for name, expected in reference.items():
        assert distance(outputs[name], expected) <= bound, name
    # The loss alone may have gradients that are nothing but cancelled terms: float64 resolves them, float32 does not.
    parts = [reference.keys() - {"loss"}, reference.keys() & {"loss"}] if dtype == torch.float64 else [reference.keys()]
    for names in filter(None, parts):
        mine = gradients({name: outputs[name] for name in names}, ours, case.seed)
        expected = gradients({name: reference[name] for name in names}, theirs, case.seed)
        check_gradients(case, *in_their_names(mine, ours, expected, case.config.to_dict()), bound)


def check_gradients(case: Case, mine: torch.Tensor, expected: torch.Tensor, bound: float) -> None:
    assert mine.isfinite().all()
    # In float64 transformers' Longformer has NaN gradients whenever it pads: its mask overflows its float32 softmax.
    if case.family == "longformer" and expected.dtype == torch.float64 and not expected.isfinite().all():
        return
    assert distance(mine, expected) <= bound


@PAIRS
@given(data=st.data())
@examples(0.16)
def test_outputs_and_gradients_in_float64(family: str, head: str | None, data: st.DataObject) -> None:
    check(data.draw(cases(family, head)), torch.float64, double_bound(family))


@PAIRS
@given(data=st.data())
@examples(0.08)
def test_outputs_and_gradients_in_float32(family: str, head: str | None, data: st.DataObject) -> None:
    check(data.draw(cases(family, head)), torch.float32, BOUND)


@PAIRS
@given(data=st.data())
@examples(0.08)
def test_saved_model_is_the_same_one_in_transformers(family: str, head: str | None, data: st.DataObject) -> None:
    case = data.draw(cases(family, head))
    theirs = build(case, torch.float32)
    again = back_through_disk(through_disk(theirs), case)
    expected, found = theirs.state_dict(), again.state_dict()
    # Groups of several inner layers are written with as few as say the same: other names, the same layers in order.
    if family != "albert" or case.config.inner_group_num == 1:
        assert expected.keys() == found.keys()
        read = [
            name
            for name in expected
            if case.config.tie_word_embeddings or not name.endswith(("lm_head.bias", "predictions.bias"))
        ]
        assert all(torch.equal(expected[name], found[name]) for name in read)
    for name, value in their_outputs(again, case).items():
        assert torch.equal(value, their_outputs(theirs, case)[name]), name
