"""Where a text goes on: the tokens of a prompt and its continuation, which are not always those of the two alone."""

from __future__ import annotations

from collections.abc import Sequence

from gossamer.text import Tokenizer

__all__ = ["joined_ids"]


def joined_ids(tokenizer: Tokenizer, prompt: str, more: str, given: Sequence[int]) -> tuple[list[int], list[int]]:
    """The joined text's tokens as far as they are `given`, those of the prompt, and the ones behind.

    The first has fewer than are given where the prompt's end and the beginning of what follows are one token. An empty
    prompt, whose one token stands for no text, stays as it is.
    """
    whole = tokenizer.encode_plain(prompt + more)[0]
    if not prompt:
        return list(given), whole
    same = next((i for i, (one, other) in enumerate(zip(given, whole, strict=False)) if one != other), None)
    border = min(len(given), len(whole)) if same is None else same
    return whole[:border], whole[border:]
