"""Which tokens stay: those that texts use often enough, and what these and all other texts need."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from gossamer.checks import as_python, is_whole, require, require_whole
from gossamer.errors import InputError, quote
from gossamer.text.trimming import TrimmableTokenizer

__all__ = ["Certain", "Characters", "Choice"]

Characters = Literal["all", "seen"]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What is asked of a vocabulary: the options of `gossamer.trim` that say which tokens stay."""

    at_least: int = 1
    size: int | None = None
    keep: Sequence[str | int] = ()
    characters: Characters = "all"
    multiple_of: int = 1

    def __post_init__(self) -> None:
        require_whole("at_least", self.at_least, of="times that a token is seen")
        require_whole("multiple_of", self.multiple_of, of="rows")
        if self.size is not None:
            require_whole("size", self.size, of="tokens", instead="None")
        require(self.characters in get_args(Characters), "characters", self.characters, "'all' or 'seen'")
        listed = isinstance(self.keep, Collection) and not isinstance(self.keep, str | bytes)
        require(listed, "keep", self.keep, "a list of tokens or of ids")
        object.__setattr__(self, "keep", tuple(as_python(list(self.keep))))
        for name in ("at_least", "size", "multiple_of"):
            object.__setattr__(self, name, as_python(getattr(self, name)))

    def certain(self, tokenizer: TrimmableTokenizer, named: Collection[int]) -> Certain:
        """The ids that stay whatever the texts have; `named` are those that must for the model's sake.

        Raises InputError for names of tokens that there are not, and for a size that is too small for them.
        """
        pinned = tokenizer.pinned | set(named)
        by_name = {_id_of(tokenizer, one) for one in self.keep}
        spelling = tokenizer.characters if self.characters == "all" else set()
        ids = tokenizer.with_needed(pinned) | self._with_needed(tokenizer, by_name | spelling, set())
        self._check_size(len(ids), len(spelling))
        return Certain(ids=ids, pinned=pinned, by_name=by_name)

    def choose(self, tokenizer: TrimmableTokenizer, certain: Certain, counts: np.ndarray, more_rows: int) -> set[int]:
        """The ids that stay; `more_rows` follow them in the model's tables.

        Raises InputError where there are not enough tokens to fill tables up.
        """
        order = np.argsort(-counts, kind="stable").tolist()
        seen = [number for number in order if counts[number] >= self.at_least]
        kept = self._fill(tokenizer, certain.ids, seen, math.inf if self.size is None else self.size)
        rows = math.ceil((len(kept) + more_rows) / self.multiple_of) * self.multiple_of
        known = set(tokenizer.ids.values())
        full = self._fill(tokenizer, kept, [number for number in order if number in known], rows - more_rows)
        if len(full) + more_rows < rows:
            raise InputError(
                f"multiple_of is {self.multiple_of}; the {len(kept) + more_rows:,} rows that stay can't be filled up "
                f"to {rows:,}, since the tokenizer has {len(known):,} tokens: give a smaller one"
            )
        return full

    def _fill(self, tokenizer: TrimmableTokenizer, kept: set[int], order: list[int], most: float) -> set[int]:
        """`kept` and of `order` what fits into `most` with all that it needs, the first first."""
        kept = set(kept)
        for number in order:
            if len(kept) >= most:
                break
            if number not in kept:
                with_it = self._with_needed(tokenizer, {number}, kept)
                kept |= with_it if len(kept) + len(with_it) <= most else set()
        return kept

    def _with_needed(self, tokenizer: TrimmableTokenizer, ids: set[int], known: set[int]) -> set[int]:
        """What comes with these ids beside what is `known` to be there."""
        added = tokenizer.with_needed(ids, known)
        return added if self.characters == "all" else added | (tokenizer.characters_of(added) - known)

    def _check_size(self, least: int, spelling: int) -> None:
        if self.size is not None and self.size < least:
            remedy = ", or characters='seen'" if spelling else ""
            raise InputError(
                f"size is {self.size}; special tokens, single characters ({spelling:,}) and what keep names are "
                f"{least:,} already: give that many or more{remedy}"
            )


@dataclass(frozen=True, kw_only=True)
class Certain:
    """The ids that stay whatever the texts have, with all that they need: those that must, and those asked for."""

    ids: set[int]
    pinned: set[int]
    by_name: set[int]


def _id_of(tokenizer: TrimmableTokenizer, token: object) -> int:
    if isinstance(token, str) and token in tokenizer.ids:
        return tokenizer.ids[token]
    if is_whole(token) and int(token) in set(tokenizer.ids.values()):
        return int(token)
    raise InputError(
        f"keep holds {quote(token)}, which is no token of the vocabulary; write tokens as the vocabulary does "
        "(gossamer tokenizer show), or give their ids"
    )
