"""The task score: every token of a text of any length once, behind as many as it was asked to see."""

import math
from typing import Any

import pytest
import torch
from generation_models import decoder
from hypothesis import given, settings
from hypothesis import strategies as st
from test_writing_tasks import model as writer

import gossamer as gs
from gossamer.errors import InputError
from gossamer.generation import score_continuations
from gossamer.patterns import Full
from gossamer.text import byte_tokenizer

END, LENGTH = 256, 24


def of(length: int = LENGTH) -> Any:
    return decoder([Full(causal=True)] * 2, length=length, vocabulary=257, tokenizer=byte_tokenizer())


def dense(model: Any, ids: list[int], most: int, shared: int) -> float:
    """The sum over tokens, pass by pass, by whole forward passes."""
    ids, total, done = [END, *ids], 0.0, 1
    first = 0
    while done < len(ids):
        stop = min(len(ids), first + most + 1)
        window = torch.tensor([ids[first:stop]])
        scores = model(window[:, :-1]).logits[0].log_softmax(-1)
        for place in range(done, stop):
            total += float(scores[place - first - 1, ids[place]])
        done, first = stop, stop - max(1, shared)
    return total


@settings(max_examples=30, deadline=None)
@given(st.text("abcde ", min_size=1, max_size=90), st.integers(0, LENGTH - 1), st.booleans())
def test_the_sum_is_that_of_whole_passes(text: str, stride: int, has_stride: bool) -> None:
    if not text.strip():
        return
    model = of()
    found = gs.task("score", model)(text, stride=stride if has_stride else None)
    ids = byte_tokenizer().encode_plain(text)[0]
    with torch.no_grad():
        expected = dense(model, ids, LENGTH, stride if has_stride else LENGTH // 2)
    assert found.log_likelihoods[0] == pytest.approx(expected, abs=1e-9)
    assert found.tokens == [len(ids)]
    assert found.perplexities[0] == pytest.approx(math.exp(-expected / len(ids)))
    assert found.bits_per_byte[0] == pytest.approx(-expected / math.log(2) / len(text.encode()))
    assert (len(found.notes) > 0) == (found.passes[0] > 1) == (len(ids) > LENGTH)


def test_targets_are_those_of_score_continuations() -> None:
    for model in (of(), writer()):
        texts, targets = ["ada wrote", "to"], [" him", "charles"]
        found = gs.task("score", model)(texts, targets)
        expected = score_continuations(model, texts, [[target] for target in targets])
        assert found.log_likelihoods == pytest.approx([one.log_likelihood for (one,) in expected])
        assert found.is_greedy == [one.is_greedy for (one,) in expected]
        rows = [{"text": text, "target": target} for text, target in zip(texts, targets, strict=True)]
        assert gs.task("score", model)(rows).to_dict() == found.to_dict()


def test_it_streams() -> None:
    task = gs.task("score", of())
    items = list(task.stream(["abc", "", "a longer text " * 5]))
    assert [item.error is None for item in items] == [True, False, True]
    assert items[2].result.notes[0].startswith("text 2 is longer than the 24 tokens that the model reads: scored in")
    rows = [{"text": "a" * 10, "target": "b"}, {"text": "a" * 30, "target": "b"}, {"text": "a", "target": ""}]
    items = list(task.stream(rows))
    assert items[0].error is None
    assert items[1].error == "text 1 is 30 tokens long, the model reads 24: shorten it"
    assert "text 2 is '', which has no tokens" in items[2].error


REFUSED: list[tuple[tuple[Any, ...], dict[str, Any], str]] = [
    (("",), {}, "text 0 is empty"),
    ((["a"], ["b", "c"]), {}, "there are 1 text and 2 targets: give one for each text"),
    (([{"text": "a", "target": "b"}], ["c"]), {}, "targets are given twice"),
    (("a",), {"stride": 24}, "stride is 24; it must be less than the 24 tokens"),
    (("a",), {"stride": -1}, "stride is -1; it must be a whole number of tokens, 0 or more, or None"),
    (("a", [5]), {}, "target 0 is 5, a int; it must be a string"),
]


@pytest.mark.parametrize(("texts", "options", "said"), REFUSED, ids=lambda one: str(one)[:40])
def test_what_is_refused(texts: tuple[Any, ...], options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        gs.task("score", of())(*texts, **options)


def test_a_model_of_two_texts_needs_targets() -> None:
    with pytest.raises(InputError, match="the model writes second texts: give targets, the ones to be scored"):
        gs.task("score", writer())("a")


def test_a_stream_has_one_target_or_each_its_own() -> None:
    task = gs.task("score", of())
    items = list(task.stream(["a", "", "c"], targets="b"))
    assert [item.error is None for item in items] == [True, False, True]
    with pytest.raises(InputError, match="give a stream of texts one target, or each its own as a dict"):
        list(task.stream(["a", "b"], targets=["c", "d"]))
    named = {"text": "b", "target": b"text 99"}
    items = list(task.stream([{"text": "b", "target": "ok"}, named]))  # type: ignore[list-item]
    assert items[1].error.startswith("target 1 is b'text 99', a bytes")
