"""How well labels are predicted: F1 from counts that add up over batches and processes."""

from gossamer.errors import InputError, quote

__all__ = ["f1"]


def f1(right: float, found: float, wanted: float) -> float | None:
    """The harmonic mean of precision, right / found, and recall, right / wanted: 2 right / (found + wanted).

    right: what was found and wanted. None where nothing was found and nothing wanted. Raises InputError for more that
    is right than was found or wanted. Source: van Rijsbergen 1979, chapter 7.
    """
    if not 0 <= right <= min(found, wanted):
        raise InputError(f"right is {quote(right)}; it must be from 0 to what was found, {found}, and wanted, {wanted}")
    return 2 * right / (found + wanted) if found + wanted else None
