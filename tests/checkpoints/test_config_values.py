"""Absurd, contradictory and unknown settings: one line with the file, the field, the value and what is allowed."""

import json
from pathlib import Path

import pytest
import transformers
from tiny_checkpoints import BERT, LONGFORMER, MODERNBERT, edit_config, write

import gossamer as gs


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("checkpoints")
    return {
        str(one["model_type"]): write(root / str(one["model_type"]), one, pooler=one is not MODERNBERT)
        for one in (BERT, LONGFORMER, MODERNBERT)
    }


def refusal(directory: Path) -> str:
    with pytest.raises(gs.InputError) as caught:
        gs.load(directory)
    message = str(caught.value)
    assert "\n" not in message
    assert str(directory / "config.json") in message
    return message


COMMON = [
    ("hidden_size", 9, "multiple of num_attention_heads, 2"),
    ("hidden_size", 0, "whole number from 1"),
    ("hidden_size", -8, "whole number from 1"),
    ("hidden_size", 8.0, "whole number"),
    ("hidden_size", "8", "whole number"),
    ("hidden_size", True, "whole number"),
    ("hidden_size", None, "whole number"),
    ("hidden_size", [8], "whole number"),
    ("hidden_size", 10**400, "whole number"),
    ("num_hidden_layers", 2**31, "whole number from 1 to 1024"),
    ("num_hidden_layers", 0, "whole number from 1"),
    ("num_attention_heads", 0, "whole number from 1"),
    ("intermediate_size", -1, "whole number from 1"),
    ("vocab_size", 2**40, "whole number"),
    ("type_vocab_size", 0, "whole number from 1"),
    ("max_position_embeddings", 0, "whole number from 1"),
    ("hidden_act", "gelu_magic", "one of gelu"),
    ("hidden_act", ["gelu"], "one of gelu"),
    ("layer_norm_eps", float("nan"), "finite number above 0"),
    ("layer_norm_eps", 0, "finite number above 0"),
    ("layer_norm_eps", "1e-12", "finite number above 0"),
    ("hidden_dropout_prob", 1.5, "rate from 0"),
    ("hidden_dropout_prob", -0.1, "rate from 0"),
    ("attention_probs_dropout_prob", float("inf"), "rate from 0"),
    ("attention_probs_dropout_prob", False, "rate from 0"),
    ("initializer_range", -1, "0 or more"),
    ("tie_word_embeddings", "yes", "true or false"),
    ("pad_token_id", 20, "token id from 0 to 19"),
    ("pad_token_id", -1, "whole number from 0"),
    ("pad_token_id", 1.5, "whole number from 0"),
    ("position_embedding_type", "relative_key", "'absolute'"),
    ("is_decoder", True, "False"),
    ("add_cross_attention", True, "False"),
    ("quantization_config", {"bits": 4}, "dequantize the model"),
    ("quantization_config", {}, "dequantize the model"),
    ("model_type", "mamba", "electra, gossamer, gpt2, led, llama, longformer"),
    ("model_type", None, "as its architectures say"),
    ("model_type", ["bert"], "electra, gossamer, gpt2, led, llama, longformer"),
    ("architectures", ["BertLMHeadModel"], "head='none'"),
    ("architectures", "BertModel", "list of names"),
]
LONGFORMER_ONLY = [
    ("attention_window", 5, "even whole number"),
    ("attention_window", 0, "even whole number"),
    ("attention_window", -4, "even whole number"),
    ("attention_window", "512", "even whole number"),
    ("attention_window", [4], "one entry for each layer, 2"),
    ("attention_window", [4, 6, 8], "one entry for each layer, 2"),
    ("attention_window", [4, 5], "attention_window[1] is 5"),
    ("attention_window", [4, True], "even whole number"),
    ("max_position_embeddings", 2, "more than pad_token_id + 1, 2"),
    ("pad_token_id", None, "whole number"),
]

