"""`gs.trim`: what stays, what the receipt shows, and what is refused in a line."""

import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from trim_models import of_words, texts, tiny

import gossamer as gs
from gossamer.errors import InputError
from gossamer.layers import LowRank
from gossamer.models import Model, SentenceEmbedding
from gossamer.recipes.vocabulary.tables import vocabulary_axes
from gossamer.surgery.storages import store
from gossamer.text import InputStream, byte_tokenizer


@pytest.fixture(scope="module")
def sample(minilm: Path) -> Model:
    return gs.load(minilm)


SURE = 5 + 2 * 26
"""Tokens of a vocabulary of words that stay: special ones and letters."""


def test_the_sample_model_by_a_text(sample: Model) -> None:
    """Same tokens, rows to the bit, vectors to 1e-6; the given model is as it was."""
    text = "The state of the union is strong, and naïve 日本 too."
    new, receipt = gs.trim(sample, [text, "Another one."])
    assert receipt.before["vocabulary"] == sample.tokenizer.vocabulary_size == 30522
    assert receipt.after["vocabulary"] == new.tokenizer.vocabulary_size == len(new.embeddings.word.weight) < 2100
    before, after = sample.tokenizer(text), new.tokenizer(text)
    names = sample.tokenizer.tokens(before["input_ids"][0].tolist())
    assert names == new.tokenizer.tokens(after["input_ids"][0].tolist())
    rows = [model.embeddings.word.weight[batch["input_ids"]] for model, batch in ((sample, before), (new, after))]
    assert torch.equal(*rows)
    torch.testing.assert_close(new(**after).pooled, sample(**before).pooled, rtol=0, atol=1e-6)
    measured = receipt.measured
    assert [measured[name] for name in ("tokens_kept", "same_tokens", "same_rows")] == [1, 1, 1]
    assert measured["largest_difference_of_outputs"] <= 1e-6
    assert "vocabulary (WordPiece): 30,522 tokens became" in str(receipt)


def test_how_often_a_token_must_be_seen() -> None:
    model = of_words("speech", "union", "of", "states")
    said = ["speech speech speech union", "union of states"]
    kept = {n: gs.trim(model, said, at_least=n)[0].tokenizer for n in (1, 2, 3, 4)}
    for n, names in ((1, {"speech", "union", "of", "states"}), (2, {"speech", "union"}), (3, {"speech"}), (4, set())):
        words = {name for name in ("speech", "union", "of", "states") if kept[n].token_id(name) is not None}
        assert words == names
    measured = gs.trim(model, said, at_least=3)[1].measured
    assert measured["tokens_kept"] == 3 / 7


def test_the_most_frequent_so_many() -> None:
    model = of_words("speech", "union", "of", "states")
    said = ["speech speech speech union union of"]
    few, _ = gs.trim(model, said, size=SURE + 2)
    assert few.tokenizer.vocabulary_size == SURE + 2
    assert [few.tokenizer.token_id(name) is None for name in ("speech", "union", "of")] == [False, False, True]
    with pytest.raises(InputError, match=r"size is 50; special tokens, single characters \(52\) and what keep"):
        gs.trim(model, said, size=50)
    fewer, _ = gs.trim(model, said, size=40, characters="seen")
    letters = 2 * len(set("speechunionof"))
    assert fewer.tokenizer.vocabulary_size == 5 + letters + len(["speech", "union", "of"])


def test_tokens_that_are_named_stay() -> None:
    model = of_words("president", "##ing", "is", "are")
    number = model.tokenizer.token_id("is")
    new, receipt = gs.trim(model, ["a text"], keep=["president", "##ing", number])
    assert new.tokenizer.vocabulary_size == SURE + 3
    assert all(new.tokenizer.token_id(name) is not None for name in ("president", "##ing", "is"))
    assert receipt.settings == {"keep": ["president", "##ing", number]}
    for wrong in ("presidentially", SURE + 4, -1, True, 1.5):
        with pytest.raises(InputError, match="which is no token of the vocabulary"):
            gs.trim(model, ["a text"], keep=[wrong])
    with pytest.raises(InputError, match="keep is 'president'; it must be a list"):
        gs.trim(model, ["a text"], keep="president")


