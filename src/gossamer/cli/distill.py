"""gossamer distill: a smaller model that learns from a larger one, to be stopped and resumed at will."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

from rich.text import Text
from typer import Argument, BadParameter, Option

from gossamer.cli.changes import Changes, read_changes
from gossamer.cli.options import AsJson
from gossamer.cli.output import check_directory, note, print_json, show, working
from gossamer.cli.runs import Resume, ResumeOption, stoppable
from gossamer.errors import quote
from gossamer.training.launched import is_first_process

__all__ = ["distill"]


class Shape(StrEnum):
    """What the student is built like."""

    teacher = "teacher"
    distilbert = "distilbert"


class Narrow(StrEnum):
    """How a narrower student comes by its hidden dimensions."""

    neurons = "neurons"
    linear = "linear"


def distill(
    teacher: Annotated[str, Argument(metavar="TEACHER", help="A model directory, or an id on the hub.")],
    train: Annotated[
        list[Path], Option("--train", metavar="FILE ...", help="Texts, or rows with labels, to learn from.")
    ],
    out: Annotated[Path, Option(metavar="DIR", help="Where to write; the student is in DIR/last.")],
    evaluate: Annotated[
        list[Path] | None, Option("--evaluate", metavar="FILE ...", help="Held-out texts or rows.")
    ] = None,
    layers: Annotated[
        str, Option(metavar="N,N,...", help="Layers of the teacher, from 0, that the student begins with.")
    ] = "every-other",
    shape: Annotated[Shape, Option(metavar="SHAPE", help="teacher, or distilbert: no token types, no pooler.")] = (
        Shape.teacher
    ),
    hidden_size: Annotated[
        int | None, Option(metavar="N", help="Dimensions of the student's states; heads and neurons go with them.")
    ] = None,
    heads: Annotated[int | None, Option(metavar="N", help="Heads of each of its layers.")] = None,
    feedforward_size: Annotated[
        int | None, Option(metavar="N", help="Feed-forward neurons of each of its layers.")
    ] = None,
    narrow: Annotated[
        Narrow, Option(metavar="HOW", help="Dimensions: neurons, the largest; linear, leading directions.")
    ] = Narrow.neurons,
    temperature: Annotated[float, Option(metavar="T", help="Of the teacher's soft targets.")] = 2.0,
    soft_weight: Annotated[float, Option(metavar="X", help="Of the teacher's soft targets; 0: none.")] = 5.0,
    task_weight: Annotated[float, Option(metavar="X", help="Of the task's own loss; 0: none.")] = 2.0,
    cosine_weight: Annotated[
        float | None, Option(metavar="X", help="Of the cosine of the last states; 1, but 0 where their widths differ.")
    ] = None,
    cache: Annotated[
        Path | None, Option(metavar="DIR", help="Where the teacher's outputs are kept, and read from in the training.")
    ] = None,
    epochs: Annotated[float, Option(metavar="N", help="How often everything is read.")] = 3.0,
    change: Changes = None,
    resume: ResumeOption = Resume.auto,
    as_json: AsJson = False,
) -> None:
    """Make a smaller model of a larger one, which learns to say what the larger one says.

    The student begins with half of the teacher's layers and learns from the teacher's scores, from the labels or the
    text itself, and from the teacher's states. Stopped by Ctrl-C or killed at any moment, the same command goes on to
    the very weights of a run that was never stopped, as long as the teacher is the same.
    """
    chosen, changes = _layers(layers), read_changes(change)
    check_directory(out)
    with working("reading the teacher"):
        from gossamer.recipes import distill as make_smaller
    with stoppable(str(out), as_json):
        student, receipt = make_smaller(
            teacher, list(train), list(evaluate) if evaluate else None, layers=chosen, shape=shape.value,
            hidden_size=hidden_size, heads=heads, feedforward_size=feedforward_size, narrow=narrow.value,
            temperature=temperature, soft_weight=soft_weight, task_weight=task_weight, cosine_weight=cosine_weight,
            cache=cache, epochs=epochs, output=out, settings=changes, resume=resume.value, remark=note,
        )  # fmt: skip
    if as_json and is_first_process():
        print_json({"out": str(out), "family": student.family, "receipt": receipt.to_dict()})
    elif is_first_process():
        show(Text.assemble(f"{receipt}\nsaved in ", (str(out / "last"), "bold"), no_wrap=True, overflow="ignore"))


def _layers(layers: str) -> str | list[int]:
    if layers == "every-other":
        return layers
    try:
        return [int(number) for number in layers.split(",")]
    except ValueError:
        raise BadParameter(
            f"{quote(layers)} is not every-other, or numbers such as 0,2,4", param_hint="'--layers'"
        ) from None
