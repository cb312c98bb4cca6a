"""What a model is (`Architecture`) and the module that is built from it (`Model`)."""

from gossamer.models.architecture import (
    Architecture,
    Attention,
    Embeddings,
    FeedForward,
    Head,
    Layer,
    MaskedLM,
    Positions,
    SentenceEmbedding,
    differences,
)
from gossamer.models.encoder import Model
from gossamer.models.output import Output

__all__ = [
    "Architecture",
    "Attention",
    "Embeddings",
    "FeedForward",
    "Head",
    "Layer",
    "MaskedLM",
    "Model",
    "Output",
    "Positions",
    "SentenceEmbedding",
    "differences",
]
