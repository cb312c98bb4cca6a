"""The form of Longformer: BERT's names, a window for each layer, global projections, positions counted from padding."""

from typing import Any

from gossamer.errors import InputError
from gossamer.families.base import Config, Family, Field, HeadForm
from gossamer.families.bert.form import KEYS as BERT_KEYS
from gossamer.families.kinds import ACTIVATION, COLUMNS, FLAG, LAYERS, NOT_NEGATIVE, POSITIVE, RATE, ROWS, TOKEN, Kind
from gossamer.families.shared import head_size, padding_id
from gossamer.models.architecture import MOST_ROWS, Architecture, MaskedLM
from gossamer.patterns import Global, Pattern, Union, Window

__all__ = ["FAMILY"]


def _write_window(pattern: Pattern) -> int:
    parts = pattern.parts if isinstance(pattern, Union) else ()
    windows = [part for part in parts if isinstance(part, Window)]
    if len(parts) != 2 or len(windows) != 1 or Window(windows[0].before, windows[0].before) | Global() != pattern:
        raise InputError(
            f"the pattern '{pattern}' is not a symmetric window with global tokens, all that Longformer has"
        )
    return 2 * windows[0].before


ATTENTION_WINDOW = Kind(
    allowed=f"an even whole number from 2 to {MOST_ROWS - 1}, or a list of one for each layer",
    accepts=lambda v: type(v) is int and 2 <= v < MOST_ROWS and v % 2 == 0,
    read=lambda v: Window.from_attention_window(v) | Global(),
    write=_write_window,
)


def _usable_length(rows: int, config: Config) -> int:
    """Rows left for tokens: those up to and including the padding's come before position 0."""
    offset = config["pad_token_id"] + 1
    if rows <= offset:
        raise InputError(f"max_position_embeddings is {rows}; it must be more than pad_token_id + 1, {offset}")
    return rows - offset


def _table_rows(length: int, architecture: Architecture) -> Any:
    return length + architecture.embeddings.positions.offset


FIELDS = (
    Field("vocab_size", ROWS, 30522, to=("embeddings.vocabulary_size",)),
    Field("type_vocab_size", ROWS, 2, to=("embeddings.token_types",)),
    Field("pad_token_id", TOKEN, 1, to=("embeddings.padding_id",), read=padding_id),
    Field(
        "max_position_embeddings",
        ROWS,
        512,
        to=("embeddings.positions.length",),
        read=_usable_length,
        write=_table_rows,
    ),
    Field("hidden_size", COLUMNS, 768, to=("hidden_size", "embeddings.size")),
    Field("num_hidden_layers", LAYERS, 12, to=("layers",)),
    Field("num_attention_heads", COLUMNS, 12, to=("layers.attention.heads",)),
    Field("attention_window", ATTENTION_WINDOW, 512, to=("layers.attention.pattern",), per_layer=True),
    Field("intermediate_size", COLUMNS, 3072, to=("layers.feed_forward.width",)),
    Field("hidden_act", ACTIVATION, "gelu", to=("layers.feed_forward.activation",)),
    Field("layer_norm_eps", POSITIVE, 1e-12, to=("layers.norm_eps", "embeddings.norm_eps", "head.norm_eps")),
    Field("hidden_dropout_prob", RATE, 0.1, to=("layers.dropout", "embeddings.dropout")),
    Field("attention_probs_dropout_prob", RATE, 0.1, to=("layers.attention.dropout",)),
    Field("initializer_range", NOT_NEGATIVE, 0.02, to=("initializer_range",)),
    Field("tie_word_embeddings", FLAG, True, to=("head.tied",)),
)

KEYS = {
    **BERT_KEYS,
    "attention.{layer}.query_global": "encoder.layer.{layer}.attention.self.query_global",
    "attention.{layer}.key_global": "encoder.layer.{layer}.attention.self.key_global",
    "attention.{layer}.value_global": "encoder.layer.{layer}.attention.self.value_global",
}

MASKED_LM = HeadForm(
    head=MaskedLM,
    architectures=("LongformerForMaskedLM",),
    keys={
        "head.dense": "lm_head.dense",
        "head.norm": "lm_head.layer_norm",
        "head.decoder": "lm_head.decoder",
        "head.bias": ("lm_head.decoder.bias", "lm_head.bias"),
    },
    tied={"lm_head.decoder.weight": "embeddings.word.weight"},
)

FAMILY = Family(
    model_type="longformer",
    prefix="longformer",
    bare="LongformerModel",
    fields=FIELDS,
    given={
        "layers.attention.head_size": head_size,
        "layers.attention.global_projections": True,
        "embeddings.positions.from_padding": True,
        "embeddings.positions.offset": lambda config: config["pad_token_id"] + 1,
        "head.activation": "gelu",
    },
    required={"position_embedding_type": ("absolute", None), "is_decoder": (False,), "add_cross_attention": (False,)},
    keys=KEYS,
    heads={"masked-lm": MASKED_LM},
    ignored=("embeddings.position_ids", "embeddings.token_type_ids"),
)
