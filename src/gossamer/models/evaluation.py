"""Asking a model something without changing it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from gossamer.models.model import Model

__all__ = ["evaluating", "reading_whole", "without_head"]


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


@contextmanager
def reading_whole(model: Model) -> Iterator[Model]:
    """The model without slices and chunks, for who looks at what its parts read: each part runs once, on all tokens."""
    described = model.architecture
    whole = described.with_layers(lambda one: replace(one, feed_forward=replace(one.feed_forward, chunk=None)))
    model.architecture = replace(whole, slice_length=None)
    try:
        yield model
    finally:
        model.architecture = described


def without_head(model: Model) -> Model:
    """The same modules without head and pooler: scores of all tokens under a large vocabulary would fill the memory."""
    body = copy.copy(model)
    body._modules = {**model._modules, "head": None, "pooler": None}
    body.architecture = replace(model.architecture, head=None, pooler=False)
    return body
