"""Objectives whose loss compares the vectors of all rows of a step, however the step is cut."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gossamer.errors import InputError, quote
from gossamer.models import Model
from gossamer.models.heads import SentenceEmbedding
from gossamer.training.objectives.base import Batch, Objective

__all__ = ["VectorObjective", "trained_prompt"]


def trained_prompt(head: SentenceEmbedding, of: str = "model") -> str:
    """What a training puts before each text, as the task does: the default prompt; "": none.

    InputError, which says whose head it is, for a prompt that is read but not pooled.
    """
    prompt = head.resolve_prompt()
    if prompt and not head.include_prompt:
        raise InputError(
            f"the {of}'s prompt {quote(prompt)} is read but not pooled (include_prompt), which is not trained: "
            "give a head without default_prompt_name, and prompts in the data"
        )
    return prompt


@dataclass(frozen=True, kw_only=True)
class VectorObjective(Objective):
    """One loss of all vectors of a step: those of other rows, of other processes too, are what a row is compared with.

    A step that is cut into parts, or shared by processes, is learnt by gradient caching (`gossamer.training.
    gradient_cache`), so that its loss is that of the step as a whole.
    """

    is_reckoned: ClassVar[bool] = False
    """Several passes, of texts of any length, which an estimate does not read."""

    @abstractmethod
    def passes(self, batch: Batch) -> list[dict[str, Tensor]]:
        """What the model reads of a batch in turn: the arguments of each pass, as many passes for every batch."""

    @abstractmethod
    def targets(self, batch: Batch) -> dict[str, Tensor]:
        """What else of a batch the loss reads, one entry a row each."""

    @abstractmethod
    def vectors_loss(
        self, vectors: Sequence[Float[Tensor, "rows size"]], targets: Mapping[str, Tensor]
    ) -> Float[Tensor, ""]:
        """The mean loss over rows, from the vectors of each pass."""

    @abstractmethod
    def vectors_scores(
        self, vectors: Sequence[Float[Tensor, "rows size"]], targets: Mapping[str, Tensor]
    ) -> dict[str, float | None]:
        """How well a model does, from all held-out vectors; None for what cannot be told."""

    def vectors(self, model: nn.Module, inputs: Mapping[str, Tensor]) -> Float[Tensor, "rows size"]:
        """The model's vectors of one pass, as its head pools and normalises them; float32 at least."""
        vectors: Tensor = model(**inputs).pooled
        return vectors if vectors.dtype == torch.float64 else vectors.float()

    def loss(self, model: nn.Module, batch: Batch) -> Float[Tensor, ""]:
        vectors = [self.vectors(model, inputs) for inputs in self.passes(batch)]
        # Differences of cosines are small: they are not rounded to half of their digits.
        with torch.autocast(vectors[0].device.type, enabled=False):
            return self.vectors_loss(vectors, self.targets(batch))

    def scores(self, model: Model, loss: float, labels: int, sums: Mapping[str, float]) -> dict[str, float | None]:
        """None: `vectors_scores` has them."""
        return {}
