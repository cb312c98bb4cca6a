"""Reading a text of any length with a model of limited length: overlapping passes, each token's state kept once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor

from gossamer.errors import InputError, ItemError, plural, quote
from gossamer.models.batches import tokens_at_once
from gossamer.models.model import Model
from gossamer.models.output import Output
from gossamer.tasks.frames import Frame

__all__ = [
    "Pass",
    "PassPlan",
    "Progress",
    "Reading",
    "check_stride",
    "in_batches",
    "in_groups",
    "plan_passes",
    "read_passes",
    "read_rows",
    "read_states",
    "room",
]

Progress = Callable[[int, int], None]
"""Called with the tokens read so far and all tokens to read."""

Item = TypeVar("Item")

GROUP_TOKENS = 200_000
"""The states of so many tokens, and of one text more, are held at a time."""


@dataclass
class Reading:
    """What is known of text number `text`: its tokens, their states [tokens, size], and those of its frame."""

    text: int
    ids: list[int]
    offsets: list[tuple[int, int]]
    frame: Frame = field(default_factory=Frame)
    passes: int = 0
    states: Tensor = field(default_factory=lambda: torch.empty(0))
    before: Tensor = field(default_factory=lambda: torch.empty(0))
    after: Tensor = field(default_factory=lambda: torch.empty(0))

    def keep(self, part: Pass, row: Tensor) -> None:
        """Take from what a pass gave, [tokens of the pass, size], the states that it is to keep."""
        if not len(self.states):
            self.states = torch.empty(len(self.ids), row.shape[1])
        first = len(self.frame.before)
        states = row[first + part.keep_start - part.start : first + part.keep_stop - part.start]
        self.states[part.keep_start : part.keep_stop] = states
        if part.start == 0:
            self.before = row[:first].clone()
        if part.stop == len(self.ids):
            self.after = row[len(row) - len(self.frame.after) :].clone()

    def forget(self) -> None:
        """Drop the states."""
        self.states = self.before = self.after = torch.empty(0)


@dataclass(frozen=True)
class Pass:
    """Tokens start to stop of reading number `reading` are read; those from keep_start to keep_stop are kept."""

    reading: int
    start: int
    stop: int
    keep_start: int
    keep_stop: int


def room(model: Model, frame: Frame, max_length: int | None = None) -> int:
    """How many tokens of a text the model reads at once in this frame; none or less where the frame fills it.

    max_length: with the frame, in place of the limit that the checkpoint sets (`Model.reading_length`).
    """
    return model.reading_length(max_length) - len(frame)


def in_groups(
    readings: Sequence[Reading], progress: Progress | None
) -> Iterator[tuple[list[Reading], Progress | None]]:
    """Readings in groups of bounded size, each with a progress that counts its tokens as a part of the whole."""
    total = sum(len(reading.ids) for reading in readings)
    group: list[Reading] = []
    done = tokens = 0
    for reading in readings:
        group.append(reading)
        tokens += len(reading.ids)
        if tokens >= GROUP_TOKENS:
            yield group, _shifted(progress, done, total)
            group, done, tokens = [], done + tokens, 0
    if group:
        yield group, _shifted(progress, done, total)


def check_progress(progress: object) -> None:
    """Refuse what cannot be called, such as the True of other libraries."""
    if progress is not None and not callable(progress):
        raise InputError(f"progress is {quote(progress)}; give a function of two counts, done and in all, or None")


def _shifted(progress: Progress | None, done: int, total: int) -> Progress | None:
    """The progress of one group as a part of the whole."""
    check_progress(progress)
    return None if progress is None else lambda read, _: progress(done + read, total)


def plan_passes(
    model: Model, readings: Sequence[Reading], max_length: int | None = None, stride: int | None = None
) -> list[Pass]:
    """The passes in which all of these are read.

    A text longer than the model is read in passes that share `stride` tokens, an eighth of what the model reads of it
    unless given; of each overlap, either pass keeps the half that lies further from its edge. Two passes share equally
    what they read, the last two of several too; all before them are as long as the model. Raises InputError for a
    stride that leaves a pass nothing new.
    """
    rooms = [room(model, reading.frame, max_length) for reading in readings]
    for reading, tokens in zip(readings, rooms, strict=True):
        if stride is not None and len(reading.ids) > tokens:
            check_stride(stride, tokens, reading.text)
    return [
        part
        for i, reading in enumerate(readings)
        for part in PassPlan(i, rooms[i], stride).passes(len(reading.ids), ended=True)
    ]


def check_stride(stride: int, tokens: int, text: int | None = None) -> None:
    """Refuse an overlap that is no less than the tokens of a text that a pass holds."""
    if stride < tokens:
        return
    said = f"stride is {stride}; it must be less than the {plural(tokens, 'token')} of a text that a pass holds"
    raise InputError(said) if text is None else ItemError(text, f"text {text}: {said}")


def read_passes(
    model: Model,
    readings: Sequence[Reading],
    plan: Sequence[Pass],
    choose: Callable[[Output], Tensor | None],
    batch_tokens: int | None,
    progress: Progress | None,
) -> Iterator[tuple[Reading, Pass, Tensor]]:
    """Read the passes, in batches of at most `batch_tokens` tokens, padding included; not in the order of the plan.

    Each comes with its row of the tensor that `choose` picks from the model's output, in float32 on the CPU and, where
    that tensor is [batch, length, size], without padding. Counts the passes of each reading.
    """
    check_progress(progress)
    for reading in readings:
        reading.passes = 0
    total, done = sum(part.keep_stop - part.keep_start for part in plan), 0
    most = tokens_at_once(model, batch_tokens)
    for batch in in_batches(plan, lambda part: _width(part, readings[part.reading]), most):
        chosen = choose(_run(model, readings, batch))
        assert chosen is not None  # the task asked for a head that gives it
        for part, row in zip(batch, chosen.float().cpu(), strict=True):
            reading = readings[part.reading]
            reading.passes += 1
            yield reading, part, row[: _width(part, reading)] if row.dim() > 1 else row
        done += sum(part.keep_stop - part.keep_start for part in batch)
        if progress is not None:
            progress(done, total)


def read_states(
    model: Model,
    readings: Sequence[Reading],
    batch_tokens: int | None,
    progress: Progress | None = None,
    choose: Callable[[Output], Tensor | None] = lambda out: out.last_hidden_state,
    max_length: int | None = None,
    stride: int | None = None,
) -> None:
    """Fill in the states of every reading: the model's last ones, or what else `choose` picks for every token."""
    for reading in readings:
        reading.forget()
    plan = plan_passes(model, readings, max_length, stride)
    for reading, part, row in read_passes(model, readings, plan, choose, batch_tokens, progress):
        reading.keep(part, row)


