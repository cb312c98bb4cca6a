"""What the classes for other libraries share: a model by name or as it is, and the task that embeds with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gossamer.checkpoints import load
from gossamer.models import Model
from gossamer.tasks import task

__all__ = ["embedder", "vectors"]


def embedder(model: Model | str | Path) -> Any:
    """The task `embed` of a model, or of the one of this name."""
    return task("embed", model if isinstance(model, Model) else load(model))


def vectors(embed: Any, texts: list[str], kind: str, options: dict[str, Any]) -> list[list[float]]:
    """A vector for each text, [texts][size]; kind: "query" or "document", whose prompt is put before each.

    That is the model's prompt of this name, where it has one and `options` asks for no other.
    """
    names = ("document", "passage", "corpus") if kind == "document" else (kind,)
    found: list[list[float]] = embed(texts, **embed.with_prompt(options, *names)).vectors.tolist() if texts else []
    return found
