"""The task generate: texts, continued."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Literal, get_args

from gossamer.checks import require_whole
from gossamer.errors import InputError, quote
from gossamer.generation import Generated, Piece, Stops, generate
from gossamer.models.heads import CausalLM
from gossamer.tasks.base import Task, list_texts
from gossamer.tasks.names import checks_options
from gossamer.tasks.passes import Progress, Reading

__all__ = ["Generate", "LongPrompt"]

LongPrompt = Literal["error", "truncate"]


class Generate(Task):
    """Continue texts with a decoder. Raises InputError for other models."""

    heads, load_with, doing = (CausalLM,), "causal-lm", "continue"

    @checks_options
    def __call__(
        self,
        texts: str | Sequence[str],
        max_new_tokens: int = 128,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float = 0.95,
        stop: Stops = None,
        seed: int | Sequence[int] | None = None,
        long: LongPrompt = "error",
        batch_size: int = 16,
        progress: Progress | None = None,
    ) -> Generated:
        """A continuation of each text; all options but two are those of `gossamer.generate`.

        long: a text longer than the model reads is refused, or, with "truncate", so much of its end is continued as
        leaves room for the new tokens, half of what the model reads at least; the result's notes say so. `progress` is
        called with the new tokens so far and the most there can be.
        """
        require_whole("max_new_tokens", max_new_tokens)
        if long not in get_args(LongPrompt):
            raise InputError(f"long is {quote(long)}; it must be one of {', '.join(get_args(LongPrompt))}")
        readings = self._readings(list_texts("texts", texts))
        notes = self._cut(readings, max_new_tokens, long)
        generated = generate(
            self.model,
            [reading.ids for reading in readings],
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            stop=stop,
            seed=seed,
            batch_size=batch_size,
            stream=None if progress is None else _counting(progress, len(readings) * max_new_tokens),
        )
        return dataclasses.replace(
            generated, notes=[*notes, *(note.replace("prompt", "text", 1) for note in generated.notes)]
        )

    def _cut(self, readings: Sequence[Reading], new: int, long: LongPrompt) -> list[str]:
        """Refuse what is too long, or keep of its end what leaves room for the new tokens, and say so."""
        most, notes = self.model.architecture.length, []
        # The last new token is not read.
        last = max(most + 1 - new, (most + 1) // 2)
        for i, reading in enumerate(readings):
            said = f"text {i} is {len(reading.ids)} tokens long, the model reads {most}"
            if long == "error" and len(reading.ids) > most:
                raise InputError(f"{said}: shorten it, or give long='truncate' to continue its end")
            if long == "truncate" and len(reading.ids) > last:
                reading.ids = reading.ids[-last:]
                notes.append(f"{said}: its last {last} are continued, which leaves room for {most + 1 - last} new ones")
        return notes


def _counting(progress: Progress, total: int) -> Callable[[Piece], None]:
    done = 0

    def count(piece: Piece) -> None:
        nonlocal done
        done += len(piece.ids)
        progress(done, total)

    return count
