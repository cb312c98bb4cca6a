"""What autograd keeps from the forward pass to the backward pass, part by part: the modules' own accounts, gathered.

A test compares them, byte for byte, with the tensors that `torch.autograd.graph.saved_tensors_hooks` reports.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import torch

from gossamer.kernels.ledger import Ledger, Section
from gossamer.models.account import account_model, model_without_memory
from gossamer.models.architecture import Architecture
from gossamer.models.model import Model

__all__ = ["Pass", "parts_of", "trained_model"]


@dataclass(frozen=True, kw_only=True)
class Pass:
    """One micro-batch: `rows` texts of `length` tokens, weights of a dtype, linear maps in `autocast`'s where given.

    padded: whether some of the texts are shorter and filled up. processes: so many split each text, of which one is
    told of.
    """

    rows: int
    length: int
    weights: torch.dtype = torch.float32
    autocast: torch.dtype | None = None
    device: str = "cpu"
    padded: bool = False
    processes: int = 1

    @property
    def share(self) -> int:
        """Tokens of each text that one process has."""
        return math.ceil(self.length / self.processes)

    @property
    def tokens(self) -> int:
        """Those of one process."""
        return self.rows * self.share


def trained_model(architecture: Architecture, step: Pass, trainable: Collection[str] | None = None) -> Model:
    """A model without memory whose parameters of these names are trained, or all that no storage freezes."""
    model = model_without_memory(architecture).to(step.weights)
    for name, parameter in model.named_parameters():
        if trainable is not None:
            parameter.requires_grad_(name in trainable)
    return model


def parts_of(
    architecture: Architecture, step: Pass, *, model: Model | None = None, switched: bool = False
) -> list[Section]:
    """The parts in the order of the forward pass; `model` says what is trained; `switched`: with a `head_mask`.

    Raises InputError for a head that no objective trains, and for patterns that shares cannot be read under.
    """
    head = architecture.head
    has_global = architecture.global_tokens == "first" or (head is not None and head.first_is_global)
    ledger = Ledger(
        training=True, autocast=step.autocast, device=step.device, padded=step.padded,
        global_tokens=int(architecture.takes_global_tokens and has_global),
    )  # fmt: skip
    account_model(
        model or trained_model(architecture, step), ledger, step.rows, step.length, switched=switched,
        processes=step.processes,
    )  # fmt: skip
    return ledger.sections
