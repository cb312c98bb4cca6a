"""The task summarize: a short text about a long one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, get_args

from gossamer.errors import InputError, quote
from gossamer.generation import Stops
from gossamer.generation.choices import Choices
from gossamer.generation.options import BeamsAsked, RulesAsked
from gossamer.tasks.base import Long, list_texts
from gossamer.tasks.names import checks_options
from gossamer.tasks.passes import Progress
from gossamer.tasks.task_settings import read_task_settings
from gossamer.tasks.write import Writing, WritingOptions, WritingTask, Written, of_file

__all__ = ["Merging", "Summarize"]

Merging = Literal["join", "again"]
_HOW = "read in parts that share sentences, each summarized by itself"
_MERGED = {"join": "the summaries joined", "again": "the summaries summarized again"}
_ROUNDS = 8
"""How often summaries of parts are summarized again, at most."""


class Summarize(WritingTask):
    """Summarize texts with a model that has an encoder and decoder. Raises InputError for other models."""

    doing = "summarize"

    @checks_options
    def __call__(
        self,
        texts: str | Sequence[str],
        prefix: str | None = None,
        max_new_tokens: int | None = None,
        beams: BeamsAsked = None,
        rules: RulesAsked = None,
        merge: Merging = "join",
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        stop: Stops = None,
        choices: Choices = None,
        seed: int | Sequence[int] | None = None,
        long: Long = "chunk",
        max_length: int | None = None,
        stride: int | None = None,
        batch_size: int = 16,
        progress: Progress | None = None,
    ) -> Written:
        """A summary of each text.

        prefix: put before each; unless given what config.json's `task_specific_params` say of "summarization", whose
        settings of beams, rules and lengths count, too, where the call leaves them out. A text that is longer than the
        model reads is read in parts that share whole sentences of at most `stride` tokens, an eighth of what the model
        reads unless given. Their summaries are joined, or by `merge="again"` summarized until they fit into one part.
        All other options are those of the task rewrite.

        Raises InputError for empty texts, and for whatever `gossamer.generate` refuses.
        """
        if merge not in get_args(Merging):
            raise InputError(f"merge is {quote(merge)}; it must be 'join' or 'again'")
        asked = read_task_settings(self.model, "summarization")
        options = WritingOptions(
            how=f"{_HOW}, {_MERGED[merge]}",
            prefix=asked.prefix if prefix is None else prefix,
            generation={
                "max_new_tokens": asked.max_new_tokens if max_new_tokens is None else max_new_tokens,
                "beams": of_file(asked.beams, beams), "rules": of_file(asked.rules, rules), "temperature": temperature,
                "top_k": top_k, "top_p": top_p, "stop": stop, "choices": choices, "seed": seed,
            },
            long=long, max_length=max_length, batch_size=batch_size,
        )  # fmt: skip
        options = replace(options, stride=max(0, self._room(options)) // 8 if stride is None else stride)
        writings = self._write(list_texts("texts", texts), options, progress)
        texts_of = [_joined(one) for one in writings]
        if merge == "again":
            texts_of = [self._again(one, options) if len(one.parts) > 1 else one.texts[0] for one in writings]
        return self._result(writings, options, texts_of)

    def _again(self, writing: Writing, options: WritingOptions) -> str:
        """The summary of summaries, as soon as they fit into one part."""
        text = _joined(writing)
        for _ in range(_ROUNDS):
            if not self.tokenizer.encode_plain(text)[0]:
                return text
            (following,) = self._write([text], options, None, [writing.number])
            text, shorter = _joined(following), following.new_tokens < following.tokens
            writing.new_tokens += following.new_tokens
            if len(following.parts) == 1 or not shorter:
                return text
        return text


def _joined(writing: Writing) -> str:
    """A single summary as it was written, others in a row."""
    if len(writing.texts) == 1:
        return writing.texts[0]
    return " ".join(filter(None, (text.strip() for text in writing.texts)))
