"""gossamer tokenize: texts of any size to one token file, which training maps into memory."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from rich.console import Console, Group
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.text import Text as Styled
from typer import Argument, Option

from gossamer.cli import output
from gossamer.cli.options import AsJson, Format
from gossamer.cli.output import check_target, note, print_json, show, working
from gossamer.cli.texts import stdin_stream
from gossamer.errors import plural

if TYPE_CHECKING:
    from gossamer.text import TokenFile, Tokenizer

__all__ = ["tokenize"]

MEGABYTE = 10**6


class Split(StrEnum):
    """What a document of a text file is."""

    file = "file"
    lines = "lines"
    paragraphs = "paragraphs"


def tokenize(
    inputs: Annotated[
        list[str],
        Argument(metavar="INPUT ...", help="Files: txt, md, jsonl, csv ..., packed too; -: stdin; speeches."),
    ],
    tokenizer: Annotated[
        str, Option(metavar="NAME", help="bytes, a model's or tokenizer's directory, or an id on the hub.")
    ],
    out: Annotated[Path, Option(metavar="FILE", help="Where to write the tokens: .tokens.")],
    split: Annotated[
        Split, Option(metavar="HOW", help="A document of a text file: the whole file, its lines or its paragraphs.")
    ] = Split.file,
    field: Annotated[
        str, Option("--jsonl-field", "--field", metavar="NAME", help="The field that holds a .jsonl line's text.")
    ] = "text",
    control_tokens: Annotated[
        bool,
        Option(
            "--control-tokens/--no-control-tokens",
            help="The name of a special token in a text (<|endoftext|>) is that token, or letters.",
        ),
    ] = True,
    format: Format = None,
    as_json: AsJson = False,
) -> None:
    """Turn texts into a token file to train on; memory does not grow with them.

    Documents come in the order given; those without tokens are left out. Special tokens are no part of the file:
    training puts them around documents, so that one file serves every objective.
    """
    check_target(out, (".tokens",), [Path(name) for name in inputs if name != "-"])
    with working("reading the tokenizer"):
        from gossamer.text import input_bytes, read_documents, write_token_file

        sources = [stdin_stream() if name == "-" else name for name in inputs]
        total = input_bytes(sources)
        cutter = _load(tokenizer)
    begin = time.monotonic()
    with _progress(total) as told:
        documents = read_documents(sources, field=field, split=split.value, format=format, told=told, remark=note)
        file = write_token_file(out, documents, cutter, name=tokenizer, control_tokens=control_tokens)
    seconds = time.monotonic() - begin
    if file.empty_documents:
        note(f"left out, having no tokens: {file.empty_documents:,} of the documents")
    if as_json:
        print_json({"out": str(out), **_receipt(file), "seconds": seconds})
    else:
        show(_page(file, out, seconds))


def _load(name: str) -> Tokenizer:
    from gossamer.checkpoints.hub import find_checkpoint
    from gossamer.text import Tokenizer, byte_tokenizer

    return byte_tokenizer() if name == "bytes" else Tokenizer.load(find_checkpoint(name))


def _receipt(file: TokenFile) -> dict[str, Any]:
    return {
        "documents": file.documents,
        "empty_documents": file.empty_documents,
        "tokens": file.tokens,
        "text_bytes": file.text_bytes,
        "bytes_per_token": file.text_bytes / file.tokens,
        "tokenizer": file.tokenizer_name,
        "vocabulary_size": file.vocabulary_size,
        "dtype": file.dtype,
        "end_id": file.end_id,
        "digest": file.digest,
    }


def _page(file: TokenFile, out: Path, seconds: float) -> Group:
    what = f"{plural(file.tokens, 'token')} of {plural(file.documents, 'document')}"
    size, rate = file.text_bytes / MEGABYTE, file.text_bytes / MEGABYTE / max(seconds, 1e-9)
    how = f"{size:,.1f} MB of text, {file.text_bytes / file.tokens:.2f} bytes a token, {rate:,.1f} MB a second"
    saved = Styled.assemble("saved in ", (str(out), "bold"), no_wrap=True, overflow="ignore")
    return Group(Styled(what, "bold"), Styled(how), saved)


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """Hands out `told(bytes)`: a bar with the rate on a terminal, else a line now and then."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(total)
        return
    columns = (TextColumn("tokenizing"), BarColumn(bar_width=None), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(compact=True), console=console, transient=True, expand=True) as bar:
        task = bar.add_task("tokenizing", total=total)
        yield lambda count: bar.update(task, advance=count)


def _lines(total: int) -> Callable[[int], None]:
    begin, done = time.monotonic(), 0
    due = begin + output.PATIENCE

    def told(count: int) -> None:
        nonlocal done, due
        done += count
        now = time.monotonic()
        if now >= due:
            due = now + output.LINES_EVERY
            rate = done / MEGABYTE / (now - begin)
            print(
                f"gossamer: tokenizing: {done / MEGABYTE:,.1f} of {total / MEGABYTE:,.1f} MB, {rate:,.1f} MB a second",
                file=sys.stderr,
            )

    return told
