"""A smaller model that learns from a larger one (DistilBERT, section 2)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from gossamer.checkpoints import load
from gossamer.errors import InputError, plural, quote
from gossamer.models.checks import require
from gossamer.models.heads import (
    CausalLM,
    Head,
    MaskedLM,
    SentenceEmbedding,
    SequenceClassification,
    TokenClassification,
)
from gossamer.models.model import Model
from gossamer.models.model_argument import check_model, check_one_text
from gossamer.recipes.finetune import Data, output_folder, read_data
from gossamer.recipes.left_out import require_left_out
from gossamer.recipes.receipts.comparison import Making
from gossamer.recipes.receipts.measure import on_cpu, read_measure
from gossamer.recipes.receipts.receipt import Receipt, conditions, describe
from gossamer.recipes.receipts.row_scores import held_out_scores
from gossamer.settings import plain_fields
from gossamer.surgery.students.narrow import NarrowBy, Size, Widths
from gossamer.surgery.students.student import Shape, describe_student, make_student, student_layers
from gossamer.training.config import TrainingConfig
from gossamer.training.config.reading import read_settings
from gossamer.training.data.labelled import LabelledRows, read_rows
from gossamer.training.launched import is_first_process
from gossamer.training.loop import Resume, train_on
from gossamer.training.objectives import DistillationObjective, Match, Objective, TeacherCache, TeacherVectorsObjective
from gossamer.training.objectives.teachers.teacher import Teacher
from gossamer.training.receipt import TrainingReceipt

__all__ = ["Made", "aim_of", "distill", "teach"]

_TASKS: tuple[tuple[type[Head], str], ...] = (
    (CausalLM, "causal-lm"),
    (MaskedLM, "masked-lm"),
    (SequenceClassification, "classification"),
    (TokenClassification, "tagging"),
)
"""What a teacher's head was trained to do."""


@dataclass(frozen=True, kw_only=True)
class Made:
    """A student before it has learnt, and what is told of it.

    asked: what it was made by, for the receipt. changes: what became of the teacher, a line each. origin: what a run
    that goes on must have begun with, beside the teacher, which it knows.
    """

    recipe: str
    student: Model
    asked: Mapping[str, Any]
    changes: tuple[str, ...]
    origin: Mapping[str, str]


def distill(
    teacher: Model | str | Path, train: Data, evaluate: Data | float | None = None, *,
    student: Model | None = None, layers: str | Sequence[int] = "every-other", shape: Shape = "teacher",
    hidden_size: Size = None, heads: Size = None, feedforward_size: Size = None, narrow: NarrowBy = "neurons",
    temperature: float = 2.0, soft_weight: float = 5.0, task_weight: float = 2.0, cosine_weight: float | None = None,
    matches: Sequence[Match] = (),
    task: str | Mapping[str, Any] | Objective | None = None, objective: Literal["embed"] | None = None,
    cache: str | Path | TeacherCache | None = None, epochs: float = 3, output: str | Path | None = None,
    measure: bool | Mapping[str, Any] = False, settings: Mapping[str, Any] = MappingProxyType({}),
    resume: Resume = "auto", remark: Callable[[str], None] = lambda text: None,
) -> tuple[Model, Receipt]:  # fmt: skip
    """Train a student to say what its teacher says; the student, in evaluation mode, and a receipt.

    teacher: a causal or masked language model, a classifier or a tagger, or what `gossamer.load` takes; it is left as
    it was. train, evaluate: files of texts or of rows, as `gossamer.train` reads them, or a sequence of dicts; evaluate
    may also be the share or the number of rows that are held out. These are read as the task reads them, without the
    teacher.

    student: what learns, in place, instead of layers of the teacher. layers, shape: of the teacher's layers those that
    the student begins with, as `gossamer.surgery.students.make_student` takes them. hidden_size, heads,
    feedforward_size: its widths, each a number or which of the teacher's; narrow: "neurons" or "linear", of which
    `gossamer.surgery.students.narrow` tells. temperature and the weights of soft targets, the task's own loss, the
    cosine of the last states and the matches of layers: `DistillationObjective`; 0 switches a term off; cosine_weight
    is 1 unless given, or 0 for a student of another width. task: an objective, its kind or its settings; what the
    teacher's head is for unless given. objective: "embed" teaches the teacher's vector of a text instead, from texts
    alone, and matches if any (`TeacherVectorsObjective`); temperature and weights are refused then.

    cache: a folder, or `TeacherCache`, where what the teacher gives is written before the training, in which it is not
    run. epochs, output, resume: of `gossamer.train`; without an output no run is left on disk, and none goes on.
    settings: other fields of a `TrainingConfig`, such as {"steps": 100, "optimizer.learning_rate": 1e-4}. measure:
    whether teacher ("before") and student ("after") are measured, in the receipt's `comparison`; settings of
    `gossamer.compare`, such as {"latency": False}, say how.

    Raises InputError for a teacher without such a head, for a student of another vocabulary, for wrong layers, and as
    `gossamer.train` does. A run that was killed goes on exactly, with the same teacher alone.

    Source: Sanh et al. 2019 (arXiv 1910.01108), sections 2 and 3; Hinton et al. 2015 (arXiv 1503.02531), section 2.
    """
    require(isinstance(settings, Mapping), "settings", settings, "a mapping of fields of a TrainingConfig")
    compared = read_measure(measure)
    old = load(teacher, dtype="float32") if isinstance(teacher, str | Path) else check_model(teacher)
    check_one_text(old, "distill")
    aim = aim_of(objective, task, old)
    widths = Widths(hidden_size=hidden_size, heads=heads, feedforward_size=feedforward_size, by=narrow)
    terms = {
        "temperature": temperature, "soft_weight": soft_weight, "task_weight": task_weight,
        "cosine_weight": cosine_weight, "matches": tuple(matches) if isinstance(matches, list) else matches,
    }  # fmt: skip
    check_terms(distill, aim, terms)
    made = _student(old, student, layers, shape, widths)
    return teach(
        old, made, aim, terms, train, evaluate,
        cache=cache, epochs=epochs, output=output, compared=compared, settings=settings, resume=resume, remark=remark,
    )  # fmt: skip


