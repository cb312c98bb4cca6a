"""The form of ModernBERT: full and windowed layers, each kind with its rotary base, gates, norms before each part."""

from typing import Any

from gossamer.errors import InputError, quote
from gossamer.families.base import OMITTED, Config, Family, Field, HeadForm, Key
from gossamer.families.kinds import (
    ACTIVATION,
    COLUMNS,
    COUNT,
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
    Kind,
)
from gossamer.families.shared import LABEL_FIELDS, head_size, padding_id, refuse_scaled_rotary
from gossamer.families.stored import Stored
from gossamer.models.architecture import Architecture, Norm, Rotary
from gossamer.models.heads import (
    MaskedLM,
    MultipleChoice,
    QuestionAnswering,
    SequenceClassification,
    TokenClassification,
)
from gossamer.patterns import Full, Pattern, Window

__all__ = ["FAMILY"]

FULL, SLIDING = "full_attention", "sliding_attention"
BASES = {FULL: 160000.0, SLIDING: 10000.0}
OLD_BASES = {FULL: "global_rope_theta", SLIDING: "local_rope_theta"}
LOCAL_ATTENTION = 128

LAYER_TYPES = Kind(
    allowed=f"a list of '{FULL}' and '{SLIDING}', one a layer, or null",
    accepts=lambda v: v is None or (isinstance(v, list) and all(one in (FULL, SLIDING) for one in v)),
)
POOLING = Kind(
    allowed="'cls' or 'mean'",
    accepts=lambda v: isinstance(v, str) and v in ("cls", "mean"),
    read=lambda v: "first" if v == "cls" else v,
    write=lambda v: v if v == "mean" else "cls",
)


def _types(config: Config) -> list[str]:
    """The kind of each layer: as listed, or every n-th one full, the first among them."""
    layers, listed, every = (
        config[name] for name in ("num_hidden_layers", "layer_types", "global_attn_every_n_layers")
    )
    if listed is None:
        return [SLIDING if i % every else FULL for i in range(layers)]
    if len(listed) != layers:
        raise InputError(f"layer_types is a list of {len(listed)}; it must have one entry for each layer, {layers}")
    return list(listed)


def _patterns(value: Any, config: Config) -> list[Pattern]:
    half = config["local_attention"] // 2
    return [Full() if kind == FULL else Window(half, half) for kind in _types(config)]


def _kind_of(pattern: Pattern) -> str:
    return FULL if pattern == Full() else SLIDING


def _written_types(patterns: list[Pattern], architecture: Architecture) -> list[str]:
    return [_kind_of(one) for one in patterns]


def _local_attention(patterns: list[Pattern], architecture: Architecture) -> int:
    windows = [one.before for one in patterns if isinstance(one, Window)]
    return 2 * windows[0] if windows and windows[0] else 1 if windows else LOCAL_ATTENTION


def _rotaries(value: Any, config: Config) -> list[Rotary]:
    """A base for each kind of layer: `rope_parameters`, or `global_rope_theta` and `local_rope_theta` in old files."""
    bases = {kind: _base(kind, config) for kind in BASES}
    return [Rotary(base=bases[kind]) for kind in _types(config)]


def _base(kind: str, config: Config) -> Any:
    parameters = config["rope_parameters"] or {}
    unknown = sorted(set(parameters) - set(BASES))
    if unknown:
        raise InputError(f"rope_parameters has {quote(unknown[0])}; it must have '{FULL}' and '{SLIDING}' alone")
    own = {} if parameters.get(kind) is None else parameters[kind]
    name = f"rope_parameters.{kind}"
    if not isinstance(own, dict):
        raise InputError(f"{name} is {quote(own)}; it must be {OPTIONAL_OBJECT.allowed}")
    # What an older file says of scaling goes before, as in transformers.
    own = own | (config["rope_scaling"] or {})
    refuse_scaled_rotary(name, own)
    base = own.get("rope_theta", config[OLD_BASES[kind]])
    base = BASES[kind] if base is None else base
    if not POSITIVE.accepts(base):
        raise InputError(f"{name}.rope_theta is {quote(base)}; it must be {POSITIVE.allowed}")
    return base


