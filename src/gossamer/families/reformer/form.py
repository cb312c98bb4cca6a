"""The form of Reformer: local and hashed layers, reversible residuals, positions by axes, states of two streams."""

from collections.abc import Callable, Mapping
from math import lcm
from typing import Any

from gossamer.errors import InputError
from gossamer.families.base import OMITTED, Config, Family, Field, HeadForm, Key
from gossamer.families.kinds import (
    ACTIVATION,
    COLUMNS,
    FLAG,
    NOT_NEGATIVE,
    OPTIONAL_COUNT,
    OPTIONAL_TOKEN,
    POSITIVE,
    RATE,
    ROWS,
    TOKEN,
    Kind,
)
from gossamer.families.shared import LABEL_FIELDS, classifier_dropout
from gossamer.families.stored import Stored
from gossamer.models.architecture import Architecture
from gossamer.models.checks import MOST_LAYERS
from gossamer.models.heads import CausalLM, MaskedLM, QuestionAnswering, SequenceClassification
from gossamer.patterns import Chunks, Hashed, Pattern

__all__ = ["FAMILY"]

LOCAL, LSH = "local", "lsh"
USUAL_LAYERS = [LOCAL, LSH, LOCAL, LSH, LOCAL, LSH]

LAYER_KINDS = Kind(
    allowed=f"a list of '{LOCAL}' and '{LSH}', one a layer, 1 to {MOST_LAYERS} of them",
    accepts=lambda v: isinstance(v, list) and 1 <= len(v) <= MOST_LAYERS and all(one in (LOCAL, LSH) for one in v),
)
BUCKETS = Kind(
    allowed="an even number, a list of even numbers, or null",
    accepts=lambda v: v is None or ROWS.accepts(v) or (isinstance(v, list) and v != [] and all(map(ROWS.accepts, v))),
    write=lambda v: list(v) if isinstance(v, tuple) else v,
)
SIZES = Kind(
    allowed="a list of two whole numbers above 0",
    accepts=lambda v: isinstance(v, list | tuple) and len(v) == 2 and all(map(ROWS.accepts, v)),
    read=tuple,
    write=list,
)


