"""The verb: options in; a table, receipt.json and report.html out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import IO, Annotated

from typer import Option

from gossamer.cli.output import note, print_json, show, working, write_whole
from gossamer.errors import InputError

__all__ = ["demo"]

LENGTHS = "512,1024,2048,4096,8192,16384"


def demo(
    out: Annotated[Path, Option(metavar="DIR", help="Where receipt.json and report.html go.")] = Path("demo"),
    all_speeches: Annotated[bool, Option("--all", help="Read all 233 speeches, not 60.")] = False,
    speeches: Annotated[int, Option(metavar="N", help="How many speeches to draw.")] = 60,
    seed: Annotated[int, Option(metavar="N", help="Draws the speeches and the passages.")] = 0,
    model: Annotated[
        str | None, Option(metavar="MODEL", help="An encoder other than the sample, MiniLM of 512 tokens.")
    ] = None,
    to: Annotated[int, Option(metavar="N", help="Tokens that the lengthened model reads.")] = 8192,
    window: Annotated[int, Option(metavar="N", help="Its attention window.")] = 512,
    lengths: Annotated[str, Option(metavar="N,N...", help="Lengths at which to time both models.")] = LENGTHS,
    dtype: Annotated[str, Option(metavar="TYPE", help="float32, bfloat16, ...")] = "float32",
    as_json: Annotated[bool, Option("--json", help="Print the receipt as one JSON document.")] = False,
) -> None:
    """A real 512-token encoder is lengthened, reads long speeches whole, and gives a receipt of what that brings."""
    timed = _lengths(lengths)
    _prepare(out)
    with working("loading"):
        from gossamer.cli.demo.job import Settings, run
        from gossamer.cli.demo.pages import report_page, table_page

        settings = Settings(
            speeches=None if all_speeches else speeches, seed=seed, model=model, to=to, window=window,
            lengths=timed, dtype=dtype,
        )  # fmt: skip
    receipt, pictures = run(settings)
    _write(out / "receipt.json", json.dumps(receipt, indent=2, allow_nan=False))
    _write(out / "report.html", report_page(receipt, pictures))
    for name, picture in pictures.plots.items():
        _write(out / f"{name}.svg", picture)
    if as_json:
        print_json(receipt)
    else:
        show(table_page(receipt, out))
    if receipt["unchanged"]["relative_difference"] > receipt["unchanged"]["allowed"]:
        note("the lengthened model changed short texts by more than it may: see unchanged in the receipt")


def _lengths(given: str) -> tuple[int, ...]:
    try:
        lengths = tuple(sorted({int(one) for one in given.split(",")}))
    except ValueError:
        lengths = ()
    if not lengths or lengths[0] < 1:
        raise InputError(f"--lengths is {given!r}; it must be token counts with commas between, such as 512,4096")
    return lengths


def _prepare(out: Path) -> None:
    """Find out before the work, not after it, that the results cannot be written."""
    if out.exists() and not out.is_dir():
        raise InputError(f"--out is {str(out)!r}, a file; name a directory")
    out.mkdir(parents=True, exist_ok=True)


def _write(path: Path, text: str) -> None:
    def write(file: IO[bytes]) -> None:
        file.write(text.encode())

    write_whole(path, write)
