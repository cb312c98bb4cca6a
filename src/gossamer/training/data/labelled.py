"""Rows with labels: read, held out, and cut into batches that are a pure function of the seed and the step."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gossamer.errors import InputError, plural
from gossamer.models.model import Model
from gossamer.text import Tokenizer
from gossamer.training.config import TrainingConfig
from gossamer.training.data.held_out import hold_out
from gossamer.training.data.orders import Grouped, Order, Shuffled
from gossamer.training.data.rows import DataSources
from gossamer.training.objectives import IGNORED, RowObjective
from gossamer.training.objectives.labelled.labels import Example, LabelledRow, collated
from gossamer.training.processes import Processes

__all__ = ["LabelledBatches", "LabelledRows", "read_rows"]


@dataclass(frozen=True, kw_only=True)
class LabelledRows:
    """The rows to train on and those that are held out, before they are tokenized."""

    objective: RowObjective
    train: Sequence[LabelledRow]
    held_out: Sequence[LabelledRow]

    @property
    def all(self) -> list[LabelledRow]:
        """Every row, held out or not: a model has the labels of all of them."""
        return [*self.train, *self.held_out]

    def batches(
        self, config: TrainingConfig, model: Model, tokenizer: Tokenizer, processes: Processes
    ) -> tuple[LabelledBatches, tuple[str, ...]]:
        """The batches of this process, and a remark on texts that were cut."""
        assert model.architecture.head is not None
        length, head = config.batch.length or model.reading_length(), model.architecture.head
        head = self.objective.settle_head(head, self.all)
        model.architecture = replace(model.architecture, head=head)
        self.objective.check_batch(config.batch.rows, config.batch.tokens)
        control_tokens = config.data.control_tokens
        examples, held_out = (
            self.objective.encode(rows, tokenizer, length, head, control_tokens=control_tokens)
            for rows in (self.train, self.held_out)
        )
        if not any(_is_learnt(one.labels).any() for one in examples):
            raise InputError(
                f"no row has a label within {length:,} tokens, so there is nothing to learn; give longer rows "
                "(batch.length)"
            )
        self.objective.prepare(model, examples)
        batches = LabelledBatches(
            examples=examples,
            held_out=held_out,
            pad_id=tokenizer.pad_id or 0,
            collate=self.objective.collate,
            batch=config.batch.rows,
            tokens=config.batch.tokens,
            seed=config.seed,
            rank=processes.rank,
            world=processes.count,
        )
        cut = sum(one.cut for one in (*examples, *held_out))
        note = (
            f"{cut:,} of {plural(len(self.all), 'row')} are longer than {length:,} tokens and were cut (batch.length)"
        )
        return batches, (note,) if cut else ()


def read_rows(config: TrainingConfig, sources: DataSources) -> LabelledRows:
    """The rows that a config names; InputError for one that lacks what the objective needs."""
    objective, settings = config.objective.of_data, config.evaluation
    assert isinstance(objective, RowObjective)
    rows = _read(objective, config.data.inputs, config, sources)
    if settings.inputs:
        held_out = _read(objective, settings.inputs, config, sources)
        return LabelledRows(objective=objective, train=rows, held_out=held_out)
    train, held = hold_out(len(rows), settings.held_out, settings.held_out_by, "rows")
    return LabelledRows(objective=objective, train=[rows[i] for i in train], held_out=[rows[i] for i in held])


def _read(
    objective: RowObjective, inputs: tuple[str, ...], config: TrainingConfig, sources: DataSources
) -> list[LabelledRow]:
    for name in inputs:
        if name == "speeches" or Path(name).suffix == ".tokens":
            columns = " or ".join(map(repr, objective.columns))
            raise InputError(
                f"{name}: has no labels; objective.kind is {objective.kind!r}, which learns from rows with {columns}"
            )
    documents = sources.documents(inputs, field=None, split=config.data.split, format=config.data.format)
    rows = [objective.read_row(one, config.data.field) for one in documents]
    if not rows:
        raise InputError(f"{', '.join(inputs)}: there are no rows; name files that have some")
    return rows


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledBatches:
    """The batches of a training on examples, each padded to its longest, and of the examples that are held out.

    batch: rows of a step, those of all processes together; or tokens: as many rows of about one length as that many
    tokens hold. Process `rank` of `world` gets every world-th row. Raises InputError where there are fewer rows than a
    step takes.
    """

    examples: Sequence[Example]
    held_out: Sequence[Example] = ()
    pad_id: int
    collate: Callable[[Sequence[Example], int], dict[str, Tensor]] = collated
    batch: int = 8
    tokens: int | None = None
    seed: int = 0
    rank: int = 0
    world: int = 1

    def __post_init__(self) -> None:
        if self.tokens is None and len(self.examples) < self.batch:
            raise InputError(
                f"the data have {plural(len(self.examples), 'row')} to train on, but a step takes {self.batch:,}; give "
                "more rows or a smaller batch"
            )
        _ = self._order  # which refuses what does not fit

    @property
    def digest(self) -> str:
        """SHA-256 that changes with tokens and labels, not with the names of files."""
        digest = hashlib.sha256()
        for one in (*self.examples, *self.held_out):
            for part in one.arrays:
                digest.update(f"{part.shape}{part.dtype}".encode())
                digest.update(part.tobytes())
        digest.update(f"{len(self.examples)}".encode())
        return digest.hexdigest()

    def at(self, step: int) -> dict[str, Tensor]:
        """This process's rows of a step, from 0: `input_ids` int64 [rows, length], `labels`, and masks and types.

        Where there are fewer rows than processes the row of some of them only fills up and has no labels.
        """
        return self._share([self.examples[i] for i in self._order.rows(step)])

    def ids(self, step: int) -> list[str]:
        """Where the rows of a step came from, such as `mail.jsonl:3`."""
        return [self.examples[i].name for i in self._order.rows(step)[self.rank :: self.world]]

    def steps(self, epochs: float) -> int:
        """Steps in which every row is read so many times, rounded up."""
        return math.ceil(epochs * self._order.steps_per_epoch)

    def tokens_before(self, step: int) -> int:
        """Tokens that all processes have read before a step, special tokens included, padding not."""
        return self._order.total_before(step, self._sizes)

    def share_without_labels(self) -> float:
        """Which share of the rows has no label, so that nothing is learnt from them."""
        return float(np.mean([not _is_learnt(one.labels).any() for one in self.examples]))

    def evaluation(self) -> Iterator[dict[str, Any]]:
        """This process's batches of what is held out, all of it once, the same whatever the seed; and its rows."""
        if not self.held_out:
            raise InputError("held_out is 0; hold rows out, or give files of them, to evaluate")
        for rows in self._held_rows():
            examples = [self.held_out[i] for i in rows]
            yield {**self._share(examples), "examples": examples[self.rank :: self.world]}

    def every_row(self, steps: int | None, held_out: bool) -> Iterator[dict[str, Tensor]]:
        """Each epoch reads the same ones; a last step may read on into the next, so all of them count."""
        rows = [*self.examples, *(self.held_out if held_out else ())]
        for start in range(0, len(rows), self.batch):
            yield self.collate(rows[start : start + self.batch], self.pad_id)

    @cached_property
    def _sizes(self) -> np.ndarray:
        return np.array([len(one.ids) for one in self.examples], dtype=np.int64)

    @cached_property
    def _order(self) -> Order:
        if self.tokens is None:
            return Shuffled(count=len(self.examples), batch=self.batch, seed=self.seed)
        return Grouped(lengths=self._sizes, tokens=self.tokens, seed=self.seed)

    def _held_rows(self) -> list[np.ndarray]:
        sizes = np.array([len(one.ids) for one in self.held_out], dtype=np.int64)
        if self.tokens is None:
            return [np.arange(i, min(i + self.batch, len(sizes))) for i in range(0, len(sizes), self.batch)]
        return Grouped(lengths=sizes, tokens=self.tokens, seed=0).in_order()

    def _share(self, rows: Sequence[Example]) -> dict[str, Tensor]:
        mine = rows[self.rank :: self.world]
        batch = self.collate(mine or rows[:1], self.pad_id)
        if not mine:
            labels = batch["labels"]
            batch["labels"] = torch.full_like(labels, math.nan if labels.is_floating_point() else IGNORED)
        return batch


def _is_learnt(labels: np.ndarray) -> np.ndarray:
    return ~np.isnan(labels) if labels.dtype.kind == "f" else labels != IGNORED
