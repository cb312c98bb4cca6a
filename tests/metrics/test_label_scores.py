"""Accuracy, F1 and Matthews' coefficient against scikit-learn; entity F1 against seqeval; what cannot be computed."""

import math
import re
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics import f1_score as seqeval_f1
from sklearn import metrics as oracle

from gossamer.errors import InputError
from gossamer.metrics import accuracy, entity_f1, f1_score, matthews


def pairs_of(labels: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[list[Any], list[Any]]]:
    return st.lists(st.tuples(labels, labels), min_size=1, max_size=30).map(
        lambda pairs: ([a for a, _ in pairs], [b for _, b in pairs])
    )


CLASSES = st.one_of(
    pairs_of(st.integers(0, 3)), pairs_of(st.sampled_from(["good", "bad", "neither"])), pairs_of(st.booleans())
)
SEVERAL = st.integers(1, 4).flatmap(lambda k: pairs_of(st.lists(st.integers(0, 1), min_size=k, max_size=k)))


def expected(value: float) -> float | None:
    return None if math.isnan(value) else pytest.approx(value)


@given(sides=CLASSES)
def test_classes_are_judged_as_scikit_learn_judges_them(sides: tuple[list[Any], list[Any]]) -> None:
    predictions, references = sides
    assert accuracy(predictions, references) == pytest.approx(oracle.accuracy_score(references, predictions))
    for average in ("micro", "macro"):
        assert f1_score(predictions, references, average) == pytest.approx(
            oracle.f1_score(references, predictions, average=average)
        )
    value = matthews(predictions, references)
    if min(len(set(predictions)), len(set(references))) == 1:
        assert value is None
    else:
        assert value == pytest.approx(oracle.matthews_corrcoef(references, predictions))


@given(sides=pairs_of(st.integers(0, 1)), positive=st.integers(0, 1))
def test_f1_of_one_class(sides: tuple[list[int], list[int]], positive: int) -> None:
    predictions, references = sides
    value = oracle.f1_score(references, predictions, pos_label=positive, zero_division=math.nan)
    assert f1_score(predictions, references, positive=positive) == expected(value)
    names = [["no", "yes"][label] for label in references]
    if positive and any(references):
        assert f1_score([["no", "yes"][label] for label in predictions], names, positive="yes") == expected(value)


@given(sides=SEVERAL, average=st.sampled_from(["micro", "macro"]))
def test_several_labels_an_example(sides: tuple[list[Any], list[Any]], average: Any) -> None:
    predictions, references = sides
    truth, guess = np.array(references), np.array(predictions)
    # One column is no table of several labels to scikit-learn, which would judge 0 as a class as well.
    columns = [oracle.f1_score(*column, zero_division=math.nan) for column in zip(truth.T, guess.T, strict=True)]
    defined = [value for value in columns if not math.isnan(value)]
    if average == "macro":
        value = sum(defined) / len(defined) if defined else math.nan
    else:
        value = oracle.f1_score(truth.ravel(), guess.ravel(), zero_division=math.nan)
    if truth.shape[1] > 1:
        # scikit-learn's micro average has no zero_division of its own where there is nothing at all.
        peer = oracle.f1_score(truth, guess, average=average, zero_division=math.nan)
        assert math.isnan(value) or peer == pytest.approx(value)
    assert f1_score(predictions, references, average) == expected(value)
    assert accuracy(predictions, references) == pytest.approx((truth == guess).all(axis=1).mean())
    assert f1_score(torch.tensor(predictions), torch.tensor(references), average) == expected(value)
    assert f1_score(list(guess), list(truth), average) == expected(value)


def test_tensors_and_arrays_are_read_as_lists() -> None:
    predictions, references = [0, 1, 2, 1], [0, 2, 2, 1]
    for form in (
        torch.tensor,
        np.array,
        lambda labels: list(np.array(labels)),
        lambda labels: list(torch.tensor(labels)),
    ):
        assert accuracy(form(predictions), form(references)) == 0.75
        assert f1_score(form(predictions), form(references), "macro") == f1_score(predictions, references, "macro")


