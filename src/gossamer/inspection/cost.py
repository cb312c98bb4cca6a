"""What a model costs, from its description alone: parameters, bytes, FLOPs and memory at any length."""

from __future__ import annotations

import dataclasses
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from gossamer.errors import InputError
from gossamer.kernels.ledger import Ledger, Section
from gossamer.models.account import account_model, model_without_memory
from gossamer.models.architecture import Architecture, Layer
from gossamer.models.model import Model
from gossamer.models.text_decoder import TextDecoder

__all__ = ["Cost", "LayerCost", "PartCost", "cost"]


@dataclass(frozen=True, kw_only=True)
class PartCost:
    """One part with weights of its own, which a forward pass uses `applications` times (a shared weight set often).

    `flops` counts all its applications; `pair_flops` is the part of them that is attention between tokens.
    """

    name: str
    parameters: int
    applications: int
    flops: int
    pair_flops: int = 0


@dataclass(frozen=True, kw_only=True)
class LayerCost:
    """One application of a layer, whosever weights it has; `of_decoder`: of the stack that writes a second text.

    `activations`: the most bytes that the tensors of one of its parts take at once. FLOPs are as in `PartCost`.
    """

    number: int
    of_decoder: bool
    flops: int
    pair_flops: int
    activations: int
    backends: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Cost:
    """A forward pass of one text of `length` tokens, `global_tokens` of them flagged.

    FLOPs count 2 a multiply-add; sizes are in bytes. With a multiple-choice head a text is one choice.

    `peak` is the memory of inference: all weights, and the most that the tensors of one part take at once, among them
    what the dense and reference backends take for masks and scores. `backends` are what attention runs on.
    """

    length: int
    global_tokens: int
    dtype: str
    parts: tuple[PartCost, ...]
    layers: tuple[LayerCost, ...]
    weights: int
    activations: int
    backends: tuple[str, ...]

    @property
    def parameters(self) -> int:
        return sum(part.parameters for part in self.parts)

    @property
    def flops(self) -> int:
        return sum(part.flops for part in self.parts)

    @property
    def pair_flops(self) -> int:
        """FLOPs of attention between tokens, 4 * pairs * head_size a head: all that depends on the pattern."""
        return sum(part.pair_flops for part in self.parts)

    @property
    def peak(self) -> int:
        return self.weights + self.activations

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, totals included."""
        totals = {name: getattr(self, name) for name in ("parameters", "flops", "pair_flops", "peak")}
        return {**dataclasses.asdict(self), **totals}


def cost(
    architecture: Architecture, length: int, *, dtype: torch.dtype = torch.float32, global_tokens: int = 0
) -> Cost:
    """What reading one text of `length` tokens takes, `global_tokens` of them flagged (the first ones); with a decoder
    what writing as many takes besides, or as many as it reads.

    Of the FLOPs, linear maps and pairs of tokens are counted, as in `torch.utils.flop_counter`; norms, activations and
    table look-ups are not. Pairs are the pattern's own, the useful work: a backend may compute some more. Raises
    InputError for a length below 1 or more global tokens than that.
    """
    if type(length) is not int or length < 1:
        raise InputError(f"length is {length!r}; it must be a number of tokens, at least 1")
    if type(global_tokens) is not int or not 0 <= global_tokens <= length:
        raise InputError(f"global_tokens is {global_tokens!r}; it must be from 0 to the length, {length}")
    model, ledger = model_without_memory(architecture).to(dtype), Ledger(global_tokens=global_tokens)
    account_model(model, ledger, rows=1, length=length)
    parts = tuple(_parts(model, ledger))
    return Cost(
        length=length,
        global_tokens=global_tokens,
        dtype=str(dtype).removeprefix("torch."),
        parts=parts,
        layers=tuple(_layers(architecture, ledger)),
        weights=sum(part.parameters for part in parts) * dtype.itemsize,
        activations=max(section.live_bytes for section in ledger.sections),
        backends=tuple(sorted({name for section in ledger.sections for name in section.backends})),
    )


def _parts(model: Model, ledger: Ledger) -> Iterator[PartCost]:
    """Each module with weights of its own, in the order of the model, with all sections that it tells."""
    for name in _names(model):
        sections = [one for one in ledger.sections if one.owner == name]
        yield PartCost(
            name=name,
            parameters=sum(one.numel() for one in model.get_submodule(name).parameters()),
            applications=len(sections),
            flops=sum(one.flops for one in sections),
            pair_flops=sum(one.pair_flops for one in sections),
        )


def _layers(architecture: Architecture, ledger: Ledger) -> Iterator[LayerCost]:
    """Each layer with the sections of its parts: those of a weight set are told in the order of the layers."""
    told: dict[str, deque[Section]] = defaultdict(deque)
    for section in ledger.sections:
        told[section.owner].append(section)
    decoder = architecture.decoder
    stacks: Sequence[tuple[str, Sequence[Layer]]] = (
        ("", architecture.layers),
        ("decoder.", () if decoder is None else decoder.layers),
    )
    for prefix, layers in stacks:
        for i, layer in enumerate(layers):
            sections = [told[prefix + owner].popleft() for owner in _owners(layer)]
            yield LayerCost(
                number=i,
                of_decoder=bool(prefix),
                flops=sum(one.flops for one in sections),
                pair_flops=sum(one.pair_flops for one in sections),
                activations=max(one.live_bytes for one in sections),
                backends=tuple(sorted({name for one in sections for name in one.backends})),
            )


def _owners(layer: Layer) -> Iterator[str]:
    """The modules that a layer applies, as they are named in its stack."""
    yield f"attention.{layer.attention.weights}"
    if layer.cross_attention is not None:
        yield f"cross_attention.{layer.cross_attention.weights}"
    yield f"feed_forward.{layer.feed_forward.weights}"


def _names(model: torch.nn.Module) -> Iterator[str]:
    """The modules of the model, of a list of weight sets each one, of a decoder its own."""
    for name, module in model.named_children():
        if isinstance(module, TextDecoder):
            yield from (f"{name}.{one}" for one in _names(module))
        elif isinstance(module, torch.nn.ModuleList):
            yield from (f"{name}.{i}" for i in range(len(module)))
        else:
            yield name
