"""How well a model's head does on labelled rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from gossamer.errors import InputError
from gossamer.models.model import Model
from gossamer.models.model_argument import check_model
from gossamer.recipes.columns import find_columns
from gossamer.recipes.finetune import NOTHING, Data, first_row, read_data
from gossamer.training.config.reading import read_settings
from gossamer.training.data.labelled import LabelledBatches
from gossamer.training.evaluation import evaluate as measure
from gossamer.training.objectives import LabelObjective, Objective
from gossamer.training.processes import Processes

__all__ = ["Scores", "evaluate"]


@dataclass(frozen=True, kw_only=True)
class Scores:
    """The loss and the head's scores over so many rows, of which `cut` are longer than the model read.

    What these rows do not define is None.
    """

    rows: int
    cut: int
    loss: float
    scores: dict[str, float | None]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"rows": self.rows, "cut": self.cut, "loss": self.loss, "scores": dict(self.scores)}


def evaluate(
    model: Model, data: Data, *, columns: Mapping[str, str] = NOTHING, batch: int = 16, length: int | None = None
) -> Scores:
    """The scores of a model's head on labelled rows, as `gossamer.finetune` tells them of held-out ones.

    data, columns: as there. batch: rows read at once. length: tokens of a row, as many as the model reads unless given.
    Raises InputError for rows that lack what the head needs, labels that the model does not have, and no rows.
    """
    head = check_model(model).architecture.head
    sources, changes = read_data(data, None)
    found = find_columns(*first_row(changes, sources), None if head is None else head.kind, head, columns)
    objective = read_settings(cast(Any, Objective), found.objective, "objective")
    if not isinstance(objective, LabelObjective) or head is None or model.tokenizer is None:
        raise InputError("the model needs a tokenizer and a head of labels or answers; train one (gossamer finetune)")
    documents = sources.documents(changes["data.train"], field=None)
    rows = [objective.read_row(one, found.text) for one in documents]
    settled, most = objective.settle_head(head, rows), length or model.reading_length()
    examples = objective.encode(rows, model.tokenizer, most, settled, control_tokens=True)
    batches = LabelledBatches(
        examples=examples, held_out=examples, pad_id=model.tokenizer.pad_id or 0, batch=min(batch, len(examples))
    )
    processes = Processes("ddp", cast(Any, next(model.parameters()).device.type))
    told = measure(objective, model, model, batches.evaluation(), processes, "float32")
    return Scores(rows=len(rows), cut=sum(one.cut for one in examples), loss=told.loss, scores=told.scores)
