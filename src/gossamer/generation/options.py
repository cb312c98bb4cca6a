"""What a call asks for, what generation_config.json asks for where the call is silent, and what is usual."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gossamer.checks import is_whole, require_whole
from gossamer.errors import InputError, quote
from gossamer.generation.beams import Beams
from gossamer.generation.config import unfollowed
from gossamer.generation.rules import Rules, check_rules
from gossamer.generation.sampling import Sampling
from gossamer.models.checks import require
from gossamer.models.decoder_stack import Decoder
from gossamer.models.model import Model

__all__ = ["BeamsAsked", "Options", "RulesAsked", "read_max_new_tokens", "read_options", "read_start"]

USUAL_NEW_TOKENS = 128
_NUCLEUS = 0.95


BeamsAsked = Beams | Mapping[str, Any] | int | None
"""Beams as they are; or what is changed of those that the file asks for, a number alone being theirs."""
RulesAsked = Rules | Mapping[str, Any] | None
"""The same of rules."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a text is written. beams: None for one text a prompt. notes: what was asked for and is not done."""

    max_new_tokens: int
    sampling: Sampling
    rules: Rules
    beams: Beams | None
    notes: list[str]

    @property
    def most_tokens(self) -> int:
        """New tokens of a prompt's texts at most."""
        return self.max_new_tokens * (1 if self.beams is None else self.beams.num_return_sequences)


def read_options(
    model: Model,
    *,
    max_new_tokens: int | None,
    temperature: float | None,
    top_k: int | None,
    top_p: float | None,
    beams: BeamsAsked,
    rules: RulesAsked,
    stop_strings: Sequence[str] = (),
) -> Options:
    """Each is the call's, else the file's, else the usual one. Raises InputError for what cannot be, of either.

    stop_strings: those that end a text, for what is told of the file's.
    """
    config, two_texts = model.generation_config, model.decoder is not None
    drawn = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    asked = {name: value for name, value in drawn.items() if value is not None and (name, value) != ("temperature", 0)}
    searched = _beams(beams, config, draws=bool(asked))
    if searched is not None and asked:
        name, value = next(iter(asked.items()))
        raise InputError(f"{name} is {quote(value)}; it must be 0 or left out: beams draw nothing")
    sampling = _sampling(drawn, config, searches=searched is not None, two_texts=two_texts)
    most = read_max_new_tokens(max_new_tokens, model)
    chosen = rules if isinstance(rules, Rules) else _rules(rules, config, two_texts, most)
    words = len(model.written_words)
    check_rules(chosen, words, most)
    if searched is not None:
        require(searched.num_beams <= words, "num_beams", searched.num_beams, f"at most the vocabulary's {words} words")
    used = {
        "max_new_tokens": most,
        "stop_strings": tuple(stop_strings),
        **vars(sampling),
        **vars(chosen),
        **vars(searched or Beams(num_beams=1)),
    }
    said = {name: value for name, value in config.items() if not (two_texts and name in ("max_length", "min_length"))}
    return Options(
        max_new_tokens=most, sampling=sampling, rules=chosen, beams=searched, notes=unfollowed(said, used)
    )  # fmt: skip


def read_start(model: Model, decoder: Decoder) -> int:
    """The token before a second text: generation_config.json's, which transformers takes, too, else the model's."""
    named = model.generation_config.get("decoder_start_token_id")
    return int(named) if is_whole(named, 0, len(model.written_words) - 1) else decoder.start_id


def _beams(given: object, config: Mapping[str, Any], *, draws: bool) -> Beams | None:
    """draws: whether the call asks for tokens to be drawn, which leaves the file's beams out."""
    if given is None and draws:
        return None
    if isinstance(given, Beams):
        return None if given.num_beams == 1 else given
    if isinstance(given, bool) or not isinstance(given, Mapping | int | None):
        raise InputError(f"beams is {quote(given)}; give a number, Beams(num_beams=4, ...), or None")
    changes = given if isinstance(given, Mapping) else {} if given is None else {"num_beams": given}
    if changes.get("num_beams", config.get("num_beams") or 1) == 1:
        if changes and "num_beams" not in changes:
            name, value = next(iter(changes.items()))
            raise InputError(f"{name} is {quote(value)}; it is for beams: give their number, too")
        return None
    searched: Beams = _of_file(Beams, config, changes)
    return searched


def _of_file(kind: type[Any], config: Mapping[str, Any], changes: Mapping[str, Any] | None = None) -> Any:
    """The settings of this kind that the file names, and what the call changes of them."""
    names = {field.name for field in dataclasses.fields(kind)} - {"processors"}
    said = {name: value for name, value in config.items() if name in names and value is not None}
    if said.get("top_k") == 0:  # none is left out
        del said["top_k"]
    try:
        found = kind(**said)
    except InputError as problem:
        raise InputError(f"generation_config.json: {problem}; correct it, or give the option in the call") from None
    unknown = sorted(set(changes or {}) - names - {"processors"})
    if unknown:
        raise InputError(f"there is no option {unknown[0]!r} of {kind.__name__}; it has {', '.join(sorted(names))}")
    return dataclasses.replace(found, **(changes or {}))


def _sampling(given: Mapping[str, Any], config: Mapping[str, Any], *, searches: bool, two_texts: bool) -> Sampling:
    asked = {name: value for name, value in given.items() if value is not None}
    if not asked and config.get("do_sample") is True and not searches:
        found: Sampling = _of_file(Sampling, config)
        return found
    if (searches or two_texts) and not asked:
        asked["temperature"] = 0.0
    return Sampling(**{"top_p": _NUCLEUS, **asked})


def _whole(config: Mapping[str, Any], name: str, least: int) -> int | None:
    """A number of the file, or None for none; InputError for what is none."""
    value = config.get(name)
    if value is not None and not is_whole(value, least):
        raise InputError(
            f"generation_config.json: {name} is {quote(value)}; it must be a whole number, {least} or more; correct it"
        )
    return None if value is None else int(value)


def read_max_new_tokens(given: int | None, model: Model) -> int:
    """The most new tokens of a text. Raises InputError for what is no number of them."""
    config, two_texts = model.generation_config, model.decoder is not None
    if given is not None:
        require_whole("max_new_tokens", given)
        return int(given)
    named = _whole(config, "max_new_tokens", 1)
    if named is not None:
        return named
    # It counts the start of the text, too; of a decoder alone the prompt, which is of any length.
    longest = _whole(config, "max_length", 2) if two_texts else None
    return USUAL_NEW_TOKENS if longest is None else longest - 1


def _rules(given: object, config: Mapping[str, Any], two_texts: bool, most: int) -> Rules:
    if given is not None and not isinstance(given, Mapping):
        raise InputError(f"rules is {quote(given)}; give Rules, such as Rules(no_repeat_ngram_size=3), or None")
    changes = dict(given or {})
    found: Rules = _of_file(Rules, config, changes)
    if "min_new_tokens" in changes:
        return found
    least = _whole(config, "min_length", 0) if two_texts else None
    wanted = found.min_new_tokens or max(0, (least or 0) - 1)  # its length counts the start, too
    return dataclasses.replace(found, min_new_tokens=min(wanted, most))
