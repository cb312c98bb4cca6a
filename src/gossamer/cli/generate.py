"""gossamer generate: texts, continued, shown while they are written."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from gossamer.cli.options import AsJson, Loading, ModelName, Out, TextFiles, grouped
from gossamer.cli.output import harmless, note, print_json, progress, working
from gossamer.cli.task_pages import remark
from gossamer.cli.task_runs import Page, TaskRun, check_out
from gossamer.cli.texts import TakesFiles, Text, carried
from gossamer.cli.writing import Writing
from gossamer.errors import InputError, plural

if TYPE_CHECKING:
    from gossamer.generation import Generated
    from gossamer.models import Model

__all__ = ["COMMAND", "generate"]

COMMAND = TakesFiles
SHOWN = 400
"""Characters of a prompt that are shown before its continuation: the last ones."""
BOLD, NORMAL = "\033[1m", "\033[0m"


@grouped
def generate(
    model: ModelName,
    texts: Annotated[list[str] | None, Argument(metavar="[TEXT ...]", help="Texts to continue.")] = None,
    prompt: Annotated[
        list[str] | None, Option("--prompt", "-p", metavar="TEXT", help="The same; may be given several times.")
    ] = None,
    *,
    files: TextFiles,
    writing: Writing,
    loading: Loading,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Continue texts with a decoder, or write texts about them with an encoder and decoder; shown while it is written.

    What is not asked for is as the model's generation_config.json has it.
    """
    if out is not None:
        _write_rows(model, files, [*(texts or []), *(prompt or [])], writing, loading, out, as_json)
        return
    prompts = [_without_last_break(text) for text in files.read([*(texts or []), *(prompt or [])])]
    with working("reading the model"):
        options = writing.arguments()
    loaded = loading.load(model)
    try:
        shown = len(prompts) == 1 and options["beams"] is None and not as_json
        generated = _run(loaded, prompts, options, shown=shown)
    except InputError as problem:
        raise InputError(_named(str(problem), prompts)) from problem
    if as_json:
        notes = [_named(said, prompts) for said in generated.notes]
        print_json({"texts": _rows(prompts, generated), "notes": notes} | _speed(generated))
    elif not shown:
        _write_all(prompts, generated, follows=loaded.decoder is None)
    remark([_named(said, prompts) for said in generated.notes])
    if not as_json:
        _tell_speed_and_seed(generated, drawn=writing.seed is None and generated.drawn)


def _write_rows(
    model: str, files: TextFiles, arguments: list[str], writing: Writing, loading: Loading, out: Path, as_json: bool
) -> None:
    """A row for each text, as texts come."""
    check_out(out, files.inputs(arguments))
    with working("reading the model"):
        options = writing.arguments()
    prompts = files.stream(arguments)
    loaded = loading.load(model)
    from gossamer.tasks import task

    TaskRun(
        task=task("generate", loaded), page=Page(), out=out, as_json=as_json,
        item=lambda text: _without_last_break(text).text,
        rows=lambda text, result: _rows([_without_last_break(text)], result),
    ).run(prompts, options)  # fmt: skip


def _without_last_break(text: Text) -> Text:
    """Editors end files with a line break that nobody means as part of a prompt."""
    return replace(text, text=text.text.removesuffix("\n").removesuffix("\r")) if text.whole else text


def _run(model: Model, texts: list[Text], options: dict[str, Any], shown: bool) -> Generated:
    """Generate; write the text as it comes where there is only one to be shown."""
    from gossamer.generation import generate as run

    prompts = [text.text for text in texts]
    if not shown:
        with progress("generating") as told:
            under_way, done = run(model, prompts, **options, stream=True), 0
            for piece in under_way:
                done += len(piece.ids)
                told(done, under_way.most)
        return under_way.result
    under_way = run(model, prompts, **options, stream=True)
    for i, piece in enumerate(under_way):
        if i == 0 and model.decoder is None:
            _write_prompt(prompts[0])
        _write(piece.text)
    _write("\n")
    return under_way.result


def _write_all(texts: list[Text], generated: Generated, *, follows: bool) -> None:
    """Every text after its prompt, which it `follows`; those that are written about a text alone, a line each."""
    for i, text in zip(generated.prompts, generated.texts or [], strict=True):
        if follows:
            _write_prompt(texts[i].text)
        _write(f"{text}\n\n" if follows else f"{text}\n")


def _tell_speed_and_seed(generated: Generated, drawn: bool) -> None:
    """The speed on a terminal; the seed there, and wherever nobody gave the one that the texts were drawn with."""
    seed = f"seed {generated.seeds[0]}"
    if sys.stdout.isatty():
        note(f"{plural(sum(map(len, generated.ids)), 'token')} at {generated.tokens_per_second:,.1f} a second, {seed}")
    elif drawn:
        note(f"{seed}: the same again with --{seed}")


def _rows(texts: list[Text], generated: Generated) -> list[dict[str, Any]]:
    fields, scores = generated.to_dict(), generated.scores
    names = {"texts": "text", "ids": "ids", "tokens": "tokens", "stopped": "stopped", "stop": "stop", "seeds": "seed"}
    return [
        {"source": texts[prompt].source, "prompt": texts[prompt].text}
        | carried(texts[prompt].fields, ("source", "prompt", *names.values()))
        | {name: fields[field][i] for field, name in names.items()}
        | ({} if scores is None else {"score": scores[i]})
        for i, prompt in enumerate(generated.prompts)
    ]


def _speed(generated: Generated) -> dict[str, float]:
    return {"seconds": generated.seconds, "tokens_per_second": generated.tokens_per_second}


def _named(said: str, texts: list[Text]) -> str:
    """A remark with where a text came from in place of its number."""
    return re.sub(r"^prompt (\d+)\b", lambda number: texts[int(number[1])].source, said)


def _write_prompt(text: str) -> None:
    shown = text if len(text) <= SHOWN else f"…{text[-SHOWN:]}"
    if sys.stdout.isatty():
        sys.stdout.write(f"{BOLD}{harmless(shown)}{NORMAL}")
    else:
        sys.stdout.write(shown)


def _write(text: str) -> None:
    """A piece of text, at once; on a terminal without what would move its cursor or change its colours."""
    sys.stdout.write(harmless(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()
