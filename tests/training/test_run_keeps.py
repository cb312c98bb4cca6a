"""What a run must not lose, whatever goes wrong around it: checkpoints, the data it read, its tokenizer, its model."""

import json
import math
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import assert_same_run, checkpoints, decoder_config, write_text

import gossamer as gs
from gossamer.errors import GossamerError, InputError, quote
from gossamer.models import Model
from gossamer.text import TokenFile, Tokenizer
from gossamer.training import run as run_module
from gossamer.training.config import TrainingConfig
from gossamer.training.resume.same_run import check_same_run
from gossamer.training.resume.state import RunState, newest_checkpoint, save_checkpoint, sweep
from gossamer.training.stops import StopRequest


def state_at(step: int) -> RunState:
    return RunState(step=step, config={}, architecture={}, data="")


def stop_after(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every run ends in an error once so many steps are done."""
    update = run_module.Run.update

    def failing(run: run_module.Run) -> None:
        if run.step == step:
            raise GossamerError("the machine is gone")
        update(run)

    monkeypatch.setattr(run_module.Run, "update", failing)


@pytest.mark.parametrize("keep", [1, 2])
def test_a_run_begun_anew_keeps_what_it_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: int) -> None:
    """The only whole checkpoints are those of steps before the damaged one."""
    settings = {"steps": 12, "checkpoints": {"every": 4, "keep": keep}}
    gs.train(decoder_config(tmp_path, **settings))
    for path in (tmp_path / "out" / "checkpoints").iterdir():
        (path / "state.json").write_text("{}")
    with monkeypatch.context() as patch:
        stop_after(9, patch)
        with pytest.raises(GossamerError, match="the machine is gone"):
            gs.train(decoder_config(tmp_path, **settings))
    assert checkpoints(tmp_path / "out") == (["step-8"] if keep == 1 else ["step-4", "step-8"])
    gs.train(decoder_config(tmp_path, **settings), resume="must")
    gs.train(decoder_config(tmp_path, "unbroken", **settings))
    assert_same_run(tmp_path / "out", tmp_path / "unbroken", 12)


def test_half_checkpoints_of_any_step_are_removed(tmp_path: Path) -> None:
    """SIGTERM saves at any step; what a kill leaves of that has a name that no later save has."""
    save_checkpoint(tmp_path, state_at(3), {"w": torch.ones(2)}, {}, 2)
    left = [f".step-37.0123abcd.{os.getpid()}.89abcdef.new", ".step-5.0123abcd.1.89abcdef.old", ".step-1.gone"]
    for name in left:
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_text("half")
    (tmp_path / ".notes").mkdir()
    save_checkpoint(tmp_path, state_at(6), {"w": torch.ones(2)}, {}, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".notes", "step-3", "step-6"]


def whole(folder: Path, step: int, **seal: Any) -> Path:
    """A checkpoint that is whole, its seal's fields changed."""
    path = save_checkpoint(folder, state_at(step), {"w": torch.ones(2)}, {}, 9)
    fields = json.loads((path / "seal.json").read_text())
    (path / "seal.json").write_text(json.dumps({**fields, **seal}))
    return path


def test_what_a_kill_left_of_the_last_removal_goes_when_the_run_is_started_again(tmp_path: Path) -> None:
    config = decoder_config(tmp_path, checkpoints={"every": 2, "keep": 1})
    gs.train(config)
    folder = tmp_path / "out" / "checkpoints"
    shutil.copytree(folder / "step-6", folder / ".step-2.gone")  # killed between its new name and its removal
    shutil.copytree(folder / "step-6", folder / "step-4")  # killed before that
    assert gs.train(config)[1].steps == 6
    assert sorted(path.name for path in folder.iterdir()) == ["step-6"]


def test_damaged_checkpoints_are_no_spare_and_other_versions_stay(tmp_path: Path) -> None:
    foreign, *_ = (whole(tmp_path, step, format=2 if step == 5 else 1) for step in (5, 8, 9, 10))
    (tmp_path / "step-9" / "state.json").write_text("{}")
    sweep(tmp_path, 10, keep=2, check=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-10", foreign.name, "step-8"]


def test_a_run_that_is_refused_removes_nothing(tmp_path: Path) -> None:
    gs.train(decoder_config(tmp_path, checkpoints={"every": 2, "keep": 3}))
    with pytest.raises(InputError, match=r"seed was 0, is 1"):
        gs.train(decoder_config(tmp_path, checkpoints={"every": 2, "keep": 1}, seed=1))
    assert checkpoints(tmp_path / "out") == ["step-2", "step-4", "step-6"]


@pytest.mark.parametrize("number", ["1", None, True, 0, -1, 1.0, [1], {}])
def test_a_damaged_format_number_is_damage(tmp_path: Path, number: Any) -> None:
    older = whole(tmp_path, 3)
    whole(tmp_path, 6, format=number)
    told: list[str] = []
    assert newest_checkpoint(tmp_path, told.append) == older
    assert "step-6 (step 6) is damaged and passed over: the format in seal.json is " in told[0]
    assert quote(number) in told[0]


def test_another_versions_checkpoint_is_passed_over_and_stays(tmp_path: Path) -> None:
    """Where there is nothing else, it is refused: to begin anew would lose it in silence."""
    foreign = whole(tmp_path, 6, format=2)
    with pytest.raises(InputError, match=r"step-6: was written by another version of Gossamer; go on with that one"):
        newest_checkpoint(tmp_path)
    older = whole(tmp_path, 3)
    told: list[str] = []
    assert newest_checkpoint(tmp_path, told.append) == older
    assert told == [f"{foreign} (step 6) was written by another version of Gossamer, and is passed over"]
    save_checkpoint(tmp_path, state_at(4), {"w": torch.ones(2)}, {}, 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-4", "step-6"]


@pytest.mark.parametrize("name", ["journal.jsonl", "loss.svg", "receipt.json", "train.tokens", ".lock"])
def test_a_folder_where_a_file_is_to_be_written_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "out" / name).mkdir(parents=True)
    with pytest.raises(InputError, match=f"where '{name}' is no file, as a run needs; name another"):
        gs.train(decoder_config(tmp_path))


@pytest.mark.parametrize("name", ["checkpoints", "tensorboard"])
def test_a_file_where_a_folder_is_to_be_made_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("")
    with pytest.raises(InputError, match=f"where '{name}' is no folder, as a run needs; name another"):
        gs.train(decoder_config(tmp_path))


def test_a_pipe_where_a_file_is_to_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    os.mkfifo(tmp_path / "out" / "journal.jsonl")
    with pytest.raises(InputError, match=r"where 'journal\.jsonl' is no file"):
        gs.train(decoder_config(tmp_path))


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json", "seal.json"])
def test_what_never_ends_is_damage_of_a_checkpoint(tmp_path: Path, name: str) -> None:
    older, newest = whole(tmp_path, 3), whole(tmp_path, 6)
    (newest / name).unlink()
    os.mkfifo(newest / name)
    assert newest_checkpoint(tmp_path) == older
    (newest / name).unlink()
    (newest / name).symlink_to("/dev/zero")
    assert newest_checkpoint(tmp_path) == older


def test_refused_data_leave_what_the_run_read(tmp_path: Path) -> None:
    config = decoder_config(tmp_path)
    gs.train(config)
    tokens = tmp_path / "out" / "train.tokens"
    before = tokens.read_bytes()
    write_text(tmp_path / "text.txt", 121)
    with pytest.raises(InputError, match=r"the data are not those of the run in .*out: put them back.*train\.tokens"):
        gs.train(config)
    assert tokens.read_bytes() == before
    assert list(tokens.parent.glob(".train*")) == []
    model, _ = gs.train({**config, "data": str(tokens)})  # what the message advises
    assert torch.equal(model.embeddings.word.weight, gs.load(tmp_path / "out" / "last").embeddings.word.weight)


def test_names_of_texts_and_tokenizers_may_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = decoder_config(tmp_path)
    gs.train(config)
    (tmp_path / "text.txt").rename(tmp_path / "elsewhere.txt")
    monkeypatch.chdir(tmp_path)
    data = {"train": "elsewhere.txt", "split": "lines", "tokenizer": "bytes"}
    _, receipt = gs.train({**config, "data": data}, resume="must")
    assert receipt.steps == 6


def test_a_format_is_named_where_the_ending_says_another(tmp_path: Path) -> None:
    """A run goes on where only the way to the same tokens is another."""
    config = decoder_config(tmp_path)
    gs.train(config)
    lines = (tmp_path / "text.txt").read_text().splitlines()
    rows = tmp_path / "rows.log"
    rows.write_text("".join(json.dumps({"text": line}) + "\n" for line in lines))
    with pytest.raises(InputError, match=r"rows\.log: "):
        gs.train({**config, "data": {"train": str(rows), "tokenizer": "bytes"}})
    _, receipt = gs.train({**config, "data": {"train": str(rows), "format": "jsonl", "tokenizer": "bytes"}})
    assert receipt.steps == 6
    with pytest.raises(InputError, match=r"data\.format is 'pdf'; it must be one of 'txt', 'jsonl', 'json', 'csv'"):
        gs.train({**config, "data": {"train": str(rows), "format": "pdf"}})


def test_home_is_written_out_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write_text(tmp_path / "text.txt")
    data, held_out = {"train": "~/text.txt", "split": "lines"}, {"data": "~/text.txt"}
    config = TrainingConfig.read(decoder_config(tmp_path, data=data, evaluation=held_out, output="~/runs/one"))
    assert config.output == str(tmp_path / "runs" / "one")
    assert config.data.inputs == config.evaluation.inputs == (str(tmp_path / "text.txt"),)
    assert TrainingConfig.read(config.to_dict()) == config


def fresh(folder: Path) -> Model:
    torch.manual_seed(0)
    return Model(TrainingConfig.read(decoder_config(folder)).model.describe(300))


def test_a_model_without_a_tokenizer_gets_that_of_its_data(tmp_path: Path) -> None:
    data = {**decoder_config(tmp_path)["data"], "tokenizer": "bytes"}
    gs.train(decoder_config(tmp_path, data=data, sample={"prompt": "far ", "tokens": 3}), model=fresh(tmp_path))
    saved = gs.load(tmp_path / "out" / "last")
    assert saved.tokenizer.decode([104, 105]) == "hi"
    assert (tmp_path / "out" / "sample.txt").read_text().startswith("far ")


def test_another_tokenizer_than_the_models_is_refused(tmp_path: Path, minilm: Path) -> None:
    model = fresh(tmp_path)
    model.tokenizer = Tokenizer.load(minilm)
    data = {**decoder_config(tmp_path)["data"], "tokenizer": "bytes"}
    with pytest.raises(InputError, match=r"data\.tokenizer is not the model's own: leave it out"):
        gs.train(decoder_config(tmp_path, data=data), model=model)


@pytest.mark.parametrize(("place", "message"), [("last/notes", "'last' is something"), ("best", "'best' is something")])
def test_what_is_in_the_way_is_found_before_the_training(tmp_path: Path, place: str, message: str) -> None:
    path = tmp_path / "out" / place
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    with pytest.raises(InputError, match=message):
        gs.train(decoder_config(tmp_path))
    assert path.read_text() == "mine"
    assert not (tmp_path / "out" / "train.tokens").exists()


def test_the_model_is_saved_before_it_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gossamer import generation

    def fails(*_: Any, **__: Any) -> None:
        raise GossamerError("no words")

    monkeypatch.setattr(generation, "generate", fails)
    with pytest.raises(GossamerError, match="no words"):
        gs.train(decoder_config(tmp_path, sample={"prompt": "far "}))
    assert json.loads((tmp_path / "out" / "receipt.json").read_text())["steps"] == 6
    assert gs.load(tmp_path / "out" / "last").architecture.length == 32


def test_a_loss_that_is_no_number_keeps_batch_and_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    update = run_module.Stepper.update

    def infinite(stepper: Any, step: int, batch: Any, rate: float) -> Any:
        return (
            update(stepper, step, batch, rate)
            if step < 2
            else run_module.Update(loss=math.nan, norm=math.nan, labels=1)
        )

    with monkeypatch.context() as patch:
        patch.setattr(run_module.Stepper, "update", infinite)
        with pytest.raises(GossamerError, match=r"step 3: its loss is not finite; .*begin anew from it \(model\.check"):
            gs.train(decoder_config(tmp_path))
    found = json.loads((tmp_path / "out" / "nonfinite.json").read_text())
    assert len(found["input_ids"]) == 6
    assert all(len(row) == 32 for row in found["input_ids"])
    config = decoder_config(tmp_path, "again", model=str(tmp_path / "out" / "last"), optimizer={"learning_rate": 1e-4})
    assert gs.train(config)[1].steps == 6


def test_supervisors_may_send_sigterm_again() -> None:
    request = StopRequest()
    for _ in range(3):
        request.receive(signal.SIGTERM, None)
    assert request.signal == signal.SIGTERM
    with pytest.raises(KeyboardInterrupt):
        request.receive(signal.SIGINT, None)


def test_other_versions_that_draw_are_told(tmp_path: Path) -> None:
    architecture = fresh(tmp_path).architecture.to_dict()
    one, other = (
        RunState(step=1, config={}, architecture=architecture, data="", conditions={"numpy": number})
        for number in ("1", "2")
    )
    told: list[str] = []
    check_same_run(one, other, told.append)
    assert len(told) == 1
    assert told[0].startswith("numpy was '1' up to step 1, is '2': batches may hold other documents")


def test_time_that_is_up_between_two_readings_is_not_held_against_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = run_module.evaluate

    def worse(*given: Any) -> Any:
        from dataclasses import replace

        return replace(found(*given), loss=99.0)

    settings = {"steps": 9, "evaluation": {"held_out": 0.1, "every": 2, "patience": 1}, "checkpoints": {"every": 9}}
    with monkeypatch.context() as patch:
        patch.setattr(run_module.Run, "_time_is_up", lambda run: run.step >= 3)
        readings = iter([found, worse])
        patch.setattr(run_module, "evaluate", lambda *given: next(readings)(*given))
        _, receipt = gs.train(decoder_config(tmp_path, **settings))
    assert (receipt.steps, receipt.ended) == (3, "out of time")
    _, receipt = gs.train(decoder_config(tmp_path, **settings))
    assert receipt.steps > 3


@pytest.mark.parametrize("counts", [True, False])
def test_control_tokens_in_the_texts_are_letters_when_asked(tmp_path: Path, minilm: Path, counts: bool) -> None:
    (tmp_path / "text.txt").write_text("the mark [SEP] ends a text\n" * 30)
    data = {"train": str(tmp_path / "text.txt"), "split": "lines", "tokenizer": str(minilm), "control_tokens": counts}
    gs.train(decoder_config(tmp_path, data=data, steps=3))
    file = TokenFile.open(tmp_path / "out" / "train.tokens")
    assert (Tokenizer.load(minilm).sep_id in file.document(0)) == counts
    data = {"train": str(tmp_path / "out" / "train.tokens"), "control_tokens": False}
    with pytest.raises(gs.InputError, match="the texts of a token file are tokens already"):
        TrainingConfig.read(decoder_config(tmp_path, data=data))
