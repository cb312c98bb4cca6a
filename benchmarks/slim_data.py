"""What benchmarks/slim.py learns and is judged on: sentences of film reviews, good or bad."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from material import reviews

LABELS = ("bad", "good")


@dataclass(frozen=True, kw_only=True)
class Sentences:
    """Rows of `text` and `label`, no text in both parts."""

    train: list[dict[str, Any]]
    test: list[dict[str, Any]]


def film_reviews(train: int | None, test: int) -> Sentences:
    """The sentences by the sign of their mean rating, without those of 0; a hash decides which are for testing."""
    labels = {text: LABELS[rating > 0] for text, rating in reviews() if rating != 0}
    ordered = sorted(labels, key=lambda text: hashlib.sha256(text.encode()).digest())
    rows = [{"text": text, "label": labels[text]} for text in ordered]
    return Sentences(train=rows[test:][:train], test=rows[:test])
