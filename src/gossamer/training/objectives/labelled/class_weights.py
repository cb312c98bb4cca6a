"""Classes that count more or less than others in the loss of labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from gossamer.errors import InputError, quote
from gossamer.models import Model
from gossamer.models.checks import is_finite, require
from gossamer.training.objectives.base import IGNORED, Batch, learnt, unwrapped
from gossamer.training.objectives.labelled.labels import Example, LabelObjective

__all__ = ["ClassWeights", "WeightedLabels"]

ClassWeights = Literal["balanced"] | tuple[float, ...] | dict[str, float]
"""By label, in the model's order or by name; "balanced": rows / (labels x rows of the label), of those to train on."""

_BUFFER = "class_weights"


@dataclass(frozen=True, kw_only=True)
class WeightedLabels(LabelObjective):
    """Labels of which each row, or each word, has one of several.

    class_weights: how much a row counts by its label, 1 unless given. The loss of a step is the weighted mean over all
    its labels, as `torch.nn.functional.cross_entropy(weight=)` is, over micro-batches and processes too.
    """

    class_weights: ClassWeights | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        given = self.class_weights
        if given is None or given == "balanced":
            return
        values = given.values() if isinstance(given, Mapping) else given
        fits = isinstance(given, Mapping | tuple) and all(is_finite(one) and one > 0 for one in values)
        require(fits, "class_weights", given, "'balanced', or numbers above 0, a list of them or by label")

    def prepare(self, model: Model, examples: Sequence[Example]) -> None:
        """Give the model, until `detach`, the weights by its labels."""
        if self.class_weights is not None:
            weights = torch.tensor(self._by_label(_labels_of(model), examples), dtype=torch.float64)
            model.register_buffer(_BUFFER, weights, persistent=False)

    def detach(self, model: Model) -> None:
        super().detach(model)
        model._buffers.pop(_BUFFER, None)

    def read(self, model: nn.Module, batch: Batch) -> Any:
        """The model's `Output` for a batch, its loss weighted."""
        out = model(**batch)
        if self.class_weights is not None:
            logits, labels = out.logits.flatten(0, -2), batch["labels"].flatten()
            # In float32 under autocast too, as the loss without weights is.
            weights = unwrapped(model).get_buffer(_BUFFER).to(torch.promote_types(logits.dtype, torch.float32))
            out.loss = F.cross_entropy(logits.to(weights.dtype), labels, weight=weights)
        return out

    def loss(self, model: nn.Module, batch: Batch) -> Float[Tensor, ""]:
        return cast(Tensor, self.read(model, batch).loss)

    def weigh(self, model: Model, batch: Batch) -> float:
        if self.class_weights is None:
            return super().weigh(model, batch)
        labels = batch["labels"].cpu()
        return float(model.get_buffer(_BUFFER).cpu()[labels[learnt(labels)]].sum())

    def _by_label(self, names: Sequence[str], examples: Sequence[Example]) -> list[float]:
        """The weights in the order of the labels; InputError where they do not fit them."""
        given = self.class_weights
        if any(one.labels.dtype.kind == "f" for one in examples):
            raise InputError(
                f"objective.class_weights is {quote(given)}, but rows have numbers or several labels at once; leave it "
                "out"
            )
        if given == "balanced":
            return _balanced(names, examples)
        if isinstance(given, Mapping):
            unlike = sorted(set(given) ^ set(names))
            if unlike:
                what = "is no label of the model" if unlike[0] in given else "has no weight"
                raise InputError(f"objective.class_weights: {quote(unlike[0])} {what}; give each label one")
            return [given[name] for name in names]
        weights = cast(tuple[float, ...], given)
        if len(weights) != len(names):
            raise InputError(f"objective.class_weights has {len(weights)} numbers; the model has {len(names)} labels")
        return list(weights)


def _balanced(names: Sequence[str], examples: Sequence[Example]) -> list[float]:
    """As scikit-learn has it: King and Zeng 2001, of all labels the same sum."""
    labels = np.concatenate([one.labels.reshape(-1) for one in examples])
    labels = labels[labels != IGNORED]
    counts = np.bincount(labels, minlength=len(names))
    for name, count in zip(names, counts, strict=True):
        if not count:
            raise InputError(
                f"objective.class_weights is 'balanced', but no row to train on has the label {quote(name)}; give "
                "numbers, or more rows"
            )
    return [len(labels) / (len(names) * int(count)) for count in counts]


def _labels_of(model: Model) -> Sequence[str]:
    head: Any = model.architecture.head
    return cast(Sequence[str], head.labels)
