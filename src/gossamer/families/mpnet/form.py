"""The form of MPNet: RoBERTa's without token types, scores by buckets of distances that all layers share."""

from __future__ import annotations

from typing import Any

from gossamer.families.base import Config, Family, Field, Key
from gossamer.families.kinds import COLUMNS, ROWS
from gossamer.families.roberta.form import FIELDS as ROBERTA_FIELDS
from gossamer.families.roberta.form import GIVEN as ROBERTA_GIVEN
from gossamer.families.roberta.form import KEYS as ROBERTA_KEYS
from gossamer.families.roberta.form import heads
from gossamer.families.shared import table_rows, usable_length, with_fields
from gossamer.families.stored import Stored
from gossamer.models.architecture import DistanceTable
from gossamer.patterns import Full

__all__ = ["FAMILY"]

_FARTHEST = 128
"""From here on all keys have the last bucket."""
_BUCKETS = 32
_TABLE = DistanceTable(before=_FARTHEST, after=_FARTHEST, weights=0, buckets=_BUCKETS, of_rows=True)
_PADDING = 1
"""The token by which positions are counted, whatever `pad_token_id` says: so `transformers` has it."""


def _usable_length(rows: int, config: Config) -> Any:
    return usable_length(rows, {**config, "pad_token_id": _PADDING})


def _dropout(config: Config) -> Any:
    return config["hidden_dropout_prob"]


_ATTENTION = "encoder.layer.{layer}.attention"

KEYS: dict[str, Key] = {
    **{ours: theirs for ours, theirs in ROBERTA_KEYS.items() if ours != "embeddings.token_type"},
    "attention.{layer}.query": f"{_ATTENTION}.attn.q",
    "attention.{layer}.key": f"{_ATTENTION}.attn.k",
    "attention.{layer}.value": f"{_ATTENTION}.attn.v",
    "attention.{layer}.output": f"{_ATTENTION}.attn.o",
    "attention.{layer}.norm": f"{_ATTENTION}.LayerNorm",
    "distance_bias.{layer}": Stored(name="encoder.relative_attention_bias", transposed=True),
}

FAMILY = Family(
    model_type="mpnet",
    prefix="mpnet",
    bare="MPNetModel",
    fields=with_fields(
        ROBERTA_FIELDS,
        Field("vocab_size", ROWS, 30527, to=("embeddings.vocabulary_size",)),
        Field(
            "relative_attention_num_buckets",
            COLUMNS,
            _BUCKETS,
            to=("layers.attention.distance_bias",),
            read=lambda value, config: _TABLE,
            write=lambda table, architecture: _BUCKETS,
        ),
        Field(
            "max_position_embeddings",
            ROWS,
            512,
            to=("length", "embeddings.positions.length"),
            read=_usable_length,
            write=table_rows,
        ),
        without=("type_vocab_size", "classifier_dropout", "pad_token_id"),
    ),
    given={
        **ROBERTA_GIVEN,
        "embeddings.padding_id": _PADDING,
        "embeddings.positions.offset": _PADDING + 1,
        "layers.attention.pattern": Full(),
        "embeddings.token_types": 0,
        "head.token-classification.dropout": _dropout,
        "head.sequence-classification.dropout": _dropout,
        "head.input_dropout": _dropout,
    },
    # `transformers` deals distances out to 32 buckets, however many rows the file's table has.
    required={"relative_attention_num_buckets": (_BUCKETS,)},
    keys=KEYS,
    heads=heads("MPNet"),
    ignored=("embeddings.position_ids",),
)
