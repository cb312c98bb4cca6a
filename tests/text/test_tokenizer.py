"""The tokenizer against `transformers` on the real MiniLM, and what it says to wrong arguments."""

import copy
import pickle
from pathlib import Path

import pytest
import torch
import transformers
from torture import PAIRS, TORTURE, check_same

from gossamer.errors import InputError, Remark
from gossamer.text import Tokenizer, speeches


@pytest.fixture(scope="module")
def ours(minilm: Path) -> Tokenizer:
    return Tokenizer.load(minilm)


@pytest.fixture(scope="module")
def oracle(minilm: Path) -> transformers.PreTrainedTokenizerBase:
    return transformers.AutoTokenizer.from_pretrained(minilm)


def test_torture_list_singly_in_batch_and_in_pairs(ours, oracle):
    for text, pair in zip(TORTURE, PAIRS, strict=True):
        check_same(ours, oracle, text, truncation=False)
        check_same(ours, oracle, text, pair, truncation=False)
    check_same(ours, oracle, TORTURE)
    check_same(ours, oracle, TORTURE, PAIRS)


@pytest.mark.parametrize("max_length", [3, 4, 16, 63, 512, 700])
def test_truncation_and_padding(ours, oracle, max_length: int):
    check_same(ours, oracle, TORTURE, max_length=max_length)
    check_same(ours, oracle, TORTURE, max_length=max_length, padding="max_length")
    check_same(ours, oracle, TORTURE[11], max_length=max_length, padding=False)


def test_default_length_is_the_models_and_not_the_128_of_the_file(ours, oracle):
    with pytest.warns(Remark, match="was cut to 512"):
        batch = check_same(ours.with_max_length(512), oracle, speeches()[0].text)
    assert batch["input_ids"].shape == (1, 512)
    assert ours.max_length == 512
    assert ours(speeches()[0].text, truncation=False)["input_ids"].shape[1] > 512
    assert ours(["a", "b c"])["input_ids"].shape == (2, 4)


@pytest.mark.parametrize("truncation", [True, "only_first", "only_second"])
def test_pairs_cut_each_way(ours, oracle, truncation):
    long, short = speeches()[0].text[:3000], "who spoke?"
    pairs = {"only_first": [(long, short)], "only_second": [(short, long)]}
    for a, b in pairs.get(truncation, [(long, short), (short, long), (long, long), (long, "")]):
        check_same(ours, oracle, a, b, truncation=truncation, max_length=40)
        check_same(ours, oracle, a, b, truncation=truncation, max_length=41, stride=7)


@pytest.mark.parametrize(("max_length", "stride"), [(512, 128), (64, 1), (64, 61), (17, 5)])
def test_overflow_with_stride(ours, oracle, max_length: int, stride: int):
    texts = [speeches()[0].text[:4000], "short", "", *TORTURE]
    got = check_same(ours, oracle, texts, max_length=max_length, stride=stride)
    rows = got["input_ids"][got["overflow_to_sample"] == 0]
    assert len(rows) > 1
    assert torch.equal(rows[0, -1 - stride : -1], rows[1, 1 : 1 + stride])


def test_long_texts_keep_ids_and_offsets(ours, oracle):
    texts = [speech.text for speech in speeches()[::25]]
    check_same(ours.with_max_length(50_000), oracle, texts, max_length=50_000)


def test_offsets_point_at_characters(ours):
    text = "👍🏽 naïve 日本"
    ids, offsets = ours.encode_plain(text)
    assert [text[a:b] for a, b in offsets[-3:]] == ["naïve", "日", "本"]
    assert ids == ours(text)["input_ids"][0, 1:-1].tolist()


def test_plain_encoding_is_never_cut(ours, oracle):
    ours("a b c d e", max_length=4)
    text = speeches()[5].text
    wanted = oracle(text, add_special_tokens=False, truncation=False, return_offsets_mapping=True)
    ids, offsets = ours.encode_plain(text)
    assert len(ids) > 512
    assert ids == wanted["input_ids"]
    assert offsets == wanted["offset_mapping"]


