"""Rust libraries that panic over a damaged tokenizer: one line of ours, and nothing of theirs on the terminal."""

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer as Backend
from tokenizers.models import WordLevel

from gossamer.errors import InputError
from gossamer.text import Tokenizer, speeches, train_tokenizer
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