def teach(
    teacher: Model, made: Made, aim: Objective | None, terms: dict[str, Any], train: Data,
    evaluate: Data | float | None, *, cache: str | Path | TeacherCache | None, epochs: float,
    output: str | Path | None, compared: Mapping[str, Any] | None, settings: Mapping[str, Any], resume: Resume,
    remark: Callable[[str], None],
) -> tuple[Model, Receipt]:  # fmt: skip
    """Train the student that was made; the arguments are those of `distill`.

    aim: the task beside the teacher's word; None where its vectors are learnt. terms: those of the loss. compared: what
    `read_measure` gives.
    """
    learnt = _objective(aim, teacher, made.student, TeacherCache.of(cache), terms)
    sources, data = read_data(train, evaluate)
    with output_folder(output) as folder, _taught_by(teacher, made.student):
        config = _config(learnt, data, epochs, folder, settings)
        rows = read_rows(config, sources) if config.objective.columns else None
        new, trained = train_on(
            config, sources, model=made.student, labelled=rows, origin=dict(made.origin), resume=resume, remark=remark
        )
    new.receipt = _receipt(teacher, new, trained, learnt, made)
    if compared is not None and is_first_process():
        new.receipt = _measured(teacher, new, trained, config, rows, compared)
    return new, new.receipt


@contextmanager
def _taught_by(teacher: Model, student: Model) -> Iterator[None]:
    """The teacher is beside the student inside the block."""
    Teacher.of(teacher).give_to(student)
    try:
        yield
    finally:
        Teacher.take_from(student)


def _student(teacher: Model, given: Model | None, layers: str | Sequence[int], shape: Shape, widths: Widths) -> Made:
    if given is not None:
        if given is teacher:
            raise InputError(
                "student is the teacher itself, which would be trained while it is learnt from; give another model, "
                "such as copy.deepcopy(teacher)"
            )
        of_a_made_one: dict[str, Any] = {**widths.narrower}
        of_a_made_one |= {"layers": layers} if layers != "every-other" else {}
        of_a_made_one |= {"shape": shape} if shape != "teacher" else {}
        for name, value in of_a_made_one.items():
            require(False, name, value, "left out where a student is given, which has its own")
        return Made(
            recipe="distill", student=check_model(given), asked={}, changes=("a student that was given",),
            origin=_origin(teacher, {}),
        )  # fmt: skip
    made = make_student(teacher, layers, shape=shape, widths=widths).float()
    asked: dict[str, Any] = {"layers": layers if isinstance(layers, str) else list(layers), "shape": shape}
    if widths.narrower:
        asked |= widths.narrower | {"narrow": widths.by}
    changes = describe_student(teacher, made, layers, shape, widths)
    return Made(recipe="distill", student=made, asked=asked, changes=changes, origin=_origin(teacher, asked))


def _origin(teacher: Model, asked: Mapping[str, Any]) -> dict[str, str]:
    """What the student was made of, beside the teacher, which a run knows.

    Told by what was asked for: of linear maps no two machines make the same bits. Nothing was of a student that is
    given, which has learnt already where the run goes on in the same program.
    """
    layers = {"layers": student_layers(asked["layers"], len(teacher.architecture.layers))} if asked else {}
    told = json.dumps({**asked, **layers}, sort_keys=True)
    return {"student": hashlib.sha256(told.encode()).hexdigest()}


