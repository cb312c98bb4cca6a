"""The task rewrite: a text from a text, whatever the model was trained to make of it."""

from __future__ import annotations

from collections.abc import Sequence

from gossamer.generation import Stops
from gossamer.generation.choices import Choices
from gossamer.generation.options import BeamsAsked, RulesAsked
from gossamer.tasks.base import Long, list_texts
from gossamer.tasks.names import checks_options
from gossamer.tasks.passes import Progress
from gossamer.tasks.write import WritingOptions, WritingTask, Written, joined

__all__ = ["Rewrite"]

_HOW = "read in parts that meet between sentences, each rewritten by itself"


class Rewrite(WritingTask):
    """Write what a model with an encoder and decoder makes of each text. Raises InputError for other models."""

    doing = "rewrite"

    @checks_options
    def __call__(
        self,
        texts: str | Sequence[str],
        prefix: str = "",
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
        """The text that the model writes about each text.

        prefix: put before each, such as T5's "paraphrase: ". max_new_tokens (of each part) and all that follow down to
        seed: as in `gossamer.generate`. A text that is longer than the model reads, `max_length` tokens in place of its
        files' limit, is read in parts that meet between sentences ("chunk"), each written by itself, and joined with
        the white space that stood between them; or it is cut ("truncate") or refused ("error"). by_sentence: each
        sentence is a part. batch_size: so many parts at once. `progress(done, total)` counts the tokens that are read.

        Raises InputError for empty texts, and for whatever `gossamer.generate` refuses.
        """
        options = WritingOptions(
            how=_HOW,
            prefix=prefix,
            generation={
                "max_new_tokens": max_new_tokens, "beams": beams, "rules": rules, "temperature": temperature,
                "top_k": top_k, "top_p": top_p, "stop": stop, "choices": choices, "seed": seed,
            },
            long=long, max_length=max_length, by_sentence=by_sentence, batch_size=batch_size,
        )  # fmt: skip
        writings = self._write(list_texts("texts", texts), options, progress)
        return self._result(writings, options, [joined(one) for one in writings])