def test_what_other_texts_become_is_counted() -> None:
    model = of_words("speech", "un", "##fathom", "##able")
    other = ["speech unfathomable", "x Ж speech"]
    receipt = gs.trim(model, ["speech"], evaluate=other)[1]
    measured = receipt.measured
    assert "evaluate tokens after 16" in str(receipt)
    before = ["speech", "un", "##fathom", "##able", "x", "[UNK]", "speech"]
    assert measured["evaluate_tokens_before"] == len(before)
    assert measured["evaluate_tokens_after"] == len(["speech", *"unfathomable", "x", "[UNK]", "speech"])
    assert measured["evaluate_unknown_before"] == measured["evaluate_unknown_after"] == 1
    assert measured["evaluate_tokens_kept"] == 4 / 7
    seen = gs.trim(model, ["speech"], evaluate=other, characters="seen")[1].measured
    assert (seen["evaluate_unknown_before"], seen["evaluate_unknown_after"]) == (1, 3)


def test_tables_are_filled_up_with_further_tokens() -> None:
    model = of_words("speech", *(f"a{letter}" for letter in "bcdefghijklmn"))
    for rows in (8, 60):
        new, _ = gs.trim(model, ["speech"], multiple_of=rows)
        assert len(new.embeddings.word.weight) == new.tokenizer.vocabulary_size
        assert new.tokenizer.vocabulary_size % rows == 0
    with pytest.raises(InputError, match="multiple_of is 100; the 58 rows that stay can't be filled up to 100"):
        gs.trim(model, ["speech"], multiple_of=100)


def test_files_streams_and_texts_are_the_same(tmp_path: Path) -> None:
    model = of_words("the", "first", "text", "another", "one", "and", "third", "fourth")
    (tmp_path / "one.txt").write_text("the first text, é")
    (tmp_path / "two.jsonl").write_text('{"body": "another one"}\n{"body": "and a third"}\n')
    files = [tmp_path / "one.txt", tmp_path / "two.jsonl"]
    new, receipt = gs.trim(model, files, field="body")
    again, other = gs.trim(model, ["the first text, é", "another one", "and a third"])
    assert new.tokenizer._backend.to_str() == again.tokenizer._backend.to_str()
    assert receipt.conditions["texts"] == other.conditions["texts"] == "3 documents, 40 bytes, 10 tokens"
    stream = InputStream("stream", io.BytesIO("the first text, é another one and a third".encode()))
    assert gs.trim(model, stream)[0].tokenizer._backend.to_str() == new.tokenizer._backend.to_str()


def test_prompts_stay_whole() -> None:
    model = of_words("query", "passage", "text", "other")
    head = SentenceEmbedding(prompts={"query": "query other ", "passage": "passage"})
    model = Model(dataclasses.replace(model.architecture, head=head), tokenizer=model.tokenizer)
    new, _ = gs.trim(model, ["a text"])
    assert new.tokenizer.vocabulary_size == SURE + 4


def test_maps_that_are_stored_in_another_way() -> None:
    """The rows of a table's low-rank addition go with its own."""
    model = store(tiny("gpt2", "causal-lm", tied=False), ["head.decoder"], LowRank(rank=2))
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.1)
    new, receipt = gs.trim(model, texts()[:4])
    assert new.architecture.storages == model.architecture.storages
    assert len(vocabulary_axes(model.architecture)) == 3
    assert receipt.measured["largest_difference_of_outputs"] <= 1e-6


@pytest.mark.parametrize("family", ["bert", "roberta", "albert", "llama"])
def test_trimmed_twice_is_trimmed_once(family: str) -> None:
    model = tiny(family, "causal-lm" if family == "llama" else "masked-lm")
    once, _ = gs.trim(model, texts())
    twice, receipt = gs.trim(once, texts())
    assert once.tokenizer._backend.to_str() == twice.tokenizer._backend.to_str()
    assert all(torch.equal(once.state_dict()[name], tensor) for name, tensor in twice.state_dict().items())
    assert receipt.before == receipt.after


