"""LED (Beltagy et al. 2020, section 7): BART whose encoder is a Longformer, as `transformers` stores it."""

from gossamer.families.led.form import FAMILY

__all__ = ["FAMILY"]
