"""TextStream: new tokens as text while they come, whatever bytes they are."""

from collections.abc import Sequence
from typing import Any

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders as decoders_of_tokens
from tokenizers import models as token_models

from gossamer.generation.stream import TextStream
from gossamer.text import Tokenizer, byte_tokenizer

BYTES = byte_tokenizer()
END = 256


class Letters:
    """A tokenizer without anything else: one token a byte, special ones in angle brackets, -1 unknown."""

    def tokens(self, ids: Sequence[int]) -> list[str]:
        return BYTES.tokens(ids) if all(one < 257 for one in ids) else ["" for _ in ids]

    def decode(self, ids: Sequence[int]) -> str:
        return BYTES.decode(ids)


class Counting(Letters):
    """Notes how many tokens were decoded at once."""

    def __init__(self, decoded: list[int]) -> None:
        self.decoded = decoded

    def decode(self, ids: Sequence[int]) -> str:
        self.decoded.append(len(ids))
        return super().decode(ids)


@given(st.text(max_size=30), st.text(max_size=8), st.lists(st.text("ab\n日", min_size=1, max_size=3), max_size=3))
@settings(max_examples=200)
def test_streams_join_to_the_text_before_the_first_stop(text: str, prompt: str, stops: list[str]) -> None:
    stream = TextStream(BYTES, list(prompt.encode()), stops)
    pieces = []
    for byte in text.encode():
        pieces.append(stream.push(byte))
        if stream.stop is not None:
            break
    pieces.append(stream.finish())
    # Of several, the one that is complete first; of those the one that begins first.
    ends = [(text.find(one) + len(one), text.find(one), one) for one in stops if one in text]
    expected = text if not ends else text[: min(ends)[1]]
    assert "".join(pieces) == stream.text == expected
    assert stream.stop == (min(ends)[2] if ends else None)


def test_bytes_that_are_no_text_come_all_along() -> None:
    decoded: list[int] = []
    tokenizer = Counting(decoded)
    stream = TextStream(tokenizer, [97])
    pieces = [stream.push(0x80) for _ in range(4_000)]
    assert pieces[:3] == ["", "", ""]
    assert set(pieces[3:]) == {"\ufffd"}
    assert stream.finish() == "\ufffd" * 3
    assert max(decoded) <= 6


@given(
    st.lists(
        st.sampled_from(
            [b"a", b"\x80", b"\xf0", b"\xe2\x82", "é".encode(), "日".encode(), "👍".encode(), b"\xef\xbf\xbd"]
        ),
        max_size=30,
    ),
    st.lists(st.sampled_from(["a", "\ufffd\ufffd", "日a"]), max_size=2),
)
@settings(max_examples=300)
def test_bytes_that_are_no_text_are_told_as_they_are_decoded_at_once(parts: list[bytes], stops: list[str]) -> None:
    said = b"".join(parts)
    text, pieces, stream = said.decode(errors="replace"), [], TextStream(BYTES, [97], stops)
    for byte in said:
        pieces.append(stream.push(byte))
        if stream.stop is not None:
            break
    pieces.append(stream.finish())
    ends = [(text.find(one) + len(one), text.find(one)) for one in stops if one in text]
    assert "".join(pieces) == (text[: min(ends)[1]] if ends else text)


def test_tokens_without_text_are_forgotten_but_not_what_stands_before_them() -> None:
    backend = tokenizers.Tokenizer(token_models.WordLevel({"\u2581hello": 0, "\u2581world": 1}))
    backend.decoder = decoders_of_tokens.Metaspace()
    backend.add_special_tokens([tokenizers.AddedToken("<end>", special=True)])
    stream = TextStream(Tokenizer(backend), [0])
    assert [stream.push(one) for one in (1, *[2] * 50, 1)] == [" world", *[""] * 50, " world"]
    assert len(stream._ids) < 9


@pytest.mark.parametrize(
    ("words", "decoder_kind", "expected"),
    [
        (["\u2581hello", "\u2581world", "s", "\u2581x"], decoders_of_tokens.Metaspace(), ["s", " world", "s", " x"]),
        (["hello", "world", "##s", "x"], decoders_of_tokens.WordPiece(), ["s", " world", "s", " x"]),
    ],
    ids=["metaspace", "wordpiece"],
)
def test_words_keep_the_space_between_prompt_and_text(words: list[str], decoder_kind: Any, expected: list[str]) -> None:
    backend = tokenizers.Tokenizer(token_models.WordLevel({word: i for i, word in enumerate(words)}))
    backend.decoder = decoder_kind
    stream = TextStream(Tokenizer(backend), [0])
    assert [stream.push(one) for one in (2, 1, 2, 3)] == expected


def test_tokens_without_text_and_unknown_ones_are_passed_over() -> None:
    stream = TextStream(Letters(), [300, 97])
    assert [stream.push(one) for one in (98, END, 300, 99)] == ["b", "", "", "c"]
    assert stream.finish() == ""
