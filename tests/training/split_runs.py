"""Run by two processes: models of split sequences give outputs and gradients of whole ones; prints the errors."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any
from unittest.mock import Mock, patch

import torch
import torch.distributed as dist
from torch import Tensor

import gossamer as gs
from gossamer.layers import SequenceSplit
from gossamer.models import Model, stack
from gossamer.models.decoders import decoder

PATTERNS = {
    "window": gs.Window(5, 0),
    "both ways": gs.Window(3, 4),
    "dilated": gs.Window(2, 0, 3),
    "sinks": gs.Window(4, 0) | gs.Sink(3),
    "chunks": gs.Chunks(6),
    "near chunks": gs.Chunks(4, before=1),
    "by head": gs.PerHead((gs.Window(4, 0), 1), (gs.Chunks(5) | gs.Sink(2), 1)),
}
FORMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "llama": {"form": "llama"},
    "reversible": {"reversible": "mean"},
    "reversible, shared": {"reversible": "concatenated", "shared_query_key": True, "tied": False},
    "recomputed": {"recompute": "both"},
}


def built(pattern: gs.patterns.Pattern, form: dict[str, Any], slice_length: int | None = None) -> Model:
    torch.manual_seed(5)
    plain = decoder(vocabulary_size=40, length=64, layers=2, hidden_size=12, heads=2, **form)
    layers = tuple(replace(one, attention=replace(one.attention, pattern=pattern)) for one in plain.layers)
    head = plain.head if pattern.causal else None
    model = Model(replace(plain, layers=layers, head=head, slice_length=slice_length)).double().train()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    return model


def learnt(model: Model, batch: dict[str, Tensor], grad: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
    """States, loss, gradients of the loss, or of a function of the states where there is no head."""
    model.zero_grad()
    labels = {"labels": batch["input_ids"]} if model.head is not None else {}
    out = model(**batch, **labels)
    states = out.last_hidden_state
    loss = out.loss if labels else (states * grad).sum()
    loss.backward()
    zero = [torch.zeros_like(one) if one.grad is None else one.grad.clone() for one in model.parameters()]
    return states.detach(), loss.detach(), zero


def error(
    pattern: gs.patterns.Pattern, form: dict[str, Any], length: int, packed: bool, padded: bool,
    slice_length: int | None = None,
) -> float:  # fmt: skip
    """The largest relative difference of states, loss and gradients between whole and split sequences."""
    random = torch.Generator().manual_seed(length)
    batch = {"input_ids": torch.randint(40, (2, length), generator=random)}
    if packed:
        batch["segments"] = torch.randint(0, 3, (2, length), generator=random).sort(1).values
    if padded:
        batch["attention_mask"] = (torch.arange(length) < length - 3).long().expand(2, -1)
    model = built(pattern, form, slice_length)
    wide = model.architecture.output_size
    grad = torch.randn(2, length, wide, generator=random, dtype=torch.float64)
    states, loss, gradients = learnt(model, batch, grad)
    split = model.split = SequenceSplit(rank=dist.get_rank(), count=dist.get_world_size())
    own = split.share(length)
    mine, part, found = learnt(model, batch, grad[:, own])
    share = 1.0 if model.head is None else 1.0 / split.count
    part = part * share
    for one in (part, *found):
        dist.all_reduce(one)
    pairs = [(mine, states[:, own]), (part, loss), *((one * share, other) for one, other in zip(found, gradients))]  # noqa: B905
    return max(float((one - other).norm() / max(float(other.norm()), 1e-3)) for one, other in pairs)


def bytes_sent() -> int:
    """By this process, in a step of two layers under a window of 5."""
    model = built(PATTERNS["window"], {})
    model.split = SequenceSplit(rank=dist.get_rank(), count=dist.get_world_size())
    ids = torch.arange(80).view(2, 40) % 40
    learnt(model, {"input_ids": ids}, torch.zeros(()))
    return model.split.sent


def main() -> None:
    dist.init_process_group("gloo")
    told: dict[str, float] = {}
    sent = bytes_sent()
    for name, pattern in PATTERNS.items():
        for form, settings in FORMS.items():
            for packed, padded in ((False, False), (True, False), (False, True)):
                if packed and name not in ("window", "both ways", "dilated"):
                    continue
                key = f"{name}, {form}{', packed' if packed else ''}{', padded' if padded else ''}"
                told[key] = max(error(pattern, settings, length, packed, padded) for length in (40, 31))
                # Each share of 16 and 15 in slices, the last of them shorter.
                with patch.object(stack, "in_slices", Mock(wraps=stack.in_slices)) as sliced:
                    told[f"{key}, sliced"] = error(pattern, settings, 31, packed, padded, slice_length=7)
                assert sliced.called, key
    print(json.dumps([sent, told]))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
