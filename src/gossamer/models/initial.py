"""Fresh weights, as each of the papers draws them."""

import math
from typing import cast

import torch
from torch import nn

from gossamer.models.architecture import Architecture
from gossamer.models.head_settings import CausalLM

__all__ = ["draw_weights", "initialise"]

_SPARSE_WIDTH = 0.125


def initialise(module: nn.Module, width: float) -> None:
    """Draw fresh weights for a module and its parts: normal of this width, biases and padding rows 0, norms 1."""
    for part in module.modules():
        if isinstance(part, (nn.Linear, nn.Embedding)):
            nn.init.normal_(part.weight, std=width)
        if isinstance(part, nn.Linear) and part.bias is not None:
            nn.init.zeros_(part.bias)
        if isinstance(part, nn.Embedding) and part.padding_idx is not None:
            nn.init.zeros_(part.weight[part.padding_idx])


def draw_weights(model: nn.Module, architecture: Architecture) -> None:
    """Draw all weights of a model by its architecture's `initializer`.

    "normal": of width `initializer_range`, as BERT does. "gpt2": the same, the maps that write into the residual stream
    narrower by 1 / sqrt(2 layers) (Radford et al. 2019, section 2.3). "sparse-transformer": of width
    0.125 / sqrt(inputs) for maps, 0.125 / sqrt(size) for the word table, 0.125 / sqrt(size tables) for positions, the
    same scaling of the residual maps, and scores that start at 0 where the head is not tied (Child et al. 2019,
    sections 5.2 and 6).
    """
    initialise(model, architecture.initializer_range)
    if architecture.initializer == "sparse-transformer":
        _draw_by_inputs(model, architecture)
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
    head = architecture.head
    if isinstance(head, CausalLM) and not head.tied:
        nn.init.zeros_(cast(nn.Linear, model.get_submodule("head.decoder")).weight)


def _narrow_residual_maps(model: nn.Module, layers: int) -> None:
    names = [name for name, _ in model.named_modules() if name.endswith((".output", ".down"))]
    with torch.no_grad():
        for name in names:
            if name.startswith(("attention.", "feed_forward.")):
                cast(nn.Linear, model.get_submodule(name)).weight.div_(math.sqrt(2 * layers))
