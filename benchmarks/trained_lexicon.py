"""Word by word: IBM's first model of translation, learnt by expectation maximisation."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

WORD = re.compile(r"\w+|[^\w\s]")
ROUNDS = 6


def word_by_word(pairs: Sequence[tuple[str, str]], texts: Sequence[str]) -> list[str]:
    """Each word by the one that it most probably becomes (Brown et al. 1993, section 4.1); unknown ones stay."""
    table = {one: other for one, (other, _) in lexicon(pairs).items()}
    return [_joined([_cased(word, table.get(word.lower(), word)) for word in WORD.findall(text)]) for text in texts]


def lexicon(pairs: Sequence[tuple[str, str]]) -> dict[str, tuple[str, float]]:
    """The likeliest word of the second language for each of the first, and how likely it is.

    p(second | first) is learnt; what is told is the word with the highest p(second | first) p(first | second), so that
    words which stand everywhere are not everybody's.
    """
    first, second = (_numbered([pair[side] for pair in pairs]) for side in (0, 1))
    links = _links(first[0], second[0])
    forth = _probabilities(links, (0, 1), len(second[1]))
    back = _probabilities(links, (1, 0), len(first[1]))
    kinds = np.stack([links[:, 1], links[:, 2]])
    size = len(second[1])
    cells, where = np.unique(kinds[0] * size + kinds[1], return_index=True)
    best: dict[str, tuple[str, float]] = {}
    for cell, probability in zip(cells, (forth * back)[where], strict=True):
        one, other = first[1][cell // size], second[1][cell % size]
        if probability > best.get(one, ("", 0.0))[1]:
            best[one] = other, float(probability)
    return best


def parts_of(pair: tuple[str, str]) -> list[tuple[str, str]]:
    """What stands between marks, where both texts have as many marks and parts of about one length."""
    for marks in (",;:.?!", ";:.?!"):
        first, second = (re.split(rf"(?<=[{marks}])\s+", text) for text in pair)
        if 1 < len(first) == len(second) and all(
            0.5 < (len(one) + 5) / (len(other) + 5) < 2 for one, other in zip(first, second, strict=True)
        ):
            return list(zip(first, second, strict=True))
    return []


def _numbered(texts: Sequence[str]) -> tuple[list[np.ndarray], list[str]]:
    """Numbers of each text's words, and the words."""
    words = [[word.lower() for word in WORD.findall(text)] for text in texts]
    kinds = sorted({word for some in words for word in some})
    number = {word: i for i, word in enumerate(kinds)}
    return [np.array([number[word] for word in some]) for some in words], kinds


def _links(first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> np.ndarray:
    """[links, 5]: pair, both words, and which word of all texts either is; every word with every one of its pair."""
    parts, begins = [], [0, 0]
    for i, (one, other) in enumerate(zip(first, second, strict=True)):
        a, b = np.repeat(np.arange(len(one)), len(other)), np.tile(np.arange(len(other)), len(one))
        parts.append(np.stack([np.full(len(a), i), one[a], other[b], a + begins[0], b + begins[1]], axis=1))
        begins = [begins[0] + len(one), begins[1] + len(other)]
    return np.concatenate(parts)


def _probabilities(links: np.ndarray, order: tuple[int, int], size: int) -> np.ndarray:
    """p(to | from) of each link after some rounds; `order` says which of the two words is `from`."""
    source, target, token = links[:, 1 + order[0]], links[:, 1 + order[1]], links[:, 3 + order[1]]
    cells, cell_of = np.unique(source * size + target, return_inverse=True)
    word_of = cells // size
    table = np.ones(len(cells))
    for _ in range(ROUNDS):
        share = table[cell_of]
        share = share / np.bincount(token, share)[token]
        counts = np.bincount(cell_of, share, len(cells))
        table = counts / np.bincount(word_of, counts)[word_of]
    return table[cell_of]


def _cased(word: str, found: str) -> str:
    """Capital where the word has one."""
    return found[:1].upper() + found[1:] if word[:1].isupper() else found


def _joined(words: Sequence[str]) -> str:
    """Words with spaces between them, marks without one before them."""
    return re.sub(r" ([,.;:?!’”)])", r"\1", " ".join(words))
