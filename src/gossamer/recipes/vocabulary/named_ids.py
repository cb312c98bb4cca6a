"""Ids of tokens in the settings of a model: which there are, and what they become in another vocabulary."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from gossamer.models.architecture import Architecture
from gossamer.models.model import Model

__all__ = ["named_ids", "renumbered", "renumbered_config"]

_LISTS = ("suppress_tokens", "begin_suppress_tokens")
"""Ids that are never to be told: those of tokens that are no more need no mention."""
_SEQUENCES = ("bad_words_ids",)
"""Lists of ids that are never to be told one after the other."""
_FORCED = ("force_words_ids",)
"""Lists of ids, or lists of such lists, one of which has to be told."""

NewId = Callable[[int], int | None]


def named_ids(model: Model) -> set[int]:
    """The ids that a model's description and settings name, of rows that its tables have; their tokens have to stay."""
    architecture, rows = model.architecture, model.architecture.embeddings.vocabulary_size
    places = (architecture.embeddings.padding_id, architecture.separator_id, _head_padding(architecture))
    ids = {number for number in places if number is not None}
    for config in (model.extra_config, model.generation_config):
        ids |= set(_roles(config))
    return {number for number in ids if 0 <= number < rows}


def renumbered(architecture: Architecture, rows: int, new_id: NewId) -> Architecture:
    """The same model with tables of so many rows, and other ids for its padding and its separator."""
    old, head = architecture.embeddings, architecture.head
    padding = None if old.padding_id is None else new_id(old.padding_id)
    embeddings = dataclasses.replace(old, vocabulary_size=rows, padding_id=padding)
    if old.positions.from_padding and old.padding_id is not None and old.positions.offset == old.padding_id + 1:
        assert padding is not None
        positions = dataclasses.replace(old.positions, offset=padding + 1)
        embeddings = dataclasses.replace(embeddings, positions=positions)
    if _head_padding(architecture) is not None:
        head = dataclasses.replace(head, padding_id=_other(head.padding_id, new_id))  # type: ignore[union-attr, type-var]
    separator = None if architecture.separator_id is None else new_id(architecture.separator_id)
    return dataclasses.replace(architecture, embeddings=embeddings, head=head, separator_id=separator)


def renumbered_config(config: Mapping[str, Any], new_id: NewId) -> dict[str, Any]:
    """Settings of config.json or generation_config.json with the ids of another vocabulary.

    new_id: None for a token that is no more. Ids beyond the old tables, which nothing had, stay as they are.
    """
    return {name: _renumbered(name, value, new_id) for name, value in config.items()}


def _renumbered(name: str, value: Any, new_id: NewId) -> Any:
    if isinstance(value, dict) and name != "sequence_bias":
        return renumbered_config(value, new_id)
    if _is_role(name) or name in _FORCED:
        return _each(value, lambda number: _other(number, new_id))
    if not isinstance(value, list):
        return value
    if name in _LISTS or name in _SEQUENCES:
        return [_each(one, new_id) for one in value if _stays(one, new_id)]
    if name == "sequence_bias":
        return [[_each(ids, new_id), bias] for ids, bias in _pairs(value) if _stays(ids, new_id)]
    if name == "forced_decoder_ids":
        return [[place, _each(number, lambda one: _other(one, new_id))] for place, number in _pairs(value)]
    return value


def _roles(config: Mapping[str, Any]) -> Iterator[int]:
    for name, value in config.items():
        if isinstance(value, dict):
            yield from _roles(value)
        elif _is_role(name) or name in _FORCED:
            yield from _numbers(value)
        elif name == "forced_decoder_ids" and isinstance(value, list):
            yield from _numbers([number for _, number in _pairs(value)])


def _is_role(name: str) -> bool:
    """Whether a setting names the token, or the tokens, of a role, such as `eos_token_id`."""
    return name.endswith("_token_id")


def _numbers(value: Any) -> Iterator[int]:
    if isinstance(value, list):
        for one in value:
            yield from _numbers(one)
    elif type(value) is int:
        yield value


def _each(value: Any, change: Callable[[int], int | None]) -> Any:
    """A number, or lists of them, changed; anything else as it is."""
    if isinstance(value, list):
        return [_each(one, change) for one in value]
    return change(value) if type(value) is int else value


def _other(number: int, new_id: NewId) -> int:
    new = new_id(number)
    return number if new is None else new


def _stays(value: Any, new_id: NewId) -> bool:
    return all(new_id(number) is not None for number in _numbers(value))


def _pairs(value: list[Any]) -> Iterator[tuple[Any, Any]]:
    """The entries that are two things; a file may hold others, which mean nothing."""
    return ((one[0], one[1]) for one in value if isinstance(one, list) and len(one) == 2)


def _head_padding(architecture: Architecture) -> int | None:
    return getattr(architecture.head, "padding_id", None)
