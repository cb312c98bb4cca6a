"""The form of DeBERTa v2 and v3: BERT's layers, content compared with states of distances, as well as with content."""

from __future__ import annotations

import struct
from typing import Any

from gossamer.errors import InputError, quote
from gossamer.families.base import OLD_NORMS, OMITTED, Config, Family, Field, HeadForm
from gossamer.families.bert.form import FIELDS as BERT_FIELDS
from gossamer.families.bert.form import KEYS as BERT_KEYS
from gossamer.families.kinds import (
    ACTIVATION,
    COLUMNS,
    FLAG,
    LAYERS,
    OPTIONAL_COLUMNS,
    OPTIONAL_RATE,
    POOLER_ACTIVATION,
    POSITIVE,
    RATE,
    ROWS,
    Kind,
    whole,
)
from gossamer.families.shared import head_size, with_fields
from gossamer.layers import RelativeTerm
from gossamer.models.architecture import Architecture, Norm, RelativePositions
from gossamer.models.checks import MOST_ROWS
from gossamer.models.heads import (
    MaskedLM,
    MultipleChoice,
    QuestionAnswering,
    SequenceClassification,
    TokenClassification,
)
from gossamer.patterns import Full

__all__ = ["FAMILY"]

_TERMS: dict[str, RelativeTerm] = {"c2p": "content-to-position", "p2c": "position-to-content"}
_NORMS = ("none", "layer_norm")


def _parts(value: Any) -> list[Any]:
    """What a file lists, or joins by |."""
    listed = value.lower().split("|") if isinstance(value, str) else value or []
    return [one.strip() if isinstance(one, str) else one for one in listed]


