"""Small rules and groups of fields that several forms use."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gossamer.errors import InputError, quote
from gossamer.families.base import OMITTED, Config, Field, HeadForm
from gossamer.families.kinds import (
    LABEL_NUMBERS,
    LABELS,
    OPTIONAL_COUNT,
    OPTIONAL_NAME,
    OPTIONAL_OBJECT,
    OPTIONAL_RATE,
    PROBLEM_TYPE,
    TOKEN,
    Kind,
)
from gossamer.models.architecture import Architecture
from gossamer.models.heads import QuestionAnswering, SequenceClassification

__all__ = [
    "DECODER_DROPOUT",
    "LABEL_FIELDS",
    "classifier_dropout",
    "end_of_text",
    "head_size",
    "label_fields",
    "label_heads",
    "padding_id",
    "refuse_scaled_rotary",
    "table_rows",
    "token_id",
    "usable_length",
    "with_fields",
]


def with_fields(fields: Sequence[Field], *changed: Field, without: Sequence[str] = ()) -> tuple[Field, ...]:
    """A form's fields with some of the same name replaced, new ones added, and those named in `without` left out."""
    new = {field.name: field for field in changed}
    old = [new.pop(field.name, field) for field in fields if field.name not in without]
    return (*old, *new.values())


def head_size(config: Config) -> Any:
    """Columns of one attention head: `hidden_size / num_attention_heads`, which must divide."""
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    if hidden % heads:
        raise InputError(f"hidden_size is {hidden}; it must be a multiple of num_attention_heads, {heads}")
    return hidden // heads


def token_id(name: str, value: Any, config: Config) -> Any:
    """One of the vocabulary's ids (or null, where the kind allows it)."""
    last = config["vocab_size"] - 1
    if value is not None and value > last:
        raise InputError(f"{name} is {value}; it must be a token id from 0 to {last}")
    return value


def padding_id(value: Any, config: Config) -> Any:
    """`pad_token_id`, which must be one of the vocabulary's ids."""
    return token_id("pad_token_id", value, config)


def usable_length(rows: int, config: Config) -> int:
    """Rows of a position table left for tokens: those up to and including the padding's come before position 0."""
    offset = config["pad_token_id"] + 1
    if rows <= offset:
        raise InputError(f"max_position_embeddings is {rows}; it must be more than pad_token_id + 1, {offset}")
    return rows - offset


def table_rows(length: int, architecture: Architecture) -> Any:
    """All rows of the position table: the inverse of `usable_length`."""
    return length + architecture.embeddings.positions.offset


def classifier_dropout(*places: str) -> Field:
    """`classifier_dropout`, null being `hidden_dropout_prob`."""
    return Field(
        "classifier_dropout",
        OPTIONAL_RATE,
        None,
        to=places,
        read=lambda value, config: config["hidden_dropout_prob"] if value is None else value,
        write=lambda value, architecture: None if value == architecture.embeddings.dropout else value,
    )


_USUAL_DROPOUT = 0.1

DECODER_DROPOUT = Field(
    "classifier_dropout",
    OPTIONAL_RATE,
    None,
    to=("head.token-classification.dropout",),
    read=lambda rate, config: _USUAL_DROPOUT if rate is None else rate,
    write=lambda rate, architecture: OMITTED if rate == _USUAL_DROPOUT else rate,
)
"""Before a decoder's labels of tokens, which is 0.1 in `transformers` where the file says nothing."""


def _names(usual: int) -> Callable[[Any, Config], tuple[str, ...]]:
    def read(value: Any, config: Config) -> tuple[str, ...]:
        count = config["num_labels"]
        if value is not None and count in (None, len(value)):
            named = {str(number): str(name) for number, name in value.items()}
            return tuple(named[str(i)] for i in range(len(named)))
        return tuple(f"LABEL_{i}" for i in range(usual if count is None else count))

    return read


_ACTIVATIONS = {
    "torch.nn.modules.linear.Identity": "identity",
    "torch.nn.modules.activation.Sigmoid": "sigmoid",
    "torch.nn.Identity": "identity",
    "torch.nn.Sigmoid": "sigmoid",
}


