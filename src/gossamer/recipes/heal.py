"""Train a lengthened masked LM on, so that it learns to use its windows and new positions (Longformer, section 5)."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from gossamer.errors import InputError, plural, quote
from gossamer.metrics.language import bits_per_token
from gossamer.models.heads import MaskedLM, PreTraining
from gossamer.models.model import Model
from gossamer.recipes.receipts.comparison import Making
from gossamer.recipes.receipts.measure import on_cpu, read_measure
from gossamer.recipes.receipts.receipt import Receipt, conditions, describe
from gossamer.training.config import TrainingConfig
from gossamer.training.config.reading import read_yaml
from gossamer.training.data.rows import FILES
from gossamer.training.evaluation import evaluate
from gossamer.training.launched import is_first_process
from gossamer.training.loop import only_run, threads_of, train_on
from gossamer.training.material import gather, origin_of
from gossamer.training.processes import Processes
from gossamer.training.receipt import TrainingReceipt

__all__ = ["Healed", "heal"]

Healed = Literal["all", "positions"]

_TABLE = "embeddings.position.weight"


def heal(
    model: Model,
    config: TrainingConfig | dict[str, Any] | str | Path,
    *,
    what: Healed = "all",
    old_length: int | None = None,
    measure: bool | Mapping[str, Any] = False,
) -> tuple[Model, Receipt]:
    """Train a copy of a lengthened masked LM on long texts; the copy, in evaluation mode, and a receipt.

    config: what `gossamer.train` takes; a file or a dict that names no kind of objective means masked-lm, while a
    TrainingConfig always has one, which must be that. what: "all" weights, or the new "positions" alone: the rows
    beyond `old_length`, while all else stays bit for bit ("train extra position embeddings only" in Longformer's
    table 5). old_length: what the model read before it was lengthened; taken from its receipt unless given. Where the
    config holds text out, and some of it is masked, the receipt has the bits per masked token before and after, over
    the same masks. measure: whether both models are measured, in the receipt's `comparison`; settings of
    `gossamer.compare`, such as {"latency": False}, say how. A run that is there in the config's output is resumed, with
    the same model alone. The given model is left as it was.

    Raises InputError for a model that is no masked LM, a length that is not known or not shorter, and as `train` does.

    Source: Beltagy et al. 2020 (arXiv 2004.05150), section 5.
    """
    if what not in get_args(Healed):
        raise InputError(f"what is {quote(what)}; it must be 'all' or 'positions'")
    if not isinstance(model.architecture.head, MaskedLM | PreTraining):
        head = "no head" if model.architecture.head is None else f"the head {model.architecture.head.kind!r}"
        raise InputError(f"the model has {head}; load it with a masked-lm head, which healing trains")
    length, compared = _old_length(model, old_length), read_measure(measure)
    settings = _settings(config, model, what, length)
    new = copy.deepcopy(model)
    before = _bits(new, settings)
    new, trained = train_on(settings, FILES, model=new, origin=origin_of(new, has_new_head=False))
    receipt = Receipt(
        recipe="heal",
        source=model.source,
        settings={"what": what, "old_length": length, "steps": trained.steps, "tokens": trained.tokens},
        before=describe(model),
        after=describe(new),
        changes=_changes(what, length, trained),
        measured=_measured(before, trained),
        conditions=conditions(new) | {"objective": str(settings.objective), "data": ", ".join(settings.data.inputs)},
    )
    if compared is not None and is_first_process():
        made = {"after": Making.of_training(trained, new, settings.batch.length)}
        receipt = receipt.beside(on_cpu(model), on_cpu(new), made=made, **compared)
    new.receipt = receipt
    return new, receipt


def _old_length(model: Model, told: int | None) -> int:
    known = model.receipt.before["length"] if getattr(model.receipt, "recipe", None) == "lengthen" else None
    length, now = known if told is None else told, model.architecture.length
    if length is None:
        raise InputError("old_length is None and the model has no receipt of lengthen; give what it read before")
    if type(length) is not int or not 0 < length < now:
        raise InputError(f"old_length is {quote(length)}; it must be from 1 to {now - 1}: the model reads {now} tokens")
    return length


def _settings(source: Any, model: Model, what: Healed, length: int) -> TrainingConfig:
    """The config, for a masked LM, with what is not to be trained frozen."""
    config = TrainingConfig.read(source, {} if _names_objective(source) else {"objective.kind": "masked-lm"})
    kind = config.objective.kind
    if kind != "masked-lm":
        raise InputError(f"objective.kind is {kind!r}; a lengthened encoder is healed by 'masked-lm'")
    if what == "all":
        return config
    for name in ("train_only", "frozen_rows"):
        if getattr(config, name):
            raise InputError(f"{name} is {quote(getattr(config, name))}; leave it out where new positions are healed")
    rows = model.architecture.embeddings.positions.offset + length
    return dataclasses.replace(config, train_only=(_TABLE,), frozen_rows={_TABLE: rows})


def _names_objective(source: Any) -> bool:
    """Whether the settings say what is predicted; those of a TrainingConfig always do."""
    if not isinstance(source, dict | str | Path):
        return True
    fields = source if isinstance(source, dict) else read_yaml(Path(source).expanduser())
    objective = fields.get("objective")
    return "kind" in objective if isinstance(objective, dict) else objective is not None


def _bits(model: Model, settings: TrainingConfig) -> float | None:
    """Bits per masked token of held-out text; None where there is none, or none of it is masked.

    The output folder is held meanwhile as a run holds it, for token files are written there.
    """
    if not settings.evaluation.has_text:
        return None
    with threads_of(settings.threads):
        processes = Processes(settings.parallel, settings.device)
        with only_run(settings, processes):
            batches = gather(settings, model, processes).batches.evaluation()
            model.to(processes.device)
            loss = evaluate(settings.objective, model, model, batches, processes, settings.precision).loss
    return bits_per_token(loss) if math.isfinite(loss) else None


def _measured(before: float | None, trained: TrainingReceipt) -> dict[str, float]:
    after = None if trained.evaluation is None else trained.evaluation["loss"]
    if before is None or after is None:
        return {}
    return {"bits_per_masked_token_before": before, "bits_per_masked_token_after": bits_per_token(after)}


def _changes(what: Healed, length: int, trained: TrainingReceipt) -> tuple[str, ...]:
    part = "all weights" if what == "all" else f"the positions from {length:,} on; all else stayed as it was"
    return (
        f"{plural(trained.steps, 'step')} of masked-LM training over {plural(trained.tokens, 'token')}: {part}",
        *trained.notes,
    )
