"""Text to token ids and back, on Hugging Face's `tokenizers`: the same ids as `transformers`, without it."""

import json
import os
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import torch
from torch import Tensor

from gossamer.errors import InputError, plural, remark
from gossamer.text.charsmap import has_unsound_charsmap
from gossamer.text.control_tokens import without_control_tokens
from gossamer.text.languages import SPECIAL, TARGET_FILE, build_languages, has_languages
from gossamer.text.tokenizer_arguments import (
    Padding,
    Truncation,
    check_choices,
    check_count,
    check_flag,
    check_targets,
    check_tensors,
    check_texts,
    kept_of_pair,
)
from gossamer.text.tokenizer_build import build_backend, complete_backend, has_vocabulary_files
from gossamer.text.tokenizer_files import (
    SPECIAL_ROLES,
    TYPES,
    check_works,
    input_names,
    read_backend,
    read_object,
    read_settings,
    reading_errors,
    rust_errors,
    shorten,
    special_token,
)

__all__ = ["Tokenizer"]

IGNORED = -100
"""A label that counts for nothing, as everywhere in the field."""

# Truncation is state of the backend, which copies made by `with_max_length` share; one call at a time may set it.
# A module's lock, because a lock inside an object could not be pickled to data-loading workers.
_BACKEND_STATE = threading.Lock()


