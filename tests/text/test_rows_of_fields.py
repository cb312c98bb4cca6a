"""Rows that are read for their fields alone, whichever file they are in."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gossamer.text import read_documents

ROWS = [{"tokens": ["a", "b"], "tags": [0, 1]}, {"tokens": ["c"], "tags": [2]}]


def write(path: Path) -> None:
    if path.suffix == ".jsonl":
        path.write_text("\n".join(map(json.dumps, ROWS)))
    elif path.suffix == ".json":
        path.write_text(json.dumps(ROWS))
    else:
        pq.write_table(pa.Table.from_pylist(ROWS), path)


@pytest.mark.parametrize("ending", [".jsonl", ".json", ".parquet"])
def test_rows_without_a_text_have_all_their_fields(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"rows{ending}"
    write(path)
    found = list(read_documents([path], field=None))
    assert [dict(one.fields) for one in found] == ROWS
    assert [list(one.parts) for one in found] == [[], []]
    assert [one.name for one in found] == [f"{path}:1", f"{path}:2"]


def test_cells_of_a_table_are_texts(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("tokens,tags\na,0\n")
    (found,) = read_documents([tmp_path / "rows.csv"], field=None)
    assert dict(found.fields) == {"tokens": "a", "tags": "0"}
