"""The form of Longformer: RoBERTa's, with a window for each layer and global projections."""

from collections.abc import Callable
from typing import Any, get_args

from gossamer.errors import InputError
from gossamer.families.base import OMITTED, Config, Family, Field
from gossamer.families.kinds import OPTIONAL_TOKEN, Kind
from gossamer.families.roberta.form import FIELDS as ROBERTA_FIELDS
from gossamer.families.roberta.form import GIVEN, heads
from gossamer.families.roberta.form import KEYS as ROBERTA_KEYS
from gossamer.families.shared import token_id, with_fields
from gossamer.models.architecture import Architecture, GlobalTokens
from gossamer.models.checks import MOST_ROWS
from gossamer.patterns import Global, Pattern, Union, Window

__all__ = ["ATTENTION_WINDOW", "FAMILY", "GLOBAL_TOKENS", "unless_none"]


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

GLOBAL_TOKENS = Kind(
    allowed=f"one of {', '.join(get_args(GlobalTokens))}",
    accepts=lambda v: isinstance(v, str) and v in get_args(GlobalTokens),
)
"""Our own line in the file; `transformers` carries it along and does not read it. Without it there are none."""


def unless_none(which: GlobalTokens, _: Architecture) -> Any:
    """The line is written where it says something."""
    return OMITTED if which == "none" else which


def _dropout(config: Config) -> Any:
    return config["hidden_dropout_prob"]


FIELDS = with_fields(
    ROBERTA_FIELDS,
    Field("attention_window", ATTENTION_WINDOW, 512, to=("layers.attention.pattern",), per_layer=True),
    Field("global_tokens", GLOBAL_TOKENS, "none", to=("global_tokens",), write=unless_none),
    Field(
        "sep_token_id",
        OPTIONAL_TOKEN,
        2,
        to=("separator_id",),
        read=lambda value, config: token_id("sep_token_id", value, config),
    ),
    without=("classifier_dropout",),
)

KEYS = {
    **ROBERTA_KEYS,
    "attention.{layer}.query_global": "encoder.layer.{layer}.attention.self.query_global",
    "attention.{layer}.key_global": "encoder.layer.{layer}.attention.self.key_global",
    "attention.{layer}.value_global": "encoder.layer.{layer}.attention.self.value_global",
}

# allenai's own code had more kinds of attention than transformers' Longformer, and names them in its config.json.
UNREAD: dict[str, Callable[[Any], bool]] = {
    "attention_mode": lambda value: value in (None, "longformer", "tvm", "sliding_chunks"),
    "attention_dilation": lambda value: (
        value in (None, 1) or (isinstance(value, list) and set(map(str, value)) <= {"1"})
    ),
    "autoregressive": lambda value: value in (None, False),
    "ignore_attention_mask": lambda value: value in (None, False),
}

FAMILY = Family(
    model_type="longformer",
    prefix="longformer",
    bare="LongformerModel",
    fields=FIELDS,
    given={
        **GIVEN,
        "layers.attention.global_projections": True,
        "head.token-classification.dropout": _dropout,
        "head.sequence-classification.dropout": _dropout,
        "head.input_dropout": _dropout,
    },
    required={"position_embedding_type": ("absolute", None), "is_decoder": (False,), "add_cross_attention": (False,)},
    keys=KEYS,
    heads=heads("Longformer"),
    unread=UNREAD,
    ignored=("embeddings.position_ids", "embeddings.token_type_ids"),
)
