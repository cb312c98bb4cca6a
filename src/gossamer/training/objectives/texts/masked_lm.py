"""Tokens that were taken out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from gossamer.models.heads import Head, MaskedLM, PreTraining
from gossamer.training.objectives.texts.masking import MaskingObjective

__all__ = ["MaskedObjective"]


@dataclass(frozen=True, kw_only=True)
class MaskedObjective(MaskingObjective, kind="masked-lm"):
    """`share` of the text's tokens, drawn anew each time (Devlin et al. 2019, section 3.1; Liu et al. 2019, 4.1).

    80% of them become the mask, 10% another token, 10% stay. masking: "token", each by itself; "whole-word", all pieces
    of a word together; "n-gram", spans of one to `longest` whole words, n of them in proportion to 1/n (ALBERT: Lan et
    al. 2020, section 4.1).
    """

    heads: ClassVar[tuple[type[Head], ...]] = (MaskedLM, PreTraining)

    kind: Literal["masked-lm"] = "masked-lm"

    def new_head(self, rows: Sequence[Any] = (), usual: Head | None = None) -> Head:
        return usual or MaskedLM()
