"""What the demo reads: shipped speeches, and passages cut from them that must find their way back."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import numpy as np

from gossamer.errors import InputError
from gossamer.models.model import Model
from gossamer.text import Speech, passages, speeches

__all__ = ["Material", "Tokens", "check_draw", "draw_material"]

PASSAGES = 4
WORDS = 100

Tokens = tuple[list[int], list[tuple[int, int]]]
"""Ids of a text's tokens, without special ones, and the characters that each stands for."""


@dataclass(frozen=True, kw_only=True)
class Material:
    """The speeches drawn, their tokens, and the passages: `passage_of[i]` is the speech that passage i was cut from."""

    speeches: list[Speech]
    tokens: list[Tokens]
    passages: list[str]
    passage_tokens: list[Tokens]
    passage_of: list[int]

    def describe(self) -> dict[str, Any]:
        """What was drawn, in numbers."""
        lengths = [len(ids) for ids, _ in self.tokens]
        return {
            "text": "State of the Union addresses, 1790 on (CC0)",
            "speeches": len(self.speeches),
            "years": [self.speeches[0].year, self.speeches[-1].year],
            "tokens": sum(lengths),
            "median_tokens": float(np.median(lengths)),
            "longest_tokens": max(lengths),
            "passages": len(self.passages),
            "words_a_passage": WORDS,
        }


def check_draw(count: int | None, seed: int) -> None:
    """Refuse a number of speeches that cannot be drawn, and seeds that are none."""
    most = len(speeches())
    if count is not None and not 2 <= count <= most:
        raise InputError(f"--speeches is {count}; it must be from 2 to {most}")
    if not 0 <= seed < 2**32:
        raise InputError(f"--seed is {seed}; it must be from 0 to {2**32 - 1}")


def draw_material(model: Model, count: int | None, seed: int) -> Material:
    """Draw `count` speeches (None: all) in the order of their years, and four 100-word passages from each.

    The same seed draws the same.
    """
    every = speeches()
    chosen = range(len(every)) if count is None else sorted(random.Random(seed).sample(range(len(every)), count))
    drawn = [every[i] for i in chosen]
    rng = np.random.default_rng(seed)
    cut = [(i, one) for i, speech in enumerate(drawn) for one in passages(speech.text, WORDS, PASSAGES, rng)]
    return Material(
        speeches=drawn,
        tokens=[model.tokenizer.encode_plain(one.text) for one in drawn],
        passages=[one for _, one in cut],
        passage_tokens=[model.tokenizer.encode_plain(one) for _, one in cut],
        passage_of=[i for i, _ in cut],
    )
