"""The check of a public function's argument `model`."""

from os import PathLike
from typing import Any

from gossamer.errors import InputError, quote
from gossamer.models.model import Model

__all__ = ["check_model", "check_one_text"]


def check_model(model: Any) -> Model:
    """The model; InputError for what is none. For a path or an id the remedy is to load it."""
    if isinstance(model, str | PathLike):
        raise InputError(f"model is {quote(model)}, which names one; load it first: gossamer.load({quote(str(model))})")
    if not isinstance(model, Model):
        raise InputError(f"model is {quote(model)}, no model; give what gossamer.load or gossamer.lengthen returned")
    return model


def check_one_text(model: Model, what: str) -> None:
    """InputError where a model has a decoder for a second text, which is not yet taken by `what`."""
    if model.decoder is not None:
        raise InputError(
            f"the model reads one text and writes another (family {quote(model.family)}); {what} takes models of one "
            "text so far"
        )