OTHER_NAMES = {
    "hidden_act": "hidden_activation",
    "layer_norm_eps": "norm_eps",
    "hidden_dropout_prob": "mlp_dropout",
    "attention_probs_dropout_prob": "attention_dropout",
}
UNKNOWN = ("type_vocab_size", "position_embedding_type", "is_decoder", "add_cross_attention")
"""Fields that ModernBERT has not."""
MODERNBERTS = [
    *((OTHER_NAMES.get(field, field), value, allowed) for field, value, allowed in COMMON if field not in UNKNOWN),
    ("local_attention", 0, "whole number from 1"),
    ("local_attention", "128", "whole number"),
    ("global_attn_every_n_layers", 0, "whole number from 1"),
    ("layer_types", ["full_attention"], "one entry for each layer, 2"),
    ("layer_types", ["full_attention", "local"], "a list of 'full_attention' and 'sliding_attention'"),
    ("rope_parameters", [1], "an object"),
    ("global_rope_theta", 0, "finite number above 0"),
    ("head_dim", 3, "hidden_size / num_attention_heads, 4"),
    ("norm_bias", "no", "true or false"),
    ("classifier_pooling", "max", "'cls' or 'mean'"),
    ("embedding_dropout", 2, "rate from 0"),
]


@pytest.mark.parametrize(
    ("family", "field", "value", "allowed"),
    [(family, *one) for family in ("bert", "longformer") for one in COMMON]
    + [("longformer", *one) for one in LONGFORMER_ONLY]
    + [("modernbert", *one) for one in MODERNBERTS],
)
def test_bad_value_is_refused(
    checkpoints: dict[str, Path], tmp_path: Path, family: str, field: str, value: object, allowed: str
) -> None:
    directory = tmp_path / "model"
    directory.mkdir()
    for file in checkpoints[family].iterdir():
        (directory / file.name).symlink_to(file)
    (directory / "config.json").unlink()
    text = json.loads((checkpoints[family] / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps({**text, field: value}))
    message = refusal(directory)
    assert field in message
    assert allowed in message


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"model_type": "bert"', "\xff\xfe", "[" * 100_000, '"text"', "1" * 9999]
)
def test_broken_config_is_refused(tmp_path: Path, text: str) -> None:
    directory = write(tmp_path / "bert", BERT)
    (directory / "config.json").write_bytes(text.encode("latin-1"))
    refusal(directory)


@pytest.mark.parametrize(
    ("architectures", "remedy"),
    [
        (["BertForMaskedLM"], 'add "model_type": "bert", as its architectures say'),
        (["GPT2LMHeadModel"], 'add "model_type": "gpt2", as its architectures say'),
        (["MambaModel"], 'add "model_type": one of albert, bart, bert, camembert'),
        (None, 'add "model_type": one of albert, bart, bert, camembert'),
    ],
)
def test_a_missing_model_type_is_told_with_its_remedy(tmp_path: Path, architectures: object, remedy: str) -> None:
    directory = write(tmp_path / "bert", BERT)
    config = json.loads((directory / "config.json").read_text())
    del config["model_type"], config["architectures"]
    (directory / "config.json").write_text(
        json.dumps(config | ({"architectures": architectures} if architectures else {}))
    )
    message = refusal(directory)
    assert f"model_type is missing; {remedy}" in message


LABELS = [
    ({"num_labels": 5, "id2label": {"0": "no", "1": "yes"}}, [f"LABEL_{i}" for i in range(5)]),
    ({"num_labels": 1, "id2label": {"0": "no", "1": "yes"}}, ["LABEL_0"]),
    ({"num_labels": 3, "id2label": {"0": "a", "1": "b", "2": "c"}}, ["a", "b", "c"]),
    ({"num_labels": 3}, ["LABEL_0", "LABEL_1", "LABEL_2"]),
    ({"id2label": {"1": "yes", "0": "no"}}, ["no", "yes"]),
    ({}, ["LABEL_0", "LABEL_1"]),
]


