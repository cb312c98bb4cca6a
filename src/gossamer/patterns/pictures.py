"""Patterns as pictures, for terminals and pages."""

from gossamer.patterns.base import Pattern
from gossamer.patterns.grid import Grid

__all__ = ["svg_picture", "text_picture"]


def text_picture(pattern: Pattern, grid: Grid, width: int) -> str:
    raise NotImplementedError


def svg_picture(pattern: Pattern, grid: Grid, size: int) -> str:
    raise NotImplementedError
