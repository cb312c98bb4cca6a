"""The form of T5: root-mean-square norms, no biases, scores by buckets of distances, the same in all of a stack."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from gossamer.errors import InputError
from gossamer.families.base import OMITTED, Config, Family, Field, HeadForm, Key
from gossamer.families.kinds import (
    ACTIVATION,
    COLUMNS,
    FLAG,
    LAYERS,
    OPTIONAL_FLAG,
    POSITIVE,
    RATE,
    ROWS,
    TOKEN,
    Kind,
)
from gossamer.families.shared import LABEL_FIELDS, end_of_text, label_heads, token_id
from gossamer.families.stored import Stored
from gossamer.models.architecture import Architecture, DistanceTable
from gossamer.models.checks import MOST_LAYERS
from gossamer.models.heads import Seq2SeqLM
from gossamer.models.settings import Activation
from gossamer.patterns import Full

__all__ = ["FAMILY"]

_DECODER = "decoder.layers"
_LENGTH = 2**20
"""Tokens that are read at once: distances have no end, and what a tokenizer allows is less."""


def _is_projection(value: Any) -> bool:
    name = value.removeprefix("gated-") if isinstance(value, str) else None
    return ACTIVATION.accepts(name)


PROJECTION = Kind(allowed=f'{ACTIVATION.allowed}; or "gated-" and one of them', accepts=_is_projection)
OPTIONAL_LAYERS = Kind(
    allowed=f"{LAYERS.allowed}, or null", accepts=lambda v: v is None or (type(v) is int and 1 <= v <= MOST_LAYERS)
)


def _activation(value: str, config: Config) -> Activation:
    name = value.removeprefix("gated-")
    # What the first files call "gated-gelu" is the tanh kind.
    read: Activation = ACTIVATION.read("gelu_new" if value == "gated-gelu" else name)
    assert read in get_args(Activation)
    return read


def _projection(activation: Activation, architecture: Architecture) -> str:
    gated = architecture.layers[0].feed_forward.gated
    if gated and activation == "gelu_tanh":
        return "gated-gelu"
    if gated and activation == "gelu":
        raise InputError(
            'feed_forward.activation is "gelu" with a gate, which T5 has no word for: "gated-gelu" is tanh'
        )
    return f"{'gated-' if gated else ''}{ACTIVATION.write(activation)}"


def _table(after: bool) -> Any:
    def read(value: Any, config: Config) -> DistanceTable:
        buckets, farthest = config["relative_attention_num_buckets"], config["relative_attention_max_distance"]
        return DistanceTable(before=farthest, after=farthest if after else 0, weights=0, buckets=buckets)

    return read


def _of_table(name: str) -> Any:
    def write(table: DistanceTable | None, architecture: Architecture) -> int:
        if not isinstance(table, DistanceTable) or table.buckets is None:
            raise InputError(f"layers.attention.distance_bias is {table}; T5 has one with buckets")
        return int(getattr(table, name))

    return write


def _scale(value: bool | None, config: Config) -> float:
    """Version 1.0, whose head is tied, scales the states that it reads; transformers 5 has a word of its own for it."""
    scales = config["tie_word_embeddings"] if value is None else value
    return float(config["d_model"] ** -0.5) if scales else 1.0


def _written_scale(scale: float, architecture: Architecture) -> Any:
    is_scaled = scale != 1
    return OMITTED if is_scaled == getattr(architecture.head, "tied", is_scaled) else is_scaled


def _places(*ends: str, cross: tuple[str, ...] = ()) -> tuple[str, ...]:
    both = [f"{stack}.{end}" for stack in ("layers", _DECODER) for end in ends]
    return (*both, *(f"{_DECODER}.cross_attention.{one}" for one in cross))


FIELDS = (
    Field("vocab_size", ROWS, 32128, to=("embeddings.vocabulary_size", "decoder.embeddings.vocabulary_size")),
    Field("d_model", COLUMNS, 512, to=("hidden_size", "embeddings.size", "decoder.embeddings.size")),
    Field("d_kv", COLUMNS, 64, to=_places("attention.head_size", cross=("head_size",))),
    Field("d_ff", COLUMNS, 2048, to=_places("feed_forward.width")),
    Field("num_layers", LAYERS, 6, to=("layers",)),
    Field(
        "num_decoder_layers",
        OPTIONAL_LAYERS,
        None,
        to=(_DECODER,),
        read=lambda value, config: config["num_layers"] if value is None else value,
    ),
    Field("num_heads", COLUMNS, 8, to=_places("attention.heads", cross=("heads",))),
    Field(
        "relative_attention_num_buckets",
        COLUMNS,
        32,
        to=("layers.attention.distance_bias",),
        read=_table(True),
        write=_of_table("buckets"),
    ),
    Field(
        "relative_attention_max_distance",
        ROWS,
        128,
        to=("layers.attention.distance_bias",),
        read=_table(True),
        write=_of_table("before"),
    ),
    Field(
        "dropout_rate",
        RATE,
        0.1,
        to=(
            "embeddings.dropout",
            "final_dropout",
            "decoder.embeddings.dropout",
            "decoder.final_dropout",
            *_places(
                "attention.dropout",
                "attention.residual_dropout",
                "feed_forward.dropout",
                "feed_forward.residual_dropout",
                cross=("dropout", "residual_dropout"),
            ),
        ),
    ),
    Field("layer_norm_epsilon", POSITIVE, 1e-6, to=(*_places("norm.eps"), "final_norm.eps", "decoder.final_norm.eps")),
    Field(
        "feed_forward_proj",
        PROJECTION,
        "relu",
        to=_places("feed_forward.activation"),
        read=_activation,
        write=_projection,
    ),
    Field(
        "decoder_start_token_id",
        TOKEN,
        0,
        to=("decoder.start_id",),
        read=lambda value, config: token_id("decoder_start_token_id", value, config),
        null_is_usual=True,
    ),
    end_of_text(1),
    Field(
        "classifier_dropout",
        RATE,
        0.0,
        to=("head.sequence-classification.dropout", "head.sequence-classification.input_dropout"),
    ),
    Field("tie_word_embeddings", FLAG, True, to=("head.tied",)),
    *LABEL_FIELDS,
    Field(
        "scale_decoder_outputs",
        OPTIONAL_FLAG,
        None,
        to=("head.seq2seq-lm.scale",),
        read=_scale,
        write=_written_scale,
    ),
)


def _stack_keys(ours: str, theirs: str) -> dict[str, Key]:
    block = f"{theirs}.block.{{layer}}.layer"
    parts = {"query": "q", "key": "k", "value": "v", "output": "o"}
    attentions = [("attention", f"{block}.0", "SelfAttention")]
    if ours:
        attentions.append(("cross_attention", f"{block}.1", "EncDecAttention"))
    last = f"{block}.{len(attentions)}"
    return {
        **{
            f"{ours}{own}.{{layer}}.{part}": f"{place}.{name}.{there}"
            for own, place, name in attentions
            for part, there in parts.items()
        },
        **{f"{ours}{own}.{{layer}}.norm": f"{place}.layer_norm" for own, place, _ in attentions},
        f"{ours}distance_bias.{{layer}}": Stored(
            name=f"{block}.0.SelfAttention.relative_attention_bias", transposed=True
        ),
        f"{ours}feed_forward.{{layer}}.gate": f"{last}.DenseReluDense.wi_0",
        f"{ours}feed_forward.{{layer}}.up": f"{last}.DenseReluDense.{{up}}",
        f"{ours}feed_forward.{{layer}}.down": f"{last}.DenseReluDense.wo",
        f"{ours}feed_forward.{{layer}}.norm": f"{last}.layer_norm",
        f"{ours}final_norm": f"{theirs}.final_layer_norm",
    }


def _braces(config: Config) -> Mapping[str, str]:
    return {"up": "wi_1" if _is_gated(config) else "wi"}


def _is_gated(config: Config) -> bool:
    return bool(config["feed_forward_proj"].startswith("gated-"))


_NORM = {"kind": "rms", "bias": False}
_GIVEN_BY_STACK = {
    "embeddings.token_types": 0,
    "embeddings.padding_id": None,
    "embeddings.norm": None,
    "embeddings.positions.scheme": "none",
    "length": _LENGTH,
    **{f"{place}.{name}": value for place in ("layers.norm", "final_norm") for name, value in _NORM.items()},
    "layers.norm_place": "pre",
    **{f"layers.attention.{name}": value for name, value in (("bias", False), ("output_bias", False), ("scale", 1.0))},
    "layers.feed_forward.bias": False,
    "layers.feed_forward.gated": _is_gated,
}

GIVEN = {
    **_GIVEN_BY_STACK,
    **{f"decoder.{place}": value for place, value in _GIVEN_BY_STACK.items()},
    "layers.attention.pattern": Full(),
    f"{_DECODER}.attention.pattern": Full(causal=True),
    f"{_DECODER}.attention.distance_bias": lambda config: _table(False)(None, config),
    f"{_DECODER}.cross_attention.bias": False,
    f"{_DECODER}.cross_attention.output_bias": False,
    f"{_DECODER}.cross_attention.scale": 1.0,
    "head.sequence-classification.reads": "end",
}

FAMILY = Family(
    model_type="t5",
    prefix="",
    bare="T5Model",
    fields=FIELDS,
    given=GIVEN,
    keys={"embeddings.word": "shared", **_stack_keys("", "encoder"), **_stack_keys("decoder.", "decoder")},
    copies={f"{stack}.embed_tokens.weight": "embeddings.word.weight" for stack in ("encoder", "decoder")},
    heads={
        "seq2seq-lm": HeadForm(
            head=Seq2SeqLM,
            architectures=("T5ForConditionalGeneration", "T5WithLMHeadModel"),
            keys={"head.decoder": "lm_head"},
            tied={"lm_head.weight": "embeddings.word.weight"},
            # transformers 5 ties the head of version 1.1 too, and writes it once.
            optional={"head.decoder.weight": "embeddings.word.weight"},
        ),
        **label_heads("T5", prefix="transformer"),
    },
    braces=_braces,
    aliases={
        "hidden_size": "d_model",
        "num_attention_heads": "num_heads",
        "num_hidden_layers": "num_layers",
        "head_dim": "d_kv",
    },
    ignored=("decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight",),
    end_id=1,
    partial=dict.fromkeys(("T5EncoderModel", "T5ForTokenClassification"), "decoder"),
)
