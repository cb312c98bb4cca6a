"""What language models are trained to predict: tokens of plain text."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from torch import Tensor

from gossamer.metrics.language import bits_per_byte, perplexity
from gossamer.models import Model, count_labels
from gossamer.models.checks import require, require_choice, require_count, require_rate
from gossamer.text import Tokenizer
from gossamer.training.data.packing import Frame, Rows
from gossamer.training.objectives.base import Batch, Direction, Objective

__all__ = ["Labeller", "LanguageObjective", "Masking"]

Masking = Literal["token", "whole-word", "n-gram"]
Labeller = Callable[[Rows, Sequence[tuple[int, ...]]], tuple[np.ndarray, np.ndarray]]
"""What a model sees of rows and the labels there, each int64 [rows, length]; with a seed for each row."""


@dataclass(frozen=True, kw_only=True)
class LanguageObjective(Objective):
    """Tokens are predicted, from token files of plain text.

    masking, share, longest: which tokens are taken out; a causal model reads over them. overlap: so many tokens at a
    row's end begin the next one, since what opens a row is not predicted there.
    """

    measures: ClassVar[tuple[str, ...]] = ("bytes",)
    overlap: ClassVar[int] = 0

    masking: Masking = "token"
    share: float = 0.15
    longest: int = 3

    def __post_init__(self) -> None:
        require_choice(self, Masking, "masking")
        require_rate(self, "share")
        require(self.share > 0, "share", self.share, "a rate above 0 and below 1")
        require_count(self, "longest", most=64)

    @abstractmethod
    def frame(self, tokenizer: Tokenizer) -> Frame:
        """The special tokens around each row."""

    @abstractmethod
    def labeller(self, tokenizer: Tokenizer) -> Labeller:
        """What makes labels; InputError for a tokenizer that will not do."""

    def most_id(self, tokenizer: Tokenizer) -> int:
        """The highest id that it puts into rows."""
        return 0

    def check_tokenizer(self, tokenizer: Tokenizer) -> None:
        self.labeller(tokenizer)

    def count_labels(self, model: Model, batch: Batch) -> int:
        return count_labels(model.architecture, batch["labels"], batch.get("segments"))

    def any_labels(self, batch: Batch) -> Tensor:
        return batch["input_ids"]

    def scores(self, model: Model, loss: float, labels: int, sums: Mapping[str, float]) -> dict[str, float | None]:
        """Perplexity, exp of the loss; of decoders the bits a byte: a masked LM predicts some of the tokens only."""
        told = math.isfinite(loss)
        tells_bytes = model.architecture.is_decoder and told and sums["bytes"] >= 1
        return {
            "perplexity": perplexity(loss) if told else math.nan,
            "bits_per_byte": bits_per_byte(loss * labels, int(sums["bytes"])) if tells_bytes else None,
        }

    def directions(self, model: Model | None = None) -> Mapping[str, Direction]:
        tells_bytes = model is None or model.architecture.is_decoder
        return {"perplexity": "lower", **({"bits_per_byte": "lower"} if tells_bytes else {})}
