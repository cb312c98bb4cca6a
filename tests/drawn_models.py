"""Drawn encoders to be lengthened, drawn texts for them, and `transformers` as the judge of what was saved."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor
from transformers import LongformerForMaskedLM, LongformerModel, PreTrainedModel

from gossamer.families import get_family
from gossamer.models import Model, SentenceEmbedding
from gossamer.text import byte_tokenizer

HEADS = [None, "masked-lm", "embed"]
BYTES = {
    "vocab_size": 300,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 40,
}
"""Of a model that reads bytes."""


@dataclass(frozen=True)
class Batch:
    """Texts of one model, padded on the right, with what the original and the lengthened model are both told."""

    ids: Tensor
    mask: Tensor | None
    types: Tensor | None

    @property
    def real(self) -> Tensor:
        return torch.ones_like(self.ids, dtype=torch.bool) if self.mask is None else self.mask

    def read(self, model: Model, **more: Any) -> Any:
        return model(self.ids, attention_mask=self.mask, token_type_ids=self.types, **more)


@st.composite
def models(
    draw: st.DrawFn, activations: tuple[str, ...] = ("gelu", "gelu_new", "relu"), dtype: torch.dtype = torch.float32
) -> Model:
    """A BERT of drawn sizes, with weights at which nothing is trivial."""
    heads = draw(st.integers(1, 3))
    vocabulary = draw(st.integers(4, 40))
    config = {
        "vocab_size": vocabulary,
        "type_vocab_size": draw(st.integers(1, 3)),
        "max_position_embeddings": draw(st.integers(8, 64)),
        "pad_token_id": draw(st.sampled_from([0, 0, 1, 3])),
        "hidden_size": heads * draw(st.sampled_from([4, 8])),
        "num_hidden_layers": draw(st.integers(1, 3)),
        "num_attention_heads": heads,
        "intermediate_size": draw(st.integers(1, 24)),
        "hidden_act": draw(st.sampled_from(activations)),
        "tie_word_embeddings": draw(st.booleans()),
    }
    head = draw(st.sampled_from(HEADS))
    return bert(
        config, head, pooler=draw(st.booleans()) and head is None, seed=draw(st.integers(0, 2**31)), dtype=dtype
    )


def bert(
    config: dict[str, Any], head: str | None, *, pooler: bool = False, seed: int = 0, dtype=torch.float32
) -> Model:

    chosen = SentenceEmbedding(pooling="mean", normalized=True) if head == "embed" else head
    torch.manual_seed(seed)
    model = Model(get_family("bert").read(config, head=chosen, pooler=pooler), family="bert").to(dtype).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.2)
    return model


@st.composite
def batches(draw: st.DrawFn, model: Model, least: int, most: int) -> Batch:
    """Texts of up to `most` tokens; no real token is the padding token, by which positions are counted."""
    sizes = model.architecture.embeddings
    length, rows = draw(st.integers(least, most)), draw(st.integers(1, 3))
    random = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    ids = torch.randint(0, sizes.vocabulary_size - 1, (rows, length), generator=random)
    padding = sizes.padding_id
    if padding is not None:
        ids += ids >= padding
    types = torch.randint(0, sizes.token_types, (rows, length), generator=random) if draw(st.booleans()) else None
    mask = None
    if draw(st.booleans()):
        kept = torch.randint(1, length + 1, (rows, 1), generator=random)
        mask = torch.arange(length).expand(rows, -1) < kept
        ids = ids.where(mask, padding or 0)
    return Batch(ids, mask, types)


def in_transformers(directory: Path, model: Model) -> PreTrainedModel:
    """The saved model there, which must find every tensor it wants and no other."""
    masked_lm = getattr(model.architecture.head, "kind", None) == "masked-lm"
    kind = LongformerForMaskedLM if masked_lm else LongformerModel
    loaded, info = kind.from_pretrained(directory, output_loading_info=True)
    absent = [] if masked_lm or model.architecture.pooler else ["pooler.dense.bias", "pooler.dense.weight"]
    assert sorted(info["missing_keys"]) == absent
    assert not info["unexpected_keys"]
    return loaded.eval()


def distance(found: Tensor, expected: Tensor) -> float:
    """||found - expected|| / ||expected||, in float64."""
    found, expected = found.detach().double(), expected.detach().double()
    assert found.shape == expected.shape
    return float((found - expected).norm() / expected.norm())


def byte_model() -> Model:
    model = bert(BYTES, None)
    model.tokenizer = byte_tokenizer()
    return model
