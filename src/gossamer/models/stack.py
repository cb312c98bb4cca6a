"""A stack of layers that runs alone: over states, what is known of their tokens, a memory, and other states."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, cast, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from gossamer.errors import InputError
from gossamer.kernels.autocast import autocasting
from gossamer.kernels.distance_bias import DistanceBias
from gossamer.kernels.torch_state import in_transform
from gossamer.layers import (
    CrossAttention,
    CrossKeyValueCache,
    Cut,
    DistanceStates,
    DistanceWeights,
    FeedForwardNetwork,
    KeyValueCache,
    LayerNorm,
    Moments,
    OtherStates,
    RelativeStates,
    RMSNorm,
    Rotation,
    SelfAttention,
    SequenceSplit,
    SharedCut,
    Streams,
    TokenInfo,
    add_reversibly,
    branch,
    count_positions,
    cuts_of,
    in_slices,
    residual,
    residual_in_slices,
    rotation,
    with_all_of,
)
from gossamer.models.architecture import Layer, Norm, RelativePositions, check_weight_sets
from gossamer.models.building import (
    build_attention,
    build_cross_attention,
    build_distance_bias,
    build_feed_forward,
    norm_module,
)
from gossamer.models.cache import StackCache
from gossamer.models.settings import NormPlace, Reversible
from gossamer.patterns import Pattern

__all__ = [
    "LayerInputs",
    "Part",
    "Stack",
    "StackModules",
    "check_distances",
    "drops",
    "layer_parts",
    "norms_of",
    "run_layers",
]

States = Float[Tensor, "batch length hidden"]
AnyCut = Cut | SharedCut


@runtime_checkable
class StackModules(Protocol):
    """Whoever holds the modules of a stack, one for each weight set: a `Stack`, or a model with these as its own."""

    attention: nn.ModuleList
    cross_attention: nn.ModuleList | None
    distance_bias: nn.ModuleList
    feed_forward: nn.ModuleList
    final_norm: LayerNorm | RMSNorm | None
    training: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerInputs:
    """What one layer is run with, beside states: its tokens, what turns its heads, what is added to scores by distance,
    how much of each head counts, what it keeps of earlier tokens, the states that it may attend to, and what it keeps
    of those.
    """

    tokens: TokenInfo
    rotation: Rotation | None = None
    head_mask: Float[Tensor, "heads"] | None = None
    memory: KeyValueCache | None = None
    other: OtherStates | None = None
    cross_memory: CrossKeyValueCache | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a layer, with what `residual` puts around it. reads: tells all that it reads, its input apart.

    does_nothing: it leaves the states as they are. cuts: the slices that it runs in, of which `run` is handed one.
    """

    run: Callable[[Tensor, AnyCut | None], Tensor]
    norms: dict[str, LayerNorm | RMSNorm | None]
    dropout: float
    recompute: bool
    reads: Callable[[], Iterable[Tensor]]
    does_nothing: bool = False
    cuts: Sequence[AnyCut] | None = None


class Stack(nn.Module):
    """Layers of `hidden_size` with weights of their own, and a norm of the last states where there is a `final_norm`.

    It has no embeddings and no head: states come in, states go out. Weights are torch's fresh ones, for whoever holds
    the stack to draw. `length`: how many tokens of a text its cache takes. Raises InputError for weight sets that are
    numbered with gaps, and for layers that share one without agreeing on its shape.
    """

    def __init__(
        self, hidden_size: int, layers: Sequence[Layer], *, length: int, final_norm: Norm | None = None
    ) -> None:
        super().__init__()
        check_weight_sets(layers)
        self.layers = tuple(layers)
        self.length = length
        self.attention = nn.ModuleList(build_attention(hidden_size, layers))
        self.cross_attention: nn.ModuleList | None = nn.ModuleList(build_cross_attention(hidden_size, layers))
        self.distance_bias = nn.ModuleList(build_distance_bias(hidden_size, layers))
        self.feed_forward = nn.ModuleList(build_feed_forward(hidden_size, layers))
        self.final_norm = None if final_norm is None else norm_module(final_norm, hidden_size)

    def cache(self) -> StackCache:
        """An empty memory for a batch of texts; InputError where a layer's pattern looks ahead."""
        return StackCache(self.layers, self.length)

    def forward(
        self,
        states: States,
        tokens: TokenInfo | None = None,
        *,
        other: OtherStates | None = None,
        cache: StackCache | None = None,
        head_mask: Float[Tensor, "layers heads"] | None = None,
        keep_all: bool = False,
    ) -> list[States]:
        """The last states, [batch, length, hidden], as a list of one; `keep_all`: those that came in, every layer's.

        Positions are counted from 0 in each document, after the tokens of a `cache`, where `tokens` has none. `other`
        states are needed by layers with cross-attention: with a cache at its first call, and at no later one. Raises
        InputError for other states too many or too few, and for segments or dropout with a cache.
        """
        tokens = TokenInfo() if tokens is None else tokens
        if cache is not None:
            if tokens.segments is not None:
                raise InputError("segments were given with a cache, which holds one text a row; leave one of them out")
            if self.training and drops(self.layers):
                raise InputError("the stack is in training mode, and a cache has no dropout: call stack.eval()")
            check_distances(self.layers, tokens.positions, "positions")
            counted = cache.position_ids(states.shape[:2], tokens.key_mask).to(states.device)
        else:
            every = torch.ones(states.shape[:2], dtype=torch.bool, device=states.device)
            counted = count_positions(every, tokens.segments) - 1
        if tokens.positions is None:
            tokens = replace(tokens, positions=counted)
        return run_layers(
            self, self.layers, states, tokens, other=other, cache=cache, head_mask=head_mask, keep_all=keep_all
        )


