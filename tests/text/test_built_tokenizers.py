"""Tokenizers built from a family's vocabulary files against `transformers`, which reads the same files."""

import itertools
import shutil
from pathlib import Path

import pytest
import sentencepiece
import transformers
from torture import PAIRS, TORTURE, check_same
from vocabulary_material import FILES

from gossamer.text import Tokenizer, speeches

EVERY = list(FILES)
LIKE_ANOTHER = {"distilbert", "electra", "longformer", "camembert"}
"""Whose files are built as those of BERT, RoBERTa and XLM-RoBERTa."""
MEGABYTE = 1_000_000
MARKS = [
    *("a <mask> b<mask>c  [MASK] d", '(see) "x" - 1,000. £5 \u2013 €6', "<s> </s> <pad><unk> [CLS][SEP]"),
    *("``quoted'' 'text'", "two  spaces   three\n\nlines ", "1997, 12,", "ÀÉÎ àéî", "\uff41\uff42\uff43 ①"),
]


def both(directory: Path) -> tuple[Tokenizer, transformers.PreTrainedTokenizerBase]:
    return Tokenizer.load(directory), transformers.AutoTokenizer.from_pretrained(directory)


@pytest.mark.parametrize("family", EVERY)
def test_torture_list(families, family: str):
    ours, theirs = both(families[family])
    for text, pair in itertools.zip_longest([*TORTURE, *MARKS], PAIRS, fillvalue="a b"):
        check_same(ours, theirs, text, truncation=False)
        check_same(ours, theirs, text, pair, truncation=False)
    check_same(ours, theirs, [*TORTURE, *MARKS], max_length=64, padding="max_length")
    check_same(ours, theirs, TORTURE, PAIRS, max_length=200, padding=True)


@pytest.mark.parametrize(
    "family", [pytest.param(name, marks=pytest.mark.slow) if name in LIKE_ANOTHER else name for name in EVERY]
)
def test_a_megabyte_of_speeches(families, family: str):
    ours, theirs = both(families[family])
    read = 0
    for speech in speeches():
        wanted = theirs(speech.text, return_offsets_mapping=True)
        got = ours(speech.text, truncation=False, return_offsets=True)
        assert got["input_ids"][0].tolist() == wanted["input_ids"]
        assert [tuple(one) for one in got["offsets"][0].tolist()] == wanted["offset_mapping"]
        read += len(speech.text.encode())
        if read > MEGABYTE:
            return
    pytest.fail("the speeches are shorter than a megabyte")


@pytest.mark.parametrize("family", EVERY)
@pytest.mark.parametrize(("max_length", "stride"), [(64, 1), (17, 5)])
def test_overflow_with_stride(families, family: str, max_length: int, stride: int):
    ours, theirs = both(families[family])
    long, short = speeches()[0].text[:3000], "who spoke?"
    check_same(ours, theirs, [long, "", *TORTURE], max_length=max_length, stride=stride)
    check_same(ours, theirs, short, long, truncation="only_second", max_length=max_length, stride=stride)


@pytest.mark.parametrize("family", EVERY)
def test_saved_files_give_the_same_ids_in_transformers(families, tmp_path: Path, family: str):
    ours, theirs = both(families[family])
    ours.save(tmp_path)
    shutil.copy(families[family] / "config.json", tmp_path)
    for other in both(tmp_path):
        for text in [*TORTURE, *MARKS]:
            ids = ours(text, truncation=False)["input_ids"][0].tolist()
            got = other(text, truncation=False)["input_ids"]
            assert (got if isinstance(got, list) else got[0].tolist()) == ids
    assert ours.decode(ours("a b (c)")["input_ids"][0]) == theirs.decode(theirs("a b (c)")["input_ids"], True)


EITHER = (False, True)
WORDS = ("do_lower_case", "tokenize_chinese_chars", "strip_accents")
SWITCHES = [
    *(("bert", dict(zip(WORDS, values, strict=True))) for values in itertools.product(EITHER, repeat=3)),
    *(("bert", {"do_lower_case": False, "tokenizer_class": name}) for name in ("BertTokenizerFast", "BertTokenizer")),
    *(("roberta", {"add_prefix_space": space, "trim_offsets": trim}) for space in EITHER for trim in EITHER),
    *(("albert", {"do_lower_case": lower, "keep_accents": keep}) for lower in EITHER for keep in EITHER),
    *((name, {"add_prefix_space": False}) for name in ("albert", "xlm-roberta", "camembert")),
]


@pytest.mark.parametrize(("family", "config"), SWITCHES, ids=str)
def test_switches_of_tokenizer_config(copy_of, family: str, config: dict):
    ours, theirs = both(copy_of(family, config))
    for text in [*TORTURE, *MARKS, speeches()[3].text[:5000]]:
        check_same(ours, theirs, text, truncation=False)


LEFT = {"content": "<mask>", "lstrip": True, "rstrip": False, "normalized": False, "single_word": False}
DECODER = {"100": {"content": "[UNK]", "special": True}, "1045": {"content": "i", "special": False, "normalized": True}}
SPECIAL = [
    ("roberta", {"mask_token": {"__type": "AddedToken", **LEFT}}, {}),
    ("roberta", {"mask_token": "<mask>"}, {"special_tokens_map": {"mask_token": LEFT, "cls_token": "<s>"}}),
    ("roberta", {"cls_token": "<pad>", "sep_token": "<unk>"}, {}),
    ("camembert", {"mask_token": "<mask>"}, {}),
    ("camembert", {"additional_special_tokens": ["<s>NOTUSED", "</s>NOTUSED"]}, {}),
    ("xlm-roberta", {"extra_special_tokens": ["<new>", "of"]}, {}),
    ("albert", {"additional_special_tokens": []}, {}),
    ("albert", {"cls_token": "[SEP]"}, {}),
    ("bert", {"added_tokens_decoder": DECODER}, {}),
    ("bert", {}, {"added_tokens": {"newword": 30522, "[other]": 30523}}),
    ("bert", {"unk_token": "[unused1]", "pad_token": "[unused2]"}, {}),
]


@pytest.mark.parametrize(("family", "config", "others"), SPECIAL)
def test_special_and_added_tokens(copy_of, family: str, config: dict, others: dict):
    ours, theirs = both(copy_of(family, config, **others))
    assert ours.vocabulary_size == len(theirs)
    for text in [*MARKS, "I [other] newword <new> of [UNK]", "a  <mask>  b", *TORTURE[:5]]:
        check_same(ours, theirs, text, "pair", truncation=False)
    assert (ours.pad_id, ours.cls_id, ours.mask_id) == (theirs.pad_token_id, theirs.cls_token_id, theirs.mask_token_id)


def test_sentencepiece_itself_gives_the_same_ids(families):
    path = families["xlm-roberta"] / "sentencepiece.bpe.model"
    original, ours = sentencepiece.SentencePieceProcessor(model_file=str(path)), Tokenizer.load(path.parent)
    for text in [*(speech.text for speech in speeches()[:20]), *TORTURE[2:9]]:
        assert ours.encode_plain(text)[0] == [3 if i == 0 else i + 1 for i in original.encode(text)]
