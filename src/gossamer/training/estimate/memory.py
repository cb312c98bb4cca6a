"""The most memory that a training step takes: its passes walked through part by part, on the architecture alone."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from torch import nn

from gossamer.kernels.ledger import ID, Section
from gossamer.models.architecture import Architecture
from gossamer.training.estimate.saved import Pass, parts_of, trained_model
from gossamer.training.optimization.optimizers import OptimizerSettings, decays

__all__ = ["Memory", "peak_memory"]

PER_TOKEN = 4
"""What a batch is made of: ids, labels, documents and the labels that come next."""


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes at the fullest moment of a step.

    `weights` and `optimizer` are always there; `gradients` as far as they were made by then; `activations` are what
    autograd keeps, by kind of part; `at_work` is what the part that is then running takes besides what it keeps.
    `moment` says which it is.
    """

    weights: int
    optimizer: int
    gradients: int
    activations: dict[str, int]
    at_work: int
    batch: int
    moment: str

    @property
    def peak(self) -> int:
        held = self.weights + self.optimizer + self.gradients + self.at_work + self.batch
        return held + sum(self.activations.values())


def peak_memory(
    architecture: Architecture,
    step: Pass,
    optimizer: OptimizerSettings,
    *,
    accumulation: int = 1,
    trainable: Collection[str] | None = None,
    averaged: bool = False,
) -> Memory:
    """The fullest moment of a training step after the first one, for a model with fresh weights of `step`'s dtype.

    averaged: a running average of the trained weights is kept, which counts as the optimizer's.
    `trainable`: names of the parameters that are trained, all unless given.
    Several processes with DDP hold the gradients once more each. Raises InputError for a head that no objective trains.
    """
    model = trained_model(architecture, step, trainable)
    parameters = dict(model.named_parameters())
    parts = parts_of(architecture, step, model=model)
    tied = parts[-1].reads(model.embeddings.word.weight)
    size = step.weights.itemsize
    trained = {name: one for name, one in parameters.items() if one.requires_grad}
    state = sum(_state(optimizer, one) + averaged * one.numel() for one in trained.values())
    walk = _Walk(
        weights=sum(one.numel() for one in parameters.values()) * size,
        optimizer=state * size,
        batch=PER_TOKEN * ID * step.rows * step.length * accumulation,
        every=sum(one.numel() for one in trained.values()) * size,
        of_owner=_by_owner(trained, size, tied=tied),
        tied=trained["embeddings.word.weight"].numel() * size if tied and "embeddings.word.weight" in trained else 0,
    )
    moments = walk.moments(parts, accumulation > 1)
    return max([*moments, walk.update(_at_work(optimizer, trained) * size)], key=lambda one: one.peak)


@dataclass(frozen=True, kw_only=True)
class _Walk:
    """What is there all the time, and gradients in bytes: all, those of each weight set, of a tied word table."""

    weights: int
    optimizer: int
    batch: int
    every: int
    of_owner: dict[str, int]
    tied: int

    def moments(self, parts: list[Section], accumulates: bool) -> list[Memory]:
        """Each part's fullest moment, forward, then backward. Gradients of earlier micro-batches are there already."""
        kept: dict[str, int] = {}
        found, cached, gradients = [], 0, self.every if accumulates else 0
        for part in parts:
            found.append(self._at(kept, part.forward + cached, gradients, f"forward of {part.owner}"))
            kept[part.kind] = kept.get(part.kind, 0) + part.kept
            cached += part.cached_bytes
        made: set[str] = set()
        for part in reversed(parts):
            kept[part.kind] -= part.kept
            new = self.of_owner.get(part.owner, 0)
            # A set's gradients that are there already get new ones added, which stand beside them for a moment.
            gradients += 0 if accumulates or part.owner in made else new
            twice = new if accumulates or part.owner in made else 0
            made.add(part.owner)
            # The gradient of a tied table is dense: it is made whole, then added to what the loss gave.
            table = self.tied if part.owner == "embeddings" else 0
            found.append(self._at(kept, part.backward + twice + table, gradients, f"backward of {part.owner}"))
            if part.owner == "head" and self.tied:
                gradients += twice  # what the loss gave the word table waits for what the embeddings give it
        return found

    def update(self, at_work: int) -> Memory:
        """While the optimizer runs."""
        return self._at({}, at_work, self.every, "update")

    def _at(self, kept: dict[str, int], at_work: int, gradients: int, moment: str) -> Memory:
        return Memory(
            weights=self.weights, optimizer=self.optimizer, gradients=gradients,
            activations={kind: size for kind, size in kept.items() if size}, at_work=at_work, batch=self.batch,
            moment=moment,
        )  # fmt: skip


def _by_owner(parameters: dict[str, nn.Parameter], size: int, *, tied: bool) -> dict[str, int]:
    """Bytes of gradients of each part's weight set; a tied word table gets its own from the head first."""
    found: dict[str, int] = {}
    for name, one in parameters.items():
        first, second, *_ = f"{name}.".split(".")
        owner = f"{first}.{second}" if first in ("attention", "distance_bias", "feed_forward") else first
        owner = "head" if tied and name == "embeddings.word.weight" else owner
        found[owner] = found.get(owner, 0) + one.numel() * size
    return found


def _state(settings: OptimizerSettings, parameter: nn.Parameter) -> int:
    """How many numbers an optimizer keeps of a parameter: two means; Adafactor's rows and columns."""
    if settings.name != "adafactor":
        return 2 * parameter.numel()
    if not decays(parameter):
        return parameter.numel()
    return parameter.numel() // parameter.shape[-1] + parameter.numel() // parameter.shape[-2]


def _at_work(settings: OptimizerSettings, parameters: dict[str, nn.Parameter]) -> int:
    """How many numbers an update makes for a moment: LAMB three of a parameter's size, Adafactor one, AdamW none."""
    largest = max((one.numel() for one in parameters.values()), default=0)
    return {"adamw": 0, "adafactor": 1, "lamb": 3}[settings.name] * largest
