"""What is read off an encoder's states: a token under each mask, or one vector a text."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from gossamer.layers import ACTIVATIONS
from gossamer.models.architecture import Architecture, MaskedLM, SentenceEmbedding

__all__ = ["MaskedLMHead", "masked_lm_loss", "pool"]


class MaskedLMHead(nn.Module):
    """`norm(activation(dense(x)))` against the word table, plus a bias (Devlin et al. 2019; RoBERTa's is the same).

    `decoder` exists only where the head is not tied to the word table.
    """

    def __init__(self, architecture: Architecture, settings: MaskedLM) -> None:
        super().__init__()
        size, vocabulary = architecture.embeddings.size, architecture.embeddings.vocabulary_size
        self.dense = nn.Linear(architecture.hidden_size, size)
        self.norm = nn.LayerNorm(size, eps=settings.norm_eps)
        self.decoder = None if settings.tied else nn.Linear(size, vocabulary, bias=False)
        self.bias = nn.Parameter(torch.zeros(vocabulary))
        self.activation = settings.activation

    def forward(
        self, hidden: Float[Tensor, "batch length hidden"], word_table: Float[Tensor, "vocabulary size"]
    ) -> Float[Tensor, "batch length vocabulary"]:
        table = word_table if self.decoder is None else self.decoder.weight
        return F.linear(self.norm(ACTIVATIONS[self.activation](self.dense(hidden))), table, self.bias)


def masked_lm_loss(
    logits: Float[Tensor, "batch length vocabulary"], labels: Int[Tensor, "batch length"]
) -> Float[Tensor, ""]:
    """Mean cross-entropy over the labels that are not -100, as in `transformers`; NaN where there are none."""
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten().long())


def pool(
    settings: SentenceEmbedding,
    hidden: Float[Tensor, "batch length hidden"],
    key_mask: Bool[Tensor, "batch length"] | None,
) -> Float[Tensor, "batch hidden"]:
    """One vector a text from its real tokens, as sentence-transformers pools; zeros for a text without any."""
    if settings.pooling == "cls":
        pooled = hidden[:, 0]
    elif key_mask is None:
        pooled = hidden.mean(dim=1) if settings.pooling == "mean" else hidden.amax(dim=1)
    elif settings.pooling == "mean":
        total = hidden.masked_fill(~key_mask[..., None], 0).sum(dim=1)
        pooled = total / key_mask.sum(dim=1, keepdim=True).clamp(min=1)
    else:
        highest = hidden.masked_fill(~key_mask[..., None], -torch.inf).amax(dim=1)
        pooled = torch.where(key_mask.any(dim=1, keepdim=True), highest, 0)
    return F.normalize(pooled, dim=-1) if settings.normalized else pooled
