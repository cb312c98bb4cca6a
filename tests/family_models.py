"""Small models of every public family and head: random weights, saved by `transformers`, loaded by Gossamer."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from hypothesis import strategies as st
from torch import Tensor

import gossamer as gs
from gossamer.models import Model

SEPARATOR = 2
LABELS = {0: "no", 1: "yes", 2: "who knows"}
NUMBERS = {name: i for i, name in LABELS.items()}
LABELLED = ("sequence-classification", "token-classification")
NAMES = {
    "bert": "Bert",
    "roberta": "Roberta",
    "xlm-roberta": "XLMRoberta",
    "camembert": "Camembert",
    "distilbert": "DistilBert",
    "albert": "Albert",
    "electra": "Electra",
}
CLASSES = {
    "none": "Model",
    "embed": "Model",
    "masked-lm": "ForMaskedLM",
    "sequence-classification": "ForSequenceClassification",
    "token-classification": "ForTokenClassification",
    "question-answering": "ForQuestionAnswering",
    "multiple-choice": "ForMultipleChoice",
}
PRE_TRAINING = [
    ("bert", "pre-training"),
    ("bert", "next-sentence"),
    ("albert", "pre-training"),
    ("electra", "replaced-token"),
]
KIN = ("roberta", "xlm-roberta", "camembert")
PAIRS = [*((family, head) for family in NAMES if family not in KIN[1:] for head in CLASSES), *PRE_TRAINING]
"""RoBERTa stands for its kin, which are drawn."""
OWN = {
    "pre-training": "ForPreTraining",
    "replaced-token": "ForPreTraining",
    "next-sentence": "ForNextSentencePrediction",
}


def config(family: str, *, labels: bool = False, **sizes: Any) -> Any:
    """A configuration of that family; `sizes` in BERT's words, `length` in tokens."""
    length, padding = sizes.pop("length", 16), sizes.get("pad_token_id", 1)
    counts_from_padding = family in KIN
    known = {
        "vocab_size": 30,
        "hidden_size": 8,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 12,
        "max_position_embeddings": length + (padding + 1 if counts_from_padding else 0),
        "pad_token_id": padding,
        **({"id2label": LABELS, "label2id": NUMBERS} if labels else {}),
        **sizes,
    }
    if family == "albert":
        known = {"embedding_size": 6, **known}
    if family == "electra":
        known = {"embedding_size": known["hidden_size"], **known}
    if family == "distilbert":
        words = {"hidden_size": "dim", "num_hidden_layers": "n_layers", "num_attention_heads": "n_heads"}
        words |= {"intermediate_size": "hidden_dim", "hidden_act": "activation"}
        known = {words.get(name, name): value for name, value in known.items() if name != "type_vocab_size"}
    return getattr(transformers, f"{NAMES[family]}Config")(**known)


def theirs(family: str, head: str, settings: Any, seed: int = 0, dtype: torch.dtype = torch.float32) -> Any:
    """transformers' model with weights at which nothing is trivial."""
    torch.manual_seed(seed)
    model = getattr(transformers, NAMES[family] + (CLASSES | OWN)[head])(settings).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.2)
    return model.to(dtype)


def ours(family: str, head: str, settings: Any = None, seed: int = 0, dtype: torch.dtype = torch.float32) -> Model:
    """The same model, through a directory."""
    with tempfile.TemporaryDirectory() as directory:
        theirs(family, head, settings or config(family, labels=head in LABELLED), seed, dtype).save_pretrained(
            directory
        )
        model = gs.load(directory, head=head)
    # Known from a tokenizer, which these models have not.
    model.extra_config["sep_token_id"] = SEPARATOR
    return model


@st.composite
def models(draw: st.DrawFn, family: str, head: str) -> Model:
    family = draw(st.sampled_from(KIN)) if family in KIN else family
    heads = draw(st.integers(1, 3))
    sizes = {
        "length": draw(st.integers(12, 40)),
        "vocab_size": draw(st.integers(10, 40)),
        "pad_token_id": draw(st.sampled_from([0, 1, 3])),
        "hidden_size": heads * draw(st.sampled_from([4, 8])),
        "num_hidden_layers": draw(st.integers(1, 4)),
        "num_attention_heads": heads,
        "intermediate_size": draw(st.integers(1, 24)),
        "hidden_act": draw(st.sampled_from(["gelu", "gelu", "relu"])),
        "tie_word_embeddings": draw(st.booleans()),
    }
    if family == "albert":
        sizes |= {"embedding_size": draw(st.integers(2, 12)), "inner_group_num": draw(st.integers(1, 2))}
        sizes["num_hidden_groups"] = draw(st.integers(1, sizes["num_hidden_layers"]))
    if family == "electra" and draw(st.booleans()):
        sizes |= {"embedding_size": draw(st.integers(2, 12))}
    return ours(family, head, config(family, labels=head in LABELLED, **sizes), draw(st.integers(0, 2**31)))


@dataclass(frozen=True)
class Batch:
    """Texts shaped [rows, length], or [rows, choices, length] for a multiple-choice head, padded on the right."""

    ids: Tensor
    mask: Tensor

    def read(self, model: Model, **more: Any) -> Any:
        with torch.no_grad():
            return model(self.ids, attention_mask=self.mask, **more)


def batch(model: Model, length: int, seed: int, separators: tuple[int, ...] = (2,), padded: bool = True) -> Batch:
    """Random texts of up to `length` tokens, with separators at these places and padding after drawn lengths."""
    sizes = model.architecture.embeddings
    random = torch.Generator().manual_seed(seed)
    rows = 4 if padded else 2
    ids = torch.randint(4, sizes.vocabulary_size, (rows, length), generator=random)
    least = min(max(separators, default=0) + 1, length)
    kept = torch.randint(least, length + 1, (rows, 1), generator=random) if padded else torch.full((rows, 1), length)
    for place in separators:
        if place < length:
            ids[:, place] = SEPARATOR
    mask = torch.arange(length).expand(rows, -1) < kept
    ids = ids.where(mask, 0 if sizes.padding_id is None else sizes.padding_id)
    is_choice = getattr(model.architecture.head, "kind", None) == "multiple-choice"
    return Batch(*(one.view(2, rows // 2, length) if is_choice else one for one in (ids, mask)))


def outputs(out: Any, real: Tensor) -> dict[str, Tensor]:
    """What a model gives, at real tokens where it is one a token."""
    flat = real.view(-1, real.shape[-1])
    found = {"states": out.last_hidden_state[flat]}
    if out.logits is not None:
        found["logits"] = out.logits[flat] if out.logits.shape[:2] == flat.shape else out.logits
    for name in ("pair_logits", "pooled"):
        found |= {} if getattr(out, name) is None else {name: getattr(out, name)}
    return found


def distance(found: Tensor, expected: Tensor) -> float:
    """||found - expected|| / ||expected||, in float64."""
    found, expected = found.detach().double(), expected.detach().double()
    assert found.shape == expected.shape
    return float((found - expected).norm() / expected.norm())


def in_transformers(directory: Path, head: str) -> Any:
    """The Longformer saved there, which must find every tensor it wants and no other; a pooler may be missing."""
    name = f"Longformer{CLASSES[head]}"
    loaded, info = getattr(transformers, name).from_pretrained(directory, output_loading_info=True)
    assert set(info["missing_keys"]) <= (
        {"pooler.dense.bias", "pooler.dense.weight"} if name.endswith("Model") else set()
    )
    assert not info["unexpected_keys"]
    return loaded.eval()
