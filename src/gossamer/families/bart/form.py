"""The form of BART: an encoder and a decoder, norms after each sum, one word table for both and for the head."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from gossamer.errors import InputError
from gossamer.families.base import Config, Family, Field, HeadForm, Key
from gossamer.families.kinds import ACTIVATION, COLUMNS, FLAG, LAYERS, NOT_NEGATIVE, RATE, ROWS, TOKEN
from gossamer.families.shared import end_of_text, label_fields, label_heads, token_id
from gossamer.families.stored import Stored
from gossamer.models.architecture import Architecture
from gossamer.models.heads import Seq2SeqLM
from gossamer.patterns import Full

__all__ = ["ALIASES", "COPIES", "FAMILY", "FIELDS", "GIVEN", "KEYS", "UNREAD", "seq2seq_head", "stack_keys"]

_OFFSET = 2
"""Rows of the position tables that lie before position 0, whatever the padding's id is."""
_DECODER = "decoder.layers"


def _head_size(heads: str) -> Any:
    def read(config: Config) -> int:
        size, count = config["d_model"], config[heads]
        if size % count:
            raise InputError(f"d_model is {size}; it must be a multiple of {heads}, {count}")
        return int(size // count)

    return read


def _scale(value: bool, config: Config) -> float:
    return math.sqrt(config["d_model"]) if value else 1.0


def _token(name: str) -> Any:
    return lambda value, config: token_id(name, value, config)


def _written_scale(scale: float, architecture: Architecture) -> bool:
    return scale != 1


FIELDS = (
    Field("vocab_size", ROWS, 50265, to=("embeddings.vocabulary_size", "decoder.embeddings.vocabulary_size")),
    Field(
        "max_position_embeddings",
        ROWS,
        1024,
        to=("length", "embeddings.positions.length", "decoder.length", "decoder.embeddings.positions.length"),
    ),
    Field("d_model", COLUMNS, 1024, to=("hidden_size", "embeddings.size", "decoder.embeddings.size")),
    Field("encoder_layers", LAYERS, 12, to=("layers",)),
    Field("decoder_layers", LAYERS, 12, to=(_DECODER,)),
    Field("encoder_attention_heads", COLUMNS, 16, to=("layers.attention.heads",)),
    Field(
        "decoder_attention_heads",
        COLUMNS,
        16,
        to=(f"{_DECODER}.attention.heads", f"{_DECODER}.cross_attention.heads"),
    ),
    Field("encoder_ffn_dim", COLUMNS, 4096, to=("layers.feed_forward.width",)),
    Field("decoder_ffn_dim", COLUMNS, 4096, to=(f"{_DECODER}.feed_forward.width",)),
    Field(
        "activation_function",
        ACTIVATION,
        "gelu",
        to=("layers.feed_forward.activation", f"{_DECODER}.feed_forward.activation"),
    ),
    Field(
        "dropout",
        RATE,
        0.1,
        to=(
            "embeddings.dropout",
            "layers.attention.residual_dropout",
            "layers.feed_forward.residual_dropout",
            "decoder.embeddings.dropout",
            f"{_DECODER}.attention.residual_dropout",
            f"{_DECODER}.cross_attention.residual_dropout",
            f"{_DECODER}.feed_forward.residual_dropout",
        ),
    ),
    Field(
        "attention_dropout",
        RATE,
        0.0,
        to=("layers.attention.dropout", f"{_DECODER}.attention.dropout", f"{_DECODER}.cross_attention.dropout"),
    ),
    Field("activation_dropout", RATE, 0.0, to=("layers.feed_forward.dropout", f"{_DECODER}.feed_forward.dropout")),
    Field("init_std", NOT_NEGATIVE, 0.02, to=("initializer_range",)),
    Field(
        "scale_embedding",
        FLAG,
        False,
        to=("embeddings.scale", "decoder.embeddings.scale"),
        read=_scale,
        write=_written_scale,
    ),
    Field(
        "pad_token_id",
        TOKEN,
        1,
        to=("embeddings.padding_id", "decoder.embeddings.padding_id"),
        read=_token("pad_token_id"),
        null_is_usual=True,
    ),
    Field(
        "decoder_start_token_id",
        TOKEN,
        2,
        to=("decoder.start_id",),
        read=_token("decoder_start_token_id"),
        null_is_usual=True,
    ),
    end_of_text(2),
    Field(
        "classifier_dropout",
        RATE,
        0.0,
        to=("head.sequence-classification.dropout", "head.sequence-classification.input_dropout"),
    ),
    Field("tie_word_embeddings", FLAG, True, to=("head.tied",)),
    *label_fields(3),
)


def stack_keys(ours: str, theirs: str, *, norm: bool = True) -> dict[str, Key]:
    """The keys of one stack: ours begin with the first, theirs with the second. norm: embeddings have one."""
    layer = f"{theirs}.layers.{{layer}}"
    parts = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "output": "out_proj"}
    attentions = [("attention", "self_attn")] + ([("cross_attention", "encoder_attn")] if ours else [])
    return {
        f"{ours}embeddings.position": f"{theirs}.embed_positions",
        **({f"{ours}embeddings.norm": f"{theirs}.layernorm_embedding"} if norm else {}),
        **{
            f"{ours}{own}.{{layer}}.{part}": f"{layer}.{name}.{there}"
            for own, name in attentions
            for part, there in parts.items()
        },
        **{f"{ours}{own}.{{layer}}.norm": f"{layer}.{name}_layer_norm" for own, name in attentions},
        f"{ours}feed_forward.{{layer}}.up": f"{layer}.fc1",
        f"{ours}feed_forward.{{layer}}.down": f"{layer}.fc2",
        f"{ours}feed_forward.{{layer}}.norm": f"{layer}.final_layer_norm",
    }


