"""Answers in contexts: windows of long ones, where answers stand in them, and how whole rows are scored."""

from typing import Any

import numpy as np
import pytest
import torch

from gossamer.errors import InputError
from gossamer.families import get_family
from gossamer.models import Model, QuestionAnswering
from gossamer.text import Document, Tokenizer, train_tokenizer
from gossamer.training.objectives import QuestionAnsweringObjective

WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
CONTEXT = " ".join(WORDS)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """A token a word."""
    return train_tokenizer([f"{CONTEXT} what is"] * 9, family="bert", vocabulary_size=200, max_length=64)


def read(row: dict[str, Any], **settings: Any) -> Any:
    objective = QuestionAnsweringObjective(**settings)
    return objective.read_row(Document(source="f.jsonl", number=3, parts=[], fields=row), "text")


def windows(tokenizer: Tokenizer, answer: str, length: int = 12, stride: int = 2) -> list[Any]:
    start = CONTEXT.index(answer) if answer else 0
    given = {"text": [answer] if answer else [], "answer_start": [start] if answer else []}
    row = read({"question": "what is", "context": CONTEXT, "answers": given})
    objective = QuestionAnsweringObjective(stride=stride)
    return objective.encode([row], tokenizer, length, QuestionAnswering(), control_tokens=True)


def test_a_long_context_is_cut_into_windows_that_overlap(tokenizer: Tokenizer) -> None:
    found = windows(tokenizer, "seven eight")
    texts = [[CONTEXT[start:end] for start, end in one.offsets.tolist() if start >= 0] for one in found]
    assert texts == [WORDS[0:7], WORDS[5:12]]
    question = tokenizer.encode_plain("what is")[0]
    for one in found:
        assert one.ids.tolist()[: len(question) + 2] == [tokenizer.cls_id, *question, tokenizer.sep_id]
        assert one.ids[-1] == tokenizer.sep_id
        assert one.question_end == 3
        assert one.types.tolist() == [0] * 4 + [1] * 8
    # The first window has "seven" alone: there the answer is none, which the first token says.
    assert [one.labels.tolist() for one in found] == [[0, 0], [5, 6]]
    assert [one.row for one in found] == [0, 0]


def test_an_answer_in_the_overlap_is_learnt_in_both_windows(tokenizer: Tokenizer) -> None:
    assert [one.labels.tolist() for one in windows(tokenizer, "six seven")] == [[9, 10], [4, 5]]
    assert [one.labels.tolist() for one in windows(tokenizer, "")] == [[0, 0], [0, 0]]


def test_without_a_first_token_nothing_is_learnt_of_no_answer() -> None:
    tokenizer = train_tokenizer([CONTEXT] * 9, family="gpt2", vocabulary_size=300, max_length=64)
    (one,) = windows(tokenizer, "", length=200)
    assert one.none_at is None
    assert one.labels.tolist() == [-100, -100]
    config = {"vocab_size": tokenizer.vocabulary_size, "n_embd": 8, "n_head": 2, "n_layer": 1, "n_positions": 200}
    model = Model(get_family("gpt2").read(config, head=QuestionAnswering())).eval()
    (other,) = windows(tokenizer, "two", length=200)
    objective = QuestionAnsweringObjective()

    def batch(*rows: Any) -> dict[str, torch.Tensor]:
        return {name: torch.from_numpy(np.stack([getattr(row, field) for row in rows]))
                for name, field in (("input_ids", "ids"), ("labels", "labels"))}  # fmt: skip

    assert objective.count_labels(model, batch(one, other)) == 1
    torch.testing.assert_close(objective.loss(model, batch(one, other)), objective.loss(model, batch(other)))


def test_a_row_is_scored_by_its_likeliest_window() -> None:
    """SQuAD's "no answer" is that of the window where it is least likely."""
    right, wrong, half = (1.0, 1.0), (0.0, 0.0), (0.0, 0.5)
    answered = [
        (0, 5.0, 1.0, wrong, wrong), (0, 7.0, 9.0, right, wrong),  # 7 beats the least likely none, 1
        (1, 2.0, 3.0, wrong, right),  # none is likelier
        (2, 2.0, -np.inf, half, wrong),
    ]  # fmt: skip
    found = QuestionAnsweringObjective().scores(None, 0.0, 4, {"answered": answered})  # type: ignore[arg-type]
    assert found == {"exact_match": 2 / 3, "answer_f1": 2.5 / 3}


def test_the_best_stretch_is_the_likeliest_of_all(tokenizer: Tokenizer) -> None:
    """Against a search of every stretch, from the question's tokens on to the end."""
    one = windows(tokenizer, "seven eight")[1]
    random = np.random.default_rng(0)
    for longest in (1, 2, 5, 30):
        scores = random.normal(size=(len(one.ids), 2))
        inside = [i for i, (start, _) in enumerate(one.offsets) if start >= 0]
        pairs = [(i, j) for i in inside for j in inside if i <= j < i + longest]
        first, last = max(pairs, key=lambda pair: scores[pair[0], 0] + scores[pair[1], 1])
        row, best, none, (exact, _), (exact_none, _) = QuestionAnsweringObjective(longest=longest)._answer(one, scores)
        assert best == pytest.approx(scores[first, 0] + scores[last, 1])
        assert none == pytest.approx(scores[0].sum())
        text = CONTEXT[one.offsets[first, 0] : one.offsets[last, 1]]
        assert (row, exact, exact_none) == (0, float(text == "seven eight"), 0.0)


GOOD = {"question": "q", "context": "a b", "answers": {"text": ["b"], "answer_start": [2]}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"question": " "}, r"^f\.jsonl:3: the field 'question' is ' '; it must be a text$"),
        ({"context": None}, r"^f\.jsonl:3: the field 'context' is None"),
        ({"answers": "b"}, r"^f\.jsonl:3: the field 'answers' is 'b'; it must be \{"),
        ({"answers": {"text": ["b"], "answer_start": []}}, r"^f\.jsonl:3: the field 'answers' is"),
        (
            {"answers": [{"text": "b", "answer_start": "2"}]},
            r"the answer 'b' at '2' must be a text and where",
        ),
        ({"answers": [{"text": "b", "answer_start": 1}]}, r"'b' does not stand at character 1 of its context"),
        ({"answers": [{"text": "b", "answer_start": -1}]}, r"'b' does not stand at character -1 of its context"),
    ],
)
def test_bad_answers_are_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read({**GOOD, **changes})


def test_both_forms_of_answers_are_read() -> None:
    assert read(GOOD).label == (("b", 2),)
    assert read({**GOOD, "answers": [{"text": "a ", "answer_start": 0}, {"text": "b", "answer_start": 2}]}).label == (
        ("a", 0), ("b", 2),
    )  # fmt: skip
    assert read({**GOOD, "answers": None}).label == read({**GOOD, "answers": []}).label == ()
