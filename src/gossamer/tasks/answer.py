"""The task answer: which stretch of a context of any length answers a question."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.checks import require_whole
from gossamer.errors import InputError, ItemError, plural, quote
from gossamer.models.evaluation import evaluating
from gossamer.models.heads import QuestionAnswering
from gossamer.models.model import Model
from gossamer.tasks.base import Long, Result, Task, list_fields, list_texts, of_the_call
from gossamer.tasks.frames import find_pair_frame
from gossamer.tasks.names import checks_options
from gossamer.tasks.passes import Pass, Progress, Reading, plan_passes, read_passes, room
from gossamer.tasks.spans import likeliest_spans
from gossamer.tasks.stream import Streaming
from gossamer.text.words import continues_word, trim

__all__ = ["Answer", "AnswerTask", "Answers"]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A stretch of the context, from character `start` to `end`, and its probability; "" (0, 0): there is no answer."""

    text: str
    score: float
    start: int
    end: int


@dataclass(frozen=True, kw_only=True)
class Answers(Result):
    """The answers to each question, the likeliest first; `null_scores` are the probabilities that there is none.

    `tokens` and `passes` are, for each question, how long it and its context are and in how many passes they were read;
    `notes` are remarks, a line each.
    """

    answers: list[list[Answer]]
    null_scores: list[float]
    tokens: list[int]
    passes: list[int]
    notes: list[str]


@dataclass(frozen=True)
class _Context:
    """A context, how its tokens are read, and the tokens that go on with the word before them."""

    text: str
    reading: Reading
    goes_on: list[bool]


class AnswerTask(Streaming[Answers], Task):
    """Answer questions with a model that has a question-answering head. Raises InputError for other models."""

    heads, load_with, doing = (QuestionAnswering,), "question-answering", "answer questions about"
    item_name = "context"

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        self.pair = find_pair_frame(model.tokenizer)
        # The model finds the question by the separator behind it, or must be told where it is.
        finds_it = model.architecture.separator_id in self.pair.between
        self._flags_question = model.architecture.takes_global_tokens and not finds_it

    @checks_options
    @torch.inference_mode()
    def __call__(
        self,
        questions: str | Sequence[str] | Mapping[str, str] | Sequence[Mapping[str, str]],
        contexts: str | Sequence[str] | None = None,
        top_k: int = 1,
        max_answer_tokens: int = 15,
        impossible: bool = False,
        whole_words: bool = True,
        long: Long = "chunk",
        max_length: int | None = None,
        stride: int | None = None,
        batch_tokens: int | None = None,
        progress: Progress | None = None,
    ) -> Answers:
        """The `top_k` likeliest answers to each question in its context: one of each, as many, or one of either to all.

        A question with its context may be a dict of "question" and "context" as well, one or a list of them. An
        answer's score is P(start) P(end), each a softmax over all tokens of the whole context and the first token,
        which stands for "no answer"; answers longer than `max_answer_tokens` are left out. A context longer than the
        model is read in overlapping passes that all hold the whole question; each token's scores are kept once, "no
        answer" is that of the pass where it is least likely (Devlin et al. 2019, section 4.3), and the softmax goes
        over the whole context, so that scores compare across passes and with those of one pass. `impossible`: "" is
        among the answers. `whole_words`: answers go to the ends of their words, but of words of more than
        `max_answer_tokens` (what has no spaces). `long`, `max_length`, `batch_tokens` and
        `progress` are as in the task embed, `stride` as in tag.

        Raises InputError for empty texts, for numbers of questions and contexts that do not fit, and for a question
        that leaves no room for its context.
        """
        self._check(long, batch_tokens, max_length, stride)
        require_whole("top_k", top_k, of="answers")
        require_whole("max_answer_tokens", max_answer_tokens, of="tokens")
        if isinstance(questions, str):
            with of_the_call():
                self._tokenize("question", 0, questions)
        listed = [*_matched(*_with_contexts(questions, contexts))]
        read_contexts = [self._context(i, *both, max_length) for i, both in enumerate(listed)]
        readings = [context.reading for context in read_contexts]
        tokens = [len(reading.ids) + len(reading.frame) - len(self.pair) for reading in readings]
        notes = self._fit(readings, long, " with its question", None, max_length, len(self.pair))
        nulls = self._read(readings, plan_passes(self.model, readings, max_length, stride), batch_tokens, progress)
        answers_of_each = []
        null_scores = []
        for context, null in zip(read_contexts, nulls, strict=True):
            start, end = (_log_softmax(context.reading.states[:, i], null[i]) for i in (0, 1))
            null_scores.append(float((start[-1] + end[-1]).exp()))
            ranked = likeliest_spans(start[:-1].numpy(), end[:-1].numpy(), max_answer_tokens)
            answers = self._answers(context, ranked, top_k, max_answer_tokens if whole_words else 1)
            none = [Answer(text="", score=null_scores[-1], start=0, end=0)] if impossible else []
            answers_of_each.append(sorted([*answers, *none], key=lambda answer: -answer.score)[:top_k])
        passes = [reading.passes for reading in readings]
        return Answers(answers=answers_of_each, null_scores=null_scores, tokens=tokens, passes=passes, notes=notes)

    def _on_items(self, items: Sequence[Any], numbers: Sequence[int], **options: Any) -> Answers:
        """Items are contexts where the question is given, else questions with their contexts."""
        return self(options.pop("questions"), items, **options) if "questions" in options else self(items, **options)

    def _check_names(self, options: Mapping[str, Any], items: str | None = None) -> None:
        if "questions" not in options:
            super()._check_names(options)
            return
        super()._check_names(options, "contexts")
        if not isinstance(options["questions"], str):
            raise InputError(
                f"questions is {quote(options['questions'])}; give a stream of contexts one question, or each its own "
                'as a dict {"question": ..., "context": ...}'
            )

    def _context(self, i: int, question: object, context: Any, max_length: int | None) -> _Context:
        asked, _ = self._tokenize("question", i, question)
        ids, offsets = self._tokenize("context", i, context)
        frame = self.pair.around_context(asked, self._flags_question)
        if room(self.model, frame, max_length) < 1:
            raise ItemError(
                i,
                f"question {i} is {len(asked)} tokens long, which leaves no room for its context, as the model reads "
                f"{self.model.reading_length(max_length)}: shorten the question, or "
                f"{self._remedy(len(ids) + len(frame))}",
            )
        goes_on = continues_word(self.model.tokenizer, context, ids, offsets)
        for token, (earlier, later) in enumerate(pairwise(offsets), 1):
            # A word behind a space that is a token of its own; a piece of a character that began before.
            goes_on[token] |= later[0] < earlier[1] or not context[slice(*earlier)].strip()
        return _Context(context, Reading(i, ids, offsets, frame), goes_on)

    def _read(
        self, readings: Sequence[Reading], plan: Sequence[Pass], batch_tokens: int | None, progress: Progress | None
    ) -> list[Float[Tensor, "2"]]:
        """Fill in the start and end scores of every token; returns those of "no answer", least likely over passes."""
        nulls: list[Tensor] = [torch.full((2,), torch.inf) for _ in readings]
        with evaluating(self.model):
            read = read_passes(self.model, readings, plan, lambda out: out.logits, batch_tokens, progress)
            for reading, part, row in read:
                reading.keep(part, row)
                if self.pair.before and row[0].sum() < nulls[part.reading].sum():
                    nulls[part.reading] = row[0]
        return nulls if self.pair.before else [torch.full((2,), -torch.inf) for _ in readings]

    def _answers(
        self, context: _Context, ranked: Iterator[tuple[int, int, float]], top_k: int, longest_word: int
    ) -> list[Answer]:
        """The best of different characters, to the ends of words of at most so many tokens."""
        by_span: dict[tuple[int, int], Answer] = {}
        offsets = context.reading.offsets
        # A context that was cut has fewer tokens now.
        words = _words(context.goes_on[: len(offsets)], longest_word)
        for first, last, score in ranked:
            first, last = words[first].start, words[last].stop - 1
            start, end = trim(context.text, offsets[first][0], offsets[last][1])
            if not context.text[start:end].strip():
                continue
            by_span.setdefault((start, end), Answer(text=context.text[start:end], score=score, start=start, end=end))
            if len(by_span) == top_k:
                break
        return list(by_span.values())

    def _chunked(self) -> str:
        return f"{super()._chunked()} with the whole question in each, scores taken over all of them"


