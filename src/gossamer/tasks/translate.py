"""The task translate: a text in another language."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gossamer.errors import InputError, plural, quote
from gossamer.generation import Stops
from gossamer.generation.choices import Choices
from gossamer.generation.options import BeamsAsked, RulesAsked
from gossamer.models.model import Model
from gossamer.tasks.base import Long, list_texts
from gossamer.tasks.names import TRANSLATION, checks_options
from gossamer.tasks.passes import Progress
from gossamer.tasks.task_settings import TaskSettings, named_tasks, read_task_settings
from gossamer.tasks.write import WritingOptions, WritingTask, Written, joined, of_file

__all__ = ["Translate"]

_TOKEN = re.compile(r">>(.+)<<")
"""How Marian's vocabularies write the language that is wanted."""
_SHOWN = 12
_HOW = "read in parts that meet between sentences, each translated by itself"


@dataclass(frozen=True, kw_only=True)
class _Languages:
    """What a model's files say of languages: pairs with settings (T5), or tokens of languages to write (Marian)."""

    pairs: Mapping[tuple[str, str], str] = field(default_factory=dict)
    tokens: Mapping[str, str] = field(default_factory=dict)

    def settings(self, model: Model, source: str | None, target: str | None) -> TaskSettings:
        """What is put before texts and how they are written. InputError where the files leave it open or know none."""
        if self.pairs:
            return read_task_settings(model, self.pairs[self._pair(source, target)])
        general = read_task_settings(model, "translation")
        if self.tokens and not general.prefix:
            return TaskSettings(
                prefix=f"{self._token(target)} ", max_new_tokens=general.max_new_tokens, beams=general.beams,
                rules=general.rules,
            )  # fmt: skip
        for name, language in (("source", source), ("target", target)):
            if language is not None:
                raise InputError(
                    f"{name} is {quote(language)}, but the model's files name no languages: leave it out, or give what "
                    'the model was trained with as prefix, such as "translate English to German: "'
                )
        return general

    def _pair(self, source: str | None, target: str | None) -> tuple[str, str]:
        fits = [pair for pair in self.pairs if source in (None, pair[0]) and target in (None, pair[1])]
        if len(fits) == 1:
            return fits[0]
        known = ", ".join(f"{one} to {other}" for one, other in self.pairs)
        if not fits:
            raise InputError(f"source is {quote(source)} and target {quote(target)}; the model translates {known}")
        raise InputError(f"the model translates {known}: name one with source and target, such as {fits[0]}")

    def _token(self, target: str | None) -> str:
        if target in self.tokens:
            return self.tokens[str(target)]
        known = ", ".join(list(self.tokens)[:_SHOWN]) + (", ..." if len(self.tokens) > _SHOWN else "")
        said = "target is missing" if target is None else f"target is {quote(target)}"
        raise InputError(f"{said}; the model writes {plural(len(self.tokens), 'language')}: {known}")


class Translate(WritingTask):
    """Translate texts with a model that has an encoder and decoder. Raises InputError for other models."""

    doing = "translate"

    def __init__(self, model: Model, source: str | None = None, target: str | None = None) -> None:
        """source, target: those of calls that name none."""
        super().__init__(model)
        self.languages = _find_languages(model)
        self.source, self.target = source, target

    @checks_options
    def __call__(
        self,
        texts: str | Sequence[str],
        source: str | None = None,
        target: str | None = None,
        prefix: str | None = None,
        max_new_tokens: int | None = None,
        beams: BeamsAsked = None,
        rules: RulesAsked = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        stop: Stops = None,
        choices: Choices = None,
        seed: int | Sequence[int] | None = None,
        by_sentence: bool = False,
        long: Long = "chunk",
        max_length: int | None = None,
        batch_size: int = 16,
        progress: Progress | None = None,
    ) -> Written:
        """Each text in another language.

        source, target: languages as the model's files write them: those of `task_specific_params` of config.json, such
        as "en" and "de" of a T5's "translation_en_to_de", whose prefix and settings count; or the target alone where a
        Marian vocabulary has tokens such as ">>fra<<". One that there is no choice of may be left out. prefix: what is
        put before each text in place of what they say. by_sentence: each sentence by itself, as for models that
        learnt from sentences. All other options are those of the task rewrite.

        Raises InputError for empty texts, languages that the model does not name, and for whatever `gossamer.generate`
        refuses.
        """
        source, target = source or self.source, target or self.target
        asked = TaskSettings() if prefix is not None else self.languages.settings(self.model, source, target)
        options = WritingOptions(
            how=_HOW,
            prefix=asked.prefix if prefix is None else prefix,
            generation={
                "max_new_tokens": asked.max_new_tokens if max_new_tokens is None else max_new_tokens,
                "beams": of_file(asked.beams, beams), "rules": of_file(asked.rules, rules), "temperature": temperature,
                "top_k": top_k, "top_p": top_p, "stop": stop, "choices": choices, "seed": seed,
            },
            long=long, max_length=max_length, by_sentence=by_sentence, batch_size=batch_size,
        )  # fmt: skip
        writings = self._write(list_texts("texts", texts), options, progress)
        return self._result(writings, options, [joined(one) for one in writings])


def _find_languages(model: Model) -> _Languages:
    pairs = {(found[1], found[2]): name for name in named_tasks(model) if (found := TRANSLATION.fullmatch(name))}
    names = model.tokenizer.tokens(range(model.tokenizer.vocabulary_size))
    tokens = {found[1]: name for name in names if name and (found := _TOKEN.fullmatch(name))}
    return _Languages(pairs=pairs, tokens=tokens)
