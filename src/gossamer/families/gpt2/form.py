"""The form of GPT-2: query, key and value in one tensor, matrices as [inputs, outputs], two switches for the scores."""

from typing import Any

from gossamer.errors import InputError
from gossamer.families.base import Config, Family, Field, HeadForm, Key
from gossamer.families.kinds import (
    ACTIVATION,
    ANY_ID,
    COLUMNS,
    FLAG,
    LAYERS,
    NOT_NEGATIVE,
    OPTIONAL_COLUMNS,
    POSITIVE,
    RATE,
    ROWS,
)
from gossamer.families.shared import DECODER_DROPOUT, LABEL_FIELDS
from gossamer.families.stored import Stored
from gossamer.models.architecture import Architecture
from gossamer.models.heads import CausalLM, QuestionAnswering, SequenceClassification, TokenClassification
from gossamer.patterns import Full

__all__ = ["FAMILY"]

SWITCHES = ((True, False), (False, False), (True, True), (False, True))
"""scale_attn_weights and scale_attn_by_inverse_layer_idx, the usual ones first: where two say the same, these do."""


def _head_size(config: Config) -> int:
    hidden, heads = config["n_embd"], config["n_head"]
    if hidden % heads:
        raise InputError(f"n_embd is {hidden}; it must be a multiple of n_head, {heads}")
    return int(hidden // heads)


def _scales(size: int, layers: int, by_size: bool, by_layer: bool) -> list[float | None]:
    """Of every layer: 1 / sqrt(size) or 1, divided by the layer's number from 1 or not; None where it is the usual."""
    usual = size**-0.5
    each = [(usual if by_size else 1.0) / (i + 1 if by_layer else 1) for i in range(layers)]
    return [None if one == usual else one for one in each]


def _read_scales(value: Any, config: Config) -> list[float | None]:
    by_size, by_layer = config["scale_attn_weights"], config["scale_attn_by_inverse_layer_idx"]
    return _scales(_head_size(config), config["n_layer"], by_size, by_layer)


def _switches(architecture: Architecture) -> tuple[bool, bool]:
    """The two switches that give these scales; InputError where none do."""
    found = [one.attention.scale for one in architecture.layers]
    size = architecture.layers[0].attention.head_size
    for switches in SWITCHES:
        if _scales(size, len(found), *switches) == found:
            return switches
    raise InputError(f"layers scale their scores by {found}, which no switches of GPT-2 do")


def _width(value: Any, config: Config) -> Any:
    """`n_inner`, null being four times the model's width."""
    return 4 * config["n_embd"] if value is None else value


FIELDS = (
    Field("vocab_size", ROWS, 50257, to=("embeddings.vocabulary_size",)),
    Field("n_positions", ROWS, 1024, to=("length", "embeddings.positions.length")),
    Field("n_embd", COLUMNS, 768, to=("hidden_size", "embeddings.size")),
    Field("n_layer", LAYERS, 12, to=("layers",)),
    Field("n_head", COLUMNS, 12, to=("layers.attention.heads",)),
    Field(
        "n_inner",
        OPTIONAL_COLUMNS,
        None,
        to=("layers.feed_forward.width",),
        read=_width,
        write=lambda width, architecture: None if width == 4 * architecture.hidden_size else width,
    ),
    Field("activation_function", ACTIVATION, "gelu_new", to=("layers.feed_forward.activation",)),
    Field("resid_pdrop", RATE, 0.1, to=("layers.attention.residual_dropout", "layers.feed_forward.residual_dropout")),
    Field("embd_pdrop", RATE, 0.1, to=("embeddings.dropout",)),
    Field("attn_pdrop", RATE, 0.1, to=("layers.attention.dropout",)),
    Field("layer_norm_epsilon", POSITIVE, 1e-5, to=("layers.norm.eps", "final_norm.eps")),
    Field("initializer_range", NOT_NEGATIVE, 0.02, to=("initializer_range",)),
    Field(
        "scale_attn_weights",
        FLAG,
        True,
        to=("layers.attention.scale",),
        read=_read_scales,
        write=lambda scale, architecture: _switches(architecture)[0],
    ),
    Field(
        "scale_attn_by_inverse_layer_idx",
        FLAG,
        False,
        to=("layers.attention.scale",),
        read=_read_scales,
        write=lambda scale, architecture: _switches(architecture)[1],
    ),
    Field("tie_word_embeddings", FLAG, True, to=("head.tied",)),
    DECODER_DROPOUT,
    Field("pad_token_id", ANY_ID, None, to=("head.sequence-classification.padding_id",)),
    *LABEL_FIELDS,
)


def _conv1d(name: str, part: int = 0) -> Stored:
    return Stored(name=name, part=part, transposed=True)


KEYS: dict[str, Key] = {
    "embeddings.word": "wte",
    "embeddings.position": "wpe",
    "attention.{layer}.query": _conv1d("h.{layer}.attn.c_attn", 0),
    "attention.{layer}.key": _conv1d("h.{layer}.attn.c_attn", 1),
    "attention.{layer}.value": _conv1d("h.{layer}.attn.c_attn", 2),
    "attention.{layer}.output": _conv1d("h.{layer}.attn.c_proj"),
    "attention.{layer}.norm": "h.{layer}.ln_1",
    "feed_forward.{layer}.up": _conv1d("h.{layer}.mlp.c_fc"),
    "feed_forward.{layer}.down": _conv1d("h.{layer}.mlp.c_proj"),
    "feed_forward.{layer}.norm": "h.{layer}.ln_2",
    "final_norm": "ln_f",
}

HEADS = {
    "causal-lm": HeadForm(
        head=CausalLM,
        architectures=("GPT2LMHeadModel", "GPT2DoubleHeadsModel"),
        keys={"head.decoder": "lm_head"},
        tied={"lm_head.weight": "embeddings.word.weight"},
    ),
    "sequence-classification": HeadForm(
        head=SequenceClassification, architectures=("GPT2ForSequenceClassification",), keys={"head.output": "score"}
    ),
    "token-classification": HeadForm(
        head=TokenClassification, architectures=("GPT2ForTokenClassification",), keys={"head.output": "classifier"}
    ),
    "question-answering": HeadForm(
        head=QuestionAnswering, architectures=("GPT2ForQuestionAnswering",), keys={"head.output": "qa_outputs"}
    ),
}

FAMILY = Family(
    model_type="gpt2",
    prefix="transformer",
    bare="GPT2Model",
    fields=FIELDS,
    given={
        "layers.norm_place": "pre",
        "layers.attention.pattern": Full(causal=True),
        "layers.attention.head_size": _head_size,
        "embeddings.norm": None,
        "embeddings.token_types": 0,
        "embeddings.padding_id": None,
        "initializer": "gpt2",
        "head.question-answering.dropout": 0.0,
        "head.sequence-classification.reads": "last",
        "head.sequence-classification.dropout": 0.0,
    },
    required={"add_cross_attention": (False,)},
    keys=KEYS,
    heads=HEADS,
    aliases={
        "n_ctx": "n_positions",
        "hidden_size": "n_embd",
        "max_position_embeddings": "n_positions",
        "num_attention_heads": "n_head",
        "num_hidden_layers": "n_layer",
    },
    # Masks that old files hold as tensors, and the heads that Gossamer does not read.
    ignored=("h.*.attn.bias", "h.*.attn.masked_bias", "multiple_choice_head.*"),
)
