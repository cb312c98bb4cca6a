"""Labels: transformers' pipeline on short texts, the weighted mean of the passes' logits on long ones."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pipeline_models import CORPUS, Both
from tiny_embedders import FRAME, VOCABULARY, embedder

import gossamer as gs
from gossamer.errors import InputError
from gossamer.models import Model, SequenceClassification
from gossamer.patterns import Global, Window
from gossamer.tasks import Classified, Classify
from gossamer.tasks.frames import find_pair_frame
from gossamer.tasks.passes import PassPlan

NAMES = ("no", "maybe", "yes")
HEAD = SequenceClassification(labels=NAMES)


@pytest.fixture(
    scope="module",
    params=[
        ("bert", None, 3),
        ("bert", "multi_label_classification", 3),
        ("bert", "regression", 2),
        ("bert", None, 1),
        ("roberta", None, 3),
        ("longformer", None, 3),
        ("electra", None, 3),
        ("modernbert", None, 3),
    ],
    ids=lambda one: f"{one[0]}-{one[1]}-{one[2]}",
)
def both(request: pytest.FixtureRequest, minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Both:
    family, problem, count = request.param
    directory = tmp_path_factory.mktemp("classify")
    return Both(family, "text-classification", directory, minilm, problem_type=problem, num_labels=count)


@given(text=st.sampled_from(CORPUS), pair=st.sampled_from([None, *CORPUS]), top_k=st.sampled_from([None, 1, 2, 9]))
@settings(max_examples=8)
def test_what_the_pipeline_gives(both: Both, text: str, pair: str | None, top_k: int | None) -> None:
    given_texts = text if pair is None else {"text": text, "text_pair": pair}
    expected = both.theirs(given_texts, top_k=top_k)
    found = gs.task("classify", both.model)(text, pair, top_k=top_k)
    assert [one.label for one in found.labels[0]] == [one["label"] for one in expected]
    assert [one.score for one in found.labels[0]] == pytest.approx([one["score"] for one in expected], rel=1e-4)
    assert (found.passes, found.notes) == ([1], [])


def test_many_texts_are_those_of_the_pipeline(both: Both) -> None:
    found = gs.task("classify", both.model)(CORPUS * 3)
    for labels, expected in zip(found.labels, both.theirs(CORPUS, top_k=None) * 3, strict=True):
        assert {one.label: one.score for one in labels} == pytest.approx(
            {one["label"]: one["score"] for one in expected}, rel=1e-4
        )


def logits(model: Model, first: str, second: str | None = None) -> torch.Tensor:
    with torch.no_grad():
        batch = model.tokenizer(first, text_pair=second, truncation=False)
        return model(**batch).logits[0].double()


@given(text=st.text("abcdefgh", min_size=1, max_size=90), batch=st.sampled_from([1, 40, 4096]))
def test_long_texts_are_the_weighted_mean_of_their_passes(text: str, batch: int) -> None:
    model = embedder(HEAD)
    plan = list(PassPlan(0, 14).passes(len(text), ended=True))
    weights = torch.tensor([part.keep_stop - part.keep_start for part in plan], dtype=torch.float64)
    each = torch.stack([logits(model, text[part.start : part.stop]) for part in plan])
    expected = ((weights / weights.sum()) @ each).softmax(dim=0)
    found = Classify(model)(text, batch_tokens=batch)
    scores = {one.label: one.score for one in found.labels[0]}
    assert [scores[name] for name in NAMES] == pytest.approx(expected.tolist(), rel=1e-4)
    assert (found.tokens, found.passes) == ([len(text)], [len(plan)])
    assert len(found.notes) == (len(plan) > 1)


@given(
    first=st.text("abcdefgh", min_size=1, max_size=60),
    second=st.text("abcdefgh", min_size=1, max_size=9),
    exchanged=st.booleans(),
)
def test_of_a_pair_the_longer_text_is_read_in_passes(first: str, second: str, exchanged: bool) -> None:
    model = embedder(HEAD)
    long, short = max(second, first, key=len), min(first, second, key=len)
    exchanged = exchanged and len(long) > len(short)
    both = (long, short) if exchanged else (short, long)
    plan = list(PassPlan(0, 16 - 3 - len(short)).passes(len(long), ended=True))
    each = []
    for part in plan:
        piece = long[part.start : part.stop]
        each.append(
            logits(model, *((piece, short) if exchanged else (short, piece))) * (part.keep_stop - part.keep_start)
        )
    expected = (torch.stack(each).sum(dim=0) / len(long)).softmax(dim=0)
    found = Classify(model)(*both)
    scores = {one.label: one.score for one in found.labels[0]}
    assert [scores[name] for name in NAMES] == pytest.approx(expected.tolist(), rel=1e-4)
    assert (found.tokens, found.passes) == ([len(long) + len(short)], [len(plan)])
    if len(plan) > 1:
        length = len(long) + len(short) + 3
        assert found.notes[0].startswith(f"text 0 with its pair is {length} tokens long, the model reads 16: read in")


def test_the_first_token_is_global_in_every_pass() -> None:
    model = embedder(HEAD, pattern=Window(1, 1) | Global())
    text = "abcdefghijklmnopqrstuvwxyz"
    found = Classify(model)(text[:14])
    ids = torch.tensor([[2, *(VOCABULARY[letter] for letter in text[:14]), 3]])
    flagged = torch.zeros_like(ids).bool()
    for first in (True, False):
        flagged[0, 0] = first
        with torch.no_grad():
            expected = model(ids, global_mask=flagged).logits[0].softmax(dim=0)
        scores = {one.label: one.score for one in found.labels[0]}
        same = [scores[name] for name in NAMES] == pytest.approx(expected.tolist(), rel=1e-4)
        assert same == first


def test_long_texts_are_cut_or_refused_when_asked() -> None:
    classify = Classify(embedder(HEAD))
    text = "abcdefghijklmnopqrst"
    cut = classify(["ab", text], long="truncate")
    alone = classify(text[:14]).labels[0]
    assert [one.label for one in cut.labels[1]] == [one.label for one in alone]
    assert [one.score for one in cut.labels[1]] == pytest.approx([one.score for one in alone], abs=1e-6)
    assert (cut.tokens, cut.passes) == ([2, 20], [1, 1])
    assert cut.notes[0].startswith("text 1 is 22 tokens long, the model reads 16: cut; lengthen")
    with pytest.raises(InputError, match="text 1 is 22 tokens long"):
        classify(["ab", text], long="error")


@given(first=st.text("abcdefgh", min_size=1, max_size=40), second=st.text("ijklmnop", min_size=1, max_size=40))
def test_pairs_are_cut_as_the_tokenizer_cuts_them(first: str, second: str) -> None:
    model = embedder(HEAD)
    found = Classify(model)(first, text_pair=second, long="truncate")
    with torch.no_grad():
        logits = model(**model.tokenizer(first, text_pair=second, max_length=16)).logits[0]
    scores = {one.label: one.score for one in found.labels[0]}
    assert [scores[name] for name in NAMES] == pytest.approx(logits.softmax(dim=0).tolist(), rel=1e-4)
    length = len(first) + len(second)
    assert (found.tokens, found.passes, bool(found.notes)) == ([length], [1], length + 3 > 16)
    assert all(one.startswith(f"text 0 with its pair is {length + 3} tokens long") for one in found.notes)


def test_the_model_stays_as_it_is_and_progress_reaches_its_end() -> None:
    model = embedder(HEAD)
    model.train()
    seen: list[tuple[int, int]] = []
    found = Classify(model)(["abc", "abcdefghijklmnopqrst"], progress=lambda *step: seen.append(step))
    assert model.training
    assert seen[-1] == (23, 23)
    assert found == Classify(model)(["abc", "abcdefghijklmnopqrst"])


def test_results_are_frozen_and_json() -> None:
    found = Classify(embedder(HEAD))(iter(["a", "b"]), top_k=2)
    assert isinstance(found, Classified)
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.labels = []  # type: ignore[misc]
    data = json.loads(json.dumps(found.to_dict()))
    assert [len(labels) for labels in data["labels"]] == [2, 2]
    assert set(data["labels"][0][0]) == {"label", "score"}


@pytest.mark.parametrize(
    ("texts", "options", "said"),
    [
        ("", {}, "^text 0 is empty"),
        (["a", "b"], {"text_pair": ["c"]}, "^there are 2 texts and 1 in text_pair: give one for each text$"),
        ("a", {"text_pair": ""}, "^text_pair 0 is empty"),
        ("a", {"text_pair": 5}, "^text_pair is 5"),
        (["a", "b\udcff"], {}, "^text 1 holds half a surrogate pair at character 1, which is no character"),
        ("a", {"text_pair": "\udcff"}, "^text_pair 0 holds half a surrogate pair at character 0"),
        (
            "a" * 13,
            {"text_pair": "b" * 13},
            "^both texts of pair 0 are long, the shorter 13 tokens, and the model reads 16",
        ),
        (
            {"text": "a", "text_pair": "b"},
            {"text_pair": "c"},
            "^text_pair is given twice, in the dicts and",
        ),
        ([{"text": "a", "text_pair": "b"}, {"text": "c"}], {}, "^text 1 has no 'text_pair', as others have: give one"),
        ([{"text": "a"}, "b"], {}, r"^text 1 is 'b'; where one is a dict, each must be \{'text': \.\.\., 'text_pair'"),
        ({"text": "a", "label": 1}, {}, "^text 0 is {'text': 'a', 'label': 1}; where one is a dict"),
        ({"review": "a"}, {}, "^text 0 is {'review': 'a'}; where one is a dict"),
        ({"text": ["a", "b"]}, {}, r"^text 0 is \['a', 'b'\], a list; it must be a string$"),
        (
            [("a", "b"), ("a", "c")],
            {},
            r"^text 0 is \('a', 'b'\), a tuple; write a pair as \{'text': \.\.\., 'text_pair'",
        ),
        ({"a", "b"}, {}, "^texts is {.*}, a set; give one string or a list of strings$"),
        (b"a", {}, "^texts is b'a'; give one string or a list of strings$"),
        (5, {}, "^texts is 5; give one string or a list of strings$"),
        (
            "a",
            {"text_pair": {"text": "a"}},
            "^text_pair is {'text': 'a'}, a dict; give one string",
        ),
        (
            "a",
            {"function_to_apply": "tanh"},
            "^function_to_apply is 'tanh'; it must be one of softmax, sigmoid, none",
        ),
        ("a", {"function_to_apply": ["none"]}, "^function_to_apply is "),
        ("a", {"top_k": 0}, "^top_k is 0; it must be a whole number of labels, 1 or more, or None$"),
        ("a", {"long": "cut"}, "^long is 'cut'"),
    ],
)
def test_what_cannot_be_classified(texts: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        Classify(embedder(HEAD))(texts, **options)
    assert "\n" not in str(caught.value)


def test_models_that_cannot_classify() -> None:
    with pytest.raises(InputError, match=r"^model is 'a-directory', which names one; load it first"):
        gs.task("classify", "a-directory")  # type: ignore[call-overload]
    with pytest.raises(
        InputError, match="head is 'embed', so it cannot classify texts: take a model with the head 'seq"
    ):
        Classify(embedder())


@pytest.mark.parametrize("frame", [FRAME, "$A", "[CLS] $A", "[CLS] [SEP] $A [SEP]"])
def test_the_frame_of_a_pair(frame: str) -> None:
    model = embedder(HEAD, frame=frame)
    pair = find_pair_frame(model.tokenizer)
    a, b = [4, 5], [6, 7, 8]
    batch = model.tokenizer("ab", text_pair="cde", truncation=False)
    for one, inner in ((pair.around_second(a), b), (pair.around_first(b), a)):
        assert [*one.before, *inner, *one.after] == batch["input_ids"][0].tolist()
        assert one.types(len(batch["input_ids"][0])) == batch["token_type_ids"][0].tolist()


PAIR = {"text": CORPUS[0], "text_pair": CORPUS[1]}


@pytest.mark.parametrize(
    "texts",
    [PAIR, [PAIR], [PAIR, {"text": "a", "text_pair": "b"}], {"text": "a"}, [{"text": "a"}, {"text": "b"}]],
    ids=["pair", "list", "pairs", "alone", "list-alone"],
)
def test_the_dicts_of_the_pipeline(both: Both, texts: Any) -> None:
    classify = gs.task("classify", both.model)
    listed = texts if isinstance(texts, list) else [texts]
    for labels, one in zip(classify(texts).labels, listed, strict=True):
        expected = both.theirs(one, top_k=None)
        assert [(label.label, label.score) for label in labels] == [
            (theirs["label"], pytest.approx(theirs["score"], rel=1e-4)) for theirs in expected
        ]
    pairs = [one["text_pair"] for one in listed] if "text_pair" in listed[0] else None
    apart = classify([one["text"] for one in listed], pairs)
    assert classify(texts) == apart == classify(iter(listed))


@pytest.mark.parametrize("function", ["softmax", "sigmoid", "none"])
def test_the_functions_of_the_pipeline(both: Both, function: Any) -> None:
    found = gs.task("classify", both.model)(CORPUS[0], function_to_apply=function)
    (labels,) = found.labels
    assert found.function_to_apply == function
    expected = both.theirs(CORPUS[0], top_k=None, function_to_apply=function)
    assert [one.label for one in labels] == [one["label"] for one in expected]
    assert [one.score for one in labels] == pytest.approx([one["score"] for one in expected], rel=1e-4, abs=1e-5)


def test_scores_near_one_keep_their_order() -> None:
    """A re-ranker's numbers of 20 and more are all 1.0 in float32."""
    model = embedder(SequenceClassification(labels=("relevant",)))
    with torch.no_grad():
        model.head.output.bias.fill_(20.0)
    texts = ["abc", "xyz", "hello", "q", "wind"]
    numbers, scores = (
        [labels[0].score for labels in Classify(model)(texts, function_to_apply=name).labels] for name in ("none", None)
    )
    assert numbers == pytest.approx([float(logits(model, text)[0]) for text in texts], rel=1e-6)
    assert min(numbers) > 17
    ranked = [sorted(range(5), key=lambda i, values=values: values[i]) for values in (numbers, scores)]  # type: ignore[misc]
    assert ranked[0] == ranked[1]
    assert len(set(scores)) == 5


