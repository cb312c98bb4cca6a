"""A small encoder with weights at which nothing is trivial."""

from typing import Any

import torch

from gossamer.models import (
    Architecture,
    Attention,
    Embeddings,
    FeedForward,
    Head,
    Layer,
    Model,
    Positions,
)
from gossamer.patterns import Full, Global, Pattern, Window

SPARSE = Window(3, 3) | Global()


def architecture(
    pattern: Pattern | None = None,
    *,
    head: Head | None = None,
    long: bool = False,
    sets: tuple[int, ...] = (0, 1),
    **attention: Any,
) -> Architecture:
    """Two layers of 2 heads x 4; `long`: positions counted from padding, global projections, a window."""
    chosen = pattern or (SPARSE if long else Full())
    positions = Positions(length=40, offset=1 if long else 0, from_padding=long)
    layers = tuple(
        Layer(
            attention=Attention(pattern=chosen, heads=2, head_size=4, weights=i, global_projections=long, **attention),
            feed_forward=FeedForward(width=12, weights=i),
        )
        for i in sets
    )
    embeddings = Embeddings(vocabulary_size=30, size=8, positions=positions)
    return Architecture(hidden_size=8, embeddings=embeddings, layers=layers, head=head)


def model(description: Architecture, dtype: torch.dtype = torch.float64) -> Model:
    torch.manual_seed(1)
    built = Model(description).to(dtype).eval()
    with torch.no_grad():
        for weight in built.parameters():
            weight.add_(torch.randn_like(weight) * 0.3)
    return built


def texts(rows: int = 2, length: int = 21) -> torch.Tensor:
    return torch.randint(1, 30, (rows, length), generator=torch.Generator().manual_seed(2))
