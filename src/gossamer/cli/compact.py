"""gossamer compact: what is zero in a model is removed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

from gossamer.cli.options import AsJson, ModelName
from gossamer.cli.output import working
from gossamer.cli.results import check_out, save_result

__all__ = ["compact"]


def compact(
    model: ModelName,
    out: Annotated[Path, Option("--out", "--output", metavar="DIR", help="Where to save the smaller model.")],
    padded: Annotated[
        bool, Option("--padded", help="For transformers: all layers as wide as the widest again, with zeros.")
    ] = False,
    measure: Annotated[bool, Option("--measure", help="Measure the model before and after, for minutes.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove what is zero from a model: heads, neurons, columns, layers.

    What is left is a smaller dense model of the same outputs, each layer with widths of its own; the receipt says how
    closely. Where the layers have one width it is saved in the format it came in; else in Gossamer's own, or padded.
    Single zeros among other weights stay, and bring no speed.
    """
    check_out(model, out, "made smaller")
    with working("reading the model"):
        from gossamer.checkpoints import load
        from gossamer.recipes import compact as make_compact

        old = load(model)
    with working("measuring before and after" if measure else "removing what is zero"):
        new, receipt = make_compact(old, padded=padded, measure=measure)
    save_result(new, receipt, out, as_json=as_json)
