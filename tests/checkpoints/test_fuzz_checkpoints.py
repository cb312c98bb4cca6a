"""Spoilt checkpoints: one clear line or a correct model; never a traceback, a hang, a flood of memory, or code run."""

from pathlib import Path

import pytest
from fuzz_runner import load, run
from fuzz_templates import NAMES, template, write
from mutations import MUTATIONS, ODD

FEW, MANY = 4, 40


@pytest.mark.parametrize("kind", MUTATIONS)
@pytest.mark.parametrize("name", NAMES)
def test_spoilt_checkpoint_is_refused_in_a_line_or_correct(name: str, kind: str, tmp_path: Path) -> None:
    said = run(template(name), kind, FEW, tmp_path)
    assert len(said) == FEW


@pytest.mark.parametrize("name", ["sentence", "xlm-roberta", "distilbert", "gossamer"])
def test_nothing_but_files_is_read(name: str, tmp_path: Path) -> None:
    original = template(name)
    for file in original.files:
        for odd in ODD:
            directory = tmp_path / f"{file}-{odd}".replace("/", "-").replace(" ", "-")
            write({**original.files, file: odd}, directory)
            found = load(directory)
            assert isinstance(found, str), (file, odd)


@pytest.mark.slow
@pytest.mark.parametrize("kind", MUTATIONS)
@pytest.mark.parametrize("name", NAMES)
def test_spoilt_a_thousand_ways(name: str, kind: str, tmp_path: Path) -> None:
    said = run(template(name), kind, MANY, tmp_path)
    refused = [one for one in said if not one.endswith(": loaded")]
    assert len(refused) >= MANY // 10
    if kind == "pickled-code":
        assert len(refused) == MANY
