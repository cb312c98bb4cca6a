"""The files of a tokenizer, read with suspicion: tokenizer.json, tokenizer_config.json, special_tokens_map.json."""

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import tokenizers

from gossamer.errors import InputError
from gossamer.regular_files import read_regular
from gossamer.text.panics import is_panic, quiet_panics

__all__ = [
    "SPECIAL_ROLES",
    "TYPES",
    "check_characters",
    "check_token",
    "check_works",
    "input_names",
    "loading_errors",
    "read_backend",
    "read_bytes",
    "read_object",
    "read_settings",
    "read_text",
    "reading_errors",
    "rust_errors",
    "shorten",
    "special_token",
]

# What each role is called in the checkpoints of the field, for a tokenizer.json that comes without its config.
SPECIAL_ROLES: Mapping[str, tuple[str, ...]] = {
    "pad_token": ("[PAD]", "<pad>"),
    "cls_token": ("[CLS]", "<s>"),
    "sep_token": ("[SEP]", "</s>"),
    "mask_token": ("[MASK]", "<mask>"),
    "unk_token": ("[UNK]", "<unk>"),
}
TYPES = "token_type_ids"
# Whose tokenizers feed a model the types of two texts where no file says, as of transformers 5; but ALBERT's, which it
# leaves out: the weights were trained with them.
_CLASSES_WITH_TYPES = (
    *("Bert", "Electra", "MobileBert", "ConvBert", "SqueezeBert", "Lxmert", "LayoutLM", "Deberta", "DebertaV2"),
    *("DPRQuestionEncoder", "DPRContextEncoder", "Albert"),
)
_FAMILIES_WITHOUT_TYPES = ("roberta", "xlm-roberta", "camembert", "longformer", "gpt2")
# transformers writes int(1e30) for "no limit"; nothing near this is a real one.
NO_LIMIT = 10**9


def shorten(value: object, length: int = 60) -> str:
    """`value` as Python would print it, cut to `length` characters: for errors that quote what they refuse."""
    shown = repr(value[: 2 * length] if isinstance(value, str) else value)
    return shown if len(shown) <= length else shown[: length - 3] + "..."


@contextmanager
def rust_errors(what: str, remedy: str) -> Iterator[None]:
    """Turn what `tokenizers` raises, Rust panics included (they are no `Exception`), into one InputError."""
    try:
        yield
    except BaseException as error:
        if not isinstance(error, Exception) and not is_panic(error):
            raise
        reason = " ".join(str(error).split())
        raise InputError(f"{what}: {reason[:200]}; {remedy}") from error


@contextmanager
def reading_errors(what: str, *, may_panic: bool) -> Iterator[None]:
    """`rust_errors` while texts are read; without what Rust prints of a panic where a text may lead to one.

    Where none may, nobody's standard error is held back meanwhile.
    """
    with rust_errors(what, "its tokenizer.json may be damaged"), quiet_panics() if may_panic else nullcontext():
        yield


@contextmanager
def loading_errors(what: str, remedy: str) -> Iterator[None]:
    """`rust_errors` without what Rust prints of a panic, for the moment in which a tokenizer is put together."""
    with rust_errors(what, remedy), quiet_panics():
        yield


def check_works(backend: tokenizers.Tokenizer, source: Path) -> None:
    """Refuse a tokenizer that panics over any text, as one whose closing step names a token that it does not describe.

    Other errors depend on the text: a word that is unknown, and nothing to stand for it.
    """
    # Calls decide over both; to be padded to a number in a file could take all memory.
    backend.no_padding()
    backend.no_truncation()
    with loading_errors(f"{source} cannot be used", "it may be damaged: fetch it again"), suppress(Exception):
        backend.encode("a", "a")


def read_bytes(path: Path, instead: str = "") -> bytes:
    """A whole file. InputError where missing or unreadable, or where it is no file, such as a pipe nobody writes to."""
    try:
        return read_regular(path, "copy it from where the checkpoint came from")
    except FileNotFoundError:
        raise InputError(
            f"{path} is missing: a checkpoint needs it{instead} to read text; copy it from where the checkpoint came "
            "from"
        ) from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); check its permissions") from error


