"""Options of `gossamer.prune` that one way of pruning reads and another does not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gossamer.recipes.left_out import require_left_out

__all__ = ["check_read"]

_OF_A_TRAINING: dict[str, Any] = {
    "evaluate": None, "refine": True, "teacher": None, "epochs": 6, "output": None, "learning_rate": 5e-5,
    "resume": "auto",
}  # fmt: skip
_OF_ROWS: dict[str, Any] = {"head": None, "columns": {}, "batch": 16, "length": None, "settings": {}}
_OF_A_SCORE: dict[str, Any] = {
    "score": "movement", "structure": "weight", "keep": 0.1, "scope": "layer", "block": (32, 32), "seed": 0,
}  # fmt: skip
"""What is read by one way or another, and its value where nobody named it."""


def check_read(options: Mapping[str, Any], way: str) -> None:
    """InputError for an option that was given and that this way does not read.

    way: "named", what to remove by name; "at once", by weights alone; "calibrated", by some rows; "training".
    """
    why, unread = {
        "named": ("heads, neurons or layers are named", _OF_A_SCORE | _OF_A_TRAINING | _OF_ROWS | {"samples": 128}),
        "at once": ("there is nothing to learn from (train)", _OF_A_TRAINING | _OF_ROWS | {"samples": 128}),
        "calibrated": (f"{options['score']!r} reads rows without training", _OF_A_TRAINING),
        "training": ("a training reads all rows", {"samples": 128}),
    }[way]
    require_left_out(options, unread, why)
