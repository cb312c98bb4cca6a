"""What is read off a model's states, one file a head: settings, module, labels, loss, cost."""

from gossamer.models.heads.base import Head, HeadModule, Labels, Sizes, Tokens
from gossamer.models.heads.causal_lm import CausalLM, CausalLMHead
from gossamer.models.heads.embed import (
    DenseActivation,
    DenseLayer,
    EmbeddingHead,
    Pooling,
    SentenceEmbedding,
    Similarity,
    pool,
)
from gossamer.models.heads.masked_lm import MaskedLM
from gossamer.models.heads.multiple_choice import MultipleChoice
from gossamer.models.heads.next_sentence import NextSentence
from gossamer.models.heads.pre_training import PreTraining
from gossamer.models.heads.question_answering import QuestionAnswering
from gossamer.models.heads.replaced_token import ReplacedToken
from gossamer.models.heads.seq2seq_lm import Seq2SeqLM, Seq2SeqLMHead
from gossamer.models.heads.sequence_classification import ProblemType, ScoreActivation, SequenceClassification
from gossamer.models.heads.token_classification import TokenClassification

__all__ = [
    "CausalLM",
    "CausalLMHead",
    "DenseActivation",
    "DenseLayer",
    "EmbeddingHead",
    "Head",
    "HeadModule",
    "Labels",
    "MaskedLM",
    "MultipleChoice",
    "NextSentence",
    "Pooling",
    "PreTraining",
    "ProblemType",
    "QuestionAnswering",
    "ReplacedToken",
    "ScoreActivation",
    "SentenceEmbedding",
    "Seq2SeqLM",
    "Seq2SeqLMHead",
    "SequenceClassification",
    "Similarity",
    "Sizes",
    "TokenClassification",
    "Tokens",
    "pool",
]
