"""Tokenizers with fewer tokens: texts of those that stay are cut as before."""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest
import tokenizers
from drawn_tokenizers import KINDS, TEXTS
from hypothesis import given
from hypothesis import strategies as st

from gossamer.errors import InputError
from gossamer.text import Tokenizer, byte_tokenizer, speeches
from gossamer.text.trimming import TrimmableTokenizer, Trimmed

EVERY_KIND = pytest.mark.parametrize("kind", KINDS)


def ids_of(tokenizer: Tokenizer, *texts: str) -> set[int]:
    return {number for text in texts for number in tokenizer.encode_plain(text)[0]}


def tokens_of(tokenizer: Tokenizer, text: str) -> list[str]:
    return tokenizer.tokens(tokenizer.encode_plain(text)[0])


def trimmed_to(tokenizer: Tokenizer, ids: set[int]) -> Trimmed:
    """With these tokens and what every vocabulary needs, but no more characters than that."""
    trimmable = TrimmableTokenizer(tokenizer)
    return trimmable.trimmed(trimmable.with_needed(ids | trimmable.pinned))


@EVERY_KIND
@given(st.data())
def test_texts_of_kept_tokens_are_cut_as_before(kind: str, data: st.DataObject) -> None:
    """Whatever else is kept: the merges that lead to a token are, and what is unknown stays so."""
    tokenizer = data.draw(KINDS[kind])
    texts = data.draw(st.lists(TEXTS, min_size=1, max_size=4))
    new = trimmed_to(tokenizer, ids_of(tokenizer, *texts)).tokenizer
    for text in [*texts, *data.draw(st.lists(TEXTS, max_size=6))]:
        before = tokens_of(tokenizer, text)
        if all(new.token_id(token) is not None for token in before):
            assert tokens_of(new, text) == before
            around = [one.tokens(one(text)["input_ids"][0].tolist()) for one in (tokenizer, new)]
            assert around[0] == around[1]


def test_the_merges_of_a_token_are_those_of_its_own_way() -> None:
    """Two ways lead to "abc"; by the other one "abcd" would be cut into a, b, cd."""
    merges = [("a", "b"), ("ab", "c"), ("c", "d"), ("b", "c"), ("a", "bc")]
    tokens = ["[UNK]", "a", "b", "c", "d", *("".join(pair) for pair in merges[:-1])]
    tokens = list(dict.fromkeys(tokens))
    backend = tokenizers.Tokenizer(tokenizers.models.BPE({one: i for i, one in enumerate(tokens)}, merges))
    tokenizer = Tokenizer(backend)
    assert tokens_of(tokenizer, "abcd") == ["abc", "d"]
    new = trimmed_to(tokenizer, ids_of(tokenizer, "abcd", "cd")).tokenizer
    assert tokens_of(new, "abcd") == ["abc", "d"]
    assert new.token_id("ab") is not None
    assert new.token_id("bc") is None


def test_merges_keep_their_order() -> None:
    merges = [("b", "c"), ("a", "b"), ("c", "d")]
    tokens = [*"dcba", *("".join(pair) for pair in merges)]
    tokenizer = Tokenizer(tokenizers.Tokenizer(tokenizers.models.BPE({one: i for i, one in enumerate(tokens)}, merges)))
    new = trimmed_to(tokenizer, ids_of(tokenizer, "abc", "ab", "cd", "abcd")).tokenizer
    for text, cut in (("abc", ["a", "bc"]), ("ab", ["ab"]), ("cd", ["cd"]), ("abcd", ["a", "bc", "d"])):
        assert tokens_of(tokenizer, text) == tokens_of(new, text) == cut


def test_what_is_unknown_scores_as_it_did() -> None:
    """10 below the least of all pieces, which stays though no text has it: else "bcd" behind an unknown letter wins."""
    scored = [("[UNK]", 0.0), ("ab", -8.0), ("c", -8.0), ("d", -8.0), ("bcd", -1.0), ("x", -2.0), ("zz", -20.0)]
    tokenizer = Tokenizer(tokenizers.Tokenizer(tokenizers.models.Unigram(scored, unk_id=0)))
    new = trimmed_to(tokenizer, ids_of(tokenizer, "abcd", "bcd")).tokenizer
    assert tokens_of(tokenizer, "abcd") == tokens_of(new, "abcd") == ["ab", "c", "d"]
    assert new.tokens(range(10))[:6] == ["[UNK]", "ab", "c", "d", "bcd", "zz"]


@EVERY_KIND
@given(st.data())
def test_ids_are_those_of_the_tokens_in_their_old_order(kind: str, data: st.DataObject) -> None:
    tokenizer = data.draw(KINDS[kind])
    trimmed = trimmed_to(tokenizer, ids_of(tokenizer, data.draw(TEXTS)))
    new, old_ids = trimmed.tokenizer, trimmed.old_ids
    assert old_ids == sorted(old_ids)
    assert new.tokens(range(new.vocabulary_size)) == tokenizer.tokens(old_ids)
    for role in ("pad_id", "cls_id", "sep_id", "unk_id"):
        assert old_ids[getattr(new, role)] == getattr(tokenizer, role)


