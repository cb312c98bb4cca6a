"""Masking: the right share of tokens, whole words whole, spans of words as ALBERT draws them."""

import math
import random
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers

from gossamer.errors import InputError
from gossamer.text import Document, Tokenizer, byte_tokenizer, speeches, tokenize, train_tokenizer
from gossamer.text.word_marks import _byte_edges
from gossamer.training.data.token_batches import Batches
from gossamer.training.objectives import Masking, Objective
from gossamer.training.objectives.texts.masker import Masker

KINDS = ("token", "whole-word", "n-gram")
TEXTS = [speech.text[:6000] for speech in speeches()[:12]]


@pytest.fixture(scope="module")
def cutters(minilm: Path) -> Mapping[str, Tokenizer]:
    return {
        "wordpiece": Tokenizer.load(minilm),
        "bpe": train_tokenizer(TEXTS, family="roberta", vocabulary_size=500),
        "unigram": train_tokenizer(TEXTS, family="albert", vocabulary_size=400),
        "bytes": byte_tokenizer(mask=True),
    }


def objective(masking: str, **more: Any) -> Objective:
    kind: Masking = masking  # type: ignore[assignment]
    return Objective(kind="masked-lm", masking=kind, **more)


def row(tokenizer: Tokenizer, text: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    ids = np.array(tokenizer.encode_plain(text)[0])
    return ids, np.ones(len(ids), dtype=bool), np.zeros(len(ids), dtype=np.int64)


@pytest.mark.parametrize("masking", KINDS)
@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram", "bytes"])
def test_the_share_of_tokens_is_exact_in_expectation(cutters: Mapping[str, Tokenizer], kind: str, masking: str) -> None:
    tokenizer = cutters[kind]
    file = tokenize([Document(source="made", number=i, parts=[one]) for i, one in enumerate(TEXTS)], tokenizer)
    one = Batches(file=file, tokenizer=tokenizer, objective=objective(masking), length=128, batch=16)
    tokens = taken = 0
    fates: Counter[str] = Counter()
    for step in range(60):
        batch = one.at(step)
        ids, labels = batch["input_ids"].numpy(), batch["labels"].numpy()
        here = labels != -100
        taken += int(here.sum())
        original = np.where(here, labels, ids)
        special = np.isin(original, [tokenizer.cls_id, tokenizer.sep_id] if kind != "bytes" else [256])
        assert not (special & here).any()
        tokens += int((~special).sum())
        assert (ids[here] != tokenizer.pad_id).all()
        masks = int((ids[here] == tokenizer.mask_id).sum())
        kept = int((ids[here] == labels[here]).sum())
        fates += Counter(mask=masks, kept=kept, other=int(here.sum()) - masks - kept)
        assert (ids[~here] != tokenizer.mask_id).all()
    # Tokens of a word go together: at most 5.5 standard deviations, a word (or three) counting as one draw.
    together = (
        {"token": 1, "whole-word": 12, "n-gram": 36}[masking]
        if kind == "bytes"
        else {"token": 1, "whole-word": 3, "n-gram": 9}[masking]
    )
    assert abs(taken / tokens - 0.15) < 5.5 * math.sqrt(0.15 * 0.85 * together / tokens)
    for fate, share in (("mask", 0.8), ("other", 0.1), ("kept", 0.1)):
        allowed = 5.5 * math.sqrt(share * (1 - share) / taken)
        # A random token is by chance the one that was there, of bytes with a probability of 1 in 256.
        chance = 0.1 / (tokenizer.vocabulary_size - 3) * (-1 if fate == "other" else fate == "kept")
        assert abs(fates[fate] / taken - share - chance) < allowed


@pytest.mark.parametrize("masking", KINDS)
def test_every_word_of_a_document_goes_equally_often(cutters: Mapping[str, Tokenizer], masking: str) -> None:
    """Also the first and the last ones, which fewer spans reach, and those of documents of a word or two."""
    mask = Masker(objective(masking, share=0.3), cutters["wordpiece"])
    ids, text, _ = row(cutters["wordpiece"], "one two three four five six")
    rng = np.random.default_rng(0)
    for segments in (np.zeros(6, dtype=np.int64), np.array([0, 1, 1, 2, 2, 2])):
        counts = sum((mask(ids, text, segments, rng)[1] != -100).astype(int) for _ in range(4000))
        for place in (0, 1, 2, -1):
            assert abs(counts[place] / 4000 - 0.3) < 4.5 * math.sqrt(0.21 / 4000)


@pytest.mark.parametrize(
    ("kind", "text", "words"),
    [
        ("wordpiece", "Unbelievably strange, naïve", ["unbelievably", "strange", ",", "naive"]),
        (
            "bpe",
            "Unbelievably  strange, naïve\n\nyes it is",
            ["Unbelievably", "", "strange,", "naïve", "\n", "\n", "yes", "it", "is"],
        ),
        ("unigram", "unbelievably strange, naive", ["unbelievably", "strange,", "naive"]),
        ("bytes", "naïve  日本\tit\nis", ["naïve", " ", " 日", "本", "\t", "it", "\n", "is"]),
    ],
)
def test_words_are_whole(cutters: Mapping[str, Tokenizer], kind: str, text: str, words: list[str]) -> None:
    tokenizer = cutters[kind]
    ids, all_text, segments = row(tokenizer, text)
    numbers = Masker(objective("whole-word"), tokenizer).words(ids, all_text, segments)
    assert numbers.tolist() == sorted(numbers.tolist())
    found = [tokenizer.decode(ids[numbers == number]) for number in range(numbers.max() + 1)]
    assert [one.replace(" ", "") for one in found] == [one.replace(" ", "") for one in words]
    assert len(ids) > len(words)


@pytest.mark.parametrize("family", ["xlm-roberta", "roberta", "bytes"])
def test_characters_of_scripts_without_spaces_are_words(family: str) -> None:
    """Han, kana and Thai have no spaces. Each row has something to learn, none all of it."""
    rng = random.Random(0)
    words = ["".join(chr(0x4E00 + rng.randrange(300)) for _ in range(2)) for _ in range(120)]
    lines = ["。".join("".join(rng.choice(words) for _ in range(12)) for _ in range(30)) for _ in range(60)]
    bytes_alone = family == "bytes"
    cutter = byte_tokenizer(mask=True) if bytes_alone else train_tokenizer(lines, family=family, vocabulary_size=600)
    file = tokenize([Document(source="made", number=i, parts=[one]) for i, one in enumerate(lines)], cutter)
    for masking in KINDS:
        one = Batches(file=file, tokenizer=cutter, objective=objective(masking), length=128, batch=8)
        shares = np.concatenate([(one.at(step)["labels"].numpy() != -100).mean(1) for step in range(30)])
        assert (shares > 0.6).sum() == 0, masking
        # By chance: 0.85 to the number of words of a row; spans of three bytes a character are the fewest.
        assert (shares == 0).mean() < 0.02, masking
        assert one.share_without_labels() < 0.05


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ไทย abc日本def", 3 + 1 + 2 + 1),
        ("カタカナ", 4),
        ("한국어 단어", 2),
        ("naïve Ελληνικά дом", 3),
    ],
)
def test_which_scripts_have_no_spaces(text: str, words: int) -> None:
    letters = sorted({*text, " ", *"한국어단어"} - {" "})
    vocabulary = [("<unk>", 0.0), ("<mask>", 0.0), ("▁", -1.0), *((one, -2.0) for one in letters)]
    backend = tokenizers.Tokenizer(tokenizers.models.Unigram(vocabulary, 0, False))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    tokenizer = Tokenizer(backend, {"mask_token": "<mask>"})
    ids, everything, segments = row(tokenizer, text)
    assert Masker(objective("whole-word"), tokenizer).words(ids, everything, segments).max() + 1 == words


