"""gossamer summarize: short texts about long ones."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from typer import Option

from gossamer.cli.options import AsJson, Out, Source, grouped
from gossamer.cli.texts import TakesFiles
from gossamer.cli.write_texts import WritingTexts

__all__ = ["COMMAND", "summarize"]

COMMAND = TakesFiles


class Merge(StrEnum):
    """What becomes of the summaries of a text's parts."""

    joined = "join"
    again = "again"


@grouped
def summarize(
    source: Source,
    *,
    merge: Annotated[
        Merge, Option(metavar="HOW", help="Summaries of a text's parts: join them, or summarize them again.")
    ] = Merge.joined,
    stride: Annotated[
        int | None, Option(metavar="N", help="Tokens of whole sentences that parts share; an eighth of a part.")
    ] = None,
    how: WritingTexts,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Summarize texts of any length, a line each; longer ones than the model reads in parts that share sentences."""
    how.run("summarize", source, {"merge": merge.value, "stride": stride}, out, as_json)
