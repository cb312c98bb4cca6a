"""The files of real checkpoints spoilt: the MiniLM's (90 MB, safetensors) and the chemistry ALBERT's (an old .bin)."""

import os
import shutil
from pathlib import Path
from random import Random

import pytest
import torch
from fuzz_runner import load, run
from fuzz_templates import Template, outputs

import gossamer as gs
from gossamer.models import Model

IGNORED = ("data_config.json", "README.md", ".gitattributes", "training_args.bin", "vocab.txt")
FEW, MANY = 3, 40


def real(name: str, directory: Path) -> Template:
    """A real checkpoint; its weights stay where they are if they are large."""
    paths = {str(one.relative_to(directory)): one for one in sorted(directory.rglob("*")) if one.is_file()}
    files = {
        name: path if path.stat().st_size > 2**24 else path.read_bytes()
        for name, path in paths.items()
        if name not in IGNORED
    }
    model = gs.load(directory)
    return Template(name, files, model, outputs(model))


@pytest.fixture(scope="module")
def sound_minilm(minilm: Path) -> Template:
    return real("minilm", minilm)


@pytest.fixture(scope="module")
def sound_albert(chemistry_albert: Path) -> Template:
    return real("chemistry-albert", chemistry_albert)


SMALL_FILES = ["json-values", "json-text", "families", "whole-files"]
ALL_FILES = [*SMALL_FILES, "bytes", "pickled-code"]


@pytest.mark.parametrize("kind", SMALL_FILES)
def test_spoilt_minilm(sound_minilm: Template, kind: str, tmp_path: Path) -> None:
    assert len(run(sound_minilm, kind, FEW, tmp_path)) == FEW


@pytest.mark.slow
@pytest.mark.parametrize("kind", SMALL_FILES)
def test_spoilt_minilm_many_ways(sound_minilm: Template, kind: str, tmp_path: Path) -> None:
    assert any(not one.endswith(": loaded") for one in run(sound_minilm, kind, MANY, tmp_path))


@pytest.mark.parametrize("kind", ALL_FILES)
def test_spoilt_albert(sound_albert: Template, kind: str, tmp_path: Path) -> None:
    assert len(run(sound_albert, kind, FEW, tmp_path)) == FEW


@pytest.mark.slow
@pytest.mark.parametrize("kind", ALL_FILES)
def test_spoilt_albert_many_ways(sound_albert: Template, kind: str, tmp_path: Path) -> None:
    assert any(not one.endswith(": loaded") for one in run(sound_albert, kind, MANY, tmp_path))


def spoil_in_place(path: Path, random: Random, header: int) -> tuple[int, bytes]:
    """Overwrite or cut off some bytes of a large file; where, and what was there."""
    size = path.stat().st_size
    cut = random.random() < 0.15
    start = size - random.randrange(1, 5000) if cut else random.randrange(random.choice([8, header, size - 100]))
    with path.open("r+b") as file:
        file.seek(start)
        old = file.read(size - start if cut else random.choice([1, 2, 60]))
        file.seek(start)
        file.write(random.choice([random.randbytes, bytes])(len(old)))
        if cut:
            os.truncate(path, start)
    return start, old


@pytest.mark.parametrize("count", [4, pytest.param(60, marks=pytest.mark.slow)])
def test_spoilt_weights_of_the_minilm(sound_minilm: Template, minilm: Path, count: int, tmp_path: Path) -> None:
    expected = sound_minilm.model.state_dict()
    path = Path(shutil.copy(minilm / "model.safetensors", tmp_path))
    shutil.copy(minilm / "config.json", tmp_path)
    for i in range(count):
        start, old = spoil_in_place(path, Random(i), header=12_000)
        found = load(tmp_path)
        if isinstance(found, Model):
            differ = [name for name, one in found.state_dict().items() if not torch.equal(one, expected[name])]
            assert len(differ) <= 2, (i, start)  # what was overwritten, at the border of two tensors
        with path.open("r+b") as file:
            file.seek(start)
            file.write(old)
    assert isinstance(load(tmp_path), Model)
