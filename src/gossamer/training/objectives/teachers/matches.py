"""Layers of a student that learn to give what layers of its teacher give."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Literal, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from gossamer.errors import InputError
from gossamer.inspection import CapturedAttention, capture
from gossamer.layers import Linear
from gossamer.models import Architecture, Model, Output
from gossamer.models.checks import require, require_choice, require_count, require_flag, require_positive
from gossamer.training.objectives.base import unwrapped
from gossamer.training.objectives.teachers.attention_loss import attention_loss, draw_rows
from gossamer.training.objectives.teachers.soft_targets import cosine_distance
from gossamer.training.objectives.teachers.teacher import Teacher, teacher_of
from gossamer.training.processes import used_apart

__all__ = [
    "Match",
    "are_matches",
    "capture_matched",
    "check_matches",
    "give_projections",
    "matched_loss",
    "read_matched",
    "reads_states",
    "require_no_cache",
    "take_projections",
    "without_projections",
]

PROJECTIONS = "distillation_projections"
"""The module of a student in training that holds them."""

MatchLoss = Literal["cosine", "mse", "kl", "log-mse"]
Matched = Literal["states", "attention"]
OF_STATES = ("cosine", "mse")
"""The losses of states, which are no probabilities."""

Watched = tuple[CapturedAttention, CapturedAttention] | None
"""What student and teacher attend to, in this order."""


@dataclass(frozen=True, kw_only=True)
class Match:
    """What a layer of the teacher gives, a layer of the student learns to give: states or rows of attention.

    teacher, student: layers from 0, or from the end, -1 being the last. of: "states", those behind the layers, over
    real tokens, or "attention", the weights with which real tokens attend. loss: of states "cosine", 1 - cos, or "mse",
    the mean squared difference (TinyBERT: Jiao et al. 2020, arXiv 1909.10351, equation 8; PKD: Sun et al. 2019, arXiv
    1908.09355); where the models differ in width the student's go through a linear map that is learnt and left behind.
    Of attention also "kl" (MiniLM: Wang et al. 2020, arXiv 2002.10957, section 3.1) and "log-mse", as `attention_loss`
    says. Of each text `rows` tokens are drawn by the run's seed and step, all of a text that has no more, so that no
    [length, length] is made. average_heads: the weights are averaged over heads before they are compared, for models
    that have not equally many.
    """

    teacher: int
    student: int
    of: Matched = "states"
    loss: MatchLoss = "mse"
    weight: float = 1.0
    rows: int = 64
    average_heads: bool = False

    def __post_init__(self) -> None:
        require_choice(self, Matched, "of")
        require_choice(self, MatchLoss, "loss")
        require_positive(self, "weight", zero=True)
        require_count(self, "rows")
        require_flag(self, "average_heads")
        for name in ("teacher", "student"):
            require(type(getattr(self, name)) is int, name, getattr(self, name), "a layer, a whole number")
        if self.of == "states":
            allowed = "'cosine' or 'mse' of states, which are no probabilities; of: attention takes the others"
            require(self.loss in OF_STATES, "loss", self.loss, allowed)
            for name, usual in (("rows", 64), ("average_heads", False)):
                require(getattr(self, name) == usual, name, getattr(self, name), "left out, but with of: attention")


def are_matches(matches: object) -> bool:
    """Whether these are matches, in a tuple."""
    return isinstance(matches, tuple) and all(isinstance(one, Match) for one in matches)


def require_no_cache(matches: Sequence[Match], cache: object) -> None:
    """InputError for matches where the teacher's outputs are in a cache."""
    if cache is not None:
        require(not matches, "matches", matches, "left out where there is a cache: it holds no states of layers")


def reads_states(matches: Sequence[Match]) -> bool:
    """Whether the states behind all layers are needed."""
    return any(one.weight and one.of == "states" for one in matches)


def check_matches(matches: Sequence[Match], teacher: Architecture, student: Architecture) -> None:
    """InputError for a layer that one of them has not, and for attention that does not compare."""
    for i, match in enumerate(matches):
        for name, architecture in (("teacher", teacher), ("student", student)):
            layer, count = getattr(match, name), len(architecture.layers)
            if not -count <= layer < count:
                raise InputError(
                    f"objective.matches[{i}].{name} is {layer}; the {name} has {count} layers, 0 to {count - 1}"
                )
        if match.of == "attention":
            _check_attention(match, f"objective.matches[{i}]", teacher, student)


def _check_attention(match: Match, path: str, teacher: Architecture, student: Architecture) -> None:
    theirs, ours = (one.layers[layer].attention for one, layer in ((teacher, match.teacher), (student, match.student)))
    if not (theirs.heads and ours.heads):
        whose = "student" if theirs.heads else "teacher"
        raise InputError(f"{path}: the {whose}'s layer has no heads; match another, or its states")
    if theirs.heads != ours.heads and not match.average_heads:
        raise InputError(
            f"{path}: the teacher's layer has {theirs.heads} heads and the student's {ours.heads}; choose layers with "
            "equally many, or set average_heads: true"
        )
    if student.reversible != "no" or theirs.pattern.hashes is not None:
        why = "the student's residuals are reversible" if student.reversible != "no" else f"of {theirs.pattern}"
        raise InputError(f"{path}: attention cannot be matched, {why}, so that no weights are kept; match states")
    if theirs.pattern != ours.pattern:
        raise InputError(
            f"{path}: the teacher's layer attends by {theirs.pattern} and the student's by {ours.pattern}, so their "
            "rows are over different keys; choose layers of one pattern, or match states"
        )
    heads = [None if one.head is None else one.head.kind for one in (teacher, student)]
    flagged = theirs.pattern.sees_flags or any(one.global_projections for one in (theirs, ours))
    if flagged and (teacher.global_tokens != student.global_tokens or heads[0] != heads[1]):
        raise InputError(
            f"{path}: the teacher's global tokens are {teacher.global_tokens!r} with the head {heads[0]!r} and the "
            f"student's {student.global_tokens!r} with {heads[1]!r}; their rows are over different keys: make them the "
            "same, or match states"
        )