@pytest.mark.parametrize(("activation", "function"), [("identity", "none"), ("sigmoid", "sigmoid"), (None, "softmax")])
def test_the_activation_of_a_cross_encoder_is_the_default(activation: Any, function: Any) -> None:
    classify = Classify(embedder(SequenceClassification(labels=NAMES, score_activation=activation)))
    found = classify("abc")
    assert found.function_to_apply == function
    assert found == classify("abc", function_to_apply=function)
    assert classify("abc", function_to_apply="softmax") == Classify(embedder(HEAD))("abc")


@pytest.mark.parametrize("rows", [0, 1, 2, 3])
def test_types_that_the_model_has_no_rows_for_are_left_out(rows: int) -> None:
    """A pair's tokenizer says 0 and 1; RoBERTa has one row of types, DistilBERT none."""
    plain = embedder(HEAD)
    embeddings = dataclasses.replace(plain.architecture.embeddings, token_types=rows)
    torch.manual_seed(0)
    model = Model(dataclasses.replace(plain.architecture, embeddings=embeddings), tokenizer=plain.tokenizer).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.add_(torch.randn_like(weight) * (3.0 if "token_type" in name else 0.3))
        batch = model.tokenizer("abc", text_pair="defg")
        types = batch["token_type_ids"] if rows > 1 else torch.zeros_like(batch["input_ids"])
        expected = model(batch["input_ids"], token_type_ids=types if rows else None).logits[0].softmax(dim=0)
        others = model(batch["input_ids"], token_type_ids=1 - types if rows > 1 else None).logits[0].softmax(dim=0)
    scores = {one.label: one.score for one in Classify(model)("abc", "defg").labels[0]}
    assert [scores[name] for name in NAMES] == pytest.approx(expected.tolist(), rel=1e-4)
    assert (rows > 1) == bool((expected - others).abs().max() > 1e-3)
