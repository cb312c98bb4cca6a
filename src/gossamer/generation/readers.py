"""Who reads what is new of each text and gives the states of the last tokens: with a cache, or all of it again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gossamer.models.cache import Cache
from gossamer.models.model import Model

__all__ = ["Reader", "padded", "reader_of"]


@runtime_checkable
class Reader(Protocol):
    """Reads what is new of each row and gives the states of the last tokens."""

    def read(self, new: Sequence[list[int]]) -> Float[Tensor, "rows hidden"]: ...

    def select(self, rows: Sequence[int]) -> None:
        """Go on with these rows alone, in this order; one may come several times."""


def reader_of(body: Model, sources: Sequence[list[int]], use_cache: bool) -> Reader:
    """A reader for a model without head. sources: the first texts, where the model has two."""
    return Cached(body, sources) if use_cache else Uncached(body, sources)


class Cached:
    """Reads each token once, and the first of two texts at the first call."""

    def __init__(self, body: Model, sources: Sequence[list[int]]) -> None:
        self._body, self._cache = body, Cache(body.architecture)
        self._sources: Sequence[list[int]] = sources

    def read(self, new: Sequence[list[int]]) -> Float[Tensor, "rows hidden"]:
        sources, self._sources = self._sources, ()
        return _last_states(self._body, new, self._cache, sources)

    def select(self, rows: Sequence[int]) -> None:
        self._cache.select(rows)


class Uncached:
    """Reads everything again for each token."""

    def __init__(self, body: Model, sources: Sequence[list[int]]) -> None:
        self._body, self._sources = body, list(sources)
        self._read: list[list[int]] = []

    def read(self, new: Sequence[list[int]]) -> Float[Tensor, "rows hidden"]:
        self._read = [old + one for old, one in zip(self._read or [[] for _ in new], new, strict=True)]
        return _last_states(self._body, self._read, None, self._sources)

    def select(self, rows: Sequence[int]) -> None:
        self._read = [self._read[one] for one in rows]
        self._sources = [self._sources[one] for one in rows] if self._sources else []


def _last_states(
    body: Model, texts: Sequence[list[int]], cache: Cache | None, sources: Sequence[list[int]]
) -> Float[Tensor, "rows hidden"]:
    """The state of the last token of each text. Padding stands behind, so positions are those of a text alone."""
    device = body.embeddings.word.weight.device
    ids, mask = padded(texts, device)
    if body.decoder is None:
        states = body(ids, attention_mask=mask, cache=cache).last_hidden_state
    else:
        read, real = padded(sources, device) if sources else (None, None)
        states = body(read, real, decoder_input_ids=ids, decoder_attention_mask=mask, cache=cache).last_hidden_state
    last = torch.tensor([len(one) - 1 for one in texts], device=device)
    return states[torch.arange(len(texts), device=device), last]


def padded(
    texts: Sequence[list[int]], device: torch.device
) -> tuple[Int[Tensor, "rows length"], Bool[Tensor, "rows length"] | None]:
    """Token ids, padded behind, and which are real; None where all are."""
    lengths = torch.tensor([len(one) for one in texts])
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(one, dtype=torch.int64) for one in texts], batch_first=True)
    mask = torch.arange(ids.shape[1]) < lengths[:, None]
    return ids.to(device), None if bool(mask.all()) else mask.to(device)
