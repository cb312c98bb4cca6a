"""gossamer translate: texts in another language."""

from __future__ import annotations

from typing import Annotated

from typer import Option

from gossamer.cli.options import AsJson, Out, Source, grouped
from gossamer.cli.rewrite import BySentence
from gossamer.cli.texts import TakesFiles
from gossamer.cli.write_texts import WritingTexts

__all__ = ["COMMAND", "translate"]

COMMAND = TakesFiles


@grouped
def translate(
    source: Source,
    *,
    from_language: Annotated[
        str | None, Option("--from", metavar="LANGUAGE", help="The texts' language, as the model's files write it.")
    ] = None,
    to_language: Annotated[
        str | None, Option("--to", metavar="LANGUAGE", help="The language to write, as the model's files write it.")
    ] = None,
    by_sentence: BySentence = False,
    how: WritingTexts,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Translate texts of any length, a line each; longer ones are read in parts that meet between sentences."""
    languages = {"source": from_language, "target": to_language}
    how.run("translate", source, {**languages, "by_sentence": by_sentence}, out, as_json)
