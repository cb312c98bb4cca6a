"""Answers: brute force over all spans, in one pass or several; planted answers; exact places."""

import dataclasses
import itertools
import json
import math
import re
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pipeline_models import CORPUS, Both
from tiny_embedders import VOCABULARY, embedder, rule_model, short_and_long

import gossamer as gs
from gossamer.errors import InputError
from gossamer.models import Model, QuestionAnswering
from gossamer.patterns import Global, Window
from gossamer.tasks import Answers, AnswerTask
from gossamer.tasks.passes import PassPlan
from gossamer.tasks.spans import likeliest_spans

HEAD = QuestionAnswering()


def brute_force(
    scores: torch.Tensor, null: torch.Tensor, spans: list[tuple[int, int]], longest: int
) -> tuple[list[tuple[float, int, int]], float]:
    """Every span's probability as `transformers` had it before version 5, the likeliest first, and the null score."""
    start, end = (torch.cat([scores[:, i], null[i : i + 1]]).double().softmax(dim=0).tolist() for i in (0, 1))
    found = [
        (start[i] * end[j], spans[i][0], spans[j][1])
        for i in range(len(scores))
        for j in range(i, min(i + longest, len(scores)))
    ]
    return sorted(found, reverse=True), start[-1] * end[-1]


def kept_scores(model: Model, question: str, context: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Each token's scores from the pass that keeps it, asked of the model itself; the least likely null."""
    first = len(question) + 2
    kept, nulls = [], []
    for part in PassPlan(0, model.architecture.length - first - 1).passes(len(context), ended=True):
        batch = model.tokenizer(question, text_pair=context[part.start : part.stop], truncation=False)
        with torch.no_grad():
            logits = model(**batch).logits[0]
        kept.append(logits[first + part.keep_start - part.start : first + part.keep_stop - part.start])
        nulls.append(logits[0])
    return torch.cat(kept), min(nulls, key=lambda null: float(null.sum()))


@given(
    question=st.text("abc", min_size=1, max_size=6),
    context=st.text("abcdefghij", min_size=1, max_size=60),
    longest=st.integers(1, 70),
    top_k=st.integers(1, 40),
    batch=st.sampled_from([1, 50, 4096]),
)
def test_brute_force(question: str, context: str, longest: int, top_k: int, batch: int) -> None:
    model = embedder(HEAD, length=24)
    spans = [(i, i + 1) for i in range(len(context))]
    expected, null = brute_force(*kept_scores(model, question, context), spans, longest)
    found = AnswerTask(model)(
        question, context, top_k=top_k, max_answer_tokens=longest, whole_words=False, batch_tokens=batch
    )
    (answers,) = found.answers
    assert [one.score for one in answers] == pytest.approx([one[0] for one in expected[:top_k]], rel=1e-4)
    for one in answers:
        assert one.text == context[one.start : one.end]
        near = [other for other in expected if (one.start, one.end) == other[1:]]
        assert one.score == pytest.approx(near[0][0], rel=1e-4)
    assert len({(one.start, one.end) for one in answers}) == len(answers)
    assert found.null_scores == pytest.approx([null], rel=1e-4)
    assert found.tokens == [len(question) + len(context)]
    assert (found.passes[0] > 1) == (len(question) + len(context) + 3 > 24) == bool(found.notes)


@pytest.fixture(scope="module", params=["bert", "longformer", "electra", "modernbert"])
def real(request: pytest.FixtureRequest, minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Both(request.param, "question-answering", tmp_path_factory.mktemp("answer"), minilm).model


@given(
    question=st.sampled_from(["Who wrote to whom?", "Where?"]),
    context=st.sampled_from(CORPUS),
    top_k=st.integers(1, 8),
)
@settings(max_examples=10)
def test_brute_force_with_real_tokenizers(real: Model, question: str, context: str, top_k: int) -> None:
    batch = real.tokenizer(question, text_pair=context, return_offsets=True)
    first = len(real.tokenizer.encode_plain(question)[0])
    own = (batch["special_tokens_mask"][0] == 0).nonzero().flatten()[first:]
    with torch.no_grad():
        logits = real(
            batch["input_ids"], token_type_ids=None if real.family == "longformer" else batch["token_type_ids"]
        ).logits[0]
    # Where a tokenizer counts the space before a word as the word's, an answer begins behind it.
    spans = [(stop - len(context[start:stop].lstrip()), stop) for start, stop in batch["offsets"][0][own].tolist()]
    expected, null = brute_force(logits[own], logits[0], spans, 15)
    found = gs.task("answer", real)(question, context, top_k=top_k, whole_words=False)
    assert [(one.start, one.end) for one in found.answers[0]] == [one[1:] for one in expected[:top_k]]
    assert [one.score for one in found.answers[0]] == pytest.approx([one[0] for one in expected[:top_k]], rel=1e-3)
    assert found.null_scores == pytest.approx([null], rel=1e-3)
    whole = gs.task("answer", real)(question, context, top_k=top_k).answers[0]
    assert all(re.fullmatch(r"\S(.*\S)?", one.text, re.DOTALL) for one in whole)
    for one in whole:
        assert one.text == context[one.start : one.end]
        assert not joins(context, one.start)
        assert not joins(context, one.end)


def joins(text: str, place: int) -> bool:
    """Whether the letters before and behind a place are of one word; a Chinese one is a word of its own."""
    around = text[place - 1 : place], text[place : place + 1]
    return all(letter.isalnum() and not "\u4e00" <= letter <= "\u9fff" for letter in around)


@given(context=st.text("abcdefghij", min_size=200, max_size=400))
@settings(max_examples=10)
def test_long_contexts_give_what_one_pass_of_a_long_model_gives(context: str) -> None:
    short, long = short_and_long(HEAD)
    merged, whole = (AnswerTask(one)("why", context, top_k=5, whole_words=False) for one in (short, long))
    assert (merged.passes[0] > 3, whole.passes, whole.notes) == (True, [1], [])
    assert [one.score for one in merged.answers[0]] == pytest.approx([one.score for one in whole.answers[0]], rel=1e-3)
    assert merged.null_scores == pytest.approx(whole.null_scores, rel=1e-3)


def test_an_answer_is_found_wherever_it_stands() -> None:
    """An answer of four words, from x to y, planted at every place of a context of several passes."""
    answer = AnswerTask(rule_model(HEAD, {"x": 0, "y": 1}, length=20))
    for place in range(50):
        words = ["abc"[i % 3] for i in range(50)]
        words[place:place] = ["x", "d", "e", "y"]
        context = " ".join(words)
        found = answer("q r", context)
        assert found.passes[0] > 3
        (best,) = found.answers[0]
        assert (best.text, best.start) == ("x d e y", 2 * place)
        assert best.score > 0.9
        assert best.score > answer("q r", context, max_answer_tokens=3, impossible=True).answers[0][0].score


def test_scores_compare_across_passes() -> None:
    """Of two planted answers, each in a pass of its own, the surer one wins wherever it stands."""
    model = rule_model(HEAD, {"x": 0, "y": 1, "v": 2, "w": 3}, length=20)
    with torch.no_grad():
        model.head.output.weight[0, 2] = model.head.output.weight[1, 3] = 4.0
    for words in (["x", "y", *"a" * 60, "v", "w"], ["v", "w", *"a" * 60, "x", "y"]):
        best, second = AnswerTask(model)("q", " ".join(words), top_k=2).answers[0]
        assert (best.text, best.score > 0.9) == ("x y", True)
        assert second.score < 0.1


def test_no_answer_is_an_answer_when_asked() -> None:
    model = rule_model(HEAD, {"x": 0, "y": 1}, length=20)
    with torch.no_grad():
        model.embeddings.word.weight[VOCABULARY["[CLS]"]] = torch.eye(8)[0] + torch.eye(8)[1]
    answer = AnswerTask(model)
    empty = answer("q", "a b c", impossible=True)
    assert [(one.text, one.start, one.end) for one in empty.answers[0]] == [("", 0, 0)]
    assert empty.answers[0][0].score == empty.null_scores[0] > 0.5
    assert answer("q", "a b c").answers[0][0].text != ""
    best, second = answer("q", "a x y c", impossible=True, top_k=2).answers[0]
    assert (best.text, second.text) == ("x y", "")
    # However many passes found nothing, "no answer" counts once, as in the pass that is surest of an answer.
    assert answer("q", "a " * 60 + "x y", impossible=True).answers[0][0].text == "x y"


def test_without_a_first_token_there_is_no_no_answer() -> None:
    found = AnswerTask(embedder(HEAD, frame="$A"))("a", "bcd", impossible=True, whole_words=False, top_k=99)
    assert found.null_scores == [0.0]
    assert sum(one.score for one in found.answers[0]) <= 1


def test_questions_and_contexts_are_matched() -> None:
    answer = AnswerTask(embedder(HEAD))
    pairs = [("a", "bcd"), ("ab", "cdefghijkl"), ("c", "a b c d e f g h i j k l m n o p")]
    alone = [answer(*pair, whole_words=False).answers[0] for pair in pairs]
    together = answer(*map(list, zip(*pairs, strict=True)), whole_words=False)
    for found, expected in zip(together.answers, alone, strict=True):
        assert [(one.start, one.end) for one in found] == [(one.start, one.end) for one in expected]
        assert [one.score for one in found] == pytest.approx([one.score for one in expected], rel=1e-4)
    one_question = answer("a", ["bcd", "efg"]).answers
    for found, context in zip(one_question, ("bcd", "efg"), strict=True):
        assert found[0].score == pytest.approx(answer("a", context).answers[0][0].score, rel=1e-4)
    assert len(answer(["a", "b", "c"], "defg").answers) == 3


@pytest.mark.parametrize("separator", [None, VOCABULARY["[SEP]"], VOCABULARY["z"]])
def test_the_question_is_global_whoever_finds_it(separator: int | None) -> None:
    model = embedder(HEAD, pattern=Window(1, 1) | Global(), separator=separator)
    found = AnswerTask(model)("ab", "cdefgh", whole_words=False, top_k=99)
    batch = model.tokenizer("ab", text_pair="cdefgh")
    for flags in (3, 1):
        flagged = torch.arange(batch["input_ids"].shape[1])[None] < flags
        with torch.no_grad():
            logits = model(**batch, global_mask=flagged).logits[0]
        expected, _ = brute_force(logits[4:10], logits[0], [(i, i + 1) for i in range(6)], 15)
        same = [one.score for one in found.answers[0]] == pytest.approx([one[0] for one in expected], rel=1e-4)
        assert same == (flags == 3)


def test_long_contexts_are_cut_or_refused_when_asked() -> None:
    answer = AnswerTask(embedder(HEAD))
    cut = answer("ab", "c" * 30, long="truncate", whole_words=False, top_k=99)
    assert (max(one.end for one in cut.answers[0]), cut.passes, cut.tokens) == (11, [1], [32])
    assert answer("ab", "c" * 30, long="truncate", max_answer_tokens=11).answers[0][0].text == "c" * 11
    assert cut.notes[0].startswith("text 0 with its question is 35 tokens long, the model reads 16: cut")
    with pytest.raises(InputError, match="text 0 with its question is 35 tokens long"):
        answer("ab", "c" * 30, long="error")


def test_results_are_frozen_and_json() -> None:
    model = embedder(HEAD)
    model.train()
    seen: list[tuple[int, int]] = []
    found = AnswerTask(model)("a", "b" * 40, progress=lambda *step: seen.append(step))
    assert model.training
    assert seen[-1] == (40, 40)
    assert isinstance(found, Answers)
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.answers = []  # type: ignore[misc]
    data = json.loads(json.dumps(found.to_dict()))
    assert set(data) == {"answers", "null_scores", "tokens", "passes", "notes"}
    assert set(data["answers"][0][0]) == {"text", "score", "start", "end"}


@pytest.mark.parametrize(
    ("question", "context", "options", "said"),
    [
        ("", "a", {}, "^question 0 is empty"),
        ("a", ["b", " "], {}, "^context 1 is empty"),
        ("a", [], {}, "^there are no contexts"),
        (["a", "b"], ["c", "d", "e"], {}, "^there are 2 questions and 3 contexts: give as many, or one of either$"),
        (
            "a" * 13,
            "b",
            {},
            "^question 0 is 13 tokens long, which leaves no room for its context, as the model reads 16: s",
        ),
        ("a", "b", {"top_k": 0}, "^top_k is 0"),
        (
            "a",
            "b",
            {"max_answer_tokens": 0},
            "^max_answer_tokens is 0; it must be a whole number of tokens, 1 or more$",
        ),
        ("a", "b", {"long": "cut"}, "^long is 'cut'"),
        (5, "b", {}, "^questions is 5"),
        ("a", None, {}, "^there are no contexts: give the texts that the answers are in$"),
        ({"question": "a", "context": "b"}, "c", {}, "^contexts are given twice, in the dicts and beside them"),
        ({"question": "a", "context": "b", "id": 3}, None, {}, "^question 0 is .*; where one is a dict, each must be"),
        (
            [{"question": "a", "context": "b"}, {"question": "a"}],
            None,
            {},
            "^question 1 has no 'context', as others have",
        ),
        ({"question": "a"}, None, {}, "^there are no contexts"),
        ([("a", "b")], None, {}, r"^question 0 is \('a', 'b'\), a tuple; write a pair as {'question'"),
        ("a", {"context": "b"}, {}, "^contexts is {'context': 'b'}, a dict; give one string or a list of strings$"),
        ("a", {"b", "c"}, {}, "^contexts is {.*}, a set; give one string"),
    ],
)
def test_what_cannot_be_answered(question: Any, context: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        AnswerTask(embedder(HEAD))(question, context, **options)
    assert "\n" not in str(caught.value)


def test_the_dicts_of_the_pipelines() -> None:
    answer = AnswerTask(embedder(HEAD))
    rows = [{"question": "ab", "context": "cdefg"}, {"question": "h", "context": "ijk"}]
    expected = answer(["ab", "h"], ["cdefg", "ijk"], top_k=3)
    assert answer(rows, top_k=3) == expected == answer(iter(rows), top_k=3)
    alone, first = answer(rows[0], top_k=3).answers[0], expected.answers[0]
    assert [(one.text, one.start) for one in alone] == [(one.text, one.start) for one in first]


def test_models_that_cannot_answer() -> None:
    with pytest.raises(InputError, match="head is 'embed', so it cannot answer questions about texts: take a model"):
        AnswerTask(embedder())


@given(
    scores=st.lists(st.tuples(st.integers(-9, 0), st.integers(-9, 0)), min_size=1, max_size=40),
    longest=st.integers(1, 50),
)
def test_spans_come_in_order_and_none_is_missing(scores: list[tuple[int, int]], longest: int) -> None:
    start, end = np.array(scores, dtype=float).T
    found = list(likeliest_spans(start, end, longest))
    probabilities = {(i, j): math.exp(start[i] + end[j]) for i in range(len(start)) for j in range(i, len(end))}
    wanted = {span: value for span, value in probabilities.items() if span[1] - span[0] < longest}
    assert {(first, last): value for first, last, value in found} == pytest.approx(wanted)
    assert len(found) == len(wanted)
    assert [one[2] for one in found] == sorted((one[2] for one in found), reverse=True)


def test_the_memory_of_spans_grows_with_the_tokens() -> None:
    """All spans of 5,000 tokens would be 200 MB of scores; of a book, more than a machine has."""
    drawn = np.random.default_rng(0).normal(size=(2, 5_000))
    tracemalloc.start()
    try:
        found = list(itertools.islice(likeliest_spans(drawn[0], drawn[1], 100_000), 100))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (len(found), peak < 10e6) == (100, True)


def test_what_has_no_spaces_is_no_single_word() -> None:
    answer = AnswerTask(rule_model(HEAD, {"x": 0, "y": 1, "a": 2}, length=20))
    context = "a" * 30 + "xaay" + "a" * 30
    assert answer("q", context).answers[0][0].text == "xaay"
    assert answer("q", context, max_answer_tokens=64).answers[0][0].text == context


def test_a_word_and_the_space_token_before_it_are_one() -> None:
    """A unigram tokenizer may cut " xb" into the space and pieces: no answer is the space alone."""
    vocabulary = [("[UNK]", 0.0), ("[CLS]", 0.0), ("[SEP]", 0.0), ("\u2581", -2.0), ("x", -1.0), ("b", -1.0)]
    backend = tokenizers.Tokenizer(tokenizers.models.Unigram(vocabulary, unk_id=0))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    backend.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    model = embedder(HEAD, length=32)
    model.tokenizer._backend = backend
    assert [one for one, _ in zip(*model.tokenizer.encode_plain("b xb"), strict=True)] == [3, 5, 3, 4, 5]
    answers = AnswerTask(model)("b", "b xb bx", top_k=99).answers[0]
    assert {one.text for one in answers} == {"b", "xb", "bx", "b xb", "xb bx", "b xb bx"}
    pieces = AnswerTask(model)("b", "b xb bx", top_k=99, whole_words=False).answers[0]
    assert all(one.text.strip() for one in pieces)
