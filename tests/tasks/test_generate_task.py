"""The task generate: texts of any length, continued."""

from typing import Any

import pytest
import torch

import gossamer as gs
from gossamer.errors import InputError
from gossamer.models import Architecture, Attention, CausalLM, Embeddings, FeedForward, Layer, Model, Norm, Positions
from gossamer.patterns import Window
from gossamer.tasks import TASKS
from gossamer.tasks.generate import Generate
from gossamer.text import byte_tokenizer


def small_decoder(tokenizer: Any = None, head: Any = None) -> Model:
    layer = Layer(
        attention=Attention(pattern=Window(7, 0), heads=2, head_size=4, weights=0),
        feed_forward=FeedForward(width=16, weights=0),
        norm_place="pre",
    )
    architecture = Architecture(
        hidden_size=8,
        embeddings=Embeddings(
            vocabulary_size=257, size=8, positions=Positions(length=32), token_types=0, padding_id=None
        ),
        layers=(layer,),
        head=head or CausalLM(),
        final_norm=Norm(eps=1e-5),
    )
    torch.manual_seed(0)
    return Model(architecture, tokenizer=tokenizer).eval()


def test_it_gives_what_generate_gives() -> None:
    model = small_decoder(byte_tokenizer())
    continued = gs.task("generate", model)
    assert isinstance(continued, TASKS["generate"])
    found = continued(["a cat", "dogs"], max_new_tokens=12, temperature=0.8, top_k=20, top_p=0.9, stop="e", seed=3)
    expected = gs.generate(
        model, ["a cat", "dogs"], max_new_tokens=12, temperature=0.8, top_k=20, top_p=0.9, stop="e", seed=3
    )
    assert (found.texts, found.ids, found.seeds) == (expected.texts, expected.ids, [3, 4])
    assert found.tokens == [5, 4]
    assert found.notes == []
    assert continued("a cat", max_new_tokens=2).to_dict()["tokens"] == [5]


def test_progress_counts_tokens() -> None:
    told: list[tuple[int, int]] = []
    found = gs.task("generate", small_decoder(byte_tokenizer()))(
        ["a", "b"], max_new_tokens=4, seed=0, progress=lambda done, total: told.append((done, total))
    )
    assert told[-1] == (sum(map(len, found.ids)), 8)
    assert sorted(told) == told


def test_long_texts_are_refused_or_cut_at_their_beginning() -> None:
    continued = gs.task("generate", small_decoder(byte_tokenizer()))
    text = "abcdefghij" * 5
    with pytest.raises(
        InputError, match=r"^text 1 is 50 tokens long, the model reads 32: shorten it, or give long='tru"
    ):
        continued(["a", text])
    found = continued(["a", text], max_new_tokens=8, seed=0, long="truncate")
    assert found.notes == [
        "text 1 is 50 tokens long, the model reads 32: its last 25 are continued, which leaves room for 8 new ones"
    ]
    assert found.tokens == [1, 25]
    assert found.stopped == ["max_new_tokens"] * 2
    assert found.ids[1] == continued(text[-25:], max_new_tokens=8, seed=1).ids[0]
    many = continued(text, max_new_tokens=100, seed=0, long="truncate", stop=None)
    assert many.notes == [
        "text 0 is 50 tokens long, the model reads 32: its last 16 are continued, which leaves room for 17 new ones",
        "text 0 of 16 tokens: stopped after 17 new ones, because the model reads 32",
    ]
    with pytest.raises(InputError, match=r"^long is 'chunk'; it must be one of error, truncate$"):
        continued("a", long="chunk")  # type: ignore[arg-type]


@pytest.mark.parametrize(("length", "kept"), [(24, 24), (25, 25), (26, 25), (31, 25), (32, 25), (33, 25)])
def test_a_text_that_leaves_no_room_is_cut(length: int, kept: int) -> None:
    continued = gs.task("generate", small_decoder(byte_tokenizer()))
    text = ("abcdefghij" * 4)[:length]
    found = continued(text, max_new_tokens=8, temperature=0, long="truncate")
    assert (found.tokens, len(found.ids[0]), len(found.notes)) == ([kept], 8, int(length > kept))
    if length <= 32:
        assert continued(text, max_new_tokens=8, temperature=0).tokens == [length]


@pytest.mark.parametrize("count", ["8", 0, 2.5, True])
def test_a_number_of_new_tokens_that_is_none(count: Any) -> None:
    continued = gs.task("generate", small_decoder(byte_tokenizer()))
    for long in ("error", "truncate"):
        with pytest.raises(InputError, match=rf"^max_new_tokens is {count!r}; it must be a whole number, 1 or more$"):
            continued("a" * 40, max_new_tokens=count, long=long, progress=lambda *_: None)


def test_what_it_cannot_do() -> None:
    with pytest.raises(
        InputError, match=r"^the model has no tokenizer: put tokenizer.json into its directory to continue"
    ):
        Generate(small_decoder())
    with pytest.raises(InputError, match=r"^text 0 is empty \(''\): there is nothing to continue"):
        gs.task("generate", small_decoder(byte_tokenizer()))([""])
    from gossamer.models import MaskedLM

    with pytest.raises(
        InputError, match=r"^the model's head is 'masked-lm', so it cannot continue texts: take a model wi"
    ):
        gs.task("generate", small_decoder(byte_tokenizer(), MaskedLM()))
