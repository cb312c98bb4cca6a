"""Rows in memory, read in place of files: the same run, the same refusals, exact resume."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pyarrow
import pytest
from broken_runs import broken_off
from tiny_labels import labels_config, texts
from tiny_runs import assert_same_run, decoder_config, write_text

import gossamer as gs
from gossamer.errors import InputError
from gossamer.training.config.training import DataSettings, TrainingConfig


class Table:
    """Rows of columns, as a dataset keeps them."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.columns = {name: [row[name] for row in rows] for name in rows[0]}

    def __len__(self) -> int:
        return len(self.columns["text"])

    def __getitem__(self, i: int) -> dict[str, Any]:
        return {name: column[i] for name, column in self.columns.items()}


def without_data(config: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name != "data"}


@pytest.mark.parametrize("kind", [list, Table, pandas.DataFrame, pyarrow.Table.from_pylist])
def test_labelled_rows_are_learnt_as_from_a_file(tmp_path: Path, kind: Callable[..., Any]) -> None:
    gs.train(labels_config(tmp_path, "file"))
    gs.train(without_data(labels_config(tmp_path, "memory")), rows=kind(texts()))
    assert_same_run(tmp_path / "file", tmp_path / "memory", 6)


def test_plain_texts_are_learnt_as_from_a_file(tmp_path: Path) -> None:
    lines = write_text(tmp_path / "text.txt").read_text().splitlines()
    held = [{"text": "a small spider spins its web far away"}]
    settings: dict[str, Any] = {"evaluation": {"every": 3}}
    _, receipt = gs.train(
        {**without_data(decoder_config(tmp_path, "memory")), "evaluation": {"every": 3, "data": "none.txt"}},
        rows=[{"text": line} for line in lines], evaluation_rows=held,
    )  # fmt: skip
    (tmp_path / "held.txt").write_text(held[0]["text"])
    settings["evaluation"]["data"] = str(tmp_path / "held.txt")
    gs.train(decoder_config(tmp_path, "file", **settings))
    assert_same_run(tmp_path / "file", tmp_path / "memory", 6)
    assert receipt.settings["data"]["train"] == "<rows>"


def test_rows_stand_in_for_a_config_in_code(tmp_path: Path) -> None:
    fields = labels_config(tmp_path, steps=1, schedule={"warmup": 0}, evaluation={})
    config = TrainingConfig.read({**fields, "data": {"field": "text"}})
    assert config.data == DataSettings()
    _, receipt = gs.train(config, rows=[{"text": "film", "label": np.int64(i % 2)} for i in range(8)])
    assert receipt.steps == 1


def test_a_broken_run_of_rows_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    rows = texts()
    gs.train(without_data(labels_config(tmp_path, "whole")), rows=rows)
    config = without_data(labels_config(tmp_path, "broken"))
    broken_off(config, 5, KeyError, rows=rows)
    gs.train(config, rows=rows, resume="must")
    assert_same_run(tmp_path / "whole", tmp_path / "broken", 6)


@pytest.mark.parametrize("kind", ["labels", "texts"])
def test_other_rows_are_refused_on_resume(tmp_path: Path, kind: str) -> None:
    rows = texts() if kind == "labels" else [{"text": f"{i} over the hills and far away"} for i in range(60)]
    config = without_data(labels_config(tmp_path) if kind == "labels" else decoder_config(tmp_path))
    gs.train(config, rows=rows)
    changed = [*rows[:-1], {**rows[-1], "text": "song over the hills"}]
    with pytest.raises(InputError, match="the data are not those of the run"):
        gs.train({**config, "steps": 9}, rows=changed)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], r"^rows: there are no rows; give some$"),
        ("mail.jsonl", r"^rows is 'mail\.jsonl'; give a sequence of dicts"),
        ({"text": ["a"]}, r"^rows is \{'text': \['a'\]\}; give a sequence of dicts"),
        (iter([{"text": "a"}]), r"^rows is <list_iterator .*; give a sequence of dicts"),
        ([{"text": "a", "label": "x"}, "b"], r"^rows:2: is 'b'; each row must be a dict of columns$"),
        ([{"text": "a", "label": "x"}, {"label": "x"}], r"^rows:2: the field 'text' is missing .*; it must be a text"),
        ([{"text": "a", "label": "x"}, {"text": "b"}], r"^rows:2: the field 'label' is missing"),
    ],
)
def test_rows_that_cannot_be_read_are_one_line(tmp_path: Path, rows: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        gs.train(without_data(labels_config(tmp_path)), rows=rows)
    assert not (tmp_path / "out" / "checkpoints").exists()


def test_a_text_that_is_missing_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^rows:2: the field 'text' is missing \(it has: body\)"):
        gs.train(without_data(decoder_config(tmp_path)), rows=[{"text": "a"}, {"body": "b"}])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {}}, r"^data\.train is missing; name files, or hand rows to train\(\)$"),
        ({"evaluation": {"data": "<evaluation rows>"}}, r"^evaluation\.data is missing; .* hand evaluation_rows to"),
    ],
)
def test_a_config_that_names_rows_needs_them(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        gs.train({**labels_config(tmp_path), **changes})
