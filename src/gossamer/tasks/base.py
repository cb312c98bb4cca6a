"""What all tasks share: the model they need, texts turned into readings, and what is said of long ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from typing import Any, ClassVar, Literal, Self, get_args

from gossamer.checks import require_whole
from gossamer.errors import InputError, ItemError, quote
from gossamer.models.inputs import advise_longer
from gossamer.models.model import Model
from gossamer.numbered_notes import notes_of
from gossamer.tasks.frames import find_frame
from gossamer.tasks.passes import Reading, check_stride, room
from gossamer.text import Tokenizer

__all__ = ["Long", "Result", "Task", "check_text", "iterate", "list_fields", "list_texts", "of_the_call"]

Long = Literal["chunk", "truncate", "error"]


class Result:
    """What a task gives for some texts: a frozen dataclass, whose lists have an entry for each text but for `notes`.

    A note on one text names its number first: "text 3 is ...".
    """

    notes: list[str]

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON-ready values."""
        return dataclasses.asdict(self)  # type: ignore[call-overload]

    def part(self, i: int) -> Self:
        """What is given for text number i alone, which is text 0 of it."""
        lists = {
            field.name: value[i : i + 1]
            for field in dataclasses.fields(self)  # type: ignore[arg-type]
            if isinstance(value := getattr(self, field.name), list) and field.name != "notes"
        }
        return dataclasses.replace(self, **lists, notes=notes_of(self.notes, i))  # type: ignore[type-var]

    def with_notes(self, notes: list[str]) -> Self:
        """The same with other notes."""
        return dataclasses.replace(self, notes=notes)  # type: ignore[type-var]


class Task:
    """A model that reads texts of any length for one purpose.

    Raises InputError for a model without tokenizer, with a head that is not for this, or too short for one token.
    """

    heads: ClassVar[tuple[type, ...]]
    """The heads that can do it."""
    load_with: ClassVar[str]
    """The name of such a head, for who has another."""
    doing: ClassVar[str]
    """What is done to texts: "embed"."""
    needs_head: ClassVar[bool] = True

    def __init__(self, model: Model) -> None:
        self._check_head(model)
        if model.tokenizer is None:
            raise InputError(f"the model has no tokenizer: put tokenizer.json into its directory to {self.doing} texts")
        self.model = model
        self.frame = find_frame(model.tokenizer)
        self.capacity = room(model, self.frame)
        if self.capacity < 1:
            raise InputError(
                f"the model reads {model.reading_length()} tokens, the special ones alone are {len(self.frame)}: "
                f"lengthen it to {self.doing} texts"
            )

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's."""
        return self.model.tokenizer

    def _check_head(self, model: Model) -> None:
        head = model.architecture.head
        if isinstance(head, self.heads) or (head is None and not self.needs_head):
            return
        if head is not None and not self.needs_head:
            raise InputError(
                f"the model's head is {head.kind!r}; load it with head={self.load_with!r} to {self.doing} texts"
            )
        has = "model has no head" if head is None else f"model's head is {head.kind!r}"
        raise InputError(
            f"the {has}, so it cannot {self.doing} texts: take a model with the head {self.load_with!r}, or train one"
        )

    def _check(
        self, long: str, batch_tokens: int | None, max_length: int | None = None, stride: int | None = None
    ) -> None:
        if long not in get_args(Long):
            raise InputError(f"long is {quote(long)}; it must be one of {', '.join(get_args(Long))}")
        if batch_tokens is not None:
            require_whole("batch_tokens", batch_tokens, of="tokens", instead="None")
        if room(self.model, self.frame, max_length) < 1:
            least = f"at least {len(self.frame) + 1}, for the special tokens and one of text"
            raise InputError(f"max_length is {max_length}; it must be {least}")
        if stride is not None:
            require_whole("stride", stride, 0, of="tokens", instead="None")
            check_stride(stride, room(self.model, self.frame, max_length))

    def _readings(self, texts: Sequence[object]) -> list[Reading]:
        return [Reading(i, *self._tokenize("text", i, text), self.frame) for i, text in enumerate(texts)]

    def _tokenize(self, what: str, i: int, text: object) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids and character offsets."""
        text = check_text(what, i, text)
        ids, offsets = self.model.tokenizer.encode_plain(text)
        if not ids:
            raise ItemError(i, f"{what} {i} is empty ({text[:20]!r}): there is nothing to {self.doing}; leave it out")
        return ids, offsets

    def _fit(
        self,
        readings: Sequence[Reading],
        long: str,
        beside: str = "",
        lengths: Sequence[int] | None = None,
        max_length: int | None = None,
        special: int | None = None,
    ) -> list[str]:
        """Refuse, cut or announce the texts that are longer than the model reads at once.

        beside: what is read along with each. lengths: theirs, frame included, where that was cut already. max_length:
        what is read at once in place of the checkpoint's own limit; a larger one is announced, too. special: how many
        special tokens are read with each, those around one text unless given: what is said counts them, results don't.
        """
        around = len(self.frame) if special is None else special
        most = self.model.reading_length(max_length)
        notes = self._say_longer(max_length)
        for i, reading in enumerate(readings):
            length = len(reading.ids) + len(reading.frame) if lengths is None else lengths[i]
            said = self._say_long(reading.text, length, long, most, around, beside)
            if said is None:
                continue
            if long == "truncate":
                most_of_text = room(self.model, reading.frame, max_length)
                reading.ids, reading.offsets = reading.ids[:most_of_text], reading.offsets[:most_of_text]
            notes.append(said)
        return notes

    def _say_longer(self, max_length: int | None) -> list[str]:
        """That more is read at once than the checkpoint's own limit allows, where it is."""
        most, own = self.model.reading_length(max_length), self.model.reading_length()
        if most <= own:
            return []
        return [f"read up to {most} tokens at once, as max_length says; the model's own files say {own}"]

    def _say_long(
        self, i: int, length: int, long: str, most: int, around: int, beside: str = "", how: str | None = None
    ) -> str | None:
        """What is done with text i of so many tokens, `around` of them special, where more than `most`.

        how: it is read then, as `_chunked` says unless given. InputError where it is refused.
        """
        if length <= most:
            return None
        said = f"text {i}{beside} is {length} tokens long, the model reads {most}"
        counted = f" ({length - around} without special tokens)" if around else ""
        if long == "error":
            remedies = (self._remedy(length), "give long='chunk' or long='truncate'")
            raise ItemError(i, f"{said}: {', or '.join(filter(None, remedies))}{counted}")
        done_instead = "cut" if long == "truncate" else how or self._chunked()
        return f"{said}: {'; '.join(filter(None, (done_instead, self._remedy(length))))}{counted}"

    def _chunked(self) -> str:
        """How a text longer than the model is read, for its note."""
        return "read in overlapping passes"

    def _remedy(self, length: int) -> str:
        if length <= self.model.architecture.length:
            return f"max_length={length} reads it at once, beyond what the model's own files say"
        return advise_longer(self.model.architecture, length, " to read it at once")


