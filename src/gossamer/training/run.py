"""One run: its model, optimizer, journal and checkpoints, and where it stands."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from signal import SIGINT, SIGTERM
from typing import Any

import torch

from gossamer.atomic_files import write_texts
from gossamer.checkpoints import save
from gossamer.errors import GossamerError, InputError
from gossamer.models.dropout import set_dropout
from gossamer.models.model import Model
from gossamer.training.best import direction_of, ends_epoch, is_better, value_of
from gossamer.training.config import TrainingConfig
from gossamer.training.config.models import with_recompute
from gossamer.training.evaluation import evaluate
from gossamer.training.journal.journal import Journal
from gossamer.training.material import Material, how_many_steps, trained_names
from gossamer.training.objectives.base import RunData
from gossamer.training.optimization.adapters import adapt, learning_names
from gossamer.training.optimization.average import Average, is_average
from gossamer.training.optimization.layer_depths import depths_from_top
from gossamer.training.optimization.merging import merge_maps, merged
from gossamer.training.optimization.optimizers import build_optimizer
from gossamer.training.optimization.schedules import rate_at
from gossamer.training.processes import Processes, full_state
from gossamer.training.pruning.pruner import Pruner
from gossamer.training.receipt import TrainingReceipt, conditions_of
from gossamer.training.resume.same_run import check_same_run, with_later_settings
from gossamer.training.resume.state import (
    RunState,
    load_checkpoint,
    newest_checkpoint,
    optimizer_state,
    restore_optimizer,
    save_checkpoint,
    sweep,
)
from gossamer.training.steps import Stepper, Update

__all__ = ["Run"]

MOST_SKIPPED = 25
"""Steps in a row whose float16 gradients may overflow: the scale halves each time, from 65,536 to less than 1."""


class Run:
    """A run at some step. `gossamer.training.loop` tells what is done with it; here is how.

    Every process has one, and all of them call the same methods; files are written by the first.
    """

    def __init__(
        self,
        config: TrainingConfig,
        material: Material,
        processes: Processes,
        resume: str,
        remark: Callable[[str], None],
    ) -> None:
        self.config, self.processes, self.batches = config, processes, material.batches
        self.output, self.model = Path(config.output), material.model
        self.notes: list[str] = []
        self._say, self._origin = remark, material.origin
        self.steps = how_many_steps(config, self.batches)
        self._schedule = config.schedule_of(self.steps or 1)
        self._architecture = self.model.architecture
        if config.precision == "float16" and processes.device.type == "cpu":
            self.remark(
                "precision is 'float16' on a CPU: it works, with scaled losses; 'bfloat16' or 'float32' is faster"
            )
        self._learns = {name: one.requires_grad for name, one in self.model.named_parameters()}
        for text in (*material.notes, *config.objective.remarks(self.batches)):
            self.remark(text)
        self._pruner: Pruner | None = None
        self._give_rates_back: Callable[[], None] = lambda: None
        try:
            if config.adapters is not None:
                adapt(self.model, config.adapters, config.seed)
            if config.pruning is not None:
                self._pruner = Pruner(self.model, config.pruning, config.seed, self.steps or 1)
            self._adapted = self.model.architecture
            self.state, tensors = self._start(resume)
            config.objective.begin(self.model, self._data())
            self._stepper = self._prepare(tensors)
            self._journal = self._open_journal()
        except BaseException:
            self._restore(self.model)
            raise
        self._first, self._before, self._began = self.state.step, self.state.seconds, time.monotonic()
        self._out_of_time = self._time_is_up()

    def _data(self) -> RunData:
        return RunData(
            batches=self.batches, steps=self.steps, evaluates=self.config.evaluation.has_text, processes=self.processes,
            precision=self.config.precision, say=self._say, remark=self.remark,
        )  # fmt: skip

    def _prepare(self, tensors: dict[str, torch.Tensor]) -> Stepper:
        """Wrap the model for its processes, and give the optimizer the state that it had."""
        config = self.config
        if config.train_only or config.adapters is not None:
            named = trained_names(self.model, config.train_only)
            trained = named if config.adapters is None else learning_names(self.model, config.adapters)
            for name, one in self.model.named_parameters():
                one.requires_grad_(name in trained)
        self.model.architecture = with_recompute(self._adapted, config.recompute)
        self._give_rates_back = set_dropout(self.model, config.dropout)
        self._wrapped = self.processes.wrap(self.model, self._loss_of_a_row)
        self._wrapped.train()
        self._names = {one: name for name, one in self.model.named_parameters()}
        depths = depths_from_top(self.model)
        rates = {} if self._pruner is None else self._pruner.rates
        self._optimizer = build_optimizer(config.optimizer, self.model.named_parameters(), depths, rates)
        of_optimizer = {name: one for name, one in tensors.items() if not is_average(name)}
        restore_optimizer(self._optimizer, self._names, of_optimizer)
        learning = {name: one for one, name in self._names.items() if one.requires_grad}
        self._average = None if config.average is None else Average(config.average, learning, tensors)
        stepper = Stepper(
            config.objective, self.model, self._wrapped, self._optimizer, self.processes,
            accumulation=config.batch.accumulation, clipping=config.clipping, precision=config.precision,
            seed=config.seed, frozen_rows=config.frozen_rows,
            constraint=self._pruner,
        )  # fmt: skip
        if self.state.scaler:
            stepper.scaler.load_state_dict(self.state.scaler)
        return stepper

    @property
    def step(self) -> int:
        """How many steps are done."""
        return self.state.step

    @property
    def seconds(self) -> float:
        """Of training, in all parts of the run."""
        return self._before + time.monotonic() - self._began

    @property
    def ended(self) -> str | None:
        """Why the run is over; None while it is not."""
        patience = self.config.evaluation.patience
        if self.steps is not None and self.step >= self.steps:
            return "all steps done"
        if patience is not None and self.state.worse >= patience:
            better = f"{direction_of(self.config.objective, self._metric)} {self._metric.replace('_', ' ')}"
            return f"no {better} on held-out text {patience} times in a row"
        return "out of time" if self._out_of_time else None

    @property
    def is_to_evaluate(self) -> bool:
        """Whether the settings want held-out text to be read after this step."""
        every = self.config.evaluation.every
        if every == "epoch":
            return ends_epoch(self.batches, self.step)
        return every is not None and self.step % every == 0

    @property
    def expected_steps(self) -> int:
        """All steps; where there are only minutes, as many as they will do."""
        if self.steps is not None:
            return self.steps
        share = self.seconds / (60 * (self.config.minutes or 1))
        return max(self.step + 1, round(self.step / max(share, 1e-9)))

    def update(self) -> None:
        """Learn from the next batch. GossamerError where loss or gradients are not numbers."""
        step = self.step
        rate = self.config.optimizer.learning_rate * rate_at(self._schedule, step)
        done = self._stepper.update(step, self.batches.at(step), rate)
        skipped = 0 if done.finite else self.state.skipped + 1
        if skipped > (MOST_SKIPPED if self.config.precision == "float16" else 0):
            self._stop_at_nonfinite(done)
        if self._average is not None and done.finite:
            self._average.update(step)
        loss = done.loss if math.isfinite(done.loss) else None
        self._advance(step=step + 1, skipped=skipped, loss=loss)
        self._write_down(done, rate)

    def agree(self, signal: int) -> int:
        """The signal that stops any of the processes, 0 if none; and whether time is up, for all of them alike."""
        interrupts, ends, over = self.processes.total(signal == SIGINT, signal == SIGTERM, self._time_is_up())
        self._out_of_time = over > 0
        return int(SIGINT) if interrupts else int(SIGTERM) if ends else 0

    def evaluate(self) -> None:
        """Read the held-out text; keep the model where it is the best so far."""
        if not self.config.evaluation.has_text:
            return
        objective, batches, precision = self.config.objective, self.batches.evaluation(), self.config.precision
        parts = self.config.batch.accumulation
        with self._averaged():
            found = evaluate(objective, self.model, self._wrapped, batches, self.processes, precision, parts)
        if self._journal is not None:
            self._journal.write(self.step, "held-out", **found.numbers())
        best, value = self.state.best, value_of(found, self._metric)
        if value is None:
            self._say_untold()
        # Where time is up between two readings, and more minutes are given later, patience is not to know of this one.
        is_pruned = self._pruner is None or self._pruner.is_done(self.step)
        counts = int((not self._out_of_time or self.is_to_evaluate) and is_pruned)
        before = None if best is None else best[self._metric]
        better = is_pruned and is_better(value, before, direction_of(objective, self._metric))
        if value is not None and better:
            best = {"step": self.step, self._metric: value}
            self.save_model("best")
        told = {name: one if one is None or math.isfinite(one) else None for name, one in found.numbers().items()}
        self._advance(best=best, worse=0 if better else self.state.worse + counts, evaluated=told)

    def save(self) -> None:
        """Write a checkpoint; GossamerError where that fails, and then the one before is still there."""
        weights = full_state(self.model)
        averages = {} if self._average is None else self._average.tensors()
        tensors = optimizer_state(self._optimizer, self._names) | averages
        self._advance(seconds=self.seconds, scaler=self._stepper.scaler.state_dict())
        if self._journal is not None:
            self._journal.sync()
            save_checkpoint(self._folder, self.state, weights, tensors, self.config.checkpoints.keep)
        self.processes.wait()

    def save_model(self, name: str) -> None:
        """Write the model, of its weights' average where there is one, to a folder of this name in the output."""
        with self._averaged():
            model = self._whole_model()
            if not self.processes.first:
                return
            during = model.architecture
            try:
                with self._merged(model), self.config.objective.alone(model):
                    model.architecture = self._architecture
                    save(model, self.output / name)
            finally:
                model.architecture = during
            self.config.objective.save_beside(model, self.output / name)

    def release(self) -> Model:
        """The trained model in evaluation mode, with nothing of the training about it."""
        if self._average is not None:
            self.processes.reshard(self.model)
            self._average.settle()
        model = self._whole_model()
        if self.processes.first:
            self.config.objective.save_beside(model, self.output / "last")
        self.config.objective.detach(model)
        self._restore(model)
        return model.eval()

    def receipt(self, model: Model, sample: str | None) -> TrainingReceipt:
        """What the run did."""
        self._say_undefined()
        state = self.state
        sizes = {name: one.numel() for name, one in model.named_parameters()}
        learnt = {self._names[one]: one.numel() for group in self._optimizer.param_groups for one in group["params"]}
        # Adapters are merged by now; what an objective attached was there before, and is not the model's.
        # Nor are the scores of what is pruned.
        scores = {} if self._pruner is None else self._pruner.rates
        trained = [size for name, size in learnt.items() if name in sizes or name not in {*self._learns, *scores}]
        return TrainingReceipt(
            settings=self.config.to_dict(), source=model.source, steps=state.step,
            tokens=self.batches.tokens_before(state.step), seconds=round(self.seconds, 1),
            ended=self.ended or "stopped", loss=state.loss, evaluation=state.evaluated, best=state.best,
            parameters=sum(sizes.values()), trained=sum(trained),
            conditions=state.conditions, notes=tuple(self.notes), sample=sample,
        )  # fmt: skip

    def plot(self) -> None:
        """Draw loss.svg."""
        if self._journal is not None:
            self._journal.plot()

    def close(self) -> None:
        """Close the journal; the caller's model is as it was described, whatever happened."""
        if self._journal is not None:
            self._journal.close()
        self._restore(self.model)

    def remark(self, text: str) -> None:
        """Keep a note for the receipt, and say it."""
        self.notes.append(text)
        if self.processes.first:
            self._say(text)

    def _say_untold(self) -> None:
        """Once in a run: a metric without a value, as the F1 of nothing, never makes a model the best."""
        text = f"{self._metric} of the held-out text cannot be told: such a reading is never the best"
        if text not in self.notes:
            self.remark(text)

    def _say_undefined(self) -> None:
        """Which scores the last reading does not tell, such as a correlation with what is all the same."""
        scores = self.config.objective.directions(self.model)
        told = (self.state.evaluated or {}).items()
        names = [name.replace("_", " ") for name, value in told if value is None and name in scores]
        text = f"not defined on the held-out rows: {', '.join(names)}"
        if names and text not in self.notes:  # a receipt is written again with its sample
            self.remark(text)

    @property
    def _metric(self) -> str:
        return self.config.evaluation.metric or "loss"

    @property
    def _folder(self) -> Path:
        return self.output / "checkpoints"

    def _advance(self, **changes: Any) -> None:
        self.state = dataclasses.replace(self.state, **changes)

    def _time_is_up(self) -> bool:
        minutes = self.config.minutes
        return minutes is not None and self.seconds >= 60 * minutes

    def _start(self, resume: str) -> tuple[RunState, dict[str, torch.Tensor]]:
        """Where the run stands: at its beginning, or where the newest whole checkpoint says."""
        config, conditions = self.config, self._conditions()
        found = newest_checkpoint(self._folder, self.remark)
        if found is not None and resume == "never":
            raise InputError(f"{found}: a run is there already; go on with it (resume='auto'), or name another output")
        if found is None and resume == "must":
            raise InputError(f"{self._folder}: holds no whole checkpoint to go on from; begin with resume='auto'")
        now = RunState(
            step=0, config=config.to_dict(), architecture=self._adapted.to_dict(), data=self.batches.digest,
            conditions=conditions, beside={**self._origin, **config.objective.identity(self.model)},
        )  # fmt: skip
        if found is None:
            return now, {}
        before, weights, tensors = load_checkpoint(found)
        before = dataclasses.replace(before, config=with_later_settings(before.config, config))
        check_same_run(before, now, self.remark)
        if self.processes.first:
            sweep(self._folder, before.step, config.checkpoints.keep, check=True)
        self.model.load_state_dict(weights)
        return dataclasses.replace(before, config=now.config, conditions=conditions), tensors

    def _loss_of_a_row(self) -> torch.Tensor:
        """Of the first row, whatever its labels."""
        row = {name: one[:1].to(self.processes.device) for name, one in self.batches.at(0).items()}
        return self.config.objective.loss(self.model, {**row, "labels": self.config.objective.any_labels(row)})

    def _conditions(self) -> dict[str, Any]:
        return conditions_of(self.processes.device, self.config.precision, self.processes.names_of_parallel)

    def _open_journal(self) -> Journal | None:
        if not self.processes.first:
            return None
        settings, resumed = self.config.journal, self.step if self.step else None
        return Journal(self.output, live=settings.live, tensorboard=settings.tensorboard, resume_step=resumed)

    def _write_down(self, done: Update, rate: float) -> None:
        if self._journal is None:
            return
        tokens = self.batches.tokens_before(self.step)
        speed = (tokens - self.batches.tokens_before(self._first)) / max(time.monotonic() - self._began, 1e-9)
        if self.step % self.config.journal.every == 0 or self.step == self.steps:
            self._journal.write(
                self.step, "train", loss=done.loss, rate=rate, gradient_norm=done.norm, tokens=tokens,
                seconds=round(self.seconds, 3), tokens_per_second=round(speed, 1),
                **({} if self._pruner is None else self._pruner.numbers(self.step - 1)),
            )  # fmt: skip
        minutes = self.config.minutes
        self._journal.show(
            self.step, self.expected_steps, loss=done.loss, rate=rate, tokens_per_second=speed,
            seconds_at_most=None if minutes is None else max(0.0, 60 * minutes - self.seconds),
        )  # fmt: skip

    def _stop_at_nonfinite(self, done: Update) -> None:
        """Keep the batch that the step was to learn from, and the model that could not, and end the run."""
        step, target = self.step, self.output / "nonfinite.json"
        names = list(dict.fromkeys(self.processes.gathered(self.batches.ids(step))))
        rows = self.processes.gathered(self.batches.at(step)["input_ids"].tolist())
        if self.processes.first:
            found = {"step": step + 1, "loss": str(done.loss), "gradient_norm": str(done.norm), "documents": names}
            text = json.dumps(found | {"input_ids": rows}, ensure_ascii=False)
            write_texts({target: text + "\n"})
        what = "gradients are" if math.isfinite(done.loss) else "loss is"
        model = "the model's weights are not finite either: begin anew"
        if all(bool(one.isfinite().all()) for one in full_state(self.model).values() if one.is_floating_point()):
            self.save_model("last")
            model = f"the model as it was is in {self.output / 'last'}: begin anew from it (model.checkpoint)"
        raise GossamerError(
            f"step {step + 1}: its {what} not finite; {target} holds its batch and names the documents; {model} in "
            "another output, with a lower learning rate, more clipping, or without the documents"
        )

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """The model has the average of its weights inside the block, where one is kept."""
        if self._average is None:
            yield
            return
        self.processes.reshard(self.model)
        with self._average.in_place():
            try:
                yield
            finally:
                self.processes.reshard(self.model)

    def _merged(self, model: Model) -> AbstractContextManager[None]:
        """The model with what its adapters or masks make of its own weights, inside the block."""
        if self._pruner is not None:
            return merged(model, self._pruner.settle, self._pruner.touched)
        return nullcontext() if self.config.adapters is None else merged(model)

    def _whole_model(self) -> Model:
        """The model with all its weights in this process."""
        if not self.processes.sharded:
            return self.model
        weights = full_state(self.model)
        with torch.device("meta"):
            model = Model(self._adapted, family=self.model.family, tokenizer=self.model.tokenizer)
        model.load_state_dict(weights, assign=True)
        for name in ("extra_config", "generation_config", "usual_end_id", "card", "source", "receipt"):
            setattr(model, name, getattr(self.model, name))
        return model

    def _restore(self, model: Model) -> None:
        # Of a model that FSDP2 has cut each process has pieces alone.
        if model.architecture.storages != self._architecture.storages:
            if self._pruner is not None:
                merge_maps(model, self._pruner.settle)
            elif not (self.processes.sharded and model is self.model):
                merge_maps(model)
        model.architecture = self._architecture
        self._give_rates_back()
        model.split = None
        for name, one in model.named_parameters():
            one.grad = None
            one.requires_grad_(self._learns.get(name, one.requires_grad))
