"""What a model takes, part by part, told by its own modules on shapes alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor

from gossamer.errors import InputError
from gossamer.kernels.ledger import Ledger, own_frame
from gossamer.layers import (
    Cut,
    DistanceWeights,
    FeedForwardNetwork,
    LayerNorm,
    RMSNorm,
    Rotation,
    SelfAttention,
    account_branch,
    account_residual,
    cuts_of,
    rotation,
)
from gossamer.models.architecture import Architecture, Layer
from gossamer.models.heads import CausalLMHead, Tokens
from gossamer.models.heads.base import RECKONED_HEADS
from gossamer.models.model import Model
from gossamer.models.next_token import account_next_token_loss
from gossamer.models.stack import norms_of
from gossamer.patterns import Pattern

__all__ = ["account_model", "model_without_memory"]


def model_without_memory(architecture: Architecture) -> Model:
    """The modules of a model on the meta device, where they have shapes and no numbers."""
    with torch.device("meta"):
        return Model(architecture)


def account_model(model: Model, ledger: Ledger, rows: int, length: int, *, switched: bool = False) -> None:
    """What `Model.forward` takes of `rows` texts of `length` tokens, with their loss where the ledger is a training's.

    Sections are named as the model's modules are. `switched`: with a `head_mask`. Raises InputError for a training
    without a head, or with one whose loss is not reckoned.
    """
    architecture = model.architecture
    with ledger.section("embeddings", "embeddings"):
        hidden = model.embeddings.account(rows, length, ledger)
    rotations = _rotations(architecture, length, ledger, hidden.dtype)
    tables = [one.attention.distance_bias for one in architecture.layers]
    run = _Residual(hidden, ledger) if architecture.reversible == "no" else _Reversible(hidden, ledger)
    for i, layer in enumerate(architecture.layers):
        _account_layer(model, layer, run, ledger, rotations, switched, length)
        table = tables[i]
        if table is not None and all(one is None or one.weights != table.weights for one in tables[i + 1 :]):
            # Its gradient is there from the last layer on that reads it, the first in the backward pass.
            with ledger.section("attention", f"distance_bias.{table.weights}"):
                pass
    hidden = run.states(model.architecture.output_size)
    if model.final_norm is not None:
        with ledger.section("norm", "final_norm", hidden):
            hidden = model.final_norm.account(hidden, ledger)
    if ledger.training:
        _account_loss(model, hidden, ledger)
    elif model.head is not None:
        with ledger.section("head", "head", hidden):
            model.head.account(hidden, Tokens(word_table=model.embeddings.word.weight), ledger)
    elif architecture.head is None and model.pooler is not None:
        with ledger.section("pooler", "pooler", hidden):
            model.pooler.account(ledger.operation((rows, hidden.shape[-1]), hidden.dtype, (hidden,)), ledger, "tanh")


Step = Callable[[Tensor, Ledger], Tensor]
Norms = dict[str, LayerNorm | RMSNorm | None]
Cuts = Sequence[Cut] | None


def _reads(cut: Cut) -> int:
    """How many rows a slice reads."""
    return cut.high - cut.low + (0 if cut.places is None else cut.places.shape[1])


class _Residual:
    """Parts added to one stream of states."""

    def __init__(self, hidden: Tensor, ledger: Ledger) -> None:
        self._hidden, self._ledger = hidden, ledger

    def states(self, size: int) -> Tensor:
        """The last ones."""
        return self._hidden

    def add(
        self, kind: str, owner: str, step: Step | None, norms: Norms, dropout: float, recompute: bool, cuts: Cuts
    ) -> None:
        """A part in a section of its own; None for one that does nothing."""
        with self._ledger.section(kind, owner, self._hidden):
            if step is None:
                return
            if cuts is None:
                self._hidden = account_residual(
                    step, self._hidden, self._ledger, **norms, dropout=dropout, recompute=recompute
                )
                return
            rows, _, size = self._hidden.shape

            @own_frame
            def of_slice(x: Tensor, ledger: Ledger) -> Tensor:
                return account_residual(step, x, ledger, **norms, dropout=dropout, recompute=False)

            parts = []
            for cut in cuts:
                read = self._ledger.view(self._hidden, rows, _reads(cut), size)
                known = self._ledger.training
                out = self._ledger.checkpoint(of_slice, read) if known else of_slice(read, self._ledger)
                parts.append(self._ledger.view(out, rows, cut.stop - cut.start, size))
            self._hidden = self._ledger.operation(self._hidden.shape, parts[0].dtype, tuple(parts))


class _Reversible:
    """Parts added to two streams in turn, of which nothing is kept."""

    def __init__(self, hidden: Tensor, ledger: Ledger) -> None:
        wide = torch.promote_types(hidden.dtype, torch.float32)
        with ledger.section("norm", "streams", hidden):
            self._source = self._target = ledger.to_dtype(hidden, wide)
        self._ledger, self._dtype = ledger, hidden.dtype

    def states(self, size: int) -> Tensor:
        """What is read in the end, for which both streams are kept."""
        with self._ledger.section("norm", "streams", self._source, self._target):
            streams = (self._source, self._target)
            return self._ledger.operation((*streams[0].shape[:-1], size), self._dtype, streams, saves=streams)

    def add(
        self, kind: str, owner: str, step: Step | None, norms: Norms, dropout: float, recompute: bool, cuts: Cuts
    ) -> None:
        """A part in a section of its own; None for one that does nothing."""
        with self._ledger.section(kind, owner, self._source, self._target):
            if step is None:
                self._source, self._target = self._target, self._source
                return

            @own_frame
            def added(x: Tensor, ledger: Ledger) -> Tensor:
                return account_branch(step, ledger.to_dtype(x, self._dtype), ledger, **norms, dropout=dropout)

            source, target = self._source, self._target
            reads = [_reads(cut) for cut in cuts or ()]
            if self._ledger.training:
                total = self._ledger.reversible(added, source, target, reads)
            elif not reads:
                total = self._ledger.add(target, added(source, self._ledger))
            else:
                rows, _, size = source.shape
                parts = [added(self._ledger.view(source, rows, one, size), self._ledger) for one in reads]
                total = self._ledger.operation(target.shape, target.dtype, (target, *parts))
            self._source, self._target = total, source


def _account_layer(
    model: Model,
    layer: Layer,
    run: _Residual | _Reversible,
    ledger: Ledger,
    rotations: dict[tuple[int, float], Rotation],
    switched: bool,
    length: int,
) -> None:
    settings, (place, feed_forward_place) = layer.attention, layer.norm_places
    attention = cast(SelfAttention, model.attention[settings.weights])
    feed_forward = cast(FeedForwardNetwork, model.feed_forward[layer.feed_forward.weights])
    table = None
    if settings.distance_bias is not None:
        table = cast(DistanceWeights, model.distance_bias[settings.distance_bias.weights]).account(ledger)
    turned = None if settings.rotary is None else rotations[_turning(layer)]

    def attend(x: Tensor, ledger: Ledger) -> Tensor:
        return attention.account(
            x, settings.pattern, ledger, settings.dropout, rotation=turned, distance_table=table, switched=switched
        )

    def feed(x: Tensor, ledger: Ledger) -> Tensor:
        return feed_forward.account(x, ledger, layer.feed_forward.dropout, layer.feed_forward.chunk)

    def cut(pattern: Pattern | None) -> Cuts:
        size = model.architecture.slice_length
        return None if size is None else cuts_of(pattern, length, size, None)

    run.add(
        "attention", f"attention.{settings.weights}", None if attention.does_nothing else attend,
        norms_of(attention, place), settings.residual_dropout, layer.recompute in ("attention", "both"),
        cut(settings.pattern),
    )  # fmt: skip
    run.add(
        "feed_forward", f"feed_forward.{layer.feed_forward.weights}", None if feed_forward.does_nothing else feed,
        norms_of(feed_forward, feed_forward_place), layer.feed_forward.residual_dropout,
        layer.recompute in ("feed_forward", "both"), cut(None),
    )  # fmt: skip


def _rotations(
    architecture: Architecture, length: int, ledger: Ledger, dtype: torch.dtype
) -> dict[tuple[int, float], Rotation]:
    """What turns the heads, made once for all layers that turn alike, and there until the last one has."""
    kinds = {_turning(one) for one in architecture.layers if one.attention.rotary is not None}
    places = torch.empty(1, length, dtype=torch.int64, device="meta")
    rotations = {kind: rotation(places, *kind, ledger.autocast or dtype) for kind in kinds}
    ledger.hold(*(x for one in rotations.values() for x in (one.cosine, one.sine)))
    return rotations


def _turning(layer: Layer) -> tuple[int, float]:
    """How many columns of each head turn, and by which base."""
    rotary = layer.attention.rotary
    assert rotary is not None
    return rotary.columns(layer.attention.head_size), rotary.base


def _account_loss(model: Model, hidden: Tensor, ledger: Ledger) -> None:
    settings, words = model.architecture.head, model.embeddings.word.weight
    if settings is None:
        raise InputError(f"the model has no head; {RECKONED_HEADS}")
    with ledger.section("loss", "head", hidden):
        if isinstance(model.head, CausalLMHead):
            account_next_token_loss(hidden, model.head.table(words), ledger)
        elif model.head is None:
            settings.account_loss(hidden, ledger)
        else:
            settings.account_loss(model.head.account(hidden, Tokens(word_table=words), ledger), ledger)
