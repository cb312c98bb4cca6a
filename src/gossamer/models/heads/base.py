"""What every head answers: one file each holds its settings, its module, its labels and loss, and what it costs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from gossamer.errors import InputError
from gossamer.kernels.ledger import Ledger
from gossamer.models.output import Output

if TYPE_CHECKING:
    from gossamer.models.architecture import Architecture

__all__ = ["RECKONED_HEADS", "Head", "HeadModule", "Labels", "Sizes", "Tokens"]

Labels = Tensor | tuple[Tensor, Tensor]
"""One tensor; for the pre-training head, (labels of tokens, labels of pairs) too."""


RECKONED_HEADS = "training is reckoned for the heads of language models and of labels of texts and of tokens"


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What labels must fit: `rows` texts of `length` tokens, a choice each where there are `choices`."""

    rows: int
    length: int
    vocabulary: int
    choices: int | None = None


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """What a head may look at beside the states: [batch, length] each, and the word table [vocabulary, size]."""

    word_table: Float[Tensor, "vocabulary size"]
    input_ids: Int[Tensor, "batch length"] | None = None
    key_mask: Bool[Tensor, "batch length"] | None = None
    segments: Int[Tensor, "batch length"] | None = None


class HeadModule(nn.Module):
    """A head with weights: `forward` gives an `Output` with the scores of a batch, and leaves losses to others."""

    def forward(self, hidden: Float[Tensor, "batch length hidden"], tokens: Tokens) -> Output:
        raise NotImplementedError

    def account(self, hidden: Float[Tensor, "batch length hidden"], tokens: Tokens, ledger: Ledger) -> Tensor:
        """What `forward` takes; gives the scores that a loss reads."""
        raise NotImplementedError(f"{type(self).__name__} does not say what it costs: it needs a method `account`")


class Head(ABC):
    """The settings of a head, a frozen dataclass; `kind` is its name everywhere, `outputs` how many scores it gives a
    text, a token or a choice, the vocabulary's not counted.
    """

    kinds: ClassVar[dict[str, type[Head]]] = {}
    reads_whole_texts: ClassVar[bool]
    """Whether it says something of a row as a whole, so that a row may not hold several packed texts."""
    first_is_global: ClassVar[bool] = False
    """Whether the first token is global for it."""
    global_words: ClassVar[str | None] = None
    """What else `transformers` makes global for it, in words."""
    global_hint: ClassVar[str] = ""
    """What has to be done about it there, after those words."""
    scores_words: ClassVar[bool] = False
    """Whether it scores the whole vocabulary for every token, which takes a loss most of its time."""
    takes_choices: ClassVar[bool] = False
    """Whether it reads several choices a text, [batch, choices, length]."""
    kind: str

    def __init_subclass__(cls, kind: str, **rest: object) -> None:
        super().__init_subclass__(**rest)
        assert hasattr(cls, "reads_whole_texts"), cls
        Head.kinds[kind] = cls

    @classmethod
    def drawn_on(cls, architecture: Architecture) -> Head:
        """The settings of a new one on these layers, where their format has none of its own."""
        return cls()

    @property
    @abstractmethod
    def outputs(self) -> int:
        """How many scores it gives a text, a token or a choice, the vocabulary's not counted."""

    @abstractmethod
    def build(self, architecture: Architecture) -> HeadModule | None:
        """Its module; None where it has no weights."""

    @abstractmethod
    def check_labels(self, labels: Labels, sizes: Sizes) -> None:
        """Raise InputError for labels that it has no loss for."""

    @abstractmethod
    def loss(self, out: Output, labels: Labels) -> Float[Tensor, ""]:
        """The mean loss over all labels that count; NaN where there are none, as in `transformers`."""

    def counted_labels(self, labels: Labels, key_mask: Bool[Tensor, "batch length"] | None) -> Labels:
        """The labels that its loss is to count, -100 elsewhere: all, padding's too, as in `transformers`."""
        return labels

    def account_loss(self, logits: Tensor, ledger: Ledger) -> Tensor:
        """What `loss` takes. Raises InputError where training is not reckoned."""
        raise InputError(f"the model has the head {self.kind!r}; {RECKONED_HEADS}")

    @abstractmethod
    def describe(self) -> str:
        """A few words for the tree of a model."""

    def global_tokens(
        self, architecture: Architecture, input_ids: Int[Tensor, "batch length"] | None, like: Tensor
    ) -> Bool[Tensor, "batch length"] | None:
        """The tokens that `transformers` makes global for it; None: no such.

        like: [batch, length, ...]. Source: Beltagy et al. 2020, section 3.1.
        """
        return first_token(like) if self.first_is_global else None

    def read(self, hidden: Float[Tensor, "batch length hidden"], tokens: Tokens, out: Output) -> Output:
        """Its module's output, with what needs no weights."""
        return out

    def refuse_labels(self) -> InputError:
        """What is said where it has no loss."""
        return InputError(
            f"labels were given but this model has the head {self.kind!r}: load it with a head that has a loss"
        )


def first_token(like: Tensor) -> Bool[Tensor, "batch length"]:
    """True for the first position of each row."""
    first = torch.zeros(like.shape[:2], dtype=torch.bool, device=like.device)
    first[:, 0] = True
    return first
