"""ROUGE, BLEU and chrF against counts by hand and the packages, and what is said where one is missing."""

import importlib.util
import math
from typing import Any

import pytest
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu import corpus_bleu, corpus_chrf

from gossamer.errors import InputError
from gossamer.metrics import bleu, chrf, rouge
from gossamer.metrics.generated import GENERATED, check_generated, score_generated

TOLD = ["the cat sat on the mat", "a dog barks"]
RIGHT = ["the cat is on the mat", "dogs bark loudly"]


def test_rouge_counts_words_pairs_and_the_longest_run() -> None:
    found = rouge(TOLD[:1], RIGHT[:1])
    assert found["rouge1"] == pytest.approx(5 / 6)
    assert found["rouge2"] == pytest.approx(3 / 5)
    assert found["rougeL"] == pytest.approx(5 / 6)
    assert rouge(["cats"], ["cat"])["rouge1"] == 1  # words are stemmed
    both = rouge(TOLD, [[RIGHT[0], TOLD[0]], [RIGHT[1]]])
    scorer = RougeScorer(["rouge1"], use_stemmer=True)
    other = scorer.score(RIGHT[1], TOLD[1])["rouge1"].fmeasure
    assert both["rouge1"] == pytest.approx((1 + other) / 2)
    assert rouge(["", "x"], ["y", "x"])["rougeL"] == 0.5


def test_bleu_and_chrf_are_those_of_all_texts_together() -> None:
    told, right = [*TOLD, "we hold these truths to be"], [*RIGHT, "we hold these truths to be self-evident"]
    assert bleu(told, right) == pytest.approx(corpus_bleu(told, [right]).score)
    assert chrf(told, right) == pytest.approx(corpus_chrf(told, [right]).score)
    assert bleu(right, right) == pytest.approx(100)
    assert chrf(right, right) == pytest.approx(100)
    # Precisions by hand: 6 of 6 words, 5 of 5 pairs, 4 of 4, 3 of 3, and a text that is one word short.
    assert bleu(told[2:], right[2:]) == pytest.approx(100 * math.exp(1 - 7 / 6))
    several = [[one, two] for one, two in zip(right, told, strict=True)]
    several[0] = [told[0]]
    assert bleu(told, several) == pytest.approx(100)


def test_metrics_by_name() -> None:
    found = score_generated(["rouge", "chrf"], TOLD, RIGHT)
    assert list(found) == [*GENERATED["rouge"], *GENERATED["chrf"]]
    assert found["rouge2"] == rouge(TOLD, RIGHT)["rouge2"]
    assert score_generated(["bleu"], [], []) == {"bleu": None}
    assert check_generated(["bleu"]) == ("bleu",)


@pytest.mark.parametrize("metric", [rouge, bleu, chrf])
@pytest.mark.parametrize(
    ("told", "right", "said"),
    [
        ([], [], "0 predictions for 0 references"),
        (["a"], ["b", "c"], "1 prediction for 2 references; give one for each"),
        ([None], ["b"], r"predictions\[0\] is None, its references 'b'; both must be texts"),
        (["a"], [[]], r"predictions\[0\] is 'a', its references \[\]"),
    ],
)
def test_what_cannot_be_compared_is_refused(metric: Any, told: Any, right: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        metric(told, right)


def test_names_and_packages_that_are_missing_are_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for names in ("rouge", ["meteor"], 3, [None]):
        with pytest.raises(InputError, match=r"it must be a list of some of 'rouge', 'bleu', 'chrf'"):
            check_generated(names)
    found = importlib.util.find_spec
    hidden = ("sacrebleu", "rouge_score")
    monkeypatch.setattr("gossamer.metrics.generated.find_spec", lambda name: None if name in hidden else found(name))
    for name, package in (("rouge", "rouge-score"), ("bleu", "sacrebleu"), ("chrf", "sacrebleu")):
        with pytest.raises(InputError, match=rf"{name} is computed by {package}; install it: pip install 'gossamer\[m"):
            check_generated([name])
