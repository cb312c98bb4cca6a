"""Entities: transformers' pipeline on short texts; long ones as one pass of a long model gives them; borders."""

import dataclasses
import json
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pipeline_models import CORPUS, LABELS, Both
from tiny_embedders import embedder, rule_model, short_and_long

import gossamer as gs
from gossamer.errors import InputError
from gossamer.models import TokenClassification
from gossamer.tasks import Tag, Tagged
from gossamer.tasks.tag import Aggregation
from gossamer.text.words import trim

HEAD = TokenClassification(labels=LABELS)
RULE = TokenClassification(labels=("O", "B-PER", "I-PER"))
WAYS = get_args(Aggregation)


@pytest.fixture(scope="module", params=["bert", "roberta", "longformer", "electra", "modernbert"])
def both(request: pytest.FixtureRequest, minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Both:
    return Both(request.param, "token-classification", tmp_path_factory.mktemp("tag"), minilm)


def letters_alone(word: str) -> str:
    """A word without marks and without letters that byte-level tokens cut."""
    return "".join(char for char in word if char.isascii() and char.isalnum())


@pytest.mark.parametrize("aggregation", WAYS)
@given(words=st.lists(st.sampled_from(" ".join(CORPUS).split()), min_size=1, max_size=30), ignore=st.booleans())
@settings(max_examples=12)
def test_what_the_pipeline_gives(both: Both, aggregation: Any, words: list[str], ignore: bool) -> None:
    if both.model.tokenizer.subword_prefix is None and aggregation in ("first", "average", "max"):
        # There the pipeline counts a word's punctuation to it, and Gossamer does not (test_words.py).
        words = [word for word in map(letters_alone, words) if word]
        if not words:
            return
    text = " ".join(words)
    ignored = ["O"] if ignore else []
    expected = both.theirs(text, aggregation_strategy=aggregation, ignore_labels=ignored)
    found = gs.task("tag", both.model)(text, aggregation, ignore_labels=ignored)
    field = "entity" if aggregation == "none" else "entity_group"
    (entities,) = found.entities
    assert [(one.label, one.start, one.end) for one in entities] == [
        # The pipeline's last word of a group may be a space.
        (one[field], *trim(text, one["start"], one["end"]))
        for one in expected
    ]
    assert [one.score for one in entities] == pytest.approx([float(one["score"]) for one in expected], rel=1e-4)
    assert all(one.text == text[one.start : one.end] for one in entities)
    assert (found.passes, found.notes) == ([1], [])


SHORT_OR_LONG = st.text("abcdefghij ", min_size=1, max_size=61) | st.text("abcdefghij ", min_size=150, max_size=400)


@given(text=SHORT_OR_LONG.filter(str.strip), aggregation=st.sampled_from(WAYS))
def test_long_texts_give_what_one_pass_of_a_long_model_gives(text: str, aggregation: Any) -> None:
    short, long = short_and_long(HEAD)
    merged, whole = (Tag(model)(text, aggregation, ignore_labels=()) for model in (short, long))
    assert whole.passes == [1]
    assert (merged.passes[0] > 1) == (merged.tokens[0] > 62) == bool(merged.notes)
    assert [(one.label, one.start, one.end) for one in merged.entities[0]] == [
        (one.label, one.start, one.end) for one in whole.entities[0]
    ]
    assert [one.score for one in merged.entities[0]] == pytest.approx(
        [one.score for one in whole.entities[0]], rel=1e-4
    )


@given(text=st.text("abcxyz \n", min_size=1, max_size=90).filter(str.strip), aggregation=st.sampled_from(WAYS))
def test_every_token_is_counted_once(text: str, aggregation: Any) -> None:
    (entities,) = Tag(embedder(HEAD))(text, aggregation, ignore_labels=()).entities
    assert "".join("".join(one.text.split()) for one in entities) == "".join(text.split())
    assert all(one.text == text[one.start : one.end] == one.text.strip() for one in entities)
    assert all(0 < one.score <= 1 for one in entities)
    if aggregation == "none":
        assert len(entities) == len("".join(text.split()))


@pytest.mark.parametrize("aggregation", ["simple", "first", "average", "max"])
def test_an_entity_comes_out_whole_wherever_it_stands(aggregation: Any) -> None:
    """A name of three words is planted at every place of a text of several passes, on their borders too."""
    tag = Tag(rule_model(RULE, {"x": 1, "y": 2, **dict.fromkeys("abc", 0)}, length=16))
    for place in range(50):
        words = ["abc"[i % 3] for i in range(50)]
        words[place:place] = ["x", "y", "y"]
        text = " ".join(words)
        found = tag(text, aggregation)
        assert found.passes[0] > 3
        assert [(one.label, one.text, one.start) for one in found.entities[0]] == [("PER", "x y y", 2 * place)]


def test_two_entities_in_a_row_are_two() -> None:
    tag = Tag(rule_model(RULE, {"x": 1, "y": 2, **dict.fromkeys("abc", 0)}, length=16))
    assert [one.text for one in tag("a x y x y b y").entities[0]] == ["x y", "x y", "y"]
    assert [one.label for one in tag("a x y", "none").entities[0]] == ["B-PER", "I-PER"]


def test_company_changes_nothing_and_groups_bound_what_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    tag = Tag(embedder(HEAD))
    texts = ["abc", "the quick brown fox", "z", "a" * 50, "hello"]
    together = tag(texts)
    monkeypatch.setattr("gossamer.tasks.passes.GROUP_TOKENS", 10)
    seen: list[tuple[int, int]] = []
    grouped = tag(texts, progress=lambda *step: seen.append(step))
    assert seen[-1] == (75, 75)
    for i, text in enumerate(texts):
        for found in (together.entities[i], grouped.entities[i]):
            alone = tag(text).entities[0]
            assert [(one.label, one.start, one.end) for one in found] == [
                (one.label, one.start, one.end) for one in alone
            ]


def test_long_texts_are_cut_or_refused_when_asked() -> None:
    tag = Tag(embedder(HEAD))
    cut = tag("a" * 20, ignore_labels=(), long="truncate")
    assert (cut.entities[0][-1].end, cut.tokens, cut.passes) == (14, [20], [1])
    assert "is 22 tokens long, the model reads 16: cut" in cut.notes[0]
    with pytest.raises(InputError, match="text 0 is 22 tokens long"):
        tag("a" * 20, long="error")


def test_results_are_frozen_and_json() -> None:
    model = embedder(HEAD)
    model.train()
    found = Tag(model)(["ab"], "none", ignore_labels=())
    assert model.training
    assert isinstance(found, Tagged)
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.entities = []  # type: ignore[misc]
    data = json.loads(json.dumps(found.to_dict()))
    assert set(data["entities"][0][1]) == {"label", "score", "start", "end", "text"}
    assert data["scheme"] == "BIO"


@pytest.mark.parametrize(
    ("texts", "options", "said"),
    [
        ("", {}, "^text 0 is empty"),
        ([], {}, "^there are no texts"),
        ("a", {"aggregation": "mean"}, "^aggregation is 'mean'; it must be one of none, simple, first, average, max$"),
        ("a", {"aggregation": None}, "^aggregation is None"),
        ("a", {"aggregation": ["none"]}, "^aggregation is"),
        ("a", {"ignore_labels": None}, r"^ignore_labels is None; give a label or a list of them, or \(\) to keep"),
        ("a", {"ignore_labels": 3}, "^ignore_labels is 3"),
        ("a", {"ignore_labels": ["O", None]}, "^ignore_labels is"),
        ("a", {"batch_tokens": 0}, "^batch_tokens is 0"),
    ],
)
def test_what_cannot_be_tagged(texts: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Tag(embedder(HEAD))(texts, **options)


def test_models_that_cannot_tag() -> None:
    with pytest.raises(
        InputError, match="head is 'embed', so it cannot tag texts: take a model with the head 'token-cl"
    ):
        Tag(embedder())
