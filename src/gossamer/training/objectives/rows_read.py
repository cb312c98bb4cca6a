"""Rows by what a model reads of them, whatever stands beside them in a batch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from gossamer.training.objectives.base import Batch

__all__ = ["ReadRow", "grouped", "real_tokens", "rows_of"]

_BESIDE = ("labels", "attention_mask")


@dataclass(frozen=True, kw_only=True, eq=False)
class ReadRow:
    """A row without padding, each input int64 or bool [tokens], and the digest of all of them."""

    key: bytes
    inputs: dict[str, Tensor]

    @property
    def tokens(self) -> int:
        return len(self.inputs["input_ids"])


def real_tokens(batch: Batch) -> Bool[Tensor, "rows length"]:
    """Which tokens are no padding."""
    mask = batch.get("attention_mask")
    return torch.ones_like(batch["input_ids"], dtype=torch.bool) if mask is None else mask.bool()


def rows_of(batch: Batch) -> Iterator[ReadRow]:
    """The rows of a batch; token types that are all 0 are as none."""
    is_real = real_tokens(batch).cpu()
    inputs = {name: batch[name].cpu() for name in sorted(batch) if name not in _BESIDE}
    for i, real in enumerate(is_real):
        row = {name: tensor[i][real] for name, tensor in inputs.items()}
        if "token_type_ids" in row and not row["token_type_ids"].any():
            del row["token_type_ids"]
        digest = hashlib.blake2b(digest_size=16)
        for name, tensor in row.items():
            digest.update(f"{name} {len(tensor)} ".encode())
            digest.update(tensor.long().numpy().tobytes())
        yield ReadRow(key=digest.digest(), inputs=row)


def grouped(rows: Sequence[ReadRow], tokens: int) -> Iterator[tuple[list[int], dict[str, Tensor]]]:
    """Which of the rows go side by side, of one length so that none is padded, up to so many tokens; and the batch."""
    alike: dict[tuple[int, tuple[str, ...]], list[int]] = {}
    for i, row in enumerate(rows):
        alike.setdefault((row.tokens, tuple(row.inputs)), []).append(i)
    for (length, names), members in alike.items():
        for some in _chunks(members, max(1, tokens // length)):
            yield some, {name: torch.stack([rows[i].inputs[name] for i in some]) for name in names}


def _chunks(numbers: list[int], size: int) -> Iterable[list[int]]:
    return (numbers[start : start + size] for start in range(0, len(numbers), size))
