"""Marian's tokenizers: one vocabulary, from which a sentencepiece model of each language cuts its pieces."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, decoders, normalizers, pre_tokenizers, processors

from gossamer.errors import InputError
from gossamer.text.tokenizer_files import loading_errors, shorten
from gossamer.text.vocabularies import read_ids, read_pieces, unigram

__all__ = ["SPECIAL", "TARGET_FILE", "build_languages", "has_languages"]

SPECIAL = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
"""What its files call these tokens, unless tokenizer_config.json does."""
TARGET_FILE = "target_tokenizer.json"
"""Where the second text's is written: files of transformers have no place for it."""
_SOURCE, _TARGET, _WORDS = "source.spm", "target.spm", "vocab.json"
_LOWEST = -1e4
"""Below every way to cut a word into pieces of its own language: the other's are for decoding."""


def has_languages(directory: Path) -> bool:
    """Whether these are files of a sentencepiece model for each language."""
    return os.path.lexists(directory / _SOURCE)


def build_languages(
    directory: Path, settings: Mapping[str, Any], rows: int | None
) -> tuple[tokenizers.Tokenizer, tokenizers.Tokenizer]:
    """The backends of first and second texts, which know all of vocab.json, and cut by source.spm and target.spm.

    As `MarianTokenizer` of `transformers` without sacremoses, where a text is of its language's characters: a piece
    that vocab.json lacks is not cut, where there it becomes unknown. rows: of the model's word table. Raises InputError
    for files that are missing, damaged or contradictory, and for a vocabulary for each language.
    """
    if settings.get("separate_vocabs") or os.path.lexists(directory / "target_vocab.json"):
        raise InputError(
            f"{directory} has a vocabulary for each language (target_vocab.json), and Gossamer reads one for both: to "
            "read the model alone, and give token ids, take vocab.json and the .spm files out of it"
        )
    path = directory / _WORDS
    ids = read_ids(path)
    order = sorted(ids, key=lambda token: ids[token])
    if order and ids[order[-1]] != len(order) - 1:
        raise InputError(f"{path}: ids go up to {ids[order[-1]]}, but there are {len(order)} tokens; fetch it again")
    if rows is not None and len(order) > rows:
        raise InputError(
            f"{path} has {len(order):,} tokens, more than the {rows:,} rows of the model's word table (vocab_size); "
            "fetch the one that belongs to these weights"
        )
    special = {role: settings.get(role) or name for role, name in SPECIAL.items()}
    for role, token in special.items():
        name = token["content"] if isinstance(token, dict) else token
        if name not in ids:
            raise InputError(f"{path} has no {shorten(name)}, the {role}; fetch it again")
        special[role] = name
    return _build(directory / _SOURCE, order, special), _build(directory / _TARGET, order, special)


def _build(path: Path, order: list[str], special: Mapping[str, str]) -> tokenizers.Tokenizer:
    pieces = read_pieces(path)
    own = {piece: score for i, (piece, score) in enumerate(pieces.scores) if i != pieces.unknown}
    scores = [(token, own.get(token, _LOWEST)) for token in order]
    vocabulary = unigram(path, pieces, scores, order.index(special["unk_token"]))
    with loading_errors(f"{path} cannot be used", "it may be damaged: fetch it again"):
        backend = tokenizers.Tokenizer(vocabulary.model)
        if pieces.charsmap:
            backend.normalizer = normalizers.Precompiled(pieces.charsmap)
        marked = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
        backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), marked])
        backend.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
        codes = [token for token in order if token.startswith(">>") and token.endswith("<<")]
        named = dict.fromkeys([*special.values(), *codes])
        backend.add_tokens([AddedToken(name, normalized=False, special=name not in codes) for name in named])
        end = special["eos_token"]
        backend.post_processor = processors.TemplateProcessing(
            single=["$A", end], pair=["$A", "$B", end], special_tokens=[(end, order.index(end))]
        )
    return backend
