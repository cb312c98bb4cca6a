"""BART made an LED: as the original where a window covers the text, as `transformers` reads it beyond."""

import tempfile
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForSeq2SeqLM

import gossamer as gs
from gossamer.families import get_family
from gossamer.models import Model

FEW = settings.default.max_examples // 8
SIZES = {
    "d_model": 16, "encoder_layers": 2, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 4,
    "encoder_ffn_dim": 12, "decoder_ffn_dim": 8, "vocab_size": 40, "max_position_embeddings": 24, "pad_token_id": 1,
}  # fmt: skip


def bart(seed: int, **changes: Any) -> Model:
    form = get_family("bart")
    torch.manual_seed(seed)
    model = Model(form.read(SIZES | changes, head="seq2seq-lm"), family="bart").eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.2)
    return model


def texts(seed: int, length: int) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    ids = torch.randint(4, 40, (2, length), generator=random)
    mask = torch.ones_like(ids)
    mask[1, length // 2 + 1 :] = 0
    return {"input_ids": ids, "attention_mask": mask, "labels": torch.randint(4, 40, (2, 6), generator=random)}


@given(seed=st.integers(0, 2**31), window=st.sampled_from([8, 16]), more=st.integers(0, 40))
@settings(max_examples=FEW)
def test_what_the_window_covers_reads_as_before(seed: int, window: int, more: int) -> None:
    old = bart(seed)
    new, receipt = gs.lengthen(old, to=24 + more, window=window)
    batch = texts(seed, window // 2 + 1)
    with torch.no_grad():
        assert float((new(**batch).loss - old(**batch).loss).abs()) <= 1e-5
    assert new.family == "led"
    assert next(iter(receipt.measured.values())) <= 1e-5
    assert "rows of the table before position 0, for padding: 2 became 0" in receipt.changes


@given(seed=st.integers(0, 2**31), window=st.sampled_from([4, 8]), length=st.integers(25, 72))
@settings(max_examples=FEW)
def test_transformers_reads_it_as_here(seed: int, window: int, length: int) -> None:
    new, _ = gs.lengthen(bart(seed), to=80, window=window)
    with tempfile.TemporaryDirectory() as directory:
        gs.save(new, directory)
        theirs, info = AutoModelForSeq2SeqLM.from_pretrained(directory, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    batch = texts(seed, length)
    first = torch.zeros_like(batch["input_ids"])
    first[:, 0] = 1
    with torch.no_grad():
        found, expected = new(**batch).loss, theirs.eval()(**batch, global_attention_mask=first).loss
    assert float((found - expected).abs()) <= 1e-4


def test_what_led_cannot_say_stays_in_our_own_format() -> None:
    new, receipt = gs.lengthen(bart(0, scale_embedding=True), to=64, window=8)
    assert new.family == "gossamer"
    assert new.architecture.decoder.embeddings.positions.offset == 2
    assert any("LED's cannot hold this model: embeddings.scale" in one for one in receipt.changes)
    assert new.architecture.length == 64


def test_a_longer_text_is_written_about() -> None:
    new, _ = gs.lengthen(bart(0), to=64, window=8)
    found = gs.generate(new, [list(range(4, 38)) * 2][0][:60], max_new_tokens=5, temperature=0, ignore_end=True)
    assert len(found.ids[0]) == 5
    with pytest.raises(gs.InputError, match="the model reads 64"):
        gs.generate(new, [5] * 65)