def _usual_buckets(config: Config) -> int | list[int]:
    """What `transformers` takes for `num_buckets` of null at a text as long as the model reads, two for each chunk."""
    length, chunk = config["max_position_embeddings"], config["lsh_attn_chunk_length"]
    power = max(1, (2 * (length // chunk)).bit_length() - 1)
    most = 2 * max(int((length // chunk) ** 0.5), chunk)
    return 2**power if 2**power <= most else [2 ** (power // 2), 2 ** (power - power // 2)]


def _sizes(config: Config) -> dict[str, int]:
    """The chunk of each kind of layer that there is."""
    sizes = {LOCAL: config["local_attn_chunk_length"], LSH: config["lsh_attn_chunk_length"]}
    return {kind: sizes[kind] for kind in dict.fromkeys(config["attn_layers"])}


def _patterns(value: Any, config: Config) -> list[Pattern]:
    """Of each layer. Texts are filled up to a multiple of all chunks, unless they fit into the smallest one."""
    sizes = _sizes(config)
    filled = lcm(*sizes.values())
    made = {LOCAL: _local, LSH: _hashed}
    of_kind = {kind: made[kind](config, filled, min(sizes.values())) for kind in sizes}
    return [of_kind[kind] for kind in config["attn_layers"]]


def _local(config: Config, filled: int, least: int) -> Pattern:
    causal = config["is_decoder"]
    before, after = config["local_num_chunks_before"], 0 if causal else config["local_num_chunks_after"]
    is_ring = not causal and before + after > 0
    return Chunks(config["local_attn_chunk_length"], causal, before, after, filled if is_ring else 0)


def _hashed(config: Config, filled: int, least: int) -> Pattern:
    chunk, causal = config["lsh_attn_chunk_length"], config["is_decoder"]
    buckets = _usual_buckets(config) if config["num_buckets"] is None else config["num_buckets"]
    return Hashed(
        rounds=config["num_hashes"], buckets=tuple(buckets) if isinstance(buckets, list) else buckets, chunk=chunk,
        causal=causal, reading="released", seed=config["hash_seed"], before=config["lsh_num_chunks_before"],
        after=config["lsh_num_chunks_after"], whole=None if filled == chunk else min(chunk, least),
        ring=None if filled == chunk else filled,
    )  # fmt: skip


def _kind_of(pattern: Pattern) -> str:
    return LSH if isinstance(pattern, Hashed) else LOCAL


def _first(kind: type[Pattern], name: str, usual: Any) -> Callable[[list[Pattern], Architecture], Any]:
    """A field of the first pattern of this kind; the usual value where there is none."""

    def write(patterns: list[Pattern], architecture: Architecture) -> Any:
        return next((getattr(one, name) for one in patterns if isinstance(one, kind)), usual)

    return write


def _of_kinds(kind: type[Pattern], name: str, usual: Any, number: Kind) -> Field:
    """A setting of all layers of a kind; `name` is `Chunks`' or `Hashed`'s, `FIELD_NAMES` has that of the file."""
    write = _first(kind, name, usual)
    return Field(
        FIELD_NAMES[kind][name], number, usual, to=PATTERN, read=_patterns, whole=True,
        write=lambda patterns, architecture: number.write(write(patterns, architecture)),
    )  # fmt: skip


def _rates(value: Any, config: Config) -> list[float]:
    of_kind = {LOCAL: config["local_attention_probs_dropout_prob"], LSH: config["lsh_attention_probs_dropout_prob"]}
    return [of_kind[kind] for kind in config["attn_layers"]]


def _rate_of(kind: str, usual: float) -> Callable[[list[float], Architecture], Any]:
    def write(rates: list[float], architecture: Architecture) -> Any:
        kinds = [_kind_of(layer.attention.pattern) for layer in architecture.layers]
        return next((rate for rate, own in zip(rates, kinds, strict=True) if own == kind), usual)

    return write


def _layers(value: Any, config: Config) -> int:
    return len(config["attn_layers"])


def _same_number(value: Any, config: Config) -> int:
    count = len(config["attn_layers"])
    if value not in (None, count):
        raise InputError(f"num_hidden_layers is {value}; it must be the number of attn_layers, {count}")
    return count


def _by_axes(value: Any, config: Config) -> Any:
    return tuple(value) if config["axial_pos_embds"] else ()


def _sizes_written(sizes: tuple[int, ...], architecture: Architecture) -> Any:
    return list(sizes) if sizes else OMITTED


def _length(value: Any, config: Config) -> Any:
    """Tokens that are read: as many as there are positions for."""
    shape = config["axial_pos_shape"]
    return min(value, shape[0] * shape[1]) if config["axial_pos_embds"] else value


PATTERN = ("layers.attention.pattern",)
FIELD_NAMES: Mapping[type[Pattern], Mapping[str, str]] = {
    Chunks: {
        "size": "local_attn_chunk_length", "before": "local_num_chunks_before", "after": "local_num_chunks_after",
    },
    Hashed: {
        "chunk": "lsh_attn_chunk_length", "before": "lsh_num_chunks_before", "after": "lsh_num_chunks_after",
        "rounds": "num_hashes", "buckets": "num_buckets", "seed": "hash_seed",
    },
}  # fmt: skip
HIDDEN_DROPOUT = (
    "embeddings.dropout",
    "layers.attention.residual_dropout",
    "layers.feed_forward.residual_dropout",
    "layers.feed_forward.dropout",
)

FIELDS = (
    Field("vocab_size", ROWS, 320, to=("embeddings.vocabulary_size",)),
    Field("hidden_size", COLUMNS, 256, to=("hidden_size", "embeddings.size")),
    Field("num_hidden_layers", OPTIONAL_COUNT, None, to=("layers",), read=_same_number),
    Field(
        "attn_layers", LAYER_KINDS, USUAL_LAYERS, to=PATTERN, read=_patterns, whole=True,
        write=lambda patterns, architecture: [_kind_of(one) for one in patterns],
    ),
    _of_kinds(Chunks, "size", 64, ROWS),
    _of_kinds(Chunks, "before", 1, TOKEN),
    _of_kinds(Chunks, "after", 0, TOKEN),
    _of_kinds(Hashed, "chunk", 64, ROWS),
    _of_kinds(Hashed, "before", 1, TOKEN),
    _of_kinds(Hashed, "after", 0, TOKEN),
    _of_kinds(Hashed, "rounds", 1, ROWS),
    _of_kinds(Hashed, "buckets", None, BUCKETS),
    _of_kinds(Hashed, "seed", None, OPTIONAL_TOKEN),
    Field(
        "is_decoder", FLAG, False, to=PATTERN, read=_patterns, whole=True,
        write=lambda patterns, architecture: patterns[0].causal,
    ),
    Field("num_attention_heads", COLUMNS, 12, to=("layers.attention.heads",)),
    Field("attention_head_size", COLUMNS, 64, to=("layers.attention.head_size",)),
    Field("feed_forward_size", COLUMNS, 512, to=("layers.feed_forward.width",)),
    Field("hidden_act", ACTIVATION, "relu", to=("layers.feed_forward.activation",)),
    Field(
        "chunk_size_feed_forward", TOKEN, 0, to=("layers.feed_forward.chunk",), read=lambda size, config: size or None,
        write=lambda size, architecture: size or 0,
    ),
    Field("hidden_dropout_prob", RATE, 0.05, to=HIDDEN_DROPOUT),
    *(
        Field(
            f"{kind}_attention_probs_dropout_prob", RATE, usual, to=("layers.attention.dropout",), read=_rates,
            write=_rate_of(kind, usual), whole=True,
        )
        for kind, usual in ((LOCAL, 0.05), (LSH, 0.0))
    ),
    Field("layer_norm_eps", POSITIVE, 1e-12, to=("layers.norm.eps", "final_norm.eps")),
    Field("initializer_range", NOT_NEGATIVE, 0.02, to=("initializer_range",)),
    Field(
        "axial_pos_embds", FLAG, True, to=("embeddings.positions.scheme",),
        read=lambda axial, config: "axes" if axial else "learned", write=lambda scheme, architecture: scheme == "axes",
    ),
    Field("axial_pos_shape", SIZES, [64, 64], to=("embeddings.positions.axes",), read=_by_axes, write=_sizes_written),
    Field(
        "axial_pos_embds_dim", SIZES, [64, 192], to=("embeddings.positions.axis_sizes",), read=_by_axes,
        write=_sizes_written,
    ),
    Field("max_position_embeddings", ROWS, 4096, to=("length",), read=_length),
    Field("tie_word_embeddings", FLAG, False, to=("head.tied",)),
    classifier_dropout("head.sequence-classification.dropout", "head.sequence-classification.input_dropout"),
    *LABEL_FIELDS,
)  # fmt: skip


def _table(config: Config) -> int:
    return 0 if config["axial_pos_embds"] else config["max_position_embeddings"]


def _slots(number: int, config: Config) -> Mapping[str, int | str]:
    """A hashed layer has one map for queries and keys, under a name of its own."""
    return {"layer": number, "query": "query_key" if config["attn_layers"][number] == LSH else "query"}


LAYER, TABLE = "encoder.layers.{layer}", "embeddings.position_embeddings"

KEYS: dict[str, Key] = {
    "embeddings.word": "embeddings.word_embeddings",
    "embeddings.position.0.weight": Stored(name=f"{TABLE}.weights.0", single=1),
    "embeddings.position.1.weight": Stored(name=f"{TABLE}.weights.1", single=0),
    "embeddings.position": f"{TABLE}.embedding",
    "attention.{layer}.query": f"{LAYER}.attention.self_attention.{{query}}",
    "attention.{layer}.key": f"{LAYER}.attention.self_attention.key",
    "attention.{layer}.value": f"{LAYER}.attention.self_attention.value",
    "attention.{layer}.output": f"{LAYER}.attention.output.dense",
    "attention.{layer}.norm": f"{LAYER}.attention.layer_norm",
    "feed_forward.{layer}.up": f"{LAYER}.feed_forward.dense.dense",
    "feed_forward.{layer}.down": f"{LAYER}.feed_forward.output.dense",
    "feed_forward.{layer}.norm": f"{LAYER}.feed_forward.layer_norm",
    "final_norm": "encoder.layer_norm",
}

HEADS = {
    "causal-lm": HeadForm(
        head=CausalLM, architectures=("ReformerModelWithLMHead",), keys={"head.decoder": "lm_head.decoder"},
        required={"is_decoder": (True,)}, idle=("lm_head.bias",),
    ),
    "masked-lm": HeadForm(
        head=MaskedLM, architectures=("ReformerForMaskedLM",), keys={"head.decoder": "lm_head.decoder"},
        required={"is_decoder": (False,)}, idle=("lm_head.bias",),
    ),
    "sequence-classification": HeadForm(
        head=SequenceClassification, architectures=("ReformerForSequenceClassification",),
        keys={"head.dense": "classifier.dense", "head.output": "classifier.out_proj"},
    ),
    "question-answering": HeadForm(
        head=QuestionAnswering, architectures=("ReformerForQuestionAnswering",), keys={"head.output": "qa_outputs"}
    ),
}  # fmt: skip

FAMILY = Family(
    model_type="reformer",
    prefix="reformer",
    bare="ReformerModel",
    fields=FIELDS,
    given={
        "reversible": "concatenated",
        "layers.norm_place": "pre",
        "layers.attention.shared_query_key": lambda config: [one == LSH for one in config["attn_layers"]],
        "layers.attention.bias": False,
        "layers.attention.output_bias": False,
        "embeddings.norm": None,
        "embeddings.token_types": 0,
        "embeddings.padding_id": None,
        "embeddings.positions.length": _table,
        "head.masked-lm.transform": False,
        "head.masked-lm.bias": False,
        "head.question-answering.dropout": 0.0,
    },
    required={"tie_word_embeddings": (False,)},
    keys=KEYS,
    heads=HEADS,
    slots=_slots,
    # What scores are set to where nobody looks.
    ignored=(f"{LAYER.format(layer='*')}.attention.self_attention.*mask_value_*",),
)
