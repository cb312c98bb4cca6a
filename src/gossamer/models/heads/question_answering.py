"""Where the answer to a question starts and ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from gossamer.errors import plural
from gossamer.models.bricks import Norm
from gossamer.models.checks import require_rate
from gossamer.models.heads.base import Head, HeadModule, Labels, Sizes
from gossamer.models.heads.labels import check_shape, only
from gossamer.models.heads.separators import find_separators
from gossamer.models.heads.token_head import TokenHead, require_dense
from gossamer.models.norms import norm_module
from gossamer.models.output import Output
from gossamer.models.settings import Activation
from gossamer.models.tensors import IDS

if TYPE_CHECKING:
    from gossamer.models.architecture import Architecture

__all__ = ["QuestionAnswering"]


@dataclass(frozen=True, kw_only=True)
class QuestionAnswering(Head, kind="question-answering"):
    """Where the answer starts and ends: two scores for every token.

    With a `dense_activation` a dense map, that activation and a `norm` come first (ModernBERT).
    """

    dropout: float = 0.0
    dense_activation: Activation | None = None
    dense_bias: bool = True
    norm: Norm | None = None
    kind: Literal["question-answering"] = "question-answering"

    reads_whole_texts = False
    global_words = "the question"
    global_hint = (
        ", which `transformers` finds by itself only between texts with two separators; for others give it a "
        "`global_attention_mask` of 1 for all before the first separator."
    )
    outputs = 2

    def __post_init__(self) -> None:
        require_rate(self, "dropout")
        require_dense(self)

    def build(self, architecture: Architecture) -> HeadModule:
        return TokenHead(
            architecture.output_size, self.outputs, self.dropout, dense_activation=self.dense_activation,
            dense_bias=self.dense_bias,
            norm=None if self.norm is None else norm_module(self.norm, architecture.output_size),
        )  # fmt: skip

    def check_labels(self, labels: Labels, sizes: Sizes) -> None:
        check_shape("labels", labels, (sizes.rows, 2), IDS, "the first and last token of the answer")

    def loss(self, out: Output, labels: Labels) -> Float[Tensor, ""]:
        """The mean of both ends' losses; a place behind the text does not count."""
        assert out.logits is not None
        length = out.logits.shape[1]
        places = only(labels).long().clamp(0, length)
        start, end = (F.cross_entropy(out.logits[..., i], places[:, i], ignore_index=length) for i in (0, 1))
        return (start + end) / 2

    def describe(self) -> str:
        return f"{self.kind}, {plural(self.outputs, 'score')}"

    def global_tokens(
        self, architecture: Architecture, input_ids: Int[Tensor, "batch length"] | None, like: Tensor
    ) -> Bool[Tensor, "batch length"]:
        """The question: all before the first separator. Raises InputError where there is none."""
        return find_separators(self.kind, "question", architecture, input_ids).cumsum(dim=1) == 0
