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
from gossamer.families.shared import head_size, padding_id
from gossamer.models.architecture import MaskedLM
from gossamer.patterns import Full

__all__ = ["FAMILY"]

FIELDS = (
    Field("vocab_size", ROWS, 30522, to=("embeddings.vocabulary_size",)),
    Field("type_vocab_size", ROWS, 2, to=("embeddings.token_types",)),
    Field("max_position_embeddings", ROWS, 512, to=("embeddings.positions.length",)),
    Field("pad_token_id", OPTIONAL_TOKEN, 0, to=("embeddings.padding_id",), read=padding_id),
    Field("hidden_size", COLUMNS, 768, to=("hidden_size", "embeddings.size")),
    Field("num_hidden_layers", LAYERS, 12, to=("layers",)),
    Field("num_attention_heads", COLUMNS, 12, to=("layers.attention.heads",)),
    Field("intermediate_size", COLUMNS, 3072, to=("layers.feed_forward.width",)),
    Field("hidden_act", ACTIVATION, "gelu", to=("layers.feed_forward.activation", "head.activation")),
    Field("layer_norm_eps", POSITIVE, 1e-12, to=("layers.norm_eps", "embeddings.norm_eps", "head.norm_eps")),
    Field("hidden_dropout_prob", RATE, 0.1, to=("layers.dropout", "embeddings.dropout")),
    Field("attention_probs_dropout_prob", RATE, 0.1, to=("layers.attention.dropout",)),
    Field("initializer_range", NOT_NEGATIVE, 0.02, to=("initializer_range",)),
    Field("tie_word_embeddings", FLAG, True, to=("head.tied",)),
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
    architectures=("BertForMaskedLM", "BertForPreTraining"),
    keys={
        "head.dense": "cls.predictions.transform.dense",
        "head.norm": "cls.predictions.transform.LayerNorm",
        "head.decoder": "cls.predictions.decoder",
        "head.bias": ("cls.predictions.decoder.bias", "cls.predictions.bias"),
    },
    tied={"cls.predictions.decoder.weight": "embeddings.word.weight"},
)

FAMILY = Family(
    model_type="bert",
    prefix="bert",
    bare="BertModel",
    fields=FIELDS,
    given={"layers.attention.pattern": Full(), "layers.attention.head_size": head_size},
    required={"position_embedding_type": ("absolute", None), "is_decoder": (False,), "add_cross_attention": (False,)},
    keys=KEYS,
    heads={"masked-lm": MASKED_LM},
    renamed=((".LayerNorm.gamma", ".LayerNorm.weight"), (".LayerNorm.beta", ".LayerNorm.bias")),
    ignored=("embeddings.position_ids", "embeddings.token_type_ids", "cls.seq_relationship.*"),
)
