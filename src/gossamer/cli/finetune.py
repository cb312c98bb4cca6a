"""gossamer finetune: a pretrained model and labelled rows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from rich.text import Text
from typer import Option

from gossamer.cli.changes import Changes, read_changes
from gossamer.cli.columns import Columns, read_columns
from gossamer.cli.options import AsJson, ModelName, held_out
from gossamer.cli.output import check_directory, note, print_json, show, working
from gossamer.cli.runs import Resume, ResumeOption, stoppable
from gossamer.training.launched import is_first_process

__all__ = ["finetune"]


def finetune(
    model: ModelName,
    train: Annotated[list[Path], Option(metavar="FILE", help="Rows: jsonl, json, csv, tsv, parquet.")],
    out: Annotated[Path, Option(metavar="DIR", help="Where the run and its models are written.")],
    evaluate: Annotated[
        list[str] | None, Option(metavar="FILE|SHARE", help="Rows to evaluate on, or a share held out: 0.1.")
    ] = None,
    epochs: Annotated[float, Option(metavar="N", help="How many times every row is read.")] = 3,
    learning_rate: Annotated[float, Option(metavar="RATE", help="The highest.")] = 5e-5,
    batch: Annotated[int, Option(metavar="N", help="Rows of a step.")] = 16,
    length: Annotated[int | None, Option(metavar="N", help="Tokens of a row; as many as the model reads.")] = None,
    head: Annotated[str | None, Option(metavar="KIND", help="The head to train; the columns tell.")] = None,
    label: Annotated[list[str] | None, Option(metavar="NAME", help="All labels, in order; those of the rows.")] = None,
    column: Columns = None,
    metric: Annotated[str | None, Option(metavar="NAME", help="A score that chooses the best epoch: accuracy.")] = None,
    patience: Annotated[int | None, Option(metavar="N", help="Epochs without a better one; then it ends.")] = None,
    measure: Annotated[bool, Option("--measure", help="Measure the model before and after, for minutes.")] = (False),
    seed: Annotated[int, Option(metavar="N", help="Of the head, the order and dropout.")] = 0,
    change: Changes = None,
    resume: ResumeOption = Resume.auto,
    as_json: AsJson = False,
) -> None:
    """Fine-tune a pretrained model on rows: classes, several labels, numbers, tags of words, answers, vectors.

    The head follows the rows' columns: a text and a label or a score, tokens and tags, question, context and answers,
    or two texts that a sentence encoder brings together, such as query and positive. The run goes on exactly where it
    was stopped. DIR/last is the model, DIR/best that of the best epoch.
    """
    check_directory(out)
    columns, changes = read_columns(column), read_changes(change)
    with working("reading the model"):
        from gossamer.recipes import finetune as tune
    with stoppable(str(out), as_json):
        _, receipt = tune(
            model, train, held_out(evaluate), epochs=epochs, output=out, head=head, labels=label, columns=columns,
            learning_rate=learning_rate, batch=batch, length=length, metric=metric, patience=patience, seed=seed,
            measure=measure, settings=changes, resume=resume.value, remark=note,
        )  # fmt: skip
    if as_json and is_first_process():
        print_json({"out": str(out), "receipt": receipt.to_dict()})
    elif is_first_process():
        where = Text.assemble("saved in ", (str(out), "bold"), no_wrap=True, overflow="ignore")
        show(Text.assemble(f"{receipt}\n", where))