def run_layers(
    modules: StackModules,
    layers: Sequence[Layer],
    states: States,
    tokens: TokenInfo,
    *,
    other: OtherStates | None = None,
    cache: StackCache | None = None,
    head_mask: Float[Tensor, "layers heads"] | None = None,
    keep_all: bool = False,
    reversible: Reversible = "no",
    slice_length: int | None = None,
    split: SequenceSplit | None = None,
) -> list[States]:
    """Run layers in order: what `Stack.forward` gives. With a `cache` its call has begun, and ends here.

    slice_length: so many tokens at once go through a part that sees no farther than it is bound to. split: the states
    are those of this process's tokens, `tokens` tell of all.
    """
    _check_other(layers, other, cache)
    rotations = _rotations(layers, tokens.positions, states)
    run = _Residual(states) if reversible == "no" else _Reversible(states, reversible)
    slices = _Slices(None if cache is not None else slice_length, states, tokens, split)
    earlier = []
    del states  # nobody but a layer that reads it, or `keep_all`, holds a state
    for i, layer in enumerate(layers):
        if keep_all:
            earlier.append(run.states)
        inputs = LayerInputs(
            tokens=tokens,
            rotation=rotations.get(_turning(layer)),
            head_mask=None if head_mask is None else head_mask[i, : layer.attention.heads],
            memory=None if cache is None else cache.memories[i],
            other=other,
            cross_memory=None if cache is None else cache.cross_memory(layer),
        )
        for part in layer_parts(modules, layer, inputs, slices):
            run.add(part, part.dropout if modules.training else 0.0)
    hidden = run.states
    if modules.final_norm is not None:
        hidden = modules.final_norm(hidden)
    if cache is not None:
        cache.finish()
    if reversible != "no":
        earlier = [with_all_of(one, hidden) for one in earlier]
    return [*earlier, hidden]


class _Residual:
    """Parts added to one stream of states."""

    def __init__(self, states: States) -> None:
        self.states, self._moments = states, Moments()

    def add(self, part: Part, dropout: float) -> None:
        if part.does_nothing:
            return
        if part.cuts is not None:
            again = part.recompute or isinstance(part.cuts[0], Cut)
            self.states = residual_in_slices(
                part.run, self.states, part.cuts, part.reads, self._moments, **part.norms, dropout=dropout,
                recompute=again,
            )  # fmt: skip
            return
        run = part.run
        self.states = residual(
            lambda x: run(x, None), self.states, **part.norms, dropout=dropout, recompute=part.recompute
        )


class _Reversible:
    """Parts added to two streams in turn, of which nothing is kept."""

    def __init__(self, states: States, joined: Reversible) -> None:
        self._streams, self._joined, self._dtype = Streams.of(states), joined, states.dtype

    @property
    def states(self) -> States:
        first, second = self._streams.pair
        both = (first + second) / 2 if self._joined == "mean" else torch.cat([first, second], -1)
        return both.to(self._dtype)

    def add(self, part: Part, dropout: float) -> None:
        if part.does_nothing:
            self._streams.swap()
            return

        dtype = self._dtype  # a closure that held `self` would hold the streams' history

        def added(x: Tensor, cut: AnyCut) -> Tensor:
            known = None if part.cuts is None else cut
            return branch(lambda rows: part.run(rows, known), x.to(dtype), **part.norms, dropout=dropout)

        add_reversibly(self._streams, added, part.reads, part.cuts)


