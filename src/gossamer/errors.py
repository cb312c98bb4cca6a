"""What the user did wrong, in one line: the value, what is allowed, what to do."""

__all__ = ["GossamerError", "InputError"]


class GossamerError(Exception):
    """Base of every error Gossamer raises on purpose; the command prints its one line and exits with 2."""


class InputError(GossamerError, ValueError):
    """A value from outside (argument, config, file, text) that cannot be used; the message quotes it and the remedy."""
