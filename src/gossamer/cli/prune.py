"""gossamer prune: a model of which what matters least is 0."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from typer import BadParameter, Option

from gossamer.cli.by_layer import read_by_layer, read_numbers
from gossamer.cli.changes import Changes, read_changes
from gossamer.cli.columns import Columns, read_columns
from gossamer.cli.options import AsJson, ModelName, OptionGroup, grouped, held_out
from gossamer.cli.output import note, working
from gossamer.cli.results import check_out, save_result, show_result
from gossamer.cli.runs import Resume, ResumeOption, stoppable
from gossamer.errors import quote

__all__ = ["prune"]


class Scope(StrEnum):
    """Among what units are ranked."""

    row = "row"
    layer = "layer"
    whole = "global"


@dataclass(frozen=True, kw_only=True)
class Lesson(OptionGroup):
    """What is learnt meanwhile."""

    train: Annotated[
        list[Path] | None, Option("--train", metavar="FILE ...", help="Rows or texts to learn from; else at once.")
    ] = None
    evaluate: Annotated[
        list[str] | None,
        Option(metavar="FILE ...|SHARE", help="Texts or rows to evaluate on, or a share held out: 0.1."),
    ] = None
    samples: Annotated[int, Option(metavar="N", help="Rows that gradient and wanda read, without training.")] = 128
    refine: Annotated[
        bool, Option("--refine/--no-refine", help="Train on afterwards, half as long; what is 0 stays so.")
    ] = True
    teacher: Annotated[str | None, Option(metavar="MODEL", help="A model that is learnt from beside the rows.")] = None
    epochs: Annotated[float, Option(metavar="N", help="How often everything is read.")] = 6.0
    learning_rate: Annotated[float, Option(metavar="RATE", help="The highest, of weights.")] = 5e-5
    batch: Annotated[int, Option(metavar="N", help="Rows of a step.")] = 16
    length: Annotated[int | None, Option(metavar="N", help="Tokens of a row; as many as the model reads.")] = None
    head: Annotated[str | None, Option(metavar="KIND", help="The head to train; the columns tell.")] = None
    column: Columns = None
    change: Changes = None
    resume: ResumeOption = Resume.auto

    def arguments(self) -> dict[str, Any]:
        """What the recipe is called with; it refuses what it would not read."""
        return {
            "train": None if self.train is None else list(self.train), "evaluate": held_out(self.evaluate),
            "samples": self.samples, "refine": self.refine, "teacher": self.teacher, "epochs": self.epochs,
            "learning_rate": self.learning_rate, "batch": self.batch, "length": self.length, "head": self.head,
            "columns": read_columns(self.column), "settings": read_changes(self.change), "resume": self.resume.value,
            "remark": note,
        }  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Named(OptionGroup):
    """What is removed by name, in place of what matters least."""

    heads: Annotated[
        list[str] | None,
        Option(metavar="LAYER:NUMBERS ...", help="In place of all that, remove these heads: 0:1,2, counted from 0."),
    ] = None
    neurons: Annotated[
        list[str] | None, Option(metavar="LAYER:NUMBERS ...", help="Likewise these neurons of the feed-forward: 1:5-9.")
    ] = None
    layers: Annotated[str | None, Option(metavar="NUMBERS", help="Likewise these layers: 4,5.")] = None

    def arguments(self) -> dict[str, Any]:
        """What the recipe is called with."""
        return {
            "heads": read_by_layer("--heads", self.heads),
            "neurons": read_by_layer("--neurons", self.neurons),
            "layers": read_numbers("--layers", self.layers),
        }


@grouped
def prune(
    model: ModelName,
    out: Annotated[Path, Option(metavar="DIR", help="Where to save the pruned model; of a training it is DIR/last.")],
    *,
    score: Annotated[
        str, Option(metavar="NAME", help="magnitude, random; movement, soft-movement, l0; gradient, wanda.")
    ] = "movement",
    structure: Annotated[
        str, Option(metavar="NAME[,NAME]", help="weight, block, heads, neurons, layers, hybrid: what is removed whole.")
    ] = "weight",
    keep: Annotated[
        float | None, Option(metavar="SHARE", help="What stays, of everything of the structure; 0.1.")
    ] = None,
    latency: Annotated[
        float | None, Option(metavar="SHARE", help="Or what it may take, of the model's time, which is measured first.")
    ] = None,
    scope: Annotated[
        Scope, Option(metavar="WHICH", help="So much of each row, of each map, or of all: row, layer, global.")
    ] = Scope.layer,
    block: Annotated[str, Option(metavar="ROWS,COLUMNS", help="The size of a block.")] = "32,32",
    lesson: Lesson,
    seed: Annotated[int, Option(metavar="N", help="Of what is drawn.")] = 0,
    named: Named,
    measure: Annotated[bool, Option("--measure", help="Measure both models side by side, for minutes.")] = False,
    as_json: AsJson = False,
) -> None:
    """Set to 0 what matters least of a model's layers, by a score of single weights or of whole structures.

    With --train the model learns meanwhile, and what matters is learnt with it; without, weights are scored as they
    are. Embeddings and head stay whole. The pruned model has its format and its sizes: what is 0 takes as much time and
    as many bytes as before, until it is removed (gossamer compact). A training goes on exactly where it was stopped.
    Heads, neurons and layers that are named are removed at once.
    """
    sizes, arguments = _sizes(block), lesson.arguments() | named.arguments()
    structures = structure if structure == "weight" else structure.split(",")
    check_out(model, out, "pruned")
    with working("reading the model"):
        from gossamer.recipes import prune as make_sparse
        from gossamer.training.pruning.scores import is_calibrated
    is_training = lesson.train is not None and not is_calibrated(score)
    with stoppable(str(out), as_json):
        new, receipt = make_sparse(
            model, score=score, structure=structures, keep=keep, latency=latency, scope=scope.value, block=sizes,
            seed=seed, output=out if is_training else None, measure=measure, **arguments,
        )  # fmt: skip
    if is_training:
        show_result(new, receipt, out, out / "last", as_json=as_json)
    else:
        save_result(new, receipt, out, as_json=as_json)


def _sizes(block: str) -> tuple[int, ...]:
    try:
        return tuple(int(size) for size in block.split(","))
    except ValueError:
        raise BadParameter(f"{quote(block)} is not rows and columns such as 32,32", param_hint="'--block'") from None
