"""gossamer rewrite: a text from a text, by a model with an encoder and a decoder."""

from __future__ import annotations

from typing import Annotated

from typer import Option

from gossamer.cli.options import AsJson, Out, Source, grouped
from gossamer.cli.texts import TakesFiles
from gossamer.cli.write_texts import WritingTexts

__all__ = ["COMMAND", "BySentence", "rewrite"]

COMMAND = TakesFiles
BySentence = Annotated[bool, Option("--by-sentence", help="Each sentence by itself.")]


@grouped
def rewrite(
    source: Source,
    *,
    by_sentence: BySentence = False,
    how: WritingTexts,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Write what a model makes of each text, a line each; longer ones are read in parts that meet between sentences."""
    how.run("rewrite", source, {"by_sentence": by_sentence}, out, as_json)
