"""What a forward pass returns."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["Output"]


@dataclass
class Output:
    """The results of one forward pass; None where the model has no such result.

    logits: the head's scores, [batch, length, vocabulary] for a masked LM. pooled: one vector a text; the sentence
    vector for the embedding head, BERT's tanh layer of the first token for a bare encoder that has one.
    hidden_states: the embeddings, then every layer's output, when asked for. loss: the mean over the given labels.
    encoder_last_hidden_state: of the first of two texts, where all others are of the second.
    """

    logits: Float[Tensor, "batch *rest"] | None = None
    pair_logits: Float[Tensor, "batch pairs"] | None = None
    last_hidden_state: Float[Tensor, "batch length hidden"] | None = None
    hidden_states: tuple[Float[Tensor, "batch length hidden"], ...] | None = None
    pooled: Float[Tensor, "batch hidden"] | None = None
    loss: Float[Tensor, ""] | None = None
    cache: object | None = None
    encoder_last_hidden_state: Float[Tensor, "batch read hidden"] | None = None


torch.export.register_dataclass(Output, serialized_type_name="gossamer.Output")
