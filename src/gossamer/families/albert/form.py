"""The form of ALBERT: a narrow embedding, and groups of inner layers that are applied again and again."""

from collections.abc import Mapping
from typing import Any

from gossamer.errors import InputError
from gossamer.families.base import Config, Family, Field, HeadForm
from gossamer.families.bert.form import CLASSIFIER_DROPOUTS
from gossamer.families.bert.form import FIELDS as BERT_FIELDS
from gossamer.families.kinds import ACTIVATION, COLUMNS, LAYERS, RATE, ROWS
from gossamer.families.shared import head_size, with_fields
from gossamer.models.architecture import Architecture
from gossamer.models.checks import MOST_LAYERS
from gossamer.models.heads import (
    MaskedLM,
    MultipleChoice,
    PreTraining,
    QuestionAnswering,
    SequenceClassification,
    TokenClassification,
)
from gossamer.patterns import Full

__all__ = ["FAMILY"]


def _applications(layers: int, config: Config) -> int:
    """Every layer applies the inner layers of its group one after the other."""
    count = layers * config["inner_group_num"]
    if count > MOST_LAYERS:
        raise InputError(f"num_hidden_layers * inner_group_num is {count}; it must be at most {MOST_LAYERS}")
    return count


def _weight_sets(value: Any, config: Config) -> list[int]:
    """The weight set of every application, in the order and with the rounding of `transformers`."""
    layers, groups, inner = (config[name] for name in ("num_hidden_layers", "num_hidden_groups", "inner_group_num"))
    if groups > layers:
        raise InputError(f"num_hidden_groups is {groups}; it must be at most num_hidden_layers, {layers}")
    return [int(i / (layers / groups)) * inner + j for i in range(layers) for j in range(inner)]


def _groups(architecture: Architecture) -> tuple[int, int, int]:
    """Layers, groups and inner layers that give these weight sets, with as few inner layers as do."""
    sets = [one.attention.weights for one in architecture.layers]
    count = max(sets) + 1
    for inner in range(1, count + 1):
        if len(sets) % inner == 0 and count % inner == 0:
            layers, groups = len(sets) // inner, count // inner
            config = {"num_hidden_layers": layers, "num_hidden_groups": groups, "inner_group_num": inner}
            if groups <= layers and _weight_sets(None, config) == sets:
                return layers, groups, inner
    raise InputError(f"layers share their weights as {sets}, which no groups of ALBERT do")


def _slots(number: int, config: Config) -> Mapping[str, int]:
    return {"group": number // config["inner_group_num"], "inner": number % config["inner_group_num"]}


FIELDS = with_fields(
    BERT_FIELDS,
    Field("vocab_size", ROWS, 30000, to=("embeddings.vocabulary_size",)),
    Field("embedding_size", COLUMNS, 128, to=("embeddings.size",)),
    Field("hidden_size", COLUMNS, 4096, to=("hidden_size",)),
    Field(
        "num_hidden_layers",
        LAYERS,
        12,
        to=("layers",),
        read=_applications,
        write=lambda value, architecture: _groups(architecture)[0],
    ),
    Field(
        "num_hidden_groups",
        LAYERS,
        1,
        to=("layers.attention.weights", "layers.feed_forward.weights"),
        read=_weight_sets,
        write=lambda value, architecture: _groups(architecture)[1],
    ),
    Field(
        "inner_group_num",
        LAYERS,
        1,
        to=("layers.attention.weights", "layers.feed_forward.weights"),
        read=_weight_sets,
        write=lambda value, architecture: _groups(architecture)[2],
    ),
    Field("num_attention_heads", COLUMNS, 64, to=("layers.attention.heads",)),
    Field("intermediate_size", COLUMNS, 16384, to=("layers.feed_forward.width",)),
    Field("hidden_act", ACTIVATION, "gelu_new", to=("layers.feed_forward.activation", "head.activation")),
    Field("hidden_dropout_prob", RATE, 0.0, to=("embeddings.dropout", "layers.attention.residual_dropout")),
    Field("attention_probs_dropout_prob", RATE, 0.0, to=("layers.attention.dropout",)),
    Field("classifier_dropout_prob", RATE, 0.1, to=(*CLASSIFIER_DROPOUTS, "head.pair_dropout")),
    without=("classifier_dropout",),
)

LAYER = "encoder.albert_layer_groups.{group}.albert_layers.{inner}"

KEYS = {
    "embeddings.word": "embeddings.word_embeddings",
    "embeddings.position": "embeddings.position_embeddings",
    "embeddings.token_type": "embeddings.token_type_embeddings",
    "embeddings.norm": "embeddings.LayerNorm",
    "embeddings.projection": "encoder.embedding_hidden_mapping_in",
    "attention.{layer}.query": f"{LAYER}.attention.query",
    "attention.{layer}.key": f"{LAYER}.attention.key",
    "attention.{layer}.value": f"{LAYER}.attention.value",
    "attention.{layer}.output": f"{LAYER}.attention.dense",
    "attention.{layer}.norm": f"{LAYER}.attention.LayerNorm",
    "feed_forward.{layer}.up": f"{LAYER}.ffn",
    "feed_forward.{layer}.down": f"{LAYER}.ffn_output",
    "feed_forward.{layer}.norm": f"{LAYER}.full_layer_layer_norm",
    "pooler": "pooler",
}

MASKED_LM = HeadForm(
    head=MaskedLM,
    architectures=("AlbertForMaskedLM",),
    keys={
        "head.dense": "predictions.dense",
        "head.norm": "predictions.LayerNorm",
        "head.decoder": "predictions.decoder",
        "head.bias": ("predictions.decoder.bias", "predictions.bias"),
    },
    tied={"predictions.decoder.weight": "embeddings.word.weight"},
)

CLASSIFIER = {"head.dense": "pooler", "head.output": "classifier"}

HEADS = {
    "masked-lm": MASKED_LM,
    "pre-training": HeadForm(
        head=PreTraining,
        architectures=("AlbertForPreTraining",),
        keys={**MASKED_LM.keys, "head.pair.dense": "pooler", "head.pair.output": "sop_classifier.classifier"},
        tied=MASKED_LM.tied,
    ),
    "sequence-classification": HeadForm(
        head=SequenceClassification, architectures=("AlbertForSequenceClassification",), keys=CLASSIFIER
    ),
    "token-classification": HeadForm(
        head=TokenClassification, architectures=("AlbertForTokenClassification",), keys={"head.output": "classifier"}
    ),
    "question-answering": HeadForm(
        head=QuestionAnswering, architectures=("AlbertForQuestionAnswering",), keys={"head.output": "qa_outputs"}
    ),
    "multiple-choice": HeadForm(head=MultipleChoice, architectures=("AlbertForMultipleChoice",), keys=CLASSIFIER),
}

FAMILY = Family(
    model_type="albert",
    prefix="albert",
    bare="AlbertModel",
    fields=FIELDS,
    given={
        "layers.attention.pattern": Full(),
        "layers.attention.head_size": head_size,
        "layers.feed_forward.residual_dropout": 0.0,
        "embeddings.projection": True,
        "head.question-answering.dropout": 0.0,
    },
    required={"position_embedding_type": ("absolute", None), "is_decoder": (False,), "add_cross_attention": (False,)},
    keys=KEYS,
    heads=HEADS,
    slots=_slots,
    ignored=("embeddings.position_ids", "embeddings.token_type_ids"),
)
