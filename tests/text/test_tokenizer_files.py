"""Tokenizer files: what is read, what is written for `transformers`, and what damaged ones are told."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
import transformers

from gossamer.errors import InputError
from gossamer.text import Tokenizer

TEXTS = ["Hello, Wörld! 👍🏽 日本 [MASK]", "zero\u200bwidth", "", "b " * 600]


@pytest.fixture
def checkpoint(minilm: Path, tmp_path: Path) -> Path:
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copy(minilm / name, tmp_path / name)
    return tmp_path


def configure(directory: Path, **changes: Any) -> None:
    path = directory / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def save_beside_config(tokenizer: Tokenizer, directory: Path, **config: Any) -> transformers.PreTrainedTokenizerBase:
    directory.mkdir()
    tokenizer.save(directory)
    (directory / "config.json").write_text(json.dumps(config))
    return transformers.AutoTokenizer.from_pretrained(directory)


@pytest.mark.parametrize("model_type", ["bert", "longformer"])
def test_saved_files_give_the_same_ids_in_transformers(minilm: Path, tmp_path: Path, model_type: str):
    ours = Tokenizer.load(minilm).with_max_length(1024)
    theirs = save_beside_config(ours, tmp_path / "saved", model_type=model_type)
    assert (theirs.model_max_length, theirs.pad_token_id, theirs.mask_token_id) == (1024, 0, 103)
    wanted = theirs(TEXTS, padding=True, truncation=True, return_tensors="pt")
    got = ours(TEXTS)
    assert all(torch.equal(got[name], wanted[name]) for name in got)
    again = Tokenizer.load(tmp_path / "saved")
    assert torch.equal(again(TEXTS)["input_ids"], got["input_ids"])
    assert again.max_length == 1024


def test_saving_keeps_the_fields_of_the_original(minilm: Path, checkpoint: Path, tmp_path: Path):
    configure(checkpoint, something_new={"a": [1]})
    saved = tmp_path / "saved"
    save_beside_config(Tokenizer.load(checkpoint), saved, model_type="bert")
    written = json.loads((saved / "tokenizer_config.json").read_text())
    original = json.loads((checkpoint / "tokenizer_config.json").read_text())
    assert written == {**original, "model_input_names": ["input_ids", "token_type_ids", "attention_mask"]}
    vocabulary = json.loads((saved / "tokenizer.json").read_text())
    wanted = json.loads((minilm / "tokenizer.json").read_text())
    assert vocabulary.pop("truncation") is None
    assert vocabulary.pop("padding") is None
    assert vocabulary == {name: value for name, value in wanted.items() if name not in ("truncation", "padding")}


@pytest.mark.parametrize("model_type", ["bert", "longformer"])
def test_tokenizer_json_alone_is_enough(minilm: Path, tmp_path: Path, model_type: str):
    shutil.copy(minilm / "tokenizer.json", tmp_path)
    ours = Tokenizer.load(tmp_path)
    assert (ours.pad_id, ours.cls_id, ours.sep_id, ours.mask_id, ours.unk_id) == (0, 101, 102, 103, 100)
    assert ours.max_length is None
    assert ours(["b " * 600])["input_ids"].shape == (1, 602)
    with pytest.raises(InputError, match="stride=2 needs truncation to a max_length"):
        ours("a", stride=2)
    with pytest.raises(InputError, match="this model sets no limit; give max_length"):
        ours("a", padding="max_length")
    theirs = save_beside_config(ours, tmp_path / "saved", model_type=model_type)
    assert theirs(TEXTS)["input_ids"] == [row[row != 0].tolist() for row in ours(TEXTS)["input_ids"]]
    assert theirs.pad_token == "[PAD]"


def test_special_tokens_map_fills_gaps(checkpoint: Path):
    (checkpoint / "tokenizer_config.json").write_text('{"pad_token": {"content": "[UNK]", "lstrip": false}}')
    (checkpoint / "special_tokens_map.json").write_text('{"pad_token": "[PAD]", "cls_token": {"content": "[SEP]"}}')
    tokenizer = Tokenizer.load(checkpoint)
    assert (tokenizer.pad_id, tokenizer.cls_id, tokenizer.max_length) == (100, 102, None)


@pytest.mark.parametrize(("limit", "expected"), [(int(1e30), None), (1e30, None), (512.0, 512), (None, None), (7, 7)])
def test_limits(checkpoint: Path, limit, expected):
    configure(checkpoint, model_max_length=limit)
    assert Tokenizer.load(checkpoint).max_length == expected


def test_sides_are_those_of_transformers(checkpoint: Path, minilm: Path):
    configure(checkpoint, padding_side="left", truncation_side="left")
    theirs = transformers.AutoTokenizer.from_pretrained(checkpoint, padding_side="left", truncation_side="left")
    texts = ["a b c d e f g", "a b"]
    got = Tokenizer.load(checkpoint)(texts, max_length=5, return_offsets=True)
    options = {"max_length": 5, "truncation": True, "padding": True, "return_offsets_mapping": True}
    wanted = theirs(texts, return_special_tokens_mask=True, return_tensors="pt", **options)
    assert torch.equal(got.pop("offsets"), wanted["offset_mapping"])
    assert all(torch.equal(got[name], wanted[name]) for name in got)
    assert got["input_ids"][1, 0] == 0


def test_without_a_padding_token(tmp_path: Path):
    model = tokenizers.models.WordLevel({"a": 0, "b": 1, "<unk>": 2}, unk_token="<unk>")
    backend = tokenizers.Tokenizer(model)
    backend.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    backend.save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer.load(tmp_path)
    assert (tokenizer.pad_id, tokenizer.special_tokens_count()) == (None, 0)
    assert tokenizer(["a b", "b c"])["input_ids"].tolist() == [[0, 1], [1, 2]]
    assert tokenizer("")["input_ids"].shape == (1, 0)
    with pytest.raises(InputError, match="no padding token"):
        tokenizer(["a", "a b"])


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("tokenizer.json", b"", "is not a valid tokenizer"),
        ("tokenizer.json", b"[]", "is not a valid tokenizer"),
        ("tokenizer.json", b"{}", "Model missing"),
        ("tokenizer.json", b'{"version": "1.0", "model": {"type": "Nope"}}', "is not a valid tokenizer"),
        ("tokenizer.json", b"\x80\x04pickle", "is not UTF-8 text"),
        ("tokenizer_config.json", b"{", "is not valid JSON"),
        ("tokenizer_config.json", b"[" * 100_000, "is not valid JSON"),
        ("tokenizer_config.json", b"[1]", "holds a list, not a JSON object"),
        ("tokenizer_config.json", b'{"model_max_length": "512"}', "model_max_length is '512'"),
        ("tokenizer_config.json", b'{"model_max_length": true}', "model_max_length is True"),
        ("tokenizer_config.json", b'{"model_max_length": NaN}', "model_max_length is nan"),
        ("tokenizer_config.json", b'{"model_max_length": 0}', "model_max_length is 0"),
        ("tokenizer_config.json", b'{"model_max_length": -Infinity}', "model_max_length is -inf"),
        ("tokenizer_config.json", b'{"model_max_length": 1.5}', "model_max_length is 1.5"),
        ("tokenizer_config.json", b'{"pad_token": 0}', "pad_token is 0; it must be a string"),
        ("tokenizer_config.json", b'{"pad_token": {"content": []}}', "pad_token is {'content': "),
        ("tokenizer_config.json", b'{"padding_side": "up"}', "padding_side is 'up'; it must be 'left' or 'right'"),
        ("tokenizer_config.json", b'{"truncation_side": []}', r"truncation_side is \[\]"),
        ("special_tokens_map.json", b'"x"', "holds a str"),
    ],
)
def test_damaged_files_get_one_line_that_names_them(checkpoint: Path, name: str, content: bytes, match: str, capfd):
    (checkpoint / name).write_bytes(content)
    with pytest.raises(InputError, match=match) as caught:
        Tokenizer.load(checkpoint)
    assert str(checkpoint / name if name != "special_tokens_map.json" else checkpoint) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_a_missing_file_and_a_folder_in_its_place(tmp_path: Path):
    with pytest.raises(InputError, match=r"tokenizer\.json is missing: a checkpoint needs it"):
        Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").mkdir()
    with pytest.raises(InputError, match=r"tokenizer\.json: is a directory; copy it from"):
        Tokenizer.load(tmp_path)


def test_a_truncated_vocabulary(checkpoint: Path):
    path = checkpoint / "tokenizer.json"
    whole = path.read_bytes()
    for length in (1, 100, 2000, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"characters\): .*line 1 column .*fetch it again"):
            Tokenizer.load(checkpoint)


def small_tokenizer(minilm: Path) -> dict[str, Any]:
    content = json.loads((minilm / "tokenizer.json").read_text())
    kept = {token["content"] for token in content["added_tokens"]} | set("abcdefghijklmnopqrstuvwxyz")
    vocabulary = content["model"]["vocab"]
    content["model"]["vocab"] = {token: i for token, i in vocabulary.items() if i < 110 or token in kept}
    return content


def paths_of(value: Any, path: tuple = ()) -> list[tuple]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(inner for key, item in items for inner in paths_of(item, (*path, key)))]


def test_mutated_files_load_or_get_one_line(minilm: Path, tmp_path: Path):
    original = small_tokenizer(minilm)
    places = [path for path in paths_of(original) if path and (path[:2] != ("model", "vocab") or len(path) == 2)]
    rng = random.Random(0)
    outcomes = {"loaded": 0, "refused": 0}
    for _ in range(400):
        content = json.loads(json.dumps(original))
        *parents, last = rng.choice(places)
        holder = content
        for key in parents:
            holder = holder[key]
        holder[last] = rng.choice([None, -1, 2**40, 1e30, "", "[PAD]", [], {}, True, [[1]], {"type": "x"}, "\x00"])
        (tmp_path / "tokenizer.json").write_text(json.dumps(content))
        try:
            tokenizer = Tokenizer.load(tmp_path)
            tokenizer(["a b 日", "c"], max_length=8, stride=1)
            outcomes["loaded"] += 1
        except InputError as error:
            outcomes["refused"] += "\n" not in str(error)
    assert sum(outcomes.values()) == 400
    assert min(outcomes.values()) > 20, outcomes


def test_nothing_is_run(checkpoint: Path):
    (checkpoint / "tokenization_evil.py").write_text("raise SystemExit('ran')")
    configure(checkpoint, auto_map={"AutoTokenizer": ["tokenization_evil.Evil", None]})
    assert Tokenizer.load(checkpoint)("a")["input_ids"].tolist() == [[101, 1037, 102]]


ODD = ["newtok [unused1] <e1> Wörld 日本", "a  [MASK] b", "The [unused1]"]
FLAGS = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}


@pytest.mark.parametrize(
    ("config", "added"),
    [
        ({"additional_special_tokens": ["[unused1]", "<e1>"]}, None),
        ({"extra_special_tokens": ["<e1>"]}, None),
        ({}, {"newtok": 30522}),
        ({"added_tokens_decoder": {"30522": {**FLAGS, "content": "newtok", "special": False}}}, None),
        ({"added_tokens_decoder": {"103": {**FLAGS, "content": "[MASK]", "lstrip": True}}}, None),
        ({"do_lower_case": False}, None),
        ({"strip_accents": False}, None),
        ({"tokenize_chinese_chars": False}, None),
        ({"do_lower_case": False, "tokenizer_class": "BertTokenizerFast"}, None),
        ({"do_lower_case": False, "tokenizer_class": "PreTrainedTokenizerFast"}, None),
    ],
)
def test_files_beside_tokenizer_json_count(checkpoint: Path, tmp_path: Path, config: dict, added: dict | None):
    configure(checkpoint, **config)
    if added is not None:
        (checkpoint / "added_tokens.json").write_text(json.dumps(added))
    (checkpoint / "config.json").write_text('{"model_type": "bert"}')
    theirs = transformers.AutoTokenizer.from_pretrained(checkpoint)
    ours = Tokenizer.load(checkpoint)
    again = save_beside_config(ours, tmp_path / "saved", model_type="bert")
    for text in ODD:
        wanted = theirs(text, return_offsets_mapping=True)
        got = ours(text, return_offsets=True)
        assert got["input_ids"][0].tolist() == wanted["input_ids"] == again(text)["input_ids"]
        assert [tuple(one) for one in got["offsets"][0].tolist()] == wanted["offset_mapping"]


def test_a_special_token_that_tokenizer_json_does_not_list(checkpoint: Path):
    path = checkpoint / "tokenizer.json"
    data = json.loads(path.read_text())
    path.write_text(json.dumps({**data, "added_tokens": []}))
    assert Tokenizer.load(checkpoint)("[MASK] x")["input_ids"][0, 1] == 103


def test_an_id_that_contradicts_tokenizer_json_is_refused(checkpoint: Path):
    (checkpoint / "added_tokens.json").write_text('{"newtok": 40000}')
    with pytest.raises(InputError, match=r"puts 'newtok' at id 40000, tokenizer.json at 30522; take all files"):
        Tokenizer.load(checkpoint)


def test_types_that_the_config_leaves_out_are_zero(checkpoint: Path):
    configure(checkpoint, model_input_names=["input_ids", "attention_mask"])
    batch = Tokenizer.load(checkpoint)("a", "b")
    assert batch["token_type_ids"].tolist() == [[0] * 5]
    configure(checkpoint, model_input_names="input_ids")
    with pytest.raises(InputError, match="model_input_names is 'input_ids'; it must be a list of names"):
        Tokenizer.load(checkpoint)


@pytest.mark.parametrize("types", [True, False])
def test_transformers_types_pairs_for_a_model_that_reads_types(minilm: Path, tmp_path: Path, types: bool):
    shutil.copy(minilm / "tokenizer.json", tmp_path)
    Tokenizer.load(tmp_path).save(tmp_path, types=types)
    (tmp_path / "config.json").write_text('{"model_type": "longformer"}')
    batch = transformers.AutoTokenizer.from_pretrained(tmp_path)("a", "b")
    assert batch.get("token_type_ids") == ([0, 0, 0, 1, 1] if types else None)
