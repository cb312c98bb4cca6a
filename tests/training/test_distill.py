"""`gossamer.distill`: students that learn from their teachers, on tasks and on plain text."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from broken_runs import broken_off
from pyarrow import parquet
from tiny_labels import texts
from tiny_runs import assert_same_run, encoder_config, write_text
from tiny_teachers import classifier

import gossamer as gs
from gossamer.errors import InputError
from gossamer.models import Architecture, DenseLayer, Model, SentenceEmbedding, SequenceClassification
from gossamer.models.decoders import decoder
from gossamer.surgery.students import Widths, make_student
from gossamer.text import byte_tokenizer
from gossamer.training.objectives import Match, TeacherCache, TeacherVectorsObjective
from gossamer.training.objectives.teachers.teacher import Teacher, _unusual, digest_of_model, teacher_of

QUICK: dict[str, Any] = {"journal": {"live": False}, "threads": 1, "steps": 3, "batch.rows": 6}


def language_model(folder: Path, kind: str) -> Model:
    torch.manual_seed(5)
    if kind == "masked-lm":
        model = Model(Architecture.from_dict(encoder_config(folder)["model"]["architecture"]))
        model.tokenizer = byte_tokenizer(mask=True)
        return model
    sizes = {"layers": 4, "hidden_size": 16, "heads": 2, "length": 32, "vocabulary_size": 257}
    model = Model(decoder(**sizes, patterns=[gs.Full(causal=True)], dropout=0.0), family="gpt2")
    model.tokenizer = byte_tokenizer()
    return model


def test_a_student_learns_what_its_teacher_says(tmp_path: Path) -> None:
    """By its soft targets and states alone."""
    teacher = classifier(tmp_path)
    rows = texts(30)
    before = digest_of_model(teacher)
    student, receipt = gs.distill(
        teacher, rows, rows, layers=[0], task_weight=0.0,
        settings=QUICK | {"steps": 80, "optimizer.learning_rate": 0.01, "evaluation.every": 40},
    )  # fmt: skip
    assert len(student.architecture.layers) == 1
    assert not student.training
    assert teacher_of(student) is None
    assert digest_of_model(teacher) == before
    models = (teacher, student, make_student(teacher, [0]))
    read = teacher.tokenizer([row["text"] for row in rows])
    with torch.no_grad():
        wanted, said, fresh = (one.eval()(**read).logits.softmax(-1) for one in models)
    assert (wanted - said).abs().mean() < 0.3 * (wanted - fresh).abs().mean()
    assert receipt.recipe == "distill"
    assert receipt.settings["layers"] == [0]
    assert receipt.measured.keys() >= {"held_out_loss", "held_out_accuracy"}
    assert (receipt.before["layers"], receipt.after["layers"]) == (2, 1)
    assert "1 layer of the teacher's: 0" in str(receipt)


def test_a_teacher_is_known_by_what_is_not_usual(tmp_path: Path) -> None:
    """So a run goes on after an upgrade that gave architectures a field more."""
    teacher = classifier(tmp_path)
    told = json.dumps(_unusual(teacher.architecture))
    assert not any(name in told for name in ("reversible", "slice_length", "shared_query_key", "chunk"))
    before = digest_of_model(teacher)
    layers = tuple(replace(one, feed_forward=replace(one.feed_forward, chunk=8)) for one in teacher.architecture.layers)
    teacher.architecture = replace(teacher.architecture, layers=layers)
    assert digest_of_model(teacher) != before


@pytest.mark.parametrize("kind", ["masked-lm", "causal-lm"])
def test_language_models_learn_on_plain_text(kind: str, tmp_path: Path) -> None:
    teacher = language_model(tmp_path, kind)
    settings = QUICK | {"data.split": "lines", "evaluation.held_out": 6}
    student, receipt = gs.distill(
        teacher, write_text(tmp_path / "text.txt"), output=tmp_path / "out", settings=settings,
        matches=[Match(teacher=0, student=0)],
    )  # fmt: skip
    again = gs.load(tmp_path / "out" / "last")
    assert again.family == student.family
    torch.testing.assert_close(again.state_dict(), student.state_dict(), rtol=0, atol=0)
    assert receipt.measured["held_out_perplexity"] > 1
    assert receipt.settings["task"] == kind


def test_a_student_that_is_given_may_be_narrower(tmp_path: Path) -> None:
    teacher = language_model(tmp_path, "causal-lm")
    torch.manual_seed(6)
    sizes = {"layers": 1, "hidden_size": 8, "heads": 2, "length": 32, "vocabulary_size": 257}
    given = Model(decoder(**sizes, patterns=[gs.Full(causal=True)], dropout=0.0))
    given.tokenizer = byte_tokenizer()
    student, receipt = gs.distill(
        teacher, write_text(tmp_path / "text.txt"), student=given, matches=[Match(teacher=-1, student=-1)],
        settings=QUICK | {"data.split": "lines"},
    )  # fmt: skip
    assert student is given
    assert not [name for name in student.state_dict() if "distillation" in name]
    assert receipt.settings["cosine_weight"] == 0.0


@pytest.mark.parametrize("narrow", ["neurons", "linear"])
def test_a_narrower_student_learns_states_and_attention(narrow: Any, tmp_path: Path) -> None:
    """States through a projection that is left behind; attention of as many heads as both have."""
    teacher, rows = classifier(tmp_path), texts(24)
    student, receipt = gs.distill(
        teacher, rows, layers=[0], hidden_size=8, heads=2, feedforward_size=[1, 3, 5], narrow=narrow,
        matches=[Match(teacher=0, student=0), Match(teacher=0, student=0, of="attention", loss="kl")],
        settings=QUICK, output=tmp_path / "out",
    )  # fmt: skip
    again = gs.load(tmp_path / "out" / "last")
    torch.testing.assert_close(again.state_dict(), student.state_dict(), rtol=0, atol=0)
    assert (again.architecture.hidden_size, again.architecture.layers[0].feed_forward.width) == (8, 3)
    assert receipt.settings["cosine_weight"] == 0.0
    assert receipt.settings["narrow"] == narrow
    assert "narrower: states 8 of 16 wide" in str(receipt)
    assert "3 of 32 feed-forward neurons" in str(receipt)
    with pytest.raises(InputError, match=r"^hidden_size is 8; it must be left out where a student is given"):
        gs.distill(teacher, rows, student=student, hidden_size=8, settings=QUICK)
    for asked in ({"layers": [0]}, {"shape": "distilbert"}):
        with pytest.raises(InputError, match=rf"^{next(iter(asked))} is .*; it must be left out where a student is gi"):
            gs.distill(teacher, rows, student=student, settings=QUICK, **asked)


@pytest.mark.parametrize("objective", [None, "embed"])
def test_a_narrower_student_goes_on_to_the_same_bits(objective: Any, tmp_path: Path) -> None:
    """It is made anew, then goes on from what was saved: a projection and drawn rows of attention with it."""
    teacher = embedder(tmp_path) if objective else classifier(tmp_path)
    rows = [{"text": row["text"]} for row in texts(24)] if objective else texts(24)
    given: dict[str, Any] = {
        "train": rows, "objective": objective, "layers": [0], "hidden_size": 8, "narrow": "linear",
        "matches": [Match(teacher=0, student=0), Match(teacher=1, student=0, of="attention", loss="kl", rows=3,
                                                       average_heads=True)],
        "settings": QUICK | {"steps": 6, "checkpoints.every": 2},
    }  # fmt: skip
    gs.distill(teacher, **given, output=tmp_path / "unbroken")
    broken_off(teacher, 4, MemoryError, learn=gs.distill, **given, output=tmp_path / "broken")
    gs.distill(teacher, **given, output=tmp_path / "broken", resume="must")
    assert_same_run(tmp_path / "unbroken", tmp_path / "broken", 6)


def test_teacher_and_student_are_measured_side_by_side(tmp_path: Path) -> None:
    teacher, rows = classifier(tmp_path), texts(24)
    counted = {"latency": False, "memory": False}
    student, receipt = gs.distill(teacher, rows, 0.25, layers=[0], measure=counted, settings=QUICK)
    compared = receipt.comparison
    assert compared is not None
    assert compared.models == ("before", "after")
    assert student.receipt is receipt
    counts = tuple(sum(one.numel() for one in model.parameters()) for model in (teacher, student))
    assert next(row.values for row in compared.rows if row.name == "parameters") == counts
    assert any(row.values[0] is None and row.values[1] for row in compared.rows), "what it cost to make the student"
    scored = next(row for row in compared.rows if row.name == "accuracy, mean of 6 held-out rows")
    assert scored.values[1] == pytest.approx(receipt.measured["held_out_accuracy"])
    assert scored.differences is not None
    assert scored.differences[1] is not None
    with pytest.raises(InputError, match=r"^measure is 3; it must be true, false, or settings of gossamer\.compare"):
        gs.distill(teacher, rows, measure=3, settings=QUICK)  # type: ignore[arg-type]


def test_what_does_not_fit_is_one_line(tmp_path: Path) -> None:
    teacher, rows = classifier(tmp_path), texts(12)
    bare = gs.load(tmp_path / "encoder")
    with pytest.raises(InputError, match=r"^the teacher has no head; load it with one that has soft targets"):
        gs.distill(bare, rows, settings=QUICK)
    with pytest.raises(InputError, match=r"^task is 'causal-lm', but the teacher has the head 'sequence-classific"):
        gs.distill(teacher, rows, task="causal-lm", settings=QUICK)
    with pytest.raises(InputError, match=r"^task is 3; it must be an objective, its kind or a mapping"):
        gs.distill(teacher, rows, task=3, settings=QUICK)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"^kind is 'tags'"):
        gs.distill(teacher, rows, task="tags", settings=QUICK)
    with pytest.raises(InputError, match=r"^layers has 2; the teacher's layers go from 0 to 1$"):
        gs.distill(teacher, rows, layers=[2], settings=QUICK)
    with pytest.raises(InputError, match=r"^train: there are no rows"):
        gs.distill(teacher, [], settings=QUICK)
    with pytest.raises(InputError, match=r"no such file"):
        gs.distill(teacher, "nothing.jsonl", settings=QUICK)
    with pytest.raises(InputError, match=r"^student is the teacher itself, which would be trained while it is learnt"):
        gs.distill(teacher, rows, student=teacher, settings=QUICK)
    for wrong in (Match(teacher=0, student=0), [3], "every"):
        with pytest.raises(InputError, match=r"matches is .*; it must be a list of Match$"):
            gs.distill(teacher, rows, matches=wrong, settings=QUICK)  # type: ignore[arg-type]
    for settings in (None, ["epochs=1"]):
        with pytest.raises(InputError, match=r"^settings is .*; it must be a mapping of fields of a TrainingConfig"):
            gs.distill(teacher, rows, settings=settings)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"^folder is 5; it must be a folder's name"):
        TeacherCache(folder=5)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"^narrow is 'foo'; it must be 'neurons' or 'linear'"):
        gs.distill(teacher, rows, narrow="foo", settings=QUICK)  # type: ignore[arg-type]
    other = language_model(tmp_path, "causal-lm")
    with pytest.raises(InputError, match=r"^teacher and student have different vocabularies"):
        gs.distill(teacher, rows, student=with_classes(other), settings=QUICK)


def with_classes(model: Model) -> Model:
    """The model as a classifier of the same three labels."""
    head = SequenceClassification(
        labels=("book", "film", "song"), problem_type="single_label_classification", reads="last"
    )
    new = Model(replace(model.architecture, head=head))
    new.tokenizer = byte_tokenizer()
    return new


def embedder(folder: Path) -> Model:
    model = classifier(folder)
    plain = Model(replace(model.architecture, head=SentenceEmbedding(normalized=True)), tokenizer=model.tokenizer)
    weights = model.state_dict()
    plain.load_state_dict({name: weights[name] for name in plain.state_dict()})
    return plain.eval()


@pytest.mark.parametrize("loss", ["cosine", "l2"])
def test_vectors_become_the_teachers(loss: str, tmp_path: Path) -> None:
    """The first loss is its formula; the vectors come near."""
    teacher = embedder(tmp_path)
    rows = [{"text": row["text"]} for row in texts(24)]
    start = make_student(teacher, [0])
    batch = teacher.tokenizer([row["text"] for row in rows])
    with torch.no_grad():
        wanted, before = (one.eval()(**batch).pooled for one in (teacher, start))
    batch["labels"] = torch.zeros(24, dtype=torch.long).index_fill(0, torch.tensor([1]), -100)
    objective = TeacherVectorsObjective(vector_loss=loss)  # type: ignore[arg-type]
    Teacher.of(teacher).give_to(start)
    objective.attach(start, 0, 1)
    there = batch["labels"] == 0
    by_hand = 1 - (wanted * before).sum(-1) if loss == "cosine" else (wanted - before).square().sum(-1)
    torch.testing.assert_close(objective.loss(start, batch), by_hand[there].mean())
    settings = QUICK | {"steps": 60, "optimizer.learning_rate": 0.01, "objective.vector_loss": loss}
    student, receipt = gs.distill(
        teacher, rows, rows[:8], layers=[0], objective="embed", settings=settings, output=tmp_path / "out"
    )
    del batch["labels"]
    with torch.no_grad():
        after = student(**batch).pooled
    assert (1 - (wanted * after).sum(-1)).mean() < 0.2 * (1 - (wanted * before).sum(-1)).mean()
    assert receipt.measured["held_out_cosine"] > 0.9
    assert isinstance(gs.load(tmp_path / "out" / "last").architecture.head, SentenceEmbedding)


@pytest.mark.parametrize("size", [None, 8])
def test_layers_are_matched_beside_the_vectors(size: int | None, tmp_path: Path) -> None:
    """The loss is the vectors' and each match's; a student of another width learns through maps that are not saved."""
    teacher, rows = embedder(tmp_path), [{"text": row["text"]} for row in texts(12)]
    states = Match(teacher=-1, student=0, loss="mse", weight=0.5)
    attention = Match(teacher=1, student=0, of="attention", loss="kl", weight=2.0)
    start = make_student(
        teacher, [0], widths=Widths(hidden_size=size, heads=teacher.architecture.layers[0].attention.heads)
    )
    objective = TeacherVectorsObjective(matches=(states, attention))
    batch = teacher.tokenizer([row["text"] for row in rows])
    Teacher.of(teacher).give_to(start)
    objective.attach(start, 0, 1)
    maps = start._modules.get("distillation_projections")
    assert (maps is None) == (size is None)
    both = {**batch, "labels": torch.zeros(12, dtype=torch.long)}
    with torch.no_grad():
        wanted, told = (one.eval()(**batch, output_hidden_states=True) for one in (teacher, start))
        last = told.hidden_states[1] if maps is None else maps["0"](told.hidden_states[1])
        real = batch["attention_mask"].bool()
        by_hand = 1 - (wanted.pooled * told.pooled).sum(-1).mean()
        by_hand = by_hand + 0.5 * (wanted.hidden_states[-1] - last)[real].square().mean()
        attended = TeacherVectorsObjective(matches=(replace(states, weight=0.0), attention)).loss(start, both)
        alone = attended - (1 - (wanted.pooled * told.pooled).sum(-1).mean())
        torch.testing.assert_close(objective.loss(start, both), by_hand + alone)
        torch.testing.assert_close(objective.measure(start, both)[0], 1 - (wanted.pooled * told.pooled).sum(-1).mean())
    assert alone > 0
    objective.detach(start)
    assert "distillation_projections" not in start._modules
    student, receipt = gs.distill(
        teacher, rows, student=start, objective="embed", matches=[states, attention], settings=QUICK,
        output=tmp_path / "out",
    )  # fmt: skip
    assert "2 matches of layers" in receipt.changes
    assert gs.load(tmp_path / "out" / "last").state_dict().keys() == student.state_dict().keys()


def test_terms_of_scores_are_not_passed_over_where_vectors_are_learnt(tmp_path: Path) -> None:
    teacher, rows = embedder(tmp_path), [{"text": "film"}]
    for terms in ({"temperature": 3.0}, {"soft_weight": 0.0}, {"task_weight": 1.0}, {"cosine_weight": 1.0}):
        (name,) = terms
        with pytest.raises(InputError, match=rf"^{name} is .*; it must be left out: the teacher's vectors are learnt"):
            gs.distill(teacher, rows, objective="embed", settings=QUICK, **terms)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"^soft_weight is 1.0; it must be left out: the teacher's vectors are learnt"):
        gs.share(teacher, rows, soft_weight=1.0, settings=QUICK)
    with pytest.raises(InputError, match=r"matches is .*it must be left out where there is a cache"):
        gs.distill(
            teacher, rows, objective="embed", matches=[Match(teacher=0, student=0)], cache=tmp_path / "cache",
            settings=QUICK,
        )  # fmt: skip


def test_a_map_makes_vectors_as_wide_as_the_teachers(tmp_path: Path) -> None:
    """LEAF's, of the student's head; without it the widths differ."""
    student = embedder(tmp_path)
    described = student.architecture
    teacher = Model(replace(described, head=SentenceEmbedding(dense=(DenseLayer(size=10),))))
    teacher.tokenizer = student.tokenizer
    rows = [{"text": row["text"]} for row in texts(12)]
    wide = r"^the teacher's vectors have 10 numbers and the student's 16; .*dense=\(DenseLayer\(size=10, act"
    with pytest.raises(InputError, match=wide):
        gs.distill(teacher, rows, student=student, objective="embed", settings=QUICK)
    mapped = Model(replace(described, head=SentenceEmbedding(dense=(DenseLayer(size=10, activation="identity"),))))
    mapped.tokenizer = student.tokenizer
    learnt, _ = gs.distill(teacher, rows, student=mapped, objective="embed", settings=QUICK)
    assert gs.task("embed", learnt)("film").vectors.shape == (1, 10)


def test_a_narrower_student_searches_the_teachers_index(tmp_path: Path) -> None:
    """It begins with a map back to the teacher's width, which is learnt and saved."""
    teacher, rows = embedder(tmp_path), [{"text": row["text"]} for row in texts(12)]
    settings = QUICK | {"steps": 60, "optimizer.learning_rate": 0.01}
    student, _ = gs.distill(
        teacher, rows, layers=[0, 1], hidden_size=8, narrow="linear", objective="embed", settings=settings,
        output=tmp_path / "out",
    )  # fmt: skip
    again, batch = gs.load(tmp_path / "out" / "last"), teacher.tokenizer([row["text"] for row in rows])
    with torch.no_grad():
        wanted, found = (one.eval()(**batch).pooled for one in (teacher, again))
        torch.testing.assert_close(found, student(**batch).pooled)
    assert (wanted * found).sum(-1).mean() > 0.9


