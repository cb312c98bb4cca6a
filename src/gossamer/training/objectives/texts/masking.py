"""What objectives share that take tokens out of plain text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from gossamer.text import Tokenizer, byte_tokenizer
from gossamer.training.data.packing import Frame, Rows, frame_of
from gossamer.training.objectives.base import BatchSource
from gossamer.training.objectives.texts.language import Labeller, LanguageObjective
from gossamer.training.objectives.texts.masker import Masker

__all__ = ["MOST_WITHOUT_LABELS", "MaskingObjective"]

MOST_WITHOUT_LABELS = 0.1
"""Share of rows without a label that is passed over in silence."""


@dataclass(frozen=True, kw_only=True)
class MaskingObjective(LanguageObjective):
    """`share` of the text's tokens are taken out, drawn anew each time, and are its labels.

    masking: "token", each by itself; "whole-word", all pieces of a word together; "n-gram", spans of one to `longest`
    whole words, n of them in proportion to 1/n (ALBERT: Lan et al. 2020, section 4.1).
    """

    def own_tokenizer(self) -> Tokenizer:
        return byte_tokenizer(mask=True)

    def frame(self, tokenizer: Tokenizer) -> Frame:
        return frame_of(tokenizer)

    def labeller(self, tokenizer: Tokenizer) -> Labeller:
        masker = Masker(self, tokenizer)

        def mask(rows: Rows, seeds: Sequence[tuple[int, ...]]) -> tuple[np.ndarray, np.ndarray]:
            each = zip(rows.ids, rows.place >= 0, rows.segments, seeds, strict=True)
            masked = [masker(ids, text, parts, np.random.default_rng(seed)) for ids, text, parts, seed in each]
            return np.stack([ids for ids, _ in masked]), np.stack([labels for _, labels in masked])

        return mask

    def most_id(self, tokenizer: Tokenizer) -> int:
        return tokenizer.mask_id or 0

    def remarks(self, batches: BatchSource) -> Iterator[str]:
        """Words may be so long that many rows have nothing to learn."""
        share = 0.0 if self.masking == "token" else batches.share_without_labels()
        if share > MOST_WITHOUT_LABELS:
            yield (
                f"objective.masking is {self.masking!r}, and {share:.0%} of the rows have no label, since the "
                "words of these data are long: 'token' masks something in nearly every row, and longer rows help"
            )
