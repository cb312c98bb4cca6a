"""Where in a context the answer to a question stands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from gossamer.errors import InputError, quote
from gossamer.metrics import answer_f1, exact_match
from gossamer.models import Model
from gossamer.models.checks import require, require_count
from gossamer.models.heads import Head, QuestionAnswering
from gossamer.text import Document, Tokenizer
from gossamer.training.objectives.base import Batch, Direction, learnt, unwrapped
from gossamer.training.objectives.labelled.labels import (
    Example,
    LabelledRow,
    LabelObjective,
    describe_field,
    from_cell,
    is_text,
)

__all__ = ["QuestionAnsweringObjective"]


@dataclass(frozen=True, kw_only=True, eq=False)
class AnswerExample(Example):
    """A question and a window of its context; labels: the first and last token of the answer, int64 [2].

    row: its row's number. offsets: int64 [length, 2], in characters of the context; -1 where a token is none of it.
    answers: the texts that are right, none where there is no answer. none_at: the token that says "no answer".
    question_end: tokens up to the question's last.
    """

    row: int
    context: str
    offsets: np.ndarray
    answers: tuple[str, ...]
    none_at: int | None
    question_end: int

    @property
    def global_tokens(self) -> int:
        return self.question_end

    @property
    def has_token_labels(self) -> bool:
        return False


@dataclass(frozen=True, kw_only=True)
class QuestionAnsweringObjective(LabelObjective, kind="question-answering"):
    """Answers that stand in a context, the head `QuestionAnswering` (Devlin et al. 2019, sections 4.2 and 4.3).

    A row has a question, a context and its answers as SQuAD has them: {"text": [...], "answer_start": [...]}, in
    characters of the context, or a list of {"text", "answer_start"}; none where there is no answer, which the first
    token says. The first answer is learnt, all of them are right. A context longer than the model reads is cut into
    windows that share `stride` tokens; one without the whole answer says that there is none. longest: tokens of an
    answer, where held-out rows are read.
    """

    heads: ClassVar[tuple[type[Head], ...]] = (QuestionAnswering,)
    series: ClassVar[tuple[str, ...]] = ("answered",)

    kind: Literal["question-answering"] = "question-answering"
    stride: int = 128
    longest: int = 30
    question_field: str = "question"
    context_field: str = "context"
    answers_field: str = "answers"

    def __post_init__(self) -> None:
        require(self.labels is None, "labels", self.labels, "left out: answers have none")
        require_count(self, "stride", least=0, most=2**20)
        require_count(self, "longest", most=2**20)

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.answers_field,)

    def new_head(self, rows: Sequence[LabelledRow] = (), usual: Head | None = None) -> QuestionAnswering:
        return cast(QuestionAnswering, usual or QuestionAnswering())

    def read_row(self, document: Document, text_field: str) -> LabelledRow:
        fields, where = document.fields, document.name
        question, context = fields.get(self.question_field), fields.get(self.context_field)
        for name, value in ((self.question_field, question), (self.context_field, context)):
            if not is_text(value) or not value.strip():
                raise InputError(f"{where}: the field {name!r} {describe_field(fields, name)}; it must be a text")
        if self.answers_field not in fields:
            raise InputError(
                f"{where}: the field {self.answers_field!r} is missing; it must hold texts and their starts"
            )
        given = from_cell(fields[self.answers_field])
        answers = tuple(_read_answers(where, self.answers_field, given, cast(str, context)))
        return LabelledRow(name=where, text=cast(str, context), pair=question, label=answers)

    def encode(
        self, rows: Sequence[LabelledRow], tokenizer: Tokenizer, length: int, head: Head, *, control_tokens: bool
    ) -> list[Example]:
        numbered = enumerate(rows)
        return [one for i, row in numbered for one in self._windows(i, row, tokenizer, length, control_tokens)]

    def count_labels(self, model: Model, batch: Batch) -> int:
        return int(learnt(batch["labels"]).all(dim=1).sum())

    def loss(self, model: nn.Module, batch: Batch) -> Float[Tensor, ""]:
        """The mean of both ends' losses over the windows that have an answer, or a token that says there is none."""
        return cast(Tensor, model(**_inputs(model, batch)).loss)

    def measure(self, model: nn.Module, batch: Batch) -> tuple[Float[Tensor, ""], dict[str, Any]]:
        return self.measure_examples(model, batch, ())

    def measure_examples(
        self, model: nn.Module, batch: Batch, examples: Sequence[Any]
    ) -> tuple[Float[Tensor, ""], dict[str, Any]]:
        """The loss; and of each window its row's number, its best answer, how good that is, and its scores."""
        out = model(**_inputs(model, batch))
        scores = out.logits.float().cpu().numpy()
        return out.loss, {"answered": [self._answer(one, row) for one, row in zip(examples, scores, strict=False)]}

    def scores(self, model: Model, loss: float, labels: int, sums: Mapping[str, Any]) -> dict[str, float | None]:
        """Exact matches and F1 of words of the likeliest answer over all windows of a row; "" where that is likelier.

        "No answer" is as likely as in the window where it is least likely (Devlin et al. 2019, section 4.3).
        """
        by_row: dict[int, list[_Answered]] = {}
        for one in sums["answered"]:
            by_row.setdefault(one[0], []).append(one)
        best = [_best(windows) for windows in by_row.values()]
        names = ("exact_match", "answer_f1")
        return {name: float(np.mean([one[i] for one in best])) if best else None for i, name in enumerate(names)}

    def directions(self, model: Model | None = None) -> Mapping[str, Direction]:
        return {"exact_match": "higher", "answer_f1": "higher"}

    def _windows(
        self, number: int, row: LabelledRow, tokenizer: Tokenizer, length: int, control_tokens: bool
    ) -> Iterator[AnswerExample]:
        question = len(tokenizer.encode_plain(cast(str, row.pair), control_tokens)[0])
        room = length - question - tokenizer.special_tokens_count(pair=True)
        if room < 1:
            raise InputError(
                f"{row.name}: its question is {question} tokens long, which leaves no room for its context in "
                f"{length:,} tokens; shorten it (batch.length)"
            )
        batch = tokenizer(
            cast(str, row.pair), row.text, max_length=length, truncation="only_second",
            stride=min(self.stride, room // 2), return_offsets=True, control_tokens=control_tokens,
        )  # fmt: skip
        parts = zip(*(batch[name].numpy() for name in _COLUMNS), strict=True)
        for ids, types, mask, special, places in parts:
            real = mask == 1
            offsets = np.where((special[real] == 0)[:, None], places[real], -1)
            asked = np.flatnonzero(offsets[:, 0] >= 0)[:question]
            offsets[asked] = -1
            none_at = int(np.flatnonzero(special[real])[0]) if special[real].any() else None
            answer = next(iter(row.label), None)
            yield AnswerExample(
                name=row.name, ids=ids[real], types=types[real], labels=_ends(answer, offsets, none_at),
                cut=False, row=number, context=row.text, offsets=offsets,
                answers=tuple(text for text, _ in row.label), none_at=none_at,
                question_end=int(asked[-1]) + 1,
            )  # fmt: skip

    def _answer(self, example: AnswerExample, scores: np.ndarray) -> _Answered:
        start, end = scores[: len(example.ids), 0], scores[: len(example.ids), 1]
        none = -np.inf if example.none_at is None else float(start[example.none_at] + end[example.none_at])
        text, best = _likeliest(example, start, end, self.longest)
        right = example.answers or ("",)
        quality = [(exact_match([one], [right]), answer_f1([one], [right])) for one in (text, "")]
        return example.row, best, none, quality[0], quality[1]


_COLUMNS = ("input_ids", "token_type_ids", "attention_mask", "special_tokens_mask", "offsets")
_Answered = tuple[int, float, float, tuple[float, float], tuple[float, float]]
"""Row, the best answer's score, that of none, exact match and F1 of the answer, and of none."""


def _best(windows: Sequence[_Answered]) -> tuple[float, float]:
    best, none = max(windows, key=lambda one: one[1]), min(one[2] for one in windows)
    return best[4] if none > best[1] else best[3]


def _likeliest(example: AnswerExample, start: np.ndarray, end: np.ndarray, longest: int) -> tuple[str, float]:
    """The text of the best stretch of at most so many tokens of the context, and its score."""
    inside = np.flatnonzero(example.offsets[:, 0] >= 0)
    if not len(inside):
        return "", -np.inf
    first, last = inside[0], inside[-1] + 1
    sums = [start[first : last - width] + end[first + width : last] for width in range(min(longest, last - first))]
    bests = [int(one.argmax()) for one in sums]
    width = max(range(len(sums)), key=lambda i: sums[i][bests[i]])
    begin = first + bests[width]
    text = example.context[example.offsets[begin, 0] : example.offsets[begin + width, 1]]
    return text, float(sums[width][bests[width]])


def _ends(answer: tuple[str, int] | None, offsets: np.ndarray, none_at: int | None) -> np.ndarray:
    """The first and last token of an answer that this window holds whole; else where "no answer" is said, if it is."""
    nothing = -100 if none_at is None else none_at
    inside = np.flatnonzero(offsets[:, 0] >= 0)
    if answer is None or not len(inside):
        return np.array([nothing, nothing], dtype=np.int64)
    start, stop = answer[1], answer[1] + len(answer[0])
    held = inside[(offsets[inside, 0] < stop) & (offsets[inside, 1] > start)]
    if not len(held) or offsets[held[0], 0] > start or offsets[held[-1], 1] < stop:
        return np.array([nothing, nothing], dtype=np.int64)
    return np.array([held[0], held[-1]], dtype=np.int64)


def _inputs(model: nn.Module, batch: Batch) -> Batch:
    """The batch with what is not learnt behind its texts, where the head counts nothing; the question is global."""
    labels = batch["labels"]
    others = () if unwrapped(model).architecture.takes_global_tokens else ("global_mask",)
    given = {name: one for name, one in batch.items() if name not in others}
    return {**given, "labels": torch.where(learnt(labels), labels, batch["input_ids"].shape[1])}


def _read_answers(where: str, field: str, given: Any, context: str) -> Iterator[tuple[str, int]]:
    """Texts and where they begin, as they stand in the context."""
    form = '{"text": [...], "answer_start": [...]} (in a table as JSON)'
    if isinstance(given, dict):
        texts, starts = given.get("text"), given.get("answer_start")
        is_even = isinstance(texts, list) and isinstance(starts, list) and len(texts) == len(starts)
        pairs = list(zip(texts, starts, strict=True)) if is_even else None  # type: ignore[arg-type]
    elif isinstance(given, list) and all(isinstance(one, dict) for one in given):
        pairs = [(one.get("text"), one.get("answer_start")) for one in given]
    else:
        pairs = [] if given is None else None
    if pairs is None:
        raise InputError(f"{where}: the field {field!r} is {quote(given)}; it must be {form}, empty for no answer")
    for text, start in pairs:
        if not is_text(text) or not text.strip() or type(start) is not int:
            raise InputError(f"{where}: the answer {quote(text)} at {quote(start)} must be a text and where it begins")
        if start < 0 or context[start : start + len(text)] != text:
            raise InputError(f"{where}: the answer {quote(text)} does not stand at character {start} of its context")
        skipped = len(text) - len(text.lstrip())
        yield text.strip(), start + skipped
