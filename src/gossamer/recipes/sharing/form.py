"""ALBERT's form as data, and a copy of a model in it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from gossamer.checks import as_python
from gossamer.errors import InputError, plural
from gossamer.models.architecture import Architecture
from gossamer.models.checks import require
from gossamer.models.model import Model
from gossamer.recipes.sharing.albert import as_albert
from gossamer.recipes.sharing.factorise import Factorised, check_embedding_size, factorise, word_shares
from gossamer.recipes.sharing.groups import PARTS, Parts, Start, group_numbers, share_layers
from gossamer.recipes.sharing.narrow_head import narrow_head
from gossamer.recipes.states import changed_dropout
from gossamer.surgery.rebuild import rebuild, why_own_format

__all__ = ["Form", "shared_form"]

_TYPES = "embeddings.token_type.weight"


@dataclass(frozen=True, kw_only=True)
class Form:
    """What is shared, and how wide the embedding is; checked against a model by `check`."""

    parts: Parts = "both"
    groups: int = 1
    embedding_size: int | None = None
    start: Start = "average"

    def __post_init__(self) -> None:
        for name in ("groups", "embedding_size", "start"):
            object.__setattr__(self, name, as_python(getattr(self, name)))

    def check(self, old: Architecture) -> None:
        """InputError for what the model has not."""
        count = len(old.layers)
        require(self.parts in tuple(PARTS), "parts", self.parts, f"one of {', '.join(map(repr, PARTS))}")
        require(
            type(self.groups) is int and 1 <= self.groups <= count,
            "groups",
            self.groups,
            f"from 1 to {count}, the model's layers",
        )
        numbers = group_numbers(count, self.groups)
        smallest = min(numbers.count(group) for group in range(self.groups))
        allowed = f"'average', or a layer of each group, from 0 to {smallest - 1}"
        is_layer = type(self.start) is int and 0 <= self.start < smallest
        require(self.start == "average" or is_layer, "start", self.start, allowed)
        if old.storages:
            raise InputError("the model keeps some weights in parts (storages); merge them, then share its layers")
        if self.embedding_size is not None:
            check_embedding_size(old, self.embedding_size)

    def origin(self) -> dict[str, str]:
        """What a run that goes on must have begun with, beside the teacher."""
        return {"student": hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()}

    def to_dict(self) -> dict[str, Any]:
        """What was asked for, as the receipt tells it."""
        asked: dict[str, Any] = {"parts": self.parts, "groups": self.groups}
        asked |= {} if self.embedding_size is None else {"embedding_size": self.embedding_size}
        return asked | ({} if self.start == "average" else {"start": self.start})


def shared_form(old: Model, form: Form) -> tuple[Model, tuple[str, ...]]:
    """A copy of a model in this form, and what became of it, a line each."""
    form.check(old.architecture)
    weights = old.state_dict()
    architecture, new_weights = _shared(old.architecture, weights, form)
    tables, size = None, form.embedding_size
    if size is not None:
        tables = factorise(old.architecture, weights, size, word_shares(old))
        new_weights |= tables.weights
        if tables.basis is not None:
            new_weights |= narrow_head(old.architecture, weights, tables.basis)
        embeddings = replace(architecture.embeddings, size=size, projection=True)
        architecture = replace(architecture, embeddings=embeddings)
    fitted, obstacles = as_albert(architecture)
    if fitted.embeddings.token_types and not old.architecture.embeddings.token_types:
        like = new_weights.get("embeddings.word.weight", weights["embeddings.word.weight"])
        new_weights[_TYPES] = like.new_zeros(fitted.embeddings.token_types, fitted.embeddings.size)
    new = rebuild(old, fitted, new_weights, source=str)
    return new, _changes(old, new, form, tables, obstacles)


def _shared(old: Architecture, weights: Mapping[str, Tensor], form: Form) -> tuple[Architecture, dict[str, Tensor]]:
    try:
        return share_layers(old, weights, form.parts, form.groups, form.start)
    except InputError as problem:
        where = str(problem).partition(" shares ")[0]  # and two long shapes
        raise InputError(
            f"groups is {form.groups}, but layers of a group are shaped differently ({where} is not as one before it): "
            "take more groups, or other parts"
        ) from None


def _changes(old: Model, new: Model, form: Form, tables: Factorised | None, obstacles: list[str]) -> tuple[str, ...]:
    before, after = old.architecture, new.architecture
    changes = []
    if form.parts != "none":
        what = {"both": "attention and feed-forward", "feed-forward": "feed-forward"}.get(form.parts, form.parts)
        begun = "the mean of its layers" if form.start == "average" else f"its layer {form.start}"
        changes.append(
            f"{what} of {plural(len(after.layers), 'layer')} share {plural(form.groups, 'set')} of weights, each begun "
            f"as {begun}"
        )
    if tables is not None:
        changes.append(
            f"embeddings {after.embeddings.size} wide, {before.embeddings.size} before, and a map to "
            f"{after.hidden_size}: {tables.kept:.1%} of the tables' second moment"
        )
    if after.embeddings.token_types != before.embeddings.token_types:
        changes.append("two token types, rows of zeros: ALBERT's format has such a table")
    return (*changes, *changed_dropout(before, after), *why_own_format(new.family, "ALBERT", obstacles))
