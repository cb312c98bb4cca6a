"""Drawn configurations, random weights and random texts, in `transformers` and in Gossamer."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertModel,
    LongformerConfig,
    LongformerForMaskedLM,
    LongformerModel,
    PreTrainedModel,
)

import gossamer as gs
from gossamer.families import get_family
from gossamer.models import Model

BOUND = 1e-5
# transformers' Longformer takes its softmax in float32 whatever the weights are; its BERT does not.
DOUBLE_BOUND = {"bert": 1e-9, "longformer": 1e-5}
CLASSES = {
    ("bert", False): BertModel,
    ("bert", True): BertForMaskedLM,
    ("longformer", False): LongformerModel,
    ("longformer", True): LongformerForMaskedLM,
}


@dataclass
class Case:
    """One drawn model and batch."""

    family: str
    masked_lm: bool
    config: Any
    batch: dict[str, Tensor]
    global_mask: Tensor | None
    seed: int

    @property
    def real(self) -> Tensor:
        """Positions at which outputs are compared."""
        mask = self.batch.get("attention_mask")
        return torch.ones_like(self.batch["input_ids"], dtype=torch.bool) if mask is None else mask.bool()


@st.composite
def cases(draw: st.DrawFn, family: str) -> Case:
    size = {name: draw(values) for name, values in _sizes().items()}
    heads, head_size, layers = draw(st.integers(1, 4)), draw(st.sampled_from([3, 4, 8, 16])), draw(st.integers(1, 3))
    length, rows = draw(st.integers(1, 45) | st.sampled_from([16, 32, 48])), draw(st.integers(1, 3))
    pad = draw(st.integers(0, 3))
    shared = {
        **size,
        "hidden_size": max(8, heads * head_size) // heads * heads if heads * head_size >= 8 else 8 * heads,
        "num_attention_heads": heads,
        "num_hidden_layers": layers,
        "pad_token_id": pad,
        "tie_word_embeddings": draw(st.booleans()),
    }
    spare = draw(st.integers(0, 3))
    if family == "bert":
        config = BertConfig(**shared, max_position_embeddings=length + spare)
        config._attn_implementation = "eager"
    else:
        # transformers pads to the largest window and needs every other one to divide it; 2 it cannot compute.
        window = draw(st.lists(st.sampled_from([4, 8, 16]), min_size=layers, max_size=layers))
        config = LongformerConfig(
            **shared, attention_window=window, max_position_embeddings=length + spare + pad + 1, sep_token_id=2
        )
    seed = draw(st.integers(0, 2**31))
    batch = _batch(draw, config, rows, length, seed)
    flags = torch.rand(rows, length, generator=_generator(seed + 1)) < draw(st.sampled_from([0.05, 0.3, 1.0]))
    use_flags = family == "longformer" and draw(st.booleans())
    return Case(family, draw(st.booleans()), config, batch, flags if use_flags else None, seed)


def _sizes() -> dict[str, st.SearchStrategy[Any]]:
    return {
        "vocab_size": st.integers(5, 60),
        "type_vocab_size": st.integers(1, 3),
        "intermediate_size": st.integers(1, 40),
        "hidden_act": st.sampled_from(["gelu", "gelu_new", "relu", "silu"]),
        "layer_norm_eps": st.sampled_from([1e-12, 1e-5]),
    }


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _batch(draw: st.DrawFn, config: Any, rows: int, length: int, seed: int) -> dict[str, Tensor]:
    random = _generator(seed)
    batch = {"input_ids": torch.randint(config.vocab_size, (rows, length), generator=random)}
    if draw(st.booleans()):
        batch["token_type_ids"] = torch.randint(config.type_vocab_size, (rows, length), generator=random)
    padding = draw(st.sampled_from(["none", "right", "left", "anywhere"]))
    if padding != "none":
        kept = torch.randint(1, length + 1, (rows, 1), generator=random)
        order = torch.arange(length).expand(rows, -1)
        order = order.flip(1) if padding == "left" else order
        order = torch.rand(rows, length, generator=random).argsort(1) if padding == "anywhere" else order
        batch["attention_mask"] = (order < kept).long()
        if draw(st.booleans()):
            batch["input_ids"] = batch["input_ids"].where(batch["attention_mask"].bool(), config.pad_token_id)
    return batch


def build(case: Case, dtype: torch.dtype) -> PreTrainedModel:
    """transformers' model with weights at which no bias, norm or projection is trivial."""
    torch.manual_seed(case.seed)
    model = CLASSES[case.family, case.masked_lm](case.config).to(dtype).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.2)
    return model


