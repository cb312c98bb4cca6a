"""Batches: a pure function of seed and step that reads every token once an epoch, and no document into another."""

import itertools
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
from hypothesis import given
from hypothesis import strategies as st

from gossamer.errors import InputError
from gossamer.models import Architecture, Attention, CausalLM, Embeddings, FeedForward, Layer, Positions, count_labels
from gossamer.patterns import Full
from gossamer.text import (
    Document,
    TokenFile,
    Tokenizer,
    byte_tokenizer,
    speeches,
    tokenize,
    train_tokenizer,
    write_token_file,
)
from gossamer.training.data.token_batches import Batches, open_tokens
from gossamer.training.objectives import Objective

END = 256
BYTES = byte_tokenizer()
MASKED = Objective(kind="masked-lm")


def made(*texts: str, tokenizer: Tokenizer = BYTES) -> TokenFile:
    return tokenize([Document(source="made", number=i, parts=[one]) for i, one in enumerate(texts)], tokenizer)


def letters(*sizes: int) -> TokenFile:
    """Document i is its own letter, so many times."""
    return made(*(chr(0x4E00 + i) * size if len(sizes) > 90 else chr(33 + i) * size for i, size in enumerate(sizes)))


def batches(file: TokenFile, **more: Any) -> Batches:
    return Batches(**{"file": file, "tokenizer": BYTES, "length": 16, "batch": 4, **more})


def steps(one: Batches, first: int, last: int) -> Iterator[dict[str, torch.Tensor]]:
    return (one.at(step) for step in range(first, last))


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


SIZES = (5, 40, 1, 1, 17, 64, 2, 33, 100, 9)


@pytest.mark.parametrize("pack", [True, False])
def test_a_step_is_the_same_in_any_order(pack: bool) -> None:
    first, second = (batches(letters(*SIZES), pack=pack, seed=7) for _ in range(2))
    forward = {step: first.at(step) for step in range(30)}
    for step in (29, 3, 3, 17, 0, 28):
        assert same(forward[step], second.at(step))
    assert not same(forward[0], batches(letters(*SIZES), pack=pack, seed=8).at(0))
    assert same(batches(letters(*SIZES), seed=2**63 - 1).at(10**9), batches(letters(*SIZES), seed=2**63 - 1).at(10**9))


def test_a_step_is_the_same_in_a_new_process(tmp_path: Path) -> None:
    tokenizer = byte_tokenizer(mask=True)
    texts = (Document(source="made", number=i, parts=["some words " * i]) for i in range(1, 40))
    write_token_file(tmp_path / "a.tokens", texts, tokenizer)
    call = (
        "Batches(file=TokenFile.open(path), tokenizer=byte_tokenizer(mask=True), length=32, batch=6, seed=5, "
        "objective=Objective(kind='masked-lm', masking='n-gram')).at(12)"
    )
    script = (
        "import sys\n"
        "from gossamer.text import TokenFile, byte_tokenizer\n"
        "from gossamer.training.data.token_batches import Batches\n"
        "from gossamer.training.objectives import Objective\n"
        f"path = sys.argv[1]\nprint({{name: one.tolist() for name, one in {call}.items()}})"
    )
    there = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "a.tokens"], capture_output=True, text=True, check=True
    )
    path = tmp_path / "a.tokens"
    here = eval(call, {**globals(), "path": path})
    assert there.stdout.strip() == str({name: one.tolist() for name, one in here.items()})