@pytest.mark.parametrize("size", [1, 15, 16, 17, 32, 33, 100])
def test_a_run_without_a_break_is_several_words(cutters: Mapping[str, Tokenizer], size: int) -> None:
    tokenizer = cutters["bytes"]
    ids, text, segments = row(tokenizer, "a b " + "acgt" * 25)
    ids, text, segments = ids[: 4 + size], text[: 4 + size], segments[: 4 + size]
    words = Masker(objective("whole-word"), tokenizer).words(ids, text, segments)
    assert np.bincount(words).tolist() == [1, 2, *[16] * ((size + 1) // 16), *[(size + 1) % 16] * bool((size + 1) % 16)]


def test_first_and_last_characters_of_bytes() -> None:
    for character in "aé日ก👍\u0800\u07ff\U00020000":
        data = character.encode()
        assert _byte_edges(data) == _byte_edges(data + data) == (character, character)
        for cut in range(1, len(data)):
            first, last = _byte_edges(data[cut:] + data)
            assert (first, last) == ("", character), "it begins within a character"
            assert _byte_edges(data + data[:cut]) == (character, "")
            begun = _byte_edges(data[:cut])[0]
            assert begun.encode()[:cut] == data[:cut]
    assert _byte_edges(b"") == ("", "")


def test_words_end_where_documents_and_special_tokens_do(cutters: Mapping[str, Tokenizer]) -> None:
    tokenizer = cutters["wordpiece"]
    ids, text, segments = row(tokenizer, "antidisestablishmentarianism")
    assert len(ids) > 4
    words = Masker(objective("whole-word"), tokenizer).words
    assert words(ids, text, segments).tolist() == [0] * len(ids)
    segments[2:] = 1
    assert words(ids, text, segments).tolist() == [0, 0, *[1] * (len(ids) - 2)]
    text[3] = False
    assert words(ids, text, segments).tolist() == [0, 0, 1, -1, *[2] * (len(ids) - 4)]


@pytest.mark.parametrize("masking", ["whole-word", "n-gram"])
def test_all_pieces_of_a_word_go_together(cutters: Mapping[str, Tokenizer], masking: str) -> None:
    for tokenizer in cutters.values():
        mask = Masker(objective(masking), tokenizer)
        ids, text, segments = row(tokenizer, TEXTS[0])
        segments = np.arange(len(ids)) // 50
        words = mask.words(ids, text, segments)
        for seed in range(5):
            taken = mask(ids, text, segments, np.random.default_rng(seed))[1] != -100
            for number in np.unique(words[taken]):
                assert taken[words == number].all()


def test_spans_have_the_lengths_of_albert(cutters: Mapping[str, Tokenizer]) -> None:
    """With few of them, so that hardly any two touch, spans of n words come in proportion to 1/n."""
    tokenizer = cutters["wordpiece"]
    ids, text, segments = row(tokenizer, "one two three four five six " * 2000)
    counts: Counter[int] = Counter()
    for seed in range(12):
        labels = Masker(objective("n-gram", share=0.01), tokenizer)(ids, text, segments, np.random.default_rng(seed))[1]
        edges = np.flatnonzero(np.diff(np.concatenate([[0], labels != -100, [0]]).astype(int)))
        counts.update((edges[1::2] - edges[::2]).tolist())
    total = counts.total()
    assert total > 700
    for length, share in ((1, 6 / 11), (2, 3 / 11), (3, 2 / 11)):
        assert abs(counts[length] / total - share) < 4 * math.sqrt(share * (1 - share) / total) + 0.015
    assert sum(counts[length] for length in counts if length > 3) < 0.03 * total


def test_no_span_crosses_documents(cutters: Mapping[str, Tokenizer]) -> None:
    """A span that runs on would take the first word of the next document whenever it takes the last two."""
    mask = Masker(objective("n-gram", share=0.2), cutters["wordpiece"])
    ids, text, segments = row(cutters["wordpiece"], "one two three four")
    segments = np.array([0, 0, 1, 1])
    rng = np.random.default_rng(0)
    both = Counter(
        (bool(one[1]), bool(one[2])) for one in (mask(ids, text, segments, rng)[1] != -100 for _ in range(6000))
    )
    share = both[True, True] / (both[True, True] + both[True, False])
    assert abs(share - 0.2) < 4 * math.sqrt(0.16 / 1200)


def test_masks_are_drawn_anew_each_epoch_and_for_each_seed(cutters: Mapping[str, Tokenizer]) -> None:
    tokenizer = cutters["wordpiece"]
    file = tokenize([Document(source="made", parts=["one two three four " * 20])], tokenizer)

    def labels(seed: int, step: int) -> str:
        more: dict[str, Any] = {"length": 83, "batch": 1, "pack": False}
        one = Batches(file=file, tokenizer=tokenizer, objective=objective("token"), seed=seed, **more)
        return str(one.at(step)["labels"].tolist())

    assert len({labels(seed, step) for seed in range(3) for step in range(4)}) == 12
    assert labels(2, 3) == labels(2, 3)


def test_special_tokens_spelt_in_a_text_stay(cutters: Mapping[str, Tokenizer]) -> None:
    tokenizer = cutters["wordpiece"]
    ids, text, segments = row(tokenizer, "a [SEP] b [MASK] c [PAD]")
    mask = Masker(objective("token", share=0.99), tokenizer)
    shown, labels = mask(ids, text, segments, np.random.default_rng(0))
    assert (labels[1], labels[3], labels[5]) == (-100, -100, -100)
    assert shown[1] == tokenizer.sep_id
    nothing = mask(ids, np.zeros(6, dtype=bool), segments, np.random.default_rng(0))
    assert (nothing[0] == ids).all()
    assert (nothing[1] == -100).all()


def test_what_replaces_a_token_is_an_ordinary_one(cutters: Mapping[str, Tokenizer]) -> None:
    tokenizer = cutters["bytes"]
    ids, text, segments = row(tokenizer, "a" * 50_000)
    shown, labels = Masker(objective("token", share=0.9), tokenizer)(ids, text, segments, np.random.default_rng(0))
    others = shown[(labels != -100) & (shown != tokenizer.mask_id)]
    assert set(others.tolist()) == set(range(256))


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"kind": "mlm"}, "kind is 'mlm'; it must be one of 'causal-lm', .*'masked-lm'"),
        ({"masking": "word"}, "masking is 'word'; it must be one of 'token', 'whole-word', 'n-gram'"),
        ({"share": 1}, "share is 1; it must be a rate from 0 up to, not including, 1"),
        ({"longest": 0}, "longest is 0; it must be a whole number from 1 to 64"),
    ],
)
def test_wrong_objectives(given: dict[str, Any], match: str) -> None:
    with pytest.raises(InputError, match=match):
        Objective(**given)


def test_objectives_that_a_tokenizer_cannot_serve() -> None:
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "[MASK]": 1}, unk_token="a"))
    plain = Tokenizer(backend, {"mask_token": "[MASK]"})
    with pytest.raises(
        InputError, match=r"objective.masking is 'n-gram', but this tokenizer does not mark where words"
    ):
        Masker(objective("n-gram"), plain)
    Masker(objective("token"), plain)
    with pytest.raises(
        InputError, match="the tokenizer has no token for what is taken out; take one that has, such as"
    ):
        Masker(objective("token"), byte_tokenizer())
    with pytest.raises(InputError, match=r"share is 0; it must be a rate above 0 and below 1"):
        objective("token", share=0)
