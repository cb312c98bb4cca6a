"""Attention to be looked at: a page that zooms from a whole document to single tokens."""

from gossamer.inspection.viewer.inspection import Inspection, inspect

__all__ = ["Inspection", "inspect"]
