"""Embedding as texts come: the vectors of all at once, in order, with a memory that does not grow; prompts, sizes."""

import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_embedders import distance, embedder
from torch.nn import functional as F

import gossamer as gs
from gossamer.errors import InputError
from gossamer.models import Model, SentenceEmbedding
from gossamer.tasks import Embed, pooled
from gossamer.tasks.pooled import PooledRows, RunningPool, TextTokens
from gossamer.text import Document, Tokenizer, encode_text, encoding, speeches, train_tokenizer

LETTERS = st.text("abcdefgh ", max_size=60)
PROMPTS = {"query": "ask ", "passage": ""}


def parts_of(text: str, size: int) -> Iterator[str]:
    return (text[start : start + size] for start in range(0, len(text), size))


def changed(model: Model, **fields: object) -> Model:
    """The same model with other settings of its head."""
    head = dataclasses.replace(model.architecture.head, **fields)  # type: ignore[type-var]
    model.architecture = dataclasses.replace(model.architecture, head=head)
    return model


@given(
    texts=st.lists(LETTERS, min_size=1, max_size=6),
    size=st.integers(1, 30),
    group=st.integers(1, 60),
    part=st.integers(8, 40),
    spans=st.none() | st.integers(1, 20),
    pooling=st.sampled_from(["mean", "max"]),
)
def test_however_texts_come_the_vectors_are_the_same(
    texts: list[str], size: int, group: int, part: int, spans: int | None, pooling: str
) -> None:
    embed = Embed(embedder(SentenceEmbedding(pooling=pooling)))  # type: ignore[arg-type]
    expected = embed(texts, spans)
    documents = (Document(source="x", parts=parts_of(text, size)) for text in texts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pooled, "GROUP_TOKENS", group)
        patch.setattr(encoding.cut, "__defaults__", (part,))
        patch.setattr(encoding, "_LONGEST_WORD", 4)
        streamed = list(embed.stream(documents, spans))
    assert distance(torch.cat([one.vectors for one in streamed]), expected.vectors) <= 1e-5
    assert [one.text for one in streamed for _ in one.spans] == expected.text_of_row
    assert [span for one in streamed for span in one.spans] == expected.spans
    last = [one for one in streamed if one.is_last]
    assert [(one.text, one.tokens, one.passes) for one in last] == [
        (i, expected.tokens[i], expected.passes[i]) for i in range(len(texts))
    ]
    assert [said for one in streamed for said in one.notes] == expected.notes


def test_vectors_come_before_the_last_text_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pooled, "GROUP_TOKENS", 20)
    asked: list[int] = []

    def texts() -> Iterator[str]:
        for i in range(50):
            asked.append(i)
            yield "abcdefgh"

    stream = Embed(embedder()).stream(texts())
    assert not asked
    for i, part in enumerate(stream):
        assert part.text == i
        assert len(asked) <= i + 3
    assert len(asked) == 50


def test_spans_of_one_text_come_before_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pooled, "GROUP_TOKENS", 20)
    monkeypatch.setattr(encoding.cut, "__defaults__", (50,))
    read: list[str] = []

    def parts() -> Iterator[str]:
        for _ in range(2000):
            read.append("abcdefg ")
            yield read[-1]

    stream = Embed(embedder()).stream(Document(source="x", parts=parts()), spans=5)
    first = next(stream)
    assert (first.text, first.is_last, first.notes, first.spans[0]) == (0, False, [], (0, 5))
    assert len(read) < 700  # words are looked for 4,096 characters back
    rest = list(stream)
    assert sum(len(one.vectors) for one in [first, *rest]) == 2800
    assert [one.is_last for one in rest] == [False] * (len(rest) - 1) + [True]


def test_tokens_that_were_read_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pooled, "GROUP_TOKENS", 20)
    embed = Embed(embedder())
    parts = [([4] * 40, [(i, i + 1) for i in range(start, start + 40)], start + 40) for start in range(0, 4000, 40)]
    reader = PooledRows(model=embed.model, head=embed.head, sizes=[3], batch_tokens=100)
    held = [
        (len(text._ids), len(text._ends), len(text._spans[0]._open))
        for text, _ in reader.read([TextTokens(text=0, parts=parts, frame=embed.frame)])
    ]
    assert len(held) > 100
    assert max(ids for ids, _, _ in held) <= 120
    assert all(ids == ends and spans <= 40 for ids, ends, spans in held)


