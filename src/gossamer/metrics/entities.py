"""How well whole entities are found: F1 over stretches of labels, as conlleval and seqeval count them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal, get_args

from gossamer.errors import InputError, quote
from gossamer.metrics.labels import f1
from gossamer.text.label_schemes import LabelScheme, find_scheme

__all__ = ["count_entities", "entity_f1"]


def entity_f1(
    predictions: Sequence[Sequence[str]],
    references: Sequence[Sequence[str]],
    average: Literal["micro", "macro"] = "micro",
    *,
    labels: Sequence[str] | None = None,
) -> float | None:
    """F1 of entities that are right from their first token to their last, and in kind.

    predictions, references: for each text a label for each token, in IOB1, IOB2, IOE, BIOES, BILOU, BMES or BMEWO
    (`gossamer.text.label_schemes` says how a scheme is found). labels: all that there are, where these texts show too
    few to tell. "micro" counts all kinds together, "macro" is the mean over the kinds that occur. None where there are
    no entities on either side. Source: Tjong Kim Sang and De Meulder 2003 (conlleval). Raises InputError for no texts,
    lengths that differ, and labels that mark no entities.
    """
    if average not in get_args(Literal["micro", "macro"]):
        raise InputError(f"average is {quote(average)}; it must be 'micro' or 'macro'")
    _check_lengths(predictions, references)
    names = list(labels or dict.fromkeys(label for side in (predictions, references) for row in side for label in row))
    scheme = find_scheme(names)
    if scheme.name == "plain" and set(names) - {"O", "o"}:
        raise InputError(
            f"labels {quote(names)} don't mark where entities begin; give all that there are as labels=, or take "
            "f1_score for labels of words"
        )
    texts = list(zip(predictions, references, strict=True))
    if average == "micro":
        return f1(*_total(count_entities(scheme, *text) for text in texts))
    kinds = dict.fromkeys(scheme.read(label).kind for label in names)
    by_kind = [f1(*_total(count_entities(scheme, *text, kind=kind) for text in texts)) for kind in kinds]
    scores = [score for score in by_kind if score is not None]
    return math.fsum(scores) / len(scores) if scores else None


def count_entities(
    scheme: LabelScheme, predictions: Sequence[str], references: Sequence[str], *, kind: str | None = None
) -> tuple[int, int, int]:
    """Entities of one text that are right, found and wanted; of one kind only where it is named."""
    found, wanted = (
        {entity for entity in scheme.entities(labels) if kind in (None, entity[2])}
        for labels in (predictions, references)
    )
    return len(found & wanted), len(found), len(wanted)


def _total(counts: Iterable[tuple[int, int, int]]) -> list[int]:
    return [sum(column) for column in zip(*counts, strict=True)]


def _check_lengths(predictions: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> None:
    if len(predictions) != len(references) or not predictions:
        raise InputError(
            f"{len(predictions)} predictions for {len(references)} references; give one for each text, at least one"
        )
    for i, (prediction, reference) in enumerate(zip(predictions, references, strict=True)):
        if isinstance(prediction, str) or isinstance(reference, str) or len(prediction) != len(reference):
            raise InputError(
                f"predictions[{i}] is {quote(prediction)}, references[{i}] is {quote(reference)}; they must be lists "
                "of labels, one for each token"
            )
