"""gossamer summary: what a model is made of, and what it costs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, BadParameter, Option

from gossamer.cli.options import AsJson, ModelName
from gossamer.cli.output import check_target, note, print_json, show, working
from gossamer.errors import InputError, quote

__all__ = ["summary"]


def summary(
    model: ModelName,
    other: Annotated[
        str | None, Argument(metavar="[OTHER]", help="A second model, beside the first on the page of --html.")
    ] = None,
    lengths: Annotated[
        str, Option(metavar="N,N,...", help="Text lengths in tokens at which to tell the cost.")
    ] = "512,4096,16384",
    html: Annotated[
        Path | None, Option(metavar="FILE", help="Write a page instead: parts, patterns, cost of each layer (.html).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """What a model is made of, what it weighs, and what reading a text takes.

    Parameters and bytes of every part; FLOPs and memory at the lengths asked for, compared with full attention.
    """
    numbers = _numbers(lengths)
    if html is not None:
        check_target(html, (".html",))
    elif other is not None:
        raise InputError(
            f"{other}: a second model stands beside the first on a page: add --html FILE, or run gossamer compare"
        )
    with working("reading the model" if other is None else "reading the models"):
        from gossamer.checkpoints import load
        from gossamer.inspection import summary as summarize

        summarized = summarize(load(model), numbers)
        beside = None if other is None else summarize(load(other), numbers)
    if html is not None:
        with working("writing the page"):
            summarized.save(html, beside)
        note(f"{html}: {html.stat().st_size / 1000:,.0f} kB")
    if as_json:
        told = summarized.to_dict()
        print_json(told if beside is None else {"models": [told, beside.to_dict()]})
    elif html is None:
        show(summarized)


def _numbers(lengths: str) -> list[int]:
    try:
        numbers = [int(number) for number in lengths.split(",")]
    except ValueError:
        raise BadParameter(
            f"{quote(lengths)} is not a list of numbers such as 512,4096", param_hint="'--lengths'"
        ) from None
    if any(number < 1 for number in numbers):
        raise BadParameter(
            f"{quote(lengths)} has {quote(min(numbers))}; each must be 1 or more tokens", param_hint="'--lengths'"
        )
    return numbers
