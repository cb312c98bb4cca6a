"""A run goes on only with the model that it began with, or with a student that is made as it was."""

from pathlib import Path
from typing import Any

import pytest
import torch
from broken_runs import broken_off
from tiny_labels import labels_config, save_encoder, texts

import gossamer as gs
from gossamer.errors import InputError
from gossamer.models import Model, SequenceClassification
from gossamer.surgery.students import make_student
from gossamer.training import material
from gossamer.training.stops import RunStopped

QUICK: dict[str, Any] = {"journal.live": False, "threads": 1, "steps": 4, "epochs": None}
OTHER_MODEL = r"^the model is not that of the run, which stands at step \d: put it back to go on, or begin anew"


def other(model: Model) -> Model:
    """The same architecture with other weights."""
    with torch.no_grad():
        next(model.parameters()).add_(0.1)
    return model


def classifier(folder: Path) -> Model:
    labels = ("book", "film", "song")
    torch.manual_seed(5)
    return gs.load(
        save_encoder(folder), head=SequenceClassification(labels=labels, problem_type="single_label_classification")
    )


@pytest.mark.parametrize("has_head", [False, True])
@pytest.mark.parametrize("in_memory", [False, True])
def test_another_model_of_the_same_form_is_refused(tmp_path: Path, has_head: bool, in_memory: bool) -> None:
    first = gs.load(save_encoder(tmp_path)) if not has_head else classifier(tmp_path)
    given: Any = first if in_memory else gs.save(first, tmp_path / "model")
    common: dict[str, Any] = {"train": texts(24), "batch": 8, "output": tmp_path / "out", "settings": QUICK}
    done, _ = gs.finetune(given, **common)
    again, _ = gs.finetune(given, **common)
    torch.testing.assert_close(again.state_dict(), done.state_dict(), rtol=0, atol=0)
    changed = other(first)
    with pytest.raises(InputError, match=OTHER_MODEL):
        gs.finetune(changed if in_memory else gs.save(changed, tmp_path / "model"), **common)


def test_a_head_that_is_drawn_is_told_by_the_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another machine may draw other bits."""
    common: dict[str, Any] = {"train": texts(24), "batch": 8, "output": tmp_path / "out", "settings": QUICK}
    encoder = save_encoder(tmp_path)
    gs.finetune(encoder, **common)
    from gossamer.recipes import new_head

    def drawn(*given: Any) -> Model:
        model = load_with_new_head(*given)
        with torch.no_grad():
            model.get_submodule("head.output").weight.add_(1e-7)
        return model

    load_with_new_head = new_head.load_with_new_head
    monkeypatch.setattr(new_head, "load_with_new_head", drawn)
    gs.finetune(encoder, **common, resume="must")


def test_a_config_s_checkpoint_may_move_but_not_change(tmp_path: Path) -> None:
    config = labels_config(tmp_path, steps=4)
    checkpoint = Path(config["model"]["checkpoint"])
    broken_off(config, 3, RunStopped)
    moved = checkpoint.rename(tmp_path / "elsewhere")
    config["model"]["checkpoint"] = str(moved)
    first = gs.load(moved)
    gs.save(other(gs.load(moved)), moved)
    with pytest.raises(InputError, match=OTHER_MODEL):
        gs.train(config)
    gs.save(first, moved)
    gs.train(config, resume="must")


def test_a_run_of_an_older_version_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its checkpoints do not say what it began with."""
    config = labels_config(tmp_path, steps=4)
    with monkeypatch.context() as older:
        older.setattr(material, "origin_of", lambda model, **_: {})
        broken_off(config, 3, RunStopped)
    assert gs.train(config, resume="must")[1].steps == 4


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ({"layers": [0]}, {"layers": [1]}),
        ({"layers": [0, 1]}, {"layers": [1, 0]}),
        ({"layers": [0], "hidden_size": 8}, {"layers": [0], "hidden_size": 8, "narrow": "linear"}),
        ({"layers": [0], "feedforward_size": [1, 2]}, {"layers": [0], "feedforward_size": [1, 3]}),
    ],
)
def test_a_student_that_is_made_otherwise_is_refused(tmp_path: Path, first: Any, then: Any) -> None:
    teacher = classifier(tmp_path)
    common: dict[str, Any] = {"train": texts(24), "output": tmp_path / "out", "settings": QUICK | {"batch.rows": 6}}
    gs.distill(teacher, **common, **first)
    gs.distill(teacher, **common, **first, resume="must")
    with pytest.raises(InputError, match=r"^the student is not that of the run, which stands at step 4: put it back"):
        gs.distill(teacher, **common, **then)


def test_a_student_that_was_given_goes_on_as_it_stands(tmp_path: Path) -> None:
    """In one program it has learnt already; one that is made is another."""
    teacher = classifier(tmp_path)
    common: dict[str, Any] = {"train": texts(24), "output": tmp_path / "out", "settings": QUICK | {"batch.rows": 6}}
    student = make_student(teacher, [0])
    broken_off(teacher, 3, RunStopped, learn=gs.distill, **common, student=student)
    gs.distill(teacher, **common, student=student, resume="must")
    with pytest.raises(InputError, match=r"^the student is not that of the run"):
        gs.distill(teacher, **common, layers=[0])
