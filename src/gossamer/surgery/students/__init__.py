"""A student made from its teacher: fewer layers, narrower ones."""

from gossamer.surgery.students.narrow import Widths, narrow
from gossamer.surgery.students.student import make_student

__all__ = ["Widths", "make_student", "narrow"]
