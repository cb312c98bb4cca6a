"""Files of every format that is read: by their ending, by what their reader says, by how they begin."""

import csv
import gzip
import io
import json
import lzma
import os
import re
import threading
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossamer.errors import InputError
from gossamer.text import InputStream, documents, read_documents

ROWS = [{"id": 1, "text": 'a "quoted"\n\nrow, with\u2028all'}, {"id": 2, "text": "naïve"}, {"id": 3, "text": ""}]


def table(delimiter: str) -> bytes:
    out = io.StringIO()
    writer = csv.DictWriter(out, ["id", "text"], delimiter=delimiter)
    writer.writeheader()
    writer.writerows(ROWS)
    return out.getvalue().encode()


CONTENTS = {
    "jsonl": "".join(json.dumps(row) + "\n" for row in ROWS).encode(),
    "json": json.dumps(ROWS, indent=2, ensure_ascii=False).encode(),
    "csv": table(","),
    "tsv": table("\t"),
}
PACK = {"": bytes, "gz": gzip.compress, "xz": lzma.compress}


def read(*inputs: Any, **options: Any) -> list[tuple[str, dict[str, Any]]]:
    return [("".join(one.parts), dict(one.fields)) for one in read_documents(list(inputs), **options)]


def expected(content: str) -> list[tuple[str, dict[str, Any]]]:
    as_text = content in ("csv", "tsv")
    return [(str(row["text"]), {"id": str(row["id"]) if as_text else row["id"]}) for row in ROWS]


@pytest.mark.parametrize("packing", PACK)
@pytest.mark.parametrize("content", CONTENTS)
def test_rows_come_with_their_other_fields(tmp_path: Path, content: str, packing: str) -> None:
    data = PACK[packing](CONTENTS[content])
    named = tmp_path / f"a.{content}{'.' * bool(packing)}{packing}"
    named.write_bytes(data)
    assert read(named) == expected(content)
    unnamed = tmp_path / ("nothing" + "." * bool(packing) + packing)
    unnamed.write_bytes(data)
    said: list[str] = []
    assert read(unnamed, remark=said.append) == expected(content)
    assert len(said) == 1
    assert f"is read as {content}: " in said[0]
    assert "format='txt' takes it as one text" in said[0]
    assert read(InputStream("stdin", io.BytesIO(data)), remark=said.append) == expected(content)
    (whole,) = read(unnamed, format="txt")
    assert whole == (CONTENTS[content].decode(), {})


def test_upper_case_endings_and_rows_numbered_by_their_lines(tmp_path: Path) -> None:
    (tmp_path / "A.CSV").write_bytes(CONTENTS["csv"])
    (tmp_path / "a.json").write_text('{"text": "x"}\n{"text":\n "y"}')
    assert [one.number for one in read_documents([tmp_path / "A.CSV"])] == [2, 5, 6]
    assert [one.number for one in read_documents([tmp_path / "a.json"])] == [1, 2]
    assert read(tmp_path / "a.json") == [("x", {}), ("y", {})]


@pytest.mark.parametrize(
    "text", ["Dear all,\nthe text follows", "{x} and [y]", "[1] a citation", '"Quoted," he said', "a\tb\nc", "", "{"]
)
def test_plain_text_is_not_taken_for_anything_else(tmp_path: Path, text: str) -> None:
    (tmp_path / "README").write_text(text)
    said: list[str] = []
    assert read(tmp_path / "README", remark=said.append) == [(text, {})]
    assert not said


