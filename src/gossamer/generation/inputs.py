"""What `generate` is given, in one form: prompts as token ids, what ends a text, a seed for each prompt."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Any

import torch
from torch import Tensor

from gossamer.errors import InputError, ItemError, plural, quote
from gossamer.models.inputs import as_mask
from gossamer.models.model import Model
from gossamer.models.tensors import describe
from gossamer.text.encoding import end_of_documents

__all__ = [
    "Prompts",
    "Stops",
    "check_flag",
    "check_prompt",
    "check_stream",
    "end_ids",
    "is_one_prompt",
    "prompt_texts",
    "read_prompts",
    "read_seeds",
    "read_stops",
]

Prompts = str | Sequence[str] | Sequence[int] | Sequence[Sequence[int]] | Tensor
Stops = int | str | Sequence[int | str] | Set[int | str] | None

LARGEST_SEED = 2**63 - 1


def end_ids(model: Model) -> list[int]:
    """The tokens that end texts: those of generation_config.json, else of config.json, the tokenizer, the family."""
    named = model.generation_config.get("eos_token_id")
    if named is None:
        named = model.extra_config.get("eos_token_id")
    if named is None and model.tokenizer is not None:
        named = end_of_documents(model.tokenizer)
    if named is None:
        named = model.usual_end_id
    found = named if isinstance(named, list) else [named]
    rows = len(model.written_words)
    return [one for one in found if type(one) is int and 0 <= one < rows]


def read_prompts(model: Model, prompts: object, attention_mask: object) -> list[list[int]]:
    """The token ids of each prompt, padding left out.

    Raises InputError for no prompts, empty ones, ids that the model does not have, what is longer than it reads and
    what is shorter than its prefix.
    """
    if attention_mask is not None and not isinstance(prompts, Tensor):
        raise InputError("attention_mask is for a tensor of prompts; lists may have any lengths, so leave it out")
    read = _of_tensor(prompts, attention_mask) if isinstance(prompts, Tensor) else _of_lists(model, prompts)
    if not read:
        raise InputError("there are no prompts: give at least one")
    for i, ids in enumerate(read):
        check_prompt(model, i, ids)
    return read


def is_one_prompt(prompts: object) -> bool:
    """Whether these are one prompt that stands in no list: a text, a list of token ids, or a tensor of them."""
    if isinstance(prompts, Tensor):
        return prompts.dim() == 1
    return isinstance(prompts, str) or (_all(prompts, int) and prompts != [])


def prompt_texts(prompts: Any) -> list[str | None]:
    """For each prompt its text; None where it is token ids."""
    listed = [prompts] if is_one_prompt(prompts) else prompts
    return [one if isinstance(one, str) else None for one in listed]


def read_stops(model: Model, stop: object, ignore_end: object) -> tuple[set[int], list[str]]:
    """The ids and the strings that end a text, these the file's unless given. InputError for what can be neither."""
    check_flag("ignore_end", ignore_end)
    if stop is None and not ignore_end:
        stop = _of_file(model)
    if stop is not None and not isinstance(stop, int | str | list | tuple | Set):
        raise InputError(f"stop is {quote(stop)}; give token ids and strings, one or a list of them, or None")
    listed: list[Any] = [] if stop is None else [stop] if isinstance(stop, int | str) else list(stop)
    rows = len(model.written_words)
    for one in listed:
        if type(one) is int and not 0 <= one < rows:
            raise InputError(f"stop holds {one}; token ids go from 0 to {rows - 1}")
        if type(one) is not int and not (isinstance(one, str) and one):
            raise InputError(f"stop holds {quote(one)}; give token ids and strings of one character or more")
    strings = [one for one in listed if isinstance(one, str)]
    if strings and model.tokenizer is None:
        raise InputError(f"stop holds the string {quote(strings[0])}, but the model has no tokenizer; give token ids")
    ids = {one for one in listed if type(one) is int}
    return ids if ignore_end else ids | set(end_ids(model)), strings


def _of_file(model: Model) -> object:
    """What generation_config.json names as `stop_strings`."""
    named = model.generation_config.get("stop_strings")
    strings = [named] if isinstance(named, str) else named
    if strings is not None and not (isinstance(strings, list) and all(isinstance(one, str) and one for one in strings)):
        raise InputError(
            f"generation_config.json: stop_strings is {quote(named)}; it must be a text or a list of them; correct it, "
            "or give stop in the call"
        )
    return strings if model.tokenizer is not None else None


def check_flag(name: str, value: object) -> None:
    """Raise InputError for what is neither True nor False."""
    if not isinstance(value, bool):
        raise InputError(f"{name} is {quote(value)}; it must be True or False")