@EVERY_KIND
@given(st.data())
def test_it_is_written_and_read(kind: str, data: st.DataObject) -> None:
    tokenizer = data.draw(KINDS[kind])
    texts = data.draw(st.lists(TEXTS, min_size=1, max_size=3))
    new = trimmed_to(tokenizer, ids_of(tokenizer, *texts)).tokenizer
    with tempfile.TemporaryDirectory() as folder:
        new.save(folder)
        read = Tokenizer.load(folder)
    for text in (*texts, "abcd <new> dcba [SEP]"):
        assert read.encode_plain(text) == new.encode_plain(text)


@EVERY_KIND
@given(st.data())
def test_with_all_single_characters_texts_are_spelled_as_ever(kind: str, data: st.DataObject) -> None:
    """No text has more that is unknown than it had, whatever tokens were left out."""
    tokenizer = data.draw(KINDS[kind])
    trimmable = TrimmableTokenizer(tokenizer)
    pinned, unknown = trimmable.with_needed(trimmable.pinned | trimmable.characters), tokenizer.unk_id
    new = trimmable.trimmed(pinned).tokenizer
    text = data.draw(TEXTS)
    if unknown not in ids_of(tokenizer, text):
        assert new.unk_id not in ids_of(new, text)


def test_of_a_vocabulary_of_bytes_no_byte_is_left_out(families: Mapping[str, Path]) -> None:
    new = trimmed_to(Tokenizer.load(families["roberta"], "roberta"), set()).tokenizer
    assert new.vocabulary_size == 256 + 5
    assert new.decode(new.encode_plain("naïve 日本\n")[0]) == "naïve 日本\n"


@pytest.mark.parametrize("family", ["bert", "roberta", "albert", "xlm-roberta"])
def test_trained_tokenizers(family: str, families: Mapping[str, Path]) -> None:
    """With the normalizers, marks of words and special tokens of the field."""
    tokenizer = Tokenizer.load(families[family], family)
    texts = [text for one in speeches()[12:14] for text in one.text.split(". ")][:60]
    new = trimmed_to(tokenizer, ids_of(tokenizer, *texts[:40])).tokenizer
    assert new.vocabulary_size < 0.9 * tokenizer.vocabulary_size
    same = 0
    for text in texts:
        before = tokens_of(tokenizer, text)
        if all(new.token_id(token) is not None for token in before):
            assert tokens_of(new, text) == before
            same += 1
    assert same >= 40


def test_what_cannot_be_trimmed_is_refused_in_a_line() -> None:
    with pytest.raises(InputError, match="reads bytes: its 257 tokens are all needed, and there is nothing to trim"):
        TrimmableTokenizer(byte_tokenizer())
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    with pytest.raises(InputError, match="of the kind 'WordLevel'; trimmed are WordPiece, BPE, Unigram"):
        TrimmableTokenizer(Tokenizer(words))
    ends = tokenizers.Tokenizer(tokenizers.models.BPE({"a": 0, "a</w>": 1}, [], end_of_word_suffix="</w>"))
    with pytest.raises(InputError, match="BPE with end_of_word_suffix '</w>'"):
        TrimmableTokenizer(Tokenizer(ends))
    twice = tokenizers.Tokenizer(tokenizers.models.Unigram([("a", -1.0), ("b", -1.0), ("a", -2.0)], unk_id=1))
    with pytest.raises(InputError, match="the piece 'a' twice"):
        TrimmableTokenizer(Tokenizer(twice))


def test_the_settings_name_tokens_by_their_new_ids(minilm: Path, tmp_path: Path) -> None:
    for name in ("tokenizer.json", "config.json"):
        (tmp_path / name).write_bytes((minilm / name).read_bytes())
    listed = {"101": {"content": "[CLS]", "special": True}, "30522": {"content": "<ours>", "special": False}}
    settings = {"tokenizer_class": "BertTokenizer", "added_tokens_decoder": listed, "extra_special_tokens": ["[MASK]"]}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    tokenizer = Tokenizer.load(tmp_path)
    new = trimmed_to(tokenizer, ids_of(tokenizer, "a text")).tokenizer
    assert new.tokens(range(new.vocabulary_size)) == [
        *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "text", "<ours>")
    ]
    (tmp_path / "new").mkdir()
    new.save(tmp_path / "new")
    written = json.loads((tmp_path / "new" / "tokenizer_config.json").read_text())
    assert {number: one["content"] for number, one in written["added_tokens_decoder"].items()} == {
        "2": "[CLS]",
        "7": "<ours>",
    }
    assert Tokenizer.load(tmp_path / "new").encode_plain("a<ours>text")[0] == [5, 7, 6]
