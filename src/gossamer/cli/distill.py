"""gossamer distill: a smaller model that learns from a larger one, to be stopped and resumed at will."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, BadParameter, Option

from gossamer.cli.changes import Changes, read_changes
from gossamer.cli.options import AsJson, OptionGroup, grouped, held_out
from gossamer.cli.output import check_directory, note, working
from gossamer.cli.results import show_result
from gossamer.cli.runs import Resume, ResumeOption, stoppable
from gossamer.errors import quote

__all__ = ["distill"]

_SIZE = "N|N,N,..."


class Shape(StrEnum):
    """What the student is built like."""

    teacher = "teacher"
    distilbert = "distilbert"


class Learnt(StrEnum):
    """What is learnt in place of scores."""

    embed = "embed"


class Narrow(StrEnum):
    """How a narrower student comes by its hidden dimensions."""

    neurons = "neurons"
    linear = "linear"


@dataclass(frozen=True, kw_only=True)
class Student(OptionGroup):
    """What the student has of its teacher."""

    layers: Annotated[
        str, Option(metavar="N,N,...", help="Layers of the teacher, from 0, that the student begins with.")
    ] = "every-other"
    shape: Annotated[Shape, Option(metavar="SHAPE", help="teacher, or distilbert: no token types, no pooler.")] = (
        Shape.teacher
    )
    hidden_size: Annotated[
        str | None, Option(metavar=_SIZE, help="Dimensions of its states, or which; heads and neurons go with them.")
    ] = None
    heads: Annotated[str | None, Option(metavar=_SIZE, help="Heads of each of its layers, or which, from 0.")] = None
    feedforward_size: Annotated[
        str | None, Option(metavar=_SIZE, help="Feed-forward neurons of each of its layers, or which.")
    ] = None
    narrow: Annotated[
        Narrow, Option(metavar="HOW", help="Dimensions: neurons, the largest; linear, leading directions.")
    ] = Narrow.neurons

    def arguments(self) -> dict[str, Any]:
        """What the recipe is called with."""
        return {
            "layers": _layers(self.layers),
            "shape": self.shape.value,
            "hidden_size": _size("hidden-size", self.hidden_size),
            "heads": _size("heads", self.heads),
            "feedforward_size": _size("feedforward-size", self.feedforward_size),
            "narrow": self.narrow.value,
        }


@grouped
def distill(
    teacher: Annotated[str, Argument(metavar="TEACHER", help="A model directory, or an id on the hub.")],
    train: Annotated[
        list[Path], Option("--train", metavar="FILE ...", help="Texts, or rows with labels, to learn from.")
    ],
    out: Annotated[Path, Option(metavar="DIR", help="Where to write; the student is in DIR/last.")],
    *,
    evaluate: Annotated[
        list[str] | None,
        Option(metavar="FILE ...|SHARE", help="Texts or rows to evaluate on, or a share held out: 0.1."),
    ] = None,
    student: Student,
    temperature: Annotated[float, Option(metavar="T", help="Of the teacher's soft targets.")] = 2.0,
    soft_weight: Annotated[float, Option(metavar="X", help="Of the teacher's soft targets; 0: none.")] = 5.0,
    task_weight: Annotated[float, Option(metavar="X", help="Of the task's own loss; 0: none.")] = 2.0,
    cosine_weight: Annotated[
        float | None, Option(metavar="X", help="Of the cosine of the last states; 1, but 0 where their widths differ.")
    ] = None,
    task: Annotated[
        str | None, Option(metavar="KIND", help="The objective beside the teacher's word; its head tells.")
    ] = None,
    objective: Annotated[
        Learnt | None, Option(metavar="KIND", help="embed: the teacher's vectors of texts, in place of scores.")
    ] = None,
    cache: Annotated[
        Path | None, Option(metavar="DIR", help="Where the teacher's outputs are kept, and read from in the training.")
    ] = None,
    epochs: Annotated[float, Option(metavar="N", help="How often everything is read.")] = 3.0,
    measure: Annotated[
        bool, Option("--measure", help="Measure teacher and student side by side, for minutes.")
    ] = False,
    change: Changes = None,
    resume: ResumeOption = Resume.auto,
    as_json: AsJson = False,
) -> None:
    """Make a smaller model of a larger one, which learns to say what the larger one says.

    The student begins with half of the teacher's layers and learns from the teacher's scores, from the labels or the
    text itself, and from the teacher's states; or, of a sentence encoder, its vectors. Stopped by Ctrl-C or killed at
    any moment, the same command goes on to the very weights of a run that was never stopped, as long as the teacher is
    the same.
    """
    chosen, changes = student.arguments(), read_changes(change)
    check_directory(out)
    with working("reading the teacher"):
        from gossamer.recipes import distill as make_smaller
    with stoppable(str(out), as_json):
        made, receipt = make_smaller(
            teacher, list(train), held_out(evaluate), **chosen,
            temperature=temperature, soft_weight=soft_weight, task_weight=task_weight, cosine_weight=cosine_weight,
            task=task, objective=None if objective is None else "embed", cache=cache, epochs=epochs, output=out,
            measure=measure, settings=changes, resume=resume.value, remark=note,
        )  # fmt: skip
    show_result(made, receipt, out, out / "last", as_json=as_json)


def _layers(layers: str) -> str | list[int]:
    if layers == "every-other":
        return layers
    return _numbers("layers", layers, "every-other, or numbers such as 0,2,4")


def _size(name: str, size: str | None) -> int | list[int] | None:
    """How many, or which: a number with a comma behind it is a list of one."""
    if size is None:
        return None
    numbers = _numbers(name, size.removesuffix(","), "a number, or numbers such as 0,2,4")
    return numbers if "," in size else numbers[0]


def _numbers(name: str, text: str, allowed: str) -> list[int]:
    try:
        return [int(number) for number in text.split(",")]
    except ValueError:
        raise BadParameter(f"{quote(text)} is not {allowed}", param_hint=f"'--{name}'") from None
