"""A tokenizer that tokens are left out of: its vocabulary, and all else of it that knows ids."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import tokenizers

from gossamer.errors import InputError, quote
from gossamer.text.byte_tokenizer import is_byte_tokenizer
from gossamer.text.encoding import end_of_documents
from gossamer.text.tokenizer import _BACKEND_STATE, Tokenizer
from gossamer.text.tokenizer_files import loading_errors
from gossamer.text.trimming.byte_pairs import BytePairVocabulary
from gossamer.text.trimming.pieces import UnigramVocabulary
from gossamer.text.trimming.vocabulary import TrimmableVocabulary
from gossamer.text.trimming.word_pieces import WordPieceVocabulary

__all__ = ["TrimmableTokenizer", "Trimmed"]

_KINDS = ("WordPiece", "BPE", "Unigram")


@dataclass(frozen=True, kw_only=True)
class Trimmed:
    """A tokenizer with fewer tokens, and the ids that these had, in the order of their new ones."""

    tokenizer: Tokenizer
    old_ids: list[int]


class TrimmableTokenizer:
    """What of a tokenizer may be left out, and what is left then. Raises InputError for one that cannot be trimmed."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        if is_byte_tokenizer(tokenizer):
            raise InputError(
                f"the model's tokenizer reads bytes: its {tokenizer.vocabulary_size} tokens are all needed, and there "
                "is nothing to trim"
            )
        self._tokenizer = tokenizer
        with _BACKEND_STATE:
            tokenizer._backend.no_truncation()
            self._data: dict[str, Any] = json.loads(tokenizer._backend.to_str())
        self.ids: dict[str, int] = tokenizer._backend.get_vocab(with_added_tokens=True)
        """Every token's id, added ones included."""
        self._tokens = {number: token for token, number in self.ids.items()}
        self._vocabulary = _open(self._data)

    @property
    def kind(self) -> str:
        """How texts are cut: WordPiece, BPE or Unigram."""
        return self._vocabulary.kind

    @property
    def merges(self) -> int | None:
        """How many merges there are; None where there are no such things."""
        merges = self._data["model"].get("merges")
        return None if merges is None else len(merges)

    @cached_property
    def pinned(self) -> set[int]:
        """Ids that stay: added and special tokens, those around texts, what unknown text becomes, bytes."""
        around: set[int] = set()
        _renumber(self._data["post_processor"], lambda number: _noted(number, around))
        names = {token["content"] for token in self._data["added_tokens"]} | set(_named(self._tokenizer._settings))
        named = {name for name in names | self._vocabulary.pinned if name is not None} & self.ids.keys()
        end = end_of_documents(self._tokenizer)
        ends = set() if end is None else {end}
        return (around & self._tokens.keys()) | {self.ids[name] for name in named} | ends

    @cached_property
    def characters(self) -> set[int]:
        """Ids of single characters, with which every text that can be spelled is spelled; none where bytes do."""
        return self._numbers(self._vocabulary.characters)

    def characters_of(self, ids: Iterable[int]) -> set[int]:
        """Those of `characters` that these tokens are made of."""
        return self._numbers(self._vocabulary.characters_of(self._tokens[number] for number in ids))

    def with_needed(self, ids: Iterable[int], known: Collection[int] = ()) -> set[int]:
        """The ids and what they need, each with all that it needs itself; `known` are taken to be there with theirs."""
        out: set[int] = set()
        waiting = [number for number in ids if number not in known]
        while waiting:
            number = waiting.pop()
            if number not in out:
                out.add(number)
                needed = self._numbers(self._vocabulary.needed(self._tokens[number]))
                waiting.extend(one for one in needed if one not in known)
        return out

    def trimmed(self, ids: Collection[int]) -> Trimmed:
        """The tokenizer of these tokens, which must hold `pinned` and all that is needed; numbered anew from 0.

        Tokens of the vocabulary come first and added ones behind them, as the library behind it numbers them, each in
        their old order.
        """
        kept = sorted(set(ids), key=lambda number: (self._tokens[number] not in self._vocabulary.ids, number))
        new = {number: i for i, number in enumerate(kept)}
        tokens = {self._tokens[number]: i for number, i in new.items() if self._tokens[number] in self._vocabulary.ids}
        added = [{**token, "id": new[self.ids[token["content"]]]} for token in self._data["added_tokens"]]
        data = {
            **self._data,
            "model": self._vocabulary.trimmed(tokens),
            "added_tokens": sorted(added, key=lambda token: token["id"]),
            "post_processor": _renumber(self._data["post_processor"], lambda number: new.get(number, 0)),
        }
        with loading_errors("the trimmed tokenizer cannot be built", "please report it"):
            backend = tokenizers.Tokenizer.from_str(json.dumps(data))
        backend.encode_special_tokens = self._tokenizer._backend.encode_special_tokens
        return Trimmed(tokenizer=Tokenizer(backend, _settings(self._tokenizer._settings, new)), old_ids=kept)

    def _numbers(self, tokens: Iterable[str]) -> set[int]:
        return {self.ids[token] for token in tokens}


