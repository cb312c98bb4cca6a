"""gossamer fill-mask: the likeliest tokens under the masks of texts."""

from __future__ import annotations

from typing import Annotated, Any

from typer import Option

from gossamer.cli.options import AsJson, BatchedReading, Out, Source, check_count, grouped
from gossamer.cli.task_pages import score
from gossamer.cli.task_runs import Page, TaskRun, check_out
from gossamer.cli.texts import TakesFiles

__all__ = ["COMMAND", "fill_mask"]

COMMAND = TakesFiles


@grouped
def fill_mask(
    source: Source,
    *,
    top_k: Annotated[int, Option(metavar="N", help="Tokens for each mask.")] = 5,
    target: Annotated[
        list[str] | None, Option(metavar="WORD", help="Consider this word; may be given several times.")
    ] = None,
    reading: BatchedReading,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """The likeliest tokens under each mask ([MASK], or as the model's tokenizer writes it) of texts of any length."""
    check_count("--top-k", top_k)
    check_out(out, source.inputs())
    texts = source.stream()
    filler = reading.task("fill-mask", source.model)
    options = {"top_k": top_k, "targets": target or None} | reading.arguments(filler.model)
    TaskRun(task=filler, page=PAGE, out=out, as_json=as_json).run(texts, options)


def _cells(filled: Any) -> list[list[str]]:
    return [
        [f"{mask.start}–{mask.end}", fill.token_str, score(fill.score), _around(fill.sequence, mask.start)]
        for mask in filled.masks[0]
        for fill in mask.fills
    ]


PAGE = Page(columns=("mask", "token", "score", "text"), cells=_cells)


def _around(text: str, place: int) -> str:
    """A little of the text on both sides of a place."""
    start, end = max(0, place - 30), place + 40
    return "…" * (start > 0) + text[start:end] + "…" * (end < len(text))