def give_projections(matches: Sequence[Match], teacher: Architecture, student: Model, seed: int) -> None:
    """Give a student in training a map to the teacher's width for each match of states, drawn by the seed.

    None where both are equally wide.
    """
    wide, own = teacher.output_size, student.architecture.output_size
    of_states = [str(i) for i, match in enumerate(matches) if match.of == "states"]
    if wide == own or not of_states:
        return
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        maps = nn.ModuleDict({name: Linear(own, wide) for name in of_states})
    student.add_module(PROJECTIONS, maps.to(next(student.parameters()).dtype))


def take_projections(student: Model) -> nn.ModuleDict | None:
    """Take them away again, and give them back."""
    return cast(nn.ModuleDict | None, student._modules.pop(PROJECTIONS, None))


@contextmanager
def without_projections(student: Model) -> Iterator[None]:
    """The student as it is saved, inside the block."""
    maps = take_projections(student)
    try:
        yield
    finally:
        if maps is not None:
            student.add_module(PROJECTIONS, maps)


def _projection_parameters(matches: Sequence[Match], student: Model) -> list[nn.Parameter]:
    """Of the maps of those matches that count."""
    maps = cast(nn.ModuleDict | None, student._modules.get(PROJECTIONS))
    counting = [] if maps is None else [maps[i] for i in maps if matches[int(i)].weight]
    return [one for part in counting for one in part.parameters()]


def read_matched(
    model: nn.Module, inputs: Mapping[str, Tensor], matches: Sequence[Match], used: Iterable[nn.Parameter] = ()
) -> Output:
    """The student's pass, with the states that are matched; used: what else the loss uses apart from it."""
    student = unwrapped(model)
    apart = [*_projection_parameters(matches, student), *used]
    with nullcontext() if isinstance(model, Model) else used_apart(student, apart):
        return cast(Output, model(**inputs, output_hidden_states=reads_states(matches)))


@contextmanager
def capture_matched(matches: Sequence[Match], student: Model) -> Iterator[Watched]:
    """While student and teacher read, keep what layers whose attention is matched work with; None without such."""
    of_attention = [match for match in matches if match.of == "attention" and match.weight]
    if not of_attention:
        yield None
        return
    ours, theirs = ([getattr(match, name) for match in of_attention] for name in ("student", "teacher"))
    teacher = cast(Teacher, teacher_of(student)).model_on(next(student.parameters()).device)
    with capture(student, ours, learns=True) as told, capture(teacher, theirs) as wanted:
        yield told, wanted


def matched_loss(
    matches: Sequence[Match], student: Model, ours: Output, theirs: Output, is_real: Bool[Tensor, "batch length"],
    watched: Watched,
) -> Tensor | float:  # fmt: skip
    """The sum over all matches, each times its weight; 0 for none. watched: of `capture_matched`."""
    losses = (
        match.weight * _match_loss(match, i, student, ours, theirs, is_real, watched)
        for i, match in enumerate(matches)
        if match.weight
    )
    return sum(losses, 0.0)


def _match_loss(
    match: Match, number: int, student: Model, ours: Output, theirs: Output, is_real: Bool[Tensor, "batch length"],
    watched: Watched = None,
) -> Float[Tensor, ""]:  # fmt: skip
    """The mean of a match over real tokens. watched: of `capture_matched`, for attention."""
    if match.of == "attention":
        return _attention_loss(match, cast(tuple[CapturedAttention, CapturedAttention], watched), is_real)
    told = _states_behind(ours, match.student)
    projections = cast(nn.ModuleDict | None, student._modules.get(PROJECTIONS))
    if projections is not None:
        told = projections[str(number)](told)
    wanted = _states_behind(theirs, match.teacher)
    if match.loss == "cosine":
        return cosine_distance(told, wanted, is_real)
    return (told - wanted)[is_real].square().mean()


def _attention_loss(
    match: Match, watched: tuple[CapturedAttention, CapturedAttention], is_real: Bool[Tensor, "batch length"]
) -> Float[Tensor, ""]:
    rows, row_is_real = draw_rows(is_real, match.rows)
    told = watched[0].rows(match.student, rows)
    with torch.no_grad():
        wanted = watched[1].rows(match.teacher, rows)
    if match.average_heads:
        told, wanted = (one.mean(1, keepdim=True) for one in (told, wanted))
    return attention_loss(told, wanted, row_is_real, is_real, match.loss)


def _states_behind(out: Output, layer: int) -> Tensor:
    states = cast(tuple[Tensor, ...], out.hidden_states)
    return states[layer + 1] if layer >= 0 else states[layer]
