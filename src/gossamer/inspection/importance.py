"""How much each head matters: what changes in a model's results where it is switched off."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.errors import InputError
from gossamer.models import Model
from gossamer.models.evaluation import evaluating
from gossamer.models.model_argument import check_model, check_one_text
from gossamer.models.output import Output

__all__ = ["HeadImportance", "head_importance"]


@dataclass(frozen=True, kw_only=True)
class HeadImportance:
    """values: one number a layer and head, NaN where a layer has fewer. told: what it measures."""

    values: Float[Tensor, "layers heads"]
    told: str


@torch.no_grad()
def head_importance(
    model: Model, texts: Sequence[str], *, progress: Callable[[int, int], object] | None = None
) -> HeadImportance:
    """What switching one head off changes, for every head by itself (Michel et al. 2019, arXiv 1905.10650, section 3).

    Of a causal language model by how much its loss rises, in nats a token; of other heads with logits the divergence
    of the results from those of the whole model, KL(whole || without) in nats, averaged over tokens or texts; of
    models without, 1 - the cosine of sentence vectors, or of the states of the same token. Texts are cut to what the
    model reads; each is read once for every head and once whole. `progress(done, total)` counts those readings.

    Raises InputError for no texts, and for models of two texts.
    """
    check_model(model)
    check_one_text(model, "the importance of heads")
    if isinstance(texts, str) or not texts:
        raise InputError("texts is one text or none; give a list of texts that heads are switched off on")
    if model.tokenizer is None:
        raise InputError("the model has no tokenizer: put tokenizer.json into its directory to read texts")
    layers = [one.attention.heads for one in model.architecture.layers]
    values = torch.full((len(layers), max(layers)), float("nan"), dtype=torch.float64)
    device = next(model.parameters()).device
    total, done = len(texts) * (1 + sum(layers)), 0
    sums = torch.zeros_like(values)

    def read(batch: dict[str, Tensor], head_mask: Tensor | None) -> Output:
        nonlocal done
        found = model(**batch, head_mask=head_mask)
        done += 1
        if progress is not None:
            progress(done, total)
        return found

    with evaluating(model):
        for text in texts:
            batch = {name: one.to(device) for name, one in model.tokenizer(text, max_length=_limit(model)).items()}
            whole = read(batch, None)
            for i, heads in enumerate(layers):
                for head in range(heads):
                    mask = torch.ones(values.shape, device=device)
                    mask[i, head] = 0
                    sums[i, head] += _change(model, batch, whole, read(batch, mask))
    for i, heads in enumerate(layers):
        values[i, :heads] = sums[i, :heads] / len(texts)
    return HeadImportance(values=values, told=_told(model))


def _limit(model: Model) -> int | None:
    return None if not model.architecture.length else model.architecture.length


def _told(model: Model) -> str:
    head = model.architecture.head
    if head is not None and head.kind == "causal-lm":
        return "by how many nats a token the loss rises where a head is switched off"
    if head is None or head.kind == "embed":
        return "1 - cosine to what the whole model gives, where a head is switched off"
    return "divergence in nats from what the whole model gives, where a head is switched off"


def _change(model: Model, batch: dict[str, Tensor], whole: Output, without: Output) -> float:
    head = model.architecture.head
    if whole.logits is None:
        pooled = whole.pooled is not None and head is not None and head.kind == "embed"
        states = (whole.pooled, without.pooled) if pooled else (whole.last_hidden_state, without.last_hidden_state)
        old, new = (one.double() for one in states if one is not None)
        return float((1 - torch.cosine_similarity(old, new, dim=-1)).mean())
    assert without.logits is not None
    if head is not None and head.kind == "causal-lm":
        return _loss(without.logits, batch["input_ids"]) - _loss(whole.logits, batch["input_ids"])
    old, new = (one.double() for one in (whole.logits, without.logits))
    if head is not None and head.kind == "question-answering":
        old, new = old.transpose(1, 2), new.transpose(1, 2)  # places are what is told apart
    if old.shape[-1] == 1:
        return float((old - new).abs().mean())
    return float((old.softmax(-1) * (old.log_softmax(-1) - new.log_softmax(-1))).sum(-1).mean())


def _loss(logits: Tensor, ids: Tensor) -> float:
    if ids.shape[1] < 2:
        raise InputError("a text has one token, which a language model tells nothing about: give longer ones")
    return float(torch.nn.functional.cross_entropy(logits[0, :-1].double(), ids[0, 1:]))
