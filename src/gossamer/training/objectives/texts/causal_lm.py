"""The next token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from gossamer.models.heads import CausalLM, Head
from gossamer.text import Tokenizer
from gossamer.training.data.packing import Frame, Rows
from gossamer.training.objectives.base import IGNORED
from gossamer.training.objectives.texts.language import Labeller, LanguageObjective

__all__ = ["CausalObjective"]


@dataclass(frozen=True, kw_only=True)
class CausalObjective(LanguageObjective, kind="causal-lm"):
    """The next token of each document, which stands between two end tokens (Radford et al. 2019)."""

    heads: ClassVar[tuple[type[Head], ...]] = (CausalLM,)
    overlap: ClassVar[int] = 1
    writes: ClassVar[bool] = True
    without_head: ClassVar[str] = ": take a decoder"

    kind: Literal["causal-lm"] = "causal-lm"

    def new_head(self, rows: Sequence[Any] = (), usual: Head | None = None) -> Head:
        return usual or CausalLM()

    def frame(self, tokenizer: Tokenizer) -> Frame:
        return Frame()

    def labeller(self, tokenizer: Tokenizer) -> Labeller:
        return lambda rows, seeds: (rows.ids, _next_tokens(rows))


def _next_tokens(rows: Rows) -> np.ndarray:
    """All tokens but the first of each document, which nothing comes before."""
    labels = np.where(rows.real, rows.ids, IGNORED)
    labels[:, 0] = IGNORED
    labels[:, 1:][rows.segments[:, 1:] != rows.segments[:, :-1]] = IGNORED
    return labels
