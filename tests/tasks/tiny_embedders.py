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
from gossamer.patterns import Full, Pattern, Window
from gossamer.text import Tokenizer

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
VOCABULARY = {token: i for i, token in enumerate([*SPECIAL, *string.ascii_lowercase, "[MASK]"])}
FRAME = "[CLS] $A [SEP]"


def tokenizer(frame: str = FRAME, special: list[str] = SPECIAL) -> Tokenizer:
    """A token a letter; anything else is [UNK], white space is nothing."""
    backend = tokenizers.Tokenizer(models.WordLevel(VOCABULARY, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split("", "isolated")]
    )
    backend.add_special_tokens([*special, "[MASK]"])
    if frame != "$A":
        pairs = [(token, VOCABULARY[token]) for token in dict.fromkeys(frame.split()) if token in VOCABULARY]
        backend.post_processor = processors.TemplateProcessing(
            single=frame, pair=pair_frame(frame), special_tokens=pairs
        )
    return Tokenizer(backend, {})


def pair_frame(frame: str) -> str:
    """The frame of one text with the second after it, as BERT has it: `[CLS] $A [SEP] $B:1 [SEP]:1`."""
    _, after = frame.split("$A")
    return " ".join([frame, "$B:1", *(f"{token}:1" for token in after.split())])


def embedder(
    head: Head | None = SentenceEmbedding(),  # noqa: B008 - frozen
    *,
    length: int = 16,
    frame: str = FRAME,
    special: list[str] = SPECIAL,
    padding: int | None = 0,
    pattern: Pattern = Full(),  # noqa: B008 - frozen
    separator: int | None = None,
) -> Model:
    """Two layers of 2 heads x 4, in evaluation mode."""
    layers = tuple(
        Layer(
            attention=Attention(pattern=pattern, heads=2, head_size=4, weights=i),
            feed_forward=FeedForward(width=12, weights=i),
        )
        for i in range(2)
    )
    embeddings = Embeddings(
        vocabulary_size=len(VOCABULARY), size=8, positions=Positions(length=length), padding_id=padding
    )
    torch.manual_seed(0)
    model = Model(Architecture(hidden_size=8, embeddings=embeddings, layers=layers, head=head, separator_id=separator))
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.3)
    model.tokenizer = tokenizer(frame, special)
    return model.eval()


def short_and_long(head: Head, short: int = 64, long: int = 512) -> tuple[Model, Model]:
    """The same weights, reading `short` and `long` tokens: windows reach 2 in all, and positions say nothing.

    So that a token that lies further than 2 from a pass's edge has the same state in both.
    """
    models = [embedder(head, length=length, pattern=Window(1, 1)) for length in (short, long)]
    for model in models:
        with torch.no_grad():
            model.embeddings.position.weight.zero_()
    weights = {name: one for name, one in models[0].state_dict().items() if "position" not in name}
    models[1].load_state_dict(weights, strict=False)
    return models[0], models[1]


def rule_model(head: Head, classes: dict[str, int], length: int) -> Model:
    """A model that knows letters alone: output i of the head is high at the letters of class i, whatever is around.

    Attention and feed-forward add nothing; a letter's embedding is the unit vector of its class, 7 for all others.
    """
    model = embedder(head, length=length)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm.weight" in name:
                weight.fill_(1.0)
            else:
                weight.zero_()
        model.embeddings.word.weight[:, 7] = 1.0
        for letter, which in classes.items():
            model.embeddings.word.weight[VOCABULARY[letter]] = torch.eye(8)[which]
        outputs = len(model.head.output.bias)
        model.head.output.weight.copy_(8 * torch.eye(8)[:outputs])
    return model


def distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    """||found - expected|| / ||expected||, in float64."""
    found, expected = found.detach().double(), expected.detach().double()
    assert found.shape == expected.shape
    return float((found - expected).norm() / expected.norm())
