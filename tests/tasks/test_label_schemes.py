"""Schemes of labels: read off all labels of a model together, and what entities come of them."""

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_embedders import VOCABULARY, tokenizer
from token_taggers import token_tagger

import gossamer as gs
from gossamer.text import Tokenizer
from gossamer.text.label_schemes import find_scheme


@pytest.mark.parametrize(
    ("labels", "name", "kinds"),
    [
        ("O B-PER I-PER B-LOC I-LOC MISC", "BIO", "PER LOC"),
        ("O I-PER I-LOC", "BIO", "PER LOC"),
        ("O B-PER I-PER I-LOC", "BIO", "PER LOC"),
        ("[PAD] O B-x-y I-x-y B-T-cell", "BIO", "x-y T-cell"),
        ("o b-loc i-loc", "BIO, small letters", "loc"),
        ("O LOC-B LOC-I PER-B", "BIO, suffix", "LOC PER"),
        ("O B_LOC I_LOC B_a-b", "BIO, _", "LOC a-b"),
        ("o loc_b loc_i", "BIO, suffix, small letters, _", "loc"),
        ("O I-LOC E-LOC", "IOE", "LOC"),
        ("O B-ORG I-ORG E-ORG S-PER S-LOC", "BIOES", "ORG PER LOC"),
        ("O ORG-B ORG-E PER-S", "BIOES, suffix", "ORG PER"),
        ("O B-ORG I-ORG S-ORG", "BIOES", "ORG"),
        ("O B-A I-A L-A U-A U-B", "BILOU", "A B"),
        ("O B-A M-A E-A S-B", "BMES", "A B"),
        ("O B-A M-A E-A W-B", "BMEWO", "A B"),
        # Letters that mark nothing.
        ("NOUN VERB X", "plain", ""),
        ("LABEL_0 LABEL_1", "plain", ""),
        ("E-MAIL S-CLASS I-95 O", "plain", ""),
        ("O I-95 I-80", "plain", ""),
        ("O type-I type-II", "plain", ""),
        ("O vitamin-B", "plain", ""),
        ("T-cell B-cell O", "plain", ""),
        ("O A-CLASS B-CLASS C-CLASS E-CLASS S-CLASS", "plain", ""),
        ("O B-CLASS S-CLASS", "plain", ""),
        ("O I-BEAM PIPE WALL", "plain", ""),
        ("O S-A S-B", "plain", ""),
        # Labels without a mark beside labels with one.
        ("O B-PER I-PER E-MAIL S-CLASS I-95", "BIO", "PER"),
        ("O B-PER I-PER E-PER S-PER E-MAIL I-BEAM B-SIDE", "BIOES", "PER"),
        ("O B-PER I-PER L-PER E-PER", "plain", ""),
    ],
)
def test_the_scheme_of_all_labels(labels: str, name: str, kinds: str) -> None:
    scheme = find_scheme(labels.split())
    assert scheme.name == name
    assert list(dict.fromkeys(one.kind for one in scheme.labels.values())) == kinds.split()
    assert all(scheme.read(label).kind == label for label in labels.split() if label not in scheme.labels)
    assert scheme.outside == ("o" if "small" in name else "O")


LETTERS = {"IOB1": "OBI", "BIO": "OBI", "IOE": "OIE", "BIOES": "OBIES", "BILOU": "OBILU", "BMES": "OBMES"}


@pytest.mark.parametrize(
    ("scheme", "marks", "entities"),
    [
        ("BIO", "OBIBIOB", "12 34 6"),
        ("IOB1", "IIBIOII", "01 23 56"),
        ("IOE", "IEEIIEO", "01 2 345"),
        ("BIOES", "BIESOBE", "012 3 56"),
        ("BIOES", "SSIEOIO", "0 1 23 5"),
        ("BILOU", "BILUUOB", "012 3 4 6"),
        ("BMES", "BMMESOS", "0123 4 6"),
    ],
)
@pytest.mark.parametrize("form", ["{mark}-LOC", "LOC-{mark}", "{mark}_LOC", "{small}-loc", "loc_{small}"])
@pytest.mark.parametrize("aggregation", ["simple", "first", "average", "max"])
def test_entities_begin_and_end_where_the_marks_say(
    scheme: str, marks: str, entities: str, form: str, aggregation: str
) -> None:
    """Each letter of the text is a word whose label is named by it."""
    outside = "o" if "small" in form else "O"

    def written(mark: str) -> str:
        return outside if mark == "O" else form.format(mark=mark, small=mark.lower())

    labels = [written(mark) for mark in LETTERS[scheme]]
    letters = LETTERS[scheme].lower()
    label_of = {**dict.fromkeys(VOCABULARY, outside), **dict(zip(letters, labels, strict=True))}
    model = token_tagger(tokenizer("$A"), labels, lambda token: label_of[token])
    text = " ".join(marks.lower())
    tagged = gs.task("tag", model)(text, aggregation)
    assert [(one.label, one.text) for one in tagged.entities[0]] == [
        ("loc" if "small" in form else "LOC", text[2 * int(places[0]) : 2 * int(places[-1]) + 1])
        for places in entities.split()
    ]
    assert tagged.scheme.startswith(scheme.replace("IOB1", "BIO"))
    kept = gs.task("tag", model)(text, "none", ignore_labels=()).entities[0]
    assert [one.label for one in kept] == [written(mark) for mark in marks]


def test_the_pieces_of_a_last_word_end_one_entity(minilm: Path) -> None:
    labels = ["O", "B-LOC", "I-LOC", "E-LOC", "S-LOC"]
    model = token_tagger(Tokenizer.load(minilm), labels, lambda token: "S-LOC" if token != "to" else "O")
    tagged = gs.task("tag", model)("transcendentalisms to Oslo Bergen")
    assert [one.text for one in tagged.entities[0]] == ["transcendentalisms", "Oslo", "Bergen"]


def conlleval(labels: list[str]) -> set[tuple[int, int, str]]:
    """The entities of BIO and BIOES labels by the rules of conlleval.pl, which looks at every two neighbours."""
    found, begin = set(), 0
    parts = [("O", "")] + [(one[0], one[2:]) for one in labels] + [("O", "")]
    for i, ((before, old), (now, new)) in enumerate(pairwise(parts)):
        ends = before != "O" and (before in "ES" or now in "BSO" or old != new)
        begins = now != "O" and (now in "BS" or before in "ESO" or old != new)
        if ends:
            found.add((begin, i, old))
        if begins:
            begin = i
    return found


@pytest.mark.parametrize("marks", ["BI", "BIES"])
@given(data=st.data())
def test_entities_are_those_of_conlleval(marks: str, data: st.DataObject) -> None:
    every = ["O", *(f"{mark}-{kind}" for mark in marks for kind in ("PER", "LOC"))]
    labels = data.draw(st.lists(st.sampled_from(every), max_size=12))
    assert find_scheme(every).entities(labels) == conlleval(labels)
