"""Constrained tags: of all labels in a row that make whole entities the likeliest, by looking at all of them."""

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gossamer as gs
from gossamer.errors import InputError
from gossamer.models import TokenClassification
from gossamer.tasks.viterbi import LabelOrder
from gossamer.text.label_schemes import find_scheme

BIO = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
BIOES = ("O", "B-X", "I-X", "E-X", "S-X", "MISC")
IOE = ("O", "I-X", "E-X")
SUFFIX = ("X-B", "X-M", "X-E", "X-S", "O")
# What labels in a row may be, written down as a regular expression over a letter for each label.
WHOLE = {
    BIO: r"(O|BI*|CJ*)*",
    BIOES: r"(O|BI*E|S|M)*",
    IOE: r"(O|I*E)*",
    SUFFIX: r"(O|BM*E|S)*",
}
LETTERS = {BIO: "OBICJ", BIOES: "OBIESM", IOE: "OIE", SUFFIX: "BMESO"}


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(WHOLE)), st.integers(1, 5), st.integers(0, 2**31))
def test_it_is_the_likeliest_of_all_that_make_whole_entities(labels: tuple[str, ...], pieces: int, seed: int) -> None:
    scores = np.random.default_rng(seed).normal(size=(pieces, len(labels))) * 3
    order = LabelOrder.of(find_scheme(labels), labels)
    rows = itertools.product(range(len(labels)), repeat=pieces)
    whole = [row for row in rows if re.fullmatch(WHOLE[labels], "".join(LETTERS[labels][one] for one in row))]
    expected = max(whole, key=lambda row: sum(scores[i, one] for i, one in enumerate(row)))
    assert order.likeliest(scores).tolist() == list(expected)


def test_labels_of_no_beginning_may_begin_anywhere() -> None:
    for labels in (("O", "I-PER", "I-LOC"), ("O", "PER", "LOC")):
        order = LabelOrder.of(find_scheme(labels), labels)
        assert order.first.all()
        assert order.last.all()
        assert order.behind.all()


def test_the_pieces_of_a_word_may_say_again_that_it_ends() -> None:
    order = LabelOrder.of(find_scheme(BIOES), BIOES)
    single = BIOES.index("S-X")
    scores = np.full((2, len(BIOES)), -5.0)
    scores[:, BIOES.index("E-X")] = 0.0
    scores[:, single] = -1.0
    assert order.likeliest(scores, [False, True]).tolist() == [single, single]
    assert not order.behind[BIOES.index("B-X"), BIOES.index("B-X")]


def test_where_nothing_is_in_order_rules_are_broken_least() -> None:
    labels = ("B-X", "E-X", "I-X", "S-Y")
    order = LabelOrder.of(find_scheme(labels), labels[:3])
    assert order.likeliest(np.array([[0.0, 1.0, 5.0]])).tolist() in ([0], [1])  # one rule broken, not two
    assert order.likeliest(np.array([[0.0, 1.0, 5.0], [3.0, 0.0, 0.0]])).tolist() == [0, 1]


def tagger(minilm: Path, labels: tuple[str, ...]) -> gs.tasks.Tag:
    torch.manual_seed(3)
    return gs.task("tag", gs.load(minilm, head=TokenClassification(labels=labels)))


@pytest.mark.parametrize("aggregation", ["none", "simple", "first", "average", "max"])
def test_a_task_takes_them(minilm: Path, aggregation: str) -> None:
    tag = tagger(minilm, BIO)
    with torch.no_grad():
        tag.model.head.output.weight.mul_(40)
    text = "Ada Lovelace wrote to Charles Babbage, unbelievably, in Torino." * 3
    free = tag(text, aggregation=aggregation, ignore_labels=())
    bound = tag(text, aggregation=aggregation, ignore_labels=(), constrained=True)
    assert bound.entities != free.entities
    if aggregation == "none":
        letters = dict(zip(BIO, LETTERS[BIO], strict=True))
        assert not re.fullmatch(WHOLE[BIO], "".join(letters[one.label] for one in free.entities[0]))
        assert re.fullmatch(WHOLE[BIO], "".join(letters[one.label] for one in bound.entities[0]))
    for entity in bound.entities[0]:
        assert entity.text == text[entity.start : entity.end]
        assert 0 < entity.score <= 1


def test_what_is_refused(minilm: Path) -> None:
    with pytest.raises(InputError, match=r"constrained is True, but the model's labels do not .*leave it out"):
        tagger(minilm, ("NOUN", "VERB"))("a", constrained=True)
    with pytest.raises(InputError, match="constrained is 1; it must be True or False"):
        tagger(minilm, BIO)("a", constrained=1)
