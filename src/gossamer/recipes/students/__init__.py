"""A student made from its teacher: fewer layers, narrower ones."""

from gossamer.recipes.students.narrow import Widths, narrow
from gossamer.recipes.students.student import make_student

__all__ = ["Widths", "make_student", "narrow"]
