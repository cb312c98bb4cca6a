"""gossamer export: a folder with the graph, the tokenizer and a description; what cannot be done is one line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

import gossamer as gs


def test_export_writes_a_folder_that_runs_alone(gossamer: Callable[..., Any], small: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "export.json").write_text('{"files": ["model.onnx"]}')
    (tmp_path / "out" / "model.onnx").touch()
    done = gossamer("export", small, tmp_path / "out", "--format", "torch", "--json")
    assert done.code == 0
    assert "out: the export that was there was replaced" in done.error
    assert done.json["deviation"] < 1e-5
    assert set(done.json["files"]) == {"model.pt2", "tokenizer.json", "tokenizer_config.json", "export.json"}
    assert {one.name for one in (tmp_path / "out").iterdir()} == set(done.json["files"])
    encoded = Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json")).encode("A thread that floats.")
    given = (torch.tensor([one]) for one in (encoded.ids, encoded.attention_mask, encoded.type_ids))
    vector, _ = torch.export.load(tmp_path / "out" / "model.pt2").module()(*given)
    wanted = gs.task("embed", gs.load(small))("A thread that floats.").vectors
    torch.testing.assert_close(vector, wanted)
    shown = gossamer("export", small, tmp_path / "out", "--format", "torch").out
    assert "in:  input_ids [batch, length], attention_mask [batch, length]" in shown
    assert "differs from the model by" in shown


def test_what_cannot_be_exported_is_one_line(gossamer: Callable[..., Any], small: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    refused = gossamer("export", small, tmp_path / "mine")
    assert (refused.code, refused.error.split(": ", 2)[-1]) == (
        2, "holds 'thesis.txt', which is no part of an export; name a new folder",
    )  # fmt: skip
    for args, said in (
        ((small, tmp_path / "out", "--format", "tflite"), "tflite"),
        ((tmp_path / "none", tmp_path / "out"), "none"),
        ((small, tmp_path / "out", "--dtype", "bfloat16"), "the model is in bfloat16"),
    ):
        failed = gossamer("export", *args)
        assert failed.code == 2
        assert said in failed.error
    assert not (tmp_path / "out").exists()
