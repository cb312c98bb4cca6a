"""Layers of a student that learn to give what layers of its teacher give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from gossamer.errors import InputError
from gossamer.layers import Linear
from gossamer.models import Architecture, Model, Output
from gossamer.models.checks import require, require_choice, require_positive
from gossamer.training.objectives.soft_targets import cosine_distance

__all__ = ["PROJECTIONS", "Match", "build_projections", "check_matches", "match_loss"]

PROJECTIONS = "distillation_projections"
"""The module of a student in training that holds them."""

MatchLoss = Literal["cosine", "mse"]


@dataclass(frozen=True, kw_only=True)
class Match:
    """The states behind a layer of the teacher are those behind a layer of the student, over real tokens.

    teacher, student: layers from 0, or from the end, -1 being the last. loss: "cosine", 1 - cos, or "mse", the mean
    squared difference (TinyBERT: Jiao et al. 2020, arXiv 1909.10351, equation 8; PKD: Sun et al. 2019, arXiv
    1908.09355). Where the models differ in width the student's states go through a linear map that is learnt and left
    behind.
    """

    teacher: int
    student: int
    loss: MatchLoss = "mse"
    weight: float = 1.0

    def __post_init__(self) -> None:
        require_choice(self, MatchLoss, "loss")
        require_positive(self, "weight", zero=True)
        for name in ("teacher", "student"):
            require(type(getattr(self, name)) is int, name, getattr(self, name), "a layer, a whole number")


def check_matches(matches: Sequence[Match], teacher: Architecture, student: Architecture) -> None:
    """InputError for a layer that one of them has not."""
    for i, match in enumerate(matches):
        for name, architecture in (("teacher", teacher), ("student", student)):
            layer, count = getattr(match, name), len(architecture.layers)
            if not -count <= layer < count:
                raise InputError(
                    f"objective.matches[{i}].{name} is {layer}; the {name} has {count} layers, 0 to {count - 1}"
                )


def build_projections(
    matches: Sequence[Match], teacher: Architecture, student: Architecture, seed: int
) -> nn.ModuleDict | None:
    """A map from the student's width to the teacher's for each match, drawn by the seed; None where they are equal."""
    if teacher.hidden_size == student.hidden_size or not matches:
        return None
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.ModuleDict({str(i): Linear(student.hidden_size, teacher.hidden_size) for i in range(len(matches))})


def match_loss(
    match: Match, number: int, student: Model, ours: Output, theirs: Output, is_real: Bool[Tensor, "batch length"]
) -> Float[Tensor, ""]:
    """The mean of a match over real tokens."""
    told = _states_behind(ours, match.student)
    projections = cast(nn.ModuleDict | None, student._modules.get(PROJECTIONS))
    if projections is not None:
        told = projections[str(number)](told)
    wanted = _states_behind(theirs, match.teacher)
    if match.loss == "cosine":
        return cosine_distance(told, wanted, is_real)
    return (told - wanted)[is_real].square().mean()


def _states_behind(out: Output, layer: int) -> Tensor:
    states = cast(tuple[Tensor, ...], out.hidden_states)
    return states[layer + 1] if layer >= 0 else states[layer]