def _with_contexts(questions: object, contexts: object) -> tuple[list[Any], list[Any]]:
    """Questions and contexts: given apart, or as dicts of both."""
    asked, of_dicts = list_fields("questions", questions, "question", "context")
    if of_dicts is not None and contexts is not None:
        raise InputError("contexts are given twice, in the dicts and beside them: give them once")
    if of_dicts is None and contexts is None:
        raise InputError("there are no contexts: give the texts that the answers are in")
    return asked, list_texts("contexts", contexts) if of_dicts is None else of_dicts


def _matched(questions: list[Any], contexts: list[Any]) -> Iterator[tuple[Any, Any]]:
    """Each question with its context; one of either goes with all of the other."""
    count = max(len(questions), len(contexts))
    if not {len(questions), len(contexts)} <= {1, count}:
        raise InputError(
            f"there are {plural(len(questions), 'question')} and {plural(len(contexts), 'context')}: "
            "give as many, or one of either"
        )
    all_questions = questions * count if len(questions) == 1 else questions
    return zip(all_questions, contexts * count if len(contexts) == 1 else contexts, strict=True)


def _log_softmax(scores: Float[Tensor, " tokens"], null: Tensor) -> Float[Tensor, " all"]:
    """Over all tokens and, at the end, "no answer"."""
    return torch.cat([scores, null[None]]).double().log_softmax(dim=0)


def _words(goes_on: Sequence[bool], longest: int) -> list[range]:
    """The tokens of each token's word; a token of a longer word stands alone."""
    starts = [i for i, on in enumerate(goes_on) if not on or i == 0]
    words = [range(*both) for both in pairwise([*starts, len(goes_on)])]
    return [word if len(word) <= longest else range(i, i + 1) for word in words for i in word]
