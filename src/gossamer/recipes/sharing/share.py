"""A pretrained encoder in ALBERT's form: layers that share their weights, and a factorised embedding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from gossamer.checkpoints import load
from gossamer.errors import InputError, plural
from gossamer.models.architecture import Architecture
from gossamer.models.checks import require
from gossamer.models.model import Model
from gossamer.models.model_argument import check_model
from gossamer.recipes.rebuild import rebuild, why_own_format
from gossamer.recipes.receipts.receipt import Receipt, conditions, describe
from gossamer.recipes.sharing.albert import as_albert
from gossamer.recipes.sharing.factorise import Factorised, check_embedding_size, factorise, word_shares
from gossamer.recipes.sharing.groups import PARTS, Parts, Start, group_numbers, share_layers
from gossamer.recipes.sharing.narrow_head import narrow_head
from gossamer.recipes.states import changed_dropout, compare_states

__all__ = ["share"]

_PROBED = (16, 128)
"""Tokens of the texts over which states are compared, where the model reads so many."""
_TYPES = "embeddings.token_type.weight"


@dataclass(frozen=True, kw_only=True)
class Form:
    """What is shared, and how wide the embedding is; checked against a model by `check`."""

    parts: Parts = "both"
    groups: int = 1
    embedding_size: int | None = None
    start: Start = "average"

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

    def to_dict(self) -> dict[str, Any]:
        """What was asked for, as the receipt tells it."""
        asked: dict[str, Any] = {"parts": self.parts, "groups": self.groups}
        asked |= {} if self.embedding_size is None else {"embedding_size": self.embedding_size}
        return asked | ({} if self.start == "average" else {"start": self.start})


def share(
    model: Model | str | Path, *, parts: Parts = "both", groups: int = 1, embedding_size: int | None = None,
    start: Start = "average",
) -> tuple[Model, Receipt]:  # fmt: skip
    """Give a model ALBERT's form: layers that share their weights in groups, and a factorised embedding.

    model: an encoder, or what `gossamer.load` takes; it is left as it was. Decoders share layers too.
    parts: of the layers of a group what is shared: "both", "attention", "feed-forward", or "none". groups: how many
    there are, of neighbouring layers, sizes rounded as ALBERT's are. start: their weights, "average", the mean of their
    layers', or the number of a layer in each group, from 0. embedding_size: columns of the tables, with a map behind
    them, from the tables' singular vectors (`factorise`); None leaves them.

    The result is saved as `albert` where its format can hold it, else as Gossamer's own, which the receipt says. A
    shared model is not what it was before it has learnt: the receipt tells how far its states are off.

    Raises InputError for other parts, groups or sizes than there are, layers of a group that are shaped differently,
    and weights that are kept in parts.

    Source: Lan et al. 2020 (ALBERT, arXiv 1909.11942), section 3.1; there it is trained from scratch.
    """
    old = load(model) if isinstance(model, str | Path) else check_model(model)
    form = Form(parts=parts, groups=groups, embedding_size=embedding_size, start=start)
    new, changes = shared_form(old, form)
    measured, read = compare_states(old, new, _lengths(old), "sharing")
    new.receipt = Receipt(
        recipe="share",
        source=old.source,
        settings=form.to_dict(),
        before=describe(old),
        after=describe(new),
        changes=changes,
        measured=measured,
        conditions=conditions(new) | read,
    )
    return new, new.receipt


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
        raise InputError(
            f"groups is {form.groups}, but layers of a group are shaped differently ({problem}): take more groups, or "
            "other parts"
        ) from None


def _lengths(model: Model) -> tuple[int, ...]:
    longest = model.reading_length()
    return tuple(dict.fromkeys(min(length, longest) for length in _PROBED))


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