def through_disk(theirs: PreTrainedModel) -> Model:
    """Saved by transformers, loaded by Gossamer."""
    with tempfile.TemporaryDirectory() as directory:
        theirs.save_pretrained(directory)
        return gs.load(directory)


def back_through_disk(ours: Model, case: Case) -> PreTrainedModel:
    """Saved by Gossamer, loaded by transformers, which must find every tensor it wants and no other."""
    with tempfile.TemporaryDirectory() as directory:
        gs.save(ours, directory)
        assert (Path(directory) / "gossamer.json").exists()
        loaded, info = CLASSES[case.family, case.masked_lm].from_pretrained(
            directory, output_loading_info=True, attn_implementation=case.config._attn_implementation
        )
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    return loaded.eval()


def their_outputs(model: PreTrainedModel, case: Case) -> dict[str, Tensor]:
    flags = {} if case.global_mask is None else {"global_attention_mask": case.global_mask.long()}
    out = model(**case.batch, **flags, output_hidden_states=True)
    named = {f"hidden_states[{i}]": one[case.real] for i, one in enumerate(out.hidden_states)}
    return named | (
        {"logits": out.logits[case.real]} if case.masked_lm else {"pooled": out.pooler_output[case.real[:, 0]]}
    )


def our_outputs(model: Model, case: Case) -> dict[str, Tensor]:
    out = model(**case.batch, global_mask=case.global_mask, output_hidden_states=True)
    assert out.hidden_states is not None
    named = {f"hidden_states[{i}]": one[case.real] for i, one in enumerate(out.hidden_states)}
    if case.masked_lm:
        assert out.logits is not None
        return named | {"logits": out.logits[case.real]}
    assert out.pooled is not None
    return named | {"pooled": out.pooled[case.real[:, 0]]}


def gradients(outputs: dict[str, Tensor], model: torch.nn.Module, seed: int) -> dict[str, Tensor]:
    """Gradients of a random linear function of every output, by parameter."""
    random = _generator(seed)
    total = sum(
        (one * torch.randn(one.shape, generator=random, dtype=torch.float64).to(one.dtype)).sum()
        for _, one in sorted(outputs.items())
    )
    names = dict(model.named_parameters())
    found = torch.autograd.grad(total, list(names.values()), allow_unused=True)  # type: ignore[arg-type]
    return {name: one for name, one in zip(names, found, strict=True) if one is not None}


def in_their_names(ours: dict[str, Tensor], model: Model, theirs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Both sides' gradients in one order, each as one vector; every one of theirs must have its counterpart."""
    family = get_family(model.family)
    table = family.names(ours, model.architecture)
    pairs = {
        next(one for one in (family.file_name(name, model.architecture) for name in names) if one in theirs): ours[own]
        for own, names in table.items()
    }
    assert set(pairs) == set(theirs)
    mine, reference = ([one[name].flatten() for name in sorted(theirs)] for one in (pairs, theirs))
    return torch.cat(mine), torch.cat(reference)


def distance(a: Tensor, b: Tensor) -> float:
    """||a - b|| / ||b||, in float64; 0 where there is nothing to compare."""
    a, b = a.detach().double(), b.detach().double()
    assert a.shape == b.shape
    return float((a - b).norm() / b.norm()) if b.numel() else 0.0
