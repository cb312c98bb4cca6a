"""The command: which verbs there are, and what every failure looks like.

Exit codes: 0 done; 1 a bug; 2 something to be put right by the caller (arguments, files, models, a full disk);
130 interrupted; 143 ended by SIGTERM; 141 the reader of the output went away. Every failure is one line on stderr;
with `--json` stdout holds `{"error": {"type", "message"}}` as well. GOSSAMER_DEBUG=1 shows the traceback.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from types import FrameType
from typing import Annotated, Any

import typer

from gossamer import __version__
from gossamer.cli import output
from gossamer.cli.help_page import Verb, Verbs
from gossamer.cli.wording import wording
from gossamer.errors import GossamerError, clean_line, quote

__all__ = ["VERBS", "load_verb", "run"]

VERBS = {
    "demo": "A real encoder of 512 tokens reads long speeches, with a receipt.",
    "summary": "What a model is made of, weighs, and costs at any length.",
    "compare": "Models side by side: size, FLOPs, time, memory.",
    "lengthen": "Make a pretrained encoder read longer texts.",
    "compact": "Remove what is zero from a model: heads, neurons, layers.",
    "embed": "Turn texts of any length into vectors.",
    "fill-mask": "The likeliest tokens under the masks of texts of any length.",
    "classify": "Label texts, or pairs of texts, of any length.",
    "tag": "Names, parts of speech or other labels in texts of any length.",
    "answer": "Answer a question from texts of any length.",
    "zero-shot": "Label texts with labels of your own.",
    "rank": "Sort texts by how well they fit a query.",
    "similar": "The nearest of many texts to a query.",
    "summarize": "Summarize texts of any length.",
    "translate": "Translate texts of any length.",
    "rewrite": "Write what a model makes of each text.",
    "score": "How likely a model finds texts: log-likelihood, perplexity.",
    "generate": "Continue texts, or write texts about them.",
    "run": "Any of these tasks by its name: gossamer run tag MODEL FILE.",
    "attention": "What the tokens of a text attend to, by layer and head.",
    "inspect": "A page that shows what every token attends to.",
    "export": "A model as a graph: ONNX or torch.export, checked.",
    "tokenizer": "Train a tokenizer, or see how one cuts a text.",
    "tokenize": "Turn texts into a token file to train on.",
    "train": "Train a language model as a config says; stopped, it goes on exactly.",
    "finetune": "Fine-tune a pretrained model on labelled rows.",
    "evaluate": "The scores of a model's head on labelled rows.",
    "predict": "Label the rows of files, which are written with scores.",
    "distill": "A smaller model that learns from a larger one; stopped, it goes on exactly.",
    "trim": "Cut a model's vocabulary to what texts use.",
    "prune": "Set to 0 what matters least of a model's layers.",
    "share": "A model in ALBERT's form: shared layers, a factorised embedding.",
    "download": "Bring a model from the hub into a folder, whole and checked.",
    "upload": "Send a model to the hub, in one commit.",
    "estimate": "What a training takes of memory and time, before it begins.",
    "env": "Versions, processor, devices, folders: for a bug report.",
    "help": "The page of a verb: gossamer help embed.",
}

COMPLETION = "_GOSSAMER_COMPLETE"

UsageError: type[Exception] = typer.BadParameter.__mro__[1]
"""What typer raises for arguments it cannot read; it has no public name."""


class LazyVerbs(Verbs):
    """Lists the verbs without importing them; the one that is called comes from the file of its name."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        verb = command if name is None else load_verb(name)
        wording.take(verb)
        return name, verb, rest


def load_verb(name: str) -> Any:
    """The command in `gossamer.cli.<name>`, - read as _: its function of that name, of its COMMAND class, if any.

    A verb of several commands builds its own with a function `several`.
    """
    if name == "help":
        return _help()
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


