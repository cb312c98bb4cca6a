"""What a training is: frozen settings from YAML, a dict or code, checked before anything is read or computed."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from gossamer.errors import InputError, quote
from gossamer.models.architecture import Recompute
from gossamer.models.checks import (
    MOST_ROWS,
    require,
    require_choice,
    require_count,
    require_flag,
    require_positive,
)
from gossamer.settings import plain_fields
from gossamer.training.best import check_metric
from gossamer.training.config.models import ModelSettings
from gossamer.training.config.reading import changed, read_settings, read_yaml
from gossamer.training.data.rows import IN_MEMORY, ROWS
from gossamer.training.objectives import CausalObjective, Objective
from gossamer.training.optimization.adapters import AdapterSettings
from gossamer.training.optimization.average import AverageSettings
from gossamer.training.optimization.optimizers import OptimizerSettings
from gossamer.training.optimization.schedules import Schedule
from gossamer.training.pruning.schedule import steps_of
from gossamer.training.pruning.settings import PruningSettings

__all__ = [
    "BatchSettings",
    "CheckpointSettings",
    "DataSettings",
    "EvaluationSettings",
    "JournalSettings",
    "SampleSettings",
    "TrainingConfig",
]

Precision = Literal["float32", "bfloat16", "float16"]
MOST_STEPS = 2**53
MOST_EPOCHS, MOST_THREADS = 1_000_000, 4096
# `model: gpt2` says `model: {checkpoint: gpt2}`, and so on.
_SHORT = {
    "model": "checkpoint",
    "data": "train",
    "objective": "kind",
    "optimizer": "name",
    "schedule": "name",
    "sample": "prompt",
}

_NO_FILES = ("speeches", *IN_MEMORY)


def _why_not(name: str) -> str:
    if os.path.isdir(name):
        return "is a directory"
    return "is no regular file" if os.path.exists(name) else "no such file"


def _written_out(fields: dict[str, Any]) -> dict[str, Any]:
    return {
        name: {_SHORT[name]: value} if isinstance(value, str) and name in _SHORT else value
        for name, value in fields.items()
    }


def _at_home(names: Any) -> Any:
    """File names with ~ written out, as the shell would have, had it seen them."""
    if isinstance(names, str):
        return os.path.expanduser(names)
    return tuple(map(os.path.expanduser, names))


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """What is learnt from: one token file (`gossamer tokenize`), or texts that are made into one in the output folder.

    `train`: FILE.tokens, or texts, .jsonl files (their `field`), "speeches", or a list of those; left out where rows
    are handed to `train()`. `split`: what a document of a text file is. `format`: how the files are written, whatever
    their endings. `tokenizer`: "bytes", a directory, or an id on the hub; the model's own unless given, bytes for fresh
    weights. `pack`: rows hold several documents and no padding (of plain text; a row with labels stands alone).
    `control_tokens`: whether the name of a special token in a text ("<|endoftext|>") is that token, or letters; a token
    file has decided that.
    """

    train: str | tuple[str, ...] = ROWS
    tokenizer: str | None = None
    field: str = "text"
    split: Literal["file", "lines", "paragraphs"] = "file"
    format: Literal["txt", "jsonl", "json", "csv", "tsv", "parquet"] | None = None
    pack: bool = True
    control_tokens: bool = True

    def __post_init__(self) -> None:
        require(bool(self.train), "train", self.train, "a token file, texts, or speeches")
        object.__setattr__(self, "train", _at_home(self.train))
        for name in self.inputs:
            if name not in _NO_FILES and not os.path.isfile(name):
                raise InputError(f"train is {quote(name)}: {_why_not(name)}; name a token file, texts, or speeches")
        if any(Path(name).suffix == ".tokens" for name in self.inputs):
            require(len(self.inputs) == 1, "train", list(self.inputs), "one token file alone, or texts")
            tokenized = "true: the texts of a token file are tokens already (gossamer tokenize --no-control-tokens)"
            require(self.control_tokens, "control_tokens", self.control_tokens, tokenized)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The files, also where there is one."""
        return (self.train,) if isinstance(self.train, str) else self.train


