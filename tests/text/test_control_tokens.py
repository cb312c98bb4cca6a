"""What looks like a special token in a text: the token itself, or, with control_tokens=False, letters."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers

from gossamer.errors import InputError
from gossamer.text import Tokenizer, byte_tokenizer, read_documents, tokenize, train_tokenizer

NAMES = ["<s>", "</s>", "<pad>", "<unk>", "<mask>", "[CLS]", "[SEP]", "[PAD]", "[UNK]", "[MASK]", "<|endoftext|>"]
FAMILIES = ["bert", "distilbert", "roberta", "gpt2", "albert", "xlm-roberta", "camembert"]
TEXT = f"one {' two '.join(NAMES)}{''.join(NAMES)} three"


@pytest.fixture(scope="module", params=FAMILIES)
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    spelt = " ".join(" ".join(name) for name in NAMES)  # or a vocabulary would have no letters for them
    return train_tokenizer([TEXT, spelt, "a kite flies"] * 20, family=request.param, vocabulary_size=600)


def special_ids(tokenizer: Tokenizer) -> set[int]:
    return {i for i, token in tokenizer._backend.get_added_tokens_decoder().items() if token.special}


def inner(batch: dict[str, torch.Tensor], row: int = 0) -> list[int]:
    """Ids without what stands around the text."""
    ids, around = batch["input_ids"][row].tolist(), batch["special_tokens_mask"][row].tolist()
    return [one for one, special in zip(ids, around, strict=True) if not special]


def test_names_are_letters_when_asked(tokenizer: Tokenizer) -> None:
    special = special_ids(tokenizer)
    assert special & set(tokenizer.encode_plain(TEXT)[0])
    ids, offsets = tokenizer.encode_plain(TEXT, control_tokens=False)
    assert not special & set(ids)
    known = [one for one in NAMES if tokenizer.token_id(one) in special]
    for name in known:
        letters = tokenizer.encode_plain(f"a {name} a", control_tokens=False)[0]
        assert tokenizer.token_id(name) not in letters
        assert len(letters) > 3
    covered = {i for start, end in offsets for i in range(start, end)}
    assert all(i in covered or char == " " for i, char in enumerate(TEXT))


def test_the_frame_stays_and_so_does_everything_else(tokenizer: Tokenizer) -> None:
    plain = "a kite flies high"
    rows = [] if tokenizer.pad_id is None else [{"max_length": 6, "stride": 1}]
    for options in ({}, {"text_pair": [plain]}, {"max_length": 6}, *rows):
        usual = tokenizer([plain], return_offsets=True, **options)
        letters = tokenizer([plain], return_offsets=True, control_tokens=False, **options)
        assert usual.keys() == letters.keys()
        assert all(torch.equal(usual[name], letters[name]) for name in usual)
    assert (
        inner(tokenizer(TEXT, return_offsets=True, control_tokens=False, truncation=False))
        == (tokenizer.encode_plain(TEXT, control_tokens=False)[0])
    )
    # The other way stays as it was, and so do copies.
    assert tokenizer.encode_plain(TEXT) == pickle.loads(pickle.dumps(tokenizer)).encode_plain(TEXT)


@given(parts=st.lists(st.sampled_from([*NAMES, " ", "a", "kite", "\u00e9", "<", "[", "|>"]), max_size=8))
def test_no_text_spells_a_control_token(tokenizer: Tokenizer, parts: list[str]) -> None:
    found = tokenizer.encode_plain("".join(parts), control_tokens=False)[0]
    assert special_ids(tokenizer) & set(found) <= {tokenizer.unk_id}


def test_real_tokenizer(minilm: Path) -> None:
    tokenizer = Tokenizer.load(minilm)
    text = "the mark [SEP] ends a text"
    assert tokenizer.sep_id in tokenizer.encode_plain(text)[0]
    ids = tokenizer(text, control_tokens=False)["input_ids"][0].tolist()
    assert ids.count(tokenizer.sep_id) == 1
    assert tokenizer.tokens(ids[3:6]) == ["[", "sep", "]"]


def test_whole_words_that_are_control_tokens_are_unknown() -> None:
    backend = Backend(models.WordLevel({"[SEP]": 0, "a": 1, "[UNK]": 2, "[END]": 3}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.add_special_tokens(["[SEP]", "[UNK]", "[NEW]"])
    backend.add_tokens(["[WORD]"])
    tokenizer = Tokenizer(backend)
    text = "a [SEP] [UNK] [NEW] [WORD] [END]"
    assert tokenizer.encode_plain(text)[0] == [1, 0, 2, 4, 5, 3]
    assert tokenizer.encode_plain(text, control_tokens=False)[0] == [1, 2, 2, 2, 5, 3]


def test_bytes_are_never_cut_out() -> None:
    tokenizer = byte_tokenizer()
    text = "a<|endoftext|>"
    assert tokenizer.encode_plain(text)[0] == tokenizer.encode_plain(text, control_tokens=False)[0] == [*text.encode()]


def test_token_files(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("The mark <|endoftext|> ends a text.\n")
    tokenizer = train_tokenizer(["the mark ends a text"] * 3, family="gpt2", vocabulary_size=300)
    end = tokenizer.token_id("<|endoftext|>")

    def documents() -> object:
        return read_documents([str(tmp_path / "a.txt")])

    assert end in tokenize(documents(), tokenizer).document(0)  # type: ignore[arg-type]
    letters = tokenize(documents(), tokenizer, control_tokens=False).document(0)  # type: ignore[arg-type]
    assert end not in letters
    assert tokenizer.decode(letters) == "The mark <|endoftext|> ends a text.\n"


@pytest.mark.parametrize("value", [None, 0, "no"])
def test_control_tokens_is_a_flag(value: object) -> None:
    with pytest.raises(InputError, match=r"control_tokens is .*; it must be True or False"):
        byte_tokenizer()("a", control_tokens=value)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"control_tokens is .*; it must be True or False"):
        byte_tokenizer().encode_plain("a", control_tokens=value)  # type: ignore[arg-type]


def test_tensors_are_torch_s(minilm: Path) -> None:
    tokenizer = Tokenizer.load(minilm)
    assert torch.equal(tokenizer("a", return_tensors="pt")["input_ids"], tokenizer("a")["input_ids"])
    for kind in ("np", "tf", 3):
        with pytest.raises(InputError, match=r"return_tensors is .*; a batch is always torch tensors, 'pt' or None"):
            tokenizer("a", return_tensors=kind)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"for numpy arrays call \.numpy\(\) on them"):
        tokenizer("a", return_tensors="np")


def test_saved_files_know_nothing_of_it(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> None:
    tokenizer.encode_plain(TEXT, control_tokens=False)
    directory = tmp_path_factory.mktemp("saved")
    tokenizer.save(directory)
    names = [one["content"] for one in json.loads((directory / "tokenizer.json").read_text())["added_tokens"]]
    assert set(names) & set(NAMES)
