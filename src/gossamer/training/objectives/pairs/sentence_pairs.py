"""Sentence encoders: texts that belong together come near, by pairs, triplets, scores or labels."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from gossamer.errors import InputError, plural
from gossamer.models import Model
from gossamer.models.checks import is_finite, require, require_choice, require_flag, require_positive
from gossamer.models.heads import Head, SentenceEmbedding
from gossamer.text import Document, Tokenizer
from gossamer.training.objectives.base import Batch, learnt
from gossamer.training.objectives.labelled.labels import Example, LabelledRow, RowObjective
from gossamer.training.objectives.pairs.pair_losses import (
    Distance,
    contrastive_loss,
    cosine_loss,
    in_batch_loss,
    same_texts,
    triplet_loss,
)
from gossamer.training.objectives.pairs.pair_rows import (
    ANCHORS,
    POSITIVES,
    PairColumns,
    PairExample,
    PairRow,
    collate_pairs,
    number_of,
    read_pair,
)
from gossamer.training.objectives.pairs.pair_scores import likeness_scores, retrieval_scores, triplet_accuracy
from gossamer.training.objectives.vectors import VectorObjective, trained_prompt

__all__ = ["Criterion", "SentencePairsObjective"]

Criterion = Literal["in-batch-negatives", "triplet", "cosine", "contrastive"]


@dataclass(frozen=True, kw_only=True)
class SentencePairsObjective(VectorObjective, RowObjective, kind="sentence-pairs"):
    """Pairs of texts, with negatives, scores or labels where the data have them; the head `SentenceEmbedding`.

    criterion: the loss, told by the columns unless given: "cosine" where there is a `score`, "contrastive" where there
    is a `label`, else "in-batch-negatives"; "triplet" is asked for. scale, symmetric: of in-batch negatives. margin,
    distance: of triplets (5, "euclidean") and labels (0.5, "cosine"). dimensions: the loss is the sum of those of the
    first so many numbers of each vector, made as long as 1, each times its weight of `dimension_weights` (1; Kusupati
    et al. 2022, equation 1). anchor_field, positive_field, negative_field, label_field, score_field: columns of other
    names.
    """

    kind: Literal["sentence-pairs"] = "sentence-pairs"
    heads = (SentenceEmbedding,)
    without_head = "; model.new_head: true takes the mean of its states"

    criterion: Criterion | None = None
    scale: float = 20.0
    symmetric: bool = False
    margin: float | None = None
    distance: Distance | None = None
    dimensions: tuple[int, ...] = ()
    dimension_weights: tuple[float, ...] = ()
    anchor_field: str | None = None
    positive_field: str | None = None
    negative_field: str | None = None
    label_field: str = "label"
    score_field: str = "score"

    def __post_init__(self) -> None:
        if self.criterion is not None:
            require_choice(self, Criterion, "criterion")
        if self.distance is not None:
            require_choice(self, Distance, "distance")
        require_positive(self, "scale")
        require_flag(self, "symmetric")
        if self.margin is not None:
            require_positive(self, "margin")
        whole = all(type(one) is int and one > 0 for one in self.dimensions)
        is_set = whole and len(set(self.dimensions)) == len(self.dimensions)
        require(is_set, "dimensions", list(self.dimensions), "whole numbers from 1, each once")
        fits = len(self.dimension_weights) in (0, len(self.dimensions))
        positive = all(is_finite(one) and one > 0 for one in self.dimension_weights)
        require(fits and positive, "dimension_weights", list(self.dimension_weights), "a number above 0 a dimension")

    @property
    def columns(self) -> tuple[str, ...]:
        return self.anchor_field or ANCHORS[0], self.positive_field or POSITIVES[0]

    @classmethod
    def takes(cls, columns: Collection[str]) -> bool:
        """Whether rows with these columns are pairs that it learns from, as they are called."""
        return any(name in columns for name in ANCHORS) and any(name in columns for name in POSITIVES)

    def directions(self, model: Model | None = None) -> Mapping[str, Literal["higher", "lower"]]:
        """Which way each of the scores is better."""
        names = ("ndcg_at_10", "mrr_at_10", "recall_at_1", "recall_at_10", "spearman", "triplet_accuracy")
        return dict.fromkeys(names, "higher")

    def new_head(self, rows: Sequence[Any] = (), usual: Head | None = None) -> Head:
        return usual or SentenceEmbedding()

    def read_row(self, document: Document, text_field: str) -> PairRow:
        names = ("anchor", "positive", "negative", "label", "score")
        return read_pair(document, PairColumns(**{name: getattr(self, f"{name}_field") for name in names}))

    @property
    def least_rows(self) -> int:
        return 2 if self.criterion in (None, "in-batch-negatives") else 1

    def check_batch(self, rows: int, tokens: int | None) -> None:
        if tokens is not None:
            raise InputError(
                f"batch.tokens is {tokens:,}; objective.kind {self.kind!r} compares the rows of a step: give batch.rows"
            )
        if rows < self.least_rows:
            raise InputError(f"batch.rows is {rows}; an anchor is told from those of other rows: give 2 or more")

    def settle_head(self, head: Head, rows: Sequence[LabelledRow]) -> Head:
        """The head as it is; InputError for rows, held out or not, that are not of one kind."""
        if rows:
            self._check_rows(cast(Sequence[PairRow], rows))
        return head

    def encode(
        self, rows: Sequence[LabelledRow], tokenizer: Tokenizer, length: int, head: Head, *, control_tokens: bool
    ) -> list[Example]:
        pairs = cast(Sequence[PairRow], rows)
        prompt = trained_prompt(cast(SentenceEmbedding, head))
        known: dict[str, tuple[np.ndarray, bool]] = {}
        return [self._example(row, tokenizer, length, prompt, control_tokens, known) for row in pairs]

    def collate(self, examples: Sequence[Example], pad_id: int) -> dict[str, Tensor]:
        return collate_pairs(cast(Sequence[PairExample], examples), pad_id)

    def attach(self, model: Model, seed: int, processes: int) -> None:
        """Nothing; InputError where a dimension is none of the model's vectors."""
        size = cast(SentenceEmbedding, model.architecture.head).vector_size(model.architecture.output_size)
        most = max(self.dimensions, default=0)
        require(most <= size, "objective.dimensions", list(self.dimensions), f"at most the vectors' size, {size}")

    def count_labels(self, model: Model, batch: Batch) -> int:
        return int(learnt(batch["labels"]).sum())

    def passes(self, batch: Batch) -> list[dict[str, Tensor]]:
        """The texts of each column, as long as the longest of them."""
        passes = []
        for ids, mask in zip(batch["input_ids"].unbind(1), batch["attention_mask"].unbind(1), strict=True):
            longest = int(mask.sum(dim=1).max())
            inputs = {"input_ids": ids[:, :longest].contiguous()}
            if not mask[:, :longest].all():
                inputs["attention_mask"] = mask[:, :longest].contiguous()
            passes.append(inputs)
        return passes

    def targets(self, batch: Batch) -> dict[str, Tensor]:
        return {name: batch[name] for name in ("texts", "score", "same") if name in batch}

    def vectors_loss(
        self, vectors: Sequence[Float[Tensor, "rows size"]], targets: Mapping[str, Tensor]
    ) -> Float[Tensor, ""]:
        if not self.dimensions:
            return self._loss(vectors, targets)
        weights = self.dimension_weights or (1.0,) * len(self.dimensions)
        losses = [
            weight * self._loss([F.normalize(one[:, :size], dim=-1) for one in vectors], targets)
            for size, weight in zip(self.dimensions, weights, strict=True)
        ]
        return cast(Tensor, sum(losses))

    def vectors_scores(
        self, vectors: Sequence[Float[Tensor, "rows size"]], targets: Mapping[str, Tensor]
    ) -> dict[str, float | None]:
        """Of scores and labels Spearman's correlation; else how anchors find their positives among all other texts."""
        for name in ("score", "same"):
            if name in targets:
                return likeness_scores(vectors[0], vectors[1], targets[name])
        scores = retrieval_scores(vectors, targets["texts"])
        return scores | (triplet_accuracy(vectors) if len(vectors) > 2 else {})

    def _loss(self, vectors: Sequence[Tensor], targets: Mapping[str, Tensor]) -> Float[Tensor, ""]:
        anchors, positives, *negatives = vectors
        if "score" in targets:
            return cosine_loss(anchors, positives, targets["score"])
        if "same" in targets:
            margin = 0.5 if self.margin is None else self.margin
            return contrastive_loss(anchors, positives, targets["same"], margin, self.distance or "cosine")
        if self.criterion == "triplet":
            margin = 5.0 if self.margin is None else self.margin
            return triplet_loss(anchors, positives, negatives, margin, self.distance or "euclidean")
        return in_batch_loss(anchors, vectors[1:], self.scale, self.symmetric, same_texts(targets["texts"]))

    def _example(
        self, row: PairRow, tokenizer: Tokenizer, length: int, prompt: str, control_tokens: bool,
        known: dict[str, tuple[np.ndarray, bool]],
    ) -> PairExample:  # fmt: skip
        for text in row.texts:
            if text not in known:
                known[text] = _tokens(prompt + text, tokenizer, length, control_tokens)
        texts, cut = zip(*(known[text] for text in row.texts), strict=True)
        ids = np.concatenate(texts)
        said = {}
        if row.label is not None:
            is_score = type(row.label) is float
            said = {"score" if is_score else "same": np.array(row.label, dtype=np.float32 if is_score else np.int64)}
        return PairExample(
            name=row.name, ids=ids, types=np.zeros_like(ids), labels=np.array(0), cut=any(cut),
            lengths=np.array([len(one) for one in texts]), numbers=np.array([number_of(one) for one in texts]),
            said=said,
        )  # fmt: skip

    def _check_rows(self, rows: Sequence[PairRow]) -> None:
        """InputError where rows have not the same columns, or not those of the loss."""
        first, known = rows[0], _criterion_of(rows[0])
        for row in rows:
            if _criterion_of(row) != known or len(row.negatives) != len(first.negatives):
                raise InputError(
                    f"{row.name} has {_columns_of(row)}, {first.name} {_columns_of(first)}: mend one of them"
                )
        if known != "in-batch-negatives" and first.negatives:
            raise InputError(f"{first.name} has {_columns_of(first)}; leave the negatives or the other column out")
        fits = (None, known, "triplet") if first.negatives else (None, known)
        if self.criterion not in fits:
            raise InputError(
                f"objective.criterion is {self.criterion!r}, but {first.name} has {_columns_of(first)}: take another "
                "one, or other columns"
            )


def _criterion_of(row: PairRow) -> Criterion:
    """The loss that a row's columns tell."""
    if row.label is None:
        return "in-batch-negatives"
    return "cosine" if type(row.label) is float else "contrastive"


def _columns_of(row: PairRow) -> str:
    told = {"in-batch-negatives": "neither score nor label", "cosine": "a score", "contrastive": "a label"}
    return f"{told[_criterion_of(row)]} and {plural(len(row.negatives), 'negative')}"


def _tokens(text: str, tokenizer: Tokenizer, length: int, control_tokens: bool) -> tuple[np.ndarray, bool]:
    """A text's ids, and whether it was cut."""
    ids = tokenizer(text, max_length=length, control_tokens=control_tokens)["input_ids"][0].numpy()
    if len(ids) < length:
        return ids, False
    whole = len(tokenizer.encode_plain(text, control_tokens)[0])
    return ids, whole + tokenizer.special_tokens_count(pair=False) > length
