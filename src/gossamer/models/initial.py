"""Fresh weights, as each of the papers draws them."""

import math
from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn

from gossamer.layers import Constant, DistanceWeights, RelativeStates, SelfAttention
from gossamer.models.architecture import Architecture
from gossamer.models.heads import CausalLM

__all__ = ["draw_weights", "initialise"]

_SPARSE_WIDTH = 0.125
_SELF_SCORE = 12.0
"""A token's score for itself at the mimetic start, before the softmax; other tokens' lie about 0."""
_AMPLITUDE, _LONGEST = 4.0, 1000.0
"""Of the sinusoids in the mimetic position tables: times 1 / sqrt(size); the longest wave in units of 2 pi tokens."""


def initialise(module: nn.Module, width: float) -> None:
    """Draw fresh weights for a module and its parts: normal of this width, biases and padding rows 0, norms 1."""
    for part in module.modules():
        if isinstance(part, (nn.Linear, nn.Embedding, DistanceWeights)):
            nn.init.normal_(part.weight, std=width)
        if isinstance(part, RelativeStates):
            nn.init.normal_(part.states, std=width)
        if isinstance(part, (nn.Linear, Constant)) and part.bias is not None:
            nn.init.zeros_(part.bias)
        _clear_padding(part)


def _clear_padding(part: nn.Module) -> None:
    if isinstance(part, nn.Embedding) and part.padding_idx is not None:
        nn.init.zeros_(part.weight[part.padding_idx])


def draw_weights(model: nn.Module, architecture: Architecture) -> None:
    """Draw all weights of a model by its architecture's `initializer`.

    "normal": of width `initializer_range`, as BERT does. "gpt2": the same, the maps that write into the residual stream
    narrower by 1 / sqrt(2 layers) (Radford et al. 2019, section 2.3). "sparse-transformer": of width
    0.125 / sqrt(inputs) for maps, 0.125 / sqrt(size) for the word table, 0.125 / sqrt(size tables) for positions, the
    same scaling of the residual maps, and scores that start at 0 where the head is not tied (Child et al. 2019,
    sections 5.2 and 6). "mimetic": attention that begins near the token that asks (Trockman and Kolter 2023, arXiv
    2305.09828, sections 3 and 4): keys begin as queries, positions as sinusoids (Vaswani et al. 2017, section 3.5), and
    the map from values to outputs is left as it is drawn; maps of width 1 / sqrt(inputs), the word table of
    1 / sqrt(size), residual maps as under "gpt2". A small decoder learns which byte came before so much sooner: see
    docs/benchmarks.md. Tables by distance are of width `initializer_range` in all of them.
    Weights without memory, on the "meta" device, are left as they are.
    """
    if all(one.is_meta for one in model.parameters()):
        return
    initialise(model, architecture.initializer_range)
    if architecture.initializer == "sparse-transformer":
        _draw_by_inputs(model, architecture)
    if architecture.initializer == "mimetic":
        _draw_near(model)
    if architecture.initializer != "normal":
        _narrow_residual_maps(model, len(architecture.layers))


def _draw_by_inputs(model: nn.Module, architecture: Architecture) -> None:
    size, axes = architecture.embeddings.size, architecture.embeddings.positions.axes
    for name, part in model.named_modules():
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, std=_SPARSE_WIDTH / math.sqrt(part.in_features))
        if isinstance(part, nn.Embedding):
            tables = len(axes) if name.startswith("embeddings.position") and axes else 1
            nn.init.normal_(part.weight, std=_SPARSE_WIDTH / math.sqrt(size * tables))
        _clear_padding(part)
    head = architecture.head
    if isinstance(head, CausalLM) and not head.tied:
        nn.init.zeros_(cast(nn.Linear, model.get_submodule("head.decoder")).weight)


def _narrow_residual_maps(model: nn.Module, layers: int) -> None:
    with torch.no_grad():
        for name, part in model.named_modules():
            is_residual = name.startswith(("attention.", "feed_forward.")) and name.endswith((".output", ".down"))
            if is_residual and isinstance(part, nn.Linear):
                part.weight.div_(math.sqrt(2 * layers))


def _draw_near(model: nn.Module) -> None:
    for part in model.modules():
        if isinstance(part, (nn.Linear, nn.Embedding)):
            nn.init.normal_(part.weight, std=1 / math.sqrt(part.weight.shape[1]))
        _clear_padding(part)
    with torch.no_grad():
        for part in model.modules():
            if isinstance(part, SelfAttention) and part.heads:
                # Inputs are normalised, so that |q|^2 / sqrt(head_size) is _SELF_SCORE.
                part.query.weight.mul_(math.sqrt(_SELF_SCORE) / (part.query.out_features / part.heads) ** 0.25)
                part.key.weight.copy_(part.query.weight)
        for table, columns in _position_tables(model):
            table[:, columns] = _sinusoids(len(table), columns.stop - columns.start).to(table)


def _position_tables(model: nn.Module) -> Iterator[tuple[Tensor, slice]]:
    """Each table with the columns that are its own: several tables, whose rows are summed, must not look alike."""
    position = model.get_submodule("embeddings.position")
    tables = [one.weight for one in position.modules() if isinstance(one, nn.Embedding)]
    for i, table in enumerate(tables):
        table.zero_()
        size = table.shape[1]
        yield table, slice(i * size // len(tables), (i + 1) * size // len(tables))


def _sinusoids(rows: int, columns: int) -> Tensor:
    """[rows, columns]: a sine and a cosine of each frequency, as large as `_AMPLITUDE` says."""
    waves = _LONGEST ** (-torch.arange(0, columns, 2) / columns)
    angles = torch.arange(rows)[:, None] * waves
    return _AMPLITUDE / math.sqrt(columns) * torch.cat([angles.sin(), angles.cos()], dim=1)[:, :columns]
