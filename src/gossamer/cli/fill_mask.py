"""gossamer fill-mask: the likeliest tokens under the masks of texts."""

from __future__ import annotations

from typing import Annotated

from typer import Option

from gossamer.cli.options import AsJson, BatchedReading, Source, check_count, grouped
from gossamer.cli.task_pages import report, score, telling
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
    as_json: AsJson = False,
) -> None:
    """The likeliest tokens under each mask ([MASK], or as the model's tokenizer writes it) of texts of any length."""
    check_count("--top-k", top_k)
    texts = source.read()
    filler = reading.task("fill-mask", source.model)
    with telling(texts) as told:
        filled = filler(
            [text.text for text in texts],
            top_k=top_k,
            targets=target or None,
            progress=told,
            **reading.arguments(filler.model),
        )
    rows = [
        [
            [f"{mask.start}–{mask.end}", fill.token_str, score(fill.score), _around(fill.sequence, mask.start)]
            for mask in masks
            for fill in mask.fills
        ]
        for masks in filled.masks
    ]
    report(texts, filled, ("mask", "token", "score", "text"), rows, as_json)


def _around(text: str, place: int) -> str:
    """A little of the text on both sides of a place."""
    start, end = max(0, place - 30), place + 40
    return "…" * (start > 0) + text[start:end] + "…" * (end < len(text))