def test_vectors_that_cannot_be_learnt_are_one_line(tmp_path: Path) -> None:
    teacher = embedder(tmp_path)
    with pytest.raises(InputError, match=r"^the teacher gives vectors of texts; objective='embed' teaches those"):
        gs.distill(teacher, [{"text": "film"}], settings=QUICK)
    with pytest.raises(InputError, match=r"^task is 'classification'; it must be left out: with objective='embed'"):
        gs.distill(teacher, [{"text": "film"}], task="classification", objective="embed", settings=QUICK)
    with pytest.raises(InputError, match=r"^objective is 'vectors'; it must be 'embed'"):
        gs.distill(teacher, [{"text": "film"}], objective="vectors", settings=QUICK)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"^rows:2: the field 'text' is missing \(it has: words\); it must be a text"):
        gs.distill(teacher, [{"text": "film"}, {"words": "b"}], objective="embed", settings=QUICK)
    with pytest.raises(InputError, match=r"^rows:1: the field 'text' is ' '; it must be a text"):
        gs.distill(teacher, [{"text": " "}, {"text": "b"}], objective="embed", settings=QUICK)
    with pytest.raises(InputError, match=r"no head for it|but the model has the head 'sequence-classification'"):
        gs.distill(classifier(tmp_path), [{"text": "film"}] * 6, objective="embed", settings=QUICK)


