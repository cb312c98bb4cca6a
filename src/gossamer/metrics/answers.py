"""How well answers are found in texts: SQuAD's exact match and F1 of words, also where no answer is right."""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Callable, Sequence

from gossamer.errors import InputError, quote
from gossamer.metrics.labels import f1

__all__ = ["answer_f1", "exact_match", "normalize_answer"]

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def exact_match(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """The share of answers, "" for none, that equal one of their references after SQuAD's normalisation.

    references: for each question the answers that are right; [] where the text has none, and "" is right. Sources:
    Rajpurkar et al. 2016, section 6.1; 2018 for texts without an answer. Raises InputError for no questions, numbers
    that differ, and what is no text.
    """
    return _mean_best(predictions, references, lambda prediction, reference: float(prediction == reference))


def answer_f1(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """The mean over questions of the best F1 of words between an answer and one of its references, as `exact_match`.

    Where either has no words it is 1 if neither has, else 0. Sources and errors: as `exact_match`.
    """
    return _mean_best(predictions, references, _word_f1)


def normalize_answer(text: str) -> str:
    """In small letters, without ASCII punctuation and the articles a, an, the, a single space between words.

    Source: Rajpurkar et al. 2016, section 6.1 and their evaluation script.
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def _word_f1(prediction: str, reference: str) -> float:
    found, wanted = prediction.split(), reference.split()
    right = (Counter(found) & Counter(wanted)).total()
    score = f1(right, len(found), len(wanted))
    return 1.0 if score is None else score


def _mean_best(
    predictions: Sequence[str], references: Sequence[Sequence[str]], score: Callable[[str, str], float]
) -> float:
    if len(predictions) != len(references) or not predictions:
        raise InputError(
            f"{len(predictions)} predictions for {len(references)} references; give one for each question, at least one"
        )
    scores = []
    for i, (prediction, answers) in enumerate(zip(predictions, references, strict=True)):
        if not isinstance(prediction, str):
            raise InputError(f"predictions[{i}] is {quote(prediction)}; an answer is a text, '' for none")
        if isinstance(answers, str) or not all(isinstance(answer, str) for answer in answers):
            raise InputError(f"references[{i}] is {quote(answers)}; it must be a list of texts, [] for no answer")
        wanted = [text for answer in answers if (text := normalize_answer(answer))] or [""]
        scores.append(max(score(normalize_answer(prediction), reference) for reference in wanted))
    return math.fsum(scores) / len(scores)
