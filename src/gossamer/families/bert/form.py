"""The form of BERT: which line of config.json is which field here, and which tensor there is which tensor here."""

from gossamer.families.base import Family, Field, HeadForm
from gossamer.families.kinds import (
    ACTIVATION,
    COLUMNS,
    FLAG,
    LAYERS,
    NOT_NEGATIVE,
    OPTIONAL_TOKEN,
    POSITIVE,
    RATE,
    ROWS,
)
from gossamer.families.shared import LABEL_FIELDS, classifier_dropout, head_size, padding_id
from gossamer.models.heads import (
    MaskedLM,
    MultipleChoice,
    NextSentence,
    PreTraining,
    QuestionAnswering,
    SequenceClassification,
    TokenClassification,
)
from gossamer.patterns import Full

__all__ = ["FAMILY"]

CLASSIFIER_DROPOUTS = (
    "head.sequence-classification.dropout",
    "head.token-classification.dropout",
    "head.multiple-choice.dropout",
)

FIELDS = (
    Field("vocab_size", ROWS, 30522, to=("embeddings.vocabulary_size",)),
    Field("type_vocab_size", ROWS, 2, to=("embeddings.token_types",)),
    Field("pad_token_id", OPTIONAL_TOKEN, 0, to=("embeddings.padding_id",), read=padding_id),
    Field("max_position_embeddings", ROWS, 512, to=("length", "embeddings.positions.length")),
    Field("hidden_size", COLUMNS, 768, to=("hidden_size", "embeddings.size")),
    Field("num_hidden_layers", LAYERS, 12, to=("layers",)),
    Field("num_attention_heads", COLUMNS, 12, to=("layers.attention.heads",)),
    Field("intermediate_size", COLUMNS, 3072, to=("layers.feed_forward.width",)),
    Field("hidden_act", ACTIVATION, "gelu", to=("layers.feed_forward.activation", "head.activation")),
    Field("layer_norm_eps", POSITIVE, 1e-12, to=("layers.norm.eps", "embeddings.norm.eps", "head.norm_eps")),
    Field(
        "hidden_dropout_prob",
        RATE,
        0.1,
        to=("embeddings.dropout", "layers.attention.residual_dropout", "layers.feed_forward.residual_dropout"),
    ),
    Field("attention_probs_dropout_prob", RATE, 0.1, to=("layers.attention.dropout",)),
    Field("initializer_range", NOT_NEGATIVE, 0.02, to=("initializer_range",)),
    Field("tie_word_embeddings", FLAG, True, to=("head.tied",)),
    classifier_dropout(*CLASSIFIER_DROPOUTS),
    *LABEL_FIELDS,
)

KEYS = {
    "embeddings.word": "embeddings.word_embeddings",
    "embeddings.position": "embeddings.position_embeddings",
    "embeddings.token_type": "embeddings.token_type_embeddings",
    "embeddings.norm": "embeddings.LayerNorm",
    "attention.{layer}.query": "encoder.layer.{layer}.attention.self.query",
    "attention.{layer}.key": "encoder.layer.{layer}.attention.self.key",
    "attention.{layer}.value": "encoder.layer.{layer}.attention.self.value",
    "attention.{layer}.output": "encoder.layer.{layer}.attention.output.dense",
    "attention.{layer}.norm": "encoder.layer.{layer}.attention.output.LayerNorm",
    "feed_forward.{layer}.up": "encoder.layer.{layer}.intermediate.dense",
    "feed_forward.{layer}.down": "encoder.layer.{layer}.output.dense",
    "feed_forward.{layer}.norm": "encoder.layer.{layer}.output.LayerNorm",
    "pooler": "pooler.dense",
}

MASKED_LM = HeadForm(
    head=MaskedLM,
    architectures=("BertForMaskedLM",),
    keys={
        "head.dense": "cls.predictions.transform.dense",
        "head.norm": "cls.predictions.transform.LayerNorm",
        "head.decoder": "cls.predictions.decoder",
        "head.bias": ("cls.predictions.decoder.bias", "cls.predictions.bias"),
    },
    tied={"cls.predictions.decoder.weight": "embeddings.word.weight"},
)

CLASSIFIER = {"head.dense": "pooler.dense", "head.output": "classifier"}
PAIR = {"dense": "pooler.dense", "output": "cls.seq_relationship"}

HEADS = {
    "masked-lm": MASKED_LM,
    "pre-training": HeadForm(
        head=PreTraining,
        architectures=("BertForPreTraining",),
        keys={**MASKED_LM.keys, **{f"head.pair.{ours}": theirs for ours, theirs in PAIR.items()}},
        tied=MASKED_LM.tied,
    ),
    "next-sentence": HeadForm(
        head=NextSentence,
        architectures=("BertForNextSentencePrediction",),
        keys={f"head.{ours}": theirs for ours, theirs in PAIR.items()},
    ),
    "sequence-classification": HeadForm(
        head=SequenceClassification, architectures=("BertForSequenceClassification",), keys=CLASSIFIER
    ),
    "token-classification": HeadForm(
        head=TokenClassification, architectures=("BertForTokenClassification",), keys={"head.output": "classifier"}
    ),
    "question-answering": HeadForm(
        head=QuestionAnswering, architectures=("BertForQuestionAnswering",), keys={"head.output": "qa_outputs"}
    ),
    "multiple-choice": HeadForm(head=MultipleChoice, architectures=("BertForMultipleChoice",), keys=CLASSIFIER),
}

FAMILY = Family(
    model_type="bert",
    prefix="bert",
    bare="BertModel",
    fields=FIELDS,
    given={
        "layers.attention.pattern": Full(),
        "layers.attention.head_size": head_size,
        "head.question-answering.dropout": 0.0,
    },
    required={"position_embedding_type": ("absolute", None), "is_decoder": (False,), "add_cross_attention": (False,)},
    keys=KEYS,
    heads=HEADS,
    ignored=("embeddings.position_ids", "embeddings.token_type_ids"),
)