@dataclass(frozen=True, kw_only=True)
class BatchSettings:
    """`rows` of at most `length` tokens a step, of all processes together.

    `tokens`: instead of `rows` a number of tokens, padding included: rows of about one length are read together; packed
    ones, all of one length, are so many rows. `length`: as long as the model reads unless given. `accumulation`: the
    parts that each process cuts its rows into and reads in turn.
    """

    rows: int = 8
    tokens: int | None = None
    length: int | None = None
    accumulation: int = 1

    def __post_init__(self) -> None:
        require_count(self, "rows", "accumulation", most=MOST_ROWS)
        if self.length is not None:
            require_count(self, "length", least=2, most=MOST_ROWS)
        if self.tokens is not None:
            require_count(self, "tokens", most=MOST_ROWS)
            require(self.rows == BatchSettings.rows, "rows", self.rows, "left out where there are tokens")
            return
        fits = self.rows % self.accumulation == 0
        require(fits, "accumulation", self.accumulation, f"a divisor of batch.rows, {self.rows}")

    def rows_of(self, length: int) -> int:
        """Rows of this length in a step; InputError where its tokens are fewer than one row."""
        if self.tokens is None:
            return self.rows
        require(self.tokens >= length, "batch.tokens", self.tokens, f"one row of {length:,} tokens or more")
        return self.tokens // length

    def check_parts(self, processes: int, length: int) -> None:
        """InputError where rows of this length cannot be shared evenly by the processes, and each one's be cut."""
        rows, parts = self.rows_of(length), processes * self.accumulation
        if rows % parts:
            given = f"batch.rows is {rows}" if self.tokens is None else f"batch.tokens is {self.tokens:,}, {rows} rows"
            raise InputError(
                f"{given}; with {processes} processes and accumulation {self.accumulation} it must be a multiple of "
                f"{parts}{'' if self.tokens is None else ' rows'}"
            )


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """Held-out text: some documents of the data (`held_out`: how many, or a share of them) or other files (`data`).

    It is read every `every` steps, or at the end of each "epoch", and after the last step. `metric`: which of what is
    told of it chooses the best model: a score of the objective, or "loss", as where none is named. After `patience`
    times in a row without a better one the run ends. `held_out_by`: which documents are held out.
    """

    every: int | Literal["epoch"] | None = None
    held_out: int | float = 0
    held_out_by: Literal["hash", "last"] = "hash"
    data: str | tuple[str, ...] | None = None
    metric: str | None = None
    patience: int | None = None

    def __post_init__(self) -> None:
        for name in ("every", "metric", "patience"):
            value = getattr(self, name)
            if value is not None:
                require(self.has_text, name, value, "left out, or held_out or data given")
        for name in ("every", "patience"):
            if getattr(self, name) not in (None, "epoch"):
                require_count(self, name, most=MOST_STEPS)
        require(self.patience is None or self.every is not None, "patience", self.patience, "left out without `every`")
        if self.data is not None:
            object.__setattr__(self, "data", _at_home(self.data))
        share = type(self.held_out) is float and 0 <= self.held_out < 1
        count = type(self.held_out) is int and self.held_out >= 0
        require(share or count, "held_out", self.held_out, "a number of documents, or a share of them below 1")
        require(not (self.held_out and self.data), "held_out", self.held_out, "left out where there is data")
        for name in self.inputs:
            if name not in _NO_FILES and not os.path.isfile(name):
                raise InputError(f"data is {quote(name)}: {_why_not(name)}; name a token file or texts")

    @property
    def inputs(self) -> tuple[str, ...]:
        """The files of held-out text."""
        return (self.data,) if isinstance(self.data, str) else self.data or ()

    @property
    def has_text(self) -> bool:
        """Whether there is anything to read."""
        return bool(self.held_out) or self.data is not None


@dataclass(frozen=True, kw_only=True)
class CheckpointSettings:
    """A checkpoint every `every` steps (and at the end, and when stopped); the newest `keep` stay."""

    every: int = 500
    keep: int = 2

    def __post_init__(self) -> None:
        require_count(self, "every", "keep", most=MOST_STEPS)


