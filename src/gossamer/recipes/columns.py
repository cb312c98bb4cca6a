"""What labelled rows are for, told by their columns: the objective, and the names that its columns have there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gossamer.checks import require
from gossamer.errors import InputError, quote
from gossamer.models.heads import Head
from gossamer.training.objectives.pairs.pair_rows import ANCHORS, POSITIVES, says_alike

__all__ = ["COLUMNS", "LabelledColumns", "called_columns", "check_head", "find_columns", "is_trained"]

COLUMNS = {
    "text": ("text", "sentence", "sentence1", "premise"),
    "text_pair": ("text_pair", "sentence2", "hypothesis"),
    "label": ("label", "labels"),
    "score": ("score",),
    "tokens": ("tokens", "words"),
    "tags": ("tags", "ner_tags", "pos_tags", "chunk_tags"),
    "entities": ("entities",),
    "question": ("question",),
    "context": ("context",),
    "answers": ("answers",),
    "anchor": ANCHORS,
    "positive": POSITIVES,
    "negative": (),
    "target": ("target", "summary", "translation", "title"),
}
"""What a row may have, and what people call it; the first that is there is taken."""

_NEEDED = {
    "question-answering": (("question", "context", "answers"),),
    "token-classification": (("tokens", "tags"), ("text", "entities")),
    "sequence-classification": (("text", "label"), ("text", "score")),
    "embed": (("anchor", "positive"),),
    "seq2seq-lm": (("text", "target"),),
    "masked-lm": (("text",),),
    "causal-lm": (("text",),),
}
"""What a row must have for a head, in the order in which heads are tried."""

_OBJECTIVES = {
    "token-classification": "tagging",
    "sequence-classification": "classification",
    "embed": "sentence-pairs",
}
_OF_PAIRS = ("anchor", "positive", "negative", "label", "score")
_TRAINED_AS = {"pre-training": "masked-lm"}
"""Heads whose rows are those of another one."""
_ONLY_IF_THERE = ("seq2seq-lm", "masked-lm", "causal-lm")
"""Heads that rows are for where the model has them alone: no other can be given one, or any text would do."""


@dataclass(frozen=True, kw_only=True)
class LabelledColumns:
    """The head that rows are for, the settings of its objective, and where a row has its text."""

    head: str
    objective: dict[str, Any]
    text: str = "text"
    columns: dict[str, str] = field(default_factory=dict)


def find_columns(
    where: str, fields: Mapping[str, Any], head: str | None, own: Head | None, named: Mapping[str, str],
    own_only: bool = False,
) -> LabelledColumns:  # fmt: skip
    """What a first row, its fields, is for.

    head: that is to be trained, where it is named. own: the model's, which is taken where the rows have what it needs;
    own_only: it must be. named: what the columns are called, by the names in `COLUMNS`. Raises InputError for rows that
    no head can learn from.
    """
    found = called_columns(where, fields, named)
    fitting = [kind for kind, ways in _NEEDED.items() if any(set(way) <= found.keys() for way in ways)]
    own_kind = None if own is None else _TRAINED_AS.get(own.kind, own.kind)
    if own_only:
        head = own_kind
    elif head is None:
        labelled = [kind for kind in fitting if kind not in _ONLY_IF_THERE and _tells(kind, fields, found)]
        # Rows with a label are not for a language model, though they have a text.
        choice = labelled or [kind for kind in fitting if kind == own_kind]
        head = own_kind if own_kind in choice else next(iter(choice), None)
    if head is None or head not in fitting:
        raise InputError(_say_needed(where, fields, head))
    return LabelledColumns(head=head, objective=_objective(head, found), text=found.get("text", "text"), columns=found)


def _tells(head: str, fields: Mapping[str, Any], found: Mapping[str, str]) -> bool:
    """Whether the row says what the head learns: vectors of two texts do not come from the name of a class."""
    return head != "embed" or "label" not in found or says_alike(fields[found["label"]])


def is_trained(head: Head) -> bool:
    """Whether there are rows for a head of this kind."""
    return _TRAINED_AS.get(head.kind, head.kind) in _NEEDED


def check_head(head: object) -> None:
    """InputError for a head that rows are not learnt by."""
    if head is not None and (not isinstance(head, str) or head not in _NEEDED):
        raise InputError(f"head is {quote(head)}; it must be one of {', '.join(map(repr, _NEEDED))}, or None")


def called_columns(where: str, fields: Mapping[str, Any], named: Mapping[str, str]) -> dict[str, str]:
    """What each column that is there is called."""
    is_mapping = isinstance(named, Mapping) and all(isinstance(name, str) for name in (*named, *named.values()))
    require(is_mapping, "columns", named, "a mapping of names, such as {'text': 'review'}")
    for ours, theirs in named.items():
        if ours not in COLUMNS:
            raise InputError(f"columns names {quote(ours)}; it must be one of {', '.join(map(repr, COLUMNS))}")
        if theirs not in fields:
            raise InputError(f"{where}: has no column {theirs!r} (it has: {', '.join(fields)[:80]}); name another")
    called = {ours: next((name for name in names if name in fields), None) for ours, names in COLUMNS.items()}
    return {ours: name for ours, name in {**called, **named}.items() if name is not None}


def _objective(head: str, found: Mapping[str, str]) -> dict[str, Any]:
    settings: dict[str, Any] = {"kind": _OBJECTIVES.get(head, head)}
    if head == "sequence-classification":
        settings |= {"pair_field": found["text_pair"]} if "text_pair" in found else {}
        is_label = "label" in found
        settings |= (
            {"label_field": found["label"]} if is_label else {"label_field": found["score"], "problem": "regression"}
        )
    elif head == "embed":
        settings |= {f"{name}_field": found[name] for name in _OF_PAIRS if name in found}
    elif head == "token-classification":
        names = ("tokens", "tags") if {"tokens", "tags"} <= found.keys() else ("entities",)
        settings |= {f"{name}_field": found[name] for name in names}
    elif head == "question-answering":
        settings |= {f"{name}_field": found[name] for name in ("question", "context", "answers")}
    elif head == "seq2seq-lm":
        settings |= {"target_field": found["target"]}
    return settings


def _say_needed(where: str, fields: Mapping[str, Any], head: str | None) -> str:
    has = f"{where}: has the columns {', '.join(map(repr, fields))[:200]}"
    if head is not None:
        ways = " or ".join(" and ".join(map(repr, way)) for way in _NEEDED[head])
        return f"{has}; the head {head!r} is trained on {ways}: add them, or name yours (columns={{'text': ...}})"
    return (
        f"{has}, from which no head is trained; give a 'text' and a 'label' or 'score', 'tokens' and 'tags', "
        "'question', 'context' and 'answers', or 'anchor' and 'positive', or name yours (columns={'label': ...})"
    )
