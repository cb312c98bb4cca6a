"""How long each part of a model takes at each number of its units: drawn models of those widths, timed in turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from gossamer.models.account import model_without_memory
from gossamer.models.architecture import Architecture, Layer
from gossamer.models.bricks import Attention
from gossamer.models.model import Model
from gossamer.patterns import Full
from gossamer.recipes.receipts.measure import machine, measure_latency, on_cpu
from gossamer.recipes.removal.cut import Cut, cut
from gossamer.recipes.removal.heads_left import heads_left, pattern_of_heads
from gossamer.training.pruning.time_table import MODEL, PartTimes, TimeTable, digest_of_layers, part_sizes
from gossamer.training.pruning.units import Units

__all__ = ["measure_times", "milliseconds_in_turns", "time_conditions", "timed_widths"]

_TEXTS, _TOKENS = 8, 128
_LAYERS, _WEIGHTS = 4, 2**25
"""A model that is timed has so many layers at most, and so many weights in them unless one layer has more."""
_STEP, _WIDTHS = 32, 12
"""A feed-forward is timed at about so many widths, one above multiples of so many neurons: odd ones take longest."""
_WORDS = 64


def measure_times(model: Model, units: Sequence[Sequence[Units]]) -> TimeTable:
    """The time of each part over 8 texts of 128 tokens, or as many as the model reads, on torch's number of threads.

    units: of each structure. Heads are timed at every number of them, neurons at up to 14 widths from none to all,
    other parts with and without all of themselves. Models of up to four layers alike, of which all else is left out,
    are described at those widths, with drawn weights, and take turns over rounds (`measure_latency`): what the median
    is above that of layers without the part is the part's. What the model takes without all of them is measured with
    its own weights.

    Source: Kurtic et al. 2023 (ZipLM, arXiv 2302.04089), who time a layer at each number of its heads and at a grid of
    widths; there each width is nine tenths of the one before.
    """
    architecture = model.architecture
    uses, widths = _uses(architecture), timed_widths(architecture, units)
    times: dict[Layer, dict[int, float]] = {}
    for kind in dict.fromkeys(kind for kinds in uses.values() for kind in kinds):
        count = sum(kinds.count(kind) for kinds in uses.values())
        wanted = {width for name, kinds in uses.items() if kind in kinds for width in widths[name]}
        times[kind] = _time(model, kind, count, sorted(wanted))
    parts = {
        name: PartTimes.of_measured(widths[name], [sum(times[kind][width] for kind in kinds) for width in widths[name]])
        for name, kinds in uses.items()
    }
    conditions = {MODEL: digest_of_layers(architecture), **time_conditions(model)}
    return TimeTable(parts=parts, rest=_rest(model), conditions=conditions)


def timed_widths(architecture: Architecture, units: Sequence[Sequence[Units]]) -> dict[str, list[int]]:
    """The numbers of units at which each part is timed, by its name."""
    structures = {one.part: one.structure for some in units for one in some}
    return {name: _widths(size, structures.get(name)) for name, size in part_sizes(architecture).items()}


def time_conditions(model: Model) -> dict[str, Any]:
    """Under what a model is timed, here and now."""
    return {"texts": _TEXTS, "tokens": _tokens(model.architecture), "threads": torch.get_num_threads(), **machine()}


def milliseconds_in_turns(models: Mapping[str, Model]) -> dict[str, float]:
    """What a pass of each takes under these conditions, all of them reading as many tokens."""
    tokens = min(_tokens(model.architecture) for model in models.values())
    (timed,) = measure_latency(models, batches=(_TEXTS,), tokens=(tokens,), threads=(torch.get_num_threads(),))
    return {name: 1000 * (timed.median(name) or 0.0) for name in models}


def _tokens(architecture: Architecture) -> int:
    return min(_TOKENS, architecture.length)


def _uses(architecture: Architecture) -> dict[str, list[Layer]]:
    """Of each weight set its layers, as they are with that part alone: equal ones take the same time."""
    uses: dict[str, list[Layer]] = {name: [] for name in part_sizes(architecture)}
    for layer in architecture.layers:
        attention, feed_forward = layer.attention, layer.feed_forward
        table = attention.distance_bias
        table = None if table is None else replace(table, weights=0)
        no_heads = Attention(
            pattern=Full(), heads=0, head_size=attention.head_size, weights=0, output_bias=attention.output_bias
        )
        of_attention = replace(
            layer, attention=replace(attention, weights=0, distance_bias=table),
            feed_forward=replace(feed_forward, width=0, weights=0), recompute="nothing",
        )  # fmt: skip
        of_feed_forward = replace(
            layer, attention=no_heads, feed_forward=replace(feed_forward, weights=0), recompute="nothing"
        )
        if attention.heads:
            uses[f"attention.{attention.weights}"].append(of_attention)
        if feed_forward.width:
            uses[f"feed_forward.{feed_forward.weights}"].append(of_feed_forward)
    return uses


def _widths(size: int, structure: str | None) -> list[int]:
    """The numbers of units at which a part of so many is timed."""
    if structure == "heads":
        return list(range(size + 1))
    if structure != "neurons":
        return [0, size]
    step = -(-size // (_STEP * _WIDTHS)) * _STEP
    return sorted({0, min(_STEP + 1, size), *range(step + 1, size, step), size})


def _time(model: Model, kind: Layer, count: int, widths: Sequence[int]) -> dict[int, float]:
    """Milliseconds of a layer of this kind at each width above those at none. count: how many the model has."""
    architecture, dtype = model.architecture, next(model.parameters()).dtype
    whole, without = (_weights(_described(architecture, kind, width, 1)) for width in (widths[-1], 0))
    layers = max(1, min(_LAYERS, count, _WEIGHTS // max(1, whole - without)))
    memory: dict[str, Tensor] = {}
    models = {
        str(width): _drawn(_described(architecture, kind, width, layers), dtype, memory) for width in reversed(widths)
    }
    taken = milliseconds_in_turns(models)
    return {width: (taken[str(width)] - taken["0"]) / layers for width in widths}


def _described(architecture: Architecture, kind: Layer, width: int, layers: int) -> Architecture:
    """A model of so many layers of this kind with so many units, and a small vocabulary."""
    attention, feed_forward = kind.attention, kind.feed_forward
    if attention.heads:
        attention = _with_heads(attention, width)
    else:
        feed_forward = replace(feed_forward, width=width)
    embeddings = architecture.embeddings
    words = max(_WORDS, (embeddings.padding_id or 0) + 2)
    return replace(
        architecture,
        embeddings=replace(embeddings, vocabulary_size=min(embeddings.vocabulary_size, words)),
        layers=tuple(
            replace(kind, attention=replace(attention, weights=i), feed_forward=replace(feed_forward, weights=i))
            for i in range(layers)
        ),
        pooler=False, head=None, separator_id=None, initializer="normal", storages=(),
        global_tokens="first" if attention.global_projections or attention.pattern.sees_flags else "none",
    )  # fmt: skip


def _with_heads(attention: Attention, key_heads: int) -> Attention:
    """The attention with the first so many heads of keys, and the heads that share them."""
    heads = range(key_heads * (attention.heads // (attention.key_heads or attention.heads)))
    pattern = pattern_of_heads(attention, heads)
    if not heads:
        return replace(attention, pattern=pattern, heads=0, key_heads=None, distance_bias=None, shared_query_key=False)
    shared = None if attention.key_heads is None else key_heads
    return replace(attention, pattern=pattern, heads=len(heads), key_heads=shared)


def _weights(architecture: Architecture) -> int:
    return sum(one.numel() for one in model_without_memory(architecture).parameters())


def _drawn(architecture: Architecture, dtype: torch.dtype, memory: dict[str, Tensor]) -> Model:
    """The model with drawn weights, which lie in `memory`: those of a narrower one where those of the widest lie."""
    model, weights = model_without_memory(architecture), {}
    for name, empty in model.state_dict().items():
        if name not in memory:
            drawn = torch.randn(empty.numel(), generator=torch.Generator().manual_seed(0))
            memory[name] = drawn.mul_(0.02).to(dtype)
        weights[name] = memory[name][: empty.numel()].view(empty.shape)
    model.load_state_dict(weights, assign=True)
    return model


def _rest(model: Model) -> float:
    """Milliseconds of the model without all its heads and neurons."""
    layers = model.architecture.layers
    attentions = {layer.attention.weights: layer.attention for layer in layers if layer.attention.heads}
    what = Cut(
        attention={number: heads_left(attention, ()) for number, attention in attentions.items()},
        neurons={
            layer.feed_forward.weights: torch.empty(0, dtype=torch.int64)
            for layer in layers
            if layer.feed_forward.width
        },
    )
    return milliseconds_in_turns({"rest": on_cpu(cut(model, what))})["rest"]
