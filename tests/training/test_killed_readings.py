"""Fine-tunings that are killed while held-out rows are read, or while a model is saved, end as one that never was."""

import json
import os
import subprocess
import sys
from pathlib import Path

import killed_readings
import pytest
from killed_readings import MOMENTS, MORE_MOMENTS
from killed_runs import DEATHS
from tiny_runs import assert_same_run

STEPS, BEST = 24, 12

Killed = tuple[Path, dict[str, int]]


def run_killed(folder: Path, *more: str) -> Killed:
    script = Path(__file__).parent / "killed_readings.py"
    path = os.pathsep.join([str(script.parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, str(script), str(folder), *more], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder, json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Killed:
    return run_killed(tmp_path_factory.mktemp("killed"))


@pytest.fixture(scope="module")
def killed_more(tmp_path_factory: pytest.TempPathFactory) -> Killed:
    return run_killed(tmp_path_factory.mktemp("killed_more"), "more")


def files(folder: Path) -> dict[str, bytes]:
    """All that a run has written, times and conditions aside."""
    varying = ("journal.jsonl", "receipt.json", "state.json", "seal.json", "README.md", "gossamer.json")
    found = (path for path in folder.rglob("*") if path.is_file() and path.name not in varying)
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def assert_never_killed(killed: Killed, name: str) -> None:
    folder, deaths = killed
    assert deaths[name] == DEATHS
    assert_same_run(folder / "unbroken", folder / name, STEPS)
    ours, theirs = files(folder / "unbroken"), files(folder / name)
    assert ours.keys() == theirs.keys()
    assert [path for path in ours if ours[path] != theirs[path]] == []
    for ending in ("safetensors", "json"):
        assert (folder / f"unbroken.{ending}").read_bytes() == (folder / f"{name}.{ending}").read_bytes()


@pytest.mark.parametrize("name", MOMENTS)
def test_a_tuning_killed_at_a_reading_ends_as_one_that_never_was(killed: Killed, name: str) -> None:
    assert_never_killed(killed, name)


@pytest.mark.parametrize("name", [*MOMENTS, *MORE_MOMENTS])
def test_every_moment_of_death_is_that_of_a_function(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a function that was renamed is seen at once, not by the slow tests alone."""
    found: list[bool] = []
    monkeypatch.setattr(
        killed_readings, "dying", lambda module, function, *_: found.append(callable(getattr(module, function)))
    )
    for attempt in range(2):
        (MOMENTS | MORE_MOMENTS)[name](attempt)
    assert found == [True, True]


@pytest.mark.slow
@pytest.mark.parametrize("name", MORE_MOMENTS)
def test_a_tuning_killed_anywhere_at_a_reading_ends_as_one_that_never_was(killed_more: Killed, name: str) -> None:
    assert_never_killed(killed_more, name)


def test_the_unbroken_tuning_had_a_best_epoch_and_ran_out_of_patience(killed: Killed) -> None:
    folder, _ = killed
    receipt = json.loads((folder / "unbroken.json").read_text())
    assert receipt["steps"] == STEPS
    assert receipt["best"]["step"] == BEST
    assert receipt["ended"] == "no higher accuracy on held-out text 2 times in a row"
    best = (folder / "unbroken" / "best" / "model.safetensors").read_bytes()
    assert best != (folder / "unbroken" / "last" / "model.safetensors").read_bytes()
