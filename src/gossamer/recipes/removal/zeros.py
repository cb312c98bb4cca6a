"""What of a model is zero as a whole: heads, columns inside heads, feed-forward neurons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gossamer.kernels import ACTIVATIONS
from gossamer.layers import FeedForwardNetwork, Linear, SelfAttention
from gossamer.models.architecture import Attention
from gossamer.models.model import Model
from gossamer.recipes.removal.cut import Cut
from gossamer.recipes.removal.heads_left import HeadsLeft, heads_left

__all__ = ["find_zeros"]

Columns = Int[Tensor, "columns"]


@torch.no_grad()
def find_zeros(model: Model) -> Cut:
    """What stays of a model when all goes that changes no output.

    A head goes whose columns of the output map are 0, or its rows of the value map with their biases. Inside the heads
    that stay a column of queries and keys goes where one of the two is 0, and one of values where those or the outputs
    are: as many of each head as of the one that needs most. A neuron goes whose column of the last map is 0, or that is
    the same for every token, since its rows of the first maps are 0; what it gave is added to the last bias.
    """
    attention, neurons, added = {}, {}, {}
    users: dict[int, list[Attention]] = {}
    for layer in model.architecture.layers:
        users.setdefault(layer.attention.weights, []).append(layer.attention)
    for number, settings in users.items():
        left = _heads(cast(SelfAttention, model.attention[number]), settings)
        if left is not None:
            attention[number] = left
    for number, module in enumerate(model.feed_forward):
        part = cast(FeedForwardNetwork, module)
        if part.width:
            stay, constant = _neurons(part)
            if len(stay) < part.width:
                neurons[number], added[number] = stay, constant
    return Cut(attention=attention, neurons=neurons, added=added)


def _heads(part: SelfAttention, users: Sequence[Attention]) -> HeadsLeft | None:
    """What stays of the heads of a weight set; None for all of them."""
    settings = users[0]
    if not settings.heads:
        return None
    size, sharing = settings.head_size, settings.heads // (settings.key_heads or settings.heads)
    outputs = _live_columns(cast(Linear, part.output)).unflatten(0, (-1, sharing, size))
    values = _live_rows(part.value, *([part.value_global] if part.global_projections else []))
    values_live = outputs & values.unflatten(0, (-1, 1, size))
    heads_live = values_live.any(dim=2)
    scores = _scores(part, sharing, size) & heads_live[..., None]
    turned = any(one.rotary is not None or one.query_key_norm is not None or one.shared_query_key for one in users)
    if turned or part.relative_maps:
        # Columns turn in pairs, and a norm counts all of them, as that of shared keys does; other maps have others.
        scores = torch.ones_like(scores)
    of_groups = [columns.any(dim=1) for columns in (scores, values_live)]
    most = max(1, *(int(live.sum(dim=1).max()) for live in of_groups))
    live = heads_live.flatten().nonzero()[:, 0].tolist()
    if len(live) == settings.heads and most == size:
        return None
    chosen = [[_filled(row, most) for row in live.cpu()] for live in of_groups]
    return heads_left(settings, live, *chosen)


def _scores(part: SelfAttention, sharing: int, size: int) -> Bool[Tensor, "groups sharing size"]:
    """Columns that change a score: neither of queries nor of keys 0."""
    pairs = [(part.query, part.query if part.shared_query_key else part.key)]
    if part.global_projections:
        pairs.append((part.query_global, part.key_global))
    rows = [(_live_rows(query), _live_rows(key)) for query, key in pairs]
    live = [q.unflatten(0, (-1, sharing, size)) & k.unflatten(0, (-1, 1, size)) for q, k in rows]
    return torch.stack(live).any(dim=0)


def _filled(live: Bool[Tensor, "size"], count: int) -> Columns:
    """The live columns, and dead ones where there are fewer than so many."""
    order = (~live).int().argsort(stable=True)[:count]
    return order.sort().values


def _neurons(part: FeedForwardNetwork) -> tuple[Int[Tensor, "neurons"], Float[Tensor, "hidden"]]:
    """Which neurons stay, and what the others add to the last bias."""
    last = cast(Linear, part.down).weight
    constant = ~_moves(part.up)
    values = _biases(part.up)
    if part.gate is None:
        values = ACTIVATIONS[part.activation](values)
    else:
        gates = ACTIVATIONS[part.activation](_biases(part.gate))
        # A factor that is always 0 is enough.
        silent = (~_moves(part.gate) & (gates == 0)) | (constant & (values == 0))
        values, constant = gates * values, silent | (constant & ~_moves(part.gate))
        values = values.masked_fill(silent, 0)
    goes = constant | ~(last != 0).any(dim=0)
    stay = (~goes).nonzero()[:, 0].cpu()
    return stay, last.double() @ values.masked_fill(~constant, 0)


def _moves(project: Linear) -> Bool[Tensor, "outputs"]:
    """Outputs that depend on what is read."""
    return (project.weight != 0).any(dim=1)


def _biases(project: Linear) -> Float[Tensor, "outputs"]:
    bias = project.bias
    return project.weight.new_zeros(project.out_features).double() if bias is None else bias.double()


def _live_rows(*maps: Linear) -> Bool[Tensor, "outputs"]:
    """Outputs of any of these maps that are not always 0."""
    return torch.stack([_moves(one) | (_biases(one) != 0) for one in maps]).any(dim=0)


def _live_columns(project: Linear) -> Bool[Tensor, "inputs"]:
    """Inputs that change an output."""
    return (project.weight != 0).any(dim=0)
