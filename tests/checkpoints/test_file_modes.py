"""Who may read what is written: whoever may read any new file, or the one that was replaced."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tiny_checkpoints import BERT, build

import gossamer as gs
from gossamer.atomic_files import write_whole
from gossamer.models import SentenceEmbedding
from gossamer.text import byte_tokenizer, read_documents, write_token_file
from gossamer.training.resume.state import RunState, save_checkpoint


@pytest.fixture(params=[0o022, 0o027, 0o002, 0o077], ids=oct)
def mask(request: pytest.FixtureRequest) -> Iterator[int]:
    old = os.umask(request.param)
    yield request.param
    os.umask(old)


def modes(directory: Path) -> dict[str, int]:
    every = (directory, *directory.rglob("*"))
    return {str(one.relative_to(directory)): stat.S_IMODE(one.stat().st_mode) for one in every}


def test_a_saved_model_is_readable_as_any_new_file(tmp_path: Path, mask: int) -> None:
    model = build(BERT, head=SentenceEmbedding())
    model.tokenizer = byte_tokenizer().with_max_length(16)
    gs.save(model, tmp_path / "model")
    found = modes(tmp_path / "model")
    assert {"model.safetensors", "config.json", "1_Pooling/config.json"} <= found.keys()
    for name, mode in found.items():
        assert mode == (0o777 if (tmp_path / "model" / name).is_dir() else 0o666) & ~mask, name


def test_a_model_that_is_replaced_keeps_its_permissions(tmp_path: Path) -> None:
    directory = gs.save(build(BERT), tmp_path / "model")
    (directory / "notes.txt").write_text("mine")
    for name, mode in {".": 0o750, "model.safetensors": 0o640, "config.json": 0o604, "notes.txt": 0o600}.items():
        (directory / name).chmod(mode)
    before = modes(directory)
    gs.save(build(BERT), directory)
    assert modes(directory) == before


def test_so_do_checkpoints_of_a_run(tmp_path: Path, mask: int) -> None:
    path = save_checkpoint(
        tmp_path,
        RunState(step=1, config={}, architecture={}, data=""),
        {"a": torch.ones(2)},
        {"b": torch.ones(2)},
        keep=2,
    )
    assert {mode for name, mode in modes(path).items() if name != "."} == {0o666 & ~mask}


def test_so_do_single_files(tmp_path: Path, mask: int) -> None:
    text = tmp_path / "text.txt"
    text.write_text("abc")
    for name, write in {
        "rows.npy": lambda path: write_whole(path, lambda file: file.write(b"x")),
        "tokens.bin": lambda path: write_token_file(path, read_documents([str(text)]), byte_tokenizer()),
    }.items():
        path = tmp_path / name
        write(path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask
        path.chmod(0o604)
        write(path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o604
