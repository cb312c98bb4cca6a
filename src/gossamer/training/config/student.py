"""The student that a training makes of its teacher before it begins."""

from __future__ import annotations

from dataclasses import dataclass

from gossamer.checkpoints import load
from gossamer.errors import InputError, quote
from gossamer.models.checks import require_choice
from gossamer.models.model import Model
from gossamer.surgery.students.narrow import NarrowBy, Widths
from gossamer.surgery.students.student import Shape, make_student

__all__ = ["StudentSettings"]


@dataclass(frozen=True, kw_only=True)
class StudentSettings:
    """Some layers of a teacher, of all or some of its width, as `gossamer.distill` makes a student.

    `teacher`: a checkpoint; the one that is learnt from (`objective.teacher`) unless given. `layers`, `shape`:
    `gossamer.surgery.students.make_student`; `hidden_size`, `heads`, `feedforward_size`, each a number or a list of
    which of the teacher's, and `narrow`, "neurons" or "linear": `gossamer.surgery.students.narrow`.
    """

    teacher: str | None = None
    layers: str | tuple[int, ...] = "every-other"
    shape: Shape = "teacher"
    hidden_size: int | tuple[int, ...] | None = None
    heads: int | tuple[int, ...] | None = None
    feedforward_size: int | tuple[int, ...] | None = None
    narrow: NarrowBy = "neurons"

    def __post_init__(self) -> None:
        require_choice(self, Shape, "shape")
        self.widths()

    def widths(self) -> Widths:
        """How wide it is; InputError for a way of narrowing that does not fit what is narrowed."""
        return Widths(
            hidden_size=self.hidden_size, heads=self.heads, feedforward_size=self.feedforward_size, by=self.narrow
        )

    def make(self, teacher: str) -> Model:
        """The student of the teacher in this checkpoint, float32; InputError for what that teacher has not."""
        model = load(teacher, dtype="float32")
        try:
            return make_student(model, self.layers, shape=self.shape, widths=self.widths())
        except InputError as problem:
            raise InputError(f"model.student.{problem}, in {quote(teacher)}") from None
