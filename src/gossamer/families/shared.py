"""Small rules that several forms use."""

from typing import Any

from gossamer.errors import InputError
from gossamer.families.base import Config

__all__ = ["head_size", "padding_id"]


def head_size(config: Config) -> Any:
    """Columns of one attention head: `hidden_size / num_attention_heads`, which must divide."""
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    if hidden % heads:
        raise InputError(f"hidden_size is {hidden}; it must be a multiple of num_attention_heads, {heads}")
    return hidden // heads


def padding_id(value: Any, config: Config) -> Any:
    """`pad_token_id`, which must be one of the vocabulary's ids (or null, where the kind allows it)."""
    last = config["vocab_size"] - 1
    if value is not None and value > last:
        raise InputError(f"pad_token_id is {value}; it must be a token id from 0 to {last}")
    return value
