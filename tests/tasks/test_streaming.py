"""Tasks over many texts: the results of single calls, in order, with bad items named and memory that stays."""

import itertools
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from generation_models import decoder
from hypothesis import given, settings
from hypothesis import strategies as st

import gossamer as gs
from gossamer.errors import InputError
from gossamer.models import MaskedLM, QuestionAnswering, SequenceClassification, TokenClassification
from gossamer.patterns import Full
from gossamer.tasks import stream
from gossamer.tasks.answer import AnswerTask
from gossamer.text import byte_tokenizer

HEADS = {
    "classify": SequenceClassification(labels=("no", "yes", "so")),
    "tag": TokenClassification(labels=("O", "B-PER", "I-PER", "B-LOC", "I-LOC")),
    "fill-mask": MaskedLM(),
    "answer": QuestionAnswering(),
}
WORDS = [
    "ada",
    "wrote",
    "to",
    "charles",
    "in",
    "turin",
    "about",
    "the",
    "engine",
    "and",
    "he",
    "answered",
    "from",
    "london",
]
ANSWER = {"questions": "who wrote?"}


@pytest.fixture(scope="module")
def tasks(minilm: Path) -> dict[str, Any]:
    torch.manual_seed(0)
    return {name: gs.task(name, gs.load(minilm, head=head)) for name, head in HEADS.items()}


def texts(name: str, lengths: list[int]) -> list[str]:
    mask = " [MASK]" if name == "fill-mask" else ""
    return [" ".join(itertools.islice(itertools.cycle(WORDS[i % 5 :]), n)) + mask for i, n in enumerate(lengths)]


def single(task: Any, text: str) -> Any:
    return task(ANSWER["questions"], [text]) if isinstance(task, AnswerTask) else task([text])


def same(ours: Any, theirs: Any) -> bool:
    """Equal but for the last digits of scores, which depend on what is read beside a text."""
    if isinstance(ours, dict):
        return ours.keys() == theirs.keys() and all(same(ours[key], theirs[key]) for key in ours)
    if isinstance(ours, list | tuple):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    return ours == pytest.approx(theirs, abs=1e-5) if isinstance(ours, float) else ours == theirs


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("at_once", [1, 3, 256])
def test_each_item_has_what_a_call_on_it_alone_gives(
    tasks: dict[str, Any], name: str, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "GROUP_ITEMS", at_once)
    listed = texts(name, [3, 40, 1, 7, 25])
    options = ANSWER if name == "answer" else {}
    found = list(tasks[name].stream((text for text in listed), **options))
    assert [item.number for item in found] == [0, 1, 2, 3, 4]
    for item, text in zip(found, listed, strict=True):
        assert item.error is None
        assert same(item.result.to_dict(), single(tasks[name], text).to_dict())


BAD = {"": "is empty", 5: "is 5, a int", "\ud800": "half a surrogate"}


@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from(["a short text", *BAD]), min_size=1, max_size=9), st.sampled_from([2, 256]))
def test_a_bad_item_is_told_with_its_place_and_the_others_go_on(
    tasks: dict[str, Any], items: list[Any], at_once: int
) -> None:
    before, stream.GROUP_ITEMS = stream.GROUP_ITEMS, at_once
    try:
        found = list(tasks["tag"].stream(items))
    finally:
        stream.GROUP_ITEMS = before
    assert [item.number for item in found] == list(range(len(items)))
    for item, given_one in zip(found, items, strict=True):
        if given_one in BAD:
            assert item.result is None
            assert item.error.startswith(f"text {item.number} ")
            assert BAD[given_one] in item.error
        else:
            assert item.error is None
            assert item.result.tokens == [3]


def test_notes_on_a_text_name_its_own_number_and_those_on_the_call_come_once(
    tasks: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "GROUP_ITEMS", 2)
    long = texts("tag", [600])[0]
    notes = [item.result.notes for item in tasks["tag"].stream(["a", "b", "c", long, "d", long])]
    assert [len(some) for some in notes] == [0, 0, 0, 1, 0, 1]
    assert notes[3][0].startswith("text 3 is ")
    assert notes[5][0].startswith("text 5 is ")
    model = tasks["tag"].model
    model.tokenizer = model.tokenizer.with_max_length(64)
    try:
        notes = [item.result.notes for item in tasks["tag"].stream(["a"] * 5, max_length=128)]
    finally:
        model.tokenizer = model.tokenizer.with_max_length(512)
    assert [len(some) for some in notes] == [1, 0, 0, 0, 0]


def test_options_are_refused_before_anything_is_read(tasks: dict[str, Any]) -> None:
    def unread() -> Iterator[str]:
        raise AssertionError("nothing is to be read")
        yield ""

    with pytest.raises(InputError, match="it is aggregation"):
        tasks["tag"].stream(unread(), aggregation_strategy="simple")
    with pytest.raises(InputError, match="aggregation is 'wild'; it must be one of"):
        list(tasks["tag"].stream(["a"], aggregation="wild"))
    with pytest.raises(InputError, match="progress is True"):
        tasks["tag"].stream(["a"], progress=True)
    for wrong in ({"a": 1}, {"a"}, b"a", 5):
        with pytest.raises(InputError, match="give one string or a list of strings"):
            tasks["tag"].stream(wrong)


