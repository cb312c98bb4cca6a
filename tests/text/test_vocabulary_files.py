"""Vocabulary files that are odd, missing, damaged or contradict one another: the same ids, or one clear line."""

import json
import os
import random
from pathlib import Path

import pytest
import transformers
from vocabulary_material import FILES, train_pieces

import gossamer as gs
from gossamer.errors import InputError
from gossamer.text import Tokenizer, speeches

TEXT = "The Union of 1863, (naïve) 日本 x"


def refused(directory: Path, match: str, **options) -> None:
    with pytest.raises(InputError, match=match) as caught:
        Tokenizer.load(directory, **options)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    assert str(directory) in str(caught.value)


def ids(directory: Path) -> list[int]:
    return Tokenizer.load(directory)(TEXT)["input_ids"][0].tolist()


@pytest.mark.parametrize("ending", [b"\r\n", b"\n\n", b" \n", b"\xc2\xa0\n"])
def test_line_ends_are_no_part_of_a_word(copy_of, ending: bytes):
    directory = copy_of("bert")
    path = directory / "vocab.txt"
    wanted = ids(directory)
    doubled = ending == b"\n\n"
    path.write_bytes(path.read_bytes() + b"\n" if doubled else path.read_bytes().replace(b"\n", ending))
    assert ids(directory) == wanted
    assert transformers.AutoTokenizer.from_pretrained(directory)(TEXT)["input_ids"] == wanted


def test_a_word_that_is_there_twice_has_its_last_place(copy_of):
    directory = copy_of("bert")
    with (directory / "vocab.txt").open("a") as file:
        file.write("union\n")
    assert ids(directory) == transformers.AutoTokenizer.from_pretrained(directory)(TEXT)["input_ids"]
    assert 30522 in ids(directory)


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_the_mark_that_editors_put_before_a_text_is_none_of_it(copy_of, family: str):
    directory = copy_of(family, {})
    wanted = ids(directory)
    for path in directory.iterdir():
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert ids(directory) == wanted
    Tokenizer.load(directory).save(directory)
    path = directory / "tokenizer.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert ids(directory) == wanted


def test_what_is_there_decides_where_no_family_is_named(copy_of):
    for family, files in FILES.items():
        directory = copy_of(family)
        wanted = ids(directory)
        (directory / "config.json").unlink()
        if family != "camembert":  # its file has the name of XLM-RoBERTa's
            assert ids(directory) == wanted
        assert Tokenizer.load(directory, family)(TEXT)["input_ids"][0].tolist() == wanted
        (directory / files[-1]).unlink()
        refused(directory, " is missing: a checkpoint needs it")


def test_the_class_counts_more_than_the_family(copy_of):
    directory = copy_of("xlm-roberta", {"tokenizer_class": "XLMRobertaTokenizerFast"})
    wanted = ids(directory)
    (directory / "config.json").write_text('{"model_type": "bert"}')
    assert ids(directory) == wanted
    assert transformers.AutoTokenizer.from_pretrained(directory)(TEXT)["input_ids"] == wanted


@pytest.mark.parametrize(
    ("family", "config", "match"),
    [
        ("bert", {"do_lower_case": "yes"}, "do_lower_case is 'yes'; it must be true or false"),
        ("bert", {"strip_accents": 1}, "strip_accents is 1"),
        ("bert", {"tokenizer_class": "RobertaTokenizer"}, "holds vocab.txt, but 'roberta' is read from vocab.json and"),
        (
            "bert",
            {"tokenizer_class": "BertJapaneseTokenizer"},
            "tokenizer_class is 'BertJapaneseTokenizer'.*save token",
        ),
        ("bert", {"tokenizer_class": ["x"]}, r"tokenizer_class is \['x'\]"),
        ("bert", {"cls_token": "<s>"}, r"vocab.txt has no '<s>', the cls_token: it may be cut off"),
        ("bert", {"unk_token": {"content": 3}}, "unk_token is {'content': 3}; it must be a string"),
        ("bert", {"mask_token": {"content": "m", "lstrip": 1}}, "mask_token: lstrip is 1; it must be true or false"),
        ("bert", {"added_tokens_decoder": []}, r"added_tokens_decoder is \[\]; it must be an object"),
        ("bert", {"added_tokens_decoder": {"x": {"content": "y"}}}, "the id of 'y' is 'x'"),
        ("bert", {"added_tokens_decoder": {"5": "[CLS]"}}, r"added_tokens_decoder\['5'\] is '\[CLS\]'"),
        ("bert", {"added_tokens_decoder": {"5": {"content": "[CLS]"}}}, "at id 5, vocab.txt at 101; take all files"),
        ("bert", {"extra_special_tokens": "x"}, "extra_special_tokens is 'x'; it must be a list"),
        ("bert", {"additional_special_tokens": [None]}, "additional_special_tokens holds null"),
        ("roberta", {"bos_token": 5}, "bos_token is 5"),
        ("roberta", {"trim_offsets": "no"}, "trim_offsets is 'no'"),
        ("albert", {"pad_token": "[PAD]"}, r"spiece.model has no '\[PAD\]', the pad_token"),
    ],
)
def test_contradictory_settings(copy_of, family: str, config: dict, match: str):
    refused(copy_of(family, config), match)


