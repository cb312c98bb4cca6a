"""Types of pairs: fed as `transformers` feeds them, read and saved, since a classifier's label may turn on them."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import gossamer as gs
from gossamer.text import Tokenizer, train_tokenizer

PAIR = ("where do kites fly", "a kite flies where the wind is")
ROLES = {f"{role}_token": f"[{role.upper()}]" for role in ("pad", "cls", "sep", "unk", "mask")}
CLASSES = [
    *(None, "BertTokenizer", "BertTokenizerFast", "ElectraTokenizerFast", "PreTrainedTokenizerFast"),
    *("TokenizersBackend", "DistilBertTokenizer", "OwnTokenizer"),
]


def files(directory: Path, minilm: Path, model_type: str, **settings: Any) -> Path:
    directory.mkdir()
    shutil.copyfile(minilm / "tokenizer.json", directory / "tokenizer.json")
    (directory / "tokenizer_config.json").write_text(json.dumps({**ROLES, **settings}))
    (directory / "config.json").write_text(json.dumps({"model_type": model_type}))
    return directory


def fed(tokenizer: Any) -> list[int] | None:
    """The types that `transformers` feeds."""
    return tokenizer(*PAIR).get("token_type_ids")


@pytest.mark.parametrize("model_type", ["bert", "distilbert", "electra"])
@pytest.mark.parametrize("named", CLASSES)
def test_types_are_fed_where_transformers_feeds_them(
    minilm: Path, tmp_path: Path, model_type: str, named: str | None
) -> None:
    settings = {} if named is None else {"tokenizer_class": named}
    directory = files(tmp_path / "model", minilm, model_type, **settings)
    expected = fed(transformers.AutoTokenizer.from_pretrained(directory))
    for ours in (Tokenizer.load(directory), Tokenizer.load(directory, model_type)):
        types = ours(PAIR[0], text_pair=PAIR[1])["token_type_ids"][0].tolist()
        assert types == (expected or [0] * len(types))
    again = tmp_path / "again"
    again.mkdir()
    shutil.copyfile(directory / "config.json", again / "config.json")
    ours.save(again)
    assert fed(transformers.AutoTokenizer.from_pretrained(again)) == expected
    assert json.loads((again / "tokenizer_config.json").read_text())["model_input_names"]


@pytest.mark.parametrize("named", ["PreTrainedTokenizerFast", "BertTokenizer"])
@pytest.mark.parametrize("names", [True, False])
def test_names_in_the_file_win(minilm: Path, tmp_path: Path, named: str, names: bool) -> None:
    listed = ["input_ids", *["token_type_ids"] * names, "attention_mask"]
    directory = files(tmp_path / "model", minilm, "bert", tokenizer_class=named, model_input_names=listed)
    expected = fed(transformers.AutoTokenizer.from_pretrained(directory))
    assert (expected is not None) == names
    types = Tokenizer.load(directory)(PAIR[0], text_pair=PAIR[1])["token_type_ids"][0].tolist()
    assert types == (expected or [0] * len(types))


def test_the_class_that_config_names_counts_too(minilm: Path, tmp_path: Path) -> None:
    directory = files(tmp_path / "model", minilm, "bert")
    (directory / "config.json").write_text(json.dumps({"model_type": "bert", "tokenizer_class": "TokenizersBackend"}))
    assert fed(transformers.AutoTokenizer.from_pretrained(directory)) is None
    assert not Tokenizer.load(directory)(PAIR[0], text_pair=PAIR[1])["token_type_ids"].any()


@pytest.mark.parametrize("named", ["BertTokenizer", "PreTrainedTokenizerFast"])
@pytest.mark.parametrize("longer", [False, True])
def test_a_saved_classifier_answers_a_pair_alike_in_transformers(
    minilm: Path, tmp_path: Path, named: str, longer: bool
) -> None:
    """Its label turns on the types: rows of the type table are far apart."""
    directory = files(tmp_path / "model", minilm, "bert", tokenizer_class=named)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    torch.manual_seed(0)
    theirs = transformers.BertForSequenceClassification(transformers.BertConfig(**sizes, max_position_embeddings=64))
    with torch.no_grad():
        theirs.bert.embeddings.token_type_embeddings.weight.mul_(100)
        theirs.classifier.weight.mul_(10)
    theirs.eval().save_pretrained(directory)
    ours = gs.load(directory)
    if longer:
        ours, _ = gs.lengthen(ours, to=128, window=64)
    saved = gs.save(ours, tmp_path / "saved")
    logits = []
    for one in (directory, saved):
        tokenizer = transformers.AutoTokenizer.from_pretrained(one)
        model = transformers.AutoModelForSequenceClassification.from_pretrained(one).eval()
        with torch.no_grad():
            logits.append(model(**tokenizer(*PAIR, return_tensors="pt")).logits)
    with torch.no_grad():
        again = gs.load(saved)
        logits += [one(**one.tokenizer(PAIR[0], text_pair=PAIR[1])).logits for one in (ours, again)]
    for one in logits[1:]:
        torch.testing.assert_close(one, logits[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("family", "types"), [("bert", True), ("distilbert", False), ("roberta", False), ("gpt2", False)]
)
def test_a_new_tokenizer_names_what_its_family_is_fed(tmp_path: Path, family: str, types: bool) -> None:
    train_tokenizer(["a kite flies high"] * 3, family=family, vocabulary_size=300).save(tmp_path)  # type: ignore[arg-type]
    names = json.loads((tmp_path / "tokenizer_config.json").read_text())["model_input_names"]
    assert ("token_type_ids" in names) == types


def test_a_model_without_types_is_not_fed_any(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(["a kite flies high"] * 3, family="bert", vocabulary_size=300)
    tokenizer.save(tmp_path, types=False)
    assert "token_type_ids" not in json.loads((tmp_path / "tokenizer_config.json").read_text())["model_input_names"]