def check_stream(stream: object) -> None:
    """Raise InputError for what cannot be called with pieces."""
    if stream is not None and stream is not True and not callable(stream):
        raise InputError(f"stream is {quote(stream)}; it must be a function of one Piece, True, or None")


def read_seeds(seed: object, count: int) -> list[int]:
    """A seed for each prompt. Raises InputError for numbers that a generator does not take, or not one a prompt.

    None draws the first; the others follow it, so that one number told is enough to have all texts again.
    """
    if seed is None:
        seed = int(torch.randint(2**31 - 1, ()))
    seeds = [seed + i for i in range(count)] if type(seed) is int else seed
    if not isinstance(seeds, Sequence) or not all(type(one) is int and 0 <= one <= LARGEST_SEED for one in seeds):
        raise InputError(
            f"seed is {quote(seed)}; it must be a whole number from 0 to {LARGEST_SEED}, or a list of them"
        )
    if len(seeds) != count:
        raise InputError(
            f"seed holds {plural(len(seeds), 'number')} for {plural(count, 'prompt')}; give one for each, or one number"
        )
    return list(seeds)


def _all(values: object, kind: type) -> bool:
    """Whether these are of a kind, all of them (numbers: no booleans)."""
    return (
        isinstance(values, Sequence)
        and not isinstance(values, str | bytes)
        and all(type(one) is int if kind is int else isinstance(one, kind) for one in values)
    )


def _of_tensor(prompts: Tensor, attention_mask: object) -> list[list[int]]:
    ids = prompts[None] if prompts.dim() == 1 else prompts
    if ids.dim() != 2 or ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
        raise InputError(f"prompts is {describe(prompts)}; token ids are whole numbers shaped [batch, length]")
    if attention_mask is None:
        return [list(map(int, row)) for row in ids.tolist()]
    if not isinstance(attention_mask, Tensor) or attention_mask.shape != prompts.shape:
        raise InputError(f"attention_mask is {describe(attention_mask)}; it must be shaped {list(prompts.shape)}")
    real = as_mask("attention_mask", attention_mask)
    assert real is not None
    return [row[kept].tolist() for row, kept in zip(ids, real.reshape(ids.shape), strict=True)]


def _of_lists(model: Model, prompts: Any) -> list[list[int]]:
    if isinstance(prompts, str):
        return [_of_text(model, 0, prompts)]
    if _all(prompts, str):
        return [_of_text(model, i, one) for i, one in enumerate(prompts)]
    if _all(prompts, int):
        return [list(prompts)]
    if isinstance(prompts, Sequence) and not isinstance(prompts, bytes) and all(_all(one, int) for one in prompts):
        return [list(one) for one in prompts]
    raise InputError(f"prompts is {quote(prompts)}; give a text, token ids, or a list or tensor of them")


def _of_text(model: Model, i: int, text: str) -> list[int]:
    if model.tokenizer is None:
        raise InputError("the model has no tokenizer: put tokenizer.json into its directory, or give token ids")
    try:
        text.encode()
    except UnicodeEncodeError as problem:
        raise InputError(
            f"prompt {i} holds half a surrogate pair at character {problem.start}, which is no character: read the "
            "text as UTF-8, with errors='replace' where it is damaged"
        ) from None
    if model.decoder is not None:
        return list(map(int, model.tokenizer([text], truncation=False)["input_ids"][0]))
    ids = model.tokenizer.encode_plain(text)[0] if text else end_ids(model)[:1]
    if not ids:
        raise InputError(
            f"prompt {i} is empty ({text[:20]!r}), and no token is known to begin with: write something in it"
        )
    return list(ids)


def check_prompt(model: Model, i: int, ids: list[int]) -> None:
    """Raise InputError for a prompt without tokens, with ids that the model has not, and for lengths it cannot read."""
    rows, most = model.architecture.embeddings.vocabulary_size, model.architecture.length
    if not ids:
        raise ItemError(i, f"prompt {i} has no tokens; give at least one")
    wrong = [one for one in ids if not 0 <= one < rows]
    if wrong:
        raise ItemError(i, f"prompt {i} holds the token id {wrong[0]}; the vocabulary's ids go from 0 to {rows - 1}")
    if len(ids) > most:
        raise ItemError(i, f"prompt {i} is {len(ids)} tokens long, the model reads {most}: shorten it")
    prefix = model.architecture.prefix
    if len(ids) < prefix:
        # Its tokens would be read before those that they see.
        said = f"prompt {i} has {plural(len(ids), 'token')}; the model's pattern has a prefix of {prefix} that see one"
        raise ItemError(i, f"{said} another: give at least as many")
