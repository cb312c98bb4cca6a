"""Small rules that several forms use."""

from typing import Any

from gossamer.errors import InputError
from gossamer.families.base import Config

__all__ = ["head_size"]


def head_size(config: Config) -> Any:
    """Columns of one attention head: `hidden_size / num_attention_heads`, which must divide."""
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    if hidden % heads:
        raise InputError(f"hidden_size is {hidden}; it must be a multiple of num_attention_heads, {heads}")
    return hidden // heads
