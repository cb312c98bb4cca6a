"""The receipt of a fine-tuning whose model was measured: before and after side by side, the score with an interval."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from gossamer.metrics import estimate_mean
from gossamer.models.model import Model
from gossamer.recipes.receipts.comparison import Comparison, Making, compare
from gossamer.recipes.receipts.measure import on_cpu
from gossamer.recipes.receipts.receipt import describe
from gossamer.recipes.receipts.row_scores import held_out_scores
from gossamer.training.config import TrainingConfig
from gossamer.training.data.labelled import LabelledRows
from gossamer.training.receipt import TrainingReceipt

__all__ = ["TunedReceipt", "measured_receipt"]


@dataclass(frozen=True, kw_only=True)
class TunedReceipt(TrainingReceipt):
    """What the run did, and what the model was and is (`gossamer.recipes.receipts.receipt.describe`), compared."""

    before: dict[str, Any]
    after: dict[str, Any]
    comparison: Comparison

    def to_dict(self) -> dict[str, Any]:
        return super().to_dict() | {"recipe": "finetune"}

    def __str__(self) -> str:
        return f"{super().__str__()}\n\n{self.comparison}"

    def to_markdown(self) -> str:
        return f"{super().to_markdown()}\n\n{self.comparison}"

    def _tables(self) -> list[Any]:
        return [*super()._tables(), self.comparison.table()]

    def _plots(self) -> list[str]:
        return self.comparison.plots()


def measured_receipt(
    receipt: TrainingReceipt, before: Model, after: Model, config: TrainingConfig, rows: LabelledRows | None,
    fits: bool, settings: Mapping[str, Any],
) -> TunedReceipt:  # fmt: skip
    """The receipt with both models measured on the CPU, by the settings of `gossamer.compare`.

    rows: of the run; of those that are held out the score of each is taken with both models, or with the trained one
    alone where the head of the other does not fit them.
    """
    models = {"before": on_cpu(before), "after": on_cpu(after)}
    judged = dict(models) if fits else {"after": models["after"]}
    scores = {} if rows is None else held_out_scores(rows, judged, config)
    lines = tuple(
        f"{name}: {estimate_mean(torch.tensor(values['after'], dtype=torch.float64))} (standard error)"
        for name, values in scores.items()
    )
    made = {"after": Making.of_training(receipt, after, config.batch.length)}
    comparison = compare(models, scores=scores, made=made, **settings)
    fields = {field.name: getattr(receipt, field.name) for field in dataclasses.fields(TrainingReceipt)}
    notes = {"notes": (*receipt.notes, *lines)}
    return TunedReceipt(**fields | notes, before=describe(before), after=describe(after), comparison=comparison)
