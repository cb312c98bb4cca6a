"""The files of a teacher's cache: how large they are, who writes which, and two runs on one folder."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from pyarrow import parquet
from tiny_teachers import decoder
from torch import Tensor

from gossamer.errors import InputError
from gossamer.models import Model
from gossamer.text import byte_tokenizer
from gossamer.training.objectives import TeacherCache
from gossamer.training.objectives.base import RunData
from gossamer.training.objectives.teachers import output_shards
from gossamer.training.objectives.teachers.output_shards import Column
from gossamer.training.objectives.teachers.teacher import Teacher
from gossamer.training.objectives.teachers.teacher_cache import CachedOutputs, open_cache
from gossamer.training.objectives.teachers.teacher_outputs import ScoreReader


class StatesReader:
    """The states of a teacher that says `value` of everything, four numbers a token."""

    columns = (Column(name="states", width=4, of_tokens=True, dtype="float32"),)

    def __init__(self, value: float = 1.0) -> None:
        self.value, self.fingerprint = value, {"teacher": f"{value}"}

    def read(self, inputs: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
        return {"states": torch.full((*inputs["input_ids"].shape, 4), self.value)}


class Rows:
    """Rows of so many tokens, a batch each."""

    def __init__(self, *tokens: int) -> None:
        self.batches = [{"input_ids": torch.full((1, count), i)} for i, count in enumerate(tokens)]

    def every_row(self, steps: int | None, held_out: bool) -> Iterator[dict[str, Tensor]]:
        return iter(self.batches)


def opened(
    folder: Path, rows: Rows, reader: Any = None, *, rank: int = 0, count: int = 1, device: str = "cpu",
    remark: Callable[[str], None] = lambda text: None,
) -> CachedOutputs:  # fmt: skip
    """The cache as one of `count` processes opens it, alone."""
    processes = SimpleNamespace(rank=rank, count=count, first=rank == 0, device=torch.device(device), wait=lambda: None)
    run = RunData(
        batches=cast(Any, rows), steps=None, evaluates=False, processes=cast(Any, processes), precision="float32",
        say=lambda text: None, remark=remark,
    )  # fmt: skip
    return open_cache(TeacherCache(folder=str(folder)), reader or StatesReader(), run, held_out=False)


def test_no_file_is_above_the_ceiling_however_rows_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Short rows first, then long ones; a row that is above it alone has a file of its own."""
    monkeypatch.setattr(output_shards, "SHARD_BYTES", 1600)
    monkeypatch.setattr(output_shards, "SHARD_ROWS", 5)
    lengths = [3] * 12 + [50, 50, 20, 200, 7, 7]
    rows = Rows(*lengths)
    cached = opened(tmp_path, rows)
    files = sorted(tmp_path.glob("*.parquet"))
    sizes = [[len(row) // 4 for row in parquet.read_table(file)["states"].to_pylist()] for file in files]
    assert sizes == [[3] * 5, [3] * 5, [3, 3, 50], [50, 20], [200], [7, 7]]
    for batch, count in zip(rows.batches, lengths, strict=True):
        assert cached.of(batch)["states"].shape == (1, count, 4)


def test_each_process_writes_the_files_of_its_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one finds files of the first already there, and takes no fewer for that."""
    monkeypatch.setattr(output_shards, "SHARD_ROWS", 1)
    rows = Rows(*range(1, 8))
    with pytest.raises(InputError, match=r"part-00001\.parquet: is not there; all processes must share"):
        opened(tmp_path, rows, rank=0, count=2)
    assert sorted(one.name for one in tmp_path.glob("*.parquet")) == [f"part-0000{i}.parquet" for i in (0, 2, 4, 6)]
    opened(tmp_path, rows, rank=1, count=2)
    assert len(list(tmp_path.glob("*.parquet"))) == 7


def test_of_two_runs_begun_together_the_second_is_refused(tmp_path: Path) -> None:
    """Both saw an empty folder; the manifest is that of the first."""
    rows = Rows(3, 4)
    with pytest.raises(InputError, match=r"^cache is '.*', which was made with something else: teacher '2.0', now '1"):
        opened(tmp_path, rows, remark=lambda text: opened(tmp_path, rows, StatesReader(2.0)) and None)
    assert json.loads((tmp_path / "cache.json").read_text())["made_of"]["teacher"] == "2.0"
    torch.testing.assert_close(
        opened(tmp_path, rows, StatesReader(2.0)).of(rows.batches[0])["states"], torch.full((1, 3, 4), 2.0)
    )


def test_a_file_that_is_opened_again_is_checked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output_shards, "SHARD_ROWS", 1)
    monkeypatch.setattr(output_shards, "_OPEN_FILES", 1)
    rows = Rows(3, 4)
    cached = opened(tmp_path / "ours", rows)
    opened(tmp_path / "theirs", rows, StatesReader(2.0))
    (tmp_path / "theirs" / "part-00000.parquet").replace(tmp_path / "ours" / "part-00000.parquet")
    cached.of(rows.batches[1])
    with pytest.raises(InputError, match=r"part-00000\.parquet: is no part of this cache \(it belongs to another"):
        cached.of(rows.batches[0])


def test_the_size_is_that_of_what_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output_shards, "SHARD_ROWS", 1)
    told: list[str] = []
    rows = Rows(30, 4, 5)
    opened(tmp_path, rows)
    (tmp_path / "part-00001.parquet").unlink()
    opened(tmp_path, rows, remark=told.append)
    assert told[0].startswith("cache: the teacher reads 1 of 3 rows (4 tokens) before the training; ")


def test_another_device_is_remarked(tmp_path: Path) -> None:
    rows, told = Rows(3), list[str]()
    opened(tmp_path, rows)
    manifest = json.loads((tmp_path / "cache.json").read_text())
    assert manifest["device"] == "cpu"
    opened(tmp_path, rows, device="meta", remark=told.append)
    assert told == [
        f"cache: {tmp_path} was begun on 'cpu', this run is on 'meta', where a teacher's outputs are rounded in "
        "another way"
    ]


def test_a_row_that_is_not_there_has_a_remedy(tmp_path: Path) -> None:
    cached = opened(tmp_path, Rows(3))
    with pytest.raises(InputError, match=r"was not read when it was made; run the same data and settings, or name an"):
        cached.of({"input_ids": torch.full((1, 3), 9)})


def test_a_temperature_is_a_number_however_it_is_written(tmp_path: Path) -> None:
    """2, as YAML has it, and 2.0 are one cache."""
    model: Model = decoder(5)
    model.tokenizer = byte_tokenizer()
    rows, teacher = Rows(3), Teacher.of(model)
    settings = TeacherCache(folder=str(tmp_path), top_k=4)
    for temperature in (2, 2.0):
        opened(tmp_path, rows, ScoreReader(teacher, settings, temperature, scores=True, states=False))