class Tokenizer:
    """Turns texts into tensors of token ids as the checkpoint it was read from was trained; immutable.

    Build one with `Tokenizer.load`. Padding and truncation written into tokenizer.json are ignored: calls decide.
    """

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        settings: dict[str, Any] | None = None,
        target: tokenizers.Tokenizer | None = None,
    ) -> None:
        self._backend = backend
        self._target = target
        self._settings = dict(settings or {})
        self._tokens = {role: special_token(self._settings, backend, role) for role in SPECIAL_ROLES}
        self._padding_left = self._settings.get("padding_side", "right") == "left"
        self._truncation_side = self._settings.get("truncation_side", "right")
        self._told_cut = False
        self._letters: dict[bool, tokenizers.Tokenizer] = {}
        self._has_types = TYPES in self._settings.get("model_input_names", [TYPES])
        self.may_panic = has_unsound_charsmap(backend)
        """Whether the library behind it may panic over some text."""
        backend.no_padding()

    @classmethod
    def load(cls, directory: str | Path, model_type: str | None = None, rows: int | None = None) -> "Tokenizer":
        """Read a checkpoint's tokenizer: tokenizer.json, else built from the vocabulary files of its family.

        Those are vocab.txt (BERT, DistilBERT), vocab.json and merges.txt (RoBERTa, Longformer), spiece.model (ALBERT),
        sentencepiece.bpe.model (XLM-RoBERTa, CamemBERT), or vocab.json, source.spm and target.spm (Marian), put
        together as `transformers` 5 does.
        tokenizer_config.json, special_tokens_map.json and added_tokens.json are read where present. Types of pairs are
        given as `transformers` 5 gives them: where `model_input_names` names them or, without it, where the class of
        the tokenizer, or else of the model, has them. model_type: the family; config.json's unless given. rows: of the
        model's word table, which a built vocabulary has to fit.

        Raises InputError, naming the file and the reason, for one that is missing, truncated, invalid or contradictory.
        """
        directory = Path(directory)
        settings = read_settings(directory)
        if settings.get("model_input_names") is None:
            config = read_object(directory / "config.json")
            named = settings.get("tokenizer_class") or config.get("tokenizer_class")
            settings["model_input_names"] = input_names(named, model_type or config.get("model_type"))
        source = directory / "tokenizer.json"
        target = None
        if not os.path.lexists(source) and has_languages(directory):
            backend, target = build_languages(directory, settings, rows)
            usual = {**SPECIAL, "model_max_length": 512}
            settings |= {name: value for name, value in usual.items() if settings.get(name) is None}
            source = directory
        elif not os.path.lexists(source) and has_vocabulary_files(directory):
            backend = build_backend(directory, settings, model_type, rows)
            source = directory
        else:
            backend = read_backend(directory)
            if os.path.lexists(directory / TARGET_FILE):
                target = read_backend(directory, TARGET_FILE)
            complete_backend(backend, directory, settings)
        check_works(backend, source)
        return cls(backend, settings, target)

    def save(self, directory: str | Path, *, types: bool = True) -> None:
        """Write tokenizer.json and tokenizer_config.json, readable by `transformers.AutoTokenizer` with the same ids.

        The original config's fields are kept, but for code that is not copied (`auto_map`); `model_max_length` is this
        tokenizer's, and `model_input_names` are always written: where they are missing, `transformers` goes by the
        class. types: whether the model tells two texts by their types. OSError passes to the caller.
        """
        settings = {**self._settings, "model_max_length": self.max_length}
        settings.pop("auto_map", None)
        # Without a class transformers goes by the model type, and would read a lengthened BERT as a RoBERTa tokenizer.
        if settings.get("tokenizer_class") is None or self._target is not None:
            settings["tokenizer_class"] = "PreTrainedTokenizerFast"
        names = settings.get("model_input_names", ["input_ids", TYPES, "attention_mask"])
        settings["model_input_names"] = [name for name in names if types or name != TYPES]
        settings.update({role: token for role, token in self._tokens.items() if settings.get(role) is None})
        settings = {name: value for name, value in settings.items() if value is not None or name in self._settings}
        if self.max_length is None:
            settings.pop("model_max_length", None)
        with _BACKEND_STATE:
            self._backend.no_truncation()
            vocabulary = self._backend.to_str(pretty=True)
        directory = Path(directory)
        (directory / "tokenizer.json").write_text(vocabulary, encoding="utf-8")
        if self._target is not None:
            (directory / TARGET_FILE).write_text(self._target.to_str(pretty=True), encoding="utf-8")
        text = json.dumps(settings, indent=2, ensure_ascii=False) + "\n"
        (directory / "tokenizer_config.json").write_text(text, encoding="utf-8")

    def with_max_length(self, n: int) -> "Tokenizer":
        """The same tokenizer for a model that takes `n` tokens; InputError if not even one token of text would fit."""
        check_count("max_length", n, self.special_tokens_count() + 1, "special tokens and one of text")
        return Tokenizer(self._backend, {**self._settings, "model_max_length": n}, self._target)

    @property
    def max_length(self) -> int | None:
        """Tokens the model takes, special tokens included; None where the checkpoint sets no limit."""
        return self._settings.get("model_max_length")

    @property
    def vocabulary_size(self) -> int:
        """Number of tokens, added ones included."""
        return self._backend.get_vocab_size(with_added_tokens=True)

    @property
    def pad_id(self) -> int | None:
        """Id of the padding token, or None."""
        return self._id("pad_token")

    @property
    def cls_id(self) -> int | None:
        """Id of the token that opens a text, or None."""
        return self._id("cls_token")

    @property
    def sep_id(self) -> int | None:
        """Id of the token that closes a text, or None."""
        return self._id("sep_token")

    @property
    def mask_id(self) -> int | None:
        """Id of the token to be filled in, or None."""
        return self._id("mask_token")

    @property
    def unk_id(self) -> int | None:
        """Id of the token that stands for what the vocabulary lacks, or None."""
        return self._id("unk_token")

    @property
    def mask_token(self) -> str | None:
        """How the token to be filled in is written in a text, or None."""
        return self._tokens["mask_token"]

    @property
    def subword_prefix(self) -> str | None:
        """What marks a token as the continuation of a word ("##" in WordPiece), or None where nothing does."""
        return getattr(self._backend.model, "continuing_subword_prefix", None) or None

    def token_id(self, token: str) -> int | None:
        """Id of a token as the vocabulary writes it, or None."""
        return self._backend.token_to_id(token)

    def special_tokens_count(self, pair: bool = False) -> int:
        """How many special tokens a text (or a pair of texts) gets."""
        return self._backend.num_special_tokens_to_add(pair)

    def __repr__(self) -> str:
        return f"Tokenizer(vocabulary_size={self.vocabulary_size}, max_length={self.max_length})"

    def __call__(
        self,
        texts: str | Sequence[str],
        text_pair: str | Sequence[str] | None = None,
        text_target: str | Sequence[str] | None = None,
        padding: Padding = True,
        truncation: Truncation = True,
        max_length: int | None = None,
        stride: int = 0,
        return_offsets: bool = False,
        control_tokens: bool = True,
        return_tensors: str | None = None,
    ) -> dict[str, Tensor]:
        """Texts (and their pairs) to `input_ids`, `attention_mask`, `token_type_ids`, each int64 [rows, length].

        The types are 0 where tokenizer_config.json's `model_input_names` leaves them out.
        padding: True or "longest", "max_length", or False (rows must then be of one length). truncation: True
        ("longest_first"), "only_first", "only_second" or False. max_length: in tokens, special ones included; the
        checkpoint's own limit unless given, and the first time that it cuts a text there is a `gossamer.errors.Remark`
        (tasks read on: `gossamer.task`). stride > 0: what is cut off goes on in further rows that repeat `stride`
        tokens, and `overflow_to_sample` [rows] tells each row's text. return_offsets adds `offsets` [rows, length, 2],
        in characters of the text (special tokens and padding: 0, 0), and `special_tokens_mask`. An empty text is its
        special tokens. control_tokens: False reads the name of a special token in a text ("[SEP]", "<|endoftext|>") as
        letters, which texts of strangers should be; the tokens around a text stay. text_target: the second text of each
        row, for a model of two: `labels` [rows, width] with its special tokens, padded behind with -100, which its loss
        ignores, and cut to the same length. return_tensors: "pt" or None, since tensors are all that there is.

        Raises InputError for no texts, items that are no text, and lengths or strides that cannot be.
        """
        check_flag("control_tokens", control_tokens)
        check_tensors(return_tensors)
        first = check_texts("texts", texts)
        second = None if text_pair is None else check_texts("text_pair", text_pair)
        if second is not None and len(first) != len(second):
            raise InputError(
                f"{plural(len(first), 'text')} but {len(second)} in text_pair; give one pair text for each text"
            )
        targets = None if text_target is None else check_targets(text_target, len(first), stride)
        limit = self.max_length if max_length is None else max_length
        strategy = check_choices(padding, truncation, second is not None)
        self._check_lengths(
            limit if strategy or padding == "max_length" else None, stride, strategy, second is not None
        )
        items: list[Any] = first if second is None else list(zip(first, second, strict=True))
        if second is not None and limit is not None and strategy and (stride or strategy != "longest_first"):
            room = limit - self.special_tokens_count(pair=True)
            self._check_pairs(first, second, room, strategy, stride, control_tokens)
        backend = self.backend(control_tokens)
        encodings = self._encode(backend, items, limit if strategy else None, stride, strategy or "longest_first")
        self._tell_cut(encodings if max_length is None and not stride else [], second is not None)
        rows = [(i, row) for i, encoding in enumerate(encodings) for row in (encoding, *_overflow(encoding, stride))]
        batch = self._tensors([row for _, row in rows], self._width(rows, padding, limit), return_offsets)
        if targets is not None:
            longest = limit if strategy else None
            written = self._encode(self.backend(control_tokens, True), targets, longest, 0, "longest_first")
            self._tell_cut(written if max_length is None else [], False, "text_target")
            batch["labels"] = _labels(written, limit, padding)
        if stride > 0:
            batch["overflow_to_sample"] = torch.tensor([i for i, _ in rows], dtype=torch.int64)
        return batch

    def encode_plain(self, text: str, control_tokens: bool = True) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids and character offsets of one text of any length, without special tokens and never truncated.

        control_tokens: False reads the name of a special token in the text as letters.
        """
        check_flag("control_tokens", control_tokens)
        backend = self.backend(control_tokens)
        (encoding,) = self._encode(backend, check_texts("text", text), None, 0, "longest_first", special=False)
        return encoding.ids, encoding.offsets

    def encode_target(self, text: str, max_length: int | None = None, control_tokens: bool = True) -> list[int]:
        """Ids of one second text with its special tokens, cut to `max_length` where that is given."""
        if max_length is not None:
            check_count("max_length", max_length, self.special_tokens_count() + 1, "special tokens and one of text")
        backend = self.backend(control_tokens, of_target=True)
        (encoding,) = self._encode(backend, check_texts("text_target", text), max_length, 0, "longest_first")
        return list(encoding.ids)

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """Ids as the vocabulary writes them; "" for those that it does not have."""
        return [self._backend.id_to_token(number) or "" for number in ids]

    def is_special(self, number: int) -> bool:
        """Whether an id is of a special token, such as [SEP], or of none that the vocabulary has."""
        token = self._backend.get_added_tokens_decoder().get(number)
        return self._backend.id_to_token(number) is None if token is None else bool(token.special)

    def decode(self, ids: Iterable[int] | Tensor | np.ndarray, skip_special: bool = True) -> str:
        """The text of one row of ids; InputError for ids that the vocabulary does not have."""
        values = ids.tolist() if isinstance(ids, (Tensor, np.ndarray)) else list(ids)
        for value in values:
            self.token(value)
        return self._backend.decode(values, skip_special_tokens=skip_special)

    def token(self, number: int) -> str:
        """The token of an id, as the vocabulary spells it; InputError for an id that it does not have."""
        known = isinstance(number, int) and 0 <= number < 2**32
        token = self._backend.id_to_token(number) if known else None
        if token is None:
            raise InputError(f"token id {shorten(number)} is not in the vocabulary of {self.vocabulary_size:,} tokens")
        return token

    def _id(self, role: str) -> int | None:
        token = self._tokens[role]
        return None if token is None else self._backend.token_to_id(token)

    def backend(self, control_tokens: bool = True, of_target: bool = False) -> tokenizers.Tokenizer:
        """What does the work, for texts in which control tokens count or are letters; of_target: for second texts."""
        backend = self._target if of_target and self._target is not None else self._backend
        if control_tokens:
            return backend
        if of_target not in self._letters:
            with _BACKEND_STATE, rust_errors("control_tokens is False", "this tokenizer cannot do without them"):
                self._letters[of_target] = without_control_tokens(backend)
        return self._letters[of_target]

    def _encode(
        self,
        backend: tokenizers.Tokenizer,
        items: list[Any],
        limit: int | None,
        stride: int,
        strategy: str,
        special: bool = True,
    ) -> list[tokenizers.Encoding]:
        with _BACKEND_STATE, reading_errors("the tokenizer cannot read this text", may_panic=self.may_panic):
            if limit is None:
                backend.no_truncation()
            else:
                side = self._truncation_side
                backend.enable_truncation(limit, stride=stride, strategy=strategy, direction=side)
            return backend.encode_batch(items, add_special_tokens=special)

    def _tell_cut(self, encodings: list[tokenizers.Encoding], pair: bool, what: str = "text") -> None:
        """Remark, once for each tokenizer, that nobody asked for a text to be cut."""
        if self._told_cut:
            return
        i = next((i for i, encoding in enumerate(encodings) if encoding.overflowing), None)
        if i is None:
            return
        self._told_cut = True
        special = self.special_tokens_count(pair)
        rest = sum(len(encoding) - special for encoding in encodings[i].overflowing)
        said = (
            f"text {i} and its pair were" if pair else f"{what} {i} of {plural(len(encodings[i]) + rest, 'token')} was"
        )
        remark(
            f"{said} cut to {self.max_length}, the tokenizer's max_length; give max_length or truncation to have it "
            "otherwise, stride to go on in further rows; tasks read all of a text (told once for each tokenizer)",
        )

    def _check_lengths(self, limit: int | None, stride: int, strategy: str | None, pair: bool) -> None:
        special = self.special_tokens_count(pair)
        if limit is not None:
            check_count("max_length", limit, special + 1, f"{special} special tokens and one of text")
        check_count("stride", stride, 0, "no overlap")
        if stride and (limit is None or not strategy):
            raise InputError(f"stride={stride} needs truncation to a max_length; give one, or stride=0")
        if stride and limit is not None and stride >= limit - special:
            raise InputError(
                f"stride={stride} leaves no new tokens in a row of max_length={limit} with {special} special tokens; "
                f"it must be below {limit - special}"
            )

    def _check_pairs(
        self, first: list[str], second: list[str], room: int, strategy: str, stride: int, control_tokens: bool
    ) -> None:
        backend = self.backend(control_tokens)
        plain = self._encode(backend, first + second, None, 0, "longest_first", special=False)
        for i, (a, b) in enumerate(zip(plain, plain[len(first) :], strict=False)):
            lengths = kept_of_pair(len(a), len(b), room, strategy)
            cut = [length for length, whole in zip(lengths, (len(a), len(b)), strict=True) if length < whole]
            if any(length <= stride and not (length == 0 and strategy == "longest_first") for length in cut):
                raise InputError(
                    f"pair {i} ({len(a)} and {plural(len(b), 'token')}) cannot be cut to {plural(room, 'token')} by "
                    f"{strategy!r} with stride={stride}: {max(0, min(cut))} would be left; give a larger max_length or "
                    "a smaller stride"
                )

    def _width(self, rows: list[tuple[int, tokenizers.Encoding]], padding: Padding, limit: int | None) -> int:
        lengths = [len(row) for _, row in rows]
        if padding == "max_length":
            if limit is None:
                raise InputError("padding='max_length' but this model sets no limit; give max_length, or padding=True")
            if max(lengths) > limit:
                sample = rows[lengths.index(max(lengths))][0]
                raise InputError(
                    f"text {sample} has {max(lengths)} tokens, padding='max_length' allows {limit}; truncate it, "
                    "or give a larger max_length"
                )
            return limit
        if padding is False and len(set(lengths)) > 1:
            raise InputError(f"padding=False but rows have {min(lengths)} to {max(lengths)} tokens; use padding=True")
        if len(set(lengths)) > 1 and self.pad_id is None:
            raise InputError("this tokenizer has no padding token; give one text at a time, or texts of one length")
        return max(lengths)

    def _tensors(self, rows: list[tokenizers.Encoding], width: int, offsets: bool) -> dict[str, Tensor]:
        def column(name: str, fill: int, shape: tuple[int, ...] = ()) -> Tensor:
            table = np.full((len(rows), width, *shape), fill, dtype=np.int64)
            for i, row in enumerate(rows):
                start = width - len(row) if self._padding_left else 0
                if len(row):
                    table[i, start : start + len(row)] = getattr(row, name)
            return torch.from_numpy(table)

        batch = {
            "input_ids": column("ids", self.pad_id or 0),
            "attention_mask": column("attention_mask", 0),
            "token_type_ids": column("type_ids", 0),
        }
        if not self._has_types:
            batch["token_type_ids"].zero_()
        if offsets:
            batch["offsets"] = column("offsets", 0, (2,))
            batch["special_tokens_mask"] = column("special_tokens_mask", 1)
        return batch


def _overflow(encoding: tokenizers.Encoding, stride: int) -> list[tokenizers.Encoding]:
    return encoding.overflowing if stride else []


def _labels(rows: list[tokenizers.Encoding], limit: int | None, padding: Padding) -> Tensor:
    """The ids of second texts, -100 behind them; as wide as the longest of them, or as texts are padded to."""
    width = max(len(row) for row in rows)
    if padding is False and any(len(row) < width for row in rows):
        raise InputError(f"padding=False but text_target has rows of {width} tokens and shorter ones; use padding=True")
    least = limit if padding == "max_length" and limit is not None else 0
    table = torch.full((len(rows), max(width, least)), IGNORED)
    for i, row in enumerate(rows):
        table[i, : len(row)] = torch.tensor(row.ids, dtype=torch.int64)
    return table
