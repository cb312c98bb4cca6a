"""Exact resume: whenever a run is killed or stopped, it ends with the bits of one that never was."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
import yaml
from killed_runs import DEATHS, MOMENTS, STEPS
from safetensors.torch import load_file
from tiny_runs import assert_same_run, checkpoints, decoder_config, journal, llama_config, write_text

import gossamer as gs
from gossamer.text import TokenFile, byte_tokenizer
from gossamer.training import run as run_module
from gossamer.training.config import TrainingConfig
from gossamer.training.data.token_batches import Batches
from gossamer.training.loop import train
from gossamer.training.resume.state import newest_checkpoint
from gossamer.training.stops import RunStopped, StopRequest


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, int]]:
    """Runs killed at every moment there is a name for, and at random ones."""
    folder = tmp_path_factory.mktemp("killed")
    write_text(folder / "text.txt", 40)
    script = Path(__file__).parent / "killed_runs.py"
    path = os.pathsep.join([str(script.parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, str(script), str(folder)], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder, json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", [*MOMENTS, "random 0", "random 1"])
def test_a_killed_run_ends_with_the_bits_of_an_unbroken_one(killed: tuple[Path, dict[str, int]], name: str) -> None:
    folder, deaths = killed
    assert deaths[name] >= (1 if name.startswith("random") else DEATHS)
    assert_same_run(folder / "unbroken", folder / name, STEPS)
    assert checkpoints(folder / name) == ["step-16", "step-18"]
    assert json.loads((folder / name / "receipt.json").read_text())["steps"] == STEPS


def test_the_unbroken_run_learns_over_two_epochs(killed: tuple[Path, dict[str, int]]) -> None:
    folder, _ = killed
    tokenizer = byte_tokenizer()
    file = TokenFile.open(folder / "unbroken" / "train.tokens")
    batches = Batches(file=file, tokenizer=tokenizer, length=32, batch=6, held_out=0.1)
    assert 2 * batches.steps_per_epoch < STEPS
    lines = [one for one in journal(folder / "unbroken") if one["split"] == "train"]
    assert len(lines) == STEPS
    assert lines[-1]["loss"] < lines[0]["loss"] - 0.8
    assert (folder / "unbroken" / "best" / "model.safetensors").is_file()


def test_nothing_is_left_of_what_was_killed(killed: tuple[Path, dict[str, int]]) -> None:
    """Half a checkpoint has no name that a checkpoint could have, and the next write removes it."""
    folder, deaths = killed
    for name in deaths:
        found = [path.name for path in (folder / name / "checkpoints").iterdir()]
        assert sorted(found) == ["step-16", "step-18"]


def signalled(
    folder: Path, number: int, step: int, make: Callable[[Path, str], dict[str, Any]] = decoder_config
) -> None:
    """A run in `folder/stopped` that gets a signal in the middle of a step."""
    with pytest.MonkeyPatch.context() as patch:
        update = run_module.Run.update

        def receive(run: run_module.Run) -> None:
            if run.step + 1 == step:
                signal.raise_signal(number)
            update(run)

        patch.setattr(run_module.Run, "update", receive)
        train(make(folder, "stopped"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_the_step_end_and_saves(tmp_path: Path, number: int) -> None:
    gs.train(decoder_config(tmp_path, "unbroken"))
    handlers = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(
        RunStopped, match=r"stopped after step 2 of 6 and saved in .*stopped; run the same command"
    ) as stop:
        signalled(tmp_path, number, 2)
    assert stop.value.signal == number
    assert isinstance(stop.value, KeyboardInterrupt)
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert checkpoints(tmp_path / "stopped") == ["step-2"]
    saved = load_file(tmp_path / "stopped" / "checkpoints" / "step-2" / "model.safetensors")
    assert gs.load(tmp_path / "stopped" / "last").state_dict().keys() == saved.keys()
    gs.train(decoder_config(tmp_path, "stopped"), resume="must")
    shutil.rmtree(tmp_path / "unbroken" / "checkpoints" / "step-3")
    shutil.rmtree(tmp_path / "stopped" / "checkpoints" / "step-3")
    assert_same_run(tmp_path / "unbroken", tmp_path / "stopped", 6)


def test_a_llama_in_yaml_is_trained_and_resumed_exactly(tmp_path: Path) -> None:
    """With dropout; the family's own format holds the model, so that it can be saved for `transformers` to read."""
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(llama_config(tmp_path, "unbroken")))
    model, receipt = gs.train(config)
    assert receipt.steps == 6
    lines = [one for one in journal(tmp_path / "unbroken") if one["split"] == "train"]
    assert lines[-1]["loss"] < lines[0]["loss"]
    with pytest.raises(RunStopped):
        signalled(tmp_path, signal.SIGINT, 2, llama_config)
    gs.train(llama_config(tmp_path, "stopped"), resume="must")
    shutil.rmtree(tmp_path / "unbroken" / "checkpoints" / "step-3")
    shutil.rmtree(tmp_path / "stopped" / "checkpoints" / "step-3")
    assert_same_run(tmp_path / "unbroken", tmp_path / "stopped", 6)
    public = gs.load(gs.save(model, tmp_path / "public", family="llama"))
    assert (public.family, public.architecture) == ("llama", model.architecture)


