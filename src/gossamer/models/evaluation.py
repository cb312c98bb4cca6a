"""Asking a model something without changing it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from gossamer.models.encoder import Model

__all__ = ["evaluating"]


@contextmanager
def evaluating(model: Model) -> Iterator[Model]:
    """The model in evaluation mode; afterwards every part is in the mode it was in, parts frozen by hand too."""
    modes = [(part, part.training) for part in model.modules()]
    model.eval()
    try:
        yield model
    finally:
        for part, training in modes:
            part.training = training