class Help(Verb):
    """`gossamer help tokenizer show` is `gossamer tokenizer show --help`."""

    def invoke(self, ctx: Any) -> None:
        command, context = ctx.parent.command, ctx.parent
        for name in ctx.params["verb"] or []:
            if not isinstance(command, Verbs):
                raise typer.BadParameter(f"{context.command_path!r} has no verbs of its own", ctx=context)
            _, command, _ = command.resolve_command(context, [name])
            context = command.make_context(name, [], parent=context, resilient_parsing=True)
        command.format_help(context, context.make_formatter())


def _help() -> Any:
    app = typer.Typer(add_completion=False)

    @app.command("help", cls=Help)
    def help_of(
        verb: Annotated[list[str] | None, typer.Argument(metavar="[VERB ...]", help="The verb to explain.")] = None,
    ) -> None:
        """The page of a verb, or of the whole command."""

    return typer.main.get_command(app)


def build() -> Any:
    """The whole command."""
    app = typer.Typer(
        cls=LazyVerbs,
        context_settings={"help_option_names": ["--help", "-h"]},
        help="Long, lean and fast transformers, from real pretrained models.",
        epilog="Every verb takes --json: one JSON document on stdout, all else on stderr.",
    )

    @app.callback(no_args_is_help=True)
    def gossamer(
        version: bool = typer.Option(
            False, "--version", "-V", help="Print the version.", callback=_show_version, is_eager=True
        ),
    ) -> None:
        pass

    for name, text in VERBS.items():
        app.command(name, help=text)(lambda: None)
    return typer.main.get_command(app)


def run(args: Sequence[str]) -> int:
    """Run one command line; returns the exit code. Nothing but a wish for a traceback lets an exception out."""
    as_json = output.wants_json(args)
    try:
        with _sigterm_ends():
            return _run(args)
    except typer.Exit as end:
        return end.exit_code
    except Terminated:
        return _fail("Terminated", "ended by SIGTERM", 143, as_json)
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
        return _fail(type(problem).__name__, *_explain(problem, args), as_json)


def _run(args: Sequence[str]) -> int:
    command = build()
    if COMPLETION in os.environ:  # a shell asks what could come next
        command.main(args=[], prog_name="gossamer", complete_var=COMPLETION)
    with output.telling_remarks(), command.make_context("gossamer", list(args)) as context:
        command.invoke(context)
    sys.stdout.flush()
    return 0


class Terminated(KeyboardInterrupt):
    """SIGTERM: what an interrupt would leave behind is left behind, and nothing half-written."""


@contextmanager
def _sigterm_ends() -> Iterator[None]:
    """Inside the block SIGTERM raises `Terminated`, unless somebody handles it."""
    is_ours = threading.current_thread() is threading.main_thread()
    if not is_ours or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        while frame is not None:
            if frame.f_code.co_filename.startswith("<frozen importlib"):  # compiled modules would swallow it
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                signal.raise_signal(signal.SIGTERM)
            frame = frame.f_back
        raise Terminated

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _explain(problem: Exception, args: Sequence[str]) -> tuple[str, int]:
    """One line and the exit code."""
    if isinstance(problem, GossamerError):
        return wording(str(problem)), 2
    if isinstance(problem, UsageError):
        return _usage(problem), 2
    if isinstance(problem, OSError):
        why = problem.strerror or str(problem)
        if problem.filename:
            return f"{problem.filename}: {why}", 2
        return f"the output could not be written ({why}): free some space or write it elsewhere", 2
    if isinstance(problem, MemoryError) or _is_torch_memory(problem):
        return "out of memory; read shorter or fewer texts at once", 2
    if isinstance(problem, UnicodeEncodeError) and (halves := [arg for arg in args if not _is_unicode(arg)]):
        return f"{quote(halves[0])} holds bytes that are no UTF-8, or half a surrogate pair; write it in UTF-8", 2
    return f"{type(problem).__name__}: {problem} (a bug: GOSSAMER_DEBUG=1 shows where; please report it)", 1


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


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
