"""A model whose tables have other rows: those of the tokens that stay."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from gossamer.models.architecture import Architecture
from gossamer.models.model import Model
from gossamer.recipes.vocabulary.named_ids import renumbered, renumbered_config
from gossamer.surgery.rebuild import rebuild
from gossamer.text import Tokenizer

__all__ = ["vocabulary_axes", "with_rows"]

_POSITIONS = "embeddings.position.weight"


def with_rows(model: Model, tokenizer: Tokenizer, old_ids: Sequence[int]) -> Model:
    """The model whose row i of every table that has one for each token is the old row `old_ids[i]`, and its tokenizer.

    The ids in its settings are the new ones.
    """
    new_ids = {number: i for i, number in enumerate(old_ids)}
    old = model.architecture
    architecture = renumbered(old, len(old_ids), new_ids.get)
    device = next(model.parameters()).device
    rows = torch.tensor(old_ids, device=device)
    weights = {
        name: tensor.detach().index_select(axis, rows)
        for name, axis in vocabulary_axes(old).items()
        for tensor in [model.state_dict()[name]]
    }
    if architecture.embeddings.positions.offset != old.embeddings.positions.offset:
        weights[_POSITIONS] = _shifted(model.state_dict()[_POSITIONS], old, architecture)
    new = rebuild(model, architecture, weights, source=str)
    new.tokenizer = tokenizer
    new.extra_config = renumbered_config(model.extra_config, new_ids.get)
    new.generation_config = renumbered_config(model.generation_config, new_ids.get)
    return new


def vocabulary_axes(architecture: Architecture) -> dict[str, int]:
    """The tensors that have a row for each token, and along which axis: those that one token more makes larger."""
    rows = architecture.embeddings.vocabulary_size
    more = dataclasses.replace(
        architecture, embeddings=dataclasses.replace(architecture.embeddings, vocabulary_size=rows + 1)
    )
    with torch.device("meta"):
        shapes, larger = (
            {name: tensor.shape for name, tensor in Model(one).state_dict().items()} for one in (architecture, more)
        )
    return {
        name: next(axis for axis, size in enumerate(shape) if size != larger[name][axis])
        for name, shape in shapes.items()
        if shape != larger[name]
    }


def _shifted(table: Tensor, old: Architecture, new: Architecture) -> Tensor:
    """The table of positions with other rows before position 0; padding's, the last of them, stays there."""
    before, after = old.embeddings.positions.offset, new.embeddings.positions.offset
    if after <= before:
        return table[before - after :].detach().clone()
    return torch.cat([table.new_zeros(after - before, table.shape[1]), table.detach()])
