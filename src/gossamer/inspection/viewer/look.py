"""One reading of a text, and what its attention looks like: the keys of most weight, sums over blocks, shares."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gossamer.inspection.attention import CapturedAttention, Part, attention_settings, capture, parts_of
from gossamer.inspection.viewer.kinds import KINDS, PairKinds
from gossamer.inspection.viewer.shown_text import ShownText
from gossamer.kernels.weights import Bins
from gossamer.models import Model
from gossamer.models.evaluation import evaluating

__all__ = ["LayerLook", "Look", "PartLook", "look"]

BLOCKS = 128
"""Blocks a side of the map of a layer."""

WHOLE = 512
"""Tokens up to which all weights are kept."""

_TITLES: dict[Part, str] = {"main": "Self-attention", "decoder": "Decoder", "cross": "Decoder to first text"}


@dataclass(frozen=True, kw_only=True)
class LayerLook:
    """One layer: its keys of most weight, [heads, tokens, count], -1 where there are fewer, and their weights.

    blocks: which share of their attention the queries of a block give to each block of keys, [heads, rows, columns].
    seen: which share of a block's pairs the layer can see. kinds: the share of each of `KINDS`, [heads, kinds], which
    add up to 1 where every token sees one. whole: all weights, of short texts.
    """

    number: int
    pattern: str
    backends: tuple[str, ...]
    weights: Float[Tensor, "heads tokens count"]
    keys: Int[Tensor, "heads tokens count"]
    blocks: Float[Tensor, "heads rows columns"]
    seen: Float[Tensor, "heads rows columns"]
    kinds: Float[Tensor, "heads kinds"]
    whole: Float[Tensor, "heads tokens keys"] | None


@dataclass(frozen=True, kw_only=True)
class PartLook:
    """The layers of one part of the model. queries, keys: which of the texts' tokens attend, and to which."""

    part: Part
    title: str
    queries: int
    keys: int
    layers: tuple[LayerLook, ...]


@dataclass(frozen=True, kw_only=True)
class Look:
    """Texts (the second one is a decoder's) and the parts that attend."""

    texts: tuple[ShownText, ...]
    parts: tuple[PartLook, ...]


def look(
    model: Model,
    texts: Sequence[ShownText],
    layers: Mapping[Part, Sequence[int]] | None = None,
    *,
    top: int = 3,
    progress: Callable[[int, int], object] | None = None,
) -> Look:
    """Read one text, or a first and a second one, and tell what each layer attends to.

    Exact weights are computed layer by layer while the model reads; of each part one layer's queries and keys are held.
    `progress(done, total)` counts layers.
    """
    parts = parts_of(model)
    wanted = {part: _attending(model, part, layers) for part in parts}
    total, done = sum(map(len, wanted.values())), 0
    found: dict[Part, list[LayerLook]] = {part: [] for part in parts}
    seen: dict[Part, CapturedAttention] = {}

    def take(part: Part, number: int) -> None:
        nonlocal done
        found[part].append(_layer(model, seen[part], part, number, texts, top))
        done += 1
        if progress is not None:
            progress(done, total)

    device = next(model.parameters()).device
    names = ("input_ids", "decoder_input_ids")
    batch = {name: torch.tensor([one.ids], device=device) for name, one in zip(names, texts, strict=False)}
    with torch.no_grad(), evaluating(model), ExitStack() as stack:
        for part in parts:
            if wanted[part]:
                seen[part] = stack.enter_context(capture(model, wanted[part], part=part, each=partial(take, part)))
        model(**batch)
    return Look(
        texts=tuple(texts),
        parts=tuple(
            PartLook(
                part=part, title=_TITLES[part], queries=int(part != "main"), keys=int(part == "decoder"),
                layers=tuple(found[part]),
            )
            for part in parts
            if found[part]
        ),
    )  # fmt: skip


def _attending(model: Model, part: Part, layers: Mapping[Part, Sequence[int]] | None) -> list[int]:
    every = attention_settings(model, part)
    return [i for i in (range(len(every)) if layers is None else layers[part]) if every[i].heads]


def _layer(
    model: Model, seen: CapturedAttention, part: Part, number: int, texts: Sequence[ShownText], top: int
) -> LayerLook:
    queries, keys = (texts[0], texts[0]) if part == "main" else (texts[1], texts[part == "decoder"])
    sums = seen.sums(number, _bins(model, seen, number, queries, keys))
    found = seen.top_keys(number, min(top, len(keys)))
    in_block = torch.bincount(_blocks_of(len(queries)), minlength=sums.blocks.shape[1])
    across = torch.bincount(_blocks_of(len(keys)), minlength=sums.blocks.shape[2])
    whole = seen.rows(number, range(len(queries)))[0] if max(len(queries), len(keys)) <= WHOLE else None
    return LayerLook(
        number=number,
        pattern=str(attention_settings(model, part)[number].pattern) if part != "cross" else "full",
        backends=seen.backends[number],
        weights=found.weights[0].float().cpu(),
        keys=found.keys[0].cpu(),
        blocks=(sums.blocks.cpu() / in_block[:, None]).float(),
        seen=(sums.pairs.cpu() / (in_block[:, None] * across)).float(),
        kinds=(sums.kinds.cpu() / len(queries)).float(),
        whole=None if whole is None else whole.float().cpu(),
    )


def _blocks_of(tokens: int) -> Int[Tensor, "tokens"]:
    """Blocks of equal length, to one token."""
    return torch.arange(tokens) * min(tokens, BLOCKS) // tokens


def _bins(model: Model, seen: CapturedAttention, number: int, queries: ShownText, keys: ShownText) -> Bins:
    is_global = seen.global_tokens(number)
    device = next(model.parameters()).device
    flags = None if is_global is None or not bool(is_global.any()) else is_global[0]
    special = torch.tensor(keys.special, device=device)
    return Bins(
        queries=_blocks_of(len(queries)).to(device),
        keys=_blocks_of(len(keys)).to(device),
        kind=PairKinds(is_global=flags, is_special=special, of_one_text=queries is keys),
        kinds=len(KINDS),
        shape=(min(len(queries), BLOCKS), min(len(keys), BLOCKS)),
    )
