"""A config that makes its own student: the same as `gossamer.distill` makes, trained, resumed and refused alike."""

from pathlib import Path
from typing import Any

import pytest
import torch
from broken_runs import broken_off
from tiny_runs import assert_same_run, decoder_config, write_text
from tiny_teachers import decoder

import gossamer as gs
from gossamer.errors import InputError
from gossamer.text import byte_tokenizer
from gossamer.training.config import TrainingConfig

STUDENT = {"layers": [0, 2], "hidden_size": 8, "feedforward_size": 24, "narrow": "linear"}


def four_layers(folder: Path, seed: int = 5) -> Path:
    """A teacher, saved."""
    model = decoder(seed, layers=4)
    model.family = "gpt2"
    model.tokenizer = byte_tokenizer()
    return gs.save(model, folder / "teacher")


def config(folder: Path, name: str = "out", **changes: Any) -> dict[str, Any]:
    objective = {"kind": "distillation", "task": {"kind": "causal-lm"}, "teacher": str(folder / "teacher")}
    learns = {"model": {"student": STUDENT}, "objective": objective | {"cosine_weight": 0.0}}
    return decoder_config(folder, name, **{**learns, "steps": 4, "checkpoints": {"every": 1}, **changes})


def test_a_config_makes_the_student_that_distill_makes(tmp_path: Path) -> None:
    teacher = four_layers(tmp_path)
    text = write_text(tmp_path / "text.txt")
    trained, _ = gs.train(config(tmp_path))
    same = {
        "batch": {"rows": 6},
        "optimizer": {"learning_rate": 0.01},
        "schedule": {"warmup": 2},
        "steps": 4,
        "journal": {"live": False},
        "threads": 1,
    }
    student, _ = gs.distill(
        str(teacher), str(text), cosine_weight=0.0, settings=same | {"data.split": "lines"}, **STUDENT
    )
    assert trained.architecture == student.architecture
    assert (len(trained.architecture.layers), trained.architecture.hidden_size) == (2, 8)
    for name, weight in student.state_dict().items():
        torch.testing.assert_close(trained.state_dict()[name], weight, rtol=1e-4, atol=1e-5, msg=name)


def test_such_a_run_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    four_layers(tmp_path)
    gs.train(config(tmp_path, "whole"))
    broken_off(config(tmp_path, "broken"), 3, KeyboardInterrupt)
    gs.train(config(tmp_path, "broken"), resume="must")
    assert_same_run(tmp_path / "whole", tmp_path / "broken", step=4)


def test_it_does_not_go_on_with_the_student_of_another_teacher(tmp_path: Path) -> None:
    four_layers(tmp_path)
    broken_off(config(tmp_path), 3, KeyboardInterrupt)
    four_layers(tmp_path, seed=6)
    with pytest.raises(InputError, match=r"is not that of the run, which stands at step 2: put it back to go on"):
        gs.train(config(tmp_path))


def test_a_student_may_learn_without_its_teacher(tmp_path: Path) -> None:
    """It begins with some of the layers; the objective is any."""
    teacher = str(four_layers(tmp_path))
    model = {"student": {"teacher": teacher, "layers": [3]}}
    student, _ = gs.train(config(tmp_path, model=model, objective={"kind": "causal-lm"}))
    assert len(student.architecture.layers) == 1


def test_it_is_written_and_read_back_equal(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("a text")
    settings = TrainingConfig.read(config(tmp_path))
    assert TrainingConfig.read(settings.to_dict()) == settings


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"objective": {"kind": "causal-lm"}}, r"^model\.student\.teacher is None; it must be a checkpoint"),
        ({"model.student.layers": "every-third"}, r"^model\.student\.layers is 'every-third'; it must be "),
        ({"model.student.layers": [9]}, r"^model\.student\.layers has 9; the teacher's layers go from 0 to 3, in "),
        ({"model.student.shape": "bert"}, r"^model\.student\.shape is 'bert'; it must be one of 'teacher', 'distil"),
        ({"model.student.narrow": "pca"}, r"^model\.student\.narrow is 'pca'; it must be "),
        ({"model.student.hidden_size": None}, r"^model\.student\.narrow is 'linear', which maps hidden dimensions; "),
        ({"model.student.width": 3}, r"^model\.student\.width is no field; known are teacher, layers"),
        ({"model.checkpoint": "x"}, r"^model: holds checkpoint and student; give one of checkpoint, "),
        ({"model.new_head": True}, r"^model\.new_head is True; it must be false without a checkpoint$"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_a_line(tmp_path: Path, changes: dict[str, Any], line: str) -> None:
    four_layers(tmp_path)
    with pytest.raises(InputError, match=line):
        gs.train(TrainingConfig.read(config(tmp_path), changes))
