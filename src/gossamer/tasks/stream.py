"""A task over any number of texts: results as they come, in order, with a memory that does not grow with the texts."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

from gossamer.errors import InputError, ItemError
from gossamer.numbered_notes import is_numbered, renumbered
from gossamer.tasks.base import check_text, iterate
from gossamer.tasks.names import refusal
from gossamer.tasks.passes import check_progress

__all__ = ["StreamedItem", "Streaming", "TokensRead", "item_groups", "seeds_for"]


class Splits(Protocol):
    """A result of several items that can be had of one alone: a `Result`, or what `gossamer.generate` gives."""

    @property
    def notes(self) -> list[str]: ...

    def part(self, i: int) -> Self: ...

    def with_notes(self, notes: list[str]) -> Self: ...


R = TypeVar("R", bound=Splits)

TokensRead = Callable[[int, None], None]
"""Called with the tokens read so far; nobody knows how many there will be."""

GROUP_ITEMS = 256
GROUP_CHARACTERS = 2**18
"""Items are asked for, read and dropped in groups of so many, or of so many characters and one item more."""


@dataclass(frozen=True, kw_only=True)
class StreamedItem(Generic[R]):
    """What a task gives for item number `number`: the result of that one alone, or the `error` that it has."""

    number: int
    result: R | None = None
    error: str | None = None


class Streaming(Generic[R]):
    """`stream`, for tasks that are called with a list of items."""

    __call__: Callable[..., R]
    item_name: ClassVar[str] = "text"
    """What an item is called in what is said of it."""

    def stream(
        self, items: Iterable[Any], *, progress: TokensRead | None = None, **options: Any
    ) -> Iterator[StreamedItem[R]]:
        """What the task gives for each item, in order, a `StreamedItem` each; options are the call's.

        items: texts, or the dicts that the call takes for pairs, from anything that can be iterated over: they are
        asked for as far as the model is ready for them. One that cannot be read has its `error`, and the others go on;
        options that cannot be are refused with InputError. Notes on the call as a whole come with the first item.
        """
        check_progress(progress)
        self._check_names(options)
        # What can be iterated over once would be empty for the second group.
        held = {name: list(value) if isinstance(value, Iterator) else value for name, value in options.items()}
        return self._streamed(iterate("items", items), progress, held)

    def _check_names(self, options: Mapping[str, Any], items: str | None = None) -> None:
        """Refuse options that the call does not have, and the lack of one that it needs. items: its name for them."""
        parameters = list(inspect.signature(type(self).__call__).parameters.values())[1:]
        items = parameters[0].name if items is None else items
        known = [one.name for one in parameters if one.name not in (items, "progress")]
        for name in options:
            if name not in known:
                raise InputError(refusal(name, known))
        for one in parameters:
            if one.default is one.empty and one.name not in (items, *options):
                raise InputError(f"{one.name} is missing: give it to stream beside the items")

    def _on_items(self, items: Sequence[Any], numbers: Sequence[int], **options: Any) -> R:
        """The call, whose first argument are the items. numbers: theirs among all that are streamed."""
        return self(items, **options)

    def _streamed(
        self, items: Iterable[Any], progress: TokensRead | None, options: Mapping[str, Any]
    ) -> Iterator[StreamedItem[R]]:
        counted = _Counted(progress)
        first, told = 0, set[str]()
        for group in item_groups(items):
            for item in self._group(first, group, counted, options):
                yield item if item.result is None else _without(item, told)
            first += len(group)
            counted.end_group()

    def _group(
        self, first: int, group: Sequence[Any], counted: _Counted, options: Mapping[str, Any]
    ) -> Iterator[StreamedItem[R]]:
        """Each item's result, the one of number `first` first; those that are refused are left out of the call."""
        errors = _refused(first, group, self.item_name)
        numbers = [number for number in range(first, first + len(group)) if number not in errors]
        result: R | None = None
        while numbers and result is None:
            try:
                result = self._on_items(
                    [group[number - first] for number in numbers], numbers, progress=counted, **options
                )
            except ItemError as problem:
                errors[numbers[problem.item]] = renumbered(str(problem), dict(enumerate(numbers)))
                del numbers[problem.item]
        parts = {number: result.part(i) for i, number in enumerate(numbers)} if result is not None else {}
        for number in range(first, first + len(group)):
            if number in errors:
                yield StreamedItem(number=number, error=errors[number])
            else:
                part = parts[number]
                notes = [renumbered(note, {0: number}) for note in part.notes]
                yield StreamedItem(number=number, result=part.with_notes(notes))


class _Counted:
    """The progress of one group after the other."""

    def __init__(self, progress: TokensRead | None) -> None:
        self._progress = progress
        self._before = self._read = 0

    def __call__(self, done: int, total: int) -> None:
        self._read = done
        if self._progress is not None:
            self._progress(self._before + done, None)

    def end_group(self) -> None:
        self._before += self._read
        self._read = 0


def item_groups(items: Iterable[Any]) -> Iterator[list[Any]]:
    """Items in groups of bounded size and of one kind; where their source fails, those before it come first."""
    group: list[Any] = []
    characters = 0
    for item in _before_failing(items):
        failed = isinstance(item, _Failure)
        if group and (failed or _kind(item) != _kind(group[0])):
            yield group
            group, characters = [], 0
        if failed:
            raise item.problem
        group.append(item)
        characters += _characters(item)
        if len(group) >= GROUP_ITEMS or characters >= GROUP_CHARACTERS:
            yield group
            group, characters = [], 0
    if group:
        yield group


@dataclass(frozen=True)
class _Failure:
    problem: Exception


def _before_failing(items: Iterable[Any]) -> Iterator[Any]:
    try:
        yield from items
    except Exception as problem:
        yield _Failure(problem)


def _kind(item: object) -> frozenset[str] | None:
    """The fields of a dict that hold something; None for all else."""
    return (
        frozenset(str(name) for name, value in item.items() if value is not None) if isinstance(item, Mapping) else None
    )


def _refused(first: int, group: Sequence[Any], name: str) -> dict[int, str]:
    """What can be said at once of items that are neither texts nor dicts, by their numbers."""
    errors = {}
    for number, item in enumerate(group, first):
        if not isinstance(item, str | Mapping):
            try:
                check_text(name, number, item)
            except ItemError as problem:
                errors[number] = str(problem)
    return errors


def seeds_for(seed: Any, numbers: Sequence[int]) -> Any:
    """The seeds that items of these numbers would have in one call: a number more for each, or those of a list."""
    if type(seed) is int:
        return [seed + number for number in numbers]
    if not isinstance(seed, list | tuple):
        return seed
    without = [number for number in numbers if number >= len(seed)]
    if without:
        raise InputError(
            f"seed holds {len(seed)} numbers, none for item {without[0]}: give one for each, or one number"
        )
    return [seed[number] for number in numbers]


def _characters(item: object) -> int:
    if isinstance(item, Mapping):
        return sum(map(_characters, item.values()))
    return len(item) if isinstance(item, str) else 0


def _without(item: StreamedItem[R], told: set[str]) -> StreamedItem[R]:
    """The item, its result without notes that came before; `told` learns the others."""
    assert item.result is not None
    new = [note for note in item.result.notes if note not in told]
    told.update(note for note in new if not is_numbered(note))
    return StreamedItem(number=item.number, result=item.result.with_notes(new))
