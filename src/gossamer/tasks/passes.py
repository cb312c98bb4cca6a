"""Reading a text of any length with a model of limited length: overlapping passes, each token's state kept once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gossamer.errors import InputError
from gossamer.models.encoder import Model
from gossamer.text import Tokenizer

__all__ = ["Frame", "Progress", "Reading", "find_frame", "read_states"]

Progress = Callable[[int, int], None]
"""Called with the tokens read so far and all tokens to read."""


@dataclass
class Reading:
    """What is known of text number `text`: its tokens, their states [tokens, hidden], and those of its frame."""

    text: int
    ids: list[int]
    offsets: list[tuple[int, int]]
    passes: int = 0
    states: Tensor = field(default_factory=lambda: torch.empty(0))
    before: Tensor = field(default_factory=lambda: torch.empty(0))
    after: Tensor = field(default_factory=lambda: torch.empty(0))

    def forget(self) -> None:
        """Drop the states."""
        self.states = self.before = self.after = torch.empty(0)


@dataclass(frozen=True)
class Frame:
    """The special tokens that a tokenizer puts around a text: [CLS] and [SEP], or others, or none."""

    before: list[int]
    after: list[int]

    def __len__(self) -> int:
        return len(self.before) + len(self.after)


def find_frame(tokenizer: Tokenizer) -> Frame:
    """What the tokenizer puts around a text. InputError where no text shows where the text goes."""
    if tokenizer.special_tokens_count() == 0:
        return Frame([], [])
    for text in ("a", "the", "1", ".", "A", "\u4e00"):
        found = tokenizer(text, truncation=False, return_offsets=True)
        inner = (found["special_tokens_mask"][0] == 0).nonzero().flatten().tolist()
        if inner:
            ids = found["input_ids"][0].tolist()
            return Frame(ids[: inner[0]], ids[inner[-1] + 1 :])
    raise InputError("the tokenizer turns every text into special tokens only: its tokenizer.json may be damaged")


@dataclass(frozen=True)
class _Pass:
    """Tokens start to stop of a text are read; those from keep_start to keep_stop are kept."""

    text: int
    start: int
    stop: int
    keep_start: int
    keep_stop: int


def read_states(
    model: Model, frame: Frame, texts: Sequence[Reading], batch_tokens: int, progress: Progress | None = None
) -> None:
    """Fill in the states of every text, in batches of at most `batch_tokens` tokens, padding included.

    A text longer than the model is read in passes of equal length that overlap by an eighth of what the model reads;
    of each overlap, either pass keeps the half that lies further from its edge.
    """
    capacity = model.architecture.length - len(frame)
    todo = [one for i, text in enumerate(texts) for one in _plan(i, len(text.ids), capacity)]
    for text in texts:
        text.passes = 0
        text.states = torch.empty(len(text.ids), model.architecture.hidden_size)
    total, done = sum(len(text.ids) for text in texts), 0
    for batch in _batches(todo, batch_tokens, len(frame)):
        _run(model, frame, texts, batch)
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


def _batches(todo: Sequence[_Pass], batch_tokens: int, special: int) -> Iterator[list[_Pass]]:
    """Passes of like length together, the longest first, so that little is padded and memory is tried at once."""
    batch: list[_Pass] = []
    for one in sorted(todo, key=lambda one: one.start - one.stop):
        if batch and (len(batch) + 1) * (batch[0].stop - batch[0].start + special) > batch_tokens:
            yield batch
            batch = []
        batch.append(one)
    if batch:
        yield batch


def _run(model: Model, frame: Frame, texts: Sequence[Reading], batch: Sequence[_Pass]) -> None:
    """Read one batch, each pass in its frame, and keep what each is to keep."""
    rows = [[*frame.before, *texts[one.text].ids[one.start : one.stop], *frame.after] for one in batch]
    width = max(map(len, rows))
    ids = torch.full((len(rows), width), _padding(model))
    mask = torch.zeros(len(rows), width, dtype=torch.bool)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        mask[i, : len(row)] = True
    device = next(model.parameters()).device
    whole = None if bool(mask.all()) else mask.to(device)
    states = model(ids.to(device), attention_mask=whole).last_hidden_state.float().cpu()
    first = len(frame.before)
    for one, row, length in zip(batch, states, map(len, rows), strict=True):
        text = texts[one.text]
        text.passes += 1
        kept = row[first + one.keep_start - one.start : first + one.keep_stop - one.start]
        text.states[one.keep_start : one.keep_stop] = kept
        if one.start == 0:
            text.before = row[:first].clone()
        if one.stop == len(text.ids):
            text.after = row[length - len(frame.after) : length].clone()


def _padding(model: Model) -> int:
    """The id to pad with: nobody sees it, but positions are counted by it."""
    known = model.architecture.embeddings.padding_id
    own = model.tokenizer.pad_id
    return known if known is not None else own if own is not None else 0
