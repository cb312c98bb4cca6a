"""Tasks: text of any length in, an answer out."""

from __future__ import annotations

from gossamer.errors import InputError, quote
from gossamer.models.encoder import Model
from gossamer.tasks.embed import Embed, Embeddings

__all__ = ["TASKS", "Embed", "Embeddings", "task"]

TASKS = {"embed": Embed}


def task(name: str, model: Model) -> Embed:
    """The task of this name, ready to be called with text. Raises InputError for an unknown name."""
    if not isinstance(name, str) or name not in TASKS:
        raise InputError(f"task is {quote(name)}; it must be one of {', '.join(sorted(TASKS))}")
    return TASKS[name](model)
