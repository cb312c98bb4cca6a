"""How well a language model predicts text: perplexity a token, bits a token, and bits a byte of the text itself."""

import math

from gossamer.checks import is_whole
from gossamer.errors import InputError, quote

__all__ = ["bits_per_byte", "bits_per_token", "perplexity"]


def perplexity(loss: float) -> float:
    """exp(loss) of a mean cross-entropy in nats a token; infinity beyond what a float holds.

    Of two models it compares those with the same tokenizer only. Raises InputError for a loss below 0 or NaN.
    """
    try:
        return math.exp(_checked("loss", loss))
    except OverflowError:
        return math.inf


def bits_per_token(loss: float) -> float:
    """A mean cross-entropy in nats a token as bits. Raises InputError for a loss below 0 or NaN."""
    return _checked("loss", loss) / math.log(2)


def bits_per_byte(nats: float, count: int) -> float:
    """Bits a byte of text, from the *total* cross-entropy in nats of the tokens that spell `count` bytes of UTF-8.

    Whatever the tokenizer, models compare: it is the size, a byte, that an arithmetic coder would pack the text to
    (8 is no compression). Raises InputError for a total below 0 or NaN, or less than one byte.
    """
    if not is_whole(count, 1):
        raise InputError(f"count is {quote(count)}; it must be the number of bytes of the text, at least 1")
    return _checked("nats", nats) / math.log(2) / count


def _checked(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise InputError(f"{name} is {quote(value)}; it must be a cross-entropy in nats, 0 or more")
    return float(value)
