"""A T5 with windows: as the original where they cover the text, and in linear memory beyond."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from live_bytes import LiveBytes

import gossamer as gs
from gossamer.errors import InputError
from gossamer.families import get_family
from gossamer.kernels import explain
from gossamer.models import Model

FEW = settings.default.max_examples // 8
SIZES = {
    "d_model": 16, "d_kv": 8, "d_ff": 12, "num_layers": 2, "num_decoder_layers": 1, "num_heads": 2, "vocab_size": 40,
    "relative_attention_num_buckets": 8, "relative_attention_max_distance": 20, "pad_token_id": 0,
}  # fmt: skip


def t5(seed: int, **changes: Any) -> Model:
    torch.manual_seed(seed)
    model = Model(get_family("t5").read(SIZES | changes, head="seq2seq-lm"), family="t5").eval()
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


def loss_and_gradients(model: Model, batch: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    loss = model(**batch).loss
    return [loss.detach(), *torch.autograd.grad(loss, list(model.parameters()))]


@given(seed=st.integers(0, 2**31), window=st.sampled_from([8, 64]), gated=st.booleans())
@settings(max_examples=FEW)
def test_what_the_window_covers_reads_as_before(seed: int, window: int, gated: bool) -> None:
    old = t5(seed, feed_forward_proj="gated-gelu" if gated else "relu")
    new, receipt = gs.lengthen(old, to=4096, window=window)
    batch = texts(seed, window // 2 + 1)
    for one, other in zip(loss_and_gradients(new, batch), loss_and_gradients(old, batch), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert next(iter(receipt.measured.values())) <= 1e-5
    assert old.architecture.layers[0].attention.pattern == gs.Full()


def test_what_became_of_it() -> None:
    old = t5(0)
    new, receipt = gs.lengthen(old, to=2048, window=[16, 32])
    assert [one.attention.pattern for one in new.architecture.layers] == [gs.Window(8, 8), gs.Window(16, 16)]
    assert new.architecture.decoder == old.architecture.decoder
    assert (new.architecture.length, new.family) == (2048, "gossamer")
    assert receipt.measured["relative_difference_at_512_tokens"] > 1e-3
    assert receipt.changes[:2] == (
        "attention of the 2 layers that read the first text: full became window 8+8, window 16+16",
        "texts of up to 2,048 tokens are read at once; no weight depends on the length",
    )
    assert receipt.changes[3].startswith("format gossamer; T5's cannot hold this model: layers.attention.pattern")


def test_it_is_saved_and_writes(tmp_path: Any) -> None:
    new, _ = gs.lengthen(t5(0), to=2048, window=16)
    gs.save(new, tmp_path / "long")
    again = gs.load(tmp_path / "long")
    assert again.architecture == new.architecture
    written = [
        gs.generate(one, list(range(4, 38)) * 8, max_new_tokens=5, temperature=0, ignore_end=True).ids
        for one in (new, again)
    ]
    assert written[0] == written[1]
    assert len(written[0][0]) == 5
    with pytest.raises(InputError, match="the model reads 2048"):
        gs.generate(new, [5] * 2049)


@pytest.mark.parametrize("window", [None, 32], ids=["full", "window"])
def test_memory_is_linear(window: int | None) -> None:
    """Both ways of attending, forward and backward: four times the text, about four times the bytes."""
    model = t5(0) if window is None else gs.lengthen(t5(0), to=2**16, window=window)[0]

    def most(length: int) -> int:
        batch = {name: x[:1] for name, x in texts(0, length).items()}
        with LiveBytes(model) as live:
            loss_and_gradients(model, batch)
        return live.most

    assert most(4096) <= 4.2 * most(1024)


def test_long_texts_stay_off_the_dense_backend() -> None:
    q = torch.zeros(1, 2, 1, 8).expand(-1, -1, 16_384, -1)
    assert explain(q, q, q, gs.Window(64, 64), distance_bias=(torch.zeros(2, 41), 20)).backend in ("cpu", "blocked")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"to": 0}, "to is 0; it must be a whole number of tokens from 1 to"),
        ({"window": 7}, "window is 7; it must be even"),
        ({"window": [8]}, "window has 1 entry; the model has 2 layers"),
        ({"global_tokens": "first"}, "global_tokens is 'first'; it must be 'none', or left out, where positions are"),
        ({"positions": "random"}, "positions is 'random'; it must be left out where positions are distances alone"),
        ({"pattern": "hashed"}, "pattern is 'hashed'; it must be 'window' where positions are distances alone"),
        ({"force": True}, "force is True; it must be left out"),
    ],
)
def test_mistakes_are_told(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        gs.lengthen(t5(0), **options)


def test_windows_once_more_are_refused() -> None:
    new, _ = gs.lengthen(t5(0), to=64, window=8)
    with pytest.raises(InputError, match="lengthen replaces full attention only"):
        gs.lengthen(new, to=128, window=8)
