"""gossamer embed: texts of any length to vectors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text as Styled
from typer import Argument, Option

from gossamer.atomic_files import write_whole
from gossamer.cli.output import check_target, print_json, printable, show, working
from gossamer.cli.task_pages import Long, named, reading, remark
from gossamer.cli.texts import TakesFiles, Text, read_texts
from gossamer.errors import InputError

if TYPE_CHECKING:
    from gossamer.tasks import Embeddings

__all__ = ["COMMAND", "embed"]

COMMAND = TakesFiles
SHOWN = 20
COMPARED = 8


def embed(
    model: Annotated[str, Argument(metavar="MODEL", help="A model directory, or an id on the hub.")],
    texts: Annotated[list[str] | None, Argument(metavar="[TEXT ...]", help="Texts to embed.")] = None,
    file: Annotated[
        list[Path] | None,
        Option("--file", "-f", metavar="FILE ...", help="Files of one text each; .jsonl: one a line; -: stdin."),
    ] = None,
    field: Annotated[str, Option(metavar="NAME", help="The field that holds the text in a .jsonl file.")] = "text",
    spans: Annotated[
        int | None, Option(metavar="N", help="One vector for every N tokens, all read in the same pass.")
    ] = None,
    long: Annotated[
        Long, Option(metavar="HOW", help="Longer texts than the model reads: chunk, truncate or error.")
    ] = Long.chunk,
    dtype: Annotated[str | None, Option(metavar="TYPE", help="float32, bfloat16 ...; the model's own.")] = None,
    out: Annotated[Path | None, Option(metavar="FILE", help="Write the vectors: .npy or .jsonl.")] = None,
    as_json: Annotated[bool, Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Turn texts of any length into vectors: one a text, or with --spans one for every so many tokens of it."""
    if spans is not None and spans < 1:
        raise InputError(f"--spans is {spans}; it must be a whole number of tokens, 1 or more")
    read = read_texts(texts or [], file or [], field)
    if out is not None:
        check_target(out, (".npy", ".jsonl"), file or [])
    with working("reading the model"):
        from gossamer.checkpoints import load
        from gossamer.tasks import task

        embedder = task("embed", load(model, dtype=dtype))
    with reading(read) as report:
        found = embedder([one.text for one in read], spans=spans, long=long.value, progress=report)
    remark(named(found.notes, read))
    if out is not None:
        write_whole(out, lambda stream: _write(stream, out.suffix, read, found))
    if as_json:
        print_json(_document(read, found, out))
    else:
        show(_page(read, found, out))


def _write(stream: IO[bytes], suffix: str, texts: list[Text], found: Embeddings) -> None:
    if suffix == ".npy":
        import numpy as np

        np.save(stream, found.vectors.numpy())
        return
    for row in _rows(texts, found, vectors=True):
        stream.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")


def _rows(texts: list[Text], found: Embeddings, vectors: bool) -> list[dict[str, Any]]:
    """A row a vector: its text, the characters of it that the vector stands for, the vector itself if wanted."""
    return [
        {
            "text": i,
            "source": texts[i].source,
            "span": list(span),
            **({"vector": vector.tolist()} if vectors else {}),
        }
        for i, span, vector in zip(found.text_of_row, found.spans, found.vectors, strict=True)
    ]


def _document(texts: list[Text], found: Embeddings, out: Path | None) -> dict[str, Any]:
    """Everything; the vectors too, unless they went into a file."""
    per_text = zip(texts, found.tokens, found.passes, strict=True)
    return {
        "size": found.vectors.shape[1],
        "texts": [{"source": one.source, "tokens": tokens, "passes": passes} for one, tokens, passes in per_text],
        "rows": _rows(texts, found, vectors=out is None),
        "notes": named(found.notes, texts),
        "out": None if out is None else str(out),
    }


def _page(texts: list[Text], found: Embeddings, out: Path | None) -> Group:
    rows, size = found.vectors.shape
    count = f"{len(texts):,} text{'s' * (len(texts) != 1)}, {sum(found.tokens):,} tokens"
    what = f"{count} → {rows:,} vector{'s' * (rows != 1)} of {size:,}"
    where = f"written to {out}" if out is not None else "keep them with --out vectors.npy, or see them with --json"
    parts: list[Any] = [Styled(what, "bold"), Styled(where, no_wrap=True, overflow="ignore"), "", _table(texts, found)]
    if len(texts) > SHOWN:
        parts.append(Styled(f"and {len(texts) - SHOWN:,} more", style="dim"))
    return Group(*parts)


def _table(texts: list[Text], found: Embeddings) -> Table:
    """A line a text; a few texts are compared with one another as well."""
    compared = 1 < len(texts) <= COMPARED and len(texts) == len(found.vectors)
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="dim")
    table.add_column("", justify="right", style="dim")
    table.add_column("text")
    for name in ("tokens", "passes", "vectors"):
        table.add_column(name, justify="right", no_wrap=True)
    units = found.vectors / found.vectors.norm(dim=1, keepdim=True).clamp_min(1e-30)
    for i in range(len(texts) if compared else 0):
        table.add_column(f"~ {i + 1}", justify="right", no_wrap=True)
    for i, one in enumerate(texts[:SHOWN]):
        cosines = [f"{value:.2f}" for value in (units @ units[i]).tolist()] if compared else []
        named = one.text if one.source.startswith("argument") else one.source
        # Cut by the cell: a column that may not wrap takes the room of the numbers.
        shown = Styled(printable(named[:200]), no_wrap=True, overflow="ellipsis")
        numbers = (found.tokens[i], found.passes[i], found.text_of_row.count(i))
        table.add_row(str(i + 1), shown, *(f"{number:,}" for number in numbers), *cosines)
    return table
