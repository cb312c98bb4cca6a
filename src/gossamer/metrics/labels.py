"""How well labels are predicted: accuracy, F1 and Matthews' coefficient, for one label an example or for several."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, Literal, get_args

from torch import Tensor

from gossamer.checks import is_whole
from gossamer.errors import InputError, quote

__all__ = ["Average", "Labels", "accuracy", "f1", "f1_score", "matthews"]

Label = str | int
Labels = Sequence[Label] | Sequence[Sequence[int]] | Tensor
"""A class for each example, a name or a number, [n]; or 0 and 1 for each of several labels, [n, labels]."""

Average = Literal["binary", "micro", "macro"]


def accuracy(predictions: Labels, references: Labels) -> float:
    """The share of examples whose label is right; of several labels an example, all of them.

    Raises InputError for no examples, lengths that differ, and what is no label.
    """
    pairs = _read_pairs(predictions, references)
    return sum(prediction == reference for prediction, reference in pairs) / len(pairs)


def f1_score(
    predictions: Labels, references: Labels, average: Average = "binary", *, positive: Label = 1
) -> float | None:
    """F1 of `positive` ("binary"), of all labels' counts together ("micro"), or the mean of every label's ("macro").

    None where nothing was found and nothing wanted. "macro" is over the labels that occur in either; of several labels
    an example it leaves out those that were neither found nor wanted. Raises InputError for no examples, lengths that
    differ, what is no label, and "binary" where there are more than two classes or none is `positive`. Source: van
    Rijsbergen 1979, chapter 7.
    """
    if average not in get_args(Average):
        raise InputError(f"average is {quote(average)}; it must be 'binary', 'micro' or 'macro'")
    pairs = _read_pairs(predictions, references)
    if isinstance(pairs[0][0], tuple):
        if average == "binary":
            raise InputError("average is 'binary', but examples have several labels; give average='micro' or 'macro'")
        counts = [_count(column, 1) for column in _columns(pairs)]
    elif average == "binary":
        _check_binary(pairs, positive)
        counts = [_count(pairs, positive)]
    else:
        counts = _count_classes(pairs)
    if average == "macro":
        scores = [score for count in counts if (score := f1(*count)) is not None]
        return math.fsum(scores) / len(scores) if scores else None
    return f1(*(sum(column) for column in zip(*counts, strict=True)))


def matthews(predictions: Labels, references: Labels) -> float | None:
    """Matthews' correlation coefficient, of any number of classes; None where either side has one class only.

    Sources: Matthews 1975; Gorodkin 2004 for several classes. Raises InputError for no examples, lengths that differ,
    what is no label, and several labels an example.
    """
    pairs = _read_pairs(predictions, references)
    if isinstance(pairs[0][0], tuple):
        raise InputError("examples have several labels; Matthews' coefficient is of one: give one column at a time")
    n, right = len(pairs), sum(prediction == reference for prediction, reference in pairs)
    found, wanted = (Counter(side) for side in zip(*pairs, strict=True))
    covariance = n * right - sum(found[label] * wanted[label] for label in found)
    spread = (n * n - sum(k * k for k in found.values())) * (n * n - sum(k * k for k in wanted.values()))
    return covariance / math.sqrt(spread) if spread else None


def f1(right: float, found: float, wanted: float) -> float | None:
    """The harmonic mean of precision, right / found, and recall, right / wanted: 2 right / (found + wanted).

    right: what was found and wanted. None where nothing was found and nothing wanted. Raises InputError for more that
    is right than was found or wanted. Source: van Rijsbergen 1979, chapter 7.
    """
    if not 0 <= right <= min(found, wanted):
        raise InputError(f"right is {quote(right)}; it must be from 0 to what was found, {found}, and wanted, {wanted}")
    return 2 * right / (found + wanted) if found + wanted else None


Pairs = Sequence[tuple[Hashable, Hashable]]
Counts = tuple[int, int, int]
"""What is right, found and wanted."""


def _count(pairs: Pairs, label: Label) -> Counts:
    right = sum(prediction == reference == label for prediction, reference in pairs)
    found, wanted = (sum(each == label for each in side) for side in zip(*pairs, strict=True))
    return right, found, wanted


def _count_classes(pairs: Pairs) -> list[Counts]:
    right = Counter(prediction for prediction, reference in pairs if prediction == reference)
    found, wanted = (Counter(side) for side in zip(*pairs, strict=True))
    return [(right[label], found[label], wanted[label]) for label in found | wanted]


def _columns(pairs: Sequence[tuple[Any, Any]]) -> list[Pairs]:
    """The same label of all examples, for every label."""
    sides = [zip(*side, strict=True) for side in zip(*pairs, strict=True)]
    return [list(zip(*columns, strict=True)) for columns in zip(*sides, strict=True)]


def _check_binary(pairs: Pairs, positive: Label) -> None:
    classes = dict.fromkeys(label for pair in pairs for label in pair)
    if positive not in classes and not set(classes) <= {0, 1}:
        raise InputError(f"positive is {quote(positive)}; it must be one of the classes, {quote(list(classes))}")
    if len({positive, *classes}) > 2:
        raise InputError(
            f"average is 'binary', but there are {len(classes)} classes, {quote(list(classes))}; give average='micro' "
            "or 'macro'"
        )


def _read_pairs(predictions: Labels, references: Labels) -> list[tuple[Hashable, Hashable]]:
    sides = [_read(name, side) for name, side in (("predictions", predictions), ("references", references))]
    if len(sides[0]) != len(sides[1]) or not sides[0]:
        raise InputError(f"{len(sides[0])} predictions for {len(sides[1])} references; give one for each, at least one")
    widths = {len(label) if isinstance(label, tuple) else 0 for side in sides for label in side}
    if len(widths) > 1:
        raise InputError(
            f"examples have {' or '.join(map(str, sorted(widths)))} columns of labels (0: a single class); all must "
            "have as many"
        )
    return list(zip(*sides, strict=True))


def _read(name: str, labels: Any) -> list[Hashable]:
    """Labels of every kind as names, numbers, or tuples of 0 and 1."""
    rows: Iterable[Any] = labels.tolist() if hasattr(labels, "tolist") else labels
    if isinstance(rows, str) or not isinstance(rows, Iterable):
        raise InputError(f"{name} is {quote(labels)}; it must be a sequence of labels")
    return [_read_label(name, i, label.tolist() if hasattr(label, "tolist") else label) for i, label in enumerate(rows)]


def _read_label(name: str, i: int, label: Any) -> Hashable:
    if isinstance(label, Sequence) and not isinstance(label, str):
        columns = tuple(label)
        if not columns or not all(isinstance(each, bool) or is_whole(each, 0, 1) for each in columns):
            raise InputError(f"{name}[{i}] is {quote(label)}; several labels an example are 0 or 1 for each of them")
        return columns
    if isinstance(label, str | bool) or is_whole(label, -math.inf):
        return label
    raise InputError(f"{name}[{i}] is {quote(label)}; a label is a name or a whole number: of scores, take the argmax")
