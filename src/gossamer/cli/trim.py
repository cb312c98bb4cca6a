"""gossamer trim: a model whose vocabulary is cut to what texts use."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from gossamer.cli.options import AsJson, FieldName, Format, ModelName
from gossamer.cli.output import note, progress, working
from gossamer.cli.results import check_out, save_result
from gossamer.cli.texts import TakesFiles, stdin_stream
from gossamer.errors import InputError

if TYPE_CHECKING:
    from gossamer.text import InputStream

    Source = str | Path | InputStream

__all__ = ["COMMAND", "trim"]

_FILES = "FILE ..."


class Characters(StrEnum):
    """Which single characters stay."""

    all = "all"
    seen = "seen"


class TakesTexts(TakesFiles):
    """A verb whose --texts, --evaluate and --keep take all that follows, up to the next option."""

    spread = ("--texts", "--evaluate", "--keep")


COMMAND = TakesTexts


def trim(
    model: ModelName,
    texts: Annotated[
        list[str],
        Option("--texts", metavar=_FILES, help="Whose tokens stay: txt, jsonl, csv ..., packed; -: stdin; speeches."),
    ],
    out: Annotated[Path, Option("--output", "--out", metavar="DIR", help="Where to save the smaller model.")],
    evaluate: Annotated[
        list[str] | None,
        Option("--evaluate", metavar=_FILES, help="Texts held aside: what they become is counted."),
    ] = None,
    at_least: Annotated[int, Option(metavar="N", help="Tokens stay that the texts have N times.")] = 1,
    size: Annotated[int | None, Option(metavar="N", help="The most frequent tokens stay, N with all others.")] = None,
    keep: Annotated[
        list[str] | None, Option("--keep", metavar="TOKEN ...", help="Tokens that stay, as the vocabulary has them.")
    ] = None,
    characters: Annotated[
        Characters, Option(metavar="WHICH", help="Single characters that stay: all, or seen in other tokens.")
    ] = Characters.all,
    multiple_of: Annotated[int, Option(metavar="N", help="Further tokens fill the tables up to such a number.")] = 1,
    field: FieldName = "text",
    format: Format = None,
    as_json: AsJson = False,
) -> None:
    """Cut a model's vocabulary to what texts use.

    Tokens that no text has go, and their rows in all tables; those that stay keep theirs to the bit, so texts of them
    give the outputs they gave before, which the receipt shows. Special tokens stay, and single characters or bytes, so
    that every text can still be spelled. The tokenizer is saved with the model.
    """
    check_out(model, out, "trimmed")
    _check_stdin_once([*texts, *(evaluate or [])])
    with working("reading the model"):
        from gossamer.checkpoints import load
        from gossamer.recipes import trim as make_smaller
        from gossamer.text import input_bytes

        sources, held_out = _sources(texts), _sources(evaluate or [])
        total = sum(input_bytes(some) for some in (sources, held_out) if some)
        old = load(model)
    with _bytes_read(total) as told:
        new, receipt = make_smaller(
            old, _several(sources), evaluate=_several(held_out) if held_out else None,
            at_least=at_least, size=size, keep=keep or (), characters=characters.value, multiple_of=multiple_of,
            field=field, format=None if format is None else format.value, told=told, remark=note,
        )  # fmt: skip
    save_result(new, receipt, out, as_json=as_json)


def _check_stdin_once(names: Sequence[str]) -> None:
    if names.count("-") > 1:
        raise InputError("'-' is given twice; standard input can be read once")


def _sources(names: Sequence[str]) -> list[Source]:
    """Files, standard input for "-", and the shipped speeches by their name."""
    return [name if name == "speeches" else stdin_stream() if name == "-" else Path(name) for name in names]


def _several(sources: list[Source]) -> Source | list[Source]:
    """As the recipe takes them: the name of the speeches by itself is no text."""
    return sources[0] if len(sources) == 1 else sources


@contextmanager
def _bytes_read(total: int) -> Iterator[Callable[[int], None]]:
    """Hands out `told(bytes)`, which shows how far it is."""
    done = 0
    with progress("reading texts", "bytes") as report:

        def told(count: int) -> None:
            nonlocal done
            done += count
            report(done, total or None)

        yield told
