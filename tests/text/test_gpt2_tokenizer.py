"""GPT-2's tokenizer, from vocab.json and merges.txt or tokenizer.json, against `transformers`'."""

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import transformers
from torture import PAIRS, TORTURE

import gossamer as gs
from gossamer.text import Tokenizer, speeches, train_tokenizer

END = "<|endoftext|>"
MARKS = [f"a{END}b {END} c", "  two  spaces\n\nlines ", "don't can't we'll", "日本語 🙂", END]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """vocab.json and merges.txt, trained on speeches, the end of a text last, as in the published files."""
    place = tmp_path_factory.mktemp("gpt2")
    (place / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    trainer = tokenizers.ByteLevelBPETokenizer()
    trainer.train_from_iterator([one.text for one in speeches()[:6]], vocab_size=1500, show_progress=False)
    trainer.save_model(str(place))
    vocabulary = json.loads((place / "vocab.json").read_text())
    (place / "vocab.json").write_text(json.dumps({**vocabulary, END: len(vocabulary)}, ensure_ascii=False))
    return place


def copy_of(directory: Path, place: Path, **files: Any) -> Path:
    shutil.copytree(directory, place)
    for name, content in files.items():
        (place / f"{name}.json").write_text(json.dumps(content))
    return place


def check_same(ours: Tokenizer, theirs: Any) -> None:
    assert ours.vocabulary_size == len(theirs)
    for text, pair in itertools.zip_longest([*TORTURE, *MARKS, speeches()[9].text[:20_000]], PAIRS, fillvalue="a b"):
        for second in (None, pair):
            got = ours(text, second, truncation=False, return_offsets=True)
            wanted = theirs([text], None if second is None else [second], return_offsets_mapping=True)
            assert got["input_ids"].tolist() == wanted["input_ids"]
            assert [tuple(one) for one in got["offsets"][0].tolist()] == wanted["offset_mapping"][0]
        ids = got["input_ids"][0]
        assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


@pytest.mark.parametrize(
    "config",
    [
        None,
        {"tokenizer_class": "GPT2Tokenizer", "model_max_length": 1024, "add_bos_token": False},
        {"tokenizer_class": "GPT2TokenizerFast", "add_prefix_space": True},
        {"add_bos_token": True},
        {"add_bos_token": True, "add_eos_token": True},
        {
            "eos_token": {
                "__type": "AddedToken",
                "content": END,
                "lstrip": False,
                "rstrip": False,
                "normalized": True,
                "single_word": False,
            }
        },
    ],
)
def test_vocabulary_files(directory: Path, tmp_path: Path, config: dict[str, Any] | None) -> None:
    place = copy_of(directory, tmp_path / "model", **({} if config is None else {"tokenizer_config": config}))
    check_same(Tokenizer.load(place), transformers.AutoTokenizer.from_pretrained(place))
    fast = transformers.GPT2TokenizerFast.from_pretrained(place)
    check_same(Tokenizer.load(place), fast)


def test_tokenizer_json_of_transformers(directory: Path, tmp_path: Path) -> None:
    transformers.GPT2TokenizerFast.from_pretrained(directory).save_pretrained(tmp_path)
    assert (tmp_path / "tokenizer.json").exists()
    check_same(Tokenizer.load(tmp_path, "gpt2"), transformers.GPT2TokenizerFast.from_pretrained(directory))


def test_saved_files_give_the_same_ids_in_transformers(directory: Path, tmp_path: Path) -> None:
    ours = Tokenizer.load(directory)
    ours.save(tmp_path)
    shutil.copy(directory / "config.json", tmp_path)
    check_same(Tokenizer.load(tmp_path), transformers.AutoTokenizer.from_pretrained(tmp_path))


def test_padding_needs_a_token(directory: Path, tmp_path: Path) -> None:
    ours = Tokenizer.load(directory)
    assert ours.pad_id is None
    with pytest.raises(gs.InputError, match="no padding token; give one text at a time, or texts of one length"):
        ours(["one", "one and two"])
    named = copy_of(directory, tmp_path / "model", tokenizer_config={"pad_token": END})
    theirs = transformers.AutoTokenizer.from_pretrained(named)
    got, wanted = Tokenizer.load(named)(["one", "one and two"]), theirs(["one", "one and two"], padding=True)
    assert got["input_ids"].tolist() == wanted["input_ids"]
    assert got["attention_mask"].tolist() == wanted["attention_mask"]


def test_a_vocabulary_without_its_end_is_refused(directory: Path, tmp_path: Path) -> None:
    vocabulary = json.loads((directory / "vocab.json").read_text())
    del vocabulary[END]
    place = copy_of(directory, tmp_path / "model", vocab=vocabulary)
    with pytest.raises(gs.InputError, match=r"vocab.json has no '<\|endoftext\|>', the eos_token"):
        Tokenizer.load(place)


def test_a_new_one_is_trained_for_it(tmp_path: Path) -> None:
    new = train_tokenizer([one.text for one in speeches()[:2]], family="gpt2", vocabulary_size=600)
    assert new.vocabulary_size == 600
    assert new.token_id(END) == 0
    assert new.special_tokens_count() == 0
    new.save(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    check_same(new, transformers.AutoTokenizer.from_pretrained(tmp_path))
