"""Masks: what transformers' pipeline gives for short texts, and in long ones what one pass of a long model gives."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pipeline_models import CORPUS, Both
from tiny_embedders import VOCABULARY, embedder, short_and_long

import gossamer as gs
from gossamer.errors import InputError
from gossamer.models import (
    Architecture,
    Attention,
    Embeddings,
    FeedForward,
    Layer,
    MaskedLM,
    Model,
    Positions,
    PreTraining,
)
from gossamer.patterns import Full
from gossamer.tasks import Filled, FillMask, passes
from gossamer.text import train_tokenizer


@pytest.fixture(scope="module", params=["bert", "roberta", "electra", "modernbert"])
def both(request: pytest.FixtureRequest, minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Both:
    return Both(request.param, "fill-mask", tmp_path_factory.mktemp("fill"), minilm)


def masked(text: str, mask: str, words: list[int]) -> str:
    """The text with some of its words masked."""
    parts = text.split(" ")
    for word in words:
        parts[word % len(parts)] = mask
    return " ".join(parts)


@given(
    text=st.sampled_from(CORPUS), words=st.lists(st.integers(0, 30), min_size=1, max_size=3), top_k=st.integers(1, 9)
)
def test_what_the_pipeline_gives(both: Both, text: str, words: list[int], top_k: int) -> None:
    text = masked(text, both.model.tokenizer.mask_token, words)
    expected = both.theirs(text, top_k=top_k)
    expected = expected if isinstance(expected[0], list) else [expected]
    found = gs.task("fill-mask", both.model)(text, top_k=top_k)
    assert (found.passes, found.notes, len(found.masks[0])) == ([1], [], len(expected))
    for mask, ranked in zip(found.masks[0], expected, strict=True):
        assert text[mask.start : mask.end] == both.model.tokenizer.mask_token
        assert [fill.token for fill in mask.fills] == [one["token"] for one in ranked]
        assert [fill.score for fill in mask.fills] == pytest.approx([one["score"] for one in ranked], rel=1e-4)
        assert [fill.token_str for fill in mask.fills] == [one["token_str"] for one in ranked]


def test_targets_are_those_of_the_pipeline(both: Both) -> None:
    text = f"Ada wrote to {both.model.tokenizer.mask_token} about it."
    vocabulary = both.model.tokenizer
    targets = [word for word in ("the", "in", "a", "he", "r") if vocabulary.token_id(word) is not None]
    expected = both.theirs(text, targets=targets)
    (mask,) = gs.task("fill-mask", both.model)(text, targets=targets).masks[0]
    assert [fill.token for fill in mask.fills] == [one["token"] for one in expected]
    assert [fill.score for fill in mask.fills] == pytest.approx([one["score"] for one in expected], rel=1e-4)


def test_a_filled_text_is_read_as_the_tokens_it_was_filled_with(both: Both) -> None:
    """Where a fill is a word, its text holds the token in place of the mask and is the same everywhere else."""
    tokenizer = both.model.tokenizer
    text = f"The River  runs {tokenizer.mask_token} the SEA;"
    places = [i for i, one in enumerate(tokenizer.encode_plain(text)[0]) if one == tokenizer.mask_id]
    (mask,) = gs.task("fill-mask", both.model)(text, top_k=300).masks[0]
    hits = 0
    for fill in mask.fills:
        assert fill.sequence.startswith("The River  runs")
        assert fill.sequence.endswith(" the SEA;")
        ids, _ = tokenizer.encode_plain(fill.sequence)
        wanted = tokenizer.encode_plain(text)[0]
        wanted[places[0]] = fill.token
        hits += ids == wanted
    # Others are pieces that a tokenizer reads as parts of their neighbours.
    assert hits > 30


def test_continuations_join_the_word_before(minilm: Path) -> None:
    fill = gs.task("fill-mask", gs.load(minilm, head=MaskedLM()))
    (mask,) = fill("They walk [MASK] home", targets=["##ing", "far"]).masks[0]
    assert {one.token_str: one.sequence for one in mask.fills} == {
        "##ing": "They walking home",
        "far": "They walk far home",
    }


def test_byte_level_tokens_bring_their_space(tmp_path: Path, minilm: Path) -> None:
    model = Both("roberta", "fill-mask", tmp_path, minilm).model
    (mask,) = gs.task("fill-mask", model)("from <mask> sea", targets=["Ġthe", "he"]).masks[0]
    assert {one.token: one.sequence for one in mask.fills} == {
        model.tokenizer.token_id("Ġthe"): "from the sea",
        model.tokenizer.token_id("he"): "fromhe sea",
    }
    (first,) = gs.task("fill-mask", model)("<mask> sea", targets=["Ġthe"]).masks[0]
    assert first.fills[0].sequence == "the sea"


LINES = ["the people walking home were singing", "peoples of the singing river", "all people sing"] * 9


def filler(family: str, size: int) -> FillMask:
    """A model with a tokenizer of this family, learnt from a few lines."""
    tokenizer = train_tokenizer(LINES, family=family, vocabulary_size=size)
    layer = Layer(
        attention=Attention(pattern=Full(), heads=1, head_size=8, weights=0),
        feed_forward=FeedForward(width=4, weights=0),
    )
    rows = Embeddings(vocabulary_size=tokenizer.vocabulary_size, size=8, positions=Positions(length=32))
    return FillMask(
        Model(Architecture(hidden_size=8, embeddings=rows, layers=(layer,), head=MaskedLM()), tokenizer=tokenizer)
    )


@pytest.mark.parametrize(
    ("family", "size", "target", "remedy"),
    [
        ("roberta", 300, "walking", "' walking', with the space before it, is one token"),
        ("roberta", 300, "\twalking", "' walking', with the space before it, is one token"),
        ("roberta", 300, " ing", "'ing', without white space, is one token"),
        ("bert", 60, "ing", "'##ing', as part of a word, is one token"),
        ("xlm-roberta", 40, " ing", "'ing', without white space, is one token"),
        ("xlm-roberta", 40, "king", "give words of one token"),
        ("roberta", 300, "people sing", "give words of one token"),
        ("bert", 60, "東", "give words of one token"),
    ],
)
def test_a_target_of_several_tokens_is_told_how_it_would_be_one(
    family: str, size: int, target: str, remedy: str
) -> None:
    fill = filler(family, size)
    mask = fill.model.tokenizer.mask_token
    with pytest.raises(InputError, match=f"is no token of the vocabulary: it is read as .*; {re.escape(remedy)}$"):
        fill(f"all the {mask}", targets=[target])
    if "'" in remedy:
        written = remedy.split("'")[1]
        (found,) = fill(f"all the {mask}", targets=[written, written]).masks[0]
        assert len(found.fills) == 1
        assert found.fills[0].sequence.endswith(written.replace("##", "").strip())


def test_a_target_that_goes_on_with_a_word_is_noted() -> None:
    """In RoBERTa's vocabulary the word has its space."""
    fill = filler("roberta", 300)
    said = "target 'people' has no space before it and goes on with a word; ' people' is the word"
    assert fill("all <mask>", targets=["people", " people", "people"]).notes == [said]
    assert fill("all <mask>", targets=[" people", "ing"]).notes == []
    assert filler("xlm-roberta", 40)("all <mask>", targets=["people"]).notes == []


