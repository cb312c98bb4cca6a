"""DeBERTa's tokenizer from its spm.model: against sentencepiece itself, and the converter and class of transformers."""

import importlib
import itertools
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sentencepiece
import tokenizers
import transformers
from torture import PAIRS, TORTURE
from vocabulary_material import DEBERTA, train_pieces

from gossamer.text import Tokenizer, speeches

PLAIN = [
    *(speech.text for speech in speeches()[:10]),
    "two  spaces   three\n\nlines ",
    " (see) 'x' - 1,000. £5 \u2013 €6",
]
"""Of letters that the file's table leaves as they are."""


@pytest.fixture(scope="module")
def spm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory as the released ones are: config.json, spm.model, and two lines about it."""
    directory = tmp_path_factory.mktemp("deberta")
    words = " ".join(speech.text for speech in speeches()[:12]).split()
    lines = [" ".join(words[i : i + 100]) for i in range(0, len(words), 100)]
    (directory / "spm.model").write_bytes(train_pieces(lines, **DEBERTA))
    (directory / "config.json").write_text(json.dumps({"model_type": "deberta-v2"}))
    (directory / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": False, "vocab_type": "spm"}))
    return directory


def converted(directory: Path, **switches: Any) -> tokenizers.Tokenizer:
    """By the converter that made tokenizer.json of the original tokenizer, and the tokens that its class added."""
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(directory / "spm.model"))
    original = SimpleNamespace(
        vocab_file=str(directory / "spm.model"), add_prefix_space=True, convert_tokens_to_ids=pieces.piece_to_id,
        **{"do_lower_case": False, "split_by_punct": False, **switches},
    )  # fmt: skip
    made = importlib.import_module("transformers.convert_slow_tokenizer").DebertaV2Converter(original).converted()
    made.add_special_tokens(["[UNK]", "[MASK]"])
    return made


def test_sentencepiece_itself_gives_the_same_ids(spm: Path) -> None:
    original, ours = sentencepiece.SentencePieceProcessor(model_file=str(spm / "spm.model")), Tokenizer.load(spm)
    texts = [text for text in TORTURE if "[" not in text]
    assert len(texts) > 10
    for text in [*PLAIN, *texts]:
        assert ours.encode_plain(text)[0] == original.encode(text)


@pytest.mark.parametrize("lower", [False, True])
@pytest.mark.parametrize("apart", [False, True])
def test_switches_are_those_of_the_converter(spm: Path, tmp_path: Path, lower: bool, apart: bool) -> None:
    shutil.copytree(spm, tmp_path / "copy")
    switches = {"do_lower_case": lower, "split_by_punct": apart}
    (tmp_path / "copy" / "tokenizer_config.json").write_text(json.dumps(switches))
    ours, wanted = Tokenizer.load(tmp_path / "copy"), converted(spm, **switches)
    for text, pair in itertools.zip_longest([*PLAIN, *TORTURE], PAIRS, fillvalue="a b"):
        found, right = ours(text, pair, truncation=False, return_offsets=True), wanted.encode(text, pair)
        assert found["input_ids"][0].tolist() == right.ids
        assert found["token_type_ids"][0].tolist() == right.type_ids
        assert [tuple(one) for one in found["offsets"][0].tolist()] == right.offsets


def test_the_class_of_transformers_reads_and_writes_the_same_ids(spm: Path, tmp_path: Path) -> None:
    """Of letters that need no table: it has NFC in place of the file's own."""
    ours, theirs = Tokenizer.load(spm), transformers.AutoTokenizer.from_pretrained(spm)
    assert type(theirs).__name__ == "DebertaV2Tokenizer"
    assert ours.mask_id == theirs.mask_token_id == ours.vocabulary_size - 1 == len(theirs) - 1
    assert (ours.pad_id, ours.cls_id) == (theirs.pad_token_id, theirs.cls_token_id) == (0, 1)
    ours.save(tmp_path)
    shutil.copy(spm / "config.json", tmp_path)
    again = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in [*PLAIN, "a [MASK] b[MASK]c"]:
        wanted = ours(text, "a pair", truncation=False)
        for other in (theirs, again):
            found = other(text, "a pair")
            assert found["input_ids"] == wanted["input_ids"][0].tolist()
            assert found["token_type_ids"] == wanted["token_type_ids"][0].tolist()
