"""A model built anew by a recipe: fitted to a public format where one can hold it, with what the old one brings."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from gossamer.families import Family, family_for
from gossamer.models.architecture import Architecture, Embeddings, of_any_layer
from gossamer.models.heads import (
    Head,
    MultipleChoice,
    QuestionAnswering,
    SequenceClassification,
    TokenClassification,
)
from gossamer.models.model import Model

__all__ = ["fit", "fit_positions", "rebuild", "why_own_format"]


def fit(architecture: Architecture, family: Family) -> tuple[Architecture, list[str]]:
    """The same model with what does not change its outputs as the format has it, if then that can hold it.

    That is one dropout rate for all parts, the embeddings', and a table of token types. Else the architecture as it
    is, and what stands in the way (`Family.obstacles`).
    """
    rate = architecture.embeddings.dropout
    layers = tuple(
        dataclasses.replace(
            layer,
            attention=dataclasses.replace(layer.attention, residual_dropout=rate),
            feed_forward=dataclasses.replace(layer.feed_forward, residual_dropout=rate),
        )
        for layer in architecture.layers
    )
    # A tokenizer gives the second of two texts type 1, whether or not the model had types to read.
    embeddings = dataclasses.replace(architecture.embeddings, token_types=architecture.embeddings.token_types or 2)
    head = _with_dropout(architecture.head, rate)
    fitted = dataclasses.replace(architecture, layers=layers, embeddings=embeddings, head=head)
    obstacles = family.obstacles(fitted)
    return (architecture if obstacles else fitted), obstacles


def fit_positions(architecture: Architecture, family: Family) -> tuple[Architecture, list[str]]:
    """The same model of two texts without rows before position 0, where `family` can then hold it; else as it is."""
    decoder = architecture.decoder
    assert decoder is not None
    fitted = dataclasses.replace(
        architecture,
        embeddings=_from_zero(architecture.embeddings),
        decoder=dataclasses.replace(decoder, embeddings=_from_zero(decoder.embeddings)),
    )
    obstacles = family.obstacles(fitted)
    return (architecture if obstacles else fitted), obstacles


def _from_zero(embeddings: Embeddings) -> Embeddings:
    return dataclasses.replace(embeddings, positions=dataclasses.replace(embeddings.positions, offset=0))


def why_own_format(family: str, wanted: str, obstacles: list[str]) -> tuple[str, ...]:
    """Why the format is `family` and not the `wanted` one, in a line for the receipt; none without obstacles."""
    if not obstacles:
        return ()
    listed = list(dict.fromkeys(map(of_any_layer, obstacles)))
    more = f"; and {len(listed) - 2} more" if len(listed) > 2 else ""
    return (f"format {family}; {wanted}'s cannot hold this model: {'; '.join(listed[:2])}{more}",)


def rebuild(
    model: Model, architecture: Architecture, new_weights: Mapping[str, Tensor], source: Callable[[str], str]
) -> Model:
    """A model of this architecture in the mode of the given one, which is left as it was.

    Its weights are those of `new_weights` by name, and copies of the old ones for all others: of the same name or,
    where the old model has none, of the name `source(name)`. Format, tokenizer, settings, source, card and notes go
    along; the tokenizer's limit is the new length where that is another.
    """
    family = family_for(architecture, model.family).model_type
    tokenizer = model.tokenizer
    if tokenizer is not None and architecture.length != model.architecture.length:
        tokenizer = tokenizer.with_max_length(architecture.length)
    with torch.device("meta"):
        new = Model(architecture, family=family, tokenizer=tokenizer)
    new.extra_config = copy.deepcopy(model.extra_config)
    new.generation_config = copy.deepcopy(model.generation_config)
    new.usual_end_id = model.usual_end_id
    new.source, new.card, new.notes = model.source, dict(model.card), list(model.notes)
    have = model.state_dict()
    weights = dict(new_weights)
    for name in new.state_dict().keys() - weights.keys():
        weights[name] = have[name if name in have else source(name)].detach().clone()
    new.load_state_dict(weights, assign=True)
    return new.train(model.training)


def _with_dropout(head: Head | None, rate: float) -> Head | None:
    match head:
        case SequenceClassification():
            return dataclasses.replace(head, dropout=rate, input_dropout=rate)
        case TokenClassification() | MultipleChoice():
            return dataclasses.replace(head, dropout=rate)
        case QuestionAnswering():
            return dataclasses.replace(head, dropout=0.0)
        case _:
            return head