def test_properties_and_decoding(ours, oracle):
    got = (ours.pad_id, ours.unk_id, ours.cls_id, ours.sep_id, ours.mask_id, ours.max_length, ours.vocabulary_size)
    assert got == (0, 100, 101, 102, 103, 512, 30522)
    assert (ours.special_tokens_count(), ours.special_tokens_count(pair=True)) == (2, 3)
    ids = ours("Hello, wörld [MASK]")["input_ids"][0]
    assert ours.decode(ids) == oracle.decode(ids, skip_special_tokens=True)
    assert ours.decode(ids.tolist(), skip_special=False) == oracle.decode(ids)


def test_a_longer_copy_leaves_the_original_alone(ours):
    longer = ours.with_max_length(8192)
    text = speeches()[0].text
    assert longer(text)["input_ids"].shape[1] > 512 == ours(text, max_length=512)["input_ids"].shape[1]
    assert (longer.max_length, ours.max_length) == (8192, 512)


def test_copies_and_pickles(ours):
    for other in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert torch.equal(other(TORTURE)["input_ids"], ours(TORTURE)["input_ids"])


def wrong(match: str, *arguments, **options):
    return pytest.param(arguments, options, match, id=match[:40])


@pytest.mark.parametrize(
    ("arguments", "options", "match"),
    [
        wrong(r"texts is empty; give at least one", []),
        wrong(r"texts\[1\] is 7, a int; every text must be a string", ["a", 7]),
        wrong(r"texts is None; give one string", None),
        wrong(r"texts\[0\] is b'bytes', a bytes", [b"bytes"]),
        wrong(r"texts is \{'a': 1\}", {"a": 1}),
        wrong(r"texts\[0\] is \['x+.*\.\.\., a list", [["x" * 500]]),
        wrong(r"half a surrogate pair at character 1 \('\\ud800b'\)", ["a\ud800b"]),
        wrong(r"2 texts but 1 in text_pair", ["a", "b"], ["c"]),
        wrong(r"text_pair\[0\] is None", ["a"], [None]),
        wrong(r"padding=False but rows have 3 to 4 tokens", ["a", "a b"], padding=False),
        wrong(r"padding is 'left'; it must be", "a", padding="left"),
        wrong(r"truncation is 'last'; it must be", "a", truncation="last"),
        wrong(r"'only_second' needs text_pair", "a", truncation="only_second"),
        wrong(r"max_length is 2; .* at least 3", "a", max_length=2),
        wrong(r"max_length is 3; .* at least 4", "a", "b", max_length=3),
        wrong(r"max_length is 10.0; it must be a whole number", "a", max_length=10.0),
        wrong(r"max_length is True", "a", max_length=True),
        wrong(r"stride is -1", "a", stride=-1),
        wrong(r"stride=14 .* must be below 14", "a", max_length=16, stride=14),
        wrong(r"stride=2 needs truncation", "a", truncation=False, stride=2),
        wrong(r"pair 0 \(9 and 9 tokens\) .* stride=4: 3 would", "a " * 9, "b " * 9, max_length=10, stride=4),
        wrong(r"pair 0 \(9 and 1 tokens\) .* 0 would be left", "a " * 9, "b", max_length=9, truncation="only_second"),
        wrong(
            r"text 1 has 7 tokens, padding='max_length' allows 6",
            ["a", "a b c d e"],
            truncation=False,
            padding="max_length",
            max_length=6,
        ),
    ],
)
def test_wrong_arguments_get_one_clear_line(ours, arguments, options, match):
    with pytest.raises(InputError, match=match) as caught:
        ours(*arguments, **options)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("stride", [1, 2, 3, 5])
@pytest.mark.parametrize("truncation", [True, "only_first", "only_second"])
def test_every_small_pair_is_as_in_transformers_or_refused(ours, oracle, stride, truncation, capfd):
    refused = 0
    for first in range(0, 10, 3):
        for second in range(0, 10, 3):
            for length in range(4, 16, 2):
                try:
                    ours("a " * first, "b " * second, max_length=length, stride=stride, truncation=truncation)
                except InputError:
                    refused += 1
                    continue
                options = {"max_length": length, "stride": stride, "truncation": truncation}
                check_same(ours, oracle, "a " * first, "b " * second, **options)
    assert 0 < refused < 80
    assert "panicked" not in capfd.readouterr().err


@pytest.mark.parametrize("ids", [[30522], [-1], [1.5], ["a"], [2**40]])
def test_decoding_unknown_ids(ours, ids):
    with pytest.raises(InputError, match="is not in the vocabulary of 30,522 tokens"):
        ours.decode(ids)
