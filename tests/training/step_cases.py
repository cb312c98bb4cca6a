"""Small models to reckon with, as plain numbers, so that a child process can be handed them too."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch

from gossamer.families import get_family
from gossamer.models import (
    Architecture,
    Attention,
    Embeddings,
    FeedForward,
    Head,
    Layer,
    MaskedLM,
    Norm,
    Positions,
    Rotary,
    SequenceClassification,
    TokenClassification,
)
from gossamer.models.decoders import decoder
from gossamer.patterns import Fixed, Full, Pattern, Strided, Window
from gossamer.training.estimate.saved import Pass
from gossamer.training.optimization.optimizers import OptimizerSettings

PATTERNS: dict[str, Pattern] = {
    "full": Full(causal=True),
    "window": Window(64, 0),
    "strided": Strided(32),
    "fixed": Fixed(32, 4),
    "around": Window(64, 64),
}


HEADS: dict[str, Head] = {
    "classes": SequenceClassification(labels=("a", "b", "c")),
    "numbers": SequenceClassification(labels=("a", "b"), problem_type="regression"),
    "several-classes": SequenceClassification(
        labels=("a", "b"), problem_type="multi_label_classification", reads="mean", norm=Norm(bias=False)
    ),
    "tags": TokenClassification(labels=("a", "b", "c")),
    "dense-tags": TokenClassification(labels=("a", "b"), dense_activation="gelu", norm=Norm()),
}


@dataclass(frozen=True, kw_only=True)
class Case:
    """A model and a step of its training. `pattern` "around" is a masked LM of post-norm layers, "modernbert" one of
    ModernBERT's, all else a decoder.

    `head`: what the masked LM is instead, a model of `HEADS`; `padded`: its rows are of several lengths.
    `norm_place`, where given, is that of all layers. `llama`: with the bricks of Llama, RMS norms, a gate, half as many
    key heads, rotary positions, and no biases.
    """

    pattern: str = "window"
    recompute: str = "nothing"
    optimizer: str = "adamw"
    autocast: str | None = None
    layers: int = 2
    hidden: int = 64
    heads: int = 4
    vocabulary: int = 300
    rows: int = 2
    length: int = 600
    accumulation: int = 1
    dropout: float = 0.0
    activation: str = "gelu_tanh"
    tied: bool = True
    shared: bool = False
    llama: bool = False
    norm_place: str | tuple[str, str] | None = None
    inner_dropout: float = 0.0
    head: str = "masked-lm"
    padded: bool = False
    reversible: str = "no"
    chunk: int | None = None
    slice_length: int | None = None

    @property
    def architecture(self) -> Architecture:
        if self.pattern == "around":
            return self._encoder()
        if self.pattern == "modernbert":
            return self._modernbert()
        found = decoder(
            vocabulary_size=self.vocabulary,
            length=self.length,
            layers=self.layers,
            hidden_size=self.hidden,
            heads=self.heads,
            patterns=PATTERNS[self.pattern],
            activation=self.activation,  # type: ignore[arg-type]
            dropout=self.dropout,
            tied=self.tied,
            recompute=self.recompute,  # type: ignore[arg-type]
            reversible=self.reversible,  # type: ignore[arg-type]
            feed_forward_chunk=self.chunk,
            slice_length=self.slice_length,
        )
        return self._with_shared(found)

    @property
    def step(self) -> Pass:
        kind = None if self.autocast is None else getattr(torch, self.autocast)
        return Pass(rows=self.rows, length=self.length, autocast=kind, padded=self.padded)

    @property
    def settings(self) -> OptimizerSettings:
        return OptimizerSettings(name=self.optimizer)  # type: ignore[arg-type]

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def _encoder(self) -> Architecture:
        layers = tuple(
            Layer(
                attention=Attention(
                    pattern=PATTERNS["around"],
                    heads=self.heads,
                    head_size=self.hidden // self.heads,
                    weights=i,
                    dropout=self.dropout,
                    residual_dropout=self.dropout,
                ),
                feed_forward=FeedForward(
                    width=4 * self.hidden,
                    weights=i,
                    activation=self.activation,  # type: ignore[arg-type]
                    residual_dropout=self.dropout,
                ),
                recompute=self.recompute,  # type: ignore[arg-type]
            )
            for i in range(self.layers)
        )
        embeddings = Embeddings(
            vocabulary_size=self.vocabulary,
            size=self.hidden,
            positions=Positions(length=self.length),
            dropout=self.dropout,
        )
        head = HEADS.get(self.head, MaskedLM(tied=self.tied))
        found = Architecture(hidden_size=self.hidden, embeddings=embeddings, layers=layers, head=head)
        return self._with_shared(found)

    def _modernbert(self) -> Architecture:
        """Of one layer of full attention in three, the others of windows of 64 to both sides."""
        fields = {
            "vocab_size": self.vocabulary, "hidden_size": self.hidden, "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads, "intermediate_size": 3 * self.hidden // 2,
            "max_position_embeddings": self.length, "local_attention": 128, "attention_dropout": self.dropout,
            "embedding_dropout": self.dropout, "mlp_dropout": self.dropout, "tie_word_embeddings": self.tied,
            "pad_token_id": 0,
        }  # fmt: skip
        found = get_family("modernbert").read(fields, head="masked-lm")
        layers = tuple(dataclasses.replace(one, recompute=self.recompute) for one in found.layers)  # type: ignore
        return dataclasses.replace(found, layers=layers, head=HEADS.get(self.head, found.head))

    def _with_shared(self, found: Architecture) -> Architecture:
        if self.llama:
            found = with_llamas_bricks(found)
        if self.norm_place is not None:
            layers = tuple(dataclasses.replace(one, norm_place=self.norm_place) for one in found.layers)  # type: ignore
            found = dataclasses.replace(found, layers=layers)
        if self.inner_dropout:
            found = with_inner_dropout(found, self.inner_dropout)
        if not self.shared:
            return found
        layers = tuple(
            dataclasses.replace(
                one,
                attention=dataclasses.replace(one.attention, weights=0),
                feed_forward=dataclasses.replace(one.feed_forward, weights=0),
            )
            for one in found.layers
        )
        return dataclasses.replace(found, layers=layers)


def with_llamas_bricks(found: Architecture) -> Architecture:
    """The same sizes with RMS norms, gates, half as many key heads, rotary positions and no biases."""
    norm = Norm(kind="rms", bias=False, eps=1e-6)
    layers = tuple(
        dataclasses.replace(
            one,
            norm=norm,
            attention=dataclasses.replace(
                one.attention, key_heads=one.attention.heads // 2, bias=False, output_bias=False, rotary=Rotary()
            ),
            feed_forward=dataclasses.replace(one.feed_forward, gated=True, bias=False),
        )
        for one in found.layers
    )
    positions = Positions(scheme="none")
    embeddings = dataclasses.replace(
        found.embeddings, positions=positions, norm=None if found.embeddings.norm is None else norm
    )
    return dataclasses.replace(
        found, layers=layers, embeddings=embeddings, final_norm=None if found.final_norm is None else norm
    )


def with_inner_dropout(found: Architecture, rate: float) -> Architecture:
    layers = tuple(
        dataclasses.replace(one, feed_forward=dataclasses.replace(one.feed_forward, dropout=rate))
        for one in found.layers
    )
    return dataclasses.replace(found, layers=layers)


def batch(case: Case) -> dict[str, torch.Tensor]:
    ids = torch.randint(0, case.vocabulary, (case.rows, case.length), generator=torch.Generator().manual_seed(0))
    found = {"input_ids": ids, "labels": _labels(case, ids)}
    if not case.padded:
        return found
    lengths = torch.linspace(case.length, case.length / 2, case.rows).long()
    return found | {"attention_mask": (torch.arange(case.length) < lengths[:, None]).long()}


def _labels(case: Case, ids: torch.Tensor) -> torch.Tensor:
    head = HEADS.get(case.head)
    if head is None:
        return ids.clone()
    classes = ids % head.outputs
    if isinstance(head, TokenClassification):
        return classes
    is_single = isinstance(head, SequenceClassification) and head.problem_type is None
    return classes[:, 0] if is_single else classes[:, : head.outputs].float()