def list_texts(name: str, texts: object) -> list[Any]:
    """One text as a list of one. InputError for what is no text and no list of them, and for no texts.

    Anything that gives texts in an order is a list: a tuple, a generator, an array. A dict would give its keys, and a
    set has no order.
    """
    if isinstance(texts, str):
        return [texts]
    unordered = isinstance(texts, Mapping | Set)
    if isinstance(texts, bytes | bytearray | memoryview) or unordered or not isinstance(texts, Iterable):
        kind = f", a {type(texts).__name__}" if unordered else ""
        raise InputError(f"{name} is {quote(texts)}{kind}; give one string or a list of strings")
    listed = list(texts)
    if not listed:
        raise InputError(f"there are no {name}: give at least one")
    return listed


def iterate(name: str, texts: object) -> Iterable[Any]:
    """Texts as they come, one alone as a list of one. InputError for what gives no texts in an order."""
    refused = isinstance(texts, str | bytes | bytearray | memoryview | Mapping | Set)
    return list_texts(name, texts) if refused or not isinstance(texts, Iterable) else texts


def list_fields(name: str, rows: object, first: str, second: str) -> tuple[list[Any], list[Any] | None]:
    """Texts, and what is read with each where they are dicts of the fields `first` and `second`, one or a list of them.

    Such are the pipelines' pairs. InputError for dicts beside strings, other fields, and some without a second text.
    """
    listed = [rows] if isinstance(rows, Mapping) else list_texts(name, rows)
    form = f"{{{first!r}: ..., {second!r}: ...}}"
    for i, row in enumerate(listed):
        if isinstance(row, tuple | list):
            raise ItemError(i, f"{first} {i} is {quote(row)}, a {type(row).__name__}; write a pair as {form}")
    if not any(isinstance(row, Mapping) for row in listed):
        return listed, None
    for i, row in enumerate(listed):
        if not isinstance(row, Mapping) or first not in row or set(row) - {first, second}:
            raise ItemError(
                i, f"{first} {i} is {quote(row)}; where one is a dict, each must be {form}, without other fields"
            )
    seconds = [row.get(second) for row in listed]
    without = [i for i, value in enumerate(seconds) if value is None]
    if without and len(without) < len(listed):
        said = f"{first} {without[0]} has no {second!r}, as others have: give one to each, or to none"
        raise ItemError(without[0], said)
    return [row[first] for row in listed], None if without else seconds


@contextmanager
def of_the_call() -> Iterator[None]:
    """What is wrong with a text in here is wrong with the whole call: a label, a query."""
    try:
        yield
    except ItemError as problem:
        raise InputError(str(problem)) from None


def check_text(what: str, i: int, text: object, before: int = 0) -> str:
    """A text, or a part of one with so many characters before it. InputError for what is none."""
    if not isinstance(text, str):
        raise ItemError(i, f"{what} {i} is {quote(text)}, a {type(text).__name__}; it must be a string")
    try:
        text.encode()
    except UnicodeEncodeError as problem:
        raise ItemError(
            i,
            f"{what} {i} holds half a surrogate pair at character {before + problem.start}, which is no character: "
            "read the text as UTF-8, with errors='replace' where it is damaged",
        ) from None
    return text