def prompted(model: Model, **changes: Any) -> Model:
    """The model with a default prompt, which the task puts before each text."""
    given: dict[str, Any] = {"prompts": {"query": "day "}, "default_prompt_name": "query", **changes}
    described = replace(model.architecture, head=SentenceEmbedding(normalized=True, **given))
    new = Model(described, tokenizer=model.tokenizer).eval()
    new.load_state_dict(model.state_dict())
    return new


def test_a_teacher_is_asked_behind_its_prompt(tmp_path: Path) -> None:
    """The student inherits the prompt, so that the task gives the teacher's vectors."""
    plain = embedder(tmp_path)
    teacher, rows = prompted(plain), [{"text": row["text"]} for row in texts(12)]
    gs.distill(
        teacher, rows, rows, student=prompted(plain), objective="embed",
        settings=QUICK, cache=tmp_path / "cache",
    )  # fmt: skip
    table = parquet.read_table(tmp_path / "cache" / "part-00000.parquet")
    wanted = gs.task("embed", teacher)([row["text"] for row in rows]).vectors
    told = torch.tensor(table["vector"].to_pylist())
    assert (torch.cdist(torch.as_tensor(wanted), told).min(dim=1).values < 1e-4).all()
    for student, message in (
        (plain, r"^the teacher puts the prompt 'day ' before each text and the student ''; give both heads the same"),
        (prompted(plain, include_prompt=False), r"^the (model|student)'s prompt 'day ' is read but not pooled"),
    ):
        with pytest.raises(InputError, match=message):
            gs.distill(teacher, rows, student=student, objective="embed", settings=QUICK)
    with pytest.raises(InputError, match=r"^the teacher's prompt 'day ' is read but not pooled \(include_prompt\)"):
        gs.distill(prompted(plain, include_prompt=False), rows, student=plain, objective="embed", settings=QUICK)