def test_a_second_signal_does_not_wait() -> None:
    request = StopRequest()
    request.receive(signal.SIGINT, None)
    with pytest.raises(KeyboardInterrupt):
        request.receive(signal.SIGINT, None)


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """A folder with a run that was stopped after three of six steps."""
    with pytest.raises(RunStopped):
        signalled(tmp_path, signal.SIGINT, 3)
    return tmp_path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 1}, r"settings are not those of the run, which stands at step 3: seed was 0, is 1; put it back"),
        ({"optimizer": {"learning_rate": 0.02}}, r"optimizer\.learning_rate was 0\.01, is 0\.02"),
        ({"steps": 12, "clipping": 2.0}, r"clipping was 1\.0, is 2\.0; steps was 6, is 12"),
        ({"batch": {"rows": 3}}, r"batch\.rows was 6, is 3"),
        ({"precision": "bfloat16"}, r"precision was 'float32', is 'bfloat16'"),
    ],
)
def test_other_settings_are_refused(begun: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(gs.InputError, match=message):
        gs.train(decoder_config(begun, "stopped", **changes))
    assert checkpoints(begun / "stopped") == ["step-3"]


LATER = ["average", "evaluation.patience", "optimizer.layer_decay", "objective.kind", "clipping", "evaluation"]


@pytest.mark.parametrize("name", LATER)
def test_a_run_of_a_version_without_a_setting_goes_on_by_its_default(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = TrainingConfig.to_dict

    def then(config: TrainingConfig) -> dict[str, Any]:
        settings = now(config)
        *places, last = name.split(".")
        del reduce(dict.__getitem__, places, settings)[last]
        return settings

    with monkeypatch.context() as older:
        older.setattr(TrainingConfig, "to_dict", then)
        with pytest.raises(RunStopped):
            signalled(tmp_path, signal.SIGINT, 3)
    if name == "clipping":
        with pytest.raises(gs.InputError, match=r"clipping was 1\.0, is 2\.0"):
            gs.train(decoder_config(tmp_path, "stopped", clipping=2.0), resume="must")
    assert gs.train(decoder_config(tmp_path, "stopped"), resume="must")[1].steps == 6


def test_another_model_is_refused(begun: Path) -> None:
    config = decoder_config(begun, "stopped")
    config["model"]["decoder"]["layers"] = 1
    with pytest.raises(gs.InputError, match=r"the model is not that of the run, which stands at step 3: layers"):
        gs.train(config)


def test_changed_data_are_refused(begun: Path) -> None:
    text = (begun / "text.txt").read_text()
    (begun / "text.txt").write_text(text.replace("spider", "snider", 1))
    with pytest.raises(
        gs.InputError,
        match=r"the data are not those of the run in .*stopped: put them back .*train\.tokens",
    ):
        gs.train(decoder_config(begun, "stopped"))
    (begun / "text.txt").write_text(text)
    assert gs.train(decoder_config(begun, "stopped"))[1].steps == 6


def test_harmless_settings_may_change_and_rounding_is_told(begun: Path) -> None:
    shutil.move(begun / "stopped", begun / "moved")
    told: list[str] = []
    changes = {"journal": {"live": False, "every": 2}, "checkpoints": {"every": 1, "keep": 5}, "sample": None}
    _, receipt = train(decoder_config(begun, "moved", threads=2, **changes), resume="must", remark=told.append)
    assert receipt.steps == 6
    assert told == ["threads was 1 up to step 3, is 2: sums may round differently from here"]
    assert receipt.notes == tuple(told)
    assert [one["step"] for one in journal(begun / "moved")] == [1, 2, 3, 4, 6]


def test_never_and_must(begun: Path) -> None:
    with pytest.raises(gs.InputError, match=r"step-3: a run is there already"):
        gs.train(decoder_config(begun, "stopped"), resume="never")
    with pytest.raises(gs.InputError, match="holds no whole checkpoint to go on from"):
        gs.train(decoder_config(begun, "other"), resume="must")
    with pytest.raises(gs.InputError, match="resume is 'perhaps'; it must be one of 'auto', 'never', 'must'"):
        gs.train(decoder_config(begun, "other"), resume="perhaps")  # type: ignore[arg-type]


@pytest.mark.parametrize("damage", ["weights", "state", "seal", "missing"])
def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, damage: str) -> None:
    gs.train(decoder_config(tmp_path, "unbroken"))
    shutil.copytree(tmp_path / "unbroken", tmp_path / "damaged")
    newest = tmp_path / "damaged" / "checkpoints" / "step-6"
    if damage == "weights":
        content = bytearray((newest / "model.safetensors").read_bytes())
        content[-1] ^= 1
        (newest / "model.safetensors").write_bytes(content)
    elif damage == "state":
        (newest / "state.json").write_text((newest / "state.json").read_text().replace('"worse": 0', '"worse": 1'))
    elif damage == "seal":
        (newest / "seal.json").write_text("{}")
    else:
        (newest / "optimizer.safetensors").unlink()
    told: list[str] = []
    assert newest_checkpoint(newest.parent) == newest.parent / "step-3"
    train(decoder_config(tmp_path, "damaged"), remark=told.append)
    assert len(told) == 1
    assert "step-6 (step 6) is damaged and passed over" in told[0]
    assert_same_run(tmp_path / "unbroken", tmp_path / "damaged", 6)


def test_a_run_that_is_done_gives_its_model_again(tmp_path: Path) -> None:
    first, receipt = gs.train(decoder_config(tmp_path))
    before = (tmp_path / "out" / "journal.jsonl").read_bytes()
    again, second = gs.train(decoder_config(tmp_path))
    assert (second.steps, second.loss, second.ended) == (receipt.steps, receipt.loss, receipt.ended)
    assert (tmp_path / "out" / "journal.jsonl").read_bytes() == before
    for name, one in first.state_dict().items():
        assert (again.state_dict()[name] == one).all()
