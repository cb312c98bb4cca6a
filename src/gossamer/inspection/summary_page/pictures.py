"""The pictures of the patterns that models have, each once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from gossamer.errors import plural
from gossamer.inspection.summary_page.layer_facts import stack_layers
from gossamer.inspection.summary_page.wording import spans
from gossamer.models.architecture import Architecture
from gossamer.patterns import Pattern

__all__ = ["PatternPicture", "pattern_pictures"]

TOKENS = 4096
"""Tokens of a longer model that are drawn."""
HASHED = 512
"""The same where tokens are hashed, which takes every pair."""
SIZE = 220


@dataclass(frozen=True, kw_only=True)
class PatternPicture:
    """A pattern: its name, its picture of so many tokens (`<svg>`), and where it stands."""

    pattern: Pattern
    name: str
    svg: str
    remark: str
    places: str
    id: str


def pattern_pictures(models: Sequence[Architecture]) -> list[PatternPicture]:
    """Each pattern of a layer that has heads; with the first token global where that makes a difference."""
    found: dict[Pattern, int] = {}
    for one in models:
        for of_decoder in (False, True):
            for layer in stack_layers(one, of_decoder):
                if layer.attention.heads:
                    pattern = layer.attention.pattern
                    found[pattern] = max(found.get(pattern, 0), one.length)
    return [_picture(pattern, length, models, i) for i, (pattern, length) in enumerate(found.items())]


def _picture(pattern: Pattern, length: int, models: Sequence[Architecture], number: int) -> PatternPicture:
    n = min(length, TOKENS if pattern.hashes is None else HASHED)
    name = f"pattern-{number}"
    svg = pattern.svg(n, flags=torch.arange(n) == 0 if pattern.sees_flags else None, size=SIZE)
    remark = f"the first {n:,} of {length:,} tokens" if n < length else plural(n, "token")
    remark += ", the first one global" if pattern.sees_flags else ""
    if pattern.hashes is not None:
        remark += "; which of these pairs are seen depends on what the tokens hash to"
    return PatternPicture(
        pattern=pattern, name=str(pattern), svg=svg.replace("<svg ", f'<svg id="{name}" ', 1), remark=remark,
        places=_places(pattern, models), id=name,
    )  # fmt: skip


def _places(pattern: Pattern, models: Sequence[Architecture]) -> str:
    """The layers that have it: "A: layers 0–5"."""
    told = []
    for letter, one in zip("AB", models, strict=False):
        for of_decoder, what in ((False, "layers"), (True, "decoder layers")):
            layers = stack_layers(one, of_decoder)
            numbers = [
                i for i, layer in enumerate(layers) if layer.attention.heads and layer.attention.pattern == pattern
            ]
            if numbers:
                told.append(f"{f'{letter}: ' if len(models) > 1 else ''}{what} {spans(numbers)}")
    return "; ".join(told)