def _open(data: dict[str, Any]) -> TrimmableVocabulary:
    model = data["model"]
    kind = model.get("type")
    if kind not in _KINDS:
        raise InputError(f"the model's tokenizer is of the kind {quote(kind)}; trimmed are {', '.join(_KINDS)}")
    if kind == "Unigram":
        pieces = [piece for piece, _ in model["vocab"]]
        ids = {piece: i for i, piece in enumerate(pieces)}
        if len(ids) < len(pieces):
            twice = next(piece for i, piece in enumerate(pieces) if ids[piece] != i)
            raise InputError(f"the model's tokenizer has the piece {quote(twice)} twice, and cannot be trimmed")
        return UnigramVocabulary(model, ids)
    if kind == "WordPiece":
        return WordPieceVocabulary(model, model["vocab"])
    for name in ("continuing_subword_prefix", "end_of_word_suffix", "dropout"):
        if model.get(name):
            raise InputError(f"the model's tokenizer is of the kind BPE with {name} {quote(model[name])}: not trimmed")
    return BytePairVocabulary(model, model["vocab"], of_bytes=_has_step(data, "ByteLevel"))


def _has_step(data: dict[str, Any], kind: str) -> bool:
    """Whether text goes through a step of this kind before it comes to the vocabulary."""

    def steps(step: dict[str, Any] | None) -> Iterator[str]:
        if step is not None:
            yield step["type"]
            for inner in (*step.get("pretokenizers", ()), *step.get("normalizers", ())):
                yield from steps(inner)

    return kind in {*steps(data["normalizer"]), *steps(data["pre_tokenizer"])}


def _renumber(step: dict[str, Any] | None, new_id: Callable[[int], int]) -> dict[str, Any] | None:
    """What puts special tokens around a text, with other ids for them."""
    if step is None:
        return None
    if step["type"] == "Sequence":
        return {**step, "processors": [_renumber(inner, new_id) for inner in step["processors"]]}
    if step["type"] == "TemplateProcessing":
        special = {
            name: {**token, "ids": [new_id(number) for number in token["ids"]]}
            for name, token in step["special_tokens"].items()
        }
        return {**step, "special_tokens": special}
    frame: dict[str, Any] = {name: [step[name][0], new_id(step[name][1])] for name in ("sep", "cls") if name in step}
    return {**step, **frame}


def _noted(number: int, numbers: set[int]) -> int:
    numbers.add(number)
    return number


def _named(settings: dict[str, Any]) -> Iterator[str]:
    """The tokens that tokenizer_config.json names: one a role, and lists of others."""
    for name, value in settings.items():
        if name.endswith("_token"):
            yield from _contents([value])
        elif name in ("additional_special_tokens", "extra_special_tokens"):
            yield from _contents(value.values() if isinstance(value, dict) else value or ())


def _contents(tokens: Iterable[Any]) -> Iterator[str]:
    for token in tokens:
        content = token.get("content") if isinstance(token, dict) else token
        if isinstance(content, str):
            yield content


def _settings(settings: dict[str, Any], new: dict[int, int]) -> dict[str, Any]:
    """tokenizer_config.json's fields, its list of tokens by their new ids."""
    listed = settings.get("added_tokens_decoder")
    if not isinstance(listed, dict):
        return settings
    renumbered = {str(new[int(number)]): token for number, token in listed.items()}
    return {**settings, "added_tokens_decoder": renumbered}
