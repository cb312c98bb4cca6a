"""What a tokenizer may be asked for: texts, padding, truncation and lengths, checked before any work is done."""

from collections.abc import Sequence
from typing import Literal

from gossamer.checks import is_whole
from gossamer.errors import InputError, plural
from gossamer.text.tokenizer_files import shorten

__all__ = [
    "Padding",
    "Truncation",
    "check_choices",
    "check_count",
    "check_flag",
    "check_targets",
    "check_tensors",
    "check_texts",
    "kept_of_pair",
]

Padding = bool | Literal["longest", "max_length"]
Truncation = bool | Literal["longest_first", "only_first", "only_second"]


def kept_of_pair(first: int, second: int, room: int, strategy: str) -> tuple[int, int]:
    """How many tokens of each text of a pair `tokenizers` keeps (its utils/truncation.rs)."""
    excess = first + second - room
    if excess <= 0:
        return first, second
    if strategy != "longest_first":
        return (first - excess, second) if strategy == "only_first" else (first, second - excess)
    short, long = sorted((first, second))
    long = short if short > room else max(short, room - short)
    if short + long > room:
        short, long = room // 2, room - room // 2
    return (long, short) if first > second else (short, long)


def check_texts(name: str, texts: str | Sequence[str]) -> list[str]:
    items = [texts] if isinstance(texts, str) else texts
    if not isinstance(items, (list, tuple)):
        raise InputError(f"{name} is {shorten(texts)}; give one string or a list of strings")
    if not items:
        raise InputError(f"{name} is empty; give at least one text ('' is allowed)")
    for i, item in enumerate(items):
        if not isinstance(item, str):
            raise InputError(f"{name}[{i}] is {shorten(item)}, a {type(item).__name__}; every text must be a string")
        try:
            item.encode("utf-8")
        except UnicodeEncodeError as error:
            bad = shorten(item[error.start : error.start + 8])
            raise InputError(
                f"{name}[{i}] holds half a surrogate pair at character {error.start} ({bad}); "
                "read the text with errors='replace'"
            ) from error
    return list(items)


def check_choices(padding: Padding, truncation: Truncation, pair: bool) -> str | None:
    if not (isinstance(padding, bool) or padding in ("longest", "max_length")):
        raise InputError(f"padding is {shorten(padding)}; it must be True, False, 'longest' or 'max_length'")
    if isinstance(truncation, bool):
        return "longest_first" if truncation else None
    if truncation not in ("longest_first", "only_first", "only_second"):
        raise InputError(
            f"truncation is {shorten(truncation)}; "
            "it must be True, False, 'longest_first', 'only_first' or 'only_second'"
        )
    if truncation == "only_second" and not pair:
        raise InputError("truncation='only_second' needs text_pair; give it, or use truncation=True")
    return truncation


def check_count(name: str, value: object, least: int, why: str) -> None:
    if not is_whole(value, least):
        raise InputError(f"{name} is {shorten(value)}; it must be a whole number of at least {least} ({why})")


def check_flag(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise InputError(f"{name} is {shorten(value)}; it must be True or False")


def check_targets(texts: str | Sequence[str], count: int, stride: int) -> list[str]:
    """The second texts of so many texts. InputError for another number, and where a text goes on in further rows."""
    targets = check_texts("text_target", texts)
    if len(targets) != count:
        raise InputError(f"{plural(count, 'text')} but {len(targets)} in text_target; give one for each text")
    if stride:
        raise InputError(f"stride is {shorten(stride)} beside text_target, which is of whole texts; leave one out")
    return targets


def check_tensors(kind: object) -> None:
    """What `transformers` users name out of habit: torch's tensors are always given."""
    if kind is not None and kind != "pt":
        arrays = ": for numpy arrays call .numpy() on them" if kind == "np" else ""
        raise InputError(f"return_tensors is {shorten(kind)}; a batch is always torch tensors, 'pt' or None{arrays}")
