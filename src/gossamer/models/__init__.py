"""What a model is (`Architecture`) and the module that is built from it (`Model`)."""

from gossamer.models.architecture import (
    Architecture,
    Attention,
    Decoder,
    DistanceTable,
    Embeddings,
    FeedForward,
    Layer,
    Norm,
    Positions,
    RelativePositions,
    Rotary,
    StoredMaps,
    differences,
)
from gossamer.models.cache import Cache
from gossamer.models.heads import (
    CausalLM,
    DenseLayer,
    Head,
    MaskedLM,
    MultipleChoice,
    NextSentence,
    PreTraining,
    QuestionAnswering,
    ReplacedToken,
    SentenceEmbedding,
    Seq2SeqLM,
    SequenceClassification,
    TokenClassification,
)
from gossamer.models.model import Model
from gossamer.models.next_token import count_labels
from gossamer.models.output import Output

__all__ = [
    "Architecture",
    "Attention",
    "Cache",
    "CausalLM",
    "Decoder",
    "DenseLayer",
    "DistanceTable",
    "Embeddings",
    "FeedForward",
    "Head",
    "Layer",
    "MaskedLM",
    "Model",
    "MultipleChoice",
    "NextSentence",
    "Norm",
    "Output",
    "Positions",
    "PreTraining",
    "QuestionAnswering",
    "RelativePositions",
    "ReplacedToken",
    "Rotary",
    "SentenceEmbedding",
    "Seq2SeqLM",
    "SequenceClassification",
    "StoredMaps",
    "TokenClassification",
    "count_labels",
    "differences",
]
