"""The form of LED: BART's, with a window for each layer of the encoder, global projections, and two lengths."""

from __future__ import annotations

from gossamer.families.bart.form import ALIASES, COPIES, UNREAD, seq2seq_head, stack_keys
from gossamer.families.bart.form import FIELDS as BART_FIELDS
from gossamer.families.bart.form import GIVEN as BART_GIVEN
from gossamer.families.base import Family, Field, Key
from gossamer.families.kinds import ROWS
from gossamer.families.longformer.form import ATTENTION_WINDOW, GLOBAL_TOKENS, unless_none
from gossamer.families.shared import LABEL_FIELDS, label_heads, with_fields

__all__ = ["FAMILY"]

_LABELS = tuple(field.name for field in LABEL_FIELDS)

FIELDS = with_fields(
    BART_FIELDS,
    Field("max_encoder_position_embeddings", ROWS, 16384, to=("length", "embeddings.positions.length")),
    Field("max_decoder_position_embeddings", ROWS, 1024, to=("decoder.length", "decoder.embeddings.positions.length")),
    Field("attention_window", ATTENTION_WINDOW, 512, to=("layers.attention.pattern",), per_layer=True),
    Field("global_tokens", GLOBAL_TOKENS, "none", to=("global_tokens",), write=unless_none),
    without=("max_position_embeddings", "scale_embedding", "eos_token_id", "classifier_dropout", *_LABELS),
)

GIVEN = {
    **{place: value for place, value in BART_GIVEN.items() if place != "layers.attention.pattern"},
    "embeddings.positions.offset": 0,
    "decoder.embeddings.positions.offset": 0,
    "layers.attention.global_projections": True,
}

_ATTENTION = "encoder.layers.{layer}.self_attn"

KEYS: dict[str, Key] = {
    "embeddings.word": "shared",
    **stack_keys("", "encoder"),
    **{
        f"attention.{{layer}}.{part}{kind}": f"{_ATTENTION}.longformer_self_attn.{part}{kind}"
        for part in ("query", "key", "value")
        for kind in ("", "_global")
    },
    "attention.{layer}.output": f"{_ATTENTION}.output",
    **stack_keys("decoder.", "decoder"),
}

FAMILY = Family(
    model_type="led",
    prefix="led",
    bare="LEDModel",
    fields=FIELDS,
    given=GIVEN,
    keys=KEYS,
    copies=COPIES,
    heads={
        "seq2seq-lm": seq2seq_head("LEDForConditionalGeneration"),
        "question-answering": label_heads("LED")["question-answering"],
    },
    aliases={**ALIASES, "attention_probs_dropout_prob": "attention_dropout", "initializer_range": "init_std"},
    unread=UNREAD,
    end_id=2,
)