def _rope_parameters(rotaries: list[Rotary | None], architecture: Architecture) -> Any:
    bases = dict(BASES)
    for rotary, layer in zip(rotaries, architecture.layers, strict=True):
        if rotary is not None:
            bases[_kind_of(layer.attention.pattern)] = rotary.base
    return {kind: {"rope_theta": base, "rope_type": "default"} for kind, base in bases.items()}


def _head_size(value: Any, config: Config) -> Any:
    size = head_size(config)
    if value not in (None, size):
        raise InputError(f"head_dim is {value}; it must be hidden_size / num_attention_heads, {size}, or null")
    return size


def _unwritten(value: Any, architecture: Architecture) -> Any:
    return OMITTED


def _norm(config: Config) -> Norm:
    return Norm(eps=config["norm_eps"], bias=config["norm_bias"])


PATTERN, ROTARY = ("layers.attention.pattern",), ("layers.attention.rotary",)
DROPOUTS = tuple(
    f"head.{kind}.dropout"
    for kind in ("sequence-classification", "token-classification", "question-answering", "multiple-choice")
)
ACTIVATIONS = ("head.activation", "head.dense_activation", "head.pooler_activation")

FIELDS = (
    Field("vocab_size", ROWS, 50368, to=("embeddings.vocabulary_size",)),
    Field("pad_token_id", OPTIONAL_TOKEN, 50283, to=("embeddings.padding_id",), read=padding_id),
    Field("max_position_embeddings", ROWS, 8192, to=("length",)),
    Field("hidden_size", COLUMNS, 768, to=("hidden_size", "embeddings.size")),
    Field("num_hidden_layers", LAYERS, 22, to=("layers",)),
    Field("num_attention_heads", COLUMNS, 12, to=("layers.attention.heads",)),
    Field("head_dim", OPTIONAL_COLUMNS, None, to=("layers.attention.head_size",), read=_head_size, write=_unwritten),
    Field("intermediate_size", COLUMNS, 1152, to=("layers.feed_forward.width",)),
    Field("hidden_activation", ACTIVATION, "gelu", to=("layers.feed_forward.activation",)),
    Field("norm_eps", POSITIVE, 1e-5, to=("layers.norm.eps", "embeddings.norm.eps", "final_norm.eps", "head.norm_eps")),
    Field(
        "norm_bias", FLAG, False, to=("layers.norm.bias", "embeddings.norm.bias", "final_norm.bias", "head.norm_bias")
    ),
    Field("attention_bias", FLAG, False, to=("layers.attention.bias", "layers.attention.output_bias")),
    Field("mlp_bias", FLAG, False, to=("layers.feed_forward.bias",)),
    Field("attention_dropout", RATE, 0.0, to=("layers.attention.dropout", "layers.attention.residual_dropout")),
    Field("embedding_dropout", RATE, 0.0, to=("embeddings.dropout",)),
    Field("mlp_dropout", RATE, 0.0, to=("layers.feed_forward.dropout",)),
    Field("layer_types", LAYER_TYPES, None, to=PATTERN, read=_patterns, write=_written_types, whole=True),
    Field("local_attention", ROWS, LOCAL_ATTENTION, to=PATTERN, read=_patterns, write=_local_attention, whole=True),
    Field("global_attn_every_n_layers", COUNT, 3, to=PATTERN, read=_patterns, write=_unwritten, whole=True),
    Field("rope_parameters", OPTIONAL_OBJECT, None, to=ROTARY, read=_rotaries, write=_rope_parameters, whole=True),
    Field("global_rope_theta", OPTIONAL_POSITIVE, None, to=ROTARY, read=_rotaries, write=_unwritten, whole=True),
    Field("local_rope_theta", OPTIONAL_POSITIVE, None, to=ROTARY, read=_rotaries, write=_unwritten, whole=True),
    Field("rope_scaling", OPTIONAL_OBJECT, None, to=ROTARY, read=_rotaries, write=_unwritten, whole=True),
    Field("initializer_range", NOT_NEGATIVE, 0.02, to=("initializer_range",)),
    Field("tie_word_embeddings", FLAG, True, to=("head.tied",)),
    Field("decoder_bias", FLAG, True, to=("head.bias",)),
    Field("classifier_activation", ACTIVATION, "gelu", to=ACTIVATIONS),
    Field("classifier_bias", FLAG, False, to=("head.dense_bias",)),
    Field("classifier_dropout", RATE, 0.0, to=DROPOUTS),
    Field(
        "classifier_pooling",
        POOLING,
        "cls",
        to=("head.sequence-classification.reads", "head.multiple-choice.reads"),
    ),
    *LABEL_FIELDS,
)

