"""Cutting long texts: every part fits, nothing is lost, and sentences are whole wherever they can be."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.tasks.parts import cut_text
from gossamer.text.sentences import sentence_starts
from gossamer.text.speeches import speeches


def sentences(text: str) -> list[str]:
    starts = sentence_starts(text)
    return [text[start:end] for start, end in zip(starts, [*starts[1:], len(text)], strict=True)]


@pytest.mark.parametrize(
    "parts",
    [
        ["Hello there. ", "Dr. Smith went to D.C. with J. F. Kennedy. ", "He said “No!” ", "Then he left."],
        ["It costs 3.14 now. ", "Wait... what? ", "Yes, e.g. this one, cf. that."],
        ["A heading\n\n", "A paragraph of\ntwo lines.\n\n", "Another"],
        ["A list:\n", "- one\n", "- two\n", "3 three"],
        ["\u6771\u4eac\u3078\u884c\u304f\u3002", "\u6b21\u306f\u5927\u962a\uff01", "\u305d\u3046\u304b\uff1f"],
        ["and then... it went on. ", "So?"],
        ["one"],
        [""],
        ["No end . here and there ! or there"],
    ],
)
def test_sentences(parts: list[str]) -> None:
    assert sentences("".join(parts)) == parts


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="ab.!? \n\u3002\"'-A", max_size=60))
def test_sentences_are_the_text(text: str) -> None:
    parts = sentences(text)
    assert "".join(parts) == text
    assert all(part.strip() for part in parts[1:])
    assert all(not part[0].isspace() for part in parts[1:])


# How tokenizers give offsets: words alone, words with the space before them, letters.
TOKENS = {"words": r"\S+", "spaced": r"\s*\S+", "letters": r"\s*\S"}


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.text("abc", min_size=1, max_size=9), min_size=1, max_size=40),
    st.lists(st.sampled_from([" ", ". ", "! ", "\n\n", "  "]), min_size=40, max_size=40),
    st.sampled_from(sorted(TOKENS)),
    st.integers(1, 20),
    st.data(),
)
def test_parts_hold_all_of_a_text(
    words: list[str], between: list[str], kind: str, most: int, data: st.DataObject
) -> None:
    text = "".join(word.title() + space for word, space in zip(words, between, strict=False)).rstrip()
    offsets = [found.span() for found in re.finditer(TOKENS[kind], text)]
    stride = data.draw(st.integers(0, most - 1))
    parts = cut_text(text, offsets, most, stride)
    assert "".join(text[part.new : part.end] for part in parts) == text
    starts = set(sentence_starts(text))
    for part in parts:
        assert len(re.findall(TOKENS[kind], text[part.start : part.end])) <= most
        assert len(re.findall(TOKENS[kind], text[part.start : part.new])) <= stride
        assert part.start == part.new or part.start in starts
        assert part.start == 0 or not text[part.start].isspace()


def test_cuts_fall_between_sentences_where_they_fit_and_parts_are_alike() -> None:
    text = next(iter(speeches())).text
    offsets = [found.span() for found in re.finditer(r"\S+", text)]
    parts = cut_text(text, offsets, 300, 40)
    starts = set(sentence_starts(text))
    assert all(part.start in starts and part.new in starts for part in parts)
    assert sum(part.start < part.new for part in parts) >= 2  # other sentences are longer than the stride
    sizes = [len(text[part.new : part.end].split()) for part in parts]
    assert min(sizes) > 100


def test_a_sentence_that_is_too_long_is_cut_between_words_and_a_word_anywhere() -> None:
    text = "aaaa bbbb cccc dddd eeee"
    offsets = [(i, i + 1) for i, letter in enumerate(text) if letter != " "]
    assert [text[part.start : part.end] for part in cut_text(text, offsets, 9)] == ["aaaa bbbb ", "cccc ", "dddd eeee"]
    letters = cut_text("a" * 10, [(i, i + 1) for i in range(10)], 4)
    assert [(part.start, part.end) for part in letters] == [(0, 4), (4, 8), (8, 10)]
