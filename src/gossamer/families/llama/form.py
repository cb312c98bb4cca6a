"""The form of Llama: norms before each part, a gate, fewer key heads, positions that turn queries and keys."""

from typing import Any

from gossamer.errors import InputError, quote
from gossamer.families.base import OMITTED, Config, Family, Field, HeadForm
from gossamer.families.kinds import (
    ACTIVATION,
    COLUMNS,
    FLAG,
    LAYERS,
    NOT_NEGATIVE,
    OPTIONAL_COLUMNS,
    OPTIONAL_OBJECT,
    OPTIONAL_POSITIVE,
    OPTIONAL_TOKEN,
    POSITIVE,
    RATE,
    ROWS,
)
from gossamer.families.shared import DECODER_DROPOUT, LABEL_FIELDS, head_size, padding_id, refuse_scaled_rotary
from gossamer.models.architecture import Architecture, Rotary
from gossamer.models.heads import CausalLM, QuestionAnswering, SequenceClassification, TokenClassification
from gossamer.patterns import Full

__all__ = ["FAMILY"]

BASE = 10000.0


def _head_size(value: Any, config: Config) -> Any:
    """`head_dim`, null being `hidden_size / num_attention_heads`."""
    return head_size(config) if value is None else value


def _key_heads(value: Any, config: Config) -> Any:
    """`num_key_value_heads`; as many as there are query heads is None here."""
    return None if value == config["num_attention_heads"] else value


def _rotary(value: Any, config: Config) -> Rotary:
    """What `rope_parameters` says, or `rope_theta` and `rope_scaling` in files of older versions, which go first."""
    name = "rope_scaling" if config["rope_scaling"] else "rope_parameters"
    given = config[name] or {}
    refuse_scaled_rotary(name, given)
    base: Any = given.get("rope_theta", config["rope_theta"])
    base = BASE if base is None else base
    if not POSITIVE.accepts(base):
        raise InputError(f"{name}.rope_theta is {quote(base)}; it must be {POSITIVE.allowed}")
    return Rotary(base=base)


def _rope_parameters(rotary: Rotary | None, architecture: Architecture) -> Any:
    return {"rope_theta": None if rotary is None else rotary.base, "rope_type": "default"}


def _unwritten(value: Any, architecture: Architecture) -> Any:
    return OMITTED


ROTARY = ("layers.attention.rotary",)

FIELDS = (
    Field("vocab_size", ROWS, 32000, to=("embeddings.vocabulary_size",)),
    Field("pad_token_id", OPTIONAL_TOKEN, None, to=("embeddings.padding_id",), read=padding_id),
    Field("max_position_embeddings", ROWS, 2048, to=("length",)),
    Field("hidden_size", COLUMNS, 4096, to=("hidden_size", "embeddings.size")),
    Field("num_hidden_layers", LAYERS, 32, to=("layers",)),
    Field("num_attention_heads", COLUMNS, 32, to=("layers.attention.heads",)),
    Field(
        "num_key_value_heads",
        OPTIONAL_COLUMNS,
        None,
        to=("layers.attention.key_heads",),
        read=_key_heads,
        write=lambda heads, architecture: architecture.layers[0].attention.heads if heads is None else heads,
    ),
    Field("head_dim", OPTIONAL_COLUMNS, None, to=("layers.attention.head_size",), read=_head_size),
    Field("attention_bias", FLAG, False, to=("layers.attention.bias", "layers.attention.output_bias")),
    Field("attention_dropout", RATE, 0.0, to=("layers.attention.dropout",)),
    Field("intermediate_size", COLUMNS, 11008, to=("layers.feed_forward.width",)),
    Field("hidden_act", ACTIVATION, "silu", to=("layers.feed_forward.activation",)),
    Field("mlp_bias", FLAG, False, to=("layers.feed_forward.bias",)),
    Field("rms_norm_eps", POSITIVE, 1e-6, to=("layers.norm.eps", "final_norm.eps")),
    Field("initializer_range", NOT_NEGATIVE, 0.02, to=("initializer_range",)),
    Field("tie_word_embeddings", FLAG, False, to=("head.tied",)),
    Field("rope_parameters", OPTIONAL_OBJECT, None, to=ROTARY, read=_rotary, write=_rope_parameters),
    Field("rope_theta", OPTIONAL_POSITIVE, None, to=ROTARY, read=_rotary, write=_unwritten),
    Field("rope_scaling", OPTIONAL_OBJECT, None, to=ROTARY, read=_rotary, write=_unwritten),
    DECODER_DROPOUT,
    *LABEL_FIELDS,
)

KEYS = {
    "embeddings.word": "embed_tokens",
    "attention.{layer}.query": "layers.{layer}.self_attn.q_proj",
    "attention.{layer}.key": "layers.{layer}.self_attn.k_proj",
    "attention.{layer}.value": "layers.{layer}.self_attn.v_proj",
    "attention.{layer}.output": "layers.{layer}.self_attn.o_proj",
    "attention.{layer}.norm": "layers.{layer}.input_layernorm",
    "feed_forward.{layer}.gate": "layers.{layer}.mlp.gate_proj",
    "feed_forward.{layer}.up": "layers.{layer}.mlp.up_proj",
    "feed_forward.{layer}.down": "layers.{layer}.mlp.down_proj",
    "feed_forward.{layer}.norm": "layers.{layer}.post_attention_layernorm",
    "final_norm": "norm",
}

HEADS = {
    "causal-lm": HeadForm(
        head=CausalLM,
        architectures=("LlamaForCausalLM",),
        keys={"head.decoder": "lm_head"},
        tied={"lm_head.weight": "embeddings.word.weight"},
    ),
    "sequence-classification": HeadForm(
        head=SequenceClassification, architectures=("LlamaForSequenceClassification",), keys={"head.output": "score"}
    ),
    "token-classification": HeadForm(
        head=TokenClassification,
        architectures=("LlamaForTokenClassification",),
        keys={"head.output": "score"},
        required={"token_classification_bias": (True,)},
    ),
    "question-answering": HeadForm(
        head=QuestionAnswering,
        architectures=("LlamaForQuestionAnswering",),
        keys={"head.output": "qa_outputs"},
        prefix="transformer",
    ),
}

FAMILY = Family(
    model_type="llama",
    prefix="model",
    bare="LlamaModel",
    fields=FIELDS,
    given={
        "layers.norm_place": "pre",
        "layers.norm.kind": "rms",
        "layers.norm.bias": False,
        "final_norm.kind": "rms",
        "final_norm.bias": False,
        "layers.attention.pattern": Full(causal=True),
        "layers.attention.residual_dropout": 0.0,
        "layers.feed_forward.gated": True,
        "layers.feed_forward.residual_dropout": 0.0,
        "embeddings.norm": None,
        "embeddings.token_types": 0,
        "embeddings.dropout": 0.0,
        "embeddings.positions.scheme": "none",
        "head.sequence-classification.reads": "last",
        "head.sequence-classification.dropout": 0.0,
        "head.question-answering.dropout": 0.0,
    },
    keys=KEYS,
    heads=HEADS,
    # The angles, which old files hold as tensors.
    ignored=("layers.*.self_attn.rotary_emb.inv_freq", "rotary_emb.inv_freq"),
)
