"""max_length in the tasks that read labels, answers and masks; how their remarks count tokens."""

from typing import Any

import pytest
from tiny_embedders import embedder

import gossamer as gs
from gossamer.errors import InputError
from gossamer.models import Head, MaskedLM, Model, QuestionAnswering, SequenceClassification, TokenClassification

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