class _Slices:
    """How the parts of a stack are cut, found once for each pattern."""

    def __init__(self, size: int | None, states: Tensor, tokens: TokenInfo, split: SequenceSplit | None) -> None:
        is_whole = size is None or torch.compiler.is_compiling() or in_transform()
        length, self._device = states.shape[1], states.device
        self._size, self._length = None if is_whole else size, length
        cuts = split is not None or (self._size is not None and self._size < length)
        self._segments = tokens.segments if cuts and _shares_rows(tokens) else None
        self._split, self._all = split, 0 if tokens.positions is None else tokens.positions.shape[-1]
        self._known: dict[Pattern | None, Sequence[AnyCut] | None] = {}

    def of(self, pattern: Pattern | None) -> Sequence[AnyCut] | None:
        """Of a part under this pattern, or of one that reads each token by itself (None)."""
        if self._split is not None and pattern is not None:
            if pattern not in self._known:
                packed = self._segments is not None
                self._known[pattern] = [self._split.cut(pattern, self._all, packed, self._device, self._size)]
            return self._known[pattern]
        if self._size is None:
            return None
        if pattern not in self._known:
            self._known[pattern] = cuts_of(pattern, self._length, self._size, self._segments, self._device)
        return self._known[pattern]


def _shares_rows(tokens: TokenInfo) -> bool:
    """Whether several documents lie in a row, padding apart."""
    if tokens.segments is None:
        return False
    others = tokens.segments != tokens.segments[:, :1]
    return bool((others if tokens.key_mask is None else others & tokens.key_mask).any())


def layer_parts(
    modules: StackModules, layer: Layer, inputs: LayerInputs, slices: _Slices | None = None
) -> Iterator[Part]:
    """The parts of a layer in their order: attention, that to other states where it has it, feed-forward."""
    # A memory would take its tokens a second time.
    again = layer.recompute if inputs.memory is None else "nothing"
    place, feed_forward_place = layer.norm_places
    yield _attention_part(modules, layer, inputs, slices, again in ("attention", "both"))
    if layer.cross_attention is not None:
        crossing = layer.cross_attention
        cross = cast(CrossAttention, cast(nn.ModuleList, modules.cross_attention)[crossing.weights])

        def attend_across(x: Tensor, cut: AnyCut | None = None) -> Tensor:
            return cross(
                x, inputs.tokens, inputs.other, crossing.dropout, scale=crossing.scale, memory=inputs.cross_memory
            )

        yield Part(
            attend_across, norms_of(cross, place), crossing.residual_dropout, again in ("attention", "both"),
            reads=lambda: (*cross.parameters(), *_present(None if inputs.other is None else inputs.other.states)),
        )  # fmt: skip
    feed_forward = cast(FeedForwardNetwork, modules.feed_forward[layer.feed_forward.weights])

    def feed(x: Tensor, cut: AnyCut | None = None) -> Tensor:
        return feed_forward(x, layer.feed_forward.dropout, layer.feed_forward.chunk)

    yield Part(
        feed, norms_of(feed_forward, feed_forward_place), layer.feed_forward.residual_dropout,
        again in ("feed_forward", "both"), reads=feed_forward.parameters,
        does_nothing=feed_forward.does_nothing, cuts=None if slices is None else slices.of(None),
    )  # fmt: skip


