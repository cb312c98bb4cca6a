"""The task score: how likely a model finds texts of any length, or given texts behind others."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from gossamer.checks import require_whole
from gossamer.errors import InputError, ItemError, plural, quote
from gossamer.generation import ContinuationScore, score_continuations
from gossamer.generation.inputs import end_ids
from gossamer.models.heads import CausalLM, Seq2SeqLM
from gossamer.tasks.base import Result, Task, check_text, list_fields, list_texts
from gossamer.tasks.names import checks_options
from gossamer.tasks.passes import Progress, check_progress, check_stride
from gossamer.tasks.stream import Streaming

__all__ = ["Score", "Scored"]

_LARGEST = 700
"""e to this power is a number yet."""


@dataclass(frozen=True, kw_only=True)
class Scored(Result):
    """How likely each text is, or each target behind its text.

    `log_likelihoods`: the natural logarithm of the probability of all scored tokens together; `perplexities`: e to the
    power of its negative mean over tokens; `bits_per_byte`: its negative, in bits, for each byte of what is scored;
    `is_greedy`: whether each token is the likeliest behind those before it. `tokens` are those that are scored,
    `passes` in how many readings; `notes` are remarks, a line each.
    """

    log_likelihoods: list[float]
    perplexities: list[float]
    bits_per_byte: list[float]
    is_greedy: list[bool]
    tokens: list[int]
    passes: list[int]
    notes: list[str]


class _Piece(NamedTuple):
    """What is scored of text number `text`, and what stands before it: tokens, or a text and its target."""

    text: int
    before: list[int] | str
    scored: list[int] | str


class Score(Streaming[Scored], Task):
    """Score texts with a decoder, or targets with an encoder and decoder. Raises InputError for other models."""

    heads, load_with, doing = (CausalLM, Seq2SeqLM), "causal-lm", "score"

    @checks_options
    def __call__(
        self,
        texts: str | Sequence[str] | Mapping[str, str] | Sequence[Mapping[str, str]],
        targets: str | Sequence[str] | None = None,
        stride: int | None = None,
        batch_tokens: int | None = None,
        progress: Progress | None = None,
    ) -> Scored:
        """The log-likelihood of each text; with `targets`, of each target behind its text.

        A text with its target may be a dict of "text" and "target" as well, one or a list of them. A decoder scores all
        tokens of a text, the first one behind the token that begins texts. One longer than the model reads is read in
        passes, each of whose new tokens see `stride` tokens before them at least, a half of what the model reads unless
        given. A target is scored behind the whole text, as `gossamer.generation.score_continuations` does it; models
        that write second texts need one. `progress(done, total)` counts the tokens that are scored.

        Raises InputError for empty texts and targets, a stride that leaves a pass nothing new, no targets where the
        model needs them, and a text with its target that is longer than the model reads.
        """
        if batch_tokens is not None:
            require_whole("batch_tokens", batch_tokens, of="tokens", instead="None")
        check_progress(progress)
        if stride is not None:
            require_whole("stride", stride, 0, of="tokens", instead="None")
            check_stride(stride, self.model.architecture.length)
        listed, others = _with_targets(texts, targets)
        if others is None and self.model.decoder is not None:
            raise InputError("the model writes second texts: give targets, the ones to be scored")
        if others is None:
            plans = [self._windows(i, text, stride) for i, text in enumerate(listed)]
        else:
            plans = [self._behind(i, *both) for i, both in enumerate(zip(listed, others, strict=True))]
        pieces = [piece for plan in plans for piece in plan]
        prompts: Any = [piece.before for piece in pieces]
        scored: Any = [[piece.scored] for piece in pieces]
        try:
            found = score_continuations(
                self.model, prompts, scored,
                batch_tokens=batch_tokens, progress=progress,
            )  # fmt: skip
        except ItemError as problem:
            text = pieces[problem.item].text
            said = str(problem).replace(f"prompt {problem.item}", f"text {text}", 1)
            raise ItemError(text, said) from None
        by_text: list[list[ContinuationScore]] = [[] for _ in listed]
        for piece, (one,) in zip(pieces, found, strict=True):
            by_text[piece.text].append(one)
        return _scored(by_text, listed if others is None else others, self._notes(plans))

    def _on_items(self, items: Sequence[Any], numbers: Sequence[int], **options: Any) -> Scored:
        target = options.pop("targets", None)
        if target is not None and not isinstance(target, str):
            raise InputError(
                f"targets is {quote(target)}; give a stream of texts one target, or each its own as a dict "
                '{"text": ..., "target": ...}'
            )
        return self(items, None if target is None else [target] * len(items), **options)

    def _windows(self, i: int, text: object, stride: int | None) -> list[_Piece]:
        """All tokens of a text behind the one that begins texts, in as many passes as it takes."""
        ids = [*self._begin, *self._tokenize("text", i, text)[0]]
        begun = max(1, len(self._begin))
        if len(ids) <= begun:
            raise ItemError(i, f"text {i} is one token, and none is known to stand before it: give a longer text")
        most = self.model.architecture.length
        shared = most // 2 if stride is None else stride
        # The last token of a pass is scored, not read.
        pieces = [_Piece(i, ids[:begun], ids[begun : most + 1])]
        done = most + 1
        while done < len(ids):
            first = done - max(1, shared)
            pieces.append(_Piece(i, ids[first:done], ids[done : first + most + 1]))
            done = first + most + 1
        return pieces

    @cached_property
    def _begin(self) -> list[int]:
        """What stands before a text: the tokenizer's own token, or that which ends texts, or none."""
        return self.frame.before or end_ids(self.model)[:1]

    def _behind(self, i: int, text: object, target: object) -> list[_Piece]:
        self._tokenize("text", i, text)
        return [_Piece(i, str(text), check_text("target", i, target))]

    def _notes(self, plans: Sequence[Sequence[_Piece]]) -> list[str]:
        most = self.model.architecture.length
        return [
            f"text {i} is longer than the {plural(most, 'token')} that the model reads: scored in {len(plan)} passes, "
            "whose new tokens see a part of those before"
            for i, plan in enumerate(plans)
            if len(plan) > 1
        ]


def _with_targets(texts: object, targets: object) -> tuple[list[Any], list[Any] | None]:
    """Texts, and what is scored behind each where that is given: apart, or in the texts' dicts."""
    listed, of_dicts = list_fields("texts", texts, "text", "target")
    if of_dicts is not None and targets is not None:
        raise InputError("targets are given twice, in the dicts and beside them: give them once")
    if of_dicts is not None or targets is None:
        return listed, of_dicts
    others = list_texts("targets", targets)
    if len(others) != len(listed):
        raise InputError(f"there are {plural(len(listed), 'text')} and {len(others)} targets: give one for each text")
    return listed, others


def _scored(by_text: Sequence[Sequence[ContinuationScore]], texts: Sequence[Any], notes: list[str]) -> Scored:
    sums = [math.fsum(one.log_likelihood for one in those) for those in by_text]
    tokens = [sum(len(one.ids) for one in those) for those in by_text]
    return Scored(
        log_likelihoods=sums,
        perplexities=[_exp(-total / count) for total, count in zip(sums, tokens, strict=True)],
        bits_per_byte=[-total / math.log(2) / len(text.encode()) for total, text in zip(sums, texts, strict=True)],
        is_greedy=[all(one.is_greedy for one in those) for those in by_text],
        tokens=tokens,
        passes=[len(those) for those in by_text],
        notes=notes,
    )


def _exp(number: float) -> float:
    return math.exp(number) if number < _LARGEST else math.inf
