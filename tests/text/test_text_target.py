"""Second texts as labels: the ids of `transformers`, -100 where it pads, and a loss as of labels made by hand."""

from typing import Any

import pytest
import torch
import transformers
from torture import TORTURE

import gossamer as gs
from gossamer.errors import InputError, Remark
from gossamer.families import get_family
from gossamer.models import Model
from gossamer.text import Tokenizer

PAIRS = (TORTURE, TORTURE[::-1])


@pytest.fixture(scope="module")
def ours(minilm: Any) -> Tokenizer:
    return Tokenizer.load(minilm)


@pytest.mark.parametrize("options", [{}, {"max_length": 5}, {"max_length": 40, "padding": "max_length"}])
def test_labels_are_those_of_transformers_padded_with_what_counts_for_nothing(
    ours: Tokenizer, minilm: Any, options: dict[str, Any]
) -> None:
    oracle = transformers.AutoTokenizer.from_pretrained(minilm)
    texts, targets = PAIRS
    padding = options.get("padding", True)
    theirs = oracle(
        texts, text_target=targets, padding=padding, truncation=True, max_length=options.get("max_length", 512)
    )
    found = ours(texts, text_target=targets, **options)
    expected = torch.tensor(theirs["labels"])
    assert torch.equal(found["labels"].where(found["labels"] != -100, oracle.pad_token_id), expected)
    alone = [oracle(one, truncation=True, max_length=options.get("max_length", 512))["input_ids"] for one in targets]
    assert (found["labels"] != -100).sum(1).tolist() == list(map(len, alone))
    assert found["input_ids"].tolist() == theirs["input_ids"]
    assert "labels" not in ours(texts)


def test_a_model_reads_what_it_gives(ours: Tokenizer) -> None:
    torch.manual_seed(0)
    sizes = {"d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2, "vocab_size": ours.vocabulary_size}
    model = Model(get_family("t5").read(sizes, head="seq2seq-lm"), tokenizer=ours).eval()
    batch = model.tokenizer(["one two", "three"], text_target=["a", "b c d e"])
    loss = model(**batch).loss
    rows = [ours("one two", text_target="a"), ours("three", text_target="b c d e")]
    apart = [(model(**row).loss, int((row["labels"] != -100).sum())) for row in rows]
    expected = sum(one * count for one, count in apart) / sum(count for _, count in apart)
    assert torch.allclose(loss, expected, atol=1e-6)
    assert loss.isfinite()


def test_padding_stands_behind_whatever_the_side_of_the_texts(minilm: Any) -> None:
    loaded = gs.load("sample:minilm").tokenizer
    left = Tokenizer(loaded.backend(), {"padding_side": "left", "pad_token": "[PAD]"})
    batch = left(["a", "b c d"], text_target=["e", "f g h"])
    assert batch["input_ids"][0, 0] == left.pad_id
    assert batch["labels"][0, -1] == -100
    assert (batch["labels"][:, 0] != -100).all()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"text_target": ["a"]}, "2 texts but 1 in text_target; give one for each text"),
        ({"text_target": []}, "text_target is empty"),
        ({"text_target": [1, 2]}, r"text_target\[0\] is 1, a int"),
        ({"text_target": ["a", "b"], "stride": 2, "max_length": 9}, "stride is 2 beside text_target"),
        ({"text_target": ["a", "b c"], "padding": False}, "padding=False but text_target has rows of 4 tokens and sho"),
    ],
)
def test_what_cannot_be_is_refused(ours: Tokenizer, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        ours(["x", "y"], **options)


def test_a_second_text_that_is_cut_is_told(ours: Tokenizer) -> None:
    short = ours.with_max_length(4)
    with pytest.warns(Remark, match="text_target 1 of 6 tokens was cut to 4"):
        found = short(["a", "b"], text_target=["c", "d e f g"])
    assert found["labels"].shape == (2, 4)
