"""gossamer fill-mask: the likeliest tokens under the masks of texts."""

from __future__ import annotations

from typing import Annotated

from typer import Option

from gossamer.cli.output import working
from gossamer.cli.task_pages import (
    AsJson,
    BatchSize,
    Device,
    Dtype,
    Field,
    Files,
    HowLong,
    Long,
    MaxLength,
    ModelName,
    Texts,
    batch_tokens,
    check_top_k,
    reading,
    report,
    score,
)
from gossamer.cli.texts import AsText, Format, TakesFiles, read_texts

__all__ = ["COMMAND", "fill_mask"]

COMMAND = TakesFiles


def fill_mask(
    model: ModelName,
    texts: Texts = None,
    file: Files = None,
    field: Field = "text",
    format: Format = None,
    as_text: AsText = False,
    top_k: Annotated[int, Option(metavar="N", help="Tokens for each mask.")] = 5,
    target: Annotated[
        list[str] | None, Option(metavar="WORD", help="Consider this word; may be given several times.")
    ] = None,
    long: HowLong = Long.chunk,
    max_length: MaxLength = None,
    dtype: Dtype = None,
    device: Device = None,
    batch_size: BatchSize = None,
    as_json: AsJson = False,
) -> None:
    """The likeliest tokens under each mask ([MASK], or as the model's tokenizer writes it) of texts of any length."""
    check_top_k(top_k)
    read = list(read_texts(texts or [], file or [], field, format=format, as_text=as_text))
    with working("reading the model"):
        from gossamer.checkpoints import load
        from gossamer.tasks import task

        fill = task("fill-mask", load(model, dtype=dtype, device=device))
    at_once = batch_tokens(batch_size, fill.model, max_length)
    with reading(read) as told:
        found = fill(
            [one.text for one in read],
            top_k=top_k,
            targets=target or None,
            long=long.value,
            batch_tokens=at_once,
            max_length=max_length,
            progress=told,
        )
    rows = [
        [
            [f"{mask.start}–{mask.end}", fill.token_str, score(fill.score), _around(fill.sequence, mask.start)]
            for mask in masks
            for fill in mask.fills
        ]
        for masks in found.masks
    ]
    report(read, found, ("mask", "token", "score", "text"), rows, as_json)


def _around(text: str, place: int) -> str:
    """A little of the text on both sides of a place."""
    start, end = max(0, place - 30), place + 40
    return "…" * (start > 0) + text[start:end] + "…" * (end < len(text))
