"""gossamer export: a model as a graph that runs without Gossamer."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

from rich.text import Text
from typer import Argument, Option

from gossamer.cli.options import AsJson, Loading, ModelName, grouped
from gossamer.cli.output import note, print_json, show, working

__all__ = ["export"]


class FileFormat(StrEnum):
    """What is written."""

    onnx = "onnx"
    torch = "torch"


@grouped
def export(
    model: ModelName,
    *,
    out: Annotated[Path, Argument(metavar="OUT", help="A folder to write, or one of an earlier export to replace.")],
    format: Annotated[
        FileFormat, Option(metavar="FORMAT", help="onnx (model.onnx), or torch (model.pt2, of torch.export).")
    ] = FileFormat.onnx,
    loading: Loading,
    as_json: AsJson = False,
) -> None:
    """A model as a graph that runs without Gossamer, for any batch and length, checked beside the model."""
    from gossamer.exporting.exporter import check_folder
    from gossamer.exporting.refusals import check_packages

    check_packages(format.value)
    replaces = check_folder(out).is_dir() and any(out.iterdir())
    loaded = loading.load(model)
    from gossamer.exporting import export as write_graph

    with working("exporting it, and reading texts with the file"):
        exported = write_graph(loaded, out, format.value)
    if replaces:
        note(f"{out}: the export that was there was replaced")
    if as_json:
        print_json({"out": str(out), **exported.to_dict()})
    else:
        show(Text(str(exported)))  # shapes in brackets are no markup
