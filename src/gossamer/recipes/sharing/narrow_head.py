"""A head that scores the vocabulary, for tables that became narrower."""

from __future__ import annotations

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor

from gossamer.models.architecture import Architecture
from gossamer.models.heads import MaskedLM, PreTraining
from gossamer.surgery.students.narrow_maps import hidden_map, mapped

__all__ = ["narrow_head"]

_WIDE = ("head.dense.", "head.norm.", "head.decoder.")
"""What is as wide as the tables."""


def narrow_head(
    old: Architecture, weights: Mapping[str, Tensor], basis: Float[Tensor, "columns size"]
) -> dict[str, Tensor]:
    """The tensors, by name, of a head that gives `size` numbers a token, in place of those as wide as the old tables.

    What stands before its activation goes through the tables' basis P, as a narrower student's does
    (`gossamer.surgery.students.narrow_maps`), though no map goes through an activation: it is a start. The tables are
    W P sqrt(size / columns), so the norm gives what P^T makes of the old one's, larger by as much. A head with a table
    of its own goes through that one's singular vectors. {} for heads that are not as wide as the tables.
    """
    head = old.head
    if not isinstance(head, MaskedLM | PreTraining):
        return {}
    scale = (len(basis) / basis.shape[1]) ** 0.5
    if not head.tied:
        table = weights["head.decoder.weight"].detach().cpu().double()
        basis, scale = hidden_map(table.T @ table, basis.shape[1], chooses=False, centred=False), 1.0
    new = {
        name: mapped(name, one.detach(), {"inner": basis}) for name, one in weights.items() if name.startswith(_WIDE)
    }
    return {name: one * scale if name.startswith("head.norm.") else one for name, one in new.items()}
