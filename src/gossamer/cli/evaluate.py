"""gossamer evaluate: the scores of a model's head on labelled rows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from gossamer.cli.columns import Columns, read_columns
from gossamer.cli.options import AsJson, ModelName, Placement, check_count, grouped
from gossamer.cli.output import note, print_json, show, working
from gossamer.errors import plural

__all__ = ["evaluate"]


@grouped
def evaluate(
    model: ModelName,
    file: Annotated[list[Path], Argument(metavar="FILE ...", help="Labelled rows: jsonl, json, csv, tsv, parquet.")],
    *,
    column: Columns = None,
    batch: Annotated[int, Option(metavar="N", help="Rows read at once.")] = 16,
    length: Annotated[int | None, Option(metavar="N", help="Tokens of a row; as many as the model reads.")] = None,
    metric: Annotated[
        list[str] | None,
        Option(metavar="NAME", help="Of two texts: write texts and score them: rouge, bleu, chrf; several times."),
    ] = None,
    placement: Placement,
    as_json: AsJson = False,
) -> None:
    """The scores of a model's head on labelled rows: accuracy, F1, correlations, entities, answers, written texts."""
    check_count("--batch", batch, of="rows")
    check_count("--length", length, of="tokens")
    columns = read_columns(column)
    loaded = placement.load(model)
    with working("reading the rows"):
        from gossamer.recipes.evaluate import evaluate as measure

        found = measure(loaded, file, columns=columns, batch=batch, length=length, metrics=metric or ())
    if found.cut:
        whole = "" if loaded.decoder is not None else "; gossamer predict reads them whole, in passes"
        rows = f"{found.cut:,} of {plural(found.rows, 'row')}"
        note(f"{rows} are longer than the model reads and were cut, as in training{whole}")
    undefined = [name.replace("_", " ") for name, value in found.scores.items() if value is None]
    if as_json:
        print_json({"model": model, **found.to_dict()})
        return
    numbers = {"loss": found.loss, **found.scores}
    lines = [f"{name.replace('_', ' ')}  {value:.4f}" for name, value in numbers.items() if value is not None]
    lines += [f"not defined on these rows: {', '.join(undefined)}"] if undefined else []
    show("\n".join([plural(found.rows, "row"), *lines]))
