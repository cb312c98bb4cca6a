"""The task generate: texts, continued."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

from gossamer.checks import require_whole
from gossamer.errors import InputError, ItemError, quote
from gossamer.generation import Generated, Piece, Stops, generate
from gossamer.generation.choices import Choices
from gossamer.generation.options import BeamsAsked, RulesAsked, read_max_new_tokens
from gossamer.models.heads import CausalLM, Seq2SeqLM
from gossamer.models.model import Model
from gossamer.tasks.base import Task, list_texts
from gossamer.tasks.names import checks_options
from gossamer.tasks.passes import Progress, Reading
from gossamer.tasks.stream import Streaming, seeds_for

__all__ = ["Generate", "LongPrompt"]

LongPrompt = Literal["error", "truncate"]


class Generate(Streaming[Generated], Task):
    """Continue texts with a decoder, or write others about them with an encoder and decoder.

    Raises InputError for other models.
    """

    heads, load_with, doing = (CausalLM, Seq2SeqLM), "causal-lm", "continue"

    @checks_options
    def __call__(
        self,
        texts: str | Sequence[str],
        max_new_tokens: int | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        stop: Stops = None,
        seed: int | Sequence[int] | None = None,
        long: LongPrompt = "error",
        batch_size: int = 16,
        beams: BeamsAsked = None,
        rules: RulesAsked = None,
        choices: Choices = None,
        progress: Progress | None = None,
    ) -> Generated:
        """A continuation of each text; all options but two are those of `gossamer.generate`.

        long: a text longer than the model reads is refused, or, with "truncate", so much of its end is continued as
        leaves room for the new tokens, half of what the model reads at least; of two texts the beginning of the first
        is read; the result's notes say so. `progress` is called with the new tokens so far and the most there can be.
        """
        if max_new_tokens is not None:
            require_whole("max_new_tokens", max_new_tokens)
        if long not in get_args(LongPrompt):
            raise InputError(f"long is {quote(long)}; it must be one of {', '.join(get_args(LongPrompt))}")
        listed = list_texts("texts", texts)
        if self.model.decoder is None:
            readings = self._readings(listed)
            new = read_max_new_tokens(max_new_tokens, self.model)
            notes, prompts = self._cut(readings, new, long), [reading.ids for reading in readings]
        else:
            notes, prompts = self._read_first(listed, long)
        generated = generate(
            self.model,
            prompts,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            stop=stop,
            seed=seed,
            batch_size=batch_size,
            beams=beams,
            rules=rules,
            choices=choices,
            stream=None if progress is None else _counting(progress, len(prompts), max_new_tokens, self.model),
        )
        return dataclasses.replace(
            generated, notes=[*notes, *(note.replace("prompt", "text", 1) for note in generated.notes)]
        )

    def _on_items(self, items: Sequence[Any], numbers: Sequence[int], **options: Any) -> Generated:
        """Each with the seed that it would have in one call."""
        return self(items, seed=seeds_for(options.pop("seed", None), numbers), **options)

    def _read_first(self, texts: Sequence[str], long: LongPrompt) -> tuple[list[str], list[list[int]]]:
        """The ids of the first of two texts, special tokens included; their ends are left out where that is asked."""
        notes, prompts, most = [], [], self.model.reading_length()
        for i, text in enumerate(texts):
            ids = self.model.tokenizer([text], truncation=False)["input_ids"][0].tolist()
            if len(ids) > most:
                said = f"text {i} is {len(ids)} tokens long, the model reads {most}"
                if long == "error":
                    raise ItemError(i, f"{said}: shorten it, or give long='truncate' to read its beginning")
                ids = self.model.tokenizer([text], max_length=most)["input_ids"][0].tolist()
                notes.append(f"{said}: its beginning is read")
            prompts.append(ids)
        return notes, prompts

    def _cut(self, readings: Sequence[Reading], new: int, long: LongPrompt) -> list[str]:
        """Refuse what is too long, or keep of its end what leaves room for the new tokens, and say so."""
        most, notes = self.model.architecture.length, []
        # The last new token is not read.
        last = max(most + 1 - new, (most + 1) // 2)
        for i, reading in enumerate(readings):
            said = f"text {i} is {len(reading.ids)} tokens long, the model reads {most}"
            if long == "error" and len(reading.ids) > most:
                raise ItemError(i, f"{said}: shorten it, or give long='truncate' to continue its end")
            if long == "truncate" and len(reading.ids) > last:
                reading.ids = reading.ids[-last:]
                notes.append(f"{said}: its last {last} are continued, which leaves room for {most + 1 - last} new ones")
        return notes


def _counting(progress: Progress, texts: int, most: int | None, model: Model) -> Callable[[Piece], None]:
    done, total = 0, texts * read_max_new_tokens(most, model)

    def count(piece: Piece) -> None:
        nonlocal done
        done += len(piece.ids)
        progress(done, total)

    return count