def _attention_part(
    modules: StackModules, layer: Layer, inputs: LayerInputs, slices: _Slices | None, recompute: bool
) -> Part:
    settings = layer.attention
    attention = cast(SelfAttention, modules.attention[settings.weights])

    def reads() -> tuple[Tensor, ...]:
        return (*attention.parameters(), *_distances_read(modules, layer), *_present(inputs.head_mask))

    def attend_to(x: Tensor, cut: AnyCut, tokens: TokenInfo, rotation: Rotation | None) -> Tensor:
        return attention(
            x, settings.pattern, cut.tokens(tokens, len(x)), settings.dropout, scale=settings.scale,
            head_mask=inputs.head_mask, rotation=cut.turned(rotation), own=cut.own, pattern_positions=cut.positions,
        )  # fmt: skip

    def attend(x: Tensor, cut: AnyCut | None = None) -> Tensor:
        if isinstance(cut, SharedCut) and cut.slices:
            tokens, rotation = cut.tokens(inputs.tokens, len(x)), cut.turned(inputs.rotation)
            return in_slices(lambda rows, one: attend_to(rows, one, tokens, rotation), x, cut.slices, reads)
        if cut is not None:
            return attend_to(x, cut, inputs.tokens, inputs.rotation)
        return attention(
            x, settings.pattern, inputs.tokens, settings.dropout, scale=settings.scale, memory=inputs.memory,
            head_mask=inputs.head_mask, rotation=inputs.rotation,
            distance_bias=_distance_bias(modules, layer, inputs.tokens, x.shape[1]),
        )  # fmt: skip

    return Part(
        attend, norms_of(attention, layer.norm_places[0]), settings.residual_dropout, recompute, reads=reads,
        does_nothing=attention.does_nothing,
        cuts=None if slices is None or attention.hook is not None else slices.of(settings.pattern),
    )  # fmt: skip


def _present(x: Tensor | None) -> tuple[Tensor, ...]:
    return () if x is None else (x,)


def norms_of(
    part: SelfAttention | CrossAttention | FeedForwardNetwork, place: NormPlace
) -> dict[str, LayerNorm | RMSNorm | None]:
    """The norms of a part, by what they normalise."""
    if place == "post":
        return {"sum_norm": part.norm}
    return {"input_norm": part.norm, "output_norm": part.output_norm}


def drops(layers: Sequence[Layer]) -> bool:
    """Whether any part of these layers has dropout."""
    parts = [(layer.attention, layer.cross_attention, layer.feed_forward) for layer in layers]
    return any(part.dropout > 0 or part.residual_dropout > 0 for of_layer in parts for part in of_layer if part)


def check_distances(layers: Sequence[Layer], positions: Tensor | None, name: str) -> None:
    """Refuse positions of a caller's own with a cache where distances count: it knows of kept tokens but their number.

    Raises InputError.
    """
    if positions is not None and any(one.attention.distance_bias is not None for one in layers):
        raise InputError(
            f"{name} were given with a cache, and distance_bias reads how far apart tokens are, which the cache counts "
            f"itself: leave {name} out"
        )


def _distance_bias(
    modules: StackModules, layer: Layer, tokens: TokenInfo, length: int
) -> DistanceBias | DistanceStates | None:
    """What is added to the scores of this layer by distance."""
    table = layer.attention.distance_bias
    if table is None:
        return None
    module = modules.distance_bias[table.weights]
    if isinstance(table, RelativePositions):
        return cast(RelativeStates, module)(length)
    return cast(DistanceWeights, module)(None if table.of_rows else tokens.positions)


def _distances_read(modules: StackModules, layer: Layer) -> tuple[Tensor, ...]:
    table = layer.attention.distance_bias
    return () if table is None else tuple(modules.distance_bias[table.weights].parameters())


def _check_other(layers: Sequence[Layer], other: OtherStates | None, cache: StackCache | None) -> None:
    crosses = any(one.cross_attention is not None for one in layers)
    held = cache is not None and cache.holds_other_states
    if crosses and other is None and not held:
        raise InputError("layers have cross-attention and there are no states for it to attend to: give other=")
    if other is not None and (held or not crosses):
        why = "the cache holds those of its first call" if held else "no layer has cross-attention"
        raise InputError(f"other states were given and {why}: leave them out")


def _rotations(
    layers: Sequence[Layer], positions: Int[Tensor, "rows length"] | None, states: Tensor
) -> dict[tuple[int, float] | None, Rotation]:
    """What turns the heads of these tokens, made once for all layers that turn alike, in what products give."""
    dtype = torch.get_autocast_dtype(states.device.type) if autocasting(states) else states.dtype
    kinds = {_turning(one) for one in layers} - {None}
    return {kind: rotation(cast(Tensor, positions), *kind, dtype) for kind in kinds if kind is not None}


def _turning(layer: Layer) -> tuple[int, float] | None:
    """How many columns of each head turn, and by which base; None for none."""
    one = layer.attention
    return None if one.rotary is None else (one.rotary.columns(one.head_size), one.rotary.base)
