"""The special tokens around a text, also where a tokenizer drops the first text that is tried."""

import pytest
from tokenizers import Tokenizer as Backend
from tokenizers.models import BPE
from tokenizers.processors import TemplateProcessing

from gossamer.errors import InputError
from gossamer.text import Tokenizer
from gossamer.text.surroundings import special_tokens_around
from gossamer.training.data.packing import Frame, frame_of


def knowing(letters: str) -> Tokenizer:
    """A tokenizer of these letters, which drops all others, and puts [CLS] before a text and [SEP] behind it, twice."""
    numbers = {name: i for i, name in enumerate(("[CLS]", "[SEP]", *letters))}
    backend = Backend(BPE(numbers, []))
    backend.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP] [SEP]", pair="[CLS] $A $B", special_tokens=[("[CLS]", 0), ("[SEP]", 1)]
    )
    return Tokenizer(backend, {})


@pytest.mark.parametrize("letters", ["a", "eht", "1", "\u4e00"])
def test_some_text_shows_where_texts_go(letters: str) -> None:
    assert special_tokens_around(knowing(letters)) == ([0], [1, 1])
    assert frame_of(knowing(letters)) == Frame(before=(0,), after=(1, 1))


def test_a_tokenizer_that_drops_all_of_them_is_refused() -> None:
    with pytest.raises(InputError, match="turns every text into special tokens only"):
        frame_of(knowing("z"))