KEYS: dict[str, Key] = {"embeddings.word": "shared", **stack_keys("", "encoder"), **stack_keys("decoder.", "decoder")}

COPIES = {f"{stack}.embed_tokens.weight": "embeddings.word.weight" for stack in ("encoder", "decoder")}

GIVEN = {
    "embeddings.token_types": 0,
    "embeddings.positions.offset": _OFFSET,
    "embeddings.norm.eps": 1e-5,
    "layers.norm.eps": 1e-5,
    "layers.attention.pattern": Full(),
    "layers.attention.head_size": _head_size("encoder_attention_heads"),
    "decoder.embeddings.token_types": 0,
    "decoder.embeddings.positions.offset": _OFFSET,
    "decoder.embeddings.norm.eps": 1e-5,
    f"{_DECODER}.norm.eps": 1e-5,
    f"{_DECODER}.attention.pattern": Full(causal=True),
    f"{_DECODER}.attention.head_size": _head_size("decoder_attention_heads"),
    f"{_DECODER}.cross_attention.head_size": _head_size("decoder_attention_heads"),
    "head.seq2seq-lm.bias": True,
    "head.sequence-classification.reads": "end",
}


def seq2seq_head(name: str) -> HeadForm:
    """The head that writes, whose bias old files may lack."""
    return HeadForm(
        head=Seq2SeqLM,
        architectures=(name,),
        keys={"head.bias": Stored(name="final_logits_bias", single=0), "head.decoder": "lm_head"},
        tied={"lm_head.weight": "embeddings.word.weight"},
        optional={"head.bias": None},
    )


ALIASES = {
    "num_attention_heads": "encoder_attention_heads",
    "hidden_size": "d_model",
    "num_hidden_layers": "encoder_layers",
}

UNREAD: dict[str, Callable[[Any], bool]] = {
    f"{stack}_layerdrop": lambda value: value in (None, 0) for stack in ("encoder", "decoder")
}

FAMILY = Family(
    model_type="bart",
    prefix="model",
    bare="BartModel",
    fields=FIELDS,
    given=GIVEN,
    # Of the first versions of this format, whose models of another shape are families of their own by now.
    required={
        "normalize_before": (False,),
        "normalize_embedding": (True,),
        "add_final_layer_norm": (False,),
        "static_position_embeddings": (False,),
    },
    keys=KEYS,
    copies=COPIES,
    heads={"seq2seq-lm": seq2seq_head("BartForConditionalGeneration"), **label_heads("Bart")},
    aliases=ALIASES,
    unread=UNREAD,
    end_id=2,
)