def test_two_files_that_name_different_tokens(copy_of):
    directory = copy_of("bert", {"cls_token": "[CLS]"}, special_tokens_map={"cls_token": {"content": "[SEP]"}})
    refused(directory, r"cls_token is '\[CLS\]', special_tokens_map.json says '\[SEP\]'; correct one of them")
    refused(copy_of("bert", added_tokens={"x": "y"}), "added_tokens.json: the id of 'x' is 'y'")


@pytest.mark.parametrize(
    ("family", "name", "content", "match"),
    [
        ("bert", "vocab.txt", b"", r"vocab.txt has no '\[UNK\]', the unk_token"),
        ("bert", "vocab.txt", b"\xff\xfe[\x00", "vocab.txt is not UTF-8 text"),
        ("bert", "vocab.txt", b"version https://git-lfs.github.com/spec/v1\nsize 231508\n", "the unk_token"),
        ("roberta", "vocab.json", b'{"a": 1', "vocab.json is not valid JSON"),
        ("roberta", "vocab.json", b"[" * 100_000, "vocab.json is not valid JSON"),
        ("roberta", "vocab.json", b"[]", "vocab.json holds a list, not an object"),
        ("roberta", "vocab.json", b'{"a": 1, "b": 1}', "'a' and 'b' share the id 1"),
        ("roberta", "vocab.json", b'{"a": -1}', "the id of 'a' is -1"),
        ("roberta", "vocab.json", b'{"a": 1e3}', "the id of 'a' is 1000.0"),
        ("roberta", "vocab.json", b'{"\\ud800": 0}', "."),
        ("roberta", "merges.txt", b"#version: 0.2\na b c\n", "merges.txt, line 2: 'a b c' is no pair"),
        ("roberta", "merges.txt", b"#version: 0.2\n\nq zzz\n", "merges.txt, line 3: 'q zzz' merges into tokens that"),
        (
            "roberta",
            "merges.txt",
            b"",
            "merges.txt has 0 merges: 1,739 of the 2,000 tokens of",
        ),
        ("roberta", "merges.txt", b"PK\x03\x04\x99", "merges.txt is not UTF-8 text"),
        ("albert", "spiece.model", b"", "spiece.model has 0 pieces"),
        ("albert", "spiece.model", b"version https://git-lfs.github.com/spec/v1\n", "spiece.model is no sentencepiece"),
        ("xlm-roberta", "sentencepiece.bpe.model", b"\x80\x04pickle", "is no sentencepiece model"),
    ],
)
def test_damaged_files(copy_of, family: str, name: str, content: bytes, match: str):
    directory = copy_of(family)
    (directory / name).write_bytes(content)
    refused(directory, match)


def test_what_is_no_file_is_not_waited_for(copy_of):
    directory = copy_of("bert")
    (directory / "vocab.txt").unlink()
    os.mkfifo(directory / "vocab.txt")
    refused(directory, "vocab.txt: is a named pipe, not a regular file; copy it from where the checkpoint came from")
    (directory / "vocab.txt").unlink()
    (directory / "vocab.txt").mkdir()
    refused(directory, "vocab.txt: is a directory; copy it from")


@pytest.mark.parametrize("family", FILES)
def test_files_cut_off_anywhere(copy_of, family: str):
    for name in FILES[family]:
        directory = copy_of(family)
        path, rows = directory / name, len(Tokenizer.load(directory)._backend.get_vocab())
        whole = path.read_bytes()
        for part in (0.001, 0.2, 0.5, 0.8, 0.85):
            end = int(len(whole) * part)
            end += whole[end - 1 : end] == b"\n"  # at the end of a line nothing tells it from a smaller vocabulary
            path.write_bytes(whole[:end])
            refused(directory, ".", rows=rows)


@pytest.mark.parametrize("family", ["roberta", "albert", "xlm-roberta", "camembert"])
def test_files_with_flipped_bytes_load_or_get_one_line(copy_of, family: str):
    directory, rng = copy_of(family), random.Random(0)
    path = directory / FILES[family][0]
    whole = path.read_bytes()
    for _ in range(60):
        damaged = bytearray(whole)
        for _ in range(rng.choice([1, 5, 50])):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        path.write_bytes(damaged)
        problem = ""
        try:
            Tokenizer.load(directory)([TEXT, "", "a " * 50], max_length=16, stride=2)
        except InputError as found:
            problem = str(found)
        assert "\n" not in problem


