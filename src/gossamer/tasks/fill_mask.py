"""The task fill-mask: the likeliest tokens under each mask of a text of any length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.checks import require_whole
from gossamer.errors import InputError, ItemError, quote
from gossamer.models.evaluation import evaluating, without_head
from gossamer.models.heads import HeadModule, MaskedLM, PreTraining, Tokens
from gossamer.models.model import Model
from gossamer.tasks.base import Long, Result, Task, list_texts
from gossamer.tasks.names import checks_options
from gossamer.tasks.passes import Pass, Progress, Reading, plan_passes, read_passes, room
from gossamer.tasks.stream import Streaming
from gossamer.text.words import trim

__all__ = ["Fill", "FillMask", "Filled", "Mask"]

SPACES = ("\u0120", "\u2581")
"""How byte-level and unigram tokens write the space before a word."""

MASKS_AT_ONCE = 64
"""The scores of the whole vocabulary are held for so many masks."""


@dataclass(frozen=True, kw_only=True)
class Fill:
    """One way to fill a mask: the token's id, the token as text, its probability, the text with it in place.

    `sequence` is the text itself, its capitals and white space kept, with this one mask filled; `transformers` gives
    the decoded tokens.
    """

    token: int
    token_str: str
    score: float
    sequence: str


@dataclass(frozen=True, kw_only=True)
class Mask:
    """A mask, from which character of the text to which it goes, and what may stand there, the likeliest first."""

    start: int
    end: int
    fills: list[Fill]


@dataclass(frozen=True, kw_only=True)
class Filled(Result):
    """The masks of each text, in order.

    `tokens` and `passes` are, for each text, how long it is and in how many passes it was read; `notes` are remarks, a
    line each.
    """

    masks: list[list[Mask]]
    tokens: list[int]
    passes: list[int]
    notes: list[str]


class FillMask(Streaming[Filled], Task):
    """Fill masks with a model that has a masked-LM (or pre-training) head.

    Raises InputError for other models, and for those whose tokenizer has no mask token.
    """

    heads, load_with, doing = (MaskedLM, PreTraining), "masked-lm", "fill masks in"

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        self.mask_id = model.tokenizer.mask_id
        if self.mask_id is None:
            raise InputError("the tokenizer has no mask token: name one as mask_token in tokenizer_config.json")
        self._body = without_head(model)
        tokenizer = model.tokenizer
        self._marks_spaces = any(
            token.startswith(SPACES) for token in tokenizer.tokens(tokenizer.encode_plain("a a")[0])
        )

    @checks_options
    @torch.inference_mode()
    def __call__(
        self,
        texts: str | Sequence[str],
        top_k: int = 5,
        targets: str | Sequence[str] | None = None,
        long: Long = "chunk",
        max_length: int | None = None,
        stride: int | None = None,
        batch_tokens: int | None = None,
        progress: Progress | None = None,
    ) -> Filled:
        """The `top_k` likeliest tokens under every mask, each mask by itself; scores are of the whole vocabulary.

        targets: consider these tokens alone, as the vocabulary writes them or as words of one token; their scores stay
        those of the whole vocabulary, as in `transformers` (which takes the first of several tokens, refused here).
        Where tokens hold the space before a word, " people" is the word and "people" goes on with one; `notes` say so.
        A text longer than the model is read in overlapping passes, each mask in the pass where it lies furthest from an
        edge; passes without a mask are left out. `long`, `max_length`, `batch_tokens` and `progress` are as in
        the task embed, `stride` as in tag.

        Raises InputError for a text without mask, a mask that truncation cuts off, and targets that are no one token.
        """
        self._check(long, batch_tokens, max_length, stride)
        require_whole("top_k", top_k, of="tokens")
        listed_targets = [] if targets is None else list_texts("targets", targets)
        chosen = None if targets is None else [self._target(target) for target in listed_targets]
        listed = list_texts("texts", texts)
        readings = self._readings(listed)
        tokens = [len(reading.ids) for reading in readings]
        places = [self._places(i, reading, long, max_length) for i, reading in enumerate(readings)]
        notes = self._fit(readings, long, max_length=max_length) + self._pieces_for_words(listed_targets)
        # Each token once, however many targets are read as it.
        ids = None if chosen is None else sorted(set(chosen))
        plan = plan_passes(self.model, readings, max_length, stride)
        ranked = self._rank(readings, plan, places, ids, top_k, batch_tokens, progress)
        return Filled(
            masks=[
                [self._mask(text, reading.offsets, place, best) for place, best in zip(masked, ranks, strict=True)]
                for text, reading, masked, ranks in zip(listed, readings, places, ranked, strict=True)
            ],
            tokens=tokens,
            passes=[reading.passes for reading in readings],
            notes=notes,
        )

    def _target(self, target: object) -> int:
        if not isinstance(target, str):
            raise InputError(f"targets holds {quote(target)}; give words of the vocabulary")
        token = self._one_token(target)
        if token is not None:
            return token
        tokenizer = self.model.tokenizer
        pieces = tokenizer.tokens(tokenizer.encode_plain(target)[0])
        shown = ", ".join(pieces[:6]) + ", ..." * (len(pieces) > 6) or "nothing"
        raise InputError(
            f"target {quote(target)} is no token of the vocabulary: it is read as {shown}; {self._remedy_for(target)}"
        )

    def _one_token(self, target: str) -> int | None:
        """The token that is written so in the vocabulary or that a text of it is read as, or None."""
        tokenizer = self.model.tokenizer
        known: int | None = tokenizer.token_id(target)
        if known is not None:
            return known
        ids, _ = tokenizer.encode_plain(target)
        return ids[0] if len(ids) == 1 and ids[0] != tokenizer.unk_id else None

    def _remedy_for(self, target: str) -> str:
        """How a target is written as one token, where it can be."""
        word, prefix = target.strip(), self.model.tokenizer.subword_prefix
        forms = {" " + word: "with the space before it", word: "without white space"}
        if prefix:
            forms[prefix + word] = "as part of a word"
        for form, how in forms.items():
            if word and form != target and self._one_token(form) is not None:
                return f"{quote(form)}, {how}, is one token"
        return "give words of one token"

    def _pieces_for_words(self, targets: Sequence[object]) -> list[str]:
        """A note on each target that is a piece inside words, where with a space it would be a word of its own."""
        return [
            f"target {quote(target)} has no space before it and goes on with a word; {quote(' ' + target)} is the word"
            for target in dict.fromkeys(map(str, targets))
            if self._marks_spaces
            and target[:1].isalnum()
            and self._one_token(" " + target) not in (None, self._one_token(target))
        ]

    def _places(self, i: int, reading: Reading, long: str, max_length: int | None) -> list[int]:
        """Which tokens of a text are masks."""
        places = [place for place, token in enumerate(reading.ids) if token == self.mask_id]
        if not places:
            mask = self.model.tokenizer.mask_token
            raise ItemError(i, f"text {i} has no mask: write {mask} where a token is wanted")
        if long == "truncate" and places[-1] >= room(self.model, reading.frame, max_length):
            raise ItemError(
                i,
                f"text {i} has a mask at character {reading.offsets[places[-1]][0]}, behind what the model reads: "
                "shorten the text, or give long='chunk'",
            )
        return places

    def _rank(
        self,
        readings: Sequence[Reading],
        plan: Sequence[Pass],
        places: Sequence[Sequence[int]],
        targets: list[int] | None,
        top_k: int,
        batch_tokens: int | None,
        progress: Progress | None,
    ) -> list[list[list[tuple[int, float]]]]:
        """For each text and mask, tokens with their probabilities, the likeliest first."""
        inside_of = {
            part: [place for place in places[part.reading] if part.keep_start <= place < part.keep_stop]
            for part in plan
        }
        wanted = [part for part, inside in inside_of.items() if inside]
        ranked: list[dict[int, list[tuple[int, float]]]] = [{} for _ in readings]
        with evaluating(self.model), evaluating(self._body):
            read = read_passes(self._body, readings, wanted, lambda out: out.last_hidden_state, batch_tokens, progress)
            for reading, part, row in read:
                first = len(reading.frame.before) - part.start
                states = row[[first + place for place in inside_of[part]]]
                best = [rank for some in states.split(MASKS_AT_ONCE) for rank in self._best(some, targets, top_k)]
                ranked[part.reading].update(zip(inside_of[part], best, strict=True))
        return [[ranks[place] for place in masked] for ranks, masked in zip(ranked, places, strict=True)]

    def _best(
        self, states: Float[Tensor, "masks hidden"], targets: list[int] | None, top_k: int
    ) -> list[list[tuple[int, float]]]:
        table = self.model.embeddings.word.weight
        head = cast(HeadModule, self.model.head)
        logits = head(states[None].to(table), Tokens(word_table=table)).logits[0]
        scores = logits.float().softmax(dim=-1).cpu()
        ids = torch.arange(scores.shape[1]) if targets is None else torch.tensor(targets)
        highest = scores[:, ids].topk(min(top_k, len(ids)))
        return [
            list(zip(ids[which].tolist(), values.tolist(), strict=True))
            for values, which in zip(highest.values, highest.indices, strict=True)
        ]

    def _mask(self, text: str, offsets: list[tuple[int, int]], place: int, best: list[tuple[int, float]]) -> Mask:
        start, end = trim(text, *offsets[place])
        # White space that no token has is the mask's own where tokens write spaces: RoBERTa's mask takes it along.
        before = min(offsets[place - 1][1] if place else 0, start)
        taken = self._marks_spaces and not text[before:start].strip()
        fills = [self._fill(text[: before if taken else start], text[end:], token, score) for token, score in best]
        return Mask(start=start, end=end, fills=fills)

    def _fill(self, before: str, after: str, token: int, score: float) -> Fill:
        tokenizer = self.model.tokenizer
        (written,), prefix = tokenizer.tokens([token]), tokenizer.subword_prefix
        said = piece = tokenizer.decode([token], skip_special=False) if written else ""
        if prefix and written.startswith(prefix):
            before, piece = before.rstrip(), written.removeprefix(prefix)
        elif self._marks_spaces:
            spaced = written.startswith(SPACES) and before != "" and not before[-1].isspace()
            piece = " " * spaced + said.lstrip()
        return Fill(token=token, token_str=said, score=score, sequence=before + piece + after)

    def _chunked(self) -> str:
        return f"{super()._chunked()} (those without a mask left out), each mask where it lies furthest from an edge"
