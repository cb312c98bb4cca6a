"""The command itself: which verbs there are, and what every failure looks like.

Exit codes: 0 done; 1 a bug; 2 something to be put right by the caller (arguments, files, models, a full disk);
130 interrupted; 141 the reader of the output went away. Every failure is one line on stderr; with `--json` stdout
holds `{"error": {"type", "message"}}` as well. GOSSAMER_DEBUG=1 shows the traceback.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any

import typer

from gossamer import __version__
from gossamer.cli import output
from gossamer.cli.help_page import Verb, Verbs
from gossamer.errors import GossamerError, clean_line, quote

__all__ = ["main", "run"]

VERBS = {
    "demo": "A real encoder of 512 tokens reads long speeches, with a receipt.",
    "summary": "What a model is made of, weighs, and costs at any length.",
    "lengthen": "Make a pretrained encoder read longer texts.",
    "embed": "Turn texts of any length into vectors.",
    "fill-mask": "The likeliest tokens under the masks of texts of any length.",
    "classify": "Label texts, or pairs of texts, of any length.",
    "tag": "Names, parts of speech or other labels in texts of any length.",
    "answer": "Answer a question from texts of any length.",
    "generate": "Continue texts with a decoder.",
    "attention": "What the tokens of a text attend to, by layer and head.",
    "tokenizer": "Train a tokenizer, or see how one cuts a text.",
    "tokenize": "Turn texts into a token file to train on.",
    "train": "Train a language model as a config says; stopped, it goes on exactly.",
    "estimate": "What a training takes of memory and time, before it begins.",
    "env": "Versions, processor, devices, folders: for a bug report.",
}

UsageError: type[Exception] = typer.BadParameter.__mro__[1]
"""What typer raises for arguments it cannot read; it has no public name."""


class LazyVerbs(Verbs):
    """Lists the verbs without importing them; the one that is called comes from the file of its name."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        return name, command if name is None else load_verb(name), rest


def load_verb(name: str) -> Any:
    """The command in `gossamer.cli.<name>`, - read as _: its function of that name, of its COMMAND class, if any.

    A verb of several commands builds its own with a function `several`.
    """
    own_name = name.replace("-", "_")
    module = import_module(f"gossamer.cli.{own_name}")
    if hasattr(module, "several"):
        return module.several()
    alone = typer.Typer(add_completion=False)
    alone.command(name, cls=getattr(module, "COMMAND", Verb), no_args_is_help=name not in ("demo", "env"))(
        getattr(module, own_name)
    )
    return typer.main.get_command(alone)


def _show_version(asked: bool) -> None:
    if asked:
        print(f"gossamer {__version__}")
        raise typer.Exit


def build() -> Any:
    """The whole command."""
    app = typer.Typer(
        cls=LazyVerbs,
        add_completion=False,
        context_settings={"help_option_names": ["--help", "-h"]},
        help="Long, lean and fast transformers, from real pretrained models.",
        epilog="Every verb takes --json: one JSON document on stdout, all else on stderr.",
    )

    @app.callback(no_args_is_help=True)
    def gossamer(
        version: bool = typer.Option(
            False, "--version", help="Print the version.", callback=_show_version, is_eager=True
        ),
    ) -> None:
        pass

    for name, text in VERBS.items():
        app.command(name, help=text)(lambda: None)
    return typer.main.get_command(app)


def main() -> None:
    """The entry point."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the caller, as by `>&-`
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    sys.exit(run(sys.argv[1:]))


def run(args: Sequence[str]) -> int:
    """Run one command line; returns the exit code. Nothing but a wish for a traceback lets an exception out."""
    as_json = output.wants_json(args)
    try:
        command = build()
        with output.telling_remarks(), command.make_context("gossamer", list(args)) as context:
            command.invoke(context)
        sys.stdout.flush()
        return 0
    except typer.Exit as end:
        return end.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return _fail("Interrupt", "interrupted", 130, as_json)
    except BrokenPipeError:
        _discard_output()
        return 141
    except Exception as problem:
        if type(problem).__name__ == "NoArgsIsHelpError":  # typer has printed the help by now
            return 2
        if os.environ.get("GOSSAMER_DEBUG") == "1":
            traceback.print_exc()
        return _fail(type(problem).__name__, *_explain(problem), as_json)


def _explain(problem: Exception) -> tuple[str, int]:
    """One line and the exit code."""
    if isinstance(problem, GossamerError):
        return str(problem), 2
    if isinstance(problem, UsageError):
        return _usage(problem), 2
    if isinstance(problem, OSError):
        why = problem.strerror or str(problem)
        if problem.filename:
            return f"{problem.filename}: {why}", 2
        return f"the output could not be written ({why}): free some space or write it elsewhere", 2
    if isinstance(problem, MemoryError) or _is_torch_memory(problem):
        return "out of memory; read shorter or fewer texts at once", 2
    return f"{type(problem).__name__}: {problem} (a bug: GOSSAMER_DEBUG=1 shows where; please report it)", 1


def _is_torch_memory(problem: Exception) -> bool:
    """torch has an exception of its own for devices, and a plain RuntimeError for the CPU."""
    return type(problem).__name__ == "OutOfMemoryError" or "DefaultCPUAllocator" in str(problem)


def _usage(problem: Any) -> str:
    context = getattr(problem, "ctx", None)
    path = context.command_path if context is not None else "gossamer"
    message = _no_number(problem) or problem.format_message().replace("Value error, ", "").rstrip(".")
    return f"{message}; see '{path} --help'"


def _no_number(problem: Any) -> str | None:
    """typer's words for what is no whole number keep the value to themselves; its cause tells it."""
    cause, option = problem.__cause__, getattr(problem, "param", None)
    details = cause.errors()[0] if hasattr(cause, "errors") else {}
    if option is None or not str(details.get("type")).startswith("int_"):
        return None
    example = option.default if isinstance(option.default, int) else 256
    return f"{option.opts[0]} is {quote(details['input'])}; it must be a whole number such as {example}"


def _fail(kind: str, message: str, code: int, as_json: bool) -> int:
    line = clean_line(message)
    print(f"gossamer: {line}", file=sys.stderr)
    try:
        if as_json:
            output.print_json({"error": {"type": kind, "message": line}})
        sys.stdout.flush()
    except (OSError, ValueError):
        _discard_output()
    return code


def _discard_output() -> None:
    """Point stdout at nothing: Python writes what is still buffered on its way out, and would complain once more."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
