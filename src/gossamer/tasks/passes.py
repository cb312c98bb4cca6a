"""Reading a text of any length with a model of limited length: overlapping passes, each token's state kept once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gossamer.models.encoder import Model

__all__ = ["Progress", "Reading", "read_states"]

Progress = Callable[[int, int], None]
"""Called with the tokens read so far and all tokens to read."""


@dataclass
class Reading:
    """What is known of text number `text`: its tokens, their states [tokens, hidden], and those of the two special tokens."""

    text: int
    ids: list[int]
    offsets: list[tuple[int, int]]
    passes: int = 0
    states: Tensor = field(default_factory=lambda: torch.empty(0))
    first: Tensor = field(default_factory=lambda: torch.empty(0))
    last: Tensor = field(default_factory=lambda: torch.empty(0))

    def forget(self) -> None:
        """Drop the states."""
        self.states = self.first = self.last = torch.empty(0)


@dataclass(frozen=True)
class _Pass:
    """Tokens start to stop of a text are read; those from keep_start to keep_stop are kept."""

    text: int
    start: int
    stop: int
    keep_start: int
    keep_stop: int


def read_states(model: Model, texts: Sequence[Reading], batch_tokens: int, progress: Progress | None = None) -> None:
    """Fill in the states of every text, in batches of at most `batch_tokens` tokens, padding included.

    A text longer than the model is read in passes of equal length that overlap by an eighth of what the model reads;
    of each overlap, either pass keeps the half that lies further from its edge.
    """
    capacity = model.architecture.length - 2
    todo = [one for i, text in enumerate(texts) for one in _plan(i, len(text.ids), capacity)]
    for text in texts:
        text.passes = 0
        text.states = torch.empty(len(text.ids), model.architecture.hidden_size)
    total, done = sum(len(text.ids) for text in texts), 0
    for batch in _batches(todo, batch_tokens):
        _run(model, texts, batch)
        done += sum(one.keep_stop - one.keep_start for one in batch)
        if progress is not None:
            progress(done, total)


def _plan(text: int, tokens: int, capacity: int) -> Iterator[_Pass]:
    if tokens <= capacity:
        yield _Pass(text, 0, tokens, 0, tokens)
        return
    overlap = capacity // 8
    count = -(-(tokens - overlap) // (capacity - overlap))
    length = -(-(tokens + (count - 1) * overlap) // count)
    starts = [round(i * (tokens - length) / (count - 1)) for i in range(count)]
    kept = 0
    for start, following in zip(starts, [*starts[1:], None], strict=True):
        keep_stop = tokens if following is None else (following + start + length) // 2
        yield _Pass(text, start, start + length, kept, keep_stop)
        kept = keep_stop


def _batches(todo: Sequence[_Pass], batch_tokens: int) -> Iterator[list[_Pass]]:
    """Passes of like length together, the longest first, so that little is padded and memory is tried at once."""
    batch: list[_Pass] = []
    for one in sorted(todo, key=lambda one: one.start - one.stop):
        if batch and (len(batch) + 1) * (batch[0].stop - batch[0].start + 2) > batch_tokens:
            yield batch
            batch = []
        batch.append(one)
    if batch:
        yield batch


def _run(model: Model, texts: Sequence[Reading], batch: Sequence[_Pass]) -> None:
    """Read one batch, [CLS] tokens [SEP] each, and keep what each pass is to keep."""
    tokenizer = model.tokenizer
    rows = [[tokenizer.cls_id, *texts[one.text].ids[one.start : one.stop], tokenizer.sep_id] for one in batch]
    width = max(map(len, rows))
    ids = torch.full((len(rows), width), tokenizer.pad_id)
    mask = torch.zeros(len(rows), width, dtype=torch.bool)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        mask[i, : len(row)] = True
    device = next(model.parameters()).device
    whole = None if bool(mask.all()) else mask.to(device)
    states = model(ids.to(device), attention_mask=whole).last_hidden_state.float().cpu()
    for one, row, length in zip(batch, states, map(len, rows), strict=True):
        text = texts[one.text]
        text.passes += 1
        text.states[one.keep_start : one.keep_stop] = row[
            1 + one.keep_start - one.start : 1 + one.keep_stop - one.start
        ]
        if one.start == 0:
            text.first = row[0].clone()
        if one.stop == len(text.ids):
            text.last = row[length - 1].clone()
