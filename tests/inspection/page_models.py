"""A small architecture of every kind that a summary's page has to show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from gossamer.families import get_family
from gossamer.layers.storages import LowRank
from gossamer.models import Architecture, Attention, Embeddings, FeedForward, Layer, Positions, StoredMaps
from gossamer.models.decoders import decoder
from gossamer.patterns import Chunks, Full, Global, Hashed, Pattern, PerHead, Sink, Window

BART = {
    "vocab_size": 40, "d_model": 16, "encoder_layers": 2, "decoder_layers": 3, "encoder_attention_heads": 4,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 12, "decoder_ffn_dim": 20, "max_position_embeddings": 24,
    "pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 2, "decoder_start_token_id": 2,
}  # fmt: skip
T5 = {
    "vocab_size": 40, "d_model": 16, "d_kv": 8, "num_layers": 2, "num_heads": 2, "d_ff": 20, "pad_token_id": 0,
    "relative_attention_num_buckets": 8, "relative_attention_max_distance": 20, "decoder_start_token_id": 0,
}  # fmt: skip
DEBERTA = {
    "vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 20,
    "max_position_embeddings": 32, "relative_attention": True, "pos_att_type": ["c2p", "p2c"], "type_vocab_size": 0,
    "position_biased_input": False, "position_buckets": 8, "share_att_key": True, "norm_rel_ebd": "layer_norm",
}  # fmt: skip


def encoder(
    patterns: Sequence[Pattern] = (Full(),) * 3,
    *,
    heads: Sequence[int] = (4, 4, 4),
    widths: Sequence[int] = (20, 20, 20),
    sets: Sequence[int] = (0, 1, 2),
    length: int = 64,
    **more: Any,
) -> Architecture:
    """Layers of heads x 4; `sets`: the weight set of each."""
    layers = tuple(
        Layer(
            attention=Attention(pattern=pattern, heads=count, head_size=4, weights=number),
            feed_forward=FeedForward(width=width, weights=number),
        )
        for pattern, count, width, number in zip(patterns, heads, widths, sets, strict=True)
    )
    embeddings = Embeddings(vocabulary_size=50, size=16, positions=Positions(length=length))
    return Architecture(hidden_size=16, embeddings=embeddings, layers=layers, **more)


def small_decoder(pattern: Pattern, **changes: Any) -> Architecture:
    made = decoder(vocabulary_size=50, length=64, layers=3, hidden_size=16, heads=4, patterns=pattern)
    return replace(made, **changes)


WINDOW = Window(8, 8) | Global()
KINDS: dict[str, Architecture] = {
    "encoder": encoder(),
    "windows": encoder([Window(4, 4), WINDOW, Full()]),
    "decoder": small_decoder(Window(15, 0) | Sink(2)),
    "two texts": get_family("bart").read(BART, head="seq2seq-lm"),
    "distances": get_family("t5").read(T5, head="seq2seq-lm"),
    "states of distances": get_family("deberta-v2").read(DEBERTA, head=None),
    "pruned": encoder(heads=(0, 1, 3), widths=(20, 0, 7)),
    "no attention": encoder(heads=(0, 0, 0)),
    "shared": encoder(sets=(0, 0, 0)),
    "partly shared": encoder(sets=(0, 1, 0)),
    "groups of heads": encoder([PerHead((Window(4, 4), 1), (Full(), 3))] * 3),
    "reversible": small_decoder(Window(7, 0), reversible="mean"),
    "hashed": small_decoder(Hashed(rounds=2, buckets=4, chunk=8)),
    "chunks in slices": encoder([Chunks(8, causal=False)] * 3, slice_length=16),
    "stored": encoder(storages=(StoredMaps(maps=("attention.1.query",), storage=LowRank(rank=2)),)),
    "one layer": encoder([Full()], heads=[4], widths=[20], sets=[0]),
}
