"""A tokenizer from the vocabulary files of its family, for a checkpoint that has no tokenizer.json."""

import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, normalizers

from gossamer.checks import is_whole
from gossamer.errors import InputError
from gossamer.text.layouts import LAYOUTS, Layout
from gossamer.text.tokenizer_files import check_token, loading_errors, read_object, shorten
from gossamer.text.vocabularies import Vocabulary

__all__ = ["assemble", "build_backend", "complete_backend", "has_vocabulary_files", "read_switches"]

_FILES = tuple(dict.fromkeys(name for layout in LAYOUTS.values() for name in layout.files))
_FAMILY_OF_CLASS = {
    "BertTokenizer": "bert",
    "DistilBertTokenizer": "distilbert",
    "ElectraTokenizer": "electra",
    "RobertaTokenizer": "roberta",
    "LongformerTokenizer": "longformer",
    "GPT2Tokenizer": "gpt2",
    "AlbertTokenizer": "albert",
    "DebertaV2Tokenizer": "deberta-v2",
    "XLMRobertaTokenizer": "xlm-roberta",
    "CamembertTokenizer": "camembert",
}
# Classes of transformers that say nothing about the family.
_ANY_FAMILY = (
    *("PreTrainedTokenizer", "PreTrainedTokenizerFast", "TokenizersBackend", "TokenizersBackendFast"),
    *("PythonBackend", "PythonBackendFast"),
)
# What BERT's switches are called in the normalizer of tokenizer.json.
_STEPS = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}
ROLES = tuple(dict.fromkeys(role for layout in LAYOUTS.values() for role in layout.special))
# A file that does not end as it should and fills no more of the word table was not written so.
_LEAST_FILLED = 0.9

Declared = Mapping[str, tuple[int, AddedToken]]
"""Tokens that a config file lists one by one: their ids, and how they are cut out of a text."""


def has_vocabulary_files(directory: Path, model_type: str | None = None) -> bool:
    """Whether any file is there that a tokenizer could be built from.

    model_type: look for that family's own files alone, unless tokenizer_config.json names a class. A model with a
    tokenizer of nobody's but its authors' has other ones, such as the vocab.txt of an ALBERT that reads molecules.
    """
    of_family = model_type in LAYOUTS and "tokenizer_class" not in read_object(directory / "tokenizer_config.json")
    names = LAYOUTS[model_type].files if model_type is not None and of_family else _FILES
    return any(os.path.lexists(directory / name) for name in names)


def build_backend(
    directory: Path, settings: Mapping[str, Any], model_type: str | None = None, rows: int | None = None
) -> tokenizers.Tokenizer:
    """The `tokenizers` object that `transformers` 5 builds from the same files.

    settings: tokenizer_config.json, its gaps filled from special_tokens_map.json. model_type: the family; what
    config.json beside the files says unless given. rows: of the model's word table, which the vocabulary has to fit.
    Raises InputError for a file that is missing or damaged, or that contradicts another one.
    """
    layout = _choose(directory, settings, model_type)
    path = directory / "tokenizer_config.json"
    declared = _declared(directory, settings)
    roles = _roles(directory, layout, settings, declared)
    vocabulary = layout.read(directory, {role: token.content for role, token in roles.items()})
    source = directory / layout.files[0]
    _check_rows(source, vocabulary, rows)
    _check_needed(source, layout, roles, vocabulary.ids.keys() | declared.keys())
    known = [token for token in roles.values() if token.content in vocabulary.ids or token.content in declared]
    tokens = [*_in_order(declared), *known, *_extra(path, settings, vocabulary.symbols)]
    with loading_errors(f"{source} cannot be used", "it may be damaged: fetch it again"):
        backend = assemble(layout, vocabulary, roles, read_switches(path, layout, settings), tokens)
    _check_ids(path, source, backend, declared)
    return backend


def complete_backend(backend: tokenizers.Tokenizer, directory: Path, settings: Mapping[str, Any]) -> None:
    """Do to tokenizer.json's backend what the files beside it say of tokens and letters, as `transformers` does.

    Tokens that only those files list are cut out of a text whole too. Fields such as do_lower_case decide over
    tokenizer.json, unless tokenizer_class says that it alone counts. Raises InputError where ids contradict it.
    """
    path, source = directory / "tokenizer_config.json", directory / "tokenizer.json"
    declared = _declared(directory, settings)
    there = {token.content: token for token in backend.get_added_tokens_decoder().values()}
    named = [_token(path, role, settings[role], special=True) for role in ROLES if settings.get(role) is not None]
    known = [one for one in named if one.content in declared or backend.token_to_id(one.content) is not None]
    new = [one for one in (*known, *_extra(path, settings, ())) if one.content not in there]
    changed = [one for one in _in_order(declared) if repr(there.get(one.content)) != repr(one)]
    with loading_errors(f"{source} cannot be used", "it may be damaged: fetch it again"):
        backend.add_tokens(list({one.content: one for one in (*new, *changed)}.values()))
    _check_ids(path, source, backend, declared)
    normalizer = backend.normalizer
    if isinstance(normalizer, normalizers.BertNormalizer) and not _is_any_family(settings.get("tokenizer_class")):
        for name, value in read_switches(path, LAYOUTS["bert"], settings).items():
            if name in settings:
                setattr(normalizer, _STEPS[name], value)
        backend.normalizer = normalizer