@given(
    sizes=st.lists(st.integers(1, 70), min_size=1, max_size=12),
    length=st.integers(2, 40),
    batch=st.integers(1, 5),
    seed=st.integers(0, 99),
)
def test_every_token_comes_once_an_epoch(sizes: list[int], length: int, batch: int, seed: int) -> None:
    file = letters(*sizes)
    total = file.tokens + 2 * file.documents
    if total < length * batch:
        with pytest.raises(InputError, match="give more text, a smaller batch or a shorter length"):
            batches(file, length=length, batch=batch)
        return
    one = batches(file, length=length, batch=batch, seed=seed)
    # After so many epochs the last row and the last batch end with the last document.
    epochs = length * batch // np.gcd(total, length * batch)
    count: Counter[int] = Counter()
    for step in range(int(epochs * total // (length * batch))):
        count.update(one.at(step)["input_ids"].flatten().tolist())
    expected = Counter({33 + i: size * epochs for i, size in enumerate(sizes)})
    expected[END] = 2 * file.documents * epochs
    assert count == expected


def test_each_epoch_by_itself_has_every_token_once() -> None:
    file = letters(30, 10, 14, 2)  # 64 tokens with the ends
    one = batches(file, batch=2)
    assert (one.steps_per_epoch, one.tokens_per_step, one.epoch(3)) == (2, 32, 1.5)
    orders = []
    for epoch in range(20):
        ids = [one.at(2 * epoch + step)["input_ids"] for step in range(2)]
        assert Counter(torch.cat(ids).flatten().tolist()) == {33: 30, 34: 10, 35: 14, 36: 2, END: 8}
        orders.append(torch.cat(ids).flatten().tolist())
    assert len({tuple(order) for order in orders}) == 20


def check_segments(batch: dict[str, torch.Tensor], causal: bool = True) -> int:
    """No segment holds two documents, no document two segments in a row, and labels stay within; how many there are."""
    labelled = 0
    for ids, labels, segments in zip(batch["input_ids"], batch["labels"], batch["segments"], strict=True):
        assert segments[0] == 0
        assert set(segments.diff().tolist()) <= {0, 1}
        for number in segments.unique().tolist():
            here = segments == number
            text = [one for one in ids[here].tolist() if one < END]
            assert len(set(text)) <= 1
            assert labels[here][0] == -100
            if causal:
                real = batch["attention_mask"][0][here] if "attention_mask" in batch else here[here]
                assert labels[here][1:][real[1:] > 0].tolist() == ids[here][1:][real[1:] > 0].tolist()
                labelled += int((labels[here] != -100).sum())
    return labelled


@given(sizes=st.lists(st.integers(1, 30), min_size=3, max_size=30), seed=st.integers(0, 9))
def test_labels_never_cross_documents(sizes: list[int], seed: int) -> None:
    if sum(sizes) + 2 * len(sizes) < 32:
        sizes = [*sizes, 32]
    one = batches(letters(*sizes), batch=2, seed=seed)
    for batch in steps(one, 0, 2 * one.steps_per_epoch):
        assert "attention_mask" not in batch
        assert {value.dtype for value in batch.values()} == {torch.int64}
        assert {tuple(value.shape) for value in batch.values()} == {(2, 16)}
        labelled = check_segments(batch)
        assert labelled == sum(int(row.max()) * -1 + 15 for row in batch["segments"])
        for ids in batch["input_ids"].tolist():
            changes = [i for i, (a, b) in enumerate(itertools.pairwise(ids)) if a < END and b < END and a != b]
            assert not changes  # two end tokens stand between any two documents


@pytest.mark.parametrize("pack", [True, False])
@pytest.mark.parametrize("objective", [Objective(), MASKED])
def test_processes_share_the_batch_of_one(pack: bool, objective: Objective) -> None:
    more: dict[str, Any] = {
        "pack": pack,
        "objective": objective,
        "tokenizer": byte_tokenizer(mask=True),
        "batch": 6,
        "held_out": 3,
    }
    file = letters(*SIZES, *SIZES)
    alone, shared = batches(file, **more), [batches(file, **more, rank=rank, world=3) for rank in range(3)]
    for step in (0, 5):
        for rank, one in enumerate(shared):
            rows = one.at(step)
            whole = {name: value[rank::3] for name, value in alone.at(step).items()}
            whole = {name: value for name, value in whole.items() if name in rows or not value.all()}
            assert same(rows, whole)
            assert set(one.ids(step)) <= set(alone.ids(step))
    together = list(alone.evaluation())
    for whole, *parts in zip(together, *(one.evaluation() for one in shared), strict=True):
        assert whole.pop("bytes") == sum(part.pop("bytes") for part in parts)
        assert len(whole["labels"]) <= sum(len(part["labels"]) for part in parts) < len(whole["labels"]) + 3
        labels = [one for part in parts for one in part["labels"].flatten().tolist() if one != -100]
        assert sorted(labels) == sorted(one for one in whole["labels"].flatten().tolist() if one != -100)


def test_one_document_to_a_row() -> None:
    file = letters(3, 14, 15, 40, 1)
    one = batches(file, pack=False, batch=1)
    rows = [one.at(step) for step in range(one.steps_per_epoch)]
    assert one.steps_per_epoch == 1 + 1 + 2 + 3 + 1
    predicted: Counter[int] = Counter()
    for row in rows:
        check_segments(row)
        if "attention_mask" in row:
            real = row["attention_mask"][0]
            assert set(real.diff().tolist()) <= {0, -1}
            assert row["segments"][0].tolist() == (1 - real).tolist()
            assert (row["labels"][0][real == 0] == -100).all()
            assert (row["input_ids"][0][real == 0] == BYTES.pad_id).all()
        else:
            assert not row["segments"].any()
        predicted.update(row["labels"].flatten().tolist())
    del predicted[-100]
    assert predicted == {33: 3, 34: 14, 35: 15, 36: 40, 37: 1, END: 5}
    again = [one.at(step) for step in range(one.steps_per_epoch, 2 * one.steps_per_epoch)]
    assert sorted(str(row) for row in again) == sorted(str(row) for row in rows)
    assert [str(row) for row in again] != [str(row) for row in rows]


@pytest.mark.parametrize("pack", [True, False])
def test_all_labels_count_in_a_decoder(pack: bool) -> None:
    """The labels hold what the model's loss is the mean of, no more: it ignores the first token of a segment itself."""
    layer = Layer(
        attention=Attention(pattern=Full(causal=True), heads=1, head_size=8, weights=0),
        feed_forward=FeedForward(width=8, weights=0),
    )
    embeddings = Embeddings(vocabulary_size=257, size=8, positions=Positions(length=16))
    architecture = Architecture(hidden_size=8, embeddings=embeddings, layers=(layer,), head=CausalLM())
    one = batches(letters(*SIZES), pack=pack, held_out=3)
    for batch in (*steps(one, 0, 5), *one.evaluation()):
        counted = count_labels(architecture, batch["labels"], batch["segments"])
        assert counted == (batch["labels"] != -100).sum()


def test_what_ends_a_document(minilm: Path) -> None:
    """GPT-2's own token, RoBERTa's; a tokenizer without one gets none around its documents."""
    texts = [speech.text[:3000] for speech in speeches()[:2]]
    for family, end in (("gpt2", "<|endoftext|>"), ("roberta", "</s>")):
        tokenizer = train_tokenizer(texts, family=family, vocabulary_size=400)
        file = made(*texts, tokenizer=tokenizer)
        assert file.end_id == tokenizer.token_id(end)
        ids = batches(file, tokenizer=tokenizer, length=file.tokens + 4, batch=1).at(0)["input_ids"][0].tolist()
        assert ids.count(file.end_id) == 4
    plain = Tokenizer(tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "b": 1}, unk_token="b")))
    one = batches(made("a", "b", "a", tokenizer=plain), tokenizer=plain, length=3, batch=1)
    assert sorted(one.at(0)["input_ids"][0].tolist()) == [0, 0, 1]
    assert one.at(0)["segments"].tolist() == [[0, 1, 2]]
    assert (one.at(0)["labels"] == -100).all()


