"""A trimmed model is an ordinary one: other recipes take it, and `trim` takes what they made."""

from pathlib import Path

import torch
from trim_models import texts, tiny

import gossamer as gs
from gossamer.models import Model

SAID = texts()[:12]
STILL = {"journal.live": False}
QUICK = STILL | {"steps": 2, "batch.rows": 4}


def same_weights(first: Model, second: Model) -> bool:
    tensors = second.state_dict()
    return first.architecture == second.architecture and all(
        torch.equal(tensor, tensors[name]) for name, tensor in first.state_dict().items()
    )


def reloaded(model: Model, folder: Path) -> Model:
    """The model that was saved there, which must be the same."""
    gs.save(model, folder)
    back = gs.load(folder)
    assert same_weights(model, back)
    assert back.tokenizer.tokens(range(2000)) == model.tokenizer.tokens(range(2000))
    batch = model.tokenizer(list(SAID[:2]), max_length=20)
    with torch.no_grad():
        states = [one.eval()(**batch).last_hidden_state for one in (model, back)]
    torch.testing.assert_close(*states, rtol=0, atol=1e-6)
    return back


def test_lengthened_and_trimmed_in_any_order(tmp_path: Path) -> None:
    model = tiny("roberta", "masked-lm")
    model.tokenizer = model.tokenizer.with_max_length(64)
    longer = reloaded(gs.lengthen(model, to=128, window=32)[0], tmp_path / "longer")
    shorter = reloaded(gs.trim(model, SAID)[0], tmp_path / "trimmed")
    one = reloaded(gs.trim(longer, SAID)[0], tmp_path / "one")
    other = reloaded(gs.lengthen(shorter, to=128, window=32)[0], tmp_path / "other")
    assert one.family == other.family == "longformer"
    assert one.tokenizer.max_length == 128
    assert same_weights(one, other)


def test_what_was_saved_is_trimmed_as_it_was(tmp_path: Path) -> None:
    model = tiny("albert", "masked-lm")
    back = reloaded(model, tmp_path / "model")
    assert same_weights(gs.trim(model, SAID)[0], gs.trim(back, SAID)[0])
    assert same_weights(gs.trim(model, SAID)[0], gs.trim(tmp_path / "model", SAID)[0])


def test_a_student_of_a_trimmed_teacher_and_a_trimmed_student(tmp_path: Path) -> None:
    teacher = tiny("bert", "masked-lm")
    few, _ = gs.trim(teacher, SAID)
    rows = [{"text": text} for text in SAID]
    student, _ = gs.distill(few, rows, layers=[0], output=tmp_path / "student", settings=QUICK)
    assert student.architecture.embeddings.vocabulary_size == few.architecture.embeddings.vocabulary_size
    assert len(student.architecture.layers) == 1
    reloaded(student, tmp_path / "saved")
    again, receipt = gs.trim(student, SAID[:4])
    assert receipt.measured["largest_difference_of_outputs"] <= 1e-6
    assert again.architecture.embeddings.vocabulary_size < few.architecture.embeddings.vocabulary_size
    reloaded(again, tmp_path / "again")


def test_a_trimmed_model_fine_tunes(tmp_path: Path) -> None:
    few, _ = gs.trim(tiny("bert"), SAID)
    rows = [{"text": text, "label": str(i % 2)} for i, text in enumerate(SAID)]
    tuned, _ = gs.finetune(few, rows, output=tmp_path / "tuned", epochs=1, batch=6, learning_rate=1e-2, settings=STILL)
    assert tuned.tokenizer.vocabulary_size == few.tokenizer.vocabulary_size
    assert not torch.equal(tuned.embeddings.word.weight, few.embeddings.word.weight)
    again, receipt = gs.trim(tuned, SAID[:4])
    assert receipt.measured["same_rows"] == 1
    reloaded(again, tmp_path / "again")
