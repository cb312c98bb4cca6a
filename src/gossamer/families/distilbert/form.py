"""The form of DistilBERT: names of its own, no token types, no dropout after the attention's output, no pooler."""

from gossamer.families.base import Family, Field, HeadForm
from gossamer.families.kinds import (
    ACTIVATION,
    COLUMNS,
    FLAG,
    LAYERS,
    NOT_NEGATIVE,
    OPTIONAL_TOKEN,
    RATE,
    ROWS,
)
from gossamer.families.shared import LABEL_FIELDS, head_size, padding_id
from gossamer.models.heads import (
    MaskedLM,
    MultipleChoice,
    QuestionAnswering,
    SequenceClassification,
    TokenClassification,
)
from gossamer.patterns import Full

__all__ = ["FAMILY"]

FIELDS = (
    Field("vocab_size", ROWS, 30522, to=("embeddings.vocabulary_size",)),
    Field("max_position_embeddings", ROWS, 512, to=("length", "embeddings.positions.length")),
    Field("pad_token_id", OPTIONAL_TOKEN, 0, to=("embeddings.padding_id",), read=padding_id),
    Field("dim", COLUMNS, 768, to=("hidden_size", "embeddings.size")),
    Field("n_layers", LAYERS, 6, to=("layers",)),
    Field("n_heads", COLUMNS, 12, to=("layers.attention.heads",)),
    Field("hidden_dim", COLUMNS, 3072, to=("layers.feed_forward.width",)),
    Field("activation", ACTIVATION, "gelu", to=("layers.feed_forward.activation", "head.activation")),
    Field(
        "dropout",
        RATE,
        0.1,
        to=("embeddings.dropout", "layers.feed_forward.residual_dropout", "head.token-classification.dropout"),
    ),
    Field("attention_dropout", RATE, 0.1, to=("layers.attention.dropout",)),
    Field("qa_dropout", RATE, 0.1, to=("head.question-answering.dropout",)),
    Field(
        "seq_classif_dropout",
        RATE,
        0.2,
        to=("head.sequence-classification.dropout", "head.multiple-choice.dropout"),
    ),
    Field("initializer_range", NOT_NEGATIVE, 0.02, to=("initializer_range",)),
    Field("tie_word_embeddings", FLAG, True, to=("head.tied",)),
    *LABEL_FIELDS,
)

KEYS = {
    "embeddings.word": "embeddings.word_embeddings",
    "embeddings.position": "embeddings.position_embeddings",
    "embeddings.norm": "embeddings.LayerNorm",
    "attention.{layer}.query": "transformer.layer.{layer}.attention.q_lin",
    "attention.{layer}.key": "transformer.layer.{layer}.attention.k_lin",
    "attention.{layer}.value": "transformer.layer.{layer}.attention.v_lin",
    "attention.{layer}.output": "transformer.layer.{layer}.attention.out_lin",
    "attention.{layer}.norm": "transformer.layer.{layer}.sa_layer_norm",
    "feed_forward.{layer}.up": "transformer.layer.{layer}.ffn.lin1",
    "feed_forward.{layer}.down": "transformer.layer.{layer}.ffn.lin2",
    "feed_forward.{layer}.norm": "transformer.layer.{layer}.output_layer_norm",
}

FIRST_TOKEN = {"head.dense": "pre_classifier", "head.output": "classifier"}

HEADS = {
    "masked-lm": HeadForm(
        head=MaskedLM,
        architectures=("DistilBertForMaskedLM",),
        keys={
            "head.dense": "vocab_transform",
            "head.norm": "vocab_layer_norm",
            "head.decoder": "vocab_projector",
            "head.bias": "vocab_projector.bias",
        },
        tied={"vocab_projector.weight": "embeddings.word.weight"},
    ),
    "sequence-classification": HeadForm(
        head=SequenceClassification, architectures=("DistilBertForSequenceClassification",), keys=FIRST_TOKEN
    ),
    "token-classification": HeadForm(
        head=TokenClassification,
        architectures=("DistilBertForTokenClassification",),
        keys={"head.output": "classifier"},
    ),
    "question-answering": HeadForm(
        head=QuestionAnswering, architectures=("DistilBertForQuestionAnswering",), keys={"head.output": "qa_outputs"}
    ),
    "multiple-choice": HeadForm(head=MultipleChoice, architectures=("DistilBertForMultipleChoice",), keys=FIRST_TOKEN),
}

FAMILY = Family(
    model_type="distilbert",
    prefix="distilbert",
    bare="DistilBertModel",
    fields=FIELDS,
    given={
        "layers.attention.pattern": Full(),
        "layers.attention.head_size": lambda config: head_size(
            {"hidden_size": config["dim"], "num_attention_heads": config["n_heads"]}
        ),
        "layers.attention.residual_dropout": 0.0,
        "embeddings.token_types": 0,
        "head.pooler_activation": "relu",
    },
    keys=KEYS,
    heads=HEADS,
    aliases={"hidden_size": "dim", "num_hidden_layers": "n_layers", "num_attention_heads": "n_heads"},
    ignored=("embeddings.position_ids",),
)
