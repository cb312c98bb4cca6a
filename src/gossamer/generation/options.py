"""What a call asks for, what generation_config.json asks for where the call is silent, and what is usual."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gossamer.checks import is_whole, require_whole
from gossamer.errors import InputError, quote
from gossamer.generation.beams import Beams
from gossamer.generation.config import unfollowed
from gossamer.generation.rules import Rules, check_rules
from gossamer.generation.sampling import Sampling
from gossamer.models.checks import require
from gossamer.models.model import Model

__all__ = ["Options", "read_max_new_tokens", "read_options"]

USUAL_NEW_TOKENS = 128
_NUCLEUS = 0.95


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a text is written. beams: None for one text a prompt. notes: what was asked for and is not done."""

    max_new_tokens: int
    sampling: Sampling
    rules: Rules
    beams: Beams | None
    notes: list[str]


def read_options(
    model: Model,
    *,
    max_new_tokens: int | None,
    temperature: float | None,
    top_k: int | None,
    top_p: float | None,
    beams: Beams | int | None,
    rules: Rules | None,
) -> Options:
    """Each is the call's, else the file's, else the usual one. Raises InputError for what cannot be, of either."""
    config, two_texts = model.generation_config, model.decoder is not None
    searched = _beams(beams, config)
    drawn = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    sampling = _sampling(drawn, config, greedy=two_texts or searched is not None)
    if searched is not None:
        require(sampling.temperature == 0, "temperature", sampling.temperature, "0 or left out: beams draw nothing")
    most = read_max_new_tokens(max_new_tokens, model)
    chosen = _rules(config, two_texts, most) if rules is None else rules
    require(isinstance(chosen, Rules), "rules", chosen, "Rules, such as Rules(no_repeat_ngram_size=3), or None")
    words = model.written_words.shape[0]
    check_rules(chosen, words, most)
    if searched is not None:
        require(searched.num_beams <= words, "num_beams", searched.num_beams, f"at most the vocabulary's {words} words")
    used = {"max_new_tokens": most, **vars(sampling), **vars(chosen), **vars(searched or Beams(num_beams=1))}
    said = {name: value for name, value in config.items() if not (two_texts and name in ("max_length", "min_length"))}
    return Options(
        max_new_tokens=most, sampling=sampling, rules=chosen, beams=searched, notes=unfollowed(said, used)
    )  # fmt: skip


def _beams(given: Beams | int | None, config: Mapping[str, Any]) -> Beams | None:
    if isinstance(given, bool) or not isinstance(given, Beams | int | None):
        raise InputError(f"beams is {quote(given)}; give a number, Beams(num_beams=4, ...), or None")
    if given is None:
        count = config.get("num_beams")
        given = _of_file(Beams, config) if type(count) is int and count > 1 else 1
    searched = Beams(num_beams=given) if isinstance(given, int) else given
    return None if searched == Beams(num_beams=1) else searched


def _of_file(kind: type[Any], config: Mapping[str, Any]) -> Any:
    """The settings of this kind that the file names."""
    names = {field.name for field in dataclasses.fields(kind)}
    said = {name: value for name, value in config.items() if name in names and value is not None}
    try:
        return kind(**{name: tuple(one) if isinstance(one, list) else one for name, one in said.items()})
    except InputError as problem:
        raise InputError(f"generation_config.json: {problem}; correct it, or give the option in the call") from None


def _sampling(given: Mapping[str, Any], config: Mapping[str, Any], *, greedy: bool) -> Sampling:
    asked = {name: value for name, value in given.items() if value is not None}
    if not asked and config.get("do_sample") is True and not greedy:
        found: Sampling = _of_file(Sampling, config)
        return found
    if greedy and "temperature" not in asked:
        asked["temperature"] = 0.0 if not asked else 1.0
    return Sampling(**{"top_p": _NUCLEUS, **asked})


def read_max_new_tokens(given: int | None, model: Model) -> int:
    """The most new tokens of a text. Raises InputError for what is no number of them."""
    config, two_texts = model.generation_config, model.decoder is not None
    if given is not None:
        require_whole("max_new_tokens", given)
        return int(given)
    named, longest = config.get("max_new_tokens"), config.get("max_length")
    if is_whole(named, 1):
        return int(named)
    # It counts the start of the text, too; of a decoder alone the prompt, which is of any length.
    return int(longest) - 1 if two_texts and is_whole(longest, 2) else USUAL_NEW_TOKENS


def _rules(config: Mapping[str, Any], two_texts: bool, most: int) -> Rules:
    found: Rules = _of_file(Rules, config)
    least = config.get("min_length")
    if two_texts and is_whole(least, 2) and not found.min_new_tokens:
        found = dataclasses.replace(found, min_new_tokens=int(least) - 1)
    return dataclasses.replace(found, min_new_tokens=min(found.min_new_tokens, most))
