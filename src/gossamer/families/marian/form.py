"""The form of Marian: BART's, with sinusoidal positions, no norm of embeddings, and perhaps two word tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gossamer.families.bart.form import ALIASES, COPIES, UNREAD, seq2seq_head, stack_keys
from gossamer.families.bart.form import FIELDS as BART_FIELDS
from gossamer.families.bart.form import GIVEN as BART_GIVEN
from gossamer.families.base import Config, Family, Field, Key
from gossamer.families.kinds import FLAG, OPTIONAL_TOKEN, ROWS, TOKEN, Kind
from gossamer.families.shared import LABEL_FIELDS, token_id, with_fields

__all__ = ["FAMILY"]

_LABELS = tuple(field.name for field in LABEL_FIELDS)
_OF_TABLES = ("embeddings.positions.offset", "embeddings.norm.eps")

OPTIONAL_ROWS = Kind(allowed=f"{ROWS.allowed}, or null", accepts=lambda v: v is None or ROWS.accepts(v))


def _words(value: int | None, config: Config) -> Any:
    """Rows of the decoder's table, null being the encoder's; as many where there is but one table."""
    shared = config["share_encoder_decoder_embeddings"]
    return config["vocab_size"] if value is None or shared else value


def _of_decoder(name: str) -> Any:
    """An id of a token that the decoder reads."""

    def read(value: Any, config: Config) -> Any:
        return token_id(name, value, {**config, "vocab_size": _words(config["decoder_vocab_size"], config)})

    return read


def _start(value: int | None, config: Config) -> Any:
    """What stands before a second text: the padding where nothing is said."""
    named = config["pad_token_id"] if value is None else value
    return _of_decoder("decoder_start_token_id")(named, config)


FIELDS = with_fields(
    BART_FIELDS,
    Field("vocab_size", ROWS, 58101, to=("embeddings.vocabulary_size",)),
    Field("decoder_vocab_size", OPTIONAL_ROWS, None, to=("decoder.embeddings.vocabulary_size",), read=_words),
    Field("max_position_embeddings", ROWS, 1024, to=("length", "decoder.length")),
    Field(
        "pad_token_id",
        TOKEN,
        58100,
        to=("embeddings.padding_id", "decoder.embeddings.padding_id"),
        null_is_usual=True,
    ),
    Field("decoder_start_token_id", OPTIONAL_TOKEN, None, to=("decoder.start_id",), read=_start),
    Field("share_encoder_decoder_embeddings", FLAG, True, to=("decoder.shared_words",)),
    without=("eos_token_id", "classifier_dropout", *_LABELS),
)

GIVEN = {
    **{place: value for place, value in BART_GIVEN.items() if place.removeprefix("decoder.") not in _OF_TABLES},
    **{f"{stack}embeddings.norm": None for stack in ("", "decoder.")},
    **{f"{stack}embeddings.positions.scheme": "sinusoidal-halves" for stack in ("", "decoder.")},
}


def _braces(config: Config) -> Mapping[str, str]:
    return {"words": "shared" if config["share_encoder_decoder_embeddings"] else "encoder.embed_tokens"}


def _without_positions(keys: Mapping[str, Key]) -> dict[str, Key]:
    return {ours: theirs for ours, theirs in keys.items() if not ours.endswith("embeddings.position")}


FAMILY = Family(
    model_type="marian",
    prefix="model",
    bare="MarianModel",
    fields=FIELDS,
    given=GIVEN,
    required={
        "normalize_before": (False,),
        "normalize_embedding": (False,),
        "add_final_layer_norm": (False,),
        "static_position_embeddings": (True,),
    },
    keys={
        "embeddings.word": "{words}",
        "decoder.embeddings.word": "decoder.embed_tokens",
        **_without_positions(stack_keys("", "encoder", norm=False)),
        **_without_positions(stack_keys("decoder.", "decoder", norm=False)),
    },
    copies=COPIES,
    braces=_braces,
    heads={"seq2seq-lm": seq2seq_head("MarianMTModel")},
    aliases=ALIASES,
    unread=UNREAD,
    ignored=("encoder.embed_positions.weight", "decoder.embed_positions.weight"),
    end_id=0,
)
