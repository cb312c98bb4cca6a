"""gossamer embed: texts of any length, and any number of them, to vectors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text as Styled
from typer import Option

from gossamer.cli.options import AsJson, Reading, Source, check_count, grouped
from gossamer.cli.output import JsonList, check_target, print_json_lists, printable, show
from gossamer.cli.task_pages import NOTES, named, remark, telling
from gossamer.cli.texts import TakesFiles, carried, input_files, refuse_file_name
from gossamer.cli.vector_files import VectorFile, map_of, open_vectors
from gossamer.errors import plural

if TYPE_CHECKING:
    from torch import Tensor

    from gossamer.cli.text_parts import Incoming, TextParts
    from gossamer.tasks import EmbeddedPart

__all__ = ["COMMAND", "embed"]

COMMAND = TakesFiles
SHOWN = 20
COMPARED = 8
_OWN_FIELDS = ("text", "source", "span", "vector", "row")


@grouped
def embed(
    source: Source,
    *,
    spans: Annotated[
        int | None, Option(metavar="N", help="One vector for every N tokens, all read in the same pass.")
    ] = None,
    reading: Reading,
    prompt: Annotated[str | None, Option(metavar="TEXT", help="Put before each text; '' for none.")] = None,
    prompt_name: Annotated[str | None, Option(metavar="NAME", help="One of the model's own prompts.")] = None,
    normalize: Annotated[
        bool | None, Option("--normalize/--no-normalize", help="Vectors of length 1, or not; as the model says.")
    ] = None,
    truncate_dim: Annotated[int | None, Option(metavar="N", help="Keep the first N numbers of each vector.")] = None,
    skip_empty: Annotated[bool, Option("--skip-empty", help="Leave out texts without tokens.")] = False,
    batch_size: Annotated[int | None, Option(metavar="N", help="Passes read at once; by their tokens.")] = None,
    out: Annotated[Path | None, Option(metavar="FILE", help="Write the vectors as they come: .npy or .jsonl.")] = None,
    as_json: AsJson = False,
) -> None:
    """Turn texts of any length into vectors: one a text, or with --spans one for every so many tokens of it.

    Texts are read as they are needed. With --out, an interrupt leaves the finished vectors there.
    """
    check_count("--spans", spans)
    check_count("--batch-size", batch_size)
    texts, files = source.texts or [], source.files
    if prompt is not None:
        refuse_file_name("--prompt", prompt, files.as_text)
    _check_out(out, input_files(texts, files.file or [], files.as_text))
    from gossamer.cli.text_parts import TextParts

    parts_of_texts = TextParts(
        texts, files.file or [], files.field, format=files.format, as_text=files.as_text, split=files.split
    )
    embedder = reading.task("embed", source.model)
    with _listed(as_json) as listed:
        result = _Result(parts_of_texts, listed, has_vectors=out is None)
        with _saved(out) as saved, telling(parts_of_texts.incoming, "characters") as told:
            parts = embedder.stream(
                parts_of_texts.documents(), spans, reading.long.value,
                progress=lambda done, _: told(done, parts_of_texts.characters()),
                prompt=prompt, prompt_name=prompt_name, normalize=normalize, truncate_dim=truncate_dim,
                max_length=reading.max_length, batch_size=batch_size, skip_empty=skip_empty,
            )  # fmt: skip
            for part in parts:
                result.add(part, saved)
        result.show(out, map_of(out) if out is not None and out.suffix == ".npy" else None)


def _check_out(out: Path | None, inputs: list[Path]) -> None:
    if out is None:
        return
    check_target(out, (".npy", ".jsonl"), inputs)
    if out.suffix == ".npy":
        check_target(map_of(out), (".jsonl",), inputs)


@contextmanager
def _listed(as_json: bool) -> Iterator[dict[str, JsonList]]:
    """The lists of the JSON document; none where none is asked for."""
    with ExitStack() as stack:
        names = ("texts", "rows", "notes") if as_json else ()
        yield {name: stack.enter_context(closing(JsonList())) for name in names}


@contextmanager
def _saved(out: Path | None) -> Iterator[VectorFile | None]:
    if out is None:
        yield None
        return
    with open_vectors(out) as file:
        yield file


@dataclass
class _Shown:
    """A text in the table."""

    name: str
    tokens: int
    passes: int
    vectors: int


@dataclass
class _Result:
    """What is printed in the end; of texts that are not shown, and of vectors that are in a file, nothing is held."""

    source: TextParts
    listed: dict[str, JsonList]
    has_vectors: bool
    size: int = 0
    texts: int = 0
    tokens: int = 0
    rows: int = 0
    noted: int = 0
    notes: list[str] = field(default_factory=list)
    shown: list[_Shown] = field(default_factory=list)
    first: list[Tensor] = field(default_factory=list)
    rows_of_text: int = 0

    def add(self, part: EmbeddedPart, saved: VectorFile | None) -> None:
        """Take what is finished: into the file, the lists, the table."""
        text = self.source.incoming[part.text]
        self._note(named(part.notes, self.source.incoming))
        is_told = saved is not None or bool(self.listed)
        rows = [_row(part.text, text, span) for span in part.spans] if is_told else []
        if saved is not None:
            saved.add(part.vectors.numpy(), rows, part.is_last)
        for row, vector in zip(rows if self.listed else (), part.vectors, strict=False):
            self.listed["rows"].add({**row, "vector": vector.tolist()} if self.has_vectors else row)
        self.first += [vector.clone() for vector in part.vectors[: COMPARED + 1 - len(self.first)]]
        self.size = part.vectors.shape[1]
        self.rows += len(part.spans)
        self.rows_of_text += len(part.spans)
        if part.is_last:
            self._end(part, text)

    def _end(self, part: EmbeddedPart, text: Incoming) -> None:
        del self.source.incoming[part.text]
        self.texts += 1
        self.tokens += part.tokens
        if self.listed:
            self.listed["texts"].add({"source": text.source, "tokens": part.tokens, "passes": part.passes})
        if len(self.shown) < SHOWN:
            name = text.beginning if text.source.startswith("argument") else text.source
            self.shown.append(_Shown(name, part.tokens, part.passes, self.rows_of_text))
        self.rows_of_text = 0

    def _note(self, notes: Iterable[str]) -> None:
        for said in notes:
            self.noted += 1
            if len(self.notes) < NOTES:
                self.notes.append(said)
            if self.listed:
                self.listed["notes"].add(said)

    def show(self, out: Path | None, rows_file: Path | None) -> None:
        """Remarks on stderr, and the table or the JSON document on stdout."""
        remark(self.notes, self.noted)
        if self.listed:
            where = {"out": None if out is None else str(out)} | ({"spans": str(rows_file)} if rows_file else {})
            print_json_lists({"size": self.size, **self.listed, **where})
        else:
            show(self._page(out, rows_file))

    def _page(self, out: Path | None, rows_file: Path | None) -> Group:
        count = f"{plural(self.texts, 'text')}, {plural(self.tokens, 'token')}"
        what = f"{count} → {plural(self.rows, 'vector')} of {self.size:,}"
        where = f"written to {out}" if out is not None else "keep them with --out vectors.npy, or see them with --json"
        where += f"; what each row is, to {rows_file}" if rows_file is not None else ""
        parts: list[Any] = [Styled(what, "bold"), Styled(where, no_wrap=True, overflow="ignore"), "", self._table()]
        if self.texts > SHOWN:
            parts.append(Styled(f"and {self.texts - SHOWN:,} more", style="dim"))
        return Group(*parts)

    def _table(self) -> Table:
        """A line a text; a few texts are compared with one another as well."""
        is_compared = 1 < self.texts <= COMPARED and all(text.vectors == 1 for text in self.shown)
        table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="dim")
        table.add_column("", justify="right", style="dim")
        table.add_column("text")
        for name in ("tokens", "passes", "vectors"):
            table.add_column(name, justify="right", no_wrap=True)
        for i in range(self.texts if is_compared else 0):
            table.add_column(f"~ {i + 1}", justify="right", no_wrap=True)
        cosines = _cosines(self.first) if is_compared else [[]] * len(self.shown)
        for i, (text, row) in enumerate(zip(self.shown, cosines, strict=True)):
            # Cut by the cell: a column that may not wrap takes the room of the numbers.
            beginning = Styled(printable(text.name), no_wrap=True, overflow="ellipsis")
            numbers = (text.tokens, text.passes, text.vectors)
            table.add_row(str(i + 1), beginning, *(f"{number:,}" for number in numbers), *row)
        return table


def _cosines(vectors: list[Tensor]) -> list[list[str]]:
    import torch

    table = torch.stack(vectors)
    units = table / table.norm(dim=1, keepdim=True).clamp_min(1e-30)
    return [[f"{value:.2f}" for value in row] for row in (units @ units.T).tolist()]


def _row(number: int, text: Incoming, span: tuple[int, int]) -> dict[str, Any]:
    """What a vector stands for: the fields of its text's row, its text, and the characters of it."""
    own = {"text": number, "source": text.source, "span": list(span)}
    return carried(text.fields, _OWN_FIELDS) | own