@pytest.mark.parametrize(
    ("call", "arguments", "message"),
    [
        (accuracy, ([], []), "0 predictions for 0 references; give one for each, at least one"),
        (accuracy, ([1], [1, 0]), "1 predictions for 2 references"),
        (accuracy, ([0.4], [1]), "predictions[0] is 0.4; a label is a name or a whole number: of scores, take"),
        (accuracy, ([1], [None]), "references[0] is None; a label is"),
        (accuracy, (torch.randn(2, 2), [0, 1]), "several labels an example are 0 or 1 for each of them"),
        (accuracy, ([[1, 0]], [[1, 0, 1]]), "examples have 2 or 3 columns of labels"),
        (accuracy, ([[1, 0]], [1]), "examples have 0 or 2 columns of labels (0: a single class)"),
        (accuracy, ("ab", "ab"), "predictions is 'ab'; it must be a sequence of labels"),
        (f1_score, ([1], [1], "weighted"), "average is 'weighted'; it must be 'binary', 'micro' or 'macro'"),
        (f1_score, ([0, 1], [2, 1]), "there are 3 classes, [0, 2, 1]; give average='micro' or 'macro'"),
        (f1_score, (["a"], ["b"]), "positive is 1; it must be one of the classes, ['a', 'b']"),
        (f1_score, ([[1, 0]], [[1, 0]]), "examples have several labels; give average='micro' or 'macro'"),
        (matthews, ([[1, 0]], [[1, 0]]), "examples have several labels; Matthews' coefficient is of one"),
        (entity_f1, ([], []), "0 predictions for 0 references; give one for each text"),
        (entity_f1, ([["O"]], [["O", "O"]]), "predictions[0] is ['O'], references[0] is ['O', 'O']; they must be"),
        (entity_f1, (["O"], ["O"]), "predictions[0] is 'O'"),
        (entity_f1, ([["NOUN"]], [["VERB"]]), "labels ['NOUN', 'VERB'] don't mark where entities begin"),
        (entity_f1, ([["O"]], [["O"]], "binary"), "average is 'binary'; it must be 'micro' or 'macro'"),
    ],
)  # fmt: skip
def test_what_cannot_be_judged(call: Any, arguments: Any, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        call(*arguments)


MARKS = {"IOB": "BI", "BIOES": "BIES"}


@pytest.mark.parametrize("marks", MARKS.values(), ids=MARKS)
@given(data=st.data())
def test_entities_are_counted_as_seqeval_counts_them(marks: str, data: st.DataObject) -> None:
    """Labels in any order, also ones that no scheme allows: what a model predicts need not be well formed."""
    names = ["O", *(f"{mark}-{kind}" for mark in marks for kind in ("PER", "ORG", "E-MAIL"))]
    lengths = data.draw(st.lists(st.integers(1, 8), min_size=1, max_size=4))
    label = st.sampled_from(names)
    predictions, references = (
        [data.draw(st.lists(label, min_size=n, max_size=n)) for n in lengths] for _ in ("found", "wanted")
    )
    entities = {each[0] for row in [*predictions, *references] for each in row} - {"O"}
    for average in ("micro", "macro"):
        value = entity_f1(predictions, references, average, labels=names)
        if entities:
            assert value == pytest.approx(seqeval_f1(references, predictions, average=average))
        else:
            assert value is None


def test_the_scheme_is_found_in_the_labels_themselves() -> None:
    iob1 = [["I-PER", "I-PER", "B-PER", "O", "I-LOC"]]
    assert entity_f1([["I-PER", "I-PER", "I-PER", "O", "I-LOC"]], iob1) == pytest.approx(2 / 5)
    assert entity_f1([["O", "O"]], [["O", "O"]]) is None
    single = [["S-PER", "S-PER", "O"]]
    with pytest.raises(InputError, match="give all that there are as labels="):
        entity_f1(single, single)
    assert entity_f1(single, [["S-PER", "O", "O"]], labels=["O", "B-PER", "I-PER", "E-PER", "S-PER"]) == pytest.approx(
        2 / 3
    )