TERMS = Kind(
    allowed="c2p, p2c or both, joined by | or in a list, or null",
    accepts=lambda v: (v is None or isinstance(v, str | list)) and all(one in _TERMS for one in _parts(v)),
)
NORM_OF_STATES = Kind(
    allowed=f"one of {', '.join(_NORMS)}",
    accepts=lambda v: isinstance(v, str) and all(one in _NORMS for one in _parts(v)),
)
OPTIONAL_REACH = whole(-1, MOST_ROWS // 2)


def _terms(config: Config) -> tuple[RelativeTerm, ...]:
    return tuple(term for name, term in _TERMS.items() if name in _parts(config["pos_att_type"]))


def _relative(value: Any, config: Config) -> RelativePositions | None:
    """The states of distances that all layers share; None without `relative_attention`."""
    terms, has_norm = _terms(config), "layer_norm" in _parts(config["norm_rel_ebd"])
    if not config["relative_attention"]:
        for name, says in (("pos_att_type", bool(terms)), ("norm_rel_ebd", has_norm)):
            if says:
                raise InputError(f"{name} is {quote(config[name])}; leave it out where relative_attention is false")
        return None
    if not terms:
        given = quote(config["pos_att_type"])
        raise InputError(f"pos_att_type is {given}; with relative_attention it must name c2p, p2c or both")
    farthest, ranges = config["max_relative_positions"], config["position_buckets"]
    length = config["max_position_embeddings"]
    farthest = length if farthest < 1 else farthest
    # Of so short texts all distances have a state each, and where ranges would end means nothing.
    needs_none = length <= ranges // 2 + 1 and farthest < ranges // 2 + 2
    return RelativePositions(
        span=ranges if ranges > 0 else farthest,
        farthest=farthest if ranges > 0 and not needs_none else None,
        weights=0,
        terms=terms,
        own_maps=not config["share_att_key"],
        norm=Norm(eps=config["layer_norm_eps"]) if has_norm else None,
        dropout=config["hidden_dropout_prob"],
    )


def _relative_field(name: str, kind: Kind, default: Any, write: Any, absent: Any = OMITTED) -> Field:
    """One of the lines that make the states of distances; absent: what is written where there are none."""

    def written(given: Any, architecture: Architecture) -> Any:
        return write(given, architecture) if isinstance(given, RelativePositions) else absent

    return Field(name, kind, default, to=("layers.attention.distance_bias",), read=_relative, write=written)


def _farthest(given: RelativePositions, architecture: Architecture) -> int:
    """-1 where it is the length, as `transformers` understands it."""
    farthest = given.span if given.farthest is None else given.farthest
    return -1 if farthest == architecture.length else farthest


def _scale(config: Config) -> float:
    """1 / sqrt(head_size * terms), content to content being one; of a root in float32, as `transformers` takes it."""
    count = 1 + len(_terms(config))
    (root,) = struct.unpack("f", struct.pack("f", (head_size(config) * count) ** 0.5))
    return float(1 / root)


def _same(name: str, wanted: Any) -> Any:
    """A size that a file may name once more."""

    def read(value: Any, config: Config) -> Any:
        size = wanted(config)
        if value not in (None, size):
            raise InputError(f"{name} is {value}; Gossamer reads 'deberta-v2' only with {size}, or without this line")
        return size

    return read


def _is_projected(config: Config) -> bool:
    return config["embedding_size"] not in (None, config["hidden_size"])


def _hidden_size(config: Config) -> Any:
    return config["hidden_size"]


def _unwritten(value: Any, architecture: Architecture) -> Any:
    return OMITTED


FIELDS = with_fields(
    BERT_FIELDS,
    Field("vocab_size", ROWS, 128100, to=("embeddings.vocabulary_size",)),
    Field("type_vocab_size", whole(0, MOST_ROWS), 0, to=("embeddings.token_types",)),
    Field("max_position_embeddings", ROWS, 512, to=("length",)),
    Field(
        "position_biased_input",
        FLAG,
        True,
        to=("embeddings.positions.scheme",),
        read=lambda value, config: "learned" if value else "none",
        write=lambda scheme, architecture: scheme == "learned",
    ),
    Field("hidden_size", COLUMNS, 1536, to=("hidden_size",)),
    Field(
        "embedding_size",
        OPTIONAL_COLUMNS,
        None,
        to=("embeddings.size",),
        read=lambda size, config: config["hidden_size"] if size is None else size,
        write=lambda size, architecture: OMITTED if size == architecture.hidden_size else size,
    ),
    Field(
        "pooler_hidden_size",
        OPTIONAL_COLUMNS,
        None,
        to=("hidden_size",),
        read=_same("pooler_hidden_size", _hidden_size),
    ),
    Field("num_hidden_layers", LAYERS, 24, to=("layers",)),
    Field("num_attention_heads", COLUMNS, 24, to=("layers.attention.heads",)),
    Field(
        "attention_head_size",
        OPTIONAL_COLUMNS,
        None,
        to=("layers.attention.head_size",),
        read=_same("attention_head_size", head_size),
        write=_unwritten,
    ),
    Field("intermediate_size", COLUMNS, 6144, to=("layers.feed_forward.width",)),
    Field("layer_norm_eps", POSITIVE, 1e-7, to=("layers.norm.eps", "embeddings.norm.eps", "head.norm_eps")),
    Field(
        "hidden_dropout_prob",
        RATE,
        0.1,
        to=(
            "embeddings.dropout",
            "layers.attention.residual_dropout",
            "layers.feed_forward.residual_dropout",
            "head.token-classification.dropout",
        ),
    ),
    _relative_field("relative_attention", FLAG, False, lambda given, architecture: True, absent=False),
    _relative_field(
        "pos_att_type",
        TERMS,
        None,
        lambda given, architecture: [name for name, term in _TERMS.items() if term in given.terms],
        absent=None,
    ),
    _relative_field("max_relative_positions", OPTIONAL_REACH, -1, _farthest, absent=-1),
    _relative_field(
        "position_buckets", OPTIONAL_REACH, -1, lambda given, architecture: -1 if given.farthest is None else given.span
    ),
    _relative_field("share_att_key", FLAG, False, lambda given, architecture: not given.own_maps),
    _relative_field("norm_rel_ebd", NORM_OF_STATES, "none", lambda given, architecture: _NORMS[given.norm is not None]),
    Field(
        "tie_word_embeddings", FLAG, True, to=("head.tied",), read=lambda value, config: value or not config["legacy"]
    ),
    Field(
        # The newer form of this head has other names for the same maps, and is read by `renamed`.
        "legacy",
        FLAG,
        True,
        to=("head.masked-lm.activation",),
        read=lambda value, config: ACTIVATION.read(config["hidden_act"]),
        write=lambda activation, architecture: True,
    ),
    Field("pooler_hidden_act", POOLER_ACTIVATION, "gelu", to=("head.pooler_activation",)),
    Field("pooler_dropout", RATE, 0.0, to=("head.input_dropout",)),
    Field(
        "cls_dropout",
        OPTIONAL_RATE,
        None,
        to=("head.sequence-classification.dropout", "head.multiple-choice.dropout"),
        read=lambda value, config: config["hidden_dropout_prob"] if value is None else value,
        write=lambda value, architecture: OMITTED if value == architecture.embeddings.dropout else value,
    ),
    without=("classifier_dropout",),
)

KEYS = {
    **{ours: theirs for ours, theirs in BERT_KEYS.items() if ours != "pooler"},
    "attention.{layer}.query": "encoder.layer.{layer}.attention.self.query_proj",
    "attention.{layer}.key": "encoder.layer.{layer}.attention.self.key_proj",
    "attention.{layer}.value": "encoder.layer.{layer}.attention.self.value_proj",
    "attention.{layer}.relative_key": "encoder.layer.{layer}.attention.self.pos_key_proj",
    "attention.{layer}.relative_query": "encoder.layer.{layer}.attention.self.pos_query_proj",
    "embeddings.projection": "embeddings.embed_proj",
    "distance_bias.{layer}.norm": "encoder.LayerNorm",
    "distance_bias.{layer}.states": "encoder.rel_embeddings.weight",
}

_LEGACY = "cls.predictions"
_NEWER = "lm_predictions.lm_head"
_RENAMED = (
    *(
        (f"{_NEWER}.{part}.{tensor}", f"{_LEGACY}.transform.{part}.{tensor}")
        for part in ("dense", "LayerNorm")
        for tensor in ("weight", "bias")
    ),
    (f"{_NEWER}.bias", f"{_LEGACY}.decoder.bias"),
)
"""The names of a masked LM whose config.json says `legacy: false`, and of the released files of version 3."""

_CLASSIFIER = {"head.dense": "pooler.dense", "head.output": "classifier"}

HEADS = {
    "masked-lm": HeadForm(
        head=MaskedLM,
        architectures=("DebertaV2ForMaskedLM",),
        keys={
            "head.dense": f"{_LEGACY}.transform.dense",
            "head.norm": f"{_LEGACY}.transform.LayerNorm",
            "head.decoder": f"{_LEGACY}.decoder",
            "head.bias": (f"{_LEGACY}.decoder.bias", f"{_LEGACY}.bias"),
        },
        tied={f"{_LEGACY}.decoder.weight": "embeddings.word.weight"},
    ),
    "sequence-classification": HeadForm(
        head=SequenceClassification, architectures=("DebertaV2ForSequenceClassification",), keys=_CLASSIFIER
    ),
    "token-classification": HeadForm(
        head=TokenClassification,
        architectures=("DebertaV2ForTokenClassification",),
        keys={"head.output": "classifier"},
    ),
    "question-answering": HeadForm(
        head=QuestionAnswering,
        architectures=("DebertaV2ForQuestionAnswering",),
        keys={"head.output": "qa_outputs"},
    ),
    "multiple-choice": HeadForm(
        head=MultipleChoice,
        architectures=("DebertaV2ForMultipleChoice",),
        keys=_CLASSIFIER,
        required={"pooler_dropout": (0.0,)},
    ),
}

FAMILY = Family(
    model_type="deberta-v2",
    prefix="deberta",
    bare="DebertaV2Model",
    fields=FIELDS,
    given={
        "layers.attention.pattern": Full(),
        "layers.attention.scale": _scale,
        "embeddings.projection": _is_projected,
        "embeddings.norms_states": _is_projected,
        "embeddings.positions.length": lambda config: (
            config["max_position_embeddings"] if config["position_biased_input"] else 0
        ),
        "head.question-answering.dropout": 0.0,
    },
    # A convolution beside the first layer, which version 2 has in its two largest models.
    required={"conv_kernel_size": (0,)},
    keys=KEYS,
    heads=HEADS,
    renamed=(*OLD_NORMS, *_RENAMED),
    ignored=("embeddings.position_ids", "embeddings.position_embeddings.*", "mask_predictions.*"),
)