def _in_order(declared: Declared) -> list[AddedToken]:
    return [token for _, token in sorted(declared.values(), key=lambda entry: entry[0])]


def _check_ids(path: Path, source: Path, backend: tokenizers.Tokenizer, declared: Declared) -> None:
    for token, (number, _) in declared.items():
        if backend.token_to_id(token) != number:
            raise InputError(
                f"{path} or added_tokens.json puts {shorten(token)} at id {number}, {source.name} at "
                f"{backend.token_to_id(token)}; take all files from one checkpoint"
            )


def assemble(
    layout: Layout,
    vocabulary: Vocabulary,
    roles: Mapping[str, AddedToken],
    switches: Mapping[str, bool | None],
    tokens: Iterable[AddedToken],
) -> tokenizers.Tokenizer:
    """Vocabulary and steps put together; `tokens` are cut out of a text whole, the first of each name counts."""
    backend = tokenizers.Tokenizer(vocabulary.model)
    layout.prepare(backend, switches, vocabulary.charsmap)
    backend.add_tokens(list({token.content: token for token in reversed(list(tokens))}.values())[::-1])
    names = [roles[role].content for role in layout.frame]
    opens, closes = [(name, backend.token_to_id(name) or 0) for name in names]
    backend.post_processor = layout.close(opens, closes, switches)
    return backend


def read_switches(where: object, layout: Layout, given: Mapping[str, Any]) -> dict[str, bool | None]:
    """The fields that change how text is cut, with the layout's own values for those that are not given."""
    switches = dict(layout.switches)
    for name in switches:
        value = given.get(name)
        if value is not None and not isinstance(value, bool):
            raise InputError(f"{where}: {name} is {shorten(value)}; it must be true or false")
        switches[name] = switches[name] if value is None else value
    return switches


def _choose(directory: Path, settings: Mapping[str, Any], model_type: str | None) -> Layout:
    """The layout that tokenizer_class names, else the family's, else that of the files that are there."""
    config = read_object(directory / "config.json") if model_type is None else {}
    named = settings.get("tokenizer_class") or config.get("tokenizer_class")
    family = model_type or config.get("model_type")
    if isinstance(named, str) and not _is_any_family(named):
        family = _FAMILY_OF_CLASS.get(named.removesuffix("Fast"))
    elif named is not None and not isinstance(named, str):
        family = None
    if family is None and named is None:
        family = next((kind for kind, layout in LAYOUTS.items() if (directory / layout.files[0]).exists()), None)
    if not isinstance(family, str) or family not in LAYOUTS:
        what = f"tokenizer_class is {shorten(named)}" if named is not None else f"model_type is {shorten(family)}"
        raise InputError(
            f"{directory}: {what}, and there is no tokenizer.json: Gossamer builds tokenizers of "
            f"{', '.join(LAYOUTS)}; for others, save tokenizer.json with transformers"
        )
    _check_files(directory, family)
    return LAYOUTS[family]


def _is_any_family(tokenizer_class: object) -> bool:
    return tokenizer_class in _ANY_FAMILY


def _check_files(directory: Path, family: str) -> None:
    wanted = LAYOUTS[family].files
    there = [name for name in _FILES if (directory / name).exists()]
    if there and not set(wanted) & set(there):
        raise InputError(
            f"{directory} holds {' and '.join(there)}, but {family!r} is read from {' and '.join(wanted)}; "
            "fetch that, or correct tokenizer_class in tokenizer_config.json"
        )


def _roles(directory: Path, layout: Layout, settings: Mapping[str, Any], declared: Declared) -> dict[str, AddedToken]:
    """The token of each role; special_tokens_map.json says how it is cut out, unless tokenizer_config.json lists it."""
    path, mapped = directory / "tokenizer_config.json", read_object(directory / "special_tokens_map.json")
    mapped = {} if "added_tokens_decoder" in settings else mapped
    roles = {}
    for role, default in layout.special.items():
        own, other = settings.get(role), mapped.get(role)
        for named_token in (own, other):
            check_token(path, role, named_token)
        if own is not None and other is not None and _content(own) != _content(other):
            raise InputError(
                f"{path}: {role} is {shorten(_content(own))}, special_tokens_map.json says "
                f"{shorten(_content(other))}; correct one of them"
            )
        named = other if isinstance(other, dict) else own if own is not None else default
        token = _token(path, role, named, special=True)
        if isinstance(named, str) and role == "mask_token" and layout.mask_takes_space:
            token = AddedToken(named, lstrip=True, special=True)
        roles[role] = declared[token.content][1] if token.content in declared else token
    special = {token.content for token in roles.values()}
    for content in declared.keys() & special:
        declared[content][1].special = True
    return roles


