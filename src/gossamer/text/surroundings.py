"""What a tokenizer puts around texts: its special tokens, found by trying some."""

from gossamer.errors import InputError
from gossamer.text.tokenizer import Tokenizer

__all__ = ["DAMAGED", "PROBES", "special_tokens_around"]

PROBES = ("a", "the", "1", ".", "A", "\u4e00")
DAMAGED = "the tokenizer turns every text into special tokens only: its tokenizer.json may be damaged"


def special_tokens_around(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """The ids before and after a text. InputError where no text shows where the text goes."""
    if tokenizer.special_tokens_count() == 0:
        return [], []
    for text in PROBES:
        batch = tokenizer(text, truncation=False, return_offsets=True)
        ids, special = batch["input_ids"][0].tolist(), batch["special_tokens_mask"][0].tolist()
        if not all(special):
            first, behind = special.index(0), len(ids) - special[::-1].index(0)
            return ids[:first], ids[behind:]
    raise InputError(DAMAGED)