def aim_of(objective: object, task: object, teacher: Model) -> Objective | None:
    """The task beside the teacher's word; None where its vectors are learnt."""
    require(objective in (None, "embed"), "objective", objective, "'embed', or None for scores")
    if objective is None:
        return _task(task, teacher)
    require(task is None, "task", task, "left out: with objective='embed' the teacher's vectors are learnt, no task")
    return None


_OF_SCORES = ("temperature", "soft_weight", "task_weight", "cosine_weight")


def check_terms(recipe: Callable[..., Any], aim: Objective | None, terms: Mapping[str, Any]) -> None:
    """InputError for terms of scores where vectors are learnt; recipe: whose arguments they are."""
    if aim is None:
        require_left_out(recipe, terms, _OF_SCORES, "the teacher's vectors are learnt, which have no scores")


def _task(task: object, teacher: Model) -> Objective:
    """The objective that is meant, or what the teacher's head is for."""
    head = teacher.architecture.head
    kind = next((name for known, name in _TASKS if isinstance(head, known)), None)
    if isinstance(head, SentenceEmbedding):
        raise InputError("the teacher gives vectors of texts; objective='embed' teaches those")
    if kind is None or head is None:
        what = "no head" if head is None else f"the head {head.kind!r}"
        raise InputError(
            f"the teacher has {what}; load it with one that has soft targets: causal-lm, masked-lm, "
            "sequence-classification or token-classification"
        )
    if isinstance(task, Objective):
        return task
    fields = {"kind": kind if task is None else task} if task is None or isinstance(task, str) else task
    if not isinstance(fields, Mapping):
        raise InputError(f"task is {quote(task)}; it must be an objective, its kind or a mapping of its settings")
    found = read_settings(Objective.class_of(fields.get("kind", kind)), {"kind": kind, **fields}, "task")
    if not isinstance(head, found.heads):
        raise InputError(f"task is {found.kind!r}, but the teacher has the head {head.kind!r}, which is for {kind!r}")
    return found


def _objective(
    task: Objective | None, teacher: Model, student: Model, cache: TeacherCache | None, terms: dict[str, Any]
) -> DistillationObjective | TeacherVectorsObjective:
    """What the student learns; terms: those of the loss, of which the teacher's vectors have the matches."""
    if task is None:
        return TeacherVectorsObjective(teacher=teacher.source, cache=cache, matches=terms["matches"])
    if terms["cosine_weight"] is None:
        as_wide = student.architecture.output_size == teacher.architecture.output_size
        terms = terms | {"cosine_weight": float(as_wide)}
    return DistillationObjective(task=task, teacher=teacher.source, cache=cache, **terms)


def _config(
    objective: Objective, data: Mapping[str, Any], epochs: float, output: str, settings: Mapping[str, Any]
) -> TrainingConfig:
    """The settings of the run; data: those that name what is read."""
    length = {} if {"steps", "minutes", "epochs"} & settings.keys() else {"epochs": epochs}
    start = {"data": {}, "output": output, "objective": plain_fields(objective), **length}
    return TrainingConfig.read(start, {**settings, **data})


def _receipt(
    teacher: Model,
    student: Model,
    trained: TrainingReceipt,
    objective: DistillationObjective | TeacherVectorsObjective,
    made: Made,
) -> Receipt:
    asked = dict(made.asked)
    settings: dict[str, Any] = asked | {"objective": "embed"}
    matched = (f"{plural(len(objective.matches), 'match', 'matches')} of layers",) if objective.matches else ()
    if isinstance(objective, DistillationObjective):
        names = ("temperature", "soft_weight", "task_weight", "cosine_weight")
        settings = asked | {name: getattr(objective, name) for name in names} | {"task": objective.task.kind}
    measured = {name: value for name, value in (trained.evaluation or {}).items() if value is not None}
    return Receipt(
        recipe=made.recipe,
        source=teacher.source,
        settings=settings | {"steps": trained.steps, "tokens": trained.tokens},
        before=describe(teacher),
        after=describe(student),
        changes=(*made.changes, *matched),
        measured={f"held_out_{name}": value for name, value in measured.items()},
        conditions=conditions(student),
        notes=trained.notes,
    )


def _measured(
    teacher: Model, student: Model, trained: TrainingReceipt, config: TrainingConfig, rows: LabelledRows | None,
    settings: Mapping[str, Any],
) -> Receipt:  # fmt: skip
    """The receipt with teacher and student side by side, by the settings of `gossamer.compare`.

    The score of each held-out row is taken with both where their heads are one, with the student alone where not.
    """
    before, after = on_cpu(teacher), on_cpu(student)
    same = type(teacher.architecture.head) is type(student.architecture.head)
    judged = {"before": before, "after": after} if same else {"after": after}
    return student.receipt.beside(
        before, after, made={"after": Making.of_training(trained, student, config.batch.length)},
        scores={} if rows is None else held_out_scores(rows, judged, config), **settings,
    )  # fmt: skip
