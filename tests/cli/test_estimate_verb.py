"""gossamer estimate: a page and a JSON document of the same numbers, from the settings alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import gossamer as gs
from gossamer.training.estimate.estimate import estimate

Command = Callable[..., Any]

CONFIG = """
model:
  decoder: {layers: 2, hidden_size: 32, heads: 2, length: 128, pattern: window(16), dropout: 0.1}
data: speeches
batch: {rows: 8, accumulation: 2}
optimizer: {name: adafactor, learning_rate: 0.01}
steps: 10
precision: bfloat16
recompute: attention
output: run
device: cpu
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG)
    return path


def test_the_page_and_the_document_tell_the_same(gossamer: Command, config: Path) -> None:
    page = gossamer("estimate", config)
    assert (page.code, page.err) == (0, "")
    data = gossamer("estimate", config, "--json").json
    assert (data["rows"], data["length"], data["accumulation"], data["tokens"]) == (4, 128, 2, 1024)
    assert data["device"] == "cpu"
    assert f"{data['parameters']:,} parameters; 1,024 tokens a step: 4 x 128 x 2, on cpu" in page.out
    assert f"{data['peak_bytes'] / 1e6:,.1f} MB" in page.out
    for name in ("weights", "optimizer", "gradients", "kept: feed-forward", "maps", "attention", "loss", "update"):
        assert f"  {name} " in page.out
    assert not (config.parent / "run").exists()


def test_values_are_changed_as_train_changes_them(gossamer: Command, config: Path) -> None:
    before, after = (
        gossamer("estimate", config, *changes, "--json").json
        for changes in ((), ("--set", "batch.rows=16", "--set", "recompute=both"))
    )
    assert after["tokens"] == 2 * before["tokens"]
    refused = gossamer("estimate", config, "--set", "batch.rows=three")
    assert (refused.code, refused.out) == (2, "")
    assert "batch.rows is 'three'; it must be a whole number" in refused.err


def test_several_processes_share_the_rows(gossamer: Command, config: Path) -> None:
    data = gossamer("estimate", config, "--processes", 4, "--json").json
    assert (data["rows"], data["tokens"]) == (1, 256)
    done = gossamer("estimate", config, "--processes", 3)
    assert (done.code, done.error) == (
        2,
        "gossamer: batch.rows is 8; with 3 processes and accumulation 2 it must be a multiple of 6",
    )


def test_what_training_would_refuse_is_refused(gossamer: Command, config: Path) -> None:
    config.write_text(CONFIG.replace("window(16)", "windows(16)"))
    done = gossamer("estimate", config)
    assert done.code == 2
    assert "pattern is 'windows(16)'; it must be one of full" in done.error
    config.write_text(CONFIG.replace("rows: 8", "rows: 8, length: 256"))
    assert "batch.length is 256; the model reads 128 tokens: take at most those" in gossamer("estimate", config).error
    assert "no such file" in gossamer("estimate", config.with_name("other.yaml")).error


def test_texts_with_labels_are_taken_to_be_long(gossamer: Command, config: Path) -> None:
    config.with_name("rows.jsonl").write_text('{"text": "a", "label": "b"}')
    changes = {
        "model": "{checkpoint: sample:minilm, new_head: true}", "data.train": "rows.jsonl",
        "objective": "{kind: classification, labels: [ham, spam]}", "batch": "{tokens: 64, length: 32}",
    }  # fmt: skip
    settings = [part for name, value in changes.items() for part in ("--set", f"{name}={value}")]
    page = gossamer("estimate", config, *settings)
    assert page.code == 0, page.error
    assert "parameters; 64 tokens a step: 2 x 32, on cpu" in page.out
    assert "all rows taken to be of 32 tokens (batch.length); shorter texts take less" in page.out
    data = gossamer("estimate", config, *settings, "--json").json
    assert data["is_upper_bound"] is True
    assert "loss" not in data["parts"]["seconds"]
    refused = gossamer("estimate", config, *settings, "--set", "objective=classification")
    assert (refused.code, "name all labels" in refused.error) == (2, True)


def test_a_checkpoint_is_reckoned_as_it_is(
    config: Path, chemistry_albert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gossamer.training.estimate.estimate.step_seconds", lambda *rest, **more: {"maps": 1.0})
    given = {
        "model": str(chemistry_albert),
        "data": {"train": "speeches", "tokenizer": "bytes"},
        "objective": "masked-lm",
        "batch": {"rows": 2},
        "steps": 1,
        "output": "run",
    }
    found = estimate(given)
    parameters = sum(one.numel() for one in gs.load(chemistry_albert).parameters())
    assert (found.rows, found.length, found.parameters) == (2, 512, parameters)
    frozen = estimate({**given, "train_only": ["embeddings.position"]})
    assert frozen.memory.optimizer == 2 * 4 * 512 * 128
    assert found.memory.optimizer == 2 * 4 * found.parameters
