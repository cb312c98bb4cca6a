"""gossamer score: how likely a model finds texts."""

from __future__ import annotations

from typing import Annotated, Any

from typer import Option

from gossamer.cli.options import AsJson, Loading, Out, Source, check_count, grouped
from gossamer.cli.task_runs import Page, TaskRun, check_out
from gossamer.cli.texts import TakesFiles, Text, field_of
from gossamer.errors import InputError

__all__ = ["COMMAND", "score"]

COMMAND = TakesFiles


@grouped
def score(
    source: Source,
    *,
    target: Annotated[
        str | None, Option(metavar="TEXT", help="Score this behind each text, in place of the texts themselves.")
    ] = None,
    target_field: Annotated[
        str | None, Option(metavar="NAME", help="The field of each text's row that is scored behind it.")
    ] = None,
    stride: Annotated[
        int | None, Option(metavar="N", help="Tokens before those that a pass scores; half of what the model reads.")
    ] = None,
    batch_tokens: Annotated[int | None, Option(metavar="N", help="Tokens read at once; by the device.")] = None,
    loading: Loading,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """How likely a model finds texts of any length: log-likelihood, perplexity, bits for each byte."""
    check_count("--batch-tokens", batch_tokens)
    if target is not None and target_field is not None:
        raise InputError(f"--target {target!r} and --target-field {target_field!r} were both given; give one of them")
    if target is not None and not target:
        raise InputError("--target is ''; write what is to be scored behind each text")
    check_out(out, source.inputs())
    texts = source.stream()
    loaded = loading.load(source.model)
    from gossamer.tasks import task

    def item(text: Text) -> Any:
        if target is None and target_field is None:
            return text.text
        own = target if target_field is None else field_of(text, target_field, "--target-field")
        return {"text": text.text, "target": own}

    options = {"stride": stride, "batch_tokens": batch_tokens}
    TaskRun(task=task("score", loaded), page=PAGE, out=out, as_json=as_json, item=item).run(texts, options)


def _cells(scored: Any) -> list[list[str]]:
    return [
        [
            f"{scored.log_likelihoods[0]:,.3f}",
            f"{scored.perplexities[0]:,.4g}",
            f"{scored.bits_per_byte[0]:.4f}",
            "yes" if scored.is_greedy[0] else "no",
        ]
    ]


PAGE = Page(columns=("log-likelihood", "perplexity", "bits per byte", "greedy"), cells=_cells)
