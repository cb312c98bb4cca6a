"""gossamer generate: texts, continued, shown while they are written."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from gossamer.cli.options import AsJson, Loading, ModelName, TextFiles, check_count, grouped
from gossamer.cli.output import harmless, note, print_json, progress, working
from gossamer.cli.task_pages import remark
from gossamer.cli.texts import TakesFiles, Text, carried
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
    max_new_tokens: Annotated[int, Option(metavar="N", help="Tokens to generate for each text.")] = 128,
    temperature: Annotated[float, Option(metavar="T", help="0: always the likeliest token.")] = 1.0,
    top_k: Annotated[int | None, Option(metavar="N", help="Draw from the N likeliest tokens alone.")] = None,
    top_p: Annotated[
        float, Option(metavar="P", help="Draw from the fewest tokens that are as likely as P together; 1: from all.")
    ] = 0.95,
    stop: Annotated[
        list[str] | None, Option(metavar="TEXT", help=r"End before this (\n: a line's end); several times.")
    ] = None,
    seed: Annotated[int | None, Option(metavar="N", help="Same seed, same texts; drawn unless given.")] = None,
    loading: Loading,
    as_json: AsJson = False,
) -> None:
    """Continue texts with a decoder. One text is shown while it is written."""
    check_count("--max-new-tokens", max_new_tokens)
    check_count("--top-k", top_k)
    prompts = [_without_last_break(text) for text in files.read([*(texts or []), *(prompt or [])])]
    with working("reading the model"):
        from gossamer.generation.sampling import Sampling

        Sampling(temperature=temperature, top_k=top_k, top_p=top_p)
    loaded = loading.load(model)
    options: dict[str, Any] = {
        "max_new_tokens": max_new_tokens,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "stop": [text.replace("\\n", "\n") for text in stop or []],
        "seed": seed,
    }
    try:
        generated = _run(loaded, prompts, options, shown=len(prompts) == 1 and not as_json)
    except InputError as problem:
        raise InputError(_named(str(problem), prompts)) from problem
    _report(prompts, generated, as_json)
    if not as_json:
        _tell_speed_and_seed(generated, drawn=seed is None and temperature > 0)


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
                told(done, len(prompts) * options["max_new_tokens"])
        return under_way.result
    under_way = run(model, prompts, **options, stream=True)
    for i, piece in enumerate(under_way):
        if i == 0:
            _write_prompt(prompts[0])
        _write(piece.text)
    _write("\n")
    return under_way.result


def _report(texts: list[Text], generated: Generated, as_json: bool) -> None:
    notes = [_named(said, texts) for said in generated.notes]
    continued = generated.texts or []
    if as_json:
        print_json({"texts": _rows(texts, generated), "notes": notes} | _speed(generated))
    elif len(texts) > 1:
        for prompt, text in zip(texts, continued, strict=True):
            _write_prompt(prompt.text)
            _write(f"{text}\n\n")
    remark(notes)


def _tell_speed_and_seed(generated: Generated, drawn: bool) -> None:
    """The speed on a terminal; the seed there, and wherever nobody gave the one that the texts were drawn with."""
    seed = f"seed {generated.seeds[0]}"
    if sys.stdout.isatty():
        note(f"{plural(sum(map(len, generated.ids)), 'token')} at {generated.tokens_per_second:,.1f} a second, {seed}")
    elif drawn:
        note(f"{seed}: the same again with --{seed}")


def _rows(texts: list[Text], generated: Generated) -> list[dict[str, Any]]:
    fields = generated.to_dict()
    names = {"texts": "text", "ids": "ids", "tokens": "tokens", "stopped": "stopped", "stop": "stop", "seeds": "seed"}
    return [
        {"source": text.source, "prompt": text.text}
        | carried(text.fields, ("source", "prompt", *names.values()))
        | {name: fields[field][i] for field, name in names.items()}
        for i, text in enumerate(texts)
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
