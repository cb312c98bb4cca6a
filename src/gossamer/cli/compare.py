"""gossamer compare: models side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from rich.text import Text
from typer import Argument, Option

from gossamer.cli.options import AsJson
from gossamer.cli.output import check_target, note, print_json, show, working
from gossamer.errors import InputError

__all__ = ["compare"]


def compare(
    models: Annotated[list[str], Argument(metavar="MODEL MODEL ...", help="Model directories, or ids on the hub.")],
    quick: Annotated[bool, Option("--quick", help="Count, and measure neither time nor memory.")] = False,
    html: Annotated[Path | None, Option(metavar="FILE", help="Write a page with a plot, too (.html).")] = None,
    as_json: AsJson = False,
) -> None:
    """Lay models side by side, the others relative to the first.

    Parameters, bytes on disk, FLOPs, what a data-parallel step sends, time (1 and 8 texts of 128 and 512 tokens, on one
    and two threads) and peak memory.
    """
    if len(models) < 2:
        raise InputError(f"{models[0]}: is one model; name two or more to compare")
    if html is not None:
        check_target(html, (".html",))
    with working("reading the models"):
        from gossamer.atomic_files import write_texts
        from gossamer.checkpoints import load
        from gossamer.recipes.receipts.comparison import compare as lay_side_by_side
        from gossamer.recipes.receipts.comparison import unique_names

        loaded = dict(zip(unique_names(models), map(load, models), strict=True))
    with working("comparing them" if quick else "measuring them in turn"):
        comparison = lay_side_by_side(loaded, latency=not quick, memory=not quick)
    if html is not None:
        write_texts({html: comparison.to_html()})
        note(f"{html}: written")
    if as_json:
        print_json(comparison.to_dict())
    else:
        show(Text(str(comparison), no_wrap=True, overflow="ignore"))