def test_items_are_asked_for_as_they_are_read_and_dropped(tasks: dict[str, Any]) -> None:
    asked = 0

    def many() -> Iterator[str]:
        nonlocal asked
        while True:
            asked += 1
            yield "word " * 4000

    first = next(iter(tasks["classify"].stream(many(), long="truncate", max_length=16)))
    assert first.number == 0
    assert asked == -(-stream.GROUP_CHARACTERS // 20_000)


def test_memory_does_not_grow_with_the_texts(tasks: dict[str, Any]) -> None:
    def peak(groups: int) -> int:
        count = groups * stream.GROUP_CHARACTERS // 2000
        tracemalloc.start()
        for _ in tasks["classify"].stream((f"{i} " + "x" * 1997 for i in range(count)), long="truncate", max_length=8):
            pass
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return highest

    peak(1)
    assert peak(5) - peak(2) < stream.GROUP_CHARACTERS  # a byte a character and more, if texts were held


def test_progress_counts_the_tokens_of_all_groups(tasks: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "GROUP_ITEMS", 2)
    told: list[tuple[int, int | None]] = []
    listed = texts("classify", [3, 9, 4, 30, 2])
    found = list(tasks["classify"].stream(listed, progress=lambda done, total: told.append((done, total))))
    counts = [done for done, _ in told]
    assert counts == sorted(counts)
    assert counts[-1] == sum(item.result.tokens[0] for item in found)
    assert {total for _, total in told} == {None}


@pytest.mark.parametrize("seed", [5, [9, 1, 7, 3, 2]])
def test_texts_are_continued_as_in_one_call(seed: int | list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    model = decoder([Full(causal=True)], vocabulary=257, tokenizer=byte_tokenizer(), dtype=torch.float64)
    generate = gs.task("generate", model)
    listed = ["ada wrote", "to", "charles in", "turin", "about the"]
    options: dict[str, Any] = {"max_new_tokens": 4, "seed": seed}
    in_one = generate(listed, **options)
    monkeypatch.setattr(stream, "GROUP_ITEMS", 2)
    streamed = [item.result for item in generate.stream(listed, **options)]
    assert [one.ids[0] for one in streamed] == in_one.ids
    assert [one.seeds[0] for one in streamed] == in_one.seeds
    beams = {"max_new_tokens": 4, "beams": {"num_beams": 3, "num_return_sequences": 2}}
    in_one = generate(listed, **beams)
    streamed = [item.result for item in generate.stream(listed, **beams)]
    assert [ids for one in streamed for ids in one.ids] == in_one.ids
    assert all(one.prompts == [0, 0] for one in streamed)


def test_kinds_of_items_go_by_themselves(tasks: dict[str, Any]) -> None:
    pair = {"text": "b", "text_pair": "c"}
    items: list[Any] = ["a", pair, "d", {"text": "e"}, {"text": "f", "other": "g"}, pair]
    found = list(tasks["classify"].stream(items))
    assert [item.error is None for item in found] == [True, True, True, True, False, True]
    for i in (0, 1, 2, 3, 5):
        assert same(found[i].result.to_dict(), tasks["classify"](items[i]).to_dict())


def test_what_fails_behind_some_items_comes_behind_their_results(tasks: dict[str, Any]) -> None:
    def broken() -> Iterator[str]:
        yield from ["a", "b"]
        raise ValueError("the source broke")

    items = tasks["classify"].stream(broken())
    assert [next(items).number, next(items).number] == [0, 1]
    with pytest.raises(ValueError, match="the source broke"):
        next(items)


def test_options_that_are_of_one_call_are_refused(tasks: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "GROUP_ITEMS", 2)
    refused = [
        ("answer", {"questions": ["q", "r"]}, "give a stream of contexts one question, or each its own as a dict"),
        ("answer", {"questions": ""}, "question 0 is empty"),
        ("classify", {"texts": ["b"]}, "there is no option 'texts'"),
        ("classify", {"text_pair": ["b"] * 4}, "give each text with its own, as a dict"),
    ]
    for name, options, said in refused:
        with pytest.raises(InputError, match=said):
            list(tasks[name].stream(["a"] * 4, **options))
    labels = (label for label in ("O",))  # would be empty for the second group
    assert len([item.result.entities for item in tasks["tag"].stream(["a"] * 4, ignore_labels=labels)]) == 4


def test_seeds_that_do_not_fit_are_refused() -> None:
    model = decoder([Full(causal=True)], vocabulary=257, tokenizer=byte_tokenizer(), dtype=torch.float64)
    generate = gs.task("generate", model)
    for seed, said in (([1, 2], "seed holds 2 numbers, none for item 2"), ("x", "seed is 'x'"), (True, "seed is True")):
        with pytest.raises(InputError, match=said):
            list(generate.stream(["a", "b", "c"], max_new_tokens=2, seed=seed))
