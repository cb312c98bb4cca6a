"""gossamer share: a model in ALBERT's form, healed by distillation where there are texts to learn from."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from typer import BadParameter, Option

from gossamer.cli.changes import Changes, read_changes
from gossamer.cli.options import AsJson, ModelName, OptionGroup, grouped, held_out
from gossamer.cli.output import note, working
from gossamer.cli.results import check_out, save_result, show_result
from gossamer.cli.runs import Resume, ResumeOption, stoppable
from gossamer.errors import quote

__all__ = ["share"]


class Parts(StrEnum):
    """What layers of a group share."""

    both = "both"
    attention = "attention"
    feed_forward = "feed-forward"
    none = "none"


@dataclass(frozen=True, kw_only=True)
class Form(OptionGroup):
    """What the shared model is like."""

    parts: Annotated[Parts, Option(metavar="PARTS", help="What layers share: both, attention, feed-forward, none.")] = (
        Parts.both
    )
    groups: Annotated[int, Option(metavar="N", help="Groups of neighbouring layers, each with weights of its own.")] = 1
    embedding_size: Annotated[
        int | None, Option(metavar="N", help="Columns of the embeddings, with a map behind them; as they are.")
    ] = None
    start: Annotated[
        str, Option(metavar="HOW", help="A group's weights: average, of its layers; or one of them, from 0.")
    ] = "average"

    def arguments(self) -> dict[str, Any]:
        """What the recipe is called with."""
        return {
            "parts": self.parts.value,
            "groups": self.groups,
            "embedding_size": self.embedding_size,
            "start": _start(self.start),
        }


@dataclass(frozen=True, kw_only=True)
class Healing(OptionGroup):
    """What the shared model learns from, and how."""

    train: Annotated[
        list[Path] | None, Option("--train", metavar="FILE ...", help="Texts, or rows with labels, to learn from.")
    ] = None
    evaluate: Annotated[
        list[str] | None,
        Option(metavar="FILE ...|SHARE", help="Texts or rows to evaluate on, or a share held out: 0.1."),
    ] = None
    temperature: Annotated[float, Option(metavar="T", help="Of the model's soft targets.")] = 2.0
    soft_weight: Annotated[float, Option(metavar="X", help="Of the model's soft targets; 0: none.")] = 5.0
    task_weight: Annotated[float, Option(metavar="X", help="Of the task's own loss; 0: none.")] = 2.0
    cosine_weight: Annotated[float, Option(metavar="X", help="Of the cosine of the last states.")] = 1.0
    task: Annotated[str | None, Option(metavar="KIND", help="The objective beside; the model's head tells.")] = None
    epochs: Annotated[float, Option(metavar="N", help="How often everything is read.")] = 3.0
    change: Changes = None
    resume: ResumeOption = Resume.auto

    def arguments(self) -> dict[str, Any]:
        """What the recipe is called with, beside where to write."""
        names = ("temperature", "soft_weight", "task_weight", "cosine_weight", "task", "epochs")
        return {name: getattr(self, name) for name in names} | {
            "train": None if self.train is None else list(self.train),
            "evaluate": held_out(self.evaluate),
            "settings": read_changes(self.change),
            "resume": self.resume.value,
        }


@grouped
def share(
    model: ModelName,
    out: Annotated[Path, Option(metavar="DIR", help="Where to save it; with --train it is in DIR/last.")],
    *,
    form: Form,
    healing: Healing,
    measure: Annotated[bool, Option("--measure", help="Measure both models side by side, for minutes.")] = False,
    as_json: AsJson = False,
) -> None:
    """Give a pretrained encoder ALBERT's form: layers that share weights, and a factorised embedding.

    What ALBERT's format can hold is saved as one, which transformers reads too. Sharing alone changes what a model
    says: with --train it learns from the model that it was made of to say that again. Stopped by Ctrl-C or killed at
    any moment, the same command goes on to the very weights of a run that was never stopped.
    """
    arguments = form.arguments() | healing.arguments()
    check_out(model, out, "shared")
    with working("reading the model"):
        from gossamer.recipes import share as make_shared
    heals = healing.train is not None
    with stoppable(str(out), as_json):
        new, receipt = make_shared(model, output=out if heals else None, measure=measure, remark=note, **arguments)
    if heals:
        show_result(new, receipt, out, out / "last", as_json=as_json)
    else:
        save_result(new, receipt, out, as_json=as_json)


def _start(start: str) -> str | int:
    if start == "average":
        return start
    try:
        return int(start)
    except ValueError:
        raise BadParameter(
            f"{quote(start)} is not average, or a layer of each group such as 0", param_hint="'--start'"
        ) from None
