"""Sequences split over two gloo processes, against one process: states, losses, gradients, runs, bytes, refusals."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock, patch

import pytest
import torch
from test_processes import free_port, start
from tiny_runs import assert_same_run, checkpoints, decoder_config, encoder_config, journal, tensors

import gossamer as gs
from gossamer.layers import SequenceSplit
from gossamer.models import Model, stack
from gossamer.models.decoders import decoder
from gossamer.training.config import TrainingConfig
from gossamer.training.material import gather

HERE = Path(__file__).parent


def test_split_sequences_give_what_whole_ones_give(tmp_path: Path) -> None:
    done = start(tmp_path, [str(HERE / "split_runs.py")])
    assert [each.returncode for each in done] == [0, 0], done[0].stderr[-3000:] + done[1].stderr[-3000:]
    for each in done:
        sent, errors = json.loads(each.stdout.splitlines()[-1])
        # Of each layer five states of two texts, to the right, and their gradients back: 12 numbers of 8 bytes.
        assert sent == 2 * 5 * 2 * 12 * 8
        assert len(errors) == 2 * 85
        assert max(errors.values()) < 1e-9, {name: one for name, one in errors.items() if one >= 1e-9}


def settings(folder: Path, name: str, **changes: Any) -> dict[str, Any]:
    """One document a row, in which sinks may be seen from far."""
    pattern = {"pattern": "union", "parts": [gs.Window(5, 0).to_dict(), gs.Sink(2).to_dict()]}
    decoder = {"layers": 2, "hidden_size": 16, "heads": 2, "length": 32, "pattern": pattern, "reversible": "mean"}
    data = {"train": str(folder / "text.txt"), "split": "lines", "pack": False}
    # A key's bias has no gradient but rounding, which Adam would make large without an eps.
    usual = {"model": {"decoder": decoder}, "data": data, "optimizer": {"learning_rate": 0.01, "eps": 1e-3}}
    usual["evaluation"] = {"every": 3, "held_out": 0.2}
    return decoder_config(folder, name, **(usual | changes))


def launched(folder: Path, config: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """`gossamer train` under torchrun, by two processes."""
    path = folder / f"{Path(config['output']).name}.json"
    path.write_text(json.dumps(config))
    return subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", free_port(),
         "-m", "gossamer", "train", str(path), "--json"],
        capture_output=True, text=True, check=False, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def killed(folder: Path, config: dict[str, Any]) -> None:
    """The same, both killed as soon as there is a checkpoint."""
    (folder / "killed.json").write_text(json.dumps(config))
    common = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    both = []
    for rank in ("0", "1"):
        environment = {**os.environ, **common, "RANK": rank, "LOCAL_RANK": rank, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "gossamer", "train", str(folder / "killed.json")]
        both.append(subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
    first = Path(config["output"]) / "checkpoints" / "step-3"
    while not first.exists() and all(one.poll() is None for one in both):
        time.sleep(0.002)
    for one in both:
        one.kill()
        one.wait()


def test_a_model_trains_under_torchrun_and_is_resumed_exactly(tmp_path: Path) -> None:
    gs.train(settings(tmp_path, "one"))
    done = launched(tmp_path, settings(tmp_path, "two", parallel="sequence"))
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout)["receipt"]["conditions"]["processes"] == "2 processes, split sequences"
    ours, theirs = (tensors(tmp_path / name, 6) for name in ("two", "one"))
    for name, one in theirs.items():
        said = lambda text, name=name: f"{name}: {text}"  # noqa: E731
        torch.testing.assert_close(ours[name], one, rtol=0, atol=1e-6, msg=said)
    for mine, other in zip(journal(tmp_path / "two"), journal(tmp_path / "one"), strict=True):
        assert mine["loss"] == pytest.approx(other["loss"], rel=1e-5)
    assert checkpoints(tmp_path / "two") == ["step-3", "step-6"]
    killed(tmp_path, settings(tmp_path, "again", parallel="sequence"))
    assert not (tmp_path / "again" / "receipt.json").exists()
    ended = launched(tmp_path, settings(tmp_path, "again", parallel="sequence"))
    assert ended.returncode == 0, ended.stderr[-3000:]
    shutil.rmtree(tmp_path / "two" / "checkpoints" / "step-3")
    assert_same_run(tmp_path / "two", tmp_path / "again", 6)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"objective": "masked-lm", "model": None},
            "parallel is 'sequence', which takes the objective causal-lm, not masked-lm",
        ),
        (
            {"model": {"decoder": {"layers": 1, "hidden_size": 8, "heads": 2, "length": 32, "pattern": "full"}}},
            "the pattern 'causal full' sees without bounds, and a sequence that is split over processes",
        ),
        (
            {"model": {"decoder": {"layers": 1, "hidden_size": 8, "heads": 2, "length": 32, "pattern": "window(20)"}}},
            "32 tokens are split over 4 processes, 8 each, and 'window 20+0' reaches 16 of others'",
        ),
    ],
)
def test_what_cannot_be_split_is_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    if changes.get("model", changes) is None:
        changes = changes | {"model": encoder_config(tmp_path)["model"]}
    config = TrainingConfig.read(settings(tmp_path, "out", parallel="sequence", **changes))
    processes: Any = SimpleNamespace(count=4, rank=1, sharded=False, splits=True, reader=(0, 1))
    with pytest.raises(gs.InputError) as problem:
        gather(config, None, processes)
    assert said in str(problem.value)


def test_a_share_is_attended_to_in_slices() -> None:
    """Behind the sinks and what the first of them reaches back to; the last one is shorter."""
    pattern = gs.Window(2, 0) | gs.Sink(1)
    cut = SequenceSplit(rank=1, count=2).cut(pattern, 20, packed=False, size=4)
    assert [(one.start, one.stop, one.low, one.high) for one in cut.slices] == [
        (3, 7, 0, 7), (7, 11, 5, 11), (11, 13, 9, 13)
    ]  # fmt: skip
    assert [None if one.places is None else one.places.tolist() for one in cut.slices] == [None, [[0]], [[0]]]
    assert not SequenceSplit(rank=1, count=2).cut(pattern, 20, packed=False, size=10).slices


def slices_kept(part: Any, x: torch.Tensor, cuts: Any, reads: Any) -> torch.Tensor:
    """The definition, of which autograd keeps everything."""
    return torch.cat([part(cut.read(x), cut) for cut in cuts], 1)


@pytest.mark.parametrize("form", [{}, {"reversible": "mean"}, {"recompute": "both"}], ids=str)
def test_slices_of_a_share_that_attend_again_drop_the_same(form: dict[str, Any]) -> None:
    """One process, of which the whole sequence is the share."""
    ids = torch.arange(40)[None] % 30

    def gradients() -> torch.Tensor:
        torch.manual_seed(4)
        model = Model(
            decoder(
                vocabulary_size=30, length=40, layers=2, hidden_size=12, heads=2, patterns=gs.Window(5, 0),
                dropout=0.2, slice_length=9, **form,
            )
        ).double().train()  # fmt: skip
        model.split = SequenceSplit(rank=0, count=1)
        model(ids, labels=ids).loss.backward()
        return torch.cat([one.grad.flatten() for one in model.parameters() if one.grad is not None])

    again = gradients()
    with patch.object(stack, "in_slices", Mock(wraps=slices_kept)) as kept:
        torch.testing.assert_close(again, gradients(), rtol=1e-12, atol=1e-15)
    assert kept.called


def test_parts_of_a_sequence() -> None:
    parts = [SequenceSplit(rank=rank, count=3).share(10) for rank in range(3)]
    assert parts == [slice(0, 4), slice(4, 8), slice(8, 10)]
    with pytest.raises(gs.InputError, match="reaches 5 of others': take fewer processes or longer texts"):
        SequenceSplit(rank=0, count=3).cut(gs.Window(5, 0), 10, packed=False)
    with pytest.raises(gs.InputError, match="give one document a row, or a window alone"):
        SequenceSplit(rank=0, count=2).cut(gs.Sink(2) | gs.Window(2, 0), 10, packed=True)
