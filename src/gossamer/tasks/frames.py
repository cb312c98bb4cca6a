"""Frames: the tokens that stand around a text, or around one of two texts, in every pass that reads it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from gossamer.errors import InputError
from gossamer.text import Tokenizer
from gossamer.text.surroundings import DAMAGED, PROBES, special_tokens_around

__all__ = ["Frame", "PairFrame", "find_frame", "find_pair_frame"]


@dataclass(frozen=True)
class Frame:
    """Tokens before and after a text in every pass: [CLS] and [SEP], or others, or none; for a pair, a whole text too.

    The token types are those of the tokens before, of the text, and of the tokens after. The first `global_tokens`
    see everything, where a task says so; else the model knows by itself.
    """

    before: list[int] = field(default_factory=list)
    after: list[int] = field(default_factory=list)
    types_before: list[int] = field(default_factory=list)
    type_inside: int = 0
    types_after: list[int] = field(default_factory=list)
    global_tokens: int = 0

    def __len__(self) -> int:
        return len(self.before) + len(self.after)

    def types(self, length: int) -> list[int]:
        """The token types of a pass of so many tokens, frame included; all 0 where the frame names none."""
        before, after = self.types_before or [0] * len(self.before), self.types_after or [0] * len(self.after)
        return [*before, *[self.type_inside] * (length - len(self)), *after]


@dataclass(frozen=True)
class PairFrame:
    """The special tokens that a tokenizer puts before, between and after two texts, and the token types of all."""

    before: list[int]
    between: list[int]
    after: list[int]
    types: tuple[list[int], int, list[int], int, list[int]]

    def __len__(self) -> int:
        return len(self.before) + len(self.between) + len(self.after)

    def around_second(self, first: list[int]) -> Frame:
        """The frame in which the second text is read, the first one being part of it."""
        before, of_first, between, of_second, after = self.types
        return Frame(
            before=[*self.before, *first, *self.between],
            after=self.after,
            types_before=[*before, *[of_first] * len(first), *between],
            type_inside=of_second,
            types_after=after,
        )

    def around_first(self, second: list[int]) -> Frame:
        """The frame in which the first text is read, the second one being part of it."""
        before, of_first, between, of_second, after = self.types
        return Frame(
            before=self.before,
            after=[*self.between, *second, *self.after],
            types_before=before,
            type_inside=of_first,
            types_after=[*between, *[of_second] * len(second), *after],
        )

    def around_context(self, question: list[int], flagged: bool) -> Frame:
        """The frame in which a context is read; with `flagged`, all before the question's separator sees everything."""
        frame = self.around_second(question)
        return replace(frame, global_tokens=len(self.before) + len(question)) if flagged else frame


def find_frame(tokenizer: Tokenizer) -> Frame:
    """What the tokenizer puts around a text. InputError where no text shows where the text goes."""
    return Frame(*special_tokens_around(tokenizer))


def find_pair_frame(tokenizer: Tokenizer) -> PairFrame:
    """What the tokenizer puts around two texts. InputError where no texts show where they go."""
    for text in PROBES:
        size = len(tokenizer.encode_plain(text)[0])
        batch = tokenizer(text, text_pair=text, truncation=False, return_offsets=True)
        inner = (batch["special_tokens_mask"][0] == 0).nonzero().flatten().tolist()
        if size and len(inner) == 2 * size:
            ids, types = batch["input_ids"][0].tolist(), batch["token_type_ids"][0].tolist()
            start, last = inner[0], inner[-1]
            middle = slice(inner[size - 1] + 1, inner[size])
            kinds = (types[:start], types[start], types[middle], types[last], types[last + 1 :])
            return PairFrame(ids[:start], ids[middle], ids[last + 1 :], kinds)
    raise InputError(DAMAGED)
