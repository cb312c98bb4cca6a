"""How far below the top of a model each parameter stands, for learning rates that fall from layer to layer."""

from __future__ import annotations

from gossamer.models.model import Model

__all__ = ["depths_from_top"]


def depths_from_top(model: Model) -> dict[str, int]:
    """The depth of each parameter by its name: 0 for the head, the pooler and the final norm, which read the top.

    The topmost of n layers has 1, the lowest n, and all of the embeddings n + 1, also where a head reads their table.
    Weights that several layers share, as ALBERT's, have the depth of the topmost of these. What an objective attaches
    to the model has 0.
    """
    layers = model.architecture.layers
    depths = {"embeddings": len(layers) + 1}
    for i, layer in enumerate(layers):  # a layer above sets its depth over those below
        used = [f"attention.{layer.attention.weights}", f"feed_forward.{layer.feed_forward.weights}"]
        if layer.cross_attention is not None:
            used.append(f"cross_attention.{layer.cross_attention.weights}")
        if layer.attention.distance_bias is not None:
            used.append(f"distance_bias.{layer.attention.distance_bias.weights}")
        depths |= dict.fromkeys(used, len(layers) - i)
    return {name: _of(name, depths) for name, _ in model.named_parameters()}


def _of(name: str, depths: dict[str, int]) -> int:
    first, _, rest = name.partition(".")
    return depths.get(first, depths.get(f"{first}.{rest.partition('.')[0]}", 0))
