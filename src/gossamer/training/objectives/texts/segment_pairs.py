"""Masked tokens and, of two segments, whether the second follows the first: BERT's and ALBERT's pre-training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from gossamer.metrics.language import perplexity
from gossamer.models import Model, Output
from gossamer.models.checks import require_rate
from gossamer.models.heads import Head, PreTraining
from gossamer.text import Tokenizer, byte_tokenizer
from gossamer.training.data.segment_pairs import PairFrame, Second, pair_frame_of
from gossamer.training.objectives.base import IGNORED, Batch, Direction
from gossamer.training.objectives.texts.masking import MaskingObjective

__all__ = ["NextSentenceObjective", "SegmentPairsObjective", "SentenceOrderObjective"]


@dataclass(frozen=True, kw_only=True)
class SegmentPairsObjective(MaskingObjective):
    """Two segments of documents in a row: tokens are taken out, and a label says how the segments belong together.

    The loss is the mean over the tokens that were taken out, as `masked-lm` has them, and that over the rows, added up
    as `transformers` does. Where a step is cut into parts (`batch.accumulation`), a part's two means both count by its
    share of the masked tokens. shorter: with which probability both segments together are shorter than a row.
    """

    heads: ClassVar[tuple[type[Head], ...]] = (PreTraining,)
    measures: ClassVar[tuple[str, ...]] = ("masked", "masked_loss", "masked_right", "pairs", "pairs_right")
    is_reckoned: ClassVar[bool] = False
    second: ClassVar[Second]
    score: ClassVar[str]

    shorter: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        require_rate(self, "shorter")

    def new_head(self, rows: Sequence[Any] = (), usual: Head | None = None) -> Head:
        return usual or PreTraining()

    def own_tokenizer(self) -> Tokenizer:
        return byte_tokenizer(pairs=True)

    def check_tokenizer(self, tokenizer: Tokenizer) -> None:
        super().check_tokenizer(tokenizer)
        self.frame(tokenizer)

    def frame(self, tokenizer: Tokenizer) -> PairFrame:
        return pair_frame_of(tokenizer, self.second, self.shorter)

    def loss(self, model: nn.Module, batch: Batch) -> Float[Tensor, ""]:
        return cast(Tensor, _read(model, batch).loss)

    def measure(self, model: nn.Module, batch: Batch) -> tuple[Float[Tensor, ""], dict[str, float]]:
        """The loss; of the tokens taken out how many, their loss and how many are told, and the same of pairs."""
        out, labels, pairs = _read(model, batch), batch["labels"], batch["pair_labels"]
        logits = cast(Tensor, out.logits).flatten(0, -2)
        of_pairs = cast(Tensor, out.pair_logits)
        right = (logits.argmax(-1) == labels.flatten()) & (labels.flatten() != IGNORED)
        lost = F.cross_entropy(logits.float(), labels.flatten(), reduction="sum")
        pairs_right = (of_pairs.argmax(-1) == pairs) & (pairs != IGNORED)
        sums = {"masked": (labels != IGNORED).sum(), "masked_loss": lost, "masked_right": right.sum()}
        sums |= {"pairs": (pairs != IGNORED).sum(), "pairs_right": pairs_right.sum()}
        return cast(Tensor, out.loss), {name: float(one.detach()) for name, one in sums.items()}

    def scores(self, model: Model, loss: float, labels: int, sums: Mapping[str, float]) -> dict[str, float | None]:
        """Of the tokens taken out the perplexity and the share that is told, and the share of pairs that is told."""
        masked, pairs = sums["masked"], sums["pairs"]
        mean = sums["masked_loss"] / masked if masked else math.nan
        return {
            "perplexity": perplexity(mean) if math.isfinite(mean) else math.nan,
            "masked_accuracy": sums["masked_right"] / masked if masked else None,
            self.score: sums["pairs_right"] / pairs if pairs else None,
        }

    def directions(self, model: Model | None = None) -> Mapping[str, Direction]:
        return {"perplexity": "lower", "masked_accuracy": "higher", self.score: "higher"}


@dataclass(frozen=True, kw_only=True)
class SentenceOrderObjective(SegmentPairsObjective, kind="sentence-order"):
    """Masked tokens, and whether two consecutive segments are exchanged (ALBERT: Lan et al. 2020, section 3.1)."""

    second: ClassVar[Second] = "exchanged"
    score: ClassVar[str] = "order_accuracy"

    kind: Literal["sentence-order"] = "sentence-order"


@dataclass(frozen=True, kw_only=True)
class NextSentenceObjective(SegmentPairsObjective, kind="next-sentence"):
    """Masked tokens, and whether the second segment is another document's (BERT: Devlin et al. 2019, section 3.1)."""

    second: ClassVar[Second] = "elsewhere"
    score: ClassVar[str] = "next_sentence_accuracy"

    kind: Literal["next-sentence"] = "next-sentence"


def _read(model: nn.Module, batch: Batch) -> Output:
    """What the model says of a batch, with both of its losses in one."""
    inputs = {name: one for name, one in batch.items() if name != "pair_labels"}
    out: Output = model(**{**inputs, "labels": (batch["labels"], batch["pair_labels"])})
    return out
