"""Who may attend to whom: frozen values that know their own masks, counts and pictures."""

from gossamer.patterns.base import Pattern
from gossamer.patterns.fixed import Fixed
from gossamer.patterns.full import Full
from gossamer.patterns.global_tokens import Global
from gossamer.patterns.per_head import PerHead
from gossamer.patterns.reading import pattern_from_dict
from gossamer.patterns.strided import Strided
from gossamer.patterns.union import Union
from gossamer.patterns.window import Window

__all__ = ["Fixed", "Full", "Global", "Pattern", "PerHead", "Strided", "Union", "Window", "pattern_from_dict"]
