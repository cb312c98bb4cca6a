"""gossamer summary: what a model is made of, and what it costs."""

from __future__ import annotations

from typing import Annotated

from typer import BadParameter, Option

from gossamer.cli.options import AsJson, ModelName
from gossamer.cli.output import print_json, show, working
from gossamer.errors import quote

__all__ = ["summary"]


def summary(
    model: ModelName,
    lengths: Annotated[
        str, Option(metavar="N,N,...", help="Text lengths in tokens at which to tell the cost.")
    ] = "512,4096,16384",
    as_json: AsJson = False,
) -> None:
    """What a model is made of, what it weighs, and what reading a text takes.

    Parameters and bytes of every part; FLOPs and memory at the lengths asked for, compared with full attention.
    """
    numbers = _numbers(lengths)
    with working("reading the model"):
        from gossamer.checkpoints import load
        from gossamer.inspection import summary as summarize

        summarized = summarize(load(model), numbers)
    if as_json:
        print_json(summarized.to_dict())
    else:
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