class Trickle(io.RawIOBase):
    """A pipe that gives a byte at a time."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        count = min(1, len(self.data))
        buffer[:count], self.data = self.data[:count], self.data[count:]
        return count


@pytest.mark.parametrize("content", CONTENTS)
def test_a_slow_pipe_is_read_the_same(content: str) -> None:
    stream = io.BufferedReader(Trickle(CONTENTS[content]))
    assert read(InputStream("stdin", stream)) == expected(content)


@given(st.binary(max_size=12) | st.text("[{ \n\ta", max_size=12).map(str.encode))
def test_a_piece_tells_what_it_is_where_a_line_has_more_than_brackets(data: bytes) -> None:
    """As the expression says, whose search takes the square of a line without an end: 5 s for 128 KB."""
    assert documents._tells(data) == (re.search(rb"[^\s\[{][^\n]*\n", data) is not None)


def test_memory_holds_one_row(tmp_path: Path) -> None:
    row = json.dumps({"text": "w" * 1000})
    (tmp_path / "a.json").write_text(f"[{','.join([row] * 20_000)}]")
    (tmp_path / "a.csv").write_text("text\n" + f"{'w' * 1000}\n" * 20_000)
    for name in ("a.json", "a.csv"):
        tracemalloc.start()
        assert sum(1 for _ in read_documents([tmp_path / name])) == 20_000
        assert tracemalloc.get_traced_memory()[1] < 4_000_000, name
        tracemalloc.stop()


def test_cells_are_of_any_length_and_the_process_is_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"text\n{'w' * 300_000}\n")
    before = csv.field_size_limit()
    assert len(read(tmp_path / "a.csv")[0][0]) == 300_000
    assert csv.field_size_limit() == before


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("a.pdf", b"%PDF-1.7", r"'.pdf' is no format that is read .*convert it to text first"),
        ("a.docx", b"PK\x03\x04", r"'.docx' is no format"),
        ("a.html", b"<p>", r"'.html' is no format"),
        ("a.npy", b"\x93NUMPY", r"'.npy' is no format"),
        ("a.html.gz", b"", r"'.html' is no format"),
        ("a", b"%PDF-1.7", "is a PDF document; convert it to text first"),
        ("a", b"PK\x03\x04", "is a zip archive or an office document"),
        ("a", b"PAR1", "is a parquet file, which is read by its name"),
        ("a.csv", b"id,body\n1,x\n", r"has no column 'text' in its first line \(it has: id, body\); name the field"),
        ("a.csv", b"", "has no column 'text'"),
        ("a.csv", b"text,text\nx,y\n", "has several columns 'text'"),
        ("a.csv", b"id,text\n1,x\n2\n", "a.csv:3: has 1 cells, the first line 2"),
        ("a.csv", b'id,text\n1,"x\ny\n', "a.csv:2: is no row of a table"),
        ("a.tsv", b'text\n"x"y\n', "a.tsv:2: is no row of a table"),
        ("a.json", b'[{"text": "x"}', "a.json:2: is no JSON"),
        ("a.json", b'["a" "b"]', "a.json:2: is no JSON .*it must be an array of texts or objects"),
        ("a.json", b'["a", 3]', "a.json:2: is 3; each element must be a text, or an object with one"),
        ("a.json", b'["a"] b', "a.json:2: is no JSON"),
        ("a.json", b'{"data": ["a"]}', r"a.json:1: the field 'text' is missing \(it has: data\)"),
        ("a.json", b'["\\x"' + b" " * 300, "a.json: is no JSON"),
        ("a.json", b"[" * 100_000, "a.json: is no JSON"),
        ("a.json", b'[{"text": "a", "n": ' + b"9" * 5000 + b"}]", "a.json: is no JSON"),
    ],
)
def test_what_is_no_text_is_refused_in_one_line(tmp_path: Path, name: str, content: bytes, match: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=match) as caught:
        read(tmp_path / name)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_a_format_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("a line")
    with pytest.raises(InputError, match="format is 'pdf'; it must be one of 'txt', 'jsonl'"):
        read(tmp_path / "a.log", format="pdf")
    assert read(tmp_path / "a.log", format="txt") == [("a line", {})]


@pytest.mark.skipif(os.name == "nt", reason="named pipes and devices")
def test_what_is_no_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "endless.txt").symlink_to("/dev/zero")
    said: list[str] = []
    with pytest.raises(InputError, match="is a device, not a regular file"):
        read(tmp_path / "endless.txt", remark=said.append)
    with pytest.raises(InputError, match="is a named pipe, not a regular file"):
        read(tmp_path / "pipe")
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(CONTENTS["jsonl"]))
    writer.start()
    assert read(tmp_path / "pipe", remark=said.append) == expected("jsonl")
    writer.join()
    assert "is a pipe, which is read until its writer ends" in said[0]


@pytest.mark.parametrize("name", ["a.parquet", "a.txt.zst", "a"])
def test_what_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr("gossamer.text.file_formats.find_spec", lambda name: None)
    (tmp_path / name).write_bytes(b"\x28\xb5\x2f\xfd")
    with pytest.raises(InputError, match=r"install it: pip install 'gossamer\[data\]'"):
        read(tmp_path / name)


def test_parquet(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = [{**row, "when": "2026", "more": [{"a": 1.5}]} for row in ROWS]
    parquet.write_table(arrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    told: list[int] = []
    found = read(tmp_path / "a.parquet", told=told.append)
    assert found == [(str(row["text"]), {key: row[key] for key in ("id", "when", "more")}) for row in rows]
    assert sum(told) == (tmp_path / "a.parquet").stat().st_size
    with pytest.raises(InputError, match=r"has no column 'body' \(it has: id, text, when, more\)"):
        read(tmp_path / "a.parquet", field="body")
    (tmp_path / "b.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-9])
    with pytest.raises(InputError, match="cannot be read as parquet"):
        read(tmp_path / "b.parquet")
    with pytest.raises(InputError, match="a pipe cannot be read as parquet"):
        read(InputStream("stdin", io.BufferedReader(Trickle(b"PAR1"))), format="parquet")


def test_zstandard(tmp_path: Path) -> None:
    zstandard = pytest.importorskip("zstandard")
    packed = zstandard.compress(CONTENTS["jsonl"][:20]) + zstandard.compress(CONTENTS["jsonl"][20:])
    (tmp_path / "a.jsonl.zst").write_bytes(packed)
    (tmp_path / "a").write_bytes(packed)
    assert read(tmp_path / "a.jsonl.zst") == read(tmp_path / "a") == expected("jsonl")
    for damaged in (packed[:-5], b"no frame", packed + b"rest"):
        (tmp_path / "b.txt.zst").write_bytes(damaged)
        with pytest.raises(InputError, match="cannot be unpacked"):
            read(tmp_path / "b.txt.zst")
