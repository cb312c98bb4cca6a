"""Perplexity and bits: against hand-made distributions, an arithmetic coder's size, and what is refused."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossamer import InputError
from gossamer.metrics import bits_per_byte, bits_per_token, perplexity


@given(choices=st.integers(1, 10**6))
def test_a_uniform_guess_has_as_much_perplexity_as_choices(choices: int) -> None:
    loss = math.log(choices)
    assert perplexity(loss) == pytest.approx(choices)
    assert bits_per_token(loss) == pytest.approx(math.log2(choices))


def test_guessing_bytes_takes_eight_bits_a_byte_whatever_the_tokens_are() -> None:
    text = "Schnüre, weit auseinander".encode()
    assert bits_per_byte(len(text) * math.log(256), len(text)) == pytest.approx(8)
    pairs = math.ceil(len(text) / 2)
    assert bits_per_byte(pairs * math.log(256**2), len(text)) == pytest.approx(16 * pairs / len(text))


@given(nats=st.floats(0, 1e6), count=st.integers(1, 10**9))
def test_bits_a_byte_are_the_size_of_the_packed_text(nats: float, count: int) -> None:
    packed_bits = nats / math.log(2)
    assert bits_per_byte(nats, count) * count == pytest.approx(packed_bits)


def test_the_extremes() -> None:
    assert (perplexity(0), bits_per_token(0), bits_per_byte(0.0, 5)) == (1.0, 0.0, 0.0)
    assert perplexity(1e4) == math.inf
    assert bits_per_byte(math.inf, 1) == math.inf


@pytest.mark.parametrize("loss", [-0.1, math.nan, "2", None, True])
def test_what_is_no_cross_entropy_is_refused(loss: Any) -> None:
    for call in (perplexity, bits_per_token):
        with pytest.raises(InputError, match="it must be a cross-entropy in nats, 0 or more"):
            call(loss)
    with pytest.raises(InputError, match=r"nats is .*; it must be a cross-entropy"):
        bits_per_byte(loss, 1)


@pytest.mark.parametrize("count", [0, -3, 1.5, True])
def test_no_bytes_are_refused(count: Any) -> None:
    with pytest.raises(InputError, match=r"count is .*; it must be the number of bytes of the text, at least 1"):
        bits_per_byte(1.0, count)
