"""Taggers whose label depends on the token alone, over any tokenizer."""

from collections.abc import Callable, Sequence

import torch

from gossamer.models import (
    Architecture,
    Attention,
    Embeddings,
    FeedForward,
    Layer,
    Model,
    Positions,
    TokenClassification,
)
from gossamer.patterns import Full
from gossamer.text import Tokenizer


def token_tagger(tokenizer: Tokenizer, labels: Sequence[str], label_of: Callable[[str], str]) -> Model:
    """A model that gives every token the label of its spelling: embeddings are unit vectors, layers add nothing."""
    count, size = len(labels), len(labels) + 1
    layer = Layer(
        attention=Attention(pattern=Full(), heads=1, head_size=8, weights=0),
        feed_forward=FeedForward(width=4, weights=0),
    )
    embeddings = Embeddings(vocabulary_size=tokenizer.vocabulary_size, size=size, positions=Positions(length=256))
    head = TokenClassification(labels=tuple(labels))
    model = Model(Architecture(hidden_size=size, embeddings=embeddings, layers=(layer,), head=head))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.fill_(1.0 if "norm.weight" in name else 0.0)
        for i, token in enumerate(tokenizer.tokens(range(tokenizer.vocabulary_size))):
            model.embeddings.word.weight[i, list(labels).index(label_of(token))] = 1.0
        model.head.output.weight.copy_(4 * torch.eye(size)[:count])
    model.tokenizer = tokenizer
    return model.eval()
