"""The separators by which two texts in one row are told apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from gossamer.errors import InputError

if TYPE_CHECKING:
    from gossamer.models.architecture import Architecture

__all__ = ["find_separators"]


def find_separators(
    kind: str, ended: str, architecture: Architecture, input_ids: Int[Tensor, "batch length"] | None
) -> Bool[Tensor, "batch length"]:
    """Where the separators stand. Raises InputError where a row has none, or none can be told."""
    if input_ids is None or architecture.separator_id is None:
        why = "there are no input_ids" if input_ids is None else "the model knows no separator"
        raise InputError(f"global tokens of {kind} end at a separator, and {why}: give a global_mask")
    separators = input_ids == architecture.separator_id
    if not torch.compiler.is_compiling() and not bool(separators.any(dim=1).all()):
        row = int((~separators.any(dim=1)).nonzero()[0])
        raise InputError(
            f"row {row} has no separator (id {architecture.separator_id}) that ends the {ended}: give two texts, or a "
            "global_mask"
        )
    return separators
