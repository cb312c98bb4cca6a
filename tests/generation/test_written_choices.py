"""Only these texts: what is written, at borders of tokens too, and which choices are refused before any compute."""

from typing import Any

import pytest
import tokenizers
import torch
from generation_models import decoder
from tokenizers import decoders, pre_tokenizers
from tokenizers import models as kinds

import gossamer as gs
from gossamer.errors import InputError
from gossamer.families import get_family
from gossamer.generation import Beams, Rules
from gossamer.models import Model
from gossamer.patterns import Full
from gossamer.text import Tokenizer, byte_tokenizer

FULL = Full(causal=True)
COLOURS = ["red", "reddish", "blue"]


def model(**config: Any) -> Model:
    found = decoder([FULL], length=32, tokenizer=byte_tokenizer(), vocabulary=257)
    found.generation_config = config
    return found


def two_texts(**config: Any) -> Model:
    torch.manual_seed(0)
    sizes = {"d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 1, "num_heads": 2, "vocab_size": 257}
    described = get_family("t5").read({**sizes, "eos_token_id": 256}, head="seq2seq-lm")
    found = Model(described, tokenizer=byte_tokenizer()).eval()
    found.generation_config = {"eos_token_id": 256, **config}
    return found


@pytest.mark.parametrize("make", [model, two_texts])
def test_each_text_is_one_of_them_and_ends(make: Any) -> None:
    one = make()
    prompts = ["sky", "a", "grass is"]
    for options in ({"seed": 0}, {"temperature": 0}, {"beams": 2}, {"temperature": 2.0, "seed": 5, "batch_size": 2}):
        found = gs.generate(one, prompts, choices=COLOURS, **options)
        assert set(found.texts) <= set(COLOURS)
        assert found.stopped == ["stop"] * len(prompts)
        assert all(ids[-1] == 256 for ids in found.ids)
    every = gs.generate(one, prompts, choices=COLOURS, beams=Beams(num_beams=5, num_return_sequences=5))
    assert [sorted(every.texts[3 * i : 3 * i + 3]) for i in range(3)] == [sorted(COLOURS)] * 3
    assert every.notes == [f"prompt {i}: 3 texts of 5, no more may be written" for i in range(3)]
    pieces = gs.generate(one, "a", choices=["reddish"], stream=True)
    assert "".join(piece.text for piece in pieces) == "reddish"
    assert gs.generate(one, "a", choices=[[98, 99]]).texts == ["bc"]


def test_a_choice_has_the_tokens_that_the_joined_text_has() -> None:
    """Behind "d" there is no space before it; of "a" and "bc" the two are one token: the choice has its own there."""
    ids = {one: i for i, one in enumerate(["_", "a", "b", "c", "d", "bc", "abc", "</s>"])}
    backend = tokenizers.Tokenizer(kinds.BPE(ids, [("b", "c"), ("a", "bc")]))
    backend.pre_tokenizer = pre_tokenizers.Metaspace("_", "first")
    backend.decoder = decoders.Metaspace("_", "first")
    one = decoder([FULL], length=16, tokenizer=Tokenizer(backend), vocabulary=8)
    found = gs.generate(one, ["d", "a"], choices=["bc"])
    assert found.ids == [[5, 7], [0, 5, 7]]
    assert found.texts == ["bc", " bc"]
    assert gs.generate(one, [[4]], choices=["bc"]).ids == [[0, 5, 7]]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"choices": []}, "choices is empty: give at least one text"),
        ({"choices": "red"}, "choices is 'red'; give a list of texts"),
        ({"choices": ["red", ""]}, "choices holds ''; give texts of one character or more"),
        ({"choices": [3]}, "choices holds 3; give texts"),
        ({"choices": [[]]}, r"choices holds \[\]; give texts"),
        ({"choices": ["red", "blue"], "max_new_tokens": 4}, "holds 'blue', 5 tokens with its end: at most 4 can be"),
        ({"choices": ["x" * 31]}, "32 tokens with its end: at most 31 can be written"),
        ({"choices": ["red"], "rules": {"suppress_tokens": 101}}, "its token 101 is suppressed; give rules that allow"),
        ({"choices": ["red"], "rules": {"begin_suppress_tokens": 114}}, "its token 114 is suppressed"),
        ({"choices": ["red"], "rules": {"min_new_tokens": 4}}, "min_new_tokens is 4; give rules with fewer"),
        (
            {"choices": ["red"], "max_new_tokens": 4, "rules": {"forced_eos_token_id": 9}},
            r"forced_eos_token_id is \(9,\), its last token 256",
        ),
        ({"choices": ["red"], "rules": {"bad_words_ids": [[9], [101, 100]]}}, r"\[101, 100\] are among bad_words_ids"),
        ({"choices": ["red"], "stop": "e"}, "choices holds 'red', in which the text would stop at 'e'"),
        ({"choices": ["red"], "stop": 101}, "the text would end at its token 101; leave that out"),
        ({"choices": [[300]]}, "token ids go from 0 to 256"),
        ({"choices": ["red"], "ignore_end": True}, "choices need a token that ends a text, and none is known"),
    ],
)
def test_what_could_not_be_written_is_refused_before_any_compute(options: dict[str, Any], said: str) -> None:
    one = model()
    one.forward = None  # type: ignore[assignment]
    with pytest.raises(InputError, match=said):
        gs.generate(one, "ab", **options)


def test_a_forced_beginning_of_a_second_text() -> None:
    one = two_texts()
    rules = Rules(forced_bos_token_id=114)
    assert gs.generate(one, "ab", choices=["red"], rules=rules).texts == ["red"]
    with pytest.raises(InputError, match="'blue', 5 tokens with its end: forced_bos_token_id is 114; give rules"):
        gs.generate(one, "ab", choices=["red", "blue"], rules=rules)
    # It is for the beginning, where what may not begin a text is looked for behind it.
    with pytest.raises(InputError, match="its token 101 is suppressed"):
        gs.generate(one, "ab", choices=["red"], rules=Rules(forced_bos_token_id=114, begin_suppress_tokens=(101,)))
