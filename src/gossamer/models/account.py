"""What a model takes, part by part, told by its own modules on shapes alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from gossamer.errors import InputError
from gossamer.kernels.ledger import ID, Ledger, own_frame
from gossamer.layers import (
    CrossAttention,
    Cut,
    DistanceStates,
    DistanceWeights,
    FeedForwardNetwork,
    LayerNorm,
    RelativeStates,
    RMSNorm,
    Rotation,
    SelfAttention,
    SequenceSplit,
    SharedCut,
    account_branch,
    account_residual,
    cuts_of,
    rotation,
)
from gossamer.models.architecture import Architecture, Attention, Layer
from gossamer.models.decoder_stack import Decoder
from gossamer.models.heads import CausalLMHead, Seq2SeqLMHead, Tokens
from gossamer.models.heads.base import RECKONED_HEADS
from gossamer.models.model import Model
from gossamer.models.next_token import account_next_token_loss
from gossamer.models.stack import StackModules, norms_of
from gossamer.models.text_decoder import TextDecoder
from gossamer.patterns import Pattern

__all__ = ["account_model", "model_without_memory"]


def model_without_memory(architecture: Architecture) -> Model:
    """The modules of a model on the meta device, where they have shapes and no numbers."""
    with torch.device("meta"):
        return Model(architecture)


def account_model(
    model: Model, ledger: Ledger, rows: int, length: int, *, switched: bool = False, processes: int = 1
) -> None:
    """What `Model.forward` takes of `rows` texts of `length` tokens, with their loss where the ledger is a training's.

    Sections are named as the model's modules are. `switched`: with a `head_mask`. `processes`: so many split each text,
    and it is one of them that is told of. Raises InputError for a training without a head, or with one whose loss is
    not reckoned, and for a pattern that shares cannot be read under.
    """
    architecture = model.architecture
    cuts = _Cuts(architecture.slice_length, length, processes)
    with ledger.section("embeddings", "embeddings"):
        hidden = model.embeddings.account(rows, cuts.share, ledger)
        if processes > 1:  # ids are views of those of whole texts
            others = ledger.memory(ID * rows * (length - cuts.share))
            hidden = ledger.operation(hidden.shape, hidden.dtype, (hidden,), saves=(others,), hands_on=True)
    rotations = _rotations(architecture.layers, length, ledger, hidden.dtype)
    run = _Residual(hidden, ledger) if architecture.reversible == "no" else _Reversible(hidden, ledger)
    _account_layers(_Place(modules=model), architecture.layers, run, ledger, rotations, switched, cuts)
    hidden = run.states(model.architecture.output_size)
    if model.final_norm is not None:
        with ledger.section("norm", "final_norm", hidden):
            hidden = model.final_norm.account(hidden, ledger)
    hidden = ledger.dropout(hidden, architecture.final_dropout) if architecture.final_dropout else hidden
    if model.decoder is not None:
        hidden = _account_decoder(model, model.decoder, hidden, ledger, rows, length)
    if ledger.training:
        _account_loss(model, hidden, ledger)
    elif model.head is not None:
        with ledger.section("head", "head", hidden):
            model.head.account(hidden, Tokens(word_table=model.written_words), ledger)
    elif architecture.head is None and model.pooler is not None:
        with ledger.section("pooler", "pooler", hidden):
            model.pooler.account(ledger.operation((rows, hidden.shape[-1]), hidden.dtype, (hidden,)), ledger, "tanh")


Step = Callable[..., Tensor]
"""Of states and a ledger, and of the rows that are written (`own`), where those are not all."""
Norms = dict[str, LayerNorm | RMSNorm | None]
Cuts = Sequence[Cut] | SharedCut | None


class _Cuts:
    """How parts are cut: into slices of `size` rows, and for those that look around by the shares of processes."""

    def __init__(self, size: int | None, length: int, processes: int) -> None:
        self._size, self._length, self._processes = size, length, processes
        self.share = math.ceil(length / processes)

    def of(self, pattern: Pattern | None) -> Cuts:
        """Of a part under this pattern, or of one that reads each token by itself (None)."""
        if self._processes > 1 and pattern is not None:
            return self._fullest_share(pattern)
        return None if self._size is None else cuts_of(pattern, self.share, self._size, None)

    def _fullest_share(self, pattern: Pattern) -> SharedCut:
        """That of the process that reads most."""
        first = SequenceSplit(rank=0, count=self._processes).cut(pattern, self._length, packed=False)
        rank = max(range(self._processes), key=lambda i: _reads(first.cuts[i]))
        split = SequenceSplit(rank=rank, count=self._processes)
        return split.cut(pattern, self._length, packed=False, size=self._size)


def _reads(cut: Cut) -> int:
    """How many rows a slice reads."""
    return cut.high - cut.low + (0 if cut.places is None else cut.places.shape[1])


def _account_slices(step: Step, x: Tensor, cuts: Sequence[Cut], ledger: Ledger) -> Tensor:
    """What `step` gives slice by slice, of which a training keeps what all of them read."""
    rows, _, size = x.shape
    parts = []
    for cut in cuts:
        read, of_slice = ledger.view(x, rows, _reads(cut), size), partial(step, own=cut.own)
        parts.append(ledger.checkpoint(of_slice, read) if ledger.training else of_slice(read, ledger))
    return ledger.operation((rows, sum(one.shape[1] for one in parts), parts[0].shape[2]), parts[0].dtype, tuple(parts))


def _of_share(step: Step, share: SharedCut) -> tuple[Step, Step]:
    """How the rows that a process reads come to it, and what `step` gives of them for its own."""

    def gathered(x: Tensor, ledger: Ledger) -> Tensor:
        return ledger.operation((x.shape[0], _reads(share.whole), x.shape[2]), x.dtype, (x,))

    @own_frame
    def of_rows(x: Tensor, ledger: Ledger) -> Tensor:
        return _account_slices(step, x, share.slices, ledger) if share.slices else step(x, ledger, share.own)

    return gathered, of_rows


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
            if cuts is None or isinstance(cuts, SharedCut):
                reads = None
                if cuts is not None:
                    reads, step = _of_share(step, cuts)
                self._hidden = account_residual(
                    step, self._hidden, self._ledger, **norms, dropout=dropout, recompute=recompute, reads=reads
                )
                return

            @own_frame
            def of_slice(x: Tensor, ledger: Ledger, own: slice) -> Tensor:
                mine = ledger.view(x, x.shape[0], own.stop - own.start, x.shape[2])
                part = partial(step, own=own)
                return account_residual(
                    part, mine, ledger, **norms, dropout=dropout, recompute=False, reads=lambda _, ledger: x
                )

            self._hidden = _account_slices(of_slice, self._hidden, cuts, self._ledger)


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

            gathered: Step = lambda x, ledger: x  # noqa: E731
            if isinstance(cuts, SharedCut):
                (gathered, step), cuts = _of_share(step, cuts), None

            @own_frame
            def added(x: Tensor, ledger: Ledger, own: slice | None = None) -> Tensor:
                rows = ledger.to_dtype(gathered(x, ledger), self._dtype)
                part = step if own is None else partial(step, own=own)
                return account_branch(part, rows, ledger, **norms, dropout=dropout)

            source, target = self._source, self._target
            slices = [(_reads(cut), cut.own) for cut in cuts or ()]
            if self._ledger.training:
                total = self._ledger.reversible(added, source, target, slices)
            elif not slices:
                total = self._ledger.add(target, added(source, self._ledger))
            else:
                rows, _, size = source.shape
                read = [(self._ledger.view(source, rows, one, size), own) for one, own in slices]
                parts = [added(x, self._ledger, own) for x, own in read]
                total = self._ledger.operation(target.shape, target.dtype, (target, *parts))
            self._source, self._target = total, source


@dataclass(frozen=True, kw_only=True)
class _Place:
    """The modules of a stack, what their names begin with, and what its layers attend to beside their own states."""

    modules: StackModules
    prefix: str = ""
    other: Tensor | None = None


def _account_decoder(
    model: Model, decoder: TextDecoder, encoded: Tensor, ledger: Ledger, rows: int, length: int
) -> Tensor:
    """A second text as long as the first, or as the decoder reads; the states of the first are there all along."""
    ledger.hold(encoded)
    settings = cast(Decoder, model.architecture.decoder)
    written = min(length, settings.length)
    with ledger.section("embeddings", "decoder.embeddings", encoded):
        words = model.embeddings.word if settings.shared_words else None
        hidden = decoder.embeddings.account(rows, written, ledger, words)
    run, cuts = _Residual(hidden, ledger), _Cuts(None, written, 1)
    place = _Place(modules=decoder, prefix="decoder.", other=encoded)
    rotations = _rotations(settings.layers, written, ledger, hidden.dtype)
    _account_layers(place, settings.layers, run, ledger, rotations, False, cuts)
    hidden = run.states(model.architecture.hidden_size)
    if decoder.final_norm is not None:
        with ledger.section("norm", "decoder.final_norm", hidden):
            hidden = decoder.final_norm.account(hidden, ledger)
    return ledger.dropout(hidden, settings.final_dropout) if settings.final_dropout else hidden


def _account_layers(
    place: _Place,
    layers: Sequence[Layer],
    run: _Residual | _Reversible,
    ledger: Ledger,
    rotations: dict[tuple[int, float], Rotation],
    switched: bool,
    cuts: _Cuts,
) -> None:
    tables = [one.attention.distance_bias for one in layers]
    for i, layer in enumerate(layers):
        _account_layer(place, layer, run, ledger, rotations, switched, cuts)
        table = tables[i]
        if table is not None and all(one is None or one.weights != table.weights for one in tables[i + 1 :]):
            # Its gradient is there from the last layer on that reads it, the first in the backward pass.
            with ledger.section("attention", f"{place.prefix}distance_bias.{table.weights}"):
                pass


def _account_layer(
    place: _Place,
    layer: Layer,
    run: _Residual | _Reversible,
    ledger: Ledger,
    rotations: dict[tuple[int, float], Rotation],
    switched: bool,
    cuts: _Cuts,
) -> None:
    modules, prefix, settings = place.modules, place.prefix, layer.attention
    norm_place, feed_forward_place = layer.norm_places
    attention = cast(SelfAttention, modules.attention[settings.weights])
    feed_forward = cast(FeedForwardNetwork, modules.feed_forward[layer.feed_forward.weights])
    turned = None if settings.rotary is None else rotations[_turning(layer)]

    def attend(x: Tensor, ledger: Ledger, own: slice | None = None) -> Tensor:
        return attention.account(
            x, settings.pattern, ledger, settings.dropout, rotation=turned,
            by_distance=_account_distances(modules, settings, x.shape[1], ledger), switched=switched, own=own,
        )  # fmt: skip

    def feed(x: Tensor, ledger: Ledger, own: slice | None = None) -> Tensor:
        return feed_forward.account(x, ledger, layer.feed_forward.dropout, layer.feed_forward.chunk)

    run.add(
        "attention", f"{prefix}attention.{settings.weights}", None if attention.does_nothing else attend,
        norms_of(attention, norm_place), settings.residual_dropout, layer.recompute in ("attention", "both"),
        cuts.of(settings.pattern),
    )  # fmt: skip
    if layer.cross_attention is not None:
        _account_cross(place, layer, layer.cross_attention, run)
    run.add(
        "feed_forward", f"{prefix}feed_forward.{layer.feed_forward.weights}",
        None if feed_forward.does_nothing else feed, norms_of(feed_forward, feed_forward_place),
        layer.feed_forward.residual_dropout, layer.recompute in ("feed_forward", "both"), cuts.of(None),
    )  # fmt: skip


def _account_distances(
    modules: StackModules, settings: Attention, length: int, ledger: Ledger
) -> Tensor | DistanceStates | None:
    """What is added to the scores by distance, or the states that make it."""
    if settings.distance_bias is None:
        return None
    module = modules.distance_bias[settings.distance_bias.weights]
    if isinstance(module, RelativeStates):
        return module.account(length, ledger)
    return cast(DistanceWeights, module).account(ledger)


def _account_cross(place: _Place, layer: Layer, settings: Attention, run: _Residual | _Reversible) -> None:
    cross = cast(CrossAttention, cast(nn.ModuleList, place.modules.cross_attention)[settings.weights])
    other = cast(Tensor, place.other)

    def attend_across(x: Tensor, ledger: Ledger) -> Tensor:
        return cross.account(x, other, ledger, settings.dropout)

    run.add(
        "attention", f"{place.prefix}cross_attention.{settings.weights}", attend_across,
        norms_of(cross, layer.norm_places[0]), settings.residual_dropout, layer.recompute in ("attention", "both"),
        None,
    )  # fmt: skip


def _rotations(
    layers: Sequence[Layer], length: int, ledger: Ledger, dtype: torch.dtype
) -> dict[tuple[int, float], Rotation]:
    """What turns the heads, made once for all layers that turn alike, and there until the last one has."""
    kinds = {_turning(one) for one in layers if one.attention.rotary is not None}
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
    settings = model.architecture.head
    words = model.written_words
    if settings is None:
        raise InputError(f"the model has no head; {RECKONED_HEADS}")
    with ledger.section("loss", "head", hidden):
        if isinstance(model.head, CausalLMHead):
            account_next_token_loss(hidden, model.head.table(words), ledger)
        elif isinstance(model.head, Seq2SeqLMHead):
            account_next_token_loss(*model.head.account_factors(hidden, words, ledger), ledger)
        elif model.head is None:
            settings.account_loss(hidden, ledger)
        else:
            settings.account_loss(model.head.account(hidden, Tokens(word_table=words), ledger), ledger)
