"""Gossamer's own format: config.json holds the architecture itself, so it can say whatever an architecture can."""

from gossamer.families.native.form import FAMILY

__all__ = ["FAMILY"]
