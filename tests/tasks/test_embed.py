"""One vector a text or one a span: what a pass gives, whatever else is read beside it, and however long the text is."""

import dataclasses
import json
import string
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_embedders import SPECIAL, distance, embedder, tokenizer

import gossamer as gs
from gossamer.errors import InputError
from gossamer.models import MaskedLM, Model, SentenceEmbedding
from gossamer.models.heads import pool
from gossamer.tasks import TASKS, Embed, pooled, task
from gossamer.tasks.frames import find_frame
from gossamer.tasks.passes import PassPlan, Reading, read_states
from gossamer.text import Document, speeches

HEADS = [
    SentenceEmbedding(pooling=pooling, normalized=normalized)
    for pooling in ("mean", "max", "cls")
    for normalized in (False, True)
]
FRAMES = ["[CLS] $A [SEP]", "[CLS] $A", "$A [SEP]", "$A", "[CLS] [SEP] $A [SEP]"]
TEXTS = st.lists(
    st.text(string.ascii_lowercase + " ", min_size=1, max_size=40).filter(str.strip), min_size=1, max_size=6
)


def directly(model: Model, text: str) -> torch.Tensor:
    """The model asked without the task."""
    with torch.no_grad():
        return model(**model.tokenizer(text, truncation=False)).pooled[0]


def states(model: Model, text: str) -> torch.Tensor:
    """Token states without those of the frame."""
    batch = model.tokenizer(text, truncation=False, return_offsets=True)
    inner = batch["special_tokens_mask"][0] == 0
    with torch.no_grad():
        return model(batch["input_ids"]).last_hidden_state[0][inner]


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("head", HEADS, ids=lambda head: f"{head.pooling}-{head.normalized}")
def test_one_pass_gives_the_model_s_own_vector(head: SentenceEmbedding, frame: str) -> None:
    model = embedder(head, frame=frame)
    for text in ("a", "abc", "hello world", "abcdefghijklm"):
        found = task("embed", model)(text)
        assert torch.equal(found.vectors[0], directly(model, text))
        assert (found.passes, found.notes, found.text_of_row) == ([1], [], [0])
        assert found.spans == [(0, len(text))]


def test_a_model_without_head_is_pooled_by_the_mean() -> None:
    bare, mean = embedder(None), embedder(SentenceEmbedding())
    assert torch.equal(task("embed", bare)("abc").vectors[0], directly(mean, "abc"))


@given(texts=TEXTS, batch_tokens=st.integers(1, 200), frame=st.sampled_from(FRAMES), head=st.sampled_from(HEADS))
def test_the_company_of_a_text_changes_nothing(
    texts: list[str], batch_tokens: int, frame: str, head: SentenceEmbedding
) -> None:
    embed = Embed(embedder(head, frame=frame))
    together = embed(texts, batch_tokens=batch_tokens)
    assert together.text_of_row == list(range(len(texts)))
    for i, text in enumerate(texts):
        alone = embed(text)
        assert distance(together.vectors[i], alone.vectors[0]) <= 1e-5
        assert (together.passes[i], together.tokens[i]) == (alone.passes[0], alone.tokens[0])
        assert together.tokens[i] == len(text.replace(" ", ""))


@given(
    text=st.text(string.ascii_lowercase + " ", min_size=1, max_size=14).filter(str.strip),
    spans=st.integers(1, 20),
    head=st.sampled_from([head for head in HEADS if head.pooling != "cls"]),
)
def test_spans_cover_every_token_once(text: str, spans: int, head: SentenceEmbedding) -> None:
    model = embedder(head)
    found = Embed(model)(text, spans=spans)
    pieces = [text[start:stop].replace(" ", "") for start, stop in found.spans]
    assert "".join(pieces) == text.replace(" ", "")
    assert all(len(piece) == spans for piece in pieces[:-1])
    assert 1 <= len(pieces[-1]) <= spans
    each = states(model, text).split(spans)
    expected = torch.stack([pool(model.architecture.head, one[None], None)[0] for one in each])
    assert distance(found.vectors, expected) <= 1e-6
    if spans >= len(states(model, text)):
        assert len(found.vectors) == 1


