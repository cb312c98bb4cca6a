"""Pruning while a model learns, and learning on when it is pruned: trainings like any other."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gossamer.checkpoints.new_heads import own_head
from gossamer.checks import as_python, require
from gossamer.errors import InputError
from gossamer.models.model import Model
from gossamer.models.model_argument import check_model
from gossamer.recipes.columns import LabelledColumns, check_head, find_columns
from gossamer.recipes.finetune import Data, first_row, read_data, ready_model
from gossamer.recipes.pruning.latency import times_in
from gossamer.recipes.pruning.options import flat_settings
from gossamer.recipes.receipts.comparison import Making
from gossamer.recipes.receipts.measure import on_cpu
from gossamer.recipes.receipts.row_scores import held_out_scores
from gossamer.training.config import TrainingConfig
from gossamer.training.data.labelled import LabelledRows, read_rows
from gossamer.training.data.rows import DataSources
from gossamer.training.loop import Resume, train_on
from gossamer.training.material import check_model as check_learns
from gossamer.training.material import origin_of
from gossamer.training.objectives.teachers.teacher import Teacher
from gossamer.training.processes import Processes
from gossamer.training.pruning.settings import PruningSettings
from gossamer.training.receipt import TrainingReceipt
from gossamer.training.resume.state import newest_checkpoint

__all__ = ["Lesson"]

_DISTILLED = {"soft_weight": 0.9, "task_weight": 0.1, "cosine_weight": 0.0}
"""The weights of teacher and task in Sanh et al. 2020 (arXiv 2005.07683, appendix A), with a temperature of 2."""
_FOLDER = "pruning"
"""In the output folder, where the run is that prunes, when another one refines what it gave."""


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """What was made. config: of the training that prunes; trainings: the receipts of that one, and of the refining."""

    model: Model
    config: TrainingConfig
    rows: LabelledRows | None
    has_new_head: bool
    trainings: tuple[TrainingReceipt, ...]

    @property
    def settings(self) -> PruningSettings:
        """How it was pruned, with the table of times that a latency went by."""
        assert self.config.pruning is not None
        return self.config.pruning

    def judged(self, before: Model) -> dict[str, Any]:
        """For `gossamer.compare`: what it cost, and the score of each held-out row, with both models if it has one."""
        costs = [Making.of_training(one, self.model, self.config.batch.length) for one in self.trainings]
        made = Making(
            seconds=sum(one.seconds for one in costs),
            tokens=sum(one.tokens for one in costs),
            flops=sum(one.flops for one in costs),
        )
        models = {"before": on_cpu(before), "after": on_cpu(self.model)}
        judges = {"after": models["after"]} if self.has_new_head else models
        scores = {} if self.rows is None else held_out_scores(self.rows, judges, self.config)
        return {"made": {"after": made}, "scores": scores}


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What a model learns while it is pruned. given: what is pruned, a model or what `gossamer.load` takes.

    teacher: a model that is learnt from beside the rows, a checkpoint, or None. fields, settings: of the training's
    config, and what was asked for besides.
    """

    given: Model | str | Path
    sources: DataSources
    found: LabelledColumns
    teacher: Model | str | Path | None
    fields: Mapping[str, Any]
    settings: Mapping[str, Any]
    resume: Resume
    remark: Callable[[str], None]

    @classmethod
    def read(
        cls, given: Model | str | Path, train: Data, options: Mapping[str, Any], remark: Callable[[str], None]
    ) -> Lesson:
        """From the arguments of the recipe, by their names; the head and its objective follow the first row."""
        check_head(options["head"])
        own = check_model(given).architecture.head if isinstance(given, Model) else own_head(given)
        sources, changes = read_data(train, options["evaluate"])
        where, row = first_row(changes, sources)
        # A text of a file has no columns.
        found = find_columns(where, row or {"text": ""}, options["head"], own, options["columns"])
        objective, teacher = dict(found.objective), options["teacher"]
        if teacher is not None:
            name = None if isinstance(teacher, Model) else str(teacher)
            objective = {"kind": "distillation", "task": objective, "teacher": name, **_DISTILLED}
        allowed = "a mapping of fields of a TrainingConfig, such as {'steps': 100}"
        require(isinstance(options["settings"], Mapping), "settings", options["settings"], allowed)
        fields = {
            "data": {"field": found.text},
            "objective": objective,
            "batch": {"rows": options["batch"], "length": options["length"]},
            "optimizer": {"learning_rate": options["learning_rate"]},
            "schedule": {"name": "linear", "warmup": 0.1},
            "epochs": options["epochs"],
            "seed": as_python(options["seed"]),
            "evaluation": {"every": None if options["evaluate"] is None else "epoch"},
        }
        return cls(
            given=given, sources=sources, found=found, teacher=teacher, fields=fields,
            settings={**changes, **flat_settings(options["settings"])}, resume=options["resume"], remark=remark,
        )  # fmt: skip

    def prune(self, pruning: Mapping[str, Any], folder: Path, refine: float | bool) -> Pruned:
        """Train a copy that is pruned by these settings; then, with refine, on with what is 0 as it is."""
        config = self._config({"pruning": dict(pruning)}, folder / _FOLDER if refine else folder)
        rows = read_rows(config, self.sources) if config.objective.columns else None
        own = self.given.architecture.head if isinstance(self.given, Model) else own_head(self.given)
        ready, is_drawn = ready_model(self.given, own, config, rows, self.found, self.remark)
        learns = tuple(dict.fromkeys(name.partition(".")[0] for name, _ in ready.named_parameters()))
        if not config.train_only:
            config = TrainingConfig.read(config, {"train_only": [name for name in learns if name != "embeddings"]})
        config = self._with_times(config, ready, folder)
        origin = origin_of(ready, has_new_head=is_drawn)
        pruned, receipt = self._train(config, ready, rows, origin, self.resume)
        made = Pruned(model=pruned, config=config, rows=rows, has_new_head=is_drawn, trainings=(receipt,))
        if not refine:
            return made
        config = TrainingConfig.read(config, _refining(config, refine) | {"output": str(folder)})
        resume = "auto" if self.resume == "must" else self.resume  # the first run may have been stopped before its end
        refined, last = self._train(config, pruned, rows, origin_of(pruned, has_new_head=False), resume)
        return replace(made, model=refined, trainings=(receipt, last))

    def _with_times(self, config: TrainingConfig, model: Model, folder: Path) -> TrainingConfig:
        """With the table that a latency goes by, the same in all processes and in every part of the run."""
        pruning = config.pruning
        if pruning is None or pruning.latency is None or pruning.times is not None:
            return config
        check_learns(TrainingConfig.read(config, {"pruning": None}), model, sharded=False)
        found = newest_checkpoint(Path(config.output) / "checkpoints", self.remark)
        if found is None and self.resume == "must":
            raise InputError(f"{config.output}: holds no whole checkpoint to go on from; begin with resume='auto'")
        with Processes(config.parallel, config.device).first_alone():
            times = times_in(folder, model, pruning, self.remark, goes_on=found is not None)
        return TrainingConfig.read(config, {"pruning.times": times})

    def reading(self, folder: str) -> tuple[TrainingConfig, LabelledRows | None]:
        """The settings with which rows are read without training, and the rows, where they have labels."""
        config = TrainingConfig.read({**self.fields, "epochs": None, "steps": 1, "output": folder}, self.settings)
        return config, read_rows(config, self.sources) if config.objective.columns else None

    def _config(self, fields: Mapping[str, Any], folder: Path) -> TrainingConfig:
        length = {"epochs": None} if {"steps", "minutes"} & self.settings.keys() else {}
        return TrainingConfig.read({**self.fields, **length, **fields, "output": str(folder)}, self.settings)

    def _train(
        self, config: TrainingConfig, model: Model, rows: LabelledRows | None, origin: Mapping[str, str],
        resume: Resume,
    ) -> tuple[Model, TrainingReceipt]:  # fmt: skip
        with _taught(model, self.teacher):
            return train_on(
                config, self.sources, model=model, labelled=rows, origin=origin, resume=resume, remark=self.remark
            )


@contextmanager
def _taught(model: Model, teacher: Model | str | Path | None) -> Iterator[None]:
    """A teacher in memory is beside the model inside the block; one of a name is found by it."""
    if not isinstance(teacher, Model):
        yield
        return
    if teacher is model:
        raise InputError("teacher is the model that is pruned; give another one, or a copy of it")
    Teacher.of(teacher).give_to(model)
    try:
        yield
    finally:
        Teacher.take_from(model)


def _refining(config: TrainingConfig, refine: float | bool) -> dict[str, Any]:
    """What changes for a run that keeps what is 0: it is half as long, or of so many epochs."""
    kept = {"pruning": {"score": "zeros"}}
    if refine is not True:
        return kept | {"epochs": refine, "steps": None}
    if config.steps is not None:
        return kept | {"steps": math.ceil(config.steps / 2)}
    return kept | {"epochs": (config.epochs or 0) / 2}
