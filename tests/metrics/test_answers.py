"""Answers against the evaluation of SQuAD 2.0 as `transformers` ships it."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers.data.metrics import squad_metrics as oracle
from transformers.data.processors.squad import SquadExample

from gossamer.errors import InputError
from gossamer.metrics import answer_f1, exact_match

WORDS = st.lists(st.sampled_from(["the", "A", "an", "cat", "Cat,", "sat", "1,000", "--", "théâtre"]), max_size=5)
ANSWERS = WORDS.map(" ".join)
QUESTIONS = st.lists(st.tuples(ANSWERS, st.lists(ANSWERS, max_size=3)), min_size=1, max_size=6)


@pytest.mark.filterwarnings("ignore")
@given(questions=QUESTIONS)
def test_answers_are_judged_as_the_evaluation_of_squad_judges_them(questions: list[tuple[str, list[str]]]) -> None:
    predictions, references = [prediction for prediction, _ in questions], [answers for _, answers in questions]
    examples = [
        SquadExample(str(i), "", "", None, None, "", answers=[{"text": answer} for answer in answers])
        for i, answers in enumerate(references)
    ]
    exact, f1 = oracle.get_raw_scores(examples, {str(i): text for i, text in enumerate(predictions)})
    assert exact_match(predictions, references) == pytest.approx(sum(exact.values()) / len(exact))
    assert answer_f1(predictions, references) == pytest.approx(sum(f1.values()) / len(f1))


def test_no_answer_is_right_where_there_is_none() -> None:
    assert exact_match(["", "a cat"], [[], []]) == 0.5
    assert answer_f1(["", "cat"], [["the"], ["the cat sat"]]) == pytest.approx((1 + 2 / 3) / 2)


@pytest.mark.parametrize(
    ("predictions", "references", "message"),
    [
        ([], [], "0 predictions for 0 references"),
        (["x"], [], "1 predictions for 0 references"),
        ([None], [["x"]], "predictions[0] is None; an answer is a text, '' for none"),
        (["x"], ["x"], "references[0] is 'x'; it must be a list of texts, [] for no answer"),
        (["x"], [[1]], "references[0] is [1]; it must be a list"),
    ],
)
@pytest.mark.parametrize("call", [exact_match, answer_f1])
def test_what_is_no_answer_is_refused(call: Any, predictions: Any, references: Any, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        call(predictions, references)
