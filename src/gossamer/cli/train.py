"""gossamer train: a model from a config, to be stopped and resumed at will."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from rich.text import Text
from typer import Argument, Option

from gossamer.cli.changes import Changes, read_changes
from gossamer.cli.options import AsJson
from gossamer.cli.output import check_directory, harmless, note, print_json, show, working
from gossamer.cli.runs import Resume, ResumeOption, stoppable
from gossamer.training.launched import is_first_process

__all__ = ["train"]


def train(
    config: Annotated[Path, Argument(metavar="CONFIG.yaml", help="Model, data and settings of the run.")],
    out: Annotated[Path | None, Option(metavar="DIR", help="Where to write, instead of the config's output.")] = None,
    change: Changes = None,
    resume: ResumeOption = Resume.auto,
    as_json: AsJson = False,
) -> None:
    """Train a language model, a classifier or a tagger as a config says.

    The run writes checkpoints; stopped by Ctrl-C or killed at any moment, the same command goes on to the very weights
    of a run that was never stopped. Under torchrun or accelerate launch it runs in several processes. The output folder
    gets the model (last, and best on held-out text), journal.jsonl, loss.svg and receipt.json.
    """
    changes = read_changes(change)
    if out is not None:
        check_directory(out)
        changes["output"] = str(out)
    with working("reading the settings"):
        from gossamer.training.config import TrainingConfig
        from gossamer.training.loop import train as run

        settings = TrainingConfig.read(config, changes)
    with stoppable(settings.output, as_json):
        _, receipt = run(settings, resume=resume.value, remark=note)
    if not is_first_process():
        return
    if as_json:
        print_json({"out": settings.output, "receipt": receipt.to_dict()})
    else:
        where = Text.assemble("saved in ", (settings.output, "bold"), no_wrap=True, overflow="ignore")
        show(Text.assemble(*([f"{harmless(receipt.sample)}\n\n"] if receipt.sample else []), f"{receipt}\n", where))