@given(capacity=st.integers(1, 80), data=st.data())
@settings(max_examples=4 * settings.default.max_examples)
def test_passes_keep_every_token_once(capacity: int, data: st.DataObject) -> None:
    near = st.sampled_from([1, capacity - 1, capacity, capacity + 1, 2 * capacity - 1, 2 * capacity, 2 * capacity + 1])
    tokens = max(1, data.draw(near | st.integers(1, 40 * capacity)))
    plan = list(PassPlan(3, capacity).passes(tokens, ended=True))
    assert [i for one in plan for i in range(one.keep_start, one.keep_stop)] == list(range(tokens))
    assert all(one.stop - one.start == capacity for one in plan[:-2])
    assert len({one.stop - one.start for one in plan[-2:]}) == 1
    for one in plan:
        assert one.reading == 3
        assert 0 <= one.start <= one.keep_start <= one.keep_stop <= one.stop <= tokens
        assert one.stop - one.start <= capacity
    for left, right in pairwise(plan):
        shared = left.stop - right.start
        assert shared >= capacity // 8
        # Each side of the seam is as far from its pass's edge as the other, up to rounding.
        assert abs((left.stop - left.keep_stop) - (right.keep_start - right.start)) <= 1
    fewest = -(-(tokens - capacity // 8) // (capacity - capacity // 8)) if tokens > capacity else 1
    assert len(plan) == fewest


@pytest.mark.parametrize("length", [3, 4, 5, 16])
@given(text=st.text(string.ascii_lowercase, min_size=1, max_size=70))
def test_states_are_those_of_the_pass_that_keeps_them(length: int, text: str) -> None:
    model = embedder(length=length)
    ids, offsets = model.tokenizer.encode_plain(text)
    one = Reading(text=0, ids=ids, offsets=offsets, frame=find_frame(model.tokenizer))
    with torch.no_grad():
        read_states(model, [one], batch_tokens=50)
        plan = list(PassPlan(0, length - 2).passes(len(ids), ended=True))
        for part in plan:
            expected = states(model, text[part.start : part.stop])
            kept = expected[part.keep_start - part.start : part.keep_stop - part.start]
            assert torch.allclose(one.states[part.keep_start : part.keep_stop], kept, atol=1e-6)
    assert one.passes == len(plan)
    assert one.before.shape == one.after.shape == (1, 8)


def test_a_text_in_passes_is_close_to_the_one_pass_of_a_longer_model() -> None:
    """Windows reach less far than passes overlap, and positions here say nothing: only texts' ends differ."""
    model = embedder(length=64)
    with torch.no_grad():
        model.embeddings.position.weight.zero_()
    short, long = (gs.lengthen(model, to=to, window=2, global_tokens="none")[0] for to in (64, 512))
    text = "the quick brown fox jumps over a lazy dog " * 9
    found, whole = task("embed", short)(text), task("embed", long)(text)
    assert (len(found.notes), found.passes[0] > 3, whole.passes, whole.notes) == (1, True, [1], [])
    assert distance(found.vectors, whole.vectors) <= 1e-5


@pytest.mark.parametrize("spans", [None, 5])
def test_long_texts_are_cut_or_refused_when_asked(spans: int | None) -> None:
    model = embedder(length=16)
    text = "abcdefghijklmnopqrst"
    cut = Embed(model)(["ab", text], spans=spans, long="truncate")
    # Padding beside it may mean another backend, so the last digits may differ.
    torch.testing.assert_close(cut.vectors[1:], Embed(model)(text[:14], spans=spans).vectors, rtol=0, atol=1e-6)
    assert (cut.tokens, cut.passes, cut.spans[-1][1]) == ([2, 20], [1, 1], 14)
    said = "text 1 is 22 tokens long, the model reads 16"
    remedy = "lengthen the model to read it at once: gossamer.lengthen(model, to=32)"
    counted = " (20 without special tokens)"
    assert cut.notes == [f"{said}: cut; {remedy}{counted}"]
    whole = Embed(model)(["ab", text], spans=spans)
    assert whole.notes == [f"{said}: read in overlapping passes; {remedy}{counted}"]
    with pytest.raises(InputError) as caught:
        Embed(model)(["ab", text], spans=spans, long="error")
    assert str(caught.value) == f"{said}: {remedy}, or give long='chunk' or long='truncate'{counted}"
    assert not Embed(model)(text[:14], long="error").notes


def test_notes_fit_the_model() -> None:
    longer, _ = gs.lengthen(embedder(length=16), to=20, window=4)
    assert "lengthen the original model to read it at once" in task("embed", longer)("a" * 30).notes[0]
    first_token = embedder(SentenceEmbedding(pooling="cls"), length=16)
    assert "the first token's state, sees the first alone" in task("embed", first_token)("a" * 30).notes[0]


def test_a_text_longer_than_the_model_in_another_frame() -> None:
    model = embedder(length=8, frame="$A")
    found = task("embed", model)("abcdefghijklmno", spans=3)
    assert (found.tokens, found.passes) == ([15], [2])
    assert len(found.vectors) == 5
    assert "is 15 tokens long, the model reads 8" in found.notes[0]


def test_a_tokenizer_without_padding_pads_all_the_same() -> None:
    for padding in (None, 0):
        model = embedder(frame="$A", special=["[UNK]"], padding=padding)
        assert model.tokenizer.pad_id is None
        found = task("embed", model)(["abc", "abcdefgh"])
        assert distance(found.vectors[0], directly(model, "abc")) <= 1e-5


@given(texts=TEXTS, batch_tokens=st.integers(1, 80), group=st.integers(1, 60))
def test_progress_rises_to_the_end(texts: list[str], batch_tokens: int, group: int) -> None:
    seen: list[tuple[int, int | None]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pooled, "GROUP_TOKENS", group)
        Embed(embedder())(texts, batch_tokens=batch_tokens, progress=lambda *step: seen.append(step))
    total = sum(map(len, texts))
    assert {of for _, of in seen} == {total}
    done = [step for step, _ in seen]
    assert done == sorted(done)
    assert (done[0], done[-1]) == (0, total)


def test_vectors_may_be_trained_on_and_the_model_keeps_its_modes() -> None:
    model = embedder()
    model.train()
    model.attention[0].eval()
    modes = [part.training for part in model.modules()]
    first, second = (task("embed", model)("abcdef").vectors for _ in range(2))
    assert torch.equal(first, second)
    assert [part.training for part in model.modules()] == modes
    scale = torch.ones(8, requires_grad=True)
    (first * scale).sum().backward()
    assert torch.equal(scale.grad, first[0])
    with pytest.raises(RuntimeError, match="stop"):
        Embed(model)("abc", progress=stop)
    assert [part.training for part in model.modules()] == modes


def stop(done: int, total: int) -> None:
    raise RuntimeError("stop")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=str)
def test_vectors_are_float32(dtype: torch.dtype) -> None:
    model = embedder()
    expected = directly(model, "abcdef")
    found = task("embed", model.to(dtype))("abcdef").vectors
    assert found.dtype == torch.float32
    assert distance(found[0], expected) <= (0.05 if dtype == torch.bfloat16 else 1e-5)


def test_json(tmp_path: Path) -> None:
    found = json.loads(json.dumps(task("embed", embedder())(["abc", "de"], spans=2).to_dict()))
    assert found["spans"] == [[0, 2], [2, 3], [0, 2]]
    assert (found["text_of_row"], found["tokens"], found["passes"]) == ([0, 0, 1], [3, 2], [1, 1])
    assert [len(vector) for vector in found["vectors"]] == [8, 8, 8]


@pytest.mark.parametrize(
    ("texts", "options", "said"),
    [
        ([], {}, "^there are no texts: give at least one$"),
        (["a", 3], {}, "^text 1 is 3, a int; it must be a string$"),
        ([None], {}, "^text 0 is None, a NoneType"),
        (b"abc", {}, "^texts is b'abc'; give one string or a list of strings$"),
        ([], {"skip_empty": True}, "^there are no texts: give at least one$"),
        (None, {}, "^texts is None"),
        (5, {}, "^texts is 5"),
        ("a", {"spans": 0}, "^spans is 0; it must be a whole number of tokens, 1 or more, or None$"),
        ("a", {"spans": True}, "^spans is True"),
        ("a", {"spans": 1.5}, "^spans is 1.5"),
        ("a", {"spans": "2"}, "^spans is '2'"),
        ("a", {"long": "cut"}, "^long is 'cut'; it must be one of chunk, truncate, error$"),
        ("a", {"long": None}, "^long is None"),
        ("a", {"long": ["chunk"]}, r"^long is \['chunk'\]"),
        ("a", {"batch_tokens": 0}, "^batch_tokens is 0; it must be a whole number of tokens, 1 or more, or None$"),
        ("a", {"batch_tokens": "many"}, "^batch_tokens is 'many'"),
        ("a\ud800", {}, "^text 0 holds half a surrogate pair at character 1,"),
        (
            ["a", Document(source="x", parts=["ab", "c\ud800"])],
            {},
            "^text 1 holds half a surrogate pair at character 3,",
        ),
        (["a", Document(source="x", parts=["ab", 3])], {}, "^text 1 is 3, a int; it must be a string$"),
        ("a", {"batch_size": 0}, "^batch_size is 0; it must be a whole number of passes, 1 or more, or None$"),
        ("a", {"normalize": "yes"}, "^normalize is 'yes'; it must be True or False$"),
        ("a", {"skip_empty": None}, "^skip_empty is None; it must be True or False$"),
        ("a", {"truncate_dim": 9}, "^truncate_dim is 9; it must be a whole number from 1 to 8, or None$"),
        ("a", {"truncate_dim": True}, "^truncate_dim is True"),
        ("a", {"prompt": 3}, "^prompt is 3; it must be a string"),
        ("a", {"prompt_name": "query"}, "^prompt_name is 'query'; it must be None: there are no prompts$"),
        (
            "a",
            {"prompt": "a" * 14},
            "^the prompt 'aaaaaaaaaaaaaa' is 14 tokens long, which leaves no room",
        ),
        ("a", {"max_length": 17}, "^max_length is 17; it must be a whole number of tokens from 1 to 16"),
    ],
)
def test_what_cannot_be_embedded(texts: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        Embed(embedder())(texts, **options)
    assert "\n" not in str(caught.value)


def test_models_that_cannot_embed() -> None:
    with pytest.raises(InputError, match="the model's head is 'masked-lm'; load it with head='embed'"):
        Embed(embedder(MaskedLM()))
    with pytest.raises(InputError, match="reads 2 tokens, the special ones alone are 2: lengthen it"):
        Embed(embedder(length=2))
    model = embedder()
    model.tokenizer = None
    with pytest.raises(InputError, match=r"has no tokenizer: put tokenizer\.json into its directory"):
        Embed(model)
    with pytest.raises(InputError, match="spans need mean or max pooling"):
        Embed(embedder(SentenceEmbedding(pooling="cls")))("abc", spans=2)


@pytest.mark.parametrize("name", ["embedd", "", None, ["embed"]])
def test_tasks_that_are_not_there(name: Any) -> None:
    known = ", ".join(sorted(TASKS))
    with pytest.raises(InputError, match=rf"^task is .*; it must be one of {known}$"):
        task(name, embedder())


def test_every_task_is_listed() -> None:
    assert TASKS["embed"] is Embed
    of_encoders = {"answer", "classify", "embed", "fill-mask", "rank", "similar", "tag", "zero-shot"}
    assert set(TASKS) == of_encoders | {"generate", "score", "rewrite", "summarize", "translate"}


def test_the_frame_of_a_tokenizer() -> None:
    frames = [find_frame(tokenizer(frame, SPECIAL)) for frame in FRAMES]
    assert [(one.before, one.after) for one in frames] == [([2], [3]), ([2], []), ([], [3]), ([], []), ([2, 3], [3])]


@pytest.fixture(scope="module")
def real(minilm: Path) -> Model:
    return gs.load(minilm)


def test_minilm_in_one_pass_and_in_company(real: Model) -> None:
    texts = ["A thread so light that it floats.", "naïve 東京 🙂", speeches()[0].text[:600], "[MASK] it"]
    embed = Embed(real)
    together = embed(texts).vectors
    for i, text in enumerate(texts):
        alone = embed(text).vectors[0]
        assert torch.equal(alone, directly(real, text))
        assert distance(together[i], alone) <= 1e-5


def test_minilm_on_a_long_text(real: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(real, "tokenizer", real.tokenizer.with_max_length(512))
    text = " ".join(speeches()[3].text.split()[:700])
    tokens = len(real.tokenizer.encode_plain(text)[0])
    long, _ = gs.lengthen(real, to=2048, window=512)
    passes, whole = task("embed", real)(text), task("embed", long)(text)
    assert (passes.tokens, passes.passes, whole.passes) == ([tokens], [2], [1])
    assert float(passes.vectors[0] @ whole.vectors[0]) > 0.9
    spans = task("embed", long)(text, spans=100)
    assert len(spans.vectors) == -(-tokens // 100)
    assert (spans.spans[0][0], spans.spans[-1][1]) == (0, len(text))
    assert all(left[1] <= right[0] for left, right in pairwise(spans.spans))
    ids, _ = real.tokenizer.encode_plain(text[slice(*spans.spans[2])])
    assert 98 <= len(ids) <= 102
    assert dataclasses.asdict(spans)["notes"] == []


def test_a_token_that_holds_the_prompts_end_is_the_texts(minilm: Path) -> None:
    """ "un" and "happy" make one token: the text is not empty for that, nor left out."""
    embed = gs.task("embed", gs.load(minilm))
    found = embed(["happy", "", "happy cat"], prompt="un", skip_empty=True)
    assert found.tokens == [1, 0, 2]
    assert found.text_of_row == [0, 2]
    assert found.spans == [(0, 5), (0, 9)]
    assert ["is empty" in note for note in found.notes].count(True) == 1
    plain = embed("unhappy").vectors
    assert (found.vectors[0] - plain[0]).abs().max() <= 1e-6
