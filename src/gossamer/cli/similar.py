"""gossamer similar: the nearest of many texts to a query."""

from __future__ import annotations

from typing import Annotated

from typer import Argument, Option

from gossamer.cli.options import AsJson, ModelName, Out, Reading, TextFiles, Texts, check_count, grouped
from gossamer.cli.sorted_texts import Candidates, check_query, tell_sorted
from gossamer.cli.task_pages import named, telling
from gossamer.cli.task_runs import check_out
from gossamer.cli.texts import TakesFiles, refuse_file_name

__all__ = ["COMMAND", "similar"]

COMMAND = TakesFiles


@grouped
def similar(
    model: ModelName,
    query: Annotated[str, Argument(metavar="QUERY", help="What the texts are compared with.")],
    texts: Texts = None,
    *,
    files: TextFiles,
    top_k: Annotated[int, Option(metavar="N", help="The nearest N texts.")] = 10,
    spans: Annotated[int | None, Option(metavar="N", help="The nearest stretches of N tokens in texts.")] = None,
    reading: Reading,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """The nearest texts to a query, of any number and any length, by looking at all of them."""
    check_query(query, top_k)
    check_count("--spans", spans)
    refuse_file_name("QUERY", query, files.as_text)
    check_out(out, files.inputs(texts or []))
    with Candidates(texts=files.stream(texts or [])) as candidates:
        finder = reading.task("similar", model)
        with telling(candidates.held, "characters") as told:
            found = finder(
                query, candidates, top_k=top_k, spans=spans, long=reading.long.value, max_length=reading.max_length,
                progress=told, skip_empty=True,
            )  # fmt: skip
        notes = named(found.notes, candidates.held)
        candidates.remark(notes)
        said = {"compared": found.compared[0], "similarity": found.similarity, "notes": notes}
        tell_sorted(query, found.neighbours[0], candidates, out, as_json, said)
