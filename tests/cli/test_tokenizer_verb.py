"""gossamer tokenizer: training and showing, as pages and as JSON, and what wrong command lines are told."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers

from gossamer.text import Tokenizer, speeches

Command = Callable[..., Any]
FILES = {"tokenizer.json", "tokenizer_config.json"}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.jsonl"
    path.write_text("".join(json.dumps({"text": speech.text}) + "\n" for speech in speeches()[:2]))
    return path


def test_train_saves_what_transformers_reads(gossamer: Command, corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "one"
    done = gossamer("tokenizer", "train", "--family", "roberta", "--size", 600, "--file", corpus, "--out", out)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("600 tokens from 2 texts, ")
    assert f"saved in {out}" in done.out
    assert {path.name for path in out.iterdir()} == FILES
    (out / "config.json").write_text('{"model_type": "roberta"}')
    text = "The Union, (naïve) 日本"
    theirs = transformers.AutoTokenizer.from_pretrained(out)
    assert theirs(text)["input_ids"] == Tokenizer.load(out)(text)["input_ids"][0].tolist()


def test_train_again_replaces_a_tokenizer_and_says_all_in_json(gossamer: Command, corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = tmp_path / "words.txt"
    words.write_text("one word and another word\n" * 3)
    options = ("tokenizer", "train", "--file", corpus, words, "--out", out, "--json")
    first = gossamer(*options, "--kind", "wordpiece", "--size", 500, "--keep-case", "--max-length", 64).json
    assert (first["class"], first["vocabulary_size"], first["texts"], first["out"]) == (
        "BertTokenizer",
        500,
        3,
        str(out),
    )
    assert 1.5 < first["characters_per_token"] < 6
    assert Tokenizer.load(out).max_length == 64
    assert Tokenizer.load(out)("The")["input_ids"].tolist() != Tokenizer.load(out)("the")["input_ids"].tolist()
    second = gossamer(*options, "--kind", "unigram", "--size", 700)
    assert second.json["class"] == "AlbertTokenizer"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_few_texts_give_fewer_tokens_and_a_note(gossamer: Command, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("one word and another word\n" * 3)
    done = gossamer("tokenizer", "train", "--kind", "bpe", "--file", tmp_path / "words.txt", "--out", tmp_path / "out")
    assert done.code == 0
    assert "tokens, not 30,000; more text gives more" in done.error


def test_show(gossamer: Command, minilm: Path) -> None:
    page = gossamer("tokenizer", "show", minilm, "Naïve 日本")
    assert (page.code, page.err) == (0, "")
    assert page.out.startswith("5 tokens, 8 characters")
    for line in ("[CLS]", "naive   15743   0:5    'Naïve'"):
        assert line in page.out
    (first, second) = gossamer("tokenizer", "show", minilm, "Naïve", "", "--json").json["texts"]
    assert first["tokens"][:2] == [
        {"token": "[CLS]", "id": 101, "span": None},
        {"token": "naive", "id": 15743, "span": [0, 5]},
    ]
    assert [one["token"] for one in second["tokens"]] == ["[CLS]", "[SEP]"]


def test_a_full_disk_or_an_interrupt_leaves_the_old_one(
    gossamer: Command, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    options = ("tokenizer", "train", "--kind", "bpe", "--size", 400, "--file", corpus, "--out", out)
    assert gossamer(*options).code == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    for problem, code in ((OSError(28, "No space left on device"), 2), (KeyboardInterrupt(), 130)):

        def fail(self: Tokenizer, directory: Path, problem: BaseException = problem) -> None:
            (Path(directory) / "tokenizer.json").write_text("{")
            raise problem

        monkeypatch.setattr(Tokenizer, "save", fail)
        done = gossamer(*options)
        assert (done.code, len(done.err.splitlines())) == (code, 1)
        assert {path.name: path.read_bytes() for path in out.iterdir()} == before
        assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ([], "give --kind (wordpiece, bpe or unigram) or --family, such as bert"),
        (["--kind", "char"], "'char' is not one of 'wordpiece', 'bpe', 'unigram'"),
        (["--family", "mamba"], "family is 'mamba'; it must be one of bert"),
        (["--kind", "bpe", "--family", "bert"], "kind is 'bpe', but 'bert' reads wordpiece"),
        (["--kind", "bpe", "--size", "9"], "but the characters of these texts and the special tokens are 261"),
        (["--kind", "bpe", "--size", "many"], "--size is 'many'; it must be a whole number such as 30000"),
        (["--kind", "bpe", "--field", "body"], "the field 'body' is missing"),
    ],
)
def test_wrong_options(gossamer: Command, corpus: Path, tmp_path: Path, options: list[str], match: str) -> None:
    done = gossamer("tokenizer", "train", "--file", corpus, "--out", tmp_path / "out", *options, "--json")
    assert done.code == 2
    assert match in done.error
    assert match in done.json["error"]["message"]
    assert not (tmp_path / "out").exists()


def test_wrong_places(gossamer: Command, corpus: Path, minilm: Path, tmp_path: Path) -> None:
    train = ("tokenizer", "train", "--kind", "bpe", "--size", 400, "--file", corpus, "--out")
    assert "as well; name a new or empty directory" in gossamer(*train, tmp_path).error
    assert "is a file; name a directory" in gossamer(*train, corpus).error
    assert "is there" not in gossamer("tokenizer", "train", "--file", tmp_path / "no.txt", "--kind", "bpe").error
    assert "no such directory" in gossamer("tokenizer", "show", tmp_path / "nowhere", "x").error
    assert "tokenizer.json is missing" in gossamer("tokenizer", "show", tmp_path, "x").error
    assert gossamer("tokenizer", "fly").code == 2
    assert gossamer("tokenizer").out.startswith("Usage: gossamer tokenizer VERB")
    assert corpus.exists()


def test_help_names_the_families(gossamer: Command) -> None:
    assert "xlm-roberta, camembert (unigram)" in " ".join(gossamer("tokenizer", "train", "--help").out.split())
    assert "  train        Train a new one from texts.\n" in gossamer("tokenizer", "--help").out