def _content(token: Any) -> str:
    return token["content"] if isinstance(token, dict) else token


def _token(path: Path, name: str, token: Any, special: bool | None = None) -> AddedToken:
    """A token as config files write it: a string, or an object with its content and how it is cut out of a text."""
    check_token(path, name, token)
    if isinstance(token, str):
        return AddedToken(token, special=True)
    flags = {
        flag: token[flag] for flag in ("single_word", "lstrip", "rstrip", "normalized", "special") if flag in token
    }
    wrong = next((flag for flag, value in flags.items() if not isinstance(value, bool)), None)
    if wrong is not None:
        raise InputError(f"{path}: {name}: {wrong} is {shorten(flags[wrong])}; it must be true or false")
    return AddedToken(token["content"], **{**flags, **({"special": True} if special else {})})


def _declared(directory: Path, settings: Mapping[str, Any]) -> dict[str, tuple[int, AddedToken]]:
    """The tokens of added_tokens_decoder, else those of added_tokens.json, which older checkpoints have."""
    path, listed = directory / "tokenizer_config.json", settings.get("added_tokens_decoder")
    if listed is None:
        older = directory / "added_tokens.json"
        for role in ROLES:
            check_token(path, role, settings.get(role))
        named = {_content(settings[role]) for role in ROLES if settings.get(role) is not None}
        pairs = read_object(older).items()
        ids = {token: _id(older, token, number) for token, number in pairs}
        return {
            token: (i, AddedToken(token, special=token in named, normalized=token not in named))
            for token, i in ids.items()
        }
    if not isinstance(listed, dict):
        raise InputError(f"{path}: added_tokens_decoder is {shorten(listed)}; it must be an object of ids and tokens")
    tokens = {}
    for number, entry in listed.items():
        if not isinstance(entry, dict):
            raise InputError(f"{path}: added_tokens_decoder[{number!r}] is {shorten(entry)}; it must be an object")
        token = _token(path, f"added_tokens_decoder[{number!r}]", entry)
        tokens[token.content] = (_id(path, token.content, int(number) if number.isdecimal() else number), token)
    return tokens


def _id(path: Path, token: str, number: object) -> int:
    if not is_whole(number, 0, 2**31 - 1):
        raise InputError(f"{path}: the id of {shorten(token)} is {shorten(number)}; ids are whole numbers from 0")
    return number


def _extra(path: Path, settings: Mapping[str, Any], symbols: Iterable[tuple[str, bool]]) -> list[AddedToken]:
    """Special tokens without a role: those the config lists, else the symbols of a sentencepiece file."""
    name = "extra_special_tokens" if "extra_special_tokens" in settings else "additional_special_tokens"
    listed = settings.get(name)
    if listed is None:
        return [AddedToken(symbol, normalized=False, special=control) for symbol, control in symbols]
    if isinstance(listed, dict):
        listed = list(listed.values())
    if not isinstance(listed, list):
        raise InputError(f"{path}: {name} is {shorten(listed)}; it must be a list of tokens")
    for token in listed:
        if token is None:
            raise InputError(f"{path}: {name} holds null; it must be a list of tokens")
    return [_token(path, name, token) for token in listed]


def _check_needed(path: Path, layout: Layout, roles: Mapping[str, AddedToken], known: Collection[str]) -> None:
    for role in layout.needed:
        if roles[role].content not in known:
            raise InputError(
                f"{path} has no {roles[role].content!r}, the {role}: it may be cut off, or of another model; fetch it "
                f"again, or name the right {role} in tokenizer_config.json"
            )


def _check_rows(path: Path, vocabulary: Vocabulary, rows: int | None) -> None:
    """Refuse a vocabulary that the model's word table has no rows for, or that was evidently cut off.

    One that is smaller is sound: tables are filled up to a multiple of 8 or 64, or left room to grow.
    """
    if rows is None:
        return
    last = max(vocabulary.ids.values(), default=-1)
    if last >= rows:
        raise InputError(
            f"{path} has {len(vocabulary.ids):,} tokens with ids up to {last:,}, more than the {rows:,} rows of the "
            "model's word table (vocab_size); it is of another model: fetch the one that belongs to these weights"
        )
    if vocabulary.looks_cut and last + 1 < rows * _LEAST_FILLED:
        raise InputError(
            f"{path} has {len(vocabulary.ids):,} tokens for the {rows:,} rows of the model's word table (vocab_size) "
            "and does not end as such a file does: it is cut off; fetch it again, or, if it is a whole text, end its "
            "last line"
        )
