"""The options that verbs share, each declared once; verbs take them in groups."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from inspect import Parameter, Signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

from typer import Argument, Option

from gossamer.checks import require_whole
from gossamer.cli.output import working
from gossamer.cli.texts import Text, TextFormat, input_files, read_texts
from gossamer.errors import InputError, quote

if TYPE_CHECKING:
    from gossamer.models import Model

__all__ = [
    "AsJson",
    "BatchSize",
    "BatchedReading",
    "FieldName",
    "Files",
    "Format",
    "Loading",
    "Long",
    "ModelName",
    "Out",
    "Placement",
    "Reading",
    "Source",
    "TextFiles",
    "check_count",
    "grouped",
    "held_out",
]

ModelName = Annotated[str, Argument(metavar="MODEL", help="A model directory, or an id on the hub.")]
Texts = Annotated[list[str] | None, Argument(metavar="[TEXT ...]", help="Texts to read, or names of files of them.")]
_FILES = Option("--file", "-f", metavar="FILE ...", help="Files: txt, md, jsonl, json, csv, tsv, packed too; -: stdin.")
Files = Annotated[list[Path], _FILES]
FieldName = Annotated[str, Option(metavar="NAME", help="The field or column that holds the text.")]
Format = Annotated[
    TextFormat | None,
    Option(metavar="FORMAT", help="What files and stdin hold: txt, jsonl, json, csv, tsv, parquet; by their ending."),
]
BatchSize = Annotated[
    int | None, Option(metavar="N", min=1, help="Read as many tokens at once as N texts that fill the model.")
]
Out = Annotated[
    Path | None, Option(metavar="FILE.jsonl", help="Write a row for each text as it is read, however many there are.")
]
AsJson = Annotated[bool, Option("--json", help="Print one JSON document.")]


class Long(StrEnum):
    """What happens to a text longer than the model."""

    chunk = "chunk"
    truncate = "truncate"
    error = "error"


class OptionGroup:
    """A frozen dataclass whose fields are options: a parameter of a verb, in whose place they stand on its page."""


@dataclass(frozen=True, kw_only=True)
class TextFiles(OptionGroup):
    """Files of texts, and how they are written."""

    file: Annotated[list[Path] | None, _FILES] = None
    field: FieldName = "text"
    format: Format = None
    as_text: Annotated[bool, Option("--text", help="Every TEXT is a text, though a file be called so.")] = False
    lines: Annotated[bool, Option("--lines", help="Each line of a text file is a text.")] = False

    def stream(self, texts: list[str]) -> Iterator[Text]:
        """The same as they are asked for; one that cannot be read has a `problem`."""
        return read_texts(
            texts, self.file or [], self.field, format=self.format, as_text=self.as_text, split=self.split,
            lenient=True,
        )  # fmt: skip

    def inputs(self, texts: list[str]) -> list[Path]:
        """The files that are read."""
        return input_files(texts, self.file or [], self.as_text)

    @property
    def split(self) -> Literal["file", "lines"]:
        """What a text of a text file is."""
        return "lines" if self.lines else "file"

    def read(self, texts: list[str], *, may_be_empty: bool = False) -> list[Text]:
        """The texts of the command line and of the files, as `gossamer.cli.texts.read_texts` reads them."""
        documents = read_texts(
            texts, self.file or [], self.field, format=self.format, as_text=self.as_text, may_be_empty=may_be_empty,
            split=self.split,
        )  # fmt: skip
        return list(documents)


@dataclass(frozen=True, kw_only=True)
class Source(OptionGroup):
    """A model, and the texts that it reads."""

    model: ModelName
    texts: Texts = None
    files: TextFiles

    def read(self) -> list[Text]:
        """All texts."""
        return self.files.read(self.texts or [])

    def stream(self) -> Iterator[Text]:
        """The texts as they are asked for; one that cannot be read has a `problem`."""
        return self.files.stream(self.texts or [])

    def inputs(self) -> list[Path]:
        """The files that are read."""
        return self.files.inputs(self.texts or [])


@dataclass(frozen=True, kw_only=True)
class Placement(OptionGroup):
    """In which numbers a model computes, and where."""

    dtype: Annotated[str | None, Option(metavar="TYPE", help="float32, bfloat16 ...; the model's own.")] = None
    device: Annotated[
        str | None, Option(metavar="NAME", help="Where to compute: cpu, cuda, cuda:1, mps, xla, auto; cpu.")
    ] = None

    def load(self, model: str, head: str | None = None) -> Model:
        """The model of this name; somebody who waits is told so."""
        with working("reading the model"):
            from gossamer.checkpoints import load
            from gossamer.checkpoints.load import HEADS

            if head is not None and head not in HEADS:
                raise InputError(f"--head is {quote(head)}; it must be one of {', '.join(HEADS)}")
            return load(model, head=head, dtype=self.dtype, device=self.device)


@dataclass(frozen=True, kw_only=True)
class Loading(OptionGroup):
    """With which head a model is loaded, in which numbers it computes, and where."""

    head: Annotated[
        str | None, Option(metavar="KIND", help="Read this head, such as masked-lm; the one that the files name.")
    ] = None
    placement: Placement

    def load(self, model: str) -> Model:
        """The model of this name; somebody who waits is told so."""
        return self.placement.load(model, self.head)


@dataclass(frozen=True, kw_only=True)
class Reading(OptionGroup):
    """How a task reads texts, and what with."""

    long: Annotated[
        Long, Option(metavar="HOW", help="Longer texts than the model reads: chunk, truncate or error.")
    ] = Long.chunk
    max_length: Annotated[
        int | None, Option(metavar="N", help="Tokens read at once; as many as the model's own files say.")
    ] = None
    loading: Loading

    def task(self, name: str, model: str) -> Any:
        """The task of this name, with the model of that; somebody who waits is told so."""
        loaded = self.loading.load(model)
        from gossamer.tasks import task

        return task(name, loaded)


@dataclass(frozen=True, kw_only=True)
class BatchedReading(Reading):
    """How a task reads texts, several at once."""

    stride: Annotated[
        int | None, Option(metavar="N", help="Tokens that passes share; an eighth of what they hold.")
    ] = None
    batch_size: BatchSize = None

    def arguments(self, model: Model) -> dict[str, Any]:
        """What a task is called with."""
        passes = self.batch_size
        tokens = None if passes is None else passes * model.reading_length(self.max_length)
        return {
            "long": self.long.value, "max_length": self.max_length, "stride": self.stride, "batch_tokens": tokens,
        }  # fmt: skip


def grouped(verb: Callable[..., None]) -> Callable[..., None]:
    """The verb as typer wants it: in the place of a group, its options as parameters of their own."""
    hints = get_type_hints(verb, include_extras=True)
    parameters = inspect.signature(verb).parameters.values()
    flat = [one for parameter in parameters for one in _flat(parameter.name, hints[parameter.name], parameter.default)]

    @functools.wraps(verb)
    def called(**values: Any) -> None:
        verb(**{name: _gathered(hints[name], name, values) for name in inspect.signature(verb).parameters})

    called.__signature__ = Signature(flat)  # type: ignore[attr-defined]
    called.__annotations__ = {parameter.name: parameter.annotation for parameter in flat}
    return called


def _flat(name: str, kind: Any, default: Any) -> Iterator[Parameter]:
    if not _is_group(kind):
        yield Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=kind)
        return
    hints = get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        is_required = field.default is dataclasses.MISSING
        yield from _flat(field.name, hints[field.name], Parameter.empty if is_required else field.default)


def _gathered(kind: Any, name: str, values: dict[str, Any]) -> Any:
    if not _is_group(kind):
        return values[name]
    hints = get_type_hints(kind, include_extras=True)
    return kind(**{field.name: _gathered(hints[field.name], field.name, values) for field in dataclasses.fields(kind)})


def _is_group(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, OptionGroup)


def held_out(given: list[str] | None) -> float | list[str] | None:
    """What `--evaluate` names: a share or a number of rows, or files."""
    if not given or len(given) > 1:
        return given or None
    try:
        return int(given[0]) if given[0].isdigit() else float(given[0])
    except ValueError:
        return given


def check_count(option: str, value: int | None, of: str = "") -> None:
    """Refuse a number below 1, before any work is done; None is no number."""
    if value is not None:
        require_whole(option, value, of=of)
