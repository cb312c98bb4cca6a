"""Vocabularies as the field keeps them, read with suspicion: vocab.txt, vocab.json with merges.txt, sentencepiece's."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import models

from gossamer.checks import is_whole
from gossamer.errors import InputError
from gossamer.text.tokenizer_files import loading_errors, read_bytes, read_text, shorten

__all__ = ["Vocabulary", "read_byte_pairs", "read_ids", "read_pieces", "read_word_pieces", "unigram"]

# Kinds of piece, and of model, in sentencepiece's own format (its sentencepiece_model.proto).
_UNKNOWN, _CONTROL, _USER_DEFINED = 2, 3, 4
_MODELS = {1: "unigram", 2: "BPE", 3: "word", 4: "char"}
# Vocabularies hold a few tokens that no merge makes: special ones, and "madeupword0000".
_MOST_UNMADE = 0.1


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """A model of `tokenizers`, every token's id, and what a sentencepiece file says besides.

    symbols: pieces that are cut out of a text before all else, and whether they are control symbols. charsmap: the
    compiled table by which sentencepiece normalises a text; empty where there is none. looks_cut: the file does
    not end as such files do.
    """

    model: Any
    ids: Mapping[str, int]
    symbols: tuple[tuple[str, bool], ...] = ()
    charsmap: bytes = b""
    looks_cut: bool = False


def read_word_pieces(directory: Path, special: Mapping[str, str]) -> Vocabulary:
    """vocab.txt: one token a line, its id the line's number from 0. White space at a line's end is no part of it."""
    lines = read_text(directory / "vocab.txt").split("\n")
    is_cut = bool(lines[-1])
    if not is_cut:
        del lines[-1]
    ids = {line.rstrip(): i for i, line in enumerate(lines)}
    model = models.WordPiece(ids, unk_token=special["unk_token"])
    return Vocabulary(model=model, ids=ids, looks_cut=is_cut)


def read_byte_pairs(directory: Path, special: Mapping[str, str]) -> Vocabulary:
    """vocab.json, an object of tokens and their ids, and merges.txt, one pair a line in the order they are merged."""
    path = directory / "vocab.json"
    ids = read_ids(path)
    merges = _read_merges(directory / "merges.txt", ids)
    made = {first + second for first, second in merges} | set(special.values())
    unmade = sum(len(token) > 1 and token not in made for token in ids)
    if unmade > _MOST_UNMADE * len(ids):
        raise InputError(
            f"{directory / 'merges.txt'} has {len(merges):,} merges: {unmade:,} of the {len(ids):,} tokens of "
            "vocab.json can never be made; it may be cut off: fetch it again"
        )
    with loading_errors(f"{path} is no byte-level vocabulary", "fetch it and merges.txt again, from one checkpoint"):
        model = models.BPE(ids, merges, continuing_subword_prefix="", end_of_word_suffix="", fuse_unk=False)
    return Vocabulary(model=model, ids=ids)


def read_ids(path: Path) -> dict[str, int]:
    """The object of tokens and their ids in a vocab.json; InputError for another, and for ids that are shared."""
    try:
        ids = json.loads(read_text(path))
    except (ValueError, RecursionError) as problem:
        if isinstance(problem, InputError):
            raise
        raise InputError(f"{path} is not valid JSON ({problem}); it may be cut off: fetch it again") from problem
    if not isinstance(ids, dict):
        raise InputError(f"{path} holds a {type(ids).__name__}, not an object of tokens and their ids; fetch it again")
    tokens: dict[int, str] = {}
    for token, number in ids.items():
        if not is_whole(number, 0, 2**31 - 1):
            raise InputError(f"{path}: the id of {shorten(token)} is {shorten(number)}; ids are whole numbers from 0")
        if number in tokens:
            raise InputError(
                f"{path}: {shorten(tokens[number])} and {shorten(token)} share the id {number}; fetch it again"
            )
        tokens[number] = token
    return ids


def _read_merges(path: Path, ids: Mapping[str, int]) -> list[tuple[str, str]]:
    merges: list[tuple[str, str]] = []
    for number, line in enumerate(read_text(path).rstrip("\r\n").split("\n"), 1):
        line = line.removesuffix("\r")
        if not line.startswith("#version") and line:
            merges.append(_merge(f"{path}, line {number}", line, ids))
    return merges


def _merge(where: str, line: str, ids: Mapping[str, int]) -> tuple[str, str]:
    parts = line.split(" ")
    if len(parts) != 2 or not all(parts):
        raise InputError(f"{where}: {shorten(line)} is no pair of tokens with one space between them; fetch it again")
    missing = next((token for token in (*parts, "".join(parts)) if token not in ids), None)
    if missing is not None:
        raise InputError(
            f"{where}: {shorten(line)} merges into tokens that vocab.json lacks ({shorten(missing)}); "
            "take both files from one checkpoint"
        )
    return parts[0], parts[1]


@dataclass(frozen=True, kw_only=True)
class Pieces:
    """What is wanted of a sentencepiece file: its pieces with their scores, and what Vocabulary says of the rest."""

    scores: list[tuple[str, float]]
    symbols: tuple[tuple[str, bool], ...]
    charsmap: bytes
    unknown: int
    looks_cut: bool


def read_pieces(path: Path) -> Pieces:
    """A sentencepiece model of kind unigram. InputError for one of another kind, or damaged."""
    # Imported here: protobuf is slow to import, and few checkpoints need it.
    from google.protobuf.message import DecodeError
    from sentencepiece import sentencepiece_model_pb2

    form: Any = sentencepiece_model_pb2
    model, data = form.ModelProto(), read_bytes(path)
    try:
        model.ParseFromString(data)
    except DecodeError as problem:
        raise InputError(
            f"{path} is no sentencepiece model ({len(data):,} bytes); it may be cut off: fetch it again"
        ) from problem
    kind = model.trainer_spec.model_type
    if kind != 1:
        raise InputError(f"{path} is a sentencepiece model of kind {_MODELS.get(kind, kind)}; it must be unigram")
    pieces = [(one.piece, one.score) for one in model.pieces]
    unknown = [i for i, one in enumerate(model.pieces) if one.type == _UNKNOWN]
    wrong = next((i for i, (piece, score) in enumerate(pieces) if not piece or not math.isfinite(score)), None)
    if wrong is not None:
        raise InputError(f"{path}: piece {wrong} is {shorten(pieces[wrong])}; fetch it again")
    if len(unknown) != 1:
        raise InputError(
            f"{path} has {len(pieces):,} pieces, {len(unknown)} of them for what is unknown; it must be one: "
            "fetch it again"
        )
    symbols = tuple((one.piece, one.type == _CONTROL) for one in model.pieces if one.type in (_CONTROL, _USER_DEFINED))
    charsmap = model.normalizer_spec.precompiled_charsmap
    is_cut = not model.HasField("trainer_spec")  # which comes after the pieces
    return Pieces(scores=pieces, symbols=symbols, charsmap=charsmap, unknown=unknown[0], looks_cut=is_cut)


def unigram(path: Path, pieces: Pieces, scores: list[tuple[str, float]], unknown: int) -> Vocabulary:
    """The vocabulary of a family that puts the pieces of a file at ids of its own."""
    ids = {piece: i for i, (piece, _) in enumerate(scores)}
    if len(ids) < len(scores):
        twice = next(piece for i, (piece, _) in enumerate(scores) if ids[piece] != i)
        raise InputError(f"{path}: the piece {shorten(twice)} is there twice; it is not a file of this family")
    with loading_errors(f"{path} is no unigram model", "it may be damaged: fetch it again"):
        model = models.Unigram(scores, unk_id=unknown, byte_fallback=False)
    symbols, charsmap = pieces.symbols, pieces.charsmap
    return Vocabulary(model=model, ids=ids, symbols=symbols, charsmap=charsmap, looks_cut=pieces.looks_cut)
