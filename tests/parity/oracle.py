"""`transformers` on drawn cases: the same weights, the same batch, the outputs under our names."""

import copy
import tempfile
from pathlib import Path
from typing import Any

import torch
import transformers
from drawn_cases import Case, real_tokens
from torch import Tensor
from transformers import PreTrainedModel

import gossamer as gs
from gossamer.families import get_family
from gossamer.families.stored import StoredTensor
from gossamer.models import Model

BOUND = 1e-5
transformers.utils.logging.disable_progress_bar()


def double_bound(family: str) -> float:
    """transformers' Longformer takes its softmax in float32, Llama its norms, ModernBERT its turns."""
    return 1e-5 if family in ("longformer", "llama", "modernbert") else 1e-9


def their_class(family: str, head: str | None) -> Any:
    form = get_family(family)
    return getattr(transformers, form.bare if head is None else form.heads[head].architectures[0])


def build(case: Case, dtype: torch.dtype) -> PreTrainedModel:
    """transformers' model with weights at which no bias, norm or projection is trivial."""
    torch.manual_seed(case.seed)
    # A loss writes the problem type that it found into the config.
    model = their_class(case.family, case.head)(copy.deepcopy(case.config)).to(dtype).eval()
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
        loaded, info = their_class(case.family, case.head).from_pretrained(
            directory, output_loading_info=True, attn_implementation=case.config._attn_implementation
        )
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    return loaded.eval()


def their_outputs(model: PreTrainedModel, case: Case) -> dict[str, Tensor]:
    table = model.get_input_embeddings()
    assert isinstance(table, torch.nn.Embedding)
    batch = _batch(case, table)
    if case.global_mask is not None:
        batch["global_attention_mask"] = case.global_mask.long()
    out = model(**batch, **_their_labels(case, model.dtype), output_hidden_states=True)
    loss = getattr(out, "loss", None)
    match case.head:
        case None:
            found = {"pooled": getattr(out, "pooler_output", None)}
        case "question-answering":
            found = {"logits": torch.stack([out.start_logits, out.end_logits], dim=-1)}
        case "causal-lm":
            found, loss = {"logits": out.logits}, _next_token_loss(out.logits, case.labels, loss)
        case "replaced-token":
            found, loss = {"logits": out.logits}, _replaced_token_loss(out.logits, case, loss)
        case "pre-training":
            pairs = out.sop_logits if case.family == "albert" else out.seq_relationship_logits
            found = {"logits": out.prediction_logits, "pair_logits": pairs}
        case _:
            found = {"logits": out.logits}
    return _named(found | {"loss": loss}, out.hidden_states, case)


def _next_token_loss(logits: Tensor, labels: Tensor | None, theirs: Tensor | None) -> Tensor | None:
    """What transformers takes in float32, whatever the logits are, in the type of the logits."""
    if labels is None or theirs is None:
        return None
    loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
    assert distance(loss, theirs) <= BOUND
    return loss


def _replaced_token_loss(logits: Tensor, case: Case, theirs: Tensor) -> Tensor:
    """What transformers takes against labels in float32, whatever the logits are, in the type of the logits."""
    real = case.batch.get("attention_mask", torch.ones_like(case.labels)) == 1
    wanted = case.labels[real].to(logits.dtype)
    loss = torch.nn.functional.binary_cross_entropy_with_logits(logits[real], wanted)
    assert distance(loss, theirs) <= BOUND
    return loss


def our_outputs(model: Model, case: Case) -> dict[str, Tensor]:
    batch = _batch(case, model.embeddings.word)
    out = model(**batch, global_mask=case.global_mask, labels=case.labels, output_hidden_states=True)
    assert out.hidden_states is not None
    if case.head == "causal-lm" and case.labels is not None:
        assert out.logits is None  # all of them never exist where there is a loss
        out.logits = model(**batch, global_mask=case.global_mask).logits
    found = {"logits": out.logits, "pair_logits": out.pair_logits, "loss": out.loss}
    return _named(found | ({"pooled": out.pooled} if case.head is None else {}), out.hidden_states, case)


def _batch(case: Case, table: torch.nn.Embedding) -> dict[str, Tensor]:
    batch = dict(case.batch)
    if case.embedded:
        batch["inputs_embeds"] = table(batch.pop("input_ids"))
    return batch


def _their_labels(case: Case, dtype: torch.dtype) -> dict[str, Tensor]:
    labels = case.labels
    if labels is None:
        return {}
    match case.head:
        case "question-answering":
            return {"start_positions": labels[:, 0], "end_positions": labels[:, 1]}
        case "pre-training":
            pairs = "sentence_order_label" if case.family == "albert" else "next_sentence_label"
            return {"labels": labels[0], pairs: labels[1]}
        case _:
            return {"labels": labels.to(dtype) if labels.is_floating_point() else labels}


def _named(found: dict[str, Tensor | None], states: tuple[Tensor, ...], case: Case) -> dict[str, Tensor]:
    named = {f"hidden_states[{i}]": one for i, one in enumerate(states)}
    named |= {name: one for name, one in found.items() if one is not None}
    real = real_tokens(case)
    if real is None:
        return named
    return {name: one[real] if one.shape[:2] == real.shape else one for name, one in named.items()}


def gradients(outputs: dict[str, Tensor], model: torch.nn.Module, seed: int) -> dict[str, Tensor]:
    """Gradients of a random linear function of every output, by parameter."""
    random = torch.Generator().manual_seed(seed)
    total = sum(
        (one * torch.randn(one.shape, generator=random, dtype=torch.float64).to(one.dtype)).sum()
        for _, one in sorted(outputs.items())
    )
    names = dict(model.named_parameters())
    found = torch.autograd.grad(
        total,  # type: ignore[arg-type]
        list(names.values()),
        allow_unused=True,
        retain_graph=True,
    )
    return {name: one for name, one in zip(names, found, strict=True) if one is not None}


def in_their_names(
    ours: dict[str, Tensor], model: Model, theirs: dict[str, Tensor], config: dict[str, Any]
) -> tuple[Tensor, Tensor]:
    """Both sides' gradients in one order, each as one vector; every one of theirs must have its counterpart."""
    family = get_family(model.family).numbered_by(config)
    copies = {own: name for name, own in family.tied_names(model.architecture).items()}
    several: dict[StoredTensor, list[str]] = {}
    for name, stored in family.stored(ours, model.architecture).items():
        tied = [copies[own] for own in stored.ours if own in copies]
        several.setdefault(stored, []).extend([name, *tied])
    pairs = {}
    for stored, names in several.items():
        spelled = [family.file_name(name, model.architecture) for name in names]
        pairs[next((one for one in spelled if one in theirs), spelled[0])] = stored.join(ours)
    assert set(pairs) == set(theirs)
    mine, reference = ([one[name].flatten() for name in sorted(theirs)] for one in (pairs, theirs))
    return torch.cat(mine), torch.cat(reference)


def distance(a: Tensor, b: Tensor) -> float:
    """||a - b|| / ||b||, in float64; ||a|| where b is 0, 0 where there is nothing to compare."""
    a, b = a.detach().double(), b.detach().double()
    assert a.shape == b.shape
    return float((a - b).norm() / (b.norm() or 1.0)) if b.numel() else 0.0
