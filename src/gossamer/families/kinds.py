"""What a value in config.json may be, and how it reads: the vocabulary of a family's form."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from gossamer.checks import is_whole
from gossamer.errors import InputError, quote
from gossamer.models.checks import MOST_COLUMNS, MOST_LAYERS, MOST_ROWS, is_finite
from gossamer.models.heads import ProblemType
from gossamer.models.heads.labels import MOST_LABELS

__all__ = [
    "ACTIVATION",
    "ANY_ID",
    "COLUMNS",
    "COUNT",
    "FLAG",
    "LABELS",
    "LABEL_NUMBERS",
    "LAYERS",
    "NOT_NEGATIVE",
    "OPTIONAL_COLUMNS",
    "OPTIONAL_COUNT",
    "OPTIONAL_FLAG",
    "OPTIONAL_NAME",
    "OPTIONAL_OBJECT",
    "OPTIONAL_POSITIVE",
    "OPTIONAL_RATE",
    "OPTIONAL_TOKEN",
    "POOLER_ACTIVATION",
    "POSITIVE",
    "PROBLEM_TYPE",
    "RATE",
    "ROWS",
    "TOKEN",
    "Kind",
]


def _same(value: Any) -> Any:
    return value


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One sort of value: `allowed` in words, `accepts` as a test, `read` and `write` between file and architecture."""

    allowed: str
    accepts: Callable[[Any], bool]
    read: Callable[[Any], Any] = _same
    write: Callable[[Any], Any] = _same

    def check(self, name: str, value: Any) -> None:
        """Raise InputError, quoting the field and its value, unless this kind accepts it."""
        if not self.accepts(value):
            raise InputError(f"{name} is {quote(value)}; it must be {self.allowed}")


def whole(least: int, most: int) -> Kind:
    """A whole number in a range; true and false are none."""
    return Kind(allowed=f"a whole number from {least} to {most}", accepts=lambda v: is_whole(v, least, most))


def _is_labels(value: Any) -> bool:
    """null, or names by their numbers as text: {"0": ..., "1": ...}, in any order."""
    if value is None:
        return True
    if not isinstance(value, dict) or not 1 <= len(value) <= MOST_LABELS:
        return False
    named = all(isinstance(one, str | int) for one in value.values())
    return named and {str(i) for i in range(len(value))} == set(map(str, value))


_ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "quick_gelu": "gelu_sigmoid",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}


def _one_of(activations: Mapping[str, str]) -> Kind:
    return Kind(
        allowed="one of " + ", ".join(activations),
        accepts=lambda v: isinstance(v, str) and v in activations,
        read=activations.__getitem__,
        write=lambda v: {"gelu_tanh": "gelu_new", "gelu_sigmoid": "quick_gelu"}.get(v, v),
    )


ROWS = whole(1, MOST_ROWS)
COLUMNS = whole(1, MOST_COLUMNS)
LAYERS = whole(1, MOST_LAYERS)
TOKEN = whole(0, MOST_ROWS)
OPTIONAL_TOKEN = Kind(allowed=f"{TOKEN.allowed}, or null", accepts=lambda v: v is None or TOKEN.accepts(v))
ANY_ID = Kind(allowed="a whole number, or null", accepts=lambda v: v is None or type(v) is int)
"""Of a token that the model only compares with: `transformers` takes -1, which none has."""
OPTIONAL_COLUMNS = Kind(allowed=f"{COLUMNS.allowed}, or null", accepts=lambda v: v is None or COLUMNS.accepts(v))
COUNT = whole(1, MOST_LABELS)
OPTIONAL_COUNT = Kind(allowed=f"{COUNT.allowed}, or null", accepts=lambda v: v is None or COUNT.accepts(v))
RATE = Kind(allowed="a rate from 0 up to, not including, 1", accepts=lambda v: is_finite(v) and 0 <= v < 1)
POSITIVE = Kind(allowed="a finite number above 0", accepts=lambda v: is_finite(v) and v > 0)
OPTIONAL_POSITIVE = Kind(allowed=f"{POSITIVE.allowed}, or null", accepts=lambda v: v is None or POSITIVE.accepts(v))
NOT_NEGATIVE = Kind(allowed="a finite number, 0 or more", accepts=lambda v: is_finite(v) and v >= 0)
FLAG = Kind(allowed="true or false", accepts=lambda v: isinstance(v, bool))
OPTIONAL_FLAG = Kind(allowed="true, false, or null", accepts=lambda v: v is None or isinstance(v, bool))
OPTIONAL_RATE = Kind(allowed=f"{RATE.allowed}, or null", accepts=lambda v: v is None or RATE.accepts(v))
ACTIVATION = _one_of(_ACTIVATIONS)
POOLER_ACTIVATION = _one_of(_ACTIVATIONS | {"tanh": "tanh"})
LABELS = Kind(allowed='an object that names each label, {"0": ..., "1": ...} without gaps, or null', accepts=_is_labels)
OPTIONAL_OBJECT = Kind(allowed="an object, or null", accepts=lambda v: v is None or isinstance(v, dict))
OPTIONAL_NAME = Kind(allowed="a name, or null", accepts=lambda v: v is None or isinstance(v, str))
LABEL_NUMBERS = OPTIONAL_OBJECT
PROBLEM_TYPE = Kind(
    allowed=f"one of {', '.join(get_args(ProblemType))}, or null",
    accepts=lambda v: v is None or (isinstance(v, str) and v in get_args(ProblemType)),
)
