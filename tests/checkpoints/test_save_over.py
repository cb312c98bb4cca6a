"""Saving over a directory: what is the user's stays, what belongs to the old model goes, and cards carry on."""

import json
import os
import shutil
import stat
import warnings
from pathlib import Path

import pytest
from tiny_checkpoints import BERT, LONGFORMER, build, write

import gossamer as gs
from gossamer.checkpoints.card import read_card
from gossamer.errors import Remark
from gossamer.models import SentenceEmbedding, SequenceClassification

THEIRS = """---
language: en
license: apache-2.0  # with a remark
license_link: "https://example.org/a#b"
base_model:
- someone/base
- 'someone/other'
pipeline_tag: feature-extraction
library_name: sentence-transformers
---

# Mine
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A model as others publish it, with a card of theirs."""
    directory = write(tmp_path / "source", BERT, head=SentenceEmbedding())
    (directory / "README.md").write_text(THEIRS)
    return directory


def card_of(directory: Path) -> str:
    return (directory / "README.md").read_text()


def test_a_card_of_theirs_is_kept_and_told(source: Path) -> None:
    for _ in range(2):
        with pytest.warns(Remark, match=r"README\.md: kept, since Gossamer did not write it so"):
            gs.save(gs.load(source), source)
        assert card_of(source) == THEIRS


@pytest.mark.parametrize("edited", [False, True])
def test_our_card_is_replaced_unless_it_was_edited(tmp_path: Path, edited: bool) -> None:
    target = gs.save(build(BERT), tmp_path / "model")
    text = card_of(target) + "\nTrained by me.\n" * edited
    (target / "README.md").write_text(text)
    for config in (LONGFORMER, BERT, LONGFORMER):
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            gs.save(build(config), target)
        assert len(told) == edited
        assert (card_of(target) == text) == (edited or config == BERT)


def test_a_card_of_ours_without_a_seal_is_replaced(tmp_path: Path) -> None:
    target = write(tmp_path / "model", BERT)
    gs.save(build(LONGFORMER), target)
    assert "Format: `longformer`" in card_of(target)


def test_vocabulary_files_stay_where_they_are_the_model_s(minilm: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(minilm, source)
    for path in source.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    vocabulary = (source / "vocab.txt").read_bytes()
    model = gs.load(source)
    with pytest.warns(Remark, match=r"README\.md: kept"):
        gs.save(model, source)
    assert (source / "vocab.txt").read_bytes() == vocabulary
    assert (source / "special_tokens_map.json").exists()
    assert (source / "data_config.json").exists()
    again = gs.load(source)
    assert again.tokenizer("a kite")["input_ids"].tolist() == model.tokenizer("a kite")["input_ids"].tolist()
    with pytest.warns(Remark, match=r"README\.md: kept"):
        gs.save(build(BERT), source)  # of another vocabulary, and without a tokenizer
    assert not (source / "vocab.txt").exists()
    assert not (source / "special_tokens_map.json").exists()


def test_cards_carry_license_base_and_task(source: Path, tmp_path: Path) -> None:
    model = gs.load(source)
    long, _ = gs.lengthen(model, to=32, window=4)
    for one, directory in ((model, tmp_path / "copy"), (long, tmp_path / "long")):
        card = card_of(gs.save(one, directory))
        front = card.split("---\n")[1]
        assert front == (
            "library_name: sentence-transformers\n"
            "tags: [gossamer]\n"
            'license: "apache-2.0"\n'
            'license_link: "https://example.org/a#b"\n'
            'language: "en"\n'
            'base_model:\n- "someone/base"\n- "someone/other"\n'
            'pipeline_tag: "feature-extraction"\n'
        )
        assert read_card(directory) == read_card(source) == gs.load(directory).card


def test_base_and_task_are_those_of_this_model(source: Path, tmp_path: Path) -> None:
    model = gs.load(source)
    model.source = "owner/name"
    assert read_card(gs.save(model, tmp_path / "one"))["base_model"] == "owner/name"
    head = SequenceClassification(labels=("no", "yes"))
    labelled = gs.load(source, head=head)
    assert read_card(gs.save(labelled, tmp_path / "two"))["pipeline_tag"] == "text-classification"
    labelled.card["pipeline_tag"] = "text-ranking"
    assert read_card(gs.save(labelled, tmp_path / "three"))["pipeline_tag"] == "text-ranking"
    fresh = build(BERT, head="masked-lm", pooler=False)
    assert read_card(gs.save(fresh, tmp_path / "four")) == {"pipeline_tag": "fill-mask"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("# no front matter\nlicense: mit\n", {}),
        ("---\nlicense: mit\n", {}),
        ("---\nlicense: mit\n---\n", {"license": "mit"}),
        ("---\r\nlicense: mit\r\n---\r\nlicense: gpl\r\n", {"license": "mit"}),
        ("\ufeff---\nlicense: 'a b'\nlicense_name: \"x\ny\"\n---\n", {"license": "a b", "license_name": '"x'}),
        ("---\nlicense: {a: b}\nlanguage: [en]\nbase_model: &x y\n---\n", {}),
        ("---\nlicense: a\x1b[31mb\n---\n", {"license": "a[31mb"}),
        (f"---\nlicense: {'a' * 300}\nlanguage:\n  - en\n  - de\n---\n", {"language": ["en", "de"]}),
        ("---\n" + "language:\n" * 5 + "---\n", {}),
    ],
)
def test_what_a_card_says_is_read_or_left(tmp_path: Path, text: str, expected: dict[str, object]) -> None:
    (tmp_path / "README.md").write_bytes(text.encode())
    assert read_card(tmp_path) == expected


def test_a_card_that_is_no_file_says_nothing(tmp_path: Path) -> None:
    assert read_card(tmp_path) == {}
    os.mkfifo(tmp_path / "README.md")
    assert read_card(tmp_path) == {}
    (tmp_path / "README.md").unlink()
    (tmp_path / "README.md").write_bytes(b"---\nlicense: mit\n---\n\xff\xfe" * 10**5)
    assert read_card(tmp_path) == {"license": "mit"}


def test_weights_may_be_read_by_whoever_may_read_the_rest(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        target = gs.save(build(BERT), tmp_path / "model")
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in target.iterdir() if path.is_file()}
    assert set(modes.values()) == {0o644}, modes
    assert json.loads((target / "gossamer.json").read_text())["files"].keys() == {"model.safetensors", "README.md"}