class PassPlan:
    """The passes of one text while it is still coming: each as soon as it does not depend on what is yet to come."""

    def __init__(self, reading: int, capacity: int, stride: int | None = None) -> None:
        self.reading, self.capacity = reading, capacity
        self.overlap = capacity // 8 if stride is None else stride
        self.start = self.kept = 0
        self.is_complete = False

    def passes(self, tokens: int, ended: bool) -> Iterator[Pass]:
        """Those that are settled now that so many tokens are known, and `ended`, whether these are all."""
        in_two = 2 * self.capacity - self.overlap
        while not self.is_complete and (ended or tokens - self.start > in_two):
            rest = tokens - self.start
            if rest <= self.capacity:
                self.is_complete = True
                yield Pass(self.reading, self.start, tokens, self.kept, tokens)
                return
            length = self.capacity if rest > in_two else -(-(rest + self.overlap) // 2)
            following = self.start + length - self.overlap if rest > in_two else tokens - length
            stop, keep_stop = self.start + length, (following + self.start + length) // 2
            part = Pass(self.reading, self.start, stop, self.kept, keep_stop)
            self.start, self.kept = following, keep_stop
            yield part


def _width(part: Pass, reading: Reading) -> int:
    return part.stop - part.start + len(reading.frame)


def in_batches(
    items: Iterable[Item], width: Callable[[Item], int], batch_tokens: int, batch_size: int | None = None
) -> Iterator[list[Item]]:
    """Items of like width together, the widest first, so that little is padded and memory is tried at once.

    A batch holds at most `batch_tokens` tokens, padding included, or one item; or `batch_size` items, where given.
    """
    batch: list[Item] = []
    widest = 0
    for item in sorted(items, key=lambda item: -width(item)):
        most = batch_size if batch_size is not None else batch_tokens // max(widest, 1)
        if batch and len(batch) >= most:
            yield batch
            batch = []
        widest = widest if batch else width(item)
        batch.append(item)
    if batch:
        yield batch


def _run(model: Model, readings: Sequence[Reading], batch: Sequence[Pass]) -> Output:
    """Read one batch, each pass in its frame."""
    reads = [(readings[part.reading], part) for part in batch]
    return read_rows(model, [(reading.frame, reading.ids[part.start : part.stop]) for reading, part in reads])


def read_rows(model: Model, passes: Sequence[tuple[Frame, Sequence[int]]]) -> Output:
    """The model's output for one batch: tokens of texts, each in its frame."""
    frames = [frame for frame, _ in passes]
    rows = [[*frame.before, *ids, *frame.after] for frame, ids in passes]
    size = (len(rows), max(map(len, rows)))
    ids, types = torch.full(size, _padding(model)), torch.zeros(size, dtype=torch.int64)
    mask, flagged = torch.zeros(size, dtype=torch.bool), torch.zeros(size, dtype=torch.bool)
    for i, (row, frame) in enumerate(zip(rows, frames, strict=True)):
        ids[i, : len(row)] = torch.tensor(row)
        types[i, : len(row)] = torch.tensor(frame.types(len(row)))
        mask[i, : len(row)] = True
        flagged[i, : frame.global_tokens] = True
    device = next(model.parameters()).device
    knows_types = bool(types.any()) and model.architecture.embeddings.token_types > int(types.max())
    return model(
        ids.to(device),
        attention_mask=None if bool(mask.all()) else mask.to(device),
        token_type_ids=types.to(device) if knows_types else None,
        global_mask=flagged.to(device) if bool(flagged.any()) else None,
    )


def _padding(model: Model) -> int:
    """The id to pad with: nobody sees it, but positions are counted by it."""
    known = model.architecture.embeddings.padding_id
    own = model.tokenizer.pad_id
    return known if known is not None else own if own is not None else 0
