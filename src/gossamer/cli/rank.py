"""gossamer rank: texts in the order in which they answer a query, by a cross-encoder."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from typer import Argument, Option

from gossamer.cli.classify import ScoreFunction
from gossamer.cli.options import AsJson, BatchedReading, ModelName, Out, TextFiles, Texts, grouped
from gossamer.cli.sorted_texts import Candidates, check_query, tell_sorted
from gossamer.cli.task_pages import named, telling
from gossamer.cli.task_runs import check_out
from gossamer.cli.texts import TakesFiles, refuse_file_name

__all__ = ["COMMAND", "rank"]

COMMAND = TakesFiles


class OverPasses(StrEnum):
    """What the score of a text is that was read in several passes."""

    max = "max"
    mean = "mean"


@grouped
def rank(
    model: ModelName,
    query: Annotated[str, Argument(metavar="QUERY", help="What the texts are compared with.")],
    texts: Texts = None,
    *,
    files: TextFiles,
    top_k: Annotated[int | None, Option(metavar="N", help="The best N texts; all.")] = None,
    label: Annotated[str | None, Option(metavar="LABEL", help="Whose score counts, of a model with several.")] = None,
    function_to_apply: Annotated[
        ScoreFunction | None,
        Option(metavar="NAME", help="Scores: softmax, sigmoid or none (the model's own numbers); what fits the model."),
    ] = None,
    over_passes: Annotated[
        OverPasses, Option(metavar="HOW", help="The score of a long text: the max of its passes, or their mean.")
    ] = OverPasses.max,
    reading: BatchedReading,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Sort texts of any length by how well they fit a query, with a model that reads both together."""
    check_query(query, top_k)
    refuse_file_name("QUERY", query, files.as_text)
    check_out(out, files.inputs(texts or []))
    with Candidates(texts=files.stream(texts or [])) as candidates:
        ranker = reading.task("rank", model)
        with telling(candidates.held) as told:
            ranked = ranker(
                query, candidates, top_k=top_k, label=label, over_passes=over_passes.value,
                function_to_apply=None if function_to_apply is None else function_to_apply.value, skip_bad=True,
                progress=told, **reading.arguments(ranker.model),
            )  # fmt: skip
        notes = named(ranked.notes, candidates.held)
        candidates.remark(notes)
        said = {"function_to_apply": ranked.function_to_apply, "tokens": ranked.tokens[0], "passes": ranked.passes[0]}
        tell_sorted(query, ranked.texts[0], candidates, out, as_json, {**said, "notes": notes})
