"""The form of ELECTRA: BERT's layers, often under a narrower embedding; a generator's and a discriminator's head."""

from gossamer.families.base import Family, Field, HeadForm
from gossamer.families.bert.form import FIELDS as BERT_FIELDS
from gossamer.families.bert.form import KEYS as BERT_KEYS
from gossamer.families.kinds import ACTIVATION, COLUMNS, POOLER_ACTIVATION, RATE
from gossamer.families.shared import classifier_dropout, head_size, with_fields
from gossamer.models.heads import (
    MaskedLM,
    MultipleChoice,
    QuestionAnswering,
    ReplacedToken,
    SequenceClassification,
    TokenClassification,
)
from gossamer.patterns import Full

__all__ = ["FAMILY"]

FIELDS = with_fields(
    BERT_FIELDS,
    Field("embedding_size", COLUMNS, 128, to=("embeddings.size",)),
    Field("hidden_size", COLUMNS, 256, to=("hidden_size",)),
    Field("num_attention_heads", COLUMNS, 4, to=("layers.attention.heads",)),
    Field("intermediate_size", COLUMNS, 1024, to=("layers.feed_forward.width",)),
    Field("hidden_act", ACTIVATION, "gelu", to=("layers.feed_forward.activation", "head.replaced-token.activation")),
    classifier_dropout(
        "head.token-classification.dropout", "head.input_dropout", "head.sequence-classification.dropout"
    ),
    Field("summary_activation", POOLER_ACTIVATION, "gelu", to=("head.multiple-choice.pooler_activation",)),
    Field("summary_last_dropout", RATE, 0.1, to=("head.multiple-choice.dropout",)),
)

KEYS = {
    **{ours: theirs for ours, theirs in BERT_KEYS.items() if ours != "pooler"},
    "embeddings.projection": "embeddings_project",
}

HEADS = {
    "masked-lm": HeadForm(
        head=MaskedLM,
        architectures=("ElectraForMaskedLM",),
        keys={
            "head.dense": "generator_predictions.dense",
            "head.norm": "generator_predictions.LayerNorm",
            "head.decoder": "generator_lm_head",
            "head.bias": "generator_lm_head.bias",
        },
        tied={"generator_lm_head.weight": "embeddings.word.weight"},
    ),
    "replaced-token": HeadForm(
        head=ReplacedToken,
        architectures=("ElectraForPreTraining",),
        keys={
            "head.dense": "discriminator_predictions.dense",
            "head.output": "discriminator_predictions.dense_prediction",
        },
    ),
    "sequence-classification": HeadForm(
        head=SequenceClassification,
        architectures=("ElectraForSequenceClassification",),
        keys={"head.dense": "classifier.dense", "head.output": "classifier.out_proj"},
    ),
    "token-classification": HeadForm(
        head=TokenClassification, architectures=("ElectraForTokenClassification",), keys={"head.output": "classifier"}
    ),
    "question-answering": HeadForm(
        head=QuestionAnswering, architectures=("ElectraForQuestionAnswering",), keys={"head.output": "qa_outputs"}
    ),
    "multiple-choice": HeadForm(
        head=MultipleChoice,
        architectures=("ElectraForMultipleChoice",),
        keys={"head.dense": "sequence_summary.summary", "head.output": "classifier"},
        required={
            "summary_type": ("first",),
            "summary_use_proj": (True,),
            "summary_proj_to_labels": (False,),
            "summary_first_dropout": (0.0,),
        },
    ),
}

FAMILY = Family(
    model_type="electra",
    prefix="electra",
    bare="ElectraModel",
    fields=FIELDS,
    given={
        "layers.attention.pattern": Full(),
        "layers.attention.head_size": head_size,
        "embeddings.projection": lambda config: config["embedding_size"] != config["hidden_size"],
        "head.masked-lm.activation": "gelu",
        "head.sequence-classification.pooler_activation": "gelu",
        "head.question-answering.dropout": 0.0,
    },
    required={"position_embedding_type": ("absolute", None), "is_decoder": (False,), "add_cross_attention": (False,)},
    keys=KEYS,
    heads=HEADS,
    ignored=("embeddings.position_ids", "embeddings.token_type_ids"),
)