def test_nothing_is_changed_for_who_reads_the_stream() -> None:
    model = embedder()
    model.train()
    for _ in Embed(model).stream(["abc", "de"]):
        assert model.training
        assert not torch.is_inference_mode_enabled()


@given(
    lengths=st.lists(st.integers(0, 9), min_size=1, max_size=8),
    pooling=st.sampled_from(["mean", "max", "cls"]),
)
def test_a_running_pool_is_that_of_all_tokens(lengths: list[int], pooling: str) -> None:
    head = SentenceEmbedding(pooling=pooling)  # type: ignore[arg-type]
    states = torch.randn(sum(lengths), 6, generator=torch.Generator().manual_seed(sum(lengths)))
    running = RunningPool(head)
    for part in states.split(lengths):
        running.add(part)
    rule = {"mean": lambda x: x.mean(0), "max": lambda x: x.amax(0), "cls": lambda x: x[0]}[pooling]
    expected = rule(states) if len(states) else torch.zeros(6)
    torch.testing.assert_close(running.result(6), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("family", ["bert", "roberta", "gpt2", "xlm-roberta", "albert", "camembert"])
def test_tokens_of_parts_are_those_of_the_whole(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    known = [speech.text for speech in speeches()[:3]]
    tokenizer = train_tokenizer(known, family=family, vocabulary_size=800)
    monkeypatch.setattr(encoding.cut, "__defaults__", (2**11,))
    text = known[0][:20_000]
    letters = "".join(one for one in text if not one.isspace())
    for sample in (
        text,
        letters,
        text.replace(" ", "  \n"),
        "naïve e\u0301 👍🏽 (x) <mask> [MASK] " * 400,
        "",
        " ",
        "a",
    ):
        ids: list[int] = []
        offsets: list[tuple[int, int]] = []
        ends = [0]
        for some, places, end in encode_text(parts_of(sample, 777), tokenizer):
            ids, offsets, ends = ids + some, offsets + places, [*ends, end]
        assert (ids, offsets) == tokenizer.encode_plain(sample)
        assert ends == sorted(ends)
        assert ends[-1] == len(sample)
    assert len(ends) == 2


# An empty text


@pytest.mark.parametrize("pooling", ["mean", "max", "cls"])
def test_an_empty_text_gives_the_vector_of_the_special_tokens(pooling: str) -> None:
    embed = Embed(embedder(SentenceEmbedding(pooling=pooling)))  # type: ignore[arg-type]
    found = embed(["ab", "", "cd", " \n"])
    with torch.no_grad():
        special = embed.model(torch.tensor([[2, 3]])).pooled[0]
    assert (found.tokens, found.passes, found.text_of_row) == ([2, 0, 2, 0], [1, 1, 1, 1], [0, 1, 2, 3])
    assert distance(found.vectors[1], special) <= 1e-6
    assert distance(found.vectors[3], special) <= 1e-6
    said = "is empty: its vector is that of the special tokens"
    assert found.notes == [f"text 1 {said}", f"text 3 {said}"]
    assert torch.equal(embed("").vectors[0], special)


@pytest.mark.parametrize("spans", [None, 1])
def test_empty_texts_are_left_out_when_asked(spans: int | None) -> None:
    embed = Embed(embedder())
    found = embed(["a", "", "b"], spans, skip_empty=True)
    assert (found.text_of_row, found.tokens, found.passes) == ([0, 2], [1, 0, 1], [1, 0, 1])
    assert found.notes == ["text 1 is empty: left out"]
    assert distance(found.vectors, embed(["a", "b"], spans).vectors) <= 1e-6
    nothing = embed(["", " "], spans, skip_empty=True)
    assert (nothing.vectors.shape, nothing.tokens) == ((0, 8), [0, 0])
    assert embed(["a", "", "b"], 1).text_of_row == [0, 1, 2]


def test_an_empty_text_without_any_special_token_is_zeros() -> None:
    found = Embed(embedder(frame="$A"))(["", "a"])
    assert not found.vectors[0].any()
    assert found.notes == ["text 0 is empty: its vector is zeros"]


# Prompts, and what is done to vectors


@pytest.mark.parametrize("pooling", ["mean", "max", "cls"])
def test_the_default_prompt_is_put_before_each_text_and_noted(pooling: str) -> None:
    head = SentenceEmbedding(pooling=pooling, prompts=tuple(PROMPTS.items()), default_prompt_name="query")  # type: ignore[arg-type]
    embed = Embed(embedder(head))
    found, by_hand = embed(["bcd", "e"]), embed(["ask bcd", "ask e"], prompt="")
    torch.testing.assert_close(found.vectors, by_hand.vectors)
    assert (found.tokens, by_hand.tokens) == ([3, 1], [6, 4])
    assert found.spans == [(0, 3), (0, 1)]
    assert found.notes == [
        "the model's default prompt 'query', 'ask ', is put before each text; an empty prompt leaves it out"
    ]
    assert embed("bcd", prompt_name="query").notes == embed("bcd", prompt="ask ").notes == by_hand.notes == []
    torch.testing.assert_close(embed("bcd", prompt_name="passage").vectors, embed("bcd", prompt="").vectors)
    torch.testing.assert_close(embed("e", prompt="ask ").vectors, by_hand.vectors[1:])


def test_tokens_of_the_prompt_are_not_pooled_where_the_model_says_so() -> None:
    """As in sentence-transformers, with the special token before them, which stays the vector of `cls`."""
    embed = Embed(embedder(SentenceEmbedding(include_prompt=False)))
    batch = embed.model.tokenizer("ask bcd")
    with torch.no_grad():
        states = embed.model(**batch).last_hidden_state[0]
    torch.testing.assert_close(embed("bcd", prompt="ask ").vectors[0], states[4:].mean(0))
    assert torch.equal(embed("bcd").vectors, Embed(embedder())("bcd").vectors)
    first = Embed(embedder(SentenceEmbedding(pooling="cls", include_prompt=False)))("bcd", prompt="ask ")
    torch.testing.assert_close(first.vectors[0], states[0])


def test_every_pass_is_read_behind_the_prompt() -> None:
    embed = Embed(embedder(SentenceEmbedding(include_prompt=False), length=8))
    text = "abcdefghij"
    found = embed(text, spans=3, prompt="xyz")
    assert (found.tokens, found.passes) == ([10], [4])
    with torch.no_grad():
        rows = [embed.model(**embed.model.tokenizer(f"xyz{text[i : i + 3]}")).last_hidden_state[0] for i in (0, 8)]
    torch.testing.assert_close(found.vectors[0], rows[0][4:7].mean(0))
    torch.testing.assert_close(found.vectors[3], rows[1][5:6].mean(0))
    assert found.spans[3] == (9, 10)


def test_vectors_are_finished_as_sentence_transformers_finishes_them() -> None:
    plain = Embed(embedder())("abc").vectors
    unit = Embed(embedder(SentenceEmbedding(normalized=True)))
    torch.testing.assert_close(unit("abc").vectors, F.normalize(plain))
    torch.testing.assert_close(unit("abc", normalize=False).vectors, plain)
    torch.testing.assert_close(Embed(embedder())("abc", normalize=True).vectors, F.normalize(plain))
    short = Embed(embedder(SentenceEmbedding(normalized=True, truncate_dim=3)))
    torch.testing.assert_close(short("abc").vectors, F.normalize(plain)[:, :3])
    torch.testing.assert_close(short("abc", normalize=True).vectors, F.normalize(plain[:, :3]))
    torch.testing.assert_close(short("abc", truncate_dim=5).vectors, F.normalize(plain)[:, :5])
    assert [short.get_sentence_embedding_dimension(), unit.get_sentence_embedding_dimension()] == [3, 8]


def test_more_is_read_at_once_than_the_files_say_and_noted() -> None:
    model = embedder(length=16)
    model.tokenizer = model.tokenizer.with_max_length(8)
    embed, text = Embed(model), "abcdefghijkl"
    found = embed(text, max_length=14)
    assert found.passes == [1]
    assert found.notes == ["read up to 14 tokens at once, as max_length says; the model's own files say 8"]
    with torch.no_grad():
        torch.testing.assert_close(found.vectors, model(**model.tokenizer(text, truncation=False)).pooled)
    assert embed(text).passes == [2]
    assert embed(text, max_length=5, long="truncate").spans == [(0, 3)]
    with pytest.raises(
        InputError, match="text 0 is 14 tokens long, the model reads 10: max_length=14 reads it at once"
    ):
        embed(text, max_length=10, long="error")


def test_so_many_passes_are_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []
    read = pooled.read_rows

    def counted(model: Model, passes: list[object]) -> object:
        rows.append(len(passes))
        return read(model, passes)  # type: ignore[arg-type]

    monkeypatch.setattr(pooled, "read_rows", counted)
    found = Embed(embedder())(["ab"] * 7, batch_size=3, batch_tokens=1)
    assert rows == [3, 3, 1]
    assert len(found.vectors) == 7


# Memory

MEASURED = """
import sys, psutil, resource
from pathlib import Path
sys.path.insert(0, {folder!r})
from gossamer.tasks import Embed
from gossamer.text import Document
from tiny_embedders import embedder
embed = Embed(embedder(length=64))
words = ("abcdefg " * 1024 for _ in range({parts}))
texts = Document(source="x", parts=words) if {long} else ("abcdefg hijklmn opqrstu" for _ in range({texts}))
rows = tokens = 0
next(embed.stream("a"))
before = psutil.Process().memory_info().rss
for part in embed.stream(texts, spans={spans}):
    rows += len(part.vectors)
    tokens += part.is_last and part.tokens
status = Path("/proc/self/status")
if status.exists():  # what getrusage tells begins with the peak of the process that started this one
    peak = 1024 * next(int(line.split()[1]) for line in status.open() if line.startswith("VmHWM"))
else:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(rows, tokens, (peak - before) // 2**20)
"""


def measured(**settings: object) -> list[int]:
    """Vectors, tokens, and MiB beyond the loaded model, of a process of its own."""
    script = MEASURED.format(folder=str(Path(__file__).parent), **settings)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return [int(number) for number in done.stdout.split()]


def test_memory_does_not_grow_with_a_text_or_with_their_number() -> None:
    rows, tokens, mebibytes = measured(long=True, parts=14, texts=0, spans=100)
    assert (rows, tokens) == (1004, 100_352)
    assert mebibytes < 150
    rows, tokens, mebibytes = measured(long=False, parts=0, texts=5000, spans=None)
    assert (rows, tokens) == (5000, 105_000)
    assert mebibytes < 150


@pytest.mark.slow
@pytest.mark.parametrize("spans", [None, 100])
def test_a_text_of_a_million_tokens_needs_less_than_300_mebibytes(spans: int | None) -> None:
    rows, tokens, mebibytes = measured(long=True, parts=147, texts=0, spans=spans)
    assert (rows, tokens) == (1 if spans is None else 10_537, 1_053_696)
    assert mebibytes < 300


@pytest.mark.slow
def test_a_hundred_thousand_texts_need_less_than_300_mebibytes() -> None:
    rows, tokens, mebibytes = measured(long=False, parts=0, texts=100_000, spans=None)
    assert (rows, tokens) == (100_000, 2_100_000)
    assert mebibytes < 300


def test_what_the_report_saw(minilm: Path, tmp_path: Path) -> None:
    """A checkpoint's default prompt, as sentence-transformers applies it."""
    directory = tmp_path / "model"
    gs.save(gs.load(minilm), directory)
    path = directory / "config_sentence_transformers.json"
    path.write_text(json.dumps({"prompts": {"query": "search: ", "passage": ""}, "default_prompt_name": "query"}))
    (directory / "seal.json").unlink(missing_ok=True)
    embed = gs.task("embed", gs.load(directory))
    by_hand = embed("search: where do kites fly", prompt="")
    assert distance(embed("where do kites fly").vectors, by_hand.vectors) <= 1e-6
    assert isinstance(embed.model.tokenizer, Tokenizer)
