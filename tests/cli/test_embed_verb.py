"""gossamer embed on many and on long texts: files that grow, what an interrupt leaves, rows that keep their fields."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest

import gossamer as gs
from gossamer.cli import vector_files
from gossamer.cli.text_parts import TextParts
from gossamer.cli.vector_files import HEADER, _header, open_vectors
from gossamer.errors import InputError
from gossamer.tasks import Embed, EmbeddedPart, pooled
from gossamer.text import documents

Command = Callable[..., Any]


def write_rows(path: Path, texts: list[str]) -> Path:
    rows = [{"id": f"row {i}", "text": text, "source": "mine"} for i, text in enumerate(texts)]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_fields_of_rows_are_carried_over(gossamer: Command, small: Path, tmp_path: Path) -> None:
    texts = write_rows(tmp_path / "texts.jsonl", ["a cat", "a dog"])
    done = gossamer("embed", small, "--file", texts, "--out", tmp_path / "v.jsonl", "--json")
    rows = read_rows(tmp_path / "v.jsonl")
    assert [row["id"] for row in rows] == ["row 0", "row 1"]
    assert rows[1] | {"vector": 0} == {
        "id": "row 1", "input_source": "mine", "text": 1, "source": f"{texts}:2", "span": [0, 5], "vector": 0,
    }  # fmt: skip
    assert [{**row, "vector": 0} for row in done.json["rows"]] == [{**row, "vector": 0} for row in rows]
    expected = gs.task("embed", gs.load(small))(["a cat", "a dog"]).vectors.numpy()
    np.testing.assert_allclose([row["vector"] for row in rows], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("options", [["--spans", "3"], ["--skip-empty"]])
def test_numbers_have_a_map_of_their_rows_beside_them(
    gossamer: Command, small: Path, tmp_path: Path, options: list[str]
) -> None:
    texts = write_rows(tmp_path / "texts.jsonl", ["a cat sat on a mat", "", "a dog"])
    done = gossamer("embed", small, "--file", texts, "--out", tmp_path / "v.npy", "--json", *options)
    assert done.code == 0
    rows, vectors = read_rows(tmp_path / "v.spans.jsonl"), np.load(tmp_path / "v.npy")
    assert done.json["spans"] == str(tmp_path / "v.spans.jsonl")
    assert [row["row"] for row in rows] == list(range(len(vectors)))
    assert [row["id"] for row in rows] == (
        ["row 0", "row 0", "row 1", "row 2"] if "3" in options else ["row 0", "row 2"]
    )
    assert rows[0]["span"] == ([0, 9] if "3" in options else [0, 18])
    assert ("is empty: left out" in done.err) is ("--skip-empty" in options)
    assert (
        f"what each row is, to {tmp_path / 'v.spans.jsonl'}"
        in gossamer("embed", small, "a cat", "--out", tmp_path / "v.npy", *options).out
    )


def test_an_empty_text_ends_nothing(gossamer: Command, small: Path) -> None:
    done = gossamer("embed", small, "a cat", "   ", "--json")
    assert (done.code, len(done.json["rows"])) == (0, 2)
    assert done.err == "gossamer: argument 2 is empty: its vector is that of the special tokens\n"
    assert done.json["notes"] == ["argument 2 is empty: its vector is that of the special tokens"]


def test_options_are_those_of_the_task(gossamer: Command, small: Path) -> None:
    embed = gs.task("embed", gs.load(small))
    for options, settings in (
        (["--prompt", "say: "], {"prompt": "say: "}),
        (["--no-normalize", "--batch-size", "1"], {"normalize": False, "batch_size": 1}),
        (["--normalize", "--truncate-dim", "4", "--device", "cpu"], {"normalize": True, "truncate_dim": 4}),
        (["--max-length", "8"], {"max_length": 8}),
    ):
        rows = gossamer("embed", small, "a cat " * 9, *options, "--json").json["rows"]
        expected = embed("a cat " * 9, **settings).vectors.numpy()
        np.testing.assert_allclose([row["vector"] for row in rows], expected, rtol=1e-5, atol=1e-6)
    assert "prompt_name is 'query'" in gossamer("embed", small, "a", "--prompt-name", "query").error
    assert "--batch-size is 0; it must be" in gossamer("embed", small, "a", "--batch-size", "0").error


@pytest.fixture(params=["SIGINT", "SIGTERM"])
def interrupted_at_the_fourth(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[None]:
    """Vectors come one by one, and Ctrl-C or SIGTERM behind the third."""
    stream = Embed.stream

    def cut_off(self: Embed, *args: Any, **options: Any) -> Iterator[EmbeddedPart]:
        for i, part in enumerate(stream(self, *args, **options)):
            if i == 3:
                os.kill(os.getpid(), getattr(signal, request.param))
            yield part

    monkeypatch.setattr(pooled, "GROUP_TOKENS", 1)
    monkeypatch.setattr(Embed, "stream", cut_off)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.usefixtures("interrupted_at_the_fourth")
@pytest.mark.parametrize("suffix", ["npy", "jsonl"])
def test_what_is_finished_stays_after_an_interrupt(gossamer: Command, small: Path, tmp_path: Path, suffix: str) -> None:
    texts = write_rows(tmp_path / "texts.jsonl", [f"number {i}" for i in range(9)])
    out, partial = tmp_path / f"v.{suffix}", tmp_path / f"v.partial.{suffix}"
    done = gossamer("embed", small, "--file", texts, "--out", out)
    assert done.code in (130, 143)
    said, last = done.err.splitlines()
    assert said == f"gossamer: 3 vectors of 3 texts are finished and in {out}"
    assert last == {130: "gossamer: interrupted", 143: "gossamer: ended by SIGTERM"}[done.code]
    expected = gs.task("embed", gs.load(small))([f"number {i}" for i in range(3)]).vectors.numpy()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "texts.jsonl",
        f"v.{suffix}",
        *(["v.spans.jsonl"] if suffix == "npy" else []),
    ]
    found = np.load(out) if suffix == "npy" else [row["vector"] for row in read_rows(out)]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    out.write_bytes(b"a whole result of before")
    done = gossamer("embed", small, "--file", texts, "--out", out)
    assert f"3 vectors of 3 texts are finished and in {partial}" in done.err
    assert out.read_bytes() == b"a whole result of before"
    assert len(np.load(partial) if suffix == "npy" else read_rows(partial)) == 3


def test_what_is_finished_stays_before_a_row_that_cannot_be_read(
    gossamer: Command, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pooled, "GROUP_TOKENS", 1)
    texts = write_rows(tmp_path / "texts.jsonl", ["a", "b"])
    texts.write_text(texts.read_text() + "{damaged\n")
    done = gossamer("embed", small, "--file", texts, "--out", tmp_path / "v.npy")
    assert done.code == 2
    said, last = done.err.splitlines()
    assert said.endswith("vectors of 2 texts are finished and in " + str(tmp_path / "v.npy"))
    assert f"{texts}:3: is no JSON" in last
    assert np.load(tmp_path / "v.npy").shape == (2, 16)
    texts.write_text("{damaged\n")
    (tmp_path / "v.npy").unlink()
    (tmp_path / "v.spans.jsonl").unlink()
    assert gossamer("embed", small, "--file", texts, "--out", tmp_path / "v.npy").code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["texts.jsonl"]


def test_a_row_that_was_cut_off_is_no_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors, out = np.arange(6, dtype=np.float32).reshape(2, 3), tmp_path / "v.npy"
    rows: list[Any] = [{"text": 0}, {"text": 1}]

    def interrupted(stream: BinaryIO, row: object) -> None:
        stream.write(b'{"ro')
        raise KeyboardInterrupt

    def add_twice() -> None:
        with open_vectors(out) as file:
            file.add(vectors, rows, is_last=True)
            monkeypatch.setattr(vector_files, "write_line", interrupted)
            file.add(vectors, rows, is_last=True)

    with pytest.raises(KeyboardInterrupt):
        add_twice()
    np.testing.assert_array_equal(np.load(out), vectors)
    assert [row["row"] for row in read_rows(tmp_path / "v.spans.jsonl")] == [0, 1]
    assert "2 vectors of 1 text are finished" in capsys.readouterr().err


@pytest.mark.parametrize("rows", [0, 1, 10**9, 10**18])
def test_a_header_is_of_one_length_whatever_it_says(tmp_path: Path, rows: int) -> None:
    head = _header(rows, 2**20)
    assert len(head) == HEADER
    (tmp_path / "head.npy").write_bytes(head)
    with (tmp_path / "head.npy").open("rb") as file:
        assert np.lib.format.read_magic(file) == (1, 0)
        assert np.lib.format.read_array_header_1_0(file) == ((rows, 2**20), False, np.dtype("<f4"))


def test_targets_are_judged_before_the_work(gossamer: Command, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.npy")
    (tmp_path / "v.spans.jsonl").mkdir()
    (tmp_path / "a.txt").write_text("a")
    for out, options, said in (
        (tmp_path / "pipe.npy", [], "pipe.npy: is a named pipe, not a regular file"),
        (tmp_path / f"{'n' * 256}.npy", [], "cannot be a file's name (File name too long)"),
        (tmp_path / "v.npy", ["--spans", "3"], "v.spans.jsonl: is a directory"),
    ):
        done = gossamer("embed", "/nowhere", "a", "--out", out, *options)
        assert done.code == 2
        assert said in done.error


def test_permissions_of_the_file_that_is_replaced_stay(gossamer: Command, small: Path, tmp_path: Path) -> None:
    out = tmp_path / "v.npy"
    for mode in (0o600, 0o664):
        out.write_bytes(b"old")
        out.chmod(mode)
        assert gossamer("embed", small, "a", "--out", out).code == 0
        assert out.stat().st_mode & 0o777 == mode


def test_standard_input_and_files_are_read_in_parts(
    gossamer: Command, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "CHUNK", 7)
    monkeypatch.setattr("gossamer.cli.text_parts.CHUNK", 7, raising=False)
    text = "naïve 東京 threads 👍🏽 " * 9
    (tmp_path / "a.txt").write_text(text, encoding="utf-8-sig")
    with (tmp_path / "a.txt").open(encoding="utf-8") as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        rows = gossamer("embed", small, "--file", tmp_path / "a.txt", "-", "--json").json["rows"]
    expected = gs.task("embed", gs.load(small))(text).vectors[0].numpy()
    for row in rows:
        np.testing.assert_allclose(row["vector"], expected, rtol=1e-5, atol=1e-6)
    with (tmp_path / "a.txt").open("wb") as file:
        file.write(b"good \xff bad")
    with (tmp_path / "a.txt").open(encoding="utf-8") as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        assert "stdin: is no UTF-8 text (it holds the byte 0xff)" in gossamer("embed", small, "--file", "-").error


def test_progress_knows_how_much_there_is(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("ten letter" * 40_000)
    source = TextParts([], [tmp_path / "a.txt"], "text")
    assert source.characters() == 0
    running = source.documents()
    next(iter(next(running).parts))
    assert 0.9 * 400_000 <= source.characters() <= 1.1 * 400_000  # type: ignore[operator]
    assert TextParts([], [Path("-")], "text").characters() is None
    with pytest.raises(InputError, match="there is no text"):
        TextParts([], [], "text")


def test_a_new_file_does_not_keep_the_map_of_an_old_one(gossamer: Command, small: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.npy"
    gossamer(
        "embed", small, "--file", write_rows(tmp_path / "a.jsonl", ["a cat sat", "a dog"]), "--spans", 1, "--out", out
    )
    assert gossamer("embed", small, "cat", "dog", "mat", "--out", out).code == 0
    rows = read_rows(tmp_path / "o.spans.jsonl")
    assert [row["source"] for row in rows] == ["argument 1", "argument 2", "argument 3"]
    assert len(np.load(out)) == 3


def test_what_an_earlier_interrupt_left_is_not_replaced(tmp_path: Path) -> None:
    out = tmp_path / "o.npy"

    def stopped_after(count: int) -> None:
        with open_vectors(out) as file:
            file.add(np.zeros((count, 2), dtype=np.float32), [{"text": i} for i in range(count)], True)
            raise InputError("a bad row")

    for count in (3, 2, 1):
        with pytest.raises(InputError, match="a bad row"):
            stopped_after(count)
    names = ["o", "o.partial", "o.partial-2"]
    assert [len(np.load(tmp_path / f"{name}.npy")) for name in names] == [3, 2, 1]
    assert [len(read_rows(tmp_path / f"{name}.spans.jsonl")) for name in names] == [3, 2, 1]


def test_no_field_of_a_row_is_lost_to_another(gossamer: Command, small: Path, tmp_path: Path) -> None:
    rows = tmp_path / "a.jsonl"
    rows.write_text(json.dumps({"text": "x", "input_text": "mine", "body": "a cat"}) + "\n")
    gossamer("embed", small, "--file", rows, "--field", "body", "--out", tmp_path / "v.jsonl")
    (row,) = read_rows(tmp_path / "v.jsonl")
    assert (row["input_text"], row["input_input_text"], row["text"]) == ("mine", "x", 0)


def test_a_prompt_that_names_a_file_is_refused(gossamer: Command, small: Path, tmp_path: Path) -> None:
    (tmp_path / "q.txt").write_text("a question")
    done = gossamer("embed", small, "a cat", "--prompt", tmp_path / "q.txt")
    assert done.code == 2
    assert "--prompt is" in done.err
