"""Whether the second of two texts follows the first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from jaxtyping import Float
from torch import Tensor

from gossamer.errors import plural
from gossamer.models.heads.base import Head, HeadModule, Labels, Sizes
from gossamer.models.heads.labels import check_classes, cross_entropy
from gossamer.models.heads.pooled_head import PooledHead
from gossamer.models.output import Output

if TYPE_CHECKING:
    from gossamer.models.architecture import Architecture

__all__ = ["NextSentence"]


@dataclass(frozen=True, kw_only=True)
class NextSentence(Head, kind="next-sentence"):
    """BERT's question alone: does the second text follow the first (0), or is it from elsewhere (1)?"""

    kind: Literal["next-sentence"] = "next-sentence"

    reads_whole_texts = True
    first_is_global = True
    outputs = 2

    def build(self, architecture: Architecture) -> HeadModule:
        return PooledHead(architecture.output_size, self.outputs, activation="tanh")

    def check_labels(self, labels: Labels, sizes: Sizes) -> None:
        check_classes("labels", labels, (sizes.rows,), 1)

    def loss(self, out: Output, labels: Labels) -> Float[Tensor, ""]:
        return cross_entropy(out.logits, labels)

    def describe(self) -> str:
        return f"{self.kind}, {plural(self.outputs, 'score')}"
