"""How far below the top of a model each parameter stands, for learning rates that fall from layer to layer."""

from __future__ import annotations

from collections.abc import Sequence

from gossamer.models.architecture import Layer
from gossamer.models.model import Model

__all__ = ["depths_from_top"]


def depths_from_top(model: Model) -> dict[str, int]:
    """The depth of each parameter by its name: 0 for the head, the pooler and the final norm, which read the top.

    The topmost of n layers has 1, the lowest n, and all of the embeddings n + 1, also where a head reads their table.
    Weights that several layers share, as ALBERT's, have the depth of the topmost of these. Of two texts the layers of
    the first lie below all of the second. What an objective attaches to the model has 0.
    """
    decoder, layers = model.architecture.decoder, model.architecture.layers
    if decoder is None:
        depths = _of_stack(layers, 0)
    else:
        written = _of_stack(decoder.layers, 0)
        depths = _of_stack(layers, len(decoder.layers)) | {f"decoder.{name}": one for name, one in written.items()}
        depths["final_norm"] = len(decoder.layers)
    return {name: _of(name, depths) for name, _ in model.named_parameters()}


def _of_stack(layers: Sequence[Layer], above: int) -> dict[str, int]:
    """The depths of one stack's parts, so many layers above it."""
    depths = {"embeddings": above + len(layers) + 1}
    for i, layer in enumerate(layers):  # a layer above sets its depth over those below
        used = [f"attention.{layer.attention.weights}", f"feed_forward.{layer.feed_forward.weights}"]
        if layer.cross_attention is not None:
            used.append(f"cross_attention.{layer.cross_attention.weights}")
        if layer.attention.distance_bias is not None:
            used.append(f"distance_bias.{layer.attention.distance_bias.weights}")
        depths |= dict.fromkeys(used, above + len(layers) - i)
    return depths


def _of(name: str, depths: dict[str, int]) -> int:
    parts = name.split(".")
    places = (".".join(parts[:count]) for count in range(1, len(parts)))
    return next((depths[place] for place in places if place in depths), 0)