@pytest.fixture(scope="module")
def words(minilm: Path) -> Tokenizer:
    return Tokenizer.load(minilm)


@pytest.mark.parametrize("pack", [True, False])
def test_masked_rows_stand_between_special_tokens(words: Tokenizer, pack: bool) -> None:
    texts = ["one two three " * n for n in (1, 9, 2, 30, 1, 1)]
    file = made(*texts, tokenizer=words)
    one = Batches(file=file, tokenizer=words, objective=MASKED, length=12, batch=1, pack=pack, seed=3)
    total = file.tokens + 2 * file.documents
    seen: Counter[int] = Counter()
    for step in range(one.steps_per_epoch * 10 if pack else one.steps_per_epoch):
        batch = one.at(step)
        ids = torch.where(batch["labels"] == -100, batch["input_ids"], batch["labels"])[0]
        segments = batch["segments"][0]
        for number in segments.unique().tolist():
            piece = ids[segments == number].tolist()
            if set(piece) == {words.pad_id}:
                assert batch["attention_mask"][0][segments == number].sum() == 0
                continue
            text = [token for token in piece if token not in (words.cls_id, words.sep_id)]
            stray = len(piece) == 1 and not text
            assert stray or (piece[0], piece[-1]) == (words.cls_id, words.sep_id)
            assert stray or piece[1:-1] == text
        seen.update(token for token in ids.tolist() if token not in (words.cls_id, words.sep_id, words.pad_id))
    epochs = 10 * one.steps_per_epoch * 10 / total if pack else 1
    expected = Counter(file.all_tokens.tolist())
    assert set(seen) == set(expected)
    for token, count in expected.items():
        assert abs(seen[token] - epochs * count) <= (12 if pack else 0)


