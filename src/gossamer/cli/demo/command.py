"""The verb: options in; a table, receipt.json and report.html out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from typer import Option

from gossamer.atomic_files import write_texts
from gossamer.cli.output import check_directory, note, print_json, show, working
from gossamer.errors import InputError

__all__ = ["demo"]

LONGEST = 2**20
SPEECHES = 60
LENGTHS = "512,1024,2048,4096,8192,16384"


def demo(
    out: Annotated[Path, Option(metavar="DIR", help="Where receipt.json and report.html go.")] = Path("demo"),
    all_speeches: Annotated[bool, Option("--all", help="Read all 233 speeches, not 60.")] = False,
    speeches: Annotated[int | None, Option(metavar="N", help=f"How many speeches to draw. [{SPEECHES}]")] = None,
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
    """A real 512-token encoder is lengthened, reads long speeches, and gives a receipt of what that brings."""
    timed = _lengths(lengths)
    if all_speeches and speeches is not None:
        raise InputError(f"--all reads all 233; leave out --speeches {speeches}")
    check_directory(out)
    with working("loading"):
        from gossamer.cli.demo.job import Settings, run
        from gossamer.cli.demo.pages import report_page, table_page

        settings = Settings(
            speeches=None if all_speeches else SPEECHES if speeches is None else speeches, seed=seed, model=model,
            to=to, window=window, lengths=timed, dtype=dtype,
        )  # fmt: skip
    receipt, pictures = run(settings)
    documents = {
        "receipt.json": json.dumps(receipt, indent=2, allow_nan=False),
        "report.html": report_page(receipt, pictures),
        **{f"{name}.svg": picture for name, picture in pictures.plots.items()},
    }
    with working(f"writing {out}"):
        _write(out, documents)
    if as_json:
        print_json(receipt)
    else:
        show(table_page(receipt, out))
    differences = [receipt["unchanged"][f"relative_difference{kind}"] or 0 for kind in ("", "_windowed_kernel")]
    if max(differences) > receipt["unchanged"]["allowed"]:
        note("the lengthened model changed short texts by more than it may: see unchanged in the receipt")


def _lengths(given: str) -> tuple[int, ...]:
    try:
        lengths = tuple(sorted({int(one) for one in given.split(",")}))
    except ValueError:
        lengths = ()
    if not lengths or lengths[0] < 1 or lengths[-1] > LONGEST:
        raise InputError(
            f"--lengths is {given!r}; it must be token counts from 1 to {LONGEST} with commas between, such as 512,4096"
        )
    return lengths


def _write(out: Path, documents: dict[str, str]) -> None:
    """Write all files, then put them in place: where one fails, the old ones all stay."""
    out.mkdir(parents=True, exist_ok=True)
    try:
        write_texts({out / name: text for name, text in documents.items()})
    except OSError as problem:
        raise OSError(problem.errno, f"{problem.strerror}; what was there is untouched", str(out)) from problem
