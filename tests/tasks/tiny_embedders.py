"""Small encoders with small tokenizers: one token a letter, whatever frame of special tokens is asked for."""

import string

import tokenizers
import torch
from tokenizers import models, pre_tokenizers, processors

from gossamer.models import (
    Architecture,
    Attention,
    Embeddings,
    FeedForward,
    Head,
    Layer,
    Model,
    Positions,
    SentenceEmbedding,
)
from gossamer.patterns import Full
from gossamer.text import Tokenizer

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
VOCABULARY = {token: i for i, token in enumerate([*SPECIAL, *string.ascii_lowercase])}
FRAME = "[CLS] $A [SEP]"


def tokenizer(frame: str = FRAME, special: list[str] = SPECIAL) -> Tokenizer:
    """A token a letter; anything else is [UNK], white space is nothing."""
    backend = tokenizers.Tokenizer(models.WordLevel(VOCABULARY, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split("", "isolated")]
    )
    backend.add_special_tokens(special)
    if frame != "$A":
        pairs = [(token, VOCABULARY[token]) for token in dict.fromkeys(frame.split()) if token in VOCABULARY]
        backend.post_processor = processors.TemplateProcessing(single=frame, special_tokens=pairs)
    return Tokenizer(backend, {})


def embedder(
    head: Head | None = SentenceEmbedding(),  # noqa: B008 - frozen
    *,
    length: int = 16,
    frame: str = FRAME,
    special: list[str] = SPECIAL,
    padding: int | None = 0,
) -> Model:
    """Two layers of 2 heads x 4, in evaluation mode."""
    layers = tuple(
        Layer(
            attention=Attention(pattern=Full(), heads=2, head_size=4, weights=i),
            feed_forward=FeedForward(width=12, weights=i),
        )
        for i in range(2)
    )
    embeddings = Embeddings(
        vocabulary_size=len(VOCABULARY), size=8, positions=Positions(length=length), padding_id=padding
    )
    torch.manual_seed(0)
    model = Model(Architecture(hidden_size=8, embeddings=embeddings, layers=layers, head=head))
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.3)
    model.tokenizer = tokenizer(frame, special)
    return model.eval()


def distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    """||found - expected|| / ||expected||, in float64."""
    found, expected = found.detach().double(), expected.detach().double()
    assert found.shape == expected.shape
    return float((found - expected).norm() / expected.norm())
