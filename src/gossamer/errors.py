"""What the user did wrong, in one line: the value, what is allowed, what to do."""

__all__ = ["GossamerError", "InputError", "quote"]


class GossamerError(Exception):
    """Base of every error Gossamer raises on purpose; the command prints its one line and exits with 2."""


class InputError(GossamerError, ValueError):
    """A value from outside (argument, config, file, text) that cannot be used; the message quotes it and the remedy."""


def quote(value: object) -> str:
    """A value as one short line, however large it is."""
    try:
        text = " ".join(repr(value).split())
    except (ValueError, RecursionError):  # more digits than Python prints, or too deep
        return f"of type {type(value).__name__}, too large to show"
    return text if len(text) <= 80 else f"{text[:77]}..."