def test_pieces_of_other_models(copy_of):
    lines = [" ".join(speech.text.split()[:100]) for speech in speeches()]
    directory = copy_of("albert")
    (directory / "spiece.model").write_bytes(train_pieces(lines, model_type="bpe"))
    refused(directory, "is a sentencepiece model of kind BPE; it must be unigram")
    (directory / "spiece.model").write_bytes(train_pieces(lines))
    refused(directory, "has no '<pad>', the pad_token: it may be cut off, or of another model|no '")
    for family in ("xlm-roberta", "camembert"):
        other = copy_of(family)
        pieces = train_pieces(lines, unk_id=2, bos_id=0, eos_id=1)
        (other / "sentencepiece.bpe.model").write_bytes(pieces)
        refused(other, "begins with .*fetch it again")


def test_a_vocabulary_that_is_not_the_models(families, copy_of):
    match = "vocab.txt has 30,522 tokens with ids up to 30,521, more than the 30,521 rows.*fetch the one that belongs"
    refused(families["bert"], match, rows=30_521)
    for rows in (30_522, 30_528, 2**20):
        assert Tokenizer.load(families["bert"], rows=rows).vocabulary_size == 30_522
    gap = copy_of("roberta")
    tokens = json.loads((gap / "vocab.json").read_text())
    rows = len(tokens) + 5
    moved = max(tokens, key=tokens.__getitem__)
    (gap / "vocab.json").write_text(json.dumps({**tokens, moved: rows}))
    refused(gap, f"has {len(tokens):,} tokens with ids up to {rows:,}, more than the {rows:,} rows", rows=rows)
    assert Tokenizer.load(gap, rows=rows + 1).token_id(moved) == rows


@pytest.mark.parametrize("family", FILES)
@pytest.mark.parametrize("rows", [8, 64, 10**6])
def test_a_table_may_be_larger_than_the_vocabulary(copy_of, family: str, rows: int):
    directory = copy_of(family)
    wanted = Tokenizer.load(directory)
    room = -(-wanted.vocabulary_size // rows) * rows
    assert Tokenizer.load(directory, rows=room)(TEXT)["input_ids"].tolist() == wanted(TEXT)["input_ids"].tolist()


LETTERS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"ACDEFGHIKLMNPQRSTVWY"]


@pytest.mark.filterwarnings("ignore::gossamer.errors.Remark")
@pytest.mark.parametrize(("rows", "is_noted"), [(25, False), (32, False), (64, False), (152, False), (1000, True)])
@pytest.mark.parametrize("file", ["vocab.txt", "tokenizer.json"])
def test_a_small_vocabulary_in_a_large_table(tmp_path: Path, file: str, rows: int, is_noted: bool):
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    config = transformers.BertConfig(vocab_size=rows, max_position_embeddings=16, **sizes)
    transformers.BertForMaskedLM(config).save_pretrained(tmp_path)
    (tmp_path / "vocab.txt").write_text("\n".join(LETTERS) + "\n")
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    if file == "tokenizer.json":
        Tokenizer.load(tmp_path).save(tmp_path)
        (tmp_path / "vocab.txt").unlink()
    model = gs.load(tmp_path)
    assert model.tokenizer("A C Y x")["input_ids"].tolist() == [[2, 5, 6, 24, 1, 3]]
    said = "the tokenizer has 25 tokens, the model's word table 1,000 rows; if that is not meant, fetch the tokenizer"
    assert [one.startswith(said) for one in model.notes] == [True] * is_noted


def test_a_checkpoint_reads_text_through_its_vocabulary_file(minilm: Path, tmp_path: Path):
    for name in ("config.json", "model.safetensors", "vocab.txt", "tokenizer_config.json"):
        (tmp_path / name).symlink_to(minilm / name)
    ours, wanted = gs.load(tmp_path).tokenizer, gs.load(minilm).tokenizer
    assert ours(TEXT)["input_ids"].tolist() == wanted(TEXT)["input_ids"].tolist()
    (tmp_path / "vocab.txt").unlink()
    (tmp_path / "vocab.txt").write_text("[UNK]\n[SEP]\n[PAD]\n[CLS]")
    with pytest.raises(InputError, match=r"vocab.txt has 4 tokens for the 30,522 rows of the model's word table .*cut"):
        gs.load(tmp_path)


def test_nothing_is_run(copy_of):
    directory = copy_of("bert", {"auto_map": {"AutoTokenizer": ["tokenization_evil.Evil", None]}})
    (directory / "tokenization_evil.py").write_text("raise SystemExit('ran')")
    (directory / "vocab.pkl").write_bytes(b"\x80\x04")
    assert json.loads((directory / "tokenizer_config.json").read_text())["auto_map"]
    assert ids(directory)[0] == 101
