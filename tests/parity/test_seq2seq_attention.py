"""Captured attention of both stacks of a model of two texts, and between them, against `transformers`' own."""

from contextlib import ExitStack

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracle import distance
from test_seq2seq import BOUNDS, FEW, batches, loaded, models

from gossamer.errors import InputError
from gossamer.inspection import capture
from gossamer.inspection.attention import parts_of


@pytest.mark.parametrize("family", ["bart", "marian", "t5"])
@FEW
@given(data=st.data(), read=st.integers(1, 20), written=st.integers(1, 12))
@torch.no_grad()
def test_weights_of_all_three_parts(family: str, data: st.DataObject, read: int, written: int) -> None:
    theirs = data.draw(models(family, max(read, written)))
    ours = loaded(theirs)
    batch = data.draw(batches(theirs.config, read, written))
    ids = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    texts = {**ids, "decoder_input_ids": batch["labels"].clamp(min=0)}
    expected = theirs(**texts, output_attentions=True)
    assert parts_of(ours) == ("main", "decoder", "cross")
    with ExitStack() as stack:
        seen = {part: stack.enter_context(capture(ours, part=part)) for part in parts_of(ours)}
        unwatched = ours(**texts).logits
    assert torch.equal(ours(**texts).logits, unwatched)
    known = {
        "main": expected.encoder_attentions, "decoder": expected.decoder_attentions, "cross": expected.cross_attentions,
    }  # fmt: skip
    for part, layers in known.items():
        for i, wanted in enumerate(layers):
            found = seen[part].rows(i, range(wanted.shape[2]))  # type: ignore[index]
            assert found.shape == wanted.shape
            real = batch["attention_mask"].bool() if part == "main" else torch.ones(len(wanted), wanted.shape[2]) > 0
            mine, reference = (one.transpose(1, 2)[real] for one in (found, wanted))
            assert distance(mine, reference) <= BOUNDS[family]


@FEW
@given(data=st.data())
def test_a_part_that_there_is_not_is_refused(data: st.DataObject) -> None:
    ours = loaded(data.draw(models("bart", 8)))
    with (
        pytest.raises(InputError, match="part is 'encoder'; this model has main, decoder, cross"),
        capture(
            ours,
            part="encoder",  # type: ignore[arg-type]
        ),
    ):
        pass
