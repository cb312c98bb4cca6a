"""New tokenizers: what they learn, that `transformers` reads them with the same ids, and what they refuse."""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import transformers
from torture import PAIRS, TORTURE, check_same
from vocabulary_material import FILES

from gossamer.errors import InputError
from gossamer.text import Tokenizer, speeches, train_tokenizer

SIZE = 1200
HELD_OUT = speeches()[100].text[:4000]
FIRST = {
    "bert": ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
    "roberta": ["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
    "albert": ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"],
    "deberta-v2": ["[PAD]", "[CLS]", "[SEP]", "[UNK]"],
    "xlm-roberta": ["<s>", "<pad>", "</s>", "<unk>"],
}


@cache
def trained(family: str, lower_case: bool | None = None) -> Tokenizer:
    texts = [speech.text for speech in speeches()[:6]]
    return train_tokenizer(texts, family=family, vocabulary_size=SIZE, lower_case=lower_case, max_length=300)


@pytest.mark.parametrize(
    ("family", "lower_case"),
    [
        *((family, None) for family in (*FILES, "deberta-v2")),
        ("bert", False),
        ("albert", False),
        ("roberta", True),
        ("camembert", True),
    ],
)
@pytest.mark.filterwarnings("ignore::gossamer.errors.Remark")
def test_transformers_reads_it_with_the_same_ids(tmp_path: Path, family: str, lower_case: bool | None):
    ours = trained(family, lower_case)
    ours.save(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": family}))
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert (ours.vocabulary_size, len(theirs), theirs.model_max_length, ours.max_length) == (SIZE, SIZE, 300, 300)
    assert len(ours.encode_plain(HELD_OUT)[0]) > 300
    for text, pair in zip([HELD_OUT, *TORTURE[1:]], PAIRS, strict=True):
        check_same(ours, theirs, text)
        check_same(ours, theirs, text, pair)
    again = Tokenizer.load(tmp_path)
    assert again(HELD_OUT)["input_ids"].tolist() == ours(HELD_OUT)["input_ids"].tolist()
    ids = (ours.pad_id, ours.cls_id, ours.sep_id, ours.mask_id, ours.unk_id)
    names = ("pad_token_id", "cls_token_id", "sep_token_id", "mask_token_id", "unk_token_id")
    assert ids == tuple(getattr(theirs, name) for name in names)
    assert None not in ids


@pytest.mark.parametrize("family", FIRST)
def test_special_tokens_have_the_ids_of_published_checkpoints(family: str):
    assert [trained(family).token(i) for i in range(len(FIRST[family]))] == FIRST[family]


@pytest.mark.parametrize("family", FILES)
def test_it_reads_what_it_was_not_trained_on(family: str):
    tokenizer = trained(family)
    ids = tokenizer(HELD_OUT, truncation=False)["input_ids"][0]
    assert (ids == tokenizer.unk_id).float().mean() < 0.002
    assert 2.5 < len(HELD_OUT) / len(ids) < 6
    lowers = family in ("bert", "distilbert", "electra", "albert")
    assert (tokenizer("THE")["input_ids"].tolist() == tokenizer("the")["input_ids"].tolist()) == lowers


def test_byte_level_tokenizers_give_every_text_back():
    for text in (HELD_OUT, *TORTURE):
        assert trained("roberta").decode(trained("roberta")(text, truncation=False)["input_ids"][0]) == text


def test_the_same_texts_give_the_same_tokenizer_in_every_process():
    code = (
        "import hashlib; from gossamer.text import speeches, train_tokenizer\n"
        "texts = [one.text for one in speeches()[:2]]\n"
        "for kind in ('wordpiece', 'bpe', 'unigram'):\n"
        "    made = train_tokenizer(texts, kind=kind, vocabulary_size=1000)\n"
        "    print(hashlib.sha256(made._backend.to_str().encode()).hexdigest())"
    )
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(3)]
    assert len({run.stdout for run in runs}) == 1
    assert {run.stderr for run in runs} == {""}


def test_odd_texts_are_no_trouble():
    texts = [
        *TORTURE,
        "日本語のテキスト " * 50,
        "x" * 100_000,
        "\x00\ufffd ▁▅ ##a [CLS]",
        *(s.text for s in speeches()[:2]),
    ]
    for family in FILES:
        made = train_tokenizer(texts, family=family, vocabulary_size=SIZE)
        assert SIZE * 0.6 < made.vocabulary_size <= SIZE
        assert made("日本 x")["input_ids"].shape[0] == 1


def test_text_without_spaces_is_learnt_from():
    """Chinese is written so; trainers cut it where the letters end, if at all."""
    rng = np.random.default_rng(0)
    words = ["美国", "人民", "国会", "政府", "和平", "自由"]
    text = "".join(words[i] for i in rng.integers(0, len(words), 4000))
    for family in ("roberta", "albert"):
        made = train_tokenizer([text], family=family, vocabulary_size=320)
        ids = made("美国人民", truncation=False)["input_ids"][0]
        assert made.unk_id not in ids
        assert len(ids) <= 2 + 3


def test_few_words_give_few_tokens():
    for kind in ("wordpiece", "bpe", "unigram"):
        made = train_tokenizer(["a b c ab ab abc abc"] * 3, kind=kind, vocabulary_size=500)
        assert 5 < made.vocabulary_size < 300
        assert made.unk_id not in made("abc")["input_ids"]


def wrong(match: str, texts: object = ("some text here",), **options):
    return pytest.param(texts, {"vocabulary_size": 1000, **options}, match, id=match[:40])


@pytest.mark.parametrize(
    ("texts", "options", "match"),
    [
        wrong("texts is empty", [], kind="bpe"),
        wrong("the texts are empty; there is nothing to learn from", [" ", "\n"], kind="bpe"),
        wrong(r"texts\[1\] is 3, a int", ["a", 3], kind="bpe"),
        wrong("half a surrogate pair", ["a\ud800"], kind="bpe"),
        wrong("there is neither kind nor family"),
        wrong("kind is 'char'; it must be one of wordpiece, bpe, unigram", kind="char"),
        wrong("family is 'mamba'; it must be one of bert, distilbert, electra, roberta", family="mamba"),
        wrong("kind is 'bpe', but 'bert' reads wordpiece; of bpe are roberta, longformer", kind="bpe", family="bert"),
        wrong("vocabulary_size is 0; it must be a whole number of at least 6", kind="bpe", vocabulary_size=0),
        wrong("vocabulary_size is True", kind="bpe", vocabulary_size=True),
        wrong("vocabulary_size is 100, but the characters .* are 261; ask for more", kind="bpe", vocabulary_size=100),
        wrong("vocabulary_size is 8, but the char.* are [0-9]+; ask for more", kind="wordpiece", vocabulary_size=8),
        wrong("no unigram vocabulary of 8 tokens can be trained on these", kind="unigram", vocabulary_size=8),
        wrong("lower_case is 'yes'; it must be True, False or None", kind="bpe", lower_case="yes"),
        wrong("max_length is 2; it must be a whole number of at least 3", kind="bpe", max_length=2),
    ],
)
def test_wrong_arguments_get_one_clear_line(texts, options, match, capfd):
    with pytest.raises(InputError, match=match) as caught:
        train_tokenizer(list(texts), **options)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""