@settings(max_examples=15)
@given(places=st.lists(st.integers(0, 299), min_size=1, max_size=6, unique=True), batch=st.sampled_from([1, 100, 4096]))
def test_long_texts_give_what_one_pass_of_a_long_model_gives(places: list[int], batch: int) -> None:
    short, long = short_and_long(MaskedLM())
    letters = [chr(97 + i * i % 26) for i in range(300)]
    text = "".join("[MASK]" if i in places else letter for i, letter in enumerate(letters))
    merged, whole = FillMask(short)(text, batch_tokens=batch), FillMask(long)(text)
    assert (whole.passes, whole.notes, whole.tokens, merged.tokens) == ([1], [], [300], [300])
    assert 1 <= merged.passes[0] <= len(places)
    assert "each mask where it lies furthest from an edge" in merged.notes[0]
    assert [(one.start, one.end) for one in merged.masks[0]] == [(one.start, one.end) for one in whole.masks[0]]
    for one, other in zip(merged.masks[0], whole.masks[0], strict=True):
        assert [fill.token for fill in one.fills] == [fill.token for fill in other.fills]
        assert [fill.score for fill in one.fills] == pytest.approx([fill.score for fill in other.fills], rel=1e-4)
        assert text[: one.start] + one.fills[0].token_str + text[one.end :] == one.fills[0].sequence


@pytest.mark.parametrize("head", [MaskedLM(), MaskedLM(tied=False), PreTraining()], ids=lambda one: one.kind)
def test_company_changes_nothing(head: Any) -> None:
    fill = FillMask(embedder(head))
    texts = ["ab[MASK]", "[MASK]", "the quick [MASK] fox over the lazy dog [MASK]"]
    together = fill(texts)
    assert together.passes == [1, 1, 2]
    for i, text in enumerate(texts):
        alone = fill(text)
        for one, other in zip(together.masks[i], alone.masks[0], strict=True):
            assert [fill.token for fill in one.fills] == [fill.token for fill in other.fills]
            assert [fill.score for fill in one.fills] == pytest.approx([fill.score for fill in other.fills], rel=1e-4)