def test_the_given_model_is_left_as_it_was() -> None:
    model = tiny("bert", "masked-lm").train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    new, _ = gs.trim(model, texts()[:5])
    assert model.training
    assert new.training
    with torch.no_grad():
        for weight in new.parameters():
            weight.zero_()
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_a_fault_of_rows_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The receipt measures; it does not take the recipe's word."""
    from gossamer.recipes.vocabulary import trim as recipe

    def wrong(*given: object) -> Model:
        new = with_rows(*given)
        with torch.no_grad():
            new.embeddings.word.weight[10:] += torch.linspace(0, 1, 16)
        return new

    with_rows = recipe.with_rows
    monkeypatch.setattr(recipe, "with_rows", wrong)
    measured = gs.trim(tiny("bert"), texts())[1].measured
    assert measured["same_rows"] < 1
    assert measured["largest_difference_of_outputs"] > 1e-3


def test_every_table_of_a_vocabulary_is_known() -> None:
    tied = vocabulary_axes(tiny("bert", "masked-lm").architecture)
    assert tied == {"embeddings.word.weight": 0, "head.bias": 0}
    own = vocabulary_axes(tiny("bert", "masked-lm", tied=False).architecture)
    assert own == {**tied, "head.decoder.weight": 0}


def test_what_cannot_be_is_refused_in_a_line(tmp_path: Path) -> None:
    model, file = tiny("bert"), tmp_path / "a.txt"
    file.write_text("text")
    for given, message in (
        ([], r"texts is \[\]; give a file, several, or a list of texts"),
        (7, "texts is 7; give a file, several, or a list of texts"),
        (["a", 7], "texts holds 7; every text must be a string"),
        ([str(file)], "which names a file, among texts; give pathlib.Path"),
        (["speeches"], "which names a file, among texts; give pathlib.Path"),
        (["", "  "], "texts: there are no tokens in 2 documents"),
        (tmp_path / "none.txt", "no such file"),
    ):
        with pytest.raises(InputError, match=message):
            gs.trim(model, given)
    for options, message in (
        ({"at_least": 0}, "at_least is 0; it must be a whole number of times that a token is seen, 1 or more"),
        ({"size": 0}, "size is 0; it must be a whole number of tokens, 1 or more, or None"),
        ({"multiple_of": 0}, "multiple_of is 0; it must be a whole number of rows"),
        ({"characters": "none"}, "characters is 'none'; it must be 'all' or 'seen'"),
        ({"evaluate": [""]}, "evaluate: there are no tokens in 1 document"),
    ):
        with pytest.raises(InputError, match=message):
            gs.trim(model, ["a text"], **options)
    with pytest.raises(InputError, match="the model has no tokenizer"):
        gs.trim(Model(model.architecture), ["a text"])
    short = Model(model.architecture, tokenizer=byte_tokenizer())
    with pytest.raises(InputError, match="nothing to trim"):
        gs.trim(short, ["a text"])
    few = tiny("bert", vocab_size=600, pad_token_id=0)
    with pytest.raises(InputError, match=r"the tokenizer has ids up to .*, the model's word table 600 rows"):
        gs.trim(few, ["a text"])


def test_numbers_of_numpy_name_tokens() -> None:
    model = of_words("speech", "union", "of", "states")
    ids = [model.tokenizer.token_id(one) for one in ("union", "states")]
    wanted, _ = gs.trim(model, ["speech"], keep=ids)
    new, receipt = gs.trim(model, ["speech"], keep=np.array(ids), at_least=np.int64(1), multiple_of=np.int32(1))  # type: ignore[arg-type]
    assert new.tokenizer.vocabulary_size == wanted.tokenizer.vocabulary_size
    assert json.loads(json.dumps(receipt.to_dict()))["settings"] == {"keep": ids}


def test_a_hole_among_texts_is_told() -> None:
    with pytest.raises(
        InputError, match=r"^texts holds None; every text must be a string, every file a pathlib\.Path$"
    ):
        gs.trim(of_words("speech"), ["speech", None])  # type: ignore[list-item]
