"""max_length in the tasks that read labels, answers and masks; how their remarks count tokens."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_embedders import embedder

import gossamer as gs
from gossamer.errors import InputError
from gossamer.models import Head, MaskedLM, Model, QuestionAnswering, SequenceClassification, TokenClassification
from gossamer.tasks.passes import PassPlan

CASES: dict[str, tuple[Head, tuple[str, ...], int]] = {
    "classify": (SequenceClassification(labels=("no", "yes")), ("abcdefghijkl",), 14),
    "classify-pair": (SequenceClassification(labels=("no", "yes")), ("abcdefghij", "kl"), 15),
    "tag": (TokenClassification(labels=("O", "B-PER", "I-PER")), ("abcdefghijkl",), 14),
    "answer": (QuestionAnswering(), ("ab", "cdefghijkl"), 15),
    "fill-mask": (MaskedLM(), ("[MASK]abcdefghij[MASK]",), 14),
}
"""For each task a head, texts of 12 tokens, and how many that is with the special ones."""


def limited(head: Head) -> Model:
    """A model that could read 16 tokens, and whose files say 8."""
    model = embedder(head, length=16)
    model.tokenizer = model.tokenizer.with_max_length(8)
    return model


def without(found: Any, *fields: str) -> dict[str, Any]:
    return {name: value for name, value in found.to_dict().items() if name not in fields}


@pytest.mark.parametrize("case", CASES)
def test_max_length_is_read_at_once_in_place_of_the_limit_of_the_files(case: str) -> None:
    head, texts, length = CASES[case]
    name = case.removesuffix("-pair")
    expected = gs.task(name, embedder(head, length=16))(*texts)  # type: ignore[operator]
    task: Any = gs.task(name, limited(head))
    found = task(*texts, max_length=length, long="error")
    assert without(found, "notes") == without(expected, "notes")
    assert expected.notes == []
    assert found.notes == [f"read up to {length} tokens at once, as max_length says; the model's own files say 8"]
    several = task(*texts)
    assert several.passes[0] > 1
    assert f"is {length} tokens long, the model reads 8: read in" in several.notes[0]
    assert several.notes[0].endswith(
        f"max_length={length} reads it at once, beyond what the model's own files say (12 without special tokens)"
    )
    assert several.tokens == [12]
    fewer = task(*texts, max_length=length - 1)
    assert (fewer.passes, fewer.notes[0][:20]) == ([2], f"read up to {length - 1} tokens")
    with pytest.raises(InputError, match=r"is 1[45] tokens long, the model reads 9: .* \(12 without special tokens\)$"):
        task(*texts, max_length=9, long="error")
    for wrong in (0, 17, True, "9"):
        with pytest.raises(InputError, match=r"^max_length is .*; it must be a whole number of tokens from 1 to 16"):
            task(*texts, max_length=wrong)


def test_truncation_follows_max_length() -> None:
    head = CASES["classify"][0]
    found = gs.task("classify", limited(head))("abcdefghijkl", max_length=10, long="truncate")
    expected = gs.task("classify", embedder(head, length=16))("abcdefgh")
    assert [one.score for one in found.labels[0]] == pytest.approx([one.score for one in expected.labels[0]])
    with pytest.raises(InputError, match=r"^text 0 has a mask at character 11, behind what the model reads"):
        gs.task("fill-mask", limited(MaskedLM()))("abcdefghijk[MASK]", max_length=10, long="truncate")


def test_without_special_tokens_there_is_one_count() -> None:
    model = embedder(CASES["classify"][0], frame="$A", length=8)
    assert "special" not in gs.task("classify", model)("abcdefghijkl").notes[0]


@settings(max_examples=60, deadline=None)
@given(tokens=st.integers(1, 200), capacity=st.integers(1, 40), data=st.data())
def test_passes_share_the_tokens_of_the_stride(tokens: int, capacity: int, data: st.DataObject) -> None:
    stride = data.draw(st.integers(0, capacity - 1))
    plan = list(PassPlan(0, capacity, stride).passes(tokens, ended=True))
    assert all(part.stop - part.start <= capacity for part in plan)
    kept = [place for part in plan for place in range(part.keep_start, part.keep_stop)]
    assert kept == list(range(tokens))
    shared = [earlier.stop - later.start for earlier, later in pairwise(plan)]
    assert all(stride <= count <= stride + 1 for count in shared)
    assert all(count == stride for count in shared[:-1])


@pytest.mark.parametrize("name", ["tag", "classify", "fill-mask", "answer"])
def test_a_stride_is_taken_or_refused(minilm: Path, name: str) -> None:
    head = {"tag": TokenClassification(labels=("a", "b")), "classify": SequenceClassification(labels=("a", "b")),
            "fill-mask": MaskedLM(), "answer": QuestionAnswering()}[name]  # fmt: skip
    task = gs.task(name, gs.load(minilm, head=head))
    text = "word [MASK] " * 50
    asked = ["who?"] if name == "answer" else []
    passes = [task(*asked, text, max_length=32, stride=stride).passes[0] for stride in (0, 10, 20)]
    assert passes == sorted(set(passes))
    for stride in (-1, 1.5, "3", True):
        with pytest.raises(InputError, match=r"stride is .*; it must be a whole number of tokens, 0 or more, or None"):
            task(*asked, text, stride=stride)
    with pytest.raises(InputError, match="stride is 40; it must be less than the 30 tokens"):
        task(*asked, text, max_length=32, stride=40)


def test_a_stride_is_less_than_what_a_question_leaves(minilm: Path) -> None:
    answer = gs.task("answer", gs.load(minilm, head=QuestionAnswering()))
    with pytest.raises(InputError, match="text 1: stride is 25; it must be less than the 20 tokens"):
        answer("who wrote to Charles in Turin of it?", ["short", "word " * 100], max_length=32, stride=25)