def test_steps_name_their_documents() -> None:
    file = made("a" * 100, "b" * 100, "c" * 100)
    one = batches(file, batch=2)
    for step in range(12):
        ids = one.at(step)["input_ids"].flatten().tolist()
        names = {"abc".index(chr(token)) for token in ids if token < END}
        assert sorted(one.ids(step)) == sorted(f"made:{i}" if i else "made" for i in names)


@pytest.mark.parametrize("pack", [True, False])
@pytest.mark.parametrize("length", [2, 7, 16, 1000])
def test_evaluation_predicts_every_byte_once_in_order(pack: bool, length: int) -> None:
    file = made("first", "é" * 20, "third one", "x", "日本語" * 9)
    one = batches(made("y" * 9000), length=length, held_out_file=file, pack=pack, batch=3 if pack else 1)
    labels: list[int] = []
    covered = 0
    for batch in one.evaluation():
        covered += int(batch.pop("bytes"))
        labels += [label for label in batch["labels"].flatten().tolist() if label != -100]
    texts = [file.document(i).tolist() for i in range(file.documents)]
    assert labels == [token for text in texts for token in [*text, END]]
    assert covered == file.text_bytes == sum(map(len, texts))
    assert one.held_out_documents == 5


def test_evaluation_without_end_tokens_counts_what_is_predicted() -> None:
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel({"aa": 0, "b": 1}, unk_token="b"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    plain = Tokenizer(backend)
    held = made("aa b b", "aa b", tokenizer=plain)  # 6 and 4 bytes: 2 a token
    one = Batches(file=made("aa " * 99, tokenizer=plain), tokenizer=plain, length=4, batch=1, held_out_file=held)
    found = list(one.evaluation())
    assert sum(int(batch["bytes"]) for batch in found) == 2 * 2 + 2
    assert [label for batch in found for label in batch["labels"].flatten().tolist() if label != -100] == [1, 1, 1]


def test_masked_evaluation_covers_all_and_knows_no_seed(words: Tokenizer) -> None:
    file = made(*(speech.text[:3000] for speech in speeches()[:4]), tokenizer=words)

    def evaluated(seed: int) -> list[dict[str, torch.Tensor]]:
        one = Batches(file=file, tokenizer=words, objective=MASKED, length=64, batch=4, held_out=2, seed=seed)
        return list(one.evaluation())

    held = evaluated(1)
    assert all(one["bytes"] == other["bytes"] for one, other in zip(held, evaluated(2), strict=True))
    assert str(held) == str(evaluated(2))
    kept = Batches(file=file, tokenizer=words, objective=MASKED, length=64, batch=4, held_out=2).evaluated
    assert sum(int(batch["bytes"]) for batch in held) == sum(file.bytes_of(int(i)) for i in kept)


def test_held_out_documents_are_never_trained_on() -> None:
    file = made(*(chr(33 + i) * 10 for i in range(60)))
    seen = {}
    for held_out, by, count in ((7, "hash", 7), (0.1, "hash", 6), (0.001, "hash", 1), (4, "last", 4)):
        one = batches(file, held_out=held_out, held_out_by=by, batch=2)
        assert (one.documents, one.held_out_documents) == (60 - count, count)
        trained = torch.cat([batch["input_ids"] for batch in steps(one, 0, 2 * one.steps_per_epoch)]).unique().tolist()
        held = torch.cat([batch["input_ids"] for batch in one.evaluation()]).unique().tolist()
        assert set(trained) & set(held) == {END}
        assert len(trained) - 1 == 60 - count
        seen[held_out] = held
    assert seen[4][:-1] == [33 + 56, 33 + 57, 33 + 58, 33 + 59]
    assert set(seen[0.001]) < set(seen[0.1]) < set(seen[7])  # more is held out, the same first
    assert batches(file, held_out=7, seed=99).evaluated.tolist() == [one - 33 for one in seen[7][:-1]]
    assert seen[7][:-1] != list(range(33, 40))


def test_digests_change_with_the_data() -> None:
    one, other = letters(50, 60), letters(50, 61)
    digests = {
        batches(one, batch=1).digest,
        batches(other, batch=1).digest,
        batches(one, batch=1, held_out_file=other).digest,
        batches(one, batch=1, held_out_file=letters(3)).digest,
    }
    assert len(digests) == 4
    assert batches(one, batch=2, seed=4).digest in digests


def test_an_altered_file_is_found(tmp_path: Path) -> None:
    write_token_file(tmp_path / "a.tokens", [Document(source="made", parts=["a" * 500])], BYTES)
    content = bytearray((tmp_path / "a.tokens").read_bytes())
    content[4096 + 50] ^= 1
    (tmp_path / "a.tokens").write_bytes(content)
    with pytest.raises(
        InputError, match=r"a.tokens: is cut off or was altered .its content is not what its digest says"
    ):
        batches(TokenFile.open(tmp_path / "a.tokens")).check()
    batches(letters(500)).check()


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"length": 1}, "length is 1; it must be at least 2, special tokens and one to predict"),
        ({"batch": 0}, "batch is 0; it must be a whole number from 1"),
        ({"batch": 100}, r"the data have 281 tokens, or 17.6 rows of 16, but a step takes 100; give more text"),
        ({"length": 5000, "batch": 1}, r"the data have 281 tokens, or 0.1 rows of 5,000, but a step takes 1"),
        ({"pack": False, "batch": 100}, r"rows of 16, but a step takes 100"),
        ({"rank": 2, "world": 2}, "rank is 2; it must be a whole number from 0 to 1"),
        ({"batch": 5, "world": 2}, "batch is 5; it must be a multiple of the 2 processes"),
        ({"seed": -1}, "seed is -1; it must be a whole number from 0"),
        ({"held_out": 9}, "held_out is 9; it must be a share below 1, or fewer than the 9 documents"),
        ({"held_out": 1.0}, "held_out is 1.0; it must be a share below 1"),
        ({"held_out": 0.99}, "held_out is 0.99; .* none is left to train on"),
        ({"held_out_by": "first"}, "held_out_by is 'first'; it must be one of 'hash', 'last'"),
        ({"pack": "yes"}, "pack is 'yes'; it must be true or false"),
        ({"vocabulary_size": 100}, "the tokens are of a vocabulary of 257, the model's has 100"),
        (
            {"objective": MASKED, "tokenizer": byte_tokenizer(mask=True), "vocabulary_size": 257},
            "the tokens are of a vocabulary of 258, the model's has 257; take the model's own tokenizer",
        ),
        ({"objective": MASKED}, "objective.kind is 'masked-lm', but the tokenizer has no token for what is taken out"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(given: dict[str, Any], match: str) -> None:
    with pytest.raises(InputError, match=match) as caught:
        batches(letters(*SIZES[:-1]), **given)
    assert "\n" not in str(caught.value)


def test_more_that_does_not_fit(words: Tokenizer) -> None:
    with pytest.raises(InputError, match="was made with the tokenizer 'unnamed' of 257 ids"):
        Batches(file=letters(99), tokenizer=words)
    with pytest.raises(InputError, match="held_out is 0; hold documents out, or give a held_out_file, to evaluate"):
        batches(letters(99)).evaluation()
    with pytest.raises(InputError, match="held_out is 1; it must be 0 where there is a file"):
        batches(letters(99, 3), held_out=1, held_out_file=letters(3))
    with pytest.raises(InputError, match="step is -1; it must be a whole number, 0 or more"):
        batches(letters(99)).at(-1)
    plain = Tokenizer(tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0}, unk_token="a")))
    with pytest.raises(InputError, match="no document has two tokens"):
        Batches(file=made("a", "a", tokenizer=plain), tokenizer=plain, pack=False)


def test_texts_or_a_token_file_are_opened(tmp_path: Path, words: Tokenizer) -> None:
    (tmp_path / "a.txt").write_text("one\ntwo")
    texts = open_tokens(tmp_path / "a.txt", BYTES, split="lines")
    assert [texts.name_of(i)[-7:] for i in range(2)] == ["a.txt:1", "a.txt:2"]
    write_token_file(tmp_path / "a.tokens", [Document(source="made", parts=["one"])], BYTES)
    assert open_tokens([tmp_path / "a.tokens"], BYTES).tokens == 3
    with pytest.raises(InputError, match="is one of 2 inputs; give one token file alone, or texts"):
        open_tokens([tmp_path / "a.tokens", tmp_path / "a.txt"], BYTES)
    with pytest.raises(InputError, match="was made with the tokenizer"):
        open_tokens(tmp_path / "a.tokens", words)