@dataclass(frozen=True, kw_only=True)
class JournalSettings:
    """journal.jsonl gets the loss of every `every`-th step; `live`: a line on stderr; `tensorboard`: its files too."""

    every: int = 1
    live: bool = True
    tensorboard: bool = False

    def __post_init__(self) -> None:
        require_count(self, "every", most=MOST_STEPS)
        require_flag(self, "live", "tensorboard")


@dataclass(frozen=True, kw_only=True)
class SampleSettings:
    """Text that the trained decoder goes on with, in the receipt and in sample.txt."""

    prompt: str
    tokens: int = 200
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 0.95

    def __post_init__(self) -> None:
        require(bool(self.prompt), "prompt", self.prompt, "a text to go on with")
        require_count(self, "tokens", most=MOST_ROWS)
        require_positive(self, "temperature", zero=True)
        if self.top_k is not None:
            require_count(self, "top_k", most=MOST_ROWS)
        require(0 < self.top_p <= 1, "top_p", self.top_p, "a share above 0, up to 1")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Everything about one run. Its length: `steps` or `epochs` of the data, at most `minutes` of time.

    `average`: of the weights, evaluated and saved in their place, None for none. `pruning`: what of the layers becomes
    0 meanwhile, None for nothing. `clipping`: the highest global norm of the gradients (Pascanu et al. 2013), None for
    none. `precision`: "bfloat16" and "float16" are autocast, the latter with scaled losses. `recompute`: parts of every
    layer that are computed again in the backward pass. `dropout`: the rate, while it learns, of every dropout that the
    model has; its own unless given, and in what is saved. `parallel`: what several processes share: rows ("ddp", and
    "fsdp2", which shares the weights too), or the tokens of every row ("sequence").
    `train_only`: beginnings of the names of the parameters that are trained, all unless given; `frozen_rows`: of these
    parameters, the first rows that stay as they are. `threads`: of this process, torch's own number unless given.
    """

    data: DataSettings
    output: str
    model: ModelSettings | None = None
    objective: Objective = field(default_factory=CausalObjective)
    batch: BatchSettings = field(default_factory=BatchSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    average: AverageSettings | None = None
    pruning: PruningSettings | None = None
    schedule: Schedule = field(default_factory=Schedule)
    clipping: float | None = 1.0
    precision: Precision = "float32"
    steps: int | None = None
    epochs: float | None = None
    minutes: float | None = None
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)
    checkpoints: CheckpointSettings = field(default_factory=CheckpointSettings)
    journal: JournalSettings = field(default_factory=JournalSettings)
    recompute: Recompute | None = None
    dropout: float | None = None
    parallel: Literal["ddp", "fsdp2", "sequence"] = "ddp"
    train_only: tuple[str, ...] = ()
    frozen_rows: dict[str, int] = field(default_factory=dict)
    seed: int = 0
    sample: SampleSettings | None = None
    threads: int | None = None
    device: Literal["cpu", "cuda", "mps"] | None = None

    @classmethod
    def read(
        cls, source: TrainingConfig | dict[str, Any] | str | Path, changes: Mapping[str, Any] = MappingProxyType({})
    ) -> TrainingConfig:
        """The settings from a YAML file or a mapping, then `changes`, such as {"optimizer.learning_rate": 1e-4}.

        Raises InputError: the field's path, the value, what is allowed.
        """
        if isinstance(source, cls):
            return cls.read(source.to_dict(), changes) if changes else source
        if not isinstance(source, str | Path | dict):
            raise InputError(f"the config is {quote(source)}; give a YAML file, a dict or a TrainingConfig")
        fields = source if isinstance(source, dict) else read_yaml(Path(source).expanduser())
        for path, value in changes.items():
            fields = changed(_written_out(fields), path, value)
        fields = _written_out(fields)
        try:
            return read_settings(cls, fields)
        except InputError as problem:
            raise InputError(str(problem) if isinstance(source, dict) else f"{source}: {problem}") from None

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON-ready values; `read` reads them back to equal ones."""
        return plain_fields(self)

    def __post_init__(self) -> None:
        for name in ("steps", "threads"):
            if getattr(self, name) is not None:
                require_count(self, name, most=MOST_STEPS if name == "steps" else MOST_THREADS)
        for name in ("epochs", "minutes", "clipping"):
            if getattr(self, name) is not None:
                require_positive(self, name)
        require((self.epochs or 0) <= MOST_EPOCHS, "epochs", self.epochs, f"at most {MOST_EPOCHS:,}")
        require(type(self.seed) is int and 0 <= self.seed < 2**63, "seed", self.seed, "a whole number, 0 or more")
        rate = self.dropout
        fits = rate is None or (type(rate) in (int, float) and 0 <= rate < 1)
        require(fits, "dropout", rate, "a rate from 0 up to, but not, 1")
        require(bool(self.output), "output", self.output, "a directory to write to")
        object.__setattr__(self, "output", _at_home(self.output))
        require_choice(self, Precision, "precision")
        there = next(one for one in (Path(self.output), *Path(self.output).absolute().parents) if one.exists())
        require(there.is_dir(), "output", self.output, f"a directory; {str(there)!r} is a file")
        self._check_length_of_run()
        for name, rows in self.frozen_rows.items():
            fits = type(rows) is int and 0 < rows <= MOST_ROWS
            require(fits, f"frozen_rows.{name}", rows, "a number of rows, 1 or more")
        if self.adapters is not None:
            learns = "left out: model.adapters are what learns"
            require(not self.train_only, "train_only", list(self.train_only), learns)
        if self.pruning is not None:
            self._check_pruning(self.pruning)
        check_metric(self.objective, self.evaluation.metric)
        _ = self.source  # a student of nobody is refused
        writes = self.objective.writes
        require(writes or self.sample is None, "sample", self.sample, "left out: only a causal-lm goes on with a text")

    @property
    def source(self) -> str | None:
        """The checkpoint that the model is, or is a student of; None where fresh weights are to be drawn."""
        if self.model is None or self.model.student is None:
            return None if self.model is None else self.model.checkpoint
        name = self.model.student.teacher or getattr(self.objective, "teacher", None)
        allowed = "a checkpoint to make a student of, unless objective.teacher names one"
        require(name is not None, "model.student.teacher", name, allowed)
        return str(name)

    @property
    def adapters(self) -> AdapterSettings | None:
        """What learns in place of the model's own weights, if anything does."""
        return None if self.model is None else self.model.adapters

    def _check_pruning(self, pruning: PruningSettings) -> None:
        alone = "left out: with model.adapters the weights stay as they are"
        require(self.adapters is None, "pruning", pruning, alone)
        known = "given, or epochs: pruning follows a schedule of them"
        require(self.steps is not None or self.epochs is not None, "steps", None, known)
        if self.steps is not None:
            steps_of(pruning.warmup, pruning.cooldown, self.steps)

    def _check_length_of_run(self) -> None:
        require(self.steps is None or self.epochs is None, "epochs", self.epochs, "left out where there are steps")
        if self.steps is not None:
            try:
                self.schedule_of(self.steps)
            except InputError as problem:
                raise InputError(f"schedule.{problem}") from None
        if self.steps is None and self.epochs is None:
            require(self.minutes is not None, "steps", None, "given, or epochs or minutes")
            schedule = self.schedule
            needs = schedule.name in ("cosine", "linear") or type(schedule.warmup) is float
            if needs and schedule.steps is None:
                raise InputError(
                    f"schedule.name is {schedule.name!r} with warmup {schedule.warmup}, which need a number of steps; "
                    "give schedule.steps beside minutes, or take 'constant' or 'inverse-sqrt' and a warmup in steps"
                )

    def schedule_of(self, steps: int) -> Schedule:
        """The schedule of a run of so many steps."""
        known = self.schedule.steps is not None or (self.steps is None and self.epochs is None)
        return self.schedule if known else dataclasses.replace(self.schedule, steps=steps)