def _score_activation(value: Any, config: Config) -> Any:
    """What a cross-encoder makes of its scores: `sentence_transformers`, or the field that came before it, names it."""
    named = (config["sentence_transformers"] or {}).get("activation_fn")
    named = config["sbert_ce_default_activation_function"] if named is None else named
    if named is not None and not isinstance(named, str):
        raise InputError(
            f"sentence_transformers.activation_fn is {quote(named)}; it must be the name of a class, or null"
        )
    return None if named is None else _ACTIVATIONS.get(named, named)


def _written_activation(value: Any, architecture: Architecture) -> Any:
    named = next((name for name, activation in _ACTIVATIONS.items() if activation == value), None)
    return OMITTED if named is None else {"activation_fn": named}


_SCORES = ("head.sequence-classification.score_activation",)


def label_fields(usual: int = 2) -> tuple[Field, ...]:
    """The lines about labels, of which there are so many where the file says nothing: 2 in most of transformers.

    The last line wins: names where there are any and num_labels says no other number, else as many as that says.
    """
    return (
        Field(
            "label2id",
            LABEL_NUMBERS,
            None,
            to=("head.labels",),
            write=lambda labels, architecture: {label: i for i, label in enumerate(labels)},
        ),
        Field("num_labels", OPTIONAL_COUNT, None, to=("head.labels",), write=lambda labels, architecture: OMITTED),
        Field(
            "id2label",
            LABELS,
            None,
            to=("head.labels",),
            read=_names(usual),
            write=lambda labels, architecture: {str(i): label for i, label in enumerate(labels)},
        ),
        Field("problem_type", PROBLEM_TYPE, None, to=("head.problem_type",)),
        Field(
            "sentence_transformers",
            OPTIONAL_OBJECT,
            None,
            to=_SCORES,
            read=_score_activation,
            write=_written_activation,
        ),
        Field(
            "sbert_ce_default_activation_function",
            OPTIONAL_NAME,
            None,
            to=_SCORES,
            read=_score_activation,
            write=lambda value, architecture: OMITTED,
        ),
    )


LABEL_FIELDS = label_fields()


def end_of_text(default: int) -> Field:
    """`eos_token_id`, the last of which in a text is what a head of labels reads of a decoder's states."""
    kind = Kind(
        allowed="a token id, a list of them, or null",
        accepts=lambda v: (
            v is None or TOKEN.accepts(v) or (isinstance(v, list) and v != [] and all(map(TOKEN.accepts, v)))
        ),
    )

    def read(value: Any, config: Config) -> Any:
        first = value[0] if isinstance(value, list) else default if value is None else value
        return token_id("eos_token_id", first, config) if value is not None else first

    return Field("eos_token_id", kind, default, to=("head.sequence-classification.end_id",), read=read)


def label_heads(stem: str, prefix: str | None = None) -> dict[str, HeadForm]:
    """The heads that read a decoder's states of the text that its encoder reads, too. prefix: beside the first."""
    return {
        "sequence-classification": HeadForm(
            head=SequenceClassification,
            architectures=(f"{stem}ForSequenceClassification",),
            keys={"head.dense": "classification_head.dense", "head.output": "classification_head.out_proj"},
            prefix=prefix,
        ),
        "question-answering": HeadForm(
            head=QuestionAnswering,
            architectures=(f"{stem}ForQuestionAnswering",),
            keys={"head.output": "qa_outputs"},
        ),
    }


def refuse_scaled_rotary(name: str, parameters: Mapping[str, Any]) -> None:
    """InputError where a file's parameters of rotary positions name a scaling, by `rope_type` or, as of old, `type`."""
    for key in ("rope_type", "type"):
        kind = parameters.get(key, "default")
        if kind != "default":
            raise InputError(
                f"{name}.rope_type is {quote(kind)}; Gossamer reads rotary positions that are not scaled: 'default'"
            )
