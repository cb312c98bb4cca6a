"""Rust libraries that panic over a damaged tokenizer: one line of ours, and nothing of theirs on the terminal."""

import base64
import io
import json
import os
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import Tokenizer as Backend
from tokenizers import normalizers
from tokenizers.models import WordLevel

from gossamer.errors import InputError
from gossamer.text import Document, Tokenizer, speeches, train_tokenizer
from gossamer.text.charsmap import has_unsound_charsmap
from gossamer.text.encoding import encode_documents
from gossamer.text.panics import is_panic, quiet_panics


def set_charsmap(data: dict[str, Any], value: object) -> None:
    data["normalizer"] = {"type": "Precompiled", "precompiled_charsmap": value}


def cut_prefix(data: dict[str, Any]) -> None:
    data["model"]["continuing_subword_prefix"] = "###"


def drop_special(data: dict[str, Any]) -> None:
    tokens = [{"SpecialToken": {"id": "[X]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    pair = [*tokens, {"Sequence": {"id": "B", "type_id": 0}}]
    step = {"type": "TemplateProcessing", "single": tokens, "pair": pair, "special_tokens": {}}
    data["post_processor"] = step


def no_length(data: dict[str, Any]) -> None:
    data["pre_tokenizer"] = {"type": "FixedLength", "length": 0}


DAMAGE: dict[str, Callable[[dict[str, Any]], None]] = {
    "charsmap null": lambda data: set_charsmap(data, None),
    "charsmap no base64": lambda data: set_charsmap(data, "!!"),
    "charsmap too short": lambda data: set_charsmap(data, "AAAA"),
    "charsmap that points beyond its end": lambda data: set_charsmap(
        data, base64.b64encode(b"\x10\0\0\0" + bytes(16)).decode()
    ),
    "prefix longer than tokens": cut_prefix,
    "template without its token": drop_special,
    "pieces of no length": no_length,
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer([speeches()[0].text], family="gpt2", vocabulary_size=300).save(directory)
    return directory


@pytest.mark.parametrize("backtrace", ["0", "1"])
@pytest.mark.parametrize("name", DAMAGE)
def test_a_panic_is_one_line(
    sound: Path, tmp_path: Path, name: str, backtrace: str, capfd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUST_BACKTRACE", backtrace)
    data = json.loads((sound / "tokenizer.json").read_text())
    DAMAGE[name](data)
    (tmp_path / "tokenizer.json").write_text(json.dumps(data))
    with pytest.raises(InputError, match="fetch it again") as caught:
        Tokenizer.load(tmp_path)
    assert str(tmp_path / "tokenizer.json") in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_padding_without_end_is_not_carried_out(sound: Path, tmp_path: Path) -> None:
    data = json.loads((sound / "tokenizer.json").read_text())
    data["padding"] = {"strategy": {"Fixed": 2**60}, "direction": "Right", "pad_to_multiple_of": None}
    data["padding"] |= {"pad_id": 0, "pad_type_id": 0, "pad_token": "x"}
    data["truncation"] = {"direction": "Right", "max_length": 0, "strategy": "OnlySecond", "stride": 2**60}
    (tmp_path / "tokenizer.json").write_text(json.dumps(data))
    assert Tokenizer.load(tmp_path)("abc")["input_ids"].shape[1] > 0


def charsmap_of(start: int, offset: int = 0x200) -> str:
    """A table that replaces x alone, by the text that begins at byte `start` of "y" and "é"."""
    units = [0] * 0x400
    units[0] = 0x100 << 10
    units[0x100 ^ ord("x")] = offset << 10 | 1 << 8 | ord("x")
    units[0x100 ^ ord("x") ^ 0x200] = 1 << 31 | start
    array = struct.pack(f"<{len(units)}I", *units)
    return base64.b64encode(struct.pack("<I", len(array)) + array + "y\0é\0".encode()).decode()


def with_charsmap(sound: Path, value: str, target: Path) -> Tokenizer:
    data = json.loads((sound / "tokenizer.json").read_text())
    data["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "Precompiled", "precompiled_charsmap": value}]}
    (target / "tokenizer.json").write_text(json.dumps(data))
    return Tokenizer.load(target)


@pytest.mark.parametrize(
    "charsmap",
    [charsmap_of(9999), charsmap_of(3), charsmap_of(0, offset=0x1000)],
    ids=["beyond the texts", "inside a character", "beyond the array"],
)
def test_a_panic_at_one_character_is_one_line(sound: Path, tmp_path: Path, charsmap: str, capfd: Any) -> None:
    tokenizer = with_charsmap(sound, charsmap, tmp_path)
    assert tokenizer.encode_plain("a z")[0]
    with pytest.raises(InputError, match=r"the tokenizer cannot read this text: .*; its tokenizer.json may be"):
        tokenizer("a x")
    with pytest.raises(InputError, match="the tokenizer cannot read these texts: "):
        list(encode_documents([Document(source="a", parts=["a x"])], tokenizer))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("start", "meant"), [(0, "y"), (2, "é"), (5, "")])
def test_a_sound_charsmap_holds_nobody_up(
    sound: Path, tmp_path: Path, start: int, meant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = with_charsmap(sound, charsmap_of(start), tmp_path)
    monkeypatch.setattr("gossamer.text.tokenizer_files.quiet_panics", None)
    assert tokenizer.encode_plain("axb")[0] == tokenizer.encode_plain(f"a{meant}b")[0]


def panic_beside_a_writer() -> None:
    other = threading.Thread(target=os.write, args=(2, b"another thread\n"))
    other.start()
    other.join()
    data = json.loads(Backend(WordLevel({"a": 0}, unk_token="a")).to_str())
    set_charsmap(data, "AAAA")
    Backend.from_str(json.dumps(data))


def test_what_others_write_meanwhile_is_passed_on(capfd: Any) -> None:
    with pytest.raises(BaseException, match="precompiled_charsmap") as caught, quiet_panics():
        panic_beside_a_writer()
    assert is_panic(caught.value)
    assert capfd.readouterr().err == "another thread\n"


def test_without_a_standard_error_it_loads(sound: Path) -> None:
    code = f"import os; os.close(2); from gossamer.text import Tokenizer; print(Tokenizer.load({str(sound)!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("Tokenizer(vocabulary_size=300")


@pytest.mark.parametrize("rule", ["nmt_nfkc", "nfkc", "nmt_nfkc_cf", "nfkc_cf"])
def test_the_charsmaps_of_sentencepiece_are_sound(rule: str) -> None:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["hello world this is a text"] * 20),
        model_writer=model, vocab_size=16, normalization_rule_name=rule, minloglevel=5,
    )  # fmt: skip
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    described = sentencepiece_model_pb2.ModelProto.FromString(processor.serialized_model_proto())
    charsmap = described.normalizer_spec.precompiled_charsmap
    backend = Backend(WordLevel({"a": 0}, unk_token="a"))
    backend.normalizer = normalizers.Sequence([normalizers.Precompiled(charsmap)])
    assert len(charsmap) > 200_000
    assert not has_unsound_charsmap(backend)
