"""A second text for each text: translations, summaries, titles."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from gossamer.errors import InputError
from gossamer.generation import generate
from gossamer.metrics.generated import GENERATED, check_generated, score_generated
from gossamer.models import Model
from gossamer.models.checks import require_count, require_rate
from gossamer.models.heads import Head, Seq2SeqLM, Seq2SeqLMHead
from gossamer.text import Document, Tokenizer
from gossamer.training.objectives.base import IGNORED, Batch, Direction, learnt, unwrapped
from gossamer.training.objectives.labelled.labels import (
    Example,
    LabelledRow,
    RowObjective,
    collated_inputs,
    describe_field,
    is_text,
    padded,
)

__all__ = ["Seq2SeqObjective"]


@dataclass(frozen=True, kw_only=True, eq=False)
class PairExample(Example):
    """A text, and as labels int64 [written] the tokens of the second one, `target`."""

    target: str

    @property
    def has_token_labels(self) -> bool:
        return False


@dataclass(frozen=True, kw_only=True)
class Seq2SeqObjective(RowObjective, kind="seq2seq-lm"):
    """The tokens of a second text, each told from the first and from those before it (Sutskever et al. 2014, arXiv
    1409.3215, section 2), the head `Seq2SeqLM`.

    A row has a text and its `target_field`. target_length: tokens of the second text, as many as the decoder reads
    unless given; what is longer is cut. label_smoothing: so much of each label's weight is spread over all words
    (Szegedy et al. 2015, arXiv 1512.00567, section 7).

    metrics: to held-out rows second texts are written, as `gossamer.generate` writes them, and scored against their
    targets: "rouge" (rouge1, rouge2 and rougeL), "bleu", "chrf" (`gossamer.metrics`). num_beams, max_new_tokens: of
    those texts, as generation_config.json has them unless given.
    """

    heads: ClassVar[tuple[type[Head], ...]] = (Seq2SeqLM,)
    series: ClassVar[tuple[str, ...]] = ("written",)
    is_reckoned: ClassVar[bool] = False
    shards: ClassVar[bool] = False
    without_head: ClassVar[str] = ": take a model of two texts, such as BART or T5"

    kind: Literal["seq2seq-lm"] = "seq2seq-lm"
    target_field: str = "target"
    target_length: int | None = None
    label_smoothing: float = 0.0
    metrics: tuple[str, ...] = ()
    num_beams: int | None = None
    max_new_tokens: int | None = None

    def __post_init__(self) -> None:
        require_rate(self, "label_smoothing")
        for name in ("target_length", "num_beams", "max_new_tokens"):
            if getattr(self, name) is not None:
                require_count(self, name, most=2**20)
        object.__setattr__(self, "metrics", check_generated(self.metrics))

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.target_field,)

    def new_head(self, rows: Sequence[Any] = (), usual: Head | None = None) -> Head:
        return usual or Seq2SeqLM()

    def read_row(self, document: Document, text_field: str) -> LabelledRow:
        fields, where = document.fields, document.name
        text, target = fields.get(text_field), fields.get(self.target_field)
        for name, value in ((text_field, text), (self.target_field, target)):
            if not is_text(value) or not value.strip():
                raise InputError(f"{where}: the field {name!r} {describe_field(fields, name)}; it must be a text")
        return LabelledRow(name=where, text=cast(str, text), label=target)

    def encode(
        self, rows: Sequence[LabelledRow], tokenizer: Tokenizer, length: int, head: Head, *, control_tokens: bool
    ) -> list[Example]:
        return [self._example(row, tokenizer, length, control_tokens) for row in rows]

    def collate(self, examples: Sequence[Example], pad_id: int) -> dict[str, Tensor]:
        labels = [one.labels for one in examples]
        width = max(map(len, labels))
        return {**collated_inputs(examples, pad_id), "labels": padded(labels, width, IGNORED)}

    def count_labels(self, model: Model, batch: Batch) -> int:
        return int(learnt(_inputs(model, batch)["labels"]).sum())

    def loss(self, model: nn.Module, batch: Batch) -> Float[Tensor, ""]:
        """The mean cross-entropy of all labels of a batch, smoothed while the model learns."""
        out = model(**_inputs(model, batch))
        loss = cast(Tensor, out.loss)
        if not self.label_smoothing or not model.training:
            return loss
        return loss + self.label_smoothing * _less_likely(unwrapped(model), out.last_hidden_state, batch["labels"])

    def measure(self, model: nn.Module, batch: Batch) -> tuple[Float[Tensor, ""], dict[str, Any]]:
        return self.measure_examples(model, batch, ())

    def measure_examples(
        self, model: nn.Module, batch: Batch, examples: Sequence[Any]
    ) -> tuple[Float[Tensor, ""], dict[str, Any]]:
        """The loss; and where there are metrics, of each row the text that is written and its target."""
        written = self._write(unwrapped(model), examples) if self.metrics and examples else []
        targets = [one.target for one in examples]
        return self.loss(model, batch), {"written": list(zip(written, targets, strict=False))}

    def scores(self, model: Model, loss: float, labels: int, sums: Mapping[str, Any]) -> dict[str, float | None]:
        written = sums.get("written", [])
        told = score_generated(self.metrics, [text for text, _ in written], [target for _, target in written])
        return {"perplexity": math.exp(min(loss, 700.0)), **told}

    def directions(self, model: Model | None = None) -> Mapping[str, Direction]:
        return {"perplexity": "lower", **{told: "higher" for name in self.metrics for told in GENERATED[name]}}

    def _write(self, model: Model, examples: Sequence[PairExample]) -> list[str]:
        """A second text to each row, the best of several; the weights compute as they lie."""
        device = next(model.parameters()).device.type
        with torch.autocast(device, enabled=False):
            found = generate(
                model, [one.ids.tolist() for one in examples], max_new_tokens=self.max_new_tokens, temperature=0,
                beams=self.num_beams, batch_size=len(examples),
            )  # fmt: skip
        if found.texts is None:
            raise InputError("objective.metrics are of texts, and the model has no tokenizer: leave them out")
        return [found.texts[found.prompts.index(i)] for i in range(len(examples))]

    def _example(self, row: LabelledRow, tokenizer: Tokenizer, length: int, control_tokens: bool) -> PairExample:
        ids, types, cut = _encoded(tokenizer, row.text, length, control_tokens)
        target = cast(str, row.label)
        labels = np.array(tokenizer.encode_target(target, self.target_length, control_tokens), dtype=np.int64)
        return PairExample(name=row.name, ids=ids, types=types, labels=labels, cut=cut, target=target)


def _encoded(
    tokenizer: Tokenizer, text: str, length: int | None, control_tokens: bool
) -> tuple[np.ndarray, np.ndarray, bool]:
    """Ids and types of a text with its special tokens, and whether it was cut to this length."""
    whole = tokenizer(text, truncation=False, control_tokens=control_tokens)
    cut = length is not None and whole["input_ids"].shape[1] > length
    batch = tokenizer(text, max_length=length, control_tokens=control_tokens) if cut else whole
    return batch["input_ids"][0].numpy(), batch["token_type_ids"][0].numpy(), cut


def _inputs(model: nn.Module, batch: Batch) -> Batch:
    """The batch, its second texts no longer than the decoder reads."""
    decoder = unwrapped(model).architecture.decoder
    most = batch["labels"].shape[1] if decoder is None else decoder.length
    return {**batch, "labels": batch["labels"][:, :most]}


def _less_likely(model: Model, states: Tensor, labels: Tensor) -> Float[Tensor, ""]:
    """How much higher labels score than the mean of all words: what smoothing adds of, without a score of all."""
    states, table = cast(Seq2SeqLMHead, model.head).factors(states, model.written_words)
    labels = labels[:, : states.shape[1]]
    counted = learnt(labels)
    wanted = table[labels.where(counted, 0)] - table.mean(dim=0)
    return (states * wanted).sum(dim=-1).where(counted, 0).sum() / counted.sum()