@pytest.mark.filterwarnings("ignore::gossamer.errors.Remark")
@pytest.mark.parametrize("kind", ["SequenceClassification", "TokenClassification"])
@pytest.mark.parametrize(("fields", "labels"), LABELS)
def test_labels_are_those_of_transformers(tmp_path: Path, kind: str, fields: dict, labels: list[str]) -> None:  # type: ignore[type-arg]
    """The number of labels wins over names of another number; config.json as it is, with no field of ours added."""
    sizes = {name: value for name, value in BERT.items() if name != "model_type"}
    config = transformers.BertConfig(**sizes, num_labels=len(labels))
    getattr(transformers, f"BertFor{kind}")(config).save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    kept = {name: value for name, value in written.items() if name not in ("id2label", "label2id", "num_labels")}
    (tmp_path / "config.json").write_text(json.dumps({**kept, **fields}))
    theirs = transformers.AutoConfig.from_pretrained(tmp_path)
    assert [theirs.id2label[i] for i in range(theirs.num_labels)] == labels
    model = gs.load(tmp_path)
    assert list(model.architecture.head.labels) == labels  # type: ignore[union-attr]
    is_noted = len(fields.get("id2label", labels)) != len(labels)
    assert ["LABEL_0" in one and "id2label names 2" in one for one in model.notes] == [True] * is_noted
    gs.save(model, tmp_path / "copy")
    again = transformers.AutoConfig.from_pretrained(tmp_path / "copy")
    assert [again.id2label[i] for i in range(again.num_labels)] == labels


def test_unknown_settings_are_kept(tmp_path: Path) -> None:
    directory = write(tmp_path / "bert", BERT)
    edit_config(directory, classifier_dropout=None, id2label={"0": "no"}, position_embedding_type="absolute")
    gs.save(gs.load(directory), tmp_path / "copy")
    kept = json.loads((tmp_path / "copy" / "config.json").read_text())
    assert kept["id2label"] == {"0": "no"}
    assert kept["classifier_dropout"] is None
    assert kept["position_embedding_type"] == "absolute"


@pytest.mark.parametrize(
    ("value", "shown"), [("NaN", "NaN"), ("-Infinity", "-Infinity"), ("1e999", "Infinity"), ('{"a": [NaN]}', "nan")]
)
def test_unknown_setting_that_json_lacks_is_refused(tmp_path: Path, value: str, shown: str) -> None:
    file = write(tmp_path / "bert", BERT) / "config.json"
    file.write_text(file.read_text().replace("{", f'{{"foo": {value},', 1))
    message = refusal(tmp_path / "bert")
    assert "field 'foo' is" in message
    assert shown in message


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("hidden_size",), "8", "hidden_size"),
        (("layers",), 3, "list of layers"),
        (("layers",), [], "number of layers"),
        (("layers", 0, "attention", "pattern"), {"pattern": "spiral"}, "spiral"),
        (("layers", 0, "attention", "pattern"), None, "pattern"),
        (("layers", 1, "attention", "weights"), 5, "without gaps"),
        (("layers", 1, "attention", "weights"), 1.0, "weights"),
        (("layers", 1, "feed_forward", "width"), True, "width"),
        (("layers", 1, "norm"), "sideways", "norm"),
        (("layers", 0, "surprise"), 1, "surprise"),
        (("embeddings", "positions", "length"), -1, "length"),
        (("embeddings", "size"), 4, "embeddings.size"),
        (("embeddings",), None, "embeddings"),
        (("head",), {"kind": "oracle"}, "oracle"),
        (("pooler",), "yes", "pooler"),
    ],
)
def test_bad_native_architecture_is_refused(tmp_path: Path, path: tuple[object, ...], value: object, said: str) -> None:
    gs.save(gs.load(write(tmp_path / "bert", BERT)), tmp_path / "native", family="gossamer")
    (tmp_path / "native" / "gossamer.json").unlink()
    file = tmp_path / "native" / "config.json"
    config = json.loads(file.read_text())
    place = config["architecture"]
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    file.write_text(json.dumps(config))
    assert said in refusal(tmp_path / "native")