def read_text(path: Path, instead: str = "") -> str:
    """A whole file of UTF-8 text, without the mark that some editors put before it."""
    try:
        return read_bytes(path, instead).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start}); fetch it again") from error


def read_backend(directory: Path, name: str = "tokenizer.json") -> tokenizers.Tokenizer:
    """The `tokenizers` object of `directory`/tokenizer.json; InputError where missing, truncated or invalid."""
    path = directory / name
    text = read_text(path, ", or the vocabulary files of its family,")
    with loading_errors(
        f"{path} is not a valid tokenizer ({len(text):,} characters)", "it may be cut off: fetch it again"
    ):
        return tokenizers.Tokenizer.from_str(text)


def read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file; {} where there is no such file."""
    if not os.path.lexists(path):  # a link that leads nowhere is a file that was lost
        return {}
    try:
        text = read_text(path)
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is not valid JSON ({error}); fetch it again or delete it") from error
    if not isinstance(value, dict):
        raise InputError(f"{path} holds a {type(value).__name__}, not a JSON object; fetch it again or delete it")
    check_characters(path, text, value)
    return value


def check_characters(path: Path, text: str, value: object) -> None:
    """Refuse a JSON file whose escapes make half a surrogate pair: a string that no file or terminal can hold."""
    if "\\ud" in text.lower():
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise InputError(
                f"{path}: holds half a surrogate pair ({error.object[error.start]!a}), which is no character; "
                "correct or delete it"
            ) from None


def read_settings(directory: Path) -> dict[str, Any]:
    """tokenizer_config.json of `directory`, its gaps filled from special_tokens_map.json, all checked; may be {}."""
    path = directory / "tokenizer_config.json"
    settings = read_object(path)
    for name, token in read_object(directory / "special_tokens_map.json").items():
        settings.setdefault(name, token)
    for name in SPECIAL_ROLES:
        check_token(path, name, settings.get(name))
    for name in ("padding_side", "truncation_side"):
        if settings.get(name, "right") not in ("left", "right"):
            raise InputError(f"{path}: {name} is {shorten(settings[name])}; it must be 'left' or 'right'")
    names = settings.get("model_input_names", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"{path}: model_input_names is {shorten(names)}; it must be a list of names")
    settings["model_max_length"] = _limit(path, settings.get("model_max_length"))
    return settings


def input_names(tokenizer_class: object, family: object) -> list[str]:
    """What a model is fed where tokenizer_config.json has no `model_input_names`: by the class, else by the family."""
    if tokenizer_class is None:
        fed = family not in _FAMILIES_WITHOUT_TYPES
    else:
        fed = str(tokenizer_class).removesuffix("Fast").removesuffix("Tokenizer") in _CLASSES_WITH_TYPES
    return ["input_ids", *([TYPES] if fed else []), "attention_mask"]


def check_token(path: Path, name: str, token: object) -> None:
    """Refuse what is neither a token, nor an object that describes one, nor null."""
    valid = isinstance(token.get("content") if isinstance(token, dict) else token, str)
    if token is not None and not valid:
        raise InputError(
            f'{path}: {name} is {shorten(token)}; it must be a string or an object with a string "content"'
        )


def _limit(path: Path, value: object) -> int | None:
    if value is None:
        return None
    number = type(value) is int or (type(value) is float and not math.isnan(value))
    if not number or value < 1 or (value < NO_LIMIT and value != int(value)):  # type: ignore[operator, call-overload]
        raise InputError(
            f"{path}: model_max_length is {shorten(value)}; it must be a whole number of tokens, 1 or more"
        )
    return int(value) if value < NO_LIMIT else None  # type: ignore[operator, call-overload]


def special_token(settings: Mapping[str, Any], backend: tokenizers.Tokenizer, role: str) -> str | None:
    """The token that plays `role` ("pad_token" ...): named in the settings, else by convention, else None."""
    named = settings.get(role)
    if named is not None:
        return named["content"] if isinstance(named, dict) else named
    special = {token.content for token in backend.get_added_tokens_decoder().values() if token.special}
    return next((token for token in SPECIAL_ROLES[role] if token in special), None)
