"""Only these texts: the tokens that lead to one of some given texts, and none besides."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from gossamer.errors import InputError, plural, quote
from gossamer.generation.inputs import end_ids
from gossamer.generation.joined import joined_ids
from gossamer.generation.rules import Rules
from gossamer.models.model import Model

__all__ = ["Choices", "TokenTrie", "check_choices", "read_choices"]

Choices = Sequence[str] | Sequence[Sequence[int]] | None
"""Texts, or lists of token ids, one of which is written; None: any text is."""

_Node = dict[int, "_Node"]


@dataclass(frozen=True, eq=False)
class TokenTrie:
    """Lists of token ids by their beginnings."""

    root: _Node = field(default_factory=dict)

    @classmethod
    def of(cls, lists: Iterable[Sequence[int]]) -> TokenTrie:
        trie = cls()
        for ids in lists:
            node = trie.root
            for token in ids:
                node = node.setdefault(token, {})
        return trie

    def following(self, ids: Sequence[int]) -> list[int]:
        """The tokens of which one comes next in a list that begins with these ids; [] where none does."""
        node = self.root
        for token in ids:
            node = node.get(token, {})
        return list(node)


def check_choices(choices: Choices, stop_strings: Sequence[str] = ()) -> None:
    """Raise InputError for what is no list of texts or token ids, and for texts within which a text would end."""
    if choices is None:
        return
    if isinstance(choices, str | bytes) or not isinstance(choices, Sequence):
        raise InputError(f"choices is {quote(choices)}; give a list of texts, or of lists of token ids")
    if not choices:
        raise InputError("choices is empty: give at least one text, or None for any text")
    for one in choices:
        is_ids = isinstance(one, Sequence) and all(type(token) is int for token in one)
        if not (isinstance(one, str) or is_ids) or not one:
            raise InputError(f"choices holds {quote(one)}; give texts of one character or more, or lists of token ids")
        within = [text for text in stop_strings if isinstance(one, str) and text in one]
        if within:
            raise InputError(f"choices holds {quote(one)}, in which the text would stop at {quote(within[0])}")


def read_choices(
    model: Model,
    choices: Choices,
    prompt: str | None,
    given: Sequence[int],
    rules: Rules,
    stop_ids: set[int],
    most: int,
) -> TokenTrie | None:
    """The trie of what may be written behind one prompt, each choice with a token that ends it.

    prompt: its text, where it is one; given: its tokens. most: new tokens at most. Behind a prompt a choice has the
    tokens that the joined text has there, or where joining makes one token of both, its own. Raises InputError for a
    choice that could not be written.
    """
    if choices is None:
        return None
    end = next((one for one in end_ids(model) if one in stop_ids), min(stop_ids, default=None))
    if end is None:
        raise InputError("choices need a token that ends a text, and none is known: give one as stop")
    every = []
    for one in choices:
        ids = _ids(model, one, prompt, given)
        ids = ids if ids[-1] in stop_ids else [*ids, end]
        before = 1 if model.architecture.decoder is not None else len(given)
        why = _why_not(ids, rules, stop_ids, most, is_first=before == 1, words=len(model.written_words))
        if why:
            raise InputError(f"choices holds {quote(one)}, {plural(len(ids), 'token')} with its end: {why}")
        every.append(ids)
    return TokenTrie.of(every)


def _ids(model: Model, one: Any, prompt: str | None, given: Sequence[int]) -> list[int]:
    if not isinstance(one, str):
        return list(one)
    tokenizer = model.tokenizer
    if tokenizer is None:
        raise InputError("the model has no tokenizer: give choices as lists of token ids")
    if model.architecture.decoder is not None:
        return list(tokenizer.encode_target(one))
    before, ids = (given, []) if prompt is None else joined_ids(tokenizer, prompt, one, given)
    ids = ids if ids and len(before) == len(given) else tokenizer.encode_plain(one)[0]
    if not ids:
        raise InputError(f"choices holds {quote(one)}, which has no tokens; leave it out")
    return list(ids)


def _why_not(
    ids: Sequence[int], rules: Rules, stop_ids: set[int], most: int, *, is_first: bool, words: int
) -> str | None:
    """Why these tokens could not be written, and what to do."""
    wrong = [one for one in ids if not 0 <= one < words]
    early = [one for one in ids[:-1] if one in stop_ids]
    first = rules.forced_bos_token_id if is_first else None
    begun = ids[:1] if first is None else ids[1:2]
    banned = {*rules.suppress_tokens}.intersection(ids) | {*rules.begin_suppress_tokens}.intersection(begun)
    ends, bad = rules.forced_ends, [run for run in rules.bad_words_ids if _holds(ids, run, stop_ids)]
    if wrong:
        return f"token ids go from 0 to {words - 1}"
    if len(ids) > most:
        return f"at most {most} can be written; give a larger max_new_tokens, or a shorter text"
    if early:
        return f"the text would end at its token {early[0]}; leave that out"
    if banned:
        return f"its token {min(banned)} is suppressed; give rules that allow it"
    if bad:
        return f"its tokens {list(bad[0])} are among bad_words_ids; give rules that allow them"
    if first is not None and ids[0] != first:
        return f"forced_bos_token_id is {first}; give rules without it, or choices that begin with it"
    if ends and len(ids) == most and ids[-1] not in ends:
        return f"forced_eos_token_id is {quote(ends)}, its last token {ids[-1]}; give a larger max_new_tokens"
    if len(ids) <= rules.min_new_tokens:
        return f"min_new_tokens is {rules.min_new_tokens}; give rules with fewer"
    return None


def _holds(ids: Sequence[int], run: Sequence[int], stop_ids: set[int]) -> bool:
    """Whether a run of tokens that may not come stands in these; one that ends texts may."""
    if len(run) == 1 and run[0] in stop_ids:
        return False
    return any(tuple(ids[i : i + len(run)]) == tuple(run) for i in range(len(ids) - len(run) + 1))
