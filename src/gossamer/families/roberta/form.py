"""The form of RoBERTa: BERT's names, positions counted from padding, heads of its own."""

from gossamer.families.base import Family, Field, HeadForm
from gossamer.families.bert.form import FIELDS as BERT_FIELDS
from gossamer.families.bert.form import KEYS
from gossamer.families.kinds import ACTIVATION, ROWS, TOKEN
from gossamer.families.shared import (
    classifier_dropout,
    head_size,
    padding_id,
    table_rows,
    usable_length,
    with_fields,
)
from gossamer.models.heads import (
    MaskedLM,
    MultipleChoice,
    QuestionAnswering,
    SequenceClassification,
    TokenClassification,
)
from gossamer.patterns import Full

__all__ = ["CAMEMBERT", "FAMILY", "FIELDS", "GIVEN", "KEYS", "XLM_ROBERTA", "heads"]

FIELDS = with_fields(
    BERT_FIELDS,
    Field("pad_token_id", TOKEN, 1, to=("embeddings.padding_id",), read=padding_id),
    Field(
        "max_position_embeddings",
        ROWS,
        512,
        to=("length", "embeddings.positions.length"),
        read=usable_length,
        write=table_rows,
    ),
    Field("hidden_act", ACTIVATION, "gelu", to=("layers.feed_forward.activation",)),
    classifier_dropout(
        "head.token-classification.dropout", "head.input_dropout", "head.sequence-classification.dropout"
    ),
)

GIVEN = {
    "layers.attention.head_size": head_size,
    "embeddings.positions.from_padding": True,
    "embeddings.positions.offset": lambda config: config["pad_token_id"] + 1,
    "head.activation": "gelu",
    "head.question-answering.dropout": 0.0,
    "head.multiple-choice.dropout": lambda config: config["hidden_dropout_prob"],
}


def heads(name: str) -> dict[str, HeadForm]:
    """The heads of RoBERTa's kin, whose class names there begin with `name`."""
    return {
        "masked-lm": HeadForm(
            head=MaskedLM,
            architectures=(f"{name}ForMaskedLM",),
            keys={
                "head.dense": "lm_head.dense",
                "head.norm": "lm_head.layer_norm",
                "head.decoder": "lm_head.decoder",
                "head.bias": ("lm_head.decoder.bias", "lm_head.bias"),
            },
            tied={"lm_head.decoder.weight": "embeddings.word.weight"},
        ),
        "sequence-classification": HeadForm(
            head=SequenceClassification,
            architectures=(f"{name}ForSequenceClassification",),
            keys={"head.dense": "classifier.dense", "head.output": "classifier.out_proj"},
        ),
        "token-classification": HeadForm(
            head=TokenClassification,
            architectures=(f"{name}ForTokenClassification",),
            keys={"head.output": "classifier"},
        ),
        "question-answering": HeadForm(
            head=QuestionAnswering,
            architectures=(f"{name}ForQuestionAnswering",),
            keys={"head.output": "qa_outputs"},
        ),
        "multiple-choice": HeadForm(
            head=MultipleChoice,
            architectures=(f"{name}ForMultipleChoice",),
            keys={"head.dense": "pooler.dense", "head.output": "classifier"},
        ),
    }


def _family(model_type: str, name: str, vocabulary: int) -> Family:
    return Family(
        model_type=model_type,
        prefix="roberta",
        bare=f"{name}Model",
        fields=with_fields(FIELDS, Field("vocab_size", ROWS, vocabulary, to=("embeddings.vocabulary_size",))),
        given={**GIVEN, "layers.attention.pattern": Full()},
        required={
            "position_embedding_type": ("absolute", None),
            "is_decoder": (False,),
            "add_cross_attention": (False,),
        },
        keys=KEYS,
        heads=heads(name),
        ignored=("embeddings.position_ids", "embeddings.token_type_ids"),
    )


FAMILY = _family("roberta", "Roberta", 50265)
XLM_ROBERTA = _family("xlm-roberta", "XLMRoberta", 30522)
CAMEMBERT = _family("camembert", "Camembert", 30522)
