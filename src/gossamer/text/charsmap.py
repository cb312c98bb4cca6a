"""SentencePiece's table of replaced characters: whether it can be followed whatever the text."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import tokenizers

__all__ = ["has_unsound_charsmap"]

_IS_VALUE, _HAS_VALUE, _FAR = np.uint32(1 << 31), np.uint32(1 << 8), np.uint32(1 << 9)


def has_unsound_charsmap(backend: tokenizers.Tokenizer) -> bool:
    """Whether some character may lead the backend beyond the end of its table, where its library panics."""
    if backend.normalizer is None:
        return False
    return not all(_is_sound(charsmap) for charsmap in _charsmaps(json.loads(backend.normalizer.__getstate__())))


def _charsmaps(normalizer: dict[str, Any]) -> Iterator[bytes]:
    for inner in normalizer.get("normalizers", ()):
        yield from _charsmaps(inner)
    if normalizer.get("type") == "Precompiled":
        yield base64.b64decode(normalizer["precompiled_charsmap"])


def _is_sound(charsmap: bytes) -> bool:
    """Whether every step of its trie, a double array, leads into the array, and every value to the start of a text.

    The layout is that of darts-clone: a unit's offset says by an exclusive or where the next ones begin, those of all
    256 bytes; a unit with a value has it at that place. Behind the array stand the replacements, each ended by a zero.
    """
    size = int.from_bytes(charsmap[:4], "little")
    units = np.frombuffer(charsmap[4 : 4 + size], dtype="<u4")
    texts = np.frombuffer(charsmap[4 + size :] + b"\0", dtype=np.uint8)
    if not len(units) or len(units) % 256:
        return False
    steps = units & _IS_VALUE == 0
    offsets = (units >> np.uint32(10)) << ((units & _FAR) >> np.uint32(6))
    targets = np.arange(len(units), dtype=np.uint32) ^ offsets
    if (targets[steps] >= len(units)).any():
        return False
    starts = units[targets[steps & (units & _HAS_VALUE != 0)]] & ~_IS_VALUE
    return bool((starts < len(texts)).all() and (texts[starts] & 0xC0 != 0x80).all())