def test_scores_are_of_the_whole_vocabulary() -> None:
    fill = FillMask(embedder(MaskedLM()))
    (everything,) = fill("ab[MASK]", top_k=len(VOCABULARY) + 5).masks[0]
    assert len(everything.fills) == len(VOCABULARY)
    assert sum(one.score for one in everything.fills) == pytest.approx(1)
    (some,) = fill("ab[MASK]", targets=["q", "x", "q"]).masks[0]
    scores = {one.token: one.score for one in everything.fills}
    assert len(some.fills) == 2
    assert all(one.score == pytest.approx(scores[one.token]) for one in some.fills)


def test_the_model_stays_as_it_is_and_progress_reaches_its_end() -> None:
    model = embedder(MaskedLM())
    fill = FillMask(model)
    model.train()
    model.attention[0].eval()
    modes = [part.training for part in model.modules()]
    seen: list[tuple[int, int]] = []
    first = fill("ab[MASK]" * 20, progress=lambda *step: seen.append(step))
    assert first == fill("ab[MASK]" * 20)
    assert [part.training for part in model.modules()] == modes
    assert seen[-1] == (60, 60)


def test_many_masks_are_scored_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    model = embedder(MaskedLM(), length=128)
    expected = FillMask(model)("[MASK]ab" * 40)
    widths = []
    model.head.register_forward_hook(lambda _, given, out: widths.append(out.logits.shape[1]))
    monkeypatch.setattr("gossamer.tasks.fill_mask.MASKS_AT_ONCE", 7)
    assert FillMask(model)("[MASK]ab" * 40).masks[0][-1].fills[0].token == expected.masks[0][-1].fills[0].token
    assert max(widths) == 7


def test_results_are_frozen_and_json() -> None:
    found = FillMask(embedder(MaskedLM()))(["a[MASK]"], top_k=2)
    assert isinstance(found, Filled)
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.masks = []  # type: ignore[misc]
    data = json.loads(json.dumps(found.to_dict()))
    assert set(data) == {"masks", "tokens", "passes", "notes"}
    assert set(data["masks"][0][0]["fills"][1]) == {"token", "token_str", "score", "sequence"}


@pytest.mark.parametrize(
    ("texts", "options", "said"),
    [
        ("abc", {}, r"^text 0 has no mask: write \[MASK\] where a token is wanted$"),
        (["[MASK]", "b"], {}, "^text 1 has no mask"),
        ("", {}, "^text 0 is empty"),
        (
            "[MASK]",
            {"targets": "abc"},
            "^target 'abc' is no token of the vocabulary: it is read as a, b, c; give words",
        ),
        ("[MASK]", {"targets": ["a", "é"]}, r"^target 'é' is no token of the vocabulary: it is read as \[UNK\]"),
        ("[MASK]", {"targets": [" "]}, "^target ' ' is no token of the vocabulary: it is read as nothing"),
        ("[MASK]", {"targets": [3]}, "^targets holds 3"),
        ("[MASK]", {"targets": []}, "^there are no targets"),
        ("[MASK]", {"top_k": 0}, "^top_k is 0; it must be a whole number of tokens, 1 or more$"),
        ("[MASK]" * 20, {"long": "error"}, "^text 0 is 22 tokens long, the model reads 16: lengthen"),
        ("a" * 18 + "[MASK]", {"long": "truncate"}, "^text 0 has a mask at character 18, behind what the model reads"),
        ("[MASK]", {"batch_tokens": 0}, "^batch_tokens is 0"),
    ],
)
def test_what_cannot_be_filled(texts: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        FillMask(embedder(MaskedLM()))(texts, **options)
    assert "\n" not in str(caught.value)


def test_models_that_cannot_fill(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="the model has no head, so it cannot fill masks in texts: take a model with"):
        FillMask(embedder(None))
    with pytest.raises(InputError, match="the model's head is 'embed', so it cannot"):
        FillMask(embedder())
    model = embedder(MaskedLM())
    monkeypatch.setitem(model.tokenizer._tokens, "mask_token", None)
    with pytest.raises(InputError, match="the tokenizer has no mask token"):
        FillMask(model)


def test_only_passes_that_keep_a_mask_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    model = embedder(MaskedLM())
    widths = []
    run = passes._run

    def counted(*args: Any) -> Any:
        widths.append(len(args[2]))
        return run(*args)

    monkeypatch.setattr(passes, "_run", counted)
    found = FillMask(model)("a" * 100 + "[MASK]" + "b" * 100)
    assert (sum(widths), found.passes) == (1, [1])
    assert torch.is_grad_enabled()
