"""What is read off a model's states: tokens under masks, next tokens, labels, answers, one vector a text."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from gossamer.kernels import linear
from gossamer.layers import Linear
from gossamer.models.architecture import Architecture
from gossamer.models.head_settings import (
    CausalLM,
    MaskedLM,
    MultipleChoice,
    NextSentence,
    PreTraining,
    QuestionAnswering,
    SentenceEmbedding,
    SequenceClassification,
    TokenClassification,
)
from gossamer.models.output import Output

__all__ = ["CausalLMHead", "HeadModule", "build_head", "pool"]


class HeadModule(nn.Module):
    """A head with weights: `forward` gives an `Output` with the scores of a batch, and leaves losses to others."""

    def forward(
        self, hidden: Float[Tensor, "batch length hidden"], word_table: Float[Tensor, "vocabulary size"]
    ) -> Output:
        raise NotImplementedError


class MaskedLMHead(HeadModule):
    """`norm(activation(dense(x)))` against the word table, plus a bias (Devlin et al. 2019; RoBERTa's is the same).

    `decoder` exists only where the head is not tied to the word table.
    """

    def __init__(self, architecture: Architecture, settings: MaskedLM | PreTraining) -> None:
        super().__init__()
        size, vocabulary = architecture.embeddings.size, architecture.embeddings.vocabulary_size
        self.dense = Linear(architecture.hidden_size, size)
        self.norm = nn.LayerNorm(size, eps=settings.norm_eps)
        self.decoder = None if settings.tied else Linear(size, vocabulary, bias=False)
        self.bias = nn.Parameter(torch.zeros(vocabulary))
        self.activation = settings.activation

    def forward(
        self, hidden: Float[Tensor, "batch length hidden"], word_table: Float[Tensor, "vocabulary size"]
    ) -> Output:
        table = word_table if self.decoder is None else self.decoder.weight
        states = self.norm(self.dense(hidden, self.activation))
        return Output(logits=linear(states, table, self.bias))


class CausalLMHead(HeadModule):
    """Scores of the next token: the states against the word table, or a table of the head's own."""

    def __init__(self, architecture: Architecture, settings: CausalLM) -> None:
        super().__init__()
        size, vocabulary = architecture.hidden_size, architecture.embeddings.vocabulary_size
        self.decoder = None if settings.tied else Linear(size, vocabulary, bias=False)

    def table(self, word_table: Float[Tensor, "vocabulary size"]) -> Float[Tensor, "vocabulary hidden"]:
        """What states are compared with."""
        return word_table if self.decoder is None else self.decoder.weight

    def forward(
        self, hidden: Float[Tensor, "batch length hidden"], word_table: Float[Tensor, "vocabulary size"]
    ) -> Output:
        return Output(logits=linear(hidden, self.table(word_table)))


class FirstTokenHead(HeadModule):
    """Scores of the whole text from its first token: `output(activation(dense(x)))`, `dense` being BERT's pooler.

    `pooled` is what the last map reads, without its dropout. The first token is that of the first position, padding or
    not, as in `transformers`: pad texts for such a head on the right.
    """

    def __init__(
        self, hidden_size: int, outputs: int, *, activation: str, dropout: float = 0.0, input_dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.dense = Linear(hidden_size, hidden_size)
        self.output = Linear(hidden_size, outputs)
        self.activation, self.dropout, self.input_dropout = activation, dropout, input_dropout

    def forward(
        self, hidden: Float[Tensor, "batch length hidden"], word_table: Float[Tensor, "vocabulary size"]
    ) -> Output:
        first = F.dropout(hidden[:, 0], self.input_dropout, self.training)
        pooled = self.dense(first, self.activation)
        return Output(logits=self.output(F.dropout(pooled, self.dropout, self.training)), pooled=pooled)


class PreTrainingHead(MaskedLMHead):
    """A masked LM with a second head on the first token, for the pair of texts."""

    def __init__(self, architecture: Architecture, settings: PreTraining) -> None:
        super().__init__(architecture, settings)
        self.pair = FirstTokenHead(architecture.hidden_size, 2, activation="tanh", dropout=settings.pair_dropout)

    def forward(
        self, hidden: Float[Tensor, "batch length hidden"], word_table: Float[Tensor, "vocabulary size"]
    ) -> Output:
        tokens, pair = super().forward(hidden, word_table), self.pair(hidden, word_table)
        return Output(logits=tokens.logits, pair_logits=pair.logits, pooled=pair.pooled)


class TokenHead(HeadModule):
    """Scores of every token: dropout, linear."""

    def __init__(self, hidden_size: int, outputs: int, dropout: float) -> None:
        super().__init__()
        self.output = Linear(hidden_size, outputs)
        self.dropout = dropout

    def forward(
        self, hidden: Float[Tensor, "batch length hidden"], word_table: Float[Tensor, "vocabulary size"]
    ) -> Output:
        return Output(logits=self.output(F.dropout(hidden, self.dropout, self.training)))


def build_head(architecture: Architecture) -> HeadModule | None:
    """The module of the architecture's head; None where it has none, or one without weights."""
    head, hidden = architecture.head, architecture.hidden_size
    match head:
        case None | SentenceEmbedding():
            return None
        case PreTraining():
            return PreTrainingHead(architecture, head)
        case MaskedLM():
            return MaskedLMHead(architecture, head)
        case CausalLM():
            return CausalLMHead(architecture, head)
        case NextSentence():
            return FirstTokenHead(hidden, 2, activation="tanh")
        case SequenceClassification():
            return FirstTokenHead(
                hidden,
                len(head.labels),
                activation=head.pooler_activation,
                dropout=head.dropout,
                input_dropout=head.input_dropout,
            )
        case MultipleChoice():
            return FirstTokenHead(hidden, 1, activation=head.pooler_activation, dropout=head.dropout)
        case TokenClassification():
            return TokenHead(hidden, len(head.labels), head.dropout)
        case QuestionAnswering():
            return TokenHead(hidden, 2, head.dropout)


def pool(
    settings: SentenceEmbedding,
    hidden: Float[Tensor, "batch length hidden"],
    key_mask: Bool[Tensor, "batch length"] | None,
) -> Float[Tensor, "batch hidden"]:
    """One vector a text from its real tokens, as sentence-transformers pools; zeros for a text without any.

    The first token is the first real one: the state before a text that was padded on the left is nobody's.
    """
    if settings.pooling == "cls" and key_mask is None:
        pooled = hidden[:, 0]
    elif settings.pooling == "cls":
        assert key_mask is not None
        first = key_mask.int().argmax(dim=1)
        pooled = hidden[torch.arange(len(hidden), device=hidden.device), first]
        pooled = torch.where(key_mask.any(dim=1, keepdim=True), pooled, 0)
    elif key_mask is None:
        pooled = hidden.mean(dim=1) if settings.pooling == "mean" else hidden.amax(dim=1)
    elif settings.pooling == "mean":
        total = hidden.masked_fill(~key_mask[..., None], 0).sum(dim=1)
        pooled = total / key_mask.sum(dim=1, keepdim=True).clamp(min=1)
    else:
        highest = hidden.masked_fill(~key_mask[..., None], -torch.inf).amax(dim=1)
        pooled = torch.where(key_mask.any(dim=1, keepdim=True), highest, 0)
    return F.normalize(pooled, dim=-1) if settings.normalized else pooled