KEYS: dict[str, Key] = {
    "embeddings.word": "embeddings.tok_embeddings",
    "embeddings.norm": "embeddings.norm",
    "attention.{layer}.query": Stored(name="layers.{layer}.attn.Wqkv", part=0),
    "attention.{layer}.key": Stored(name="layers.{layer}.attn.Wqkv", part=1),
    "attention.{layer}.value": Stored(name="layers.{layer}.attn.Wqkv", part=2),
    "attention.{layer}.output": "layers.{layer}.attn.Wo",
    "attention.{layer}.norm": "layers.{layer}.attn_norm",
    # The first half goes through the activation: it is what is called the gate here.
    "feed_forward.{layer}.gate": Stored(name="layers.{layer}.mlp.Wi", part=0),
    "feed_forward.{layer}.up": Stored(name="layers.{layer}.mlp.Wi", part=1),
    "feed_forward.{layer}.down": "layers.{layer}.mlp.Wo",
    "feed_forward.{layer}.norm": "layers.{layer}.mlp_norm",
    "final_norm": "final_norm",
}

DENSE = {"head.dense": "head.dense", "head.norm": "head.norm"}
CLASSIFIER = {**DENSE, "head.output": "classifier"}

HEADS = {
    "masked-lm": HeadForm(
        head=MaskedLM,
        architectures=("ModernBertForMaskedLM",),
        keys={**DENSE, "head.decoder": "decoder", "head.bias": "decoder.bias"},
        tied={"decoder.weight": "embeddings.word.weight"},
        # Else the logits are those of the labelled tokens alone.
        required={"sparse_prediction": (False,)},
    ),
    "sequence-classification": HeadForm(
        head=SequenceClassification, architectures=("ModernBertForSequenceClassification",), keys=CLASSIFIER
    ),
    "token-classification": HeadForm(
        head=TokenClassification, architectures=("ModernBertForTokenClassification",), keys=CLASSIFIER
    ),
    "question-answering": HeadForm(
        head=QuestionAnswering, architectures=("ModernBertForQuestionAnswering",), keys=CLASSIFIER
    ),
    "multiple-choice": HeadForm(head=MultipleChoice, architectures=("ModernBertForMultipleChoice",), keys=CLASSIFIER),
}


def _norm_places(config: Config) -> list[Any]:
    """The first attention reads what the embeddings' norm has just given."""
    return [("none", "pre"), *["pre"] * (config["num_hidden_layers"] - 1)]


def _first_or_mean(config: Config) -> str:
    """Of choices the first token that is no padding, of one text the first."""
    return "first-real" if config["classifier_pooling"] == "cls" else "mean"


FAMILY = Family(
    model_type="modernbert",
    prefix="model",
    bare="ModernBertModel",
    fields=FIELDS,
    given={
        "layers.norm_place": _norm_places,
        "layers.feed_forward.gated": True,
        "layers.feed_forward.residual_dropout": 0.0,
        "embeddings.token_types": 0,
        "embeddings.positions.scheme": "none",
        "head.norm": _norm,
        "head.multiple-choice.reads": _first_or_mean,
    },
    keys=KEYS,
    heads=HEADS,
    ignored=("rotary_emb.*", "layers.*.attn.rotary_emb.*"),
)
