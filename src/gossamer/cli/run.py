"""gossamer run TASK: every task by its name, or by the pipelines' name for it; the verbs are their short names."""

from __future__ import annotations

from typing import Any

import typer

from gossamer.cli.help_page import Verbs
from gossamer.cli.wording import wording

__all__ = ["RUN_TASKS", "several"]

RUN_TASKS = {
    "answer": "Answer a question from texts.",
    "classify": "Label texts, or pairs of texts.",
    "embed": "Turn texts into vectors.",
    "fill-mask": "The likeliest tokens under masks.",
    "generate": "Continue texts, or write texts about them.",
    "predict": "Label the rows of files by the model's own head.",
    "rank": "Sort texts by how well they fit a query.",
    "rewrite": "Write what a model makes of each text.",
    "score": "How likely a model finds texts.",
    "similar": "The nearest of many texts to a query.",
    "summarize": "Summarize texts.",
    "tag": "Names, parts of speech or other labels in texts.",
    "translate": "Translate texts.",
    "zero-shot": "Label texts with labels of your own.",
}


class _Tasks(Verbs):
    """The tasks, each of which is the verb of its name."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        from gossamer.cli.command import load_verb

        asked, *rest = args
        if asked not in RUN_TASKS:
            from gossamer.tasks.names import ALIASES, TRANSLATION

            if (pair := TRANSLATION.fullmatch(asked)) is not None:
                asked, rest = "translate", [*rest, "--from", pair[1], "--to", pair[2]]
            asked = ALIASES.get(asked, asked)
        name, _, _ = super().resolve_command(ctx, [asked])
        verb = load_verb(str(name))
        wording.take(verb)
        return name, verb, rest


def several() -> Any:
    """The verb: a command of one for each task."""
    app = typer.Typer(
        name="run",
        cls=_Tasks,
        add_completion=False,
        help="Run a task on texts, files or standard input; each task is a verb of its own, too.",
        epilog="Such as gossamer run tag MODEL rows.jsonl --out tagged.jsonl; all take --json and --out.",
    )
    app.callback(no_args_is_help=True)(lambda: None)
    for name, about in RUN_TASKS.items():
        app.command(name, help=about)(lambda: None)
    return typer.main.get_command(app)
