"""gossamer.export: a model as a graph in a folder of its own, checked before it is put there."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Literal

import torch

from gossamer import __version__
from gossamer.checkpoints.files import reason
from gossamer.checkpoints.replace import replacing
from gossamer.checks import require_whole
from gossamer.errors import GossamerError, InputError, quote
from gossamer.exporting.formats import FILES, growth, open_file, trace, write
from gossamer.exporting.graph import Graph, Run
from gossamer.exporting.refusals import check_exportable, check_packages
from gossamer.exporting.result import DESCRIPTION, Exported
from gossamer.exporting.step import Step
from gossamer.exporting.whole_text import WholeText
from gossamer.models import Model
from gossamer.models.model_argument import check_model

__all__ = ["LARGEST_FILE", "check_folder", "export"]

LARGEST_FILE = 2 * 10**9
"""Bytes of weights that one ONNX file may hold: protobuf's limit is 2 GiB."""

# Plain operations add up in another order than the kernels.
_ALLOWED = {torch.float64: 1e-9, torch.float32: 1e-3, torch.float16: 3e-2, torch.bfloat16: 1e-1}


def export(
    model: Model,
    path: str | Path,
    format: Literal["onnx", "torch"] = "onnx",
    *,
    largest_file: int = LARGEST_FILE,
) -> Exported:
    """Write a model as a graph that runs without Gossamer, for any batch and length, into the folder `path`.

    A causal language model becomes a step (`gossamer.exporting.step.Step`): new tokens and caches in, logits and caches
    out. Any other model of one text reads whole texts (`WholeText`): ids and masks in, what its head gives out. Windows
    are computed as blocks, in memory that grows with the length.

    format: "onnx" (model.onnx, by torch.onnx and for ONNX Runtime 1.2x or anything else that reads ONNX), or "torch"
    (model.pt2, `torch.export.load`). largest_file: with more bytes of weights than this, they stand in a file beside
    model.onnx. Beside it also stand the tokenizer's files and export.json, which describes inputs, outputs and head.

    The file is run beside the model, at lengths below, at and above its windows, in batches of several sizes, with
    padding; only if all outputs agree does it take the folder's place: `Exported.deviation` is the largest difference.
    An earlier export there is replaced. Raises InputError for what cannot be exported (hashed patterns,
    DeBERTa, models of two texts ...), a missing package, and a folder that holds something else,
    GossamerError where the graph differs from the model or cannot be written; what was there then stays.
    """
    check_model(model)
    check_packages(format)
    require_whole("largest_file", largest_file)
    target = check_folder(path)
    check_exportable(model, format)
    was_training = model.training
    model.eval()
    try:
        with replacing(target) as new:
            return _export(model, format, largest_file, new, target)
    except OSError as problem:
        left = "what was there is untouched" if target.exists() else "nothing was left behind"
        raise GossamerError(f"{target}: could not be written ({reason(problem)}); {left}") from problem
    finally:
        model.train(was_training)


def check_folder(path: str | Path) -> Path:
    """The folder; InputError, before any work, for one that cannot be written or that holds more than an export."""
    if not isinstance(path, str | Path) or not str(path) or "\0" in str(path):
        raise InputError(f"path is {quote(path)}; name a folder to export to")
    target = Path(path).expanduser()
    if target.resolve() in (Path.cwd(), *Path.cwd().parents):
        raise InputError(f"{target}: is the folder you are in, or one around it; name one in it, or beside it")
    if target.exists() and not target.is_dir():
        raise InputError(f"{target}: is a file; name a folder to export to")
    there = next(one for one in (target, *target.absolute().parents) if one.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"{target}: {str(there)!r} may not be written to; name another folder")
    if target.is_dir():
        others = sorted({one.name for one in target.iterdir()} - _files_of(target))
        if others:
            raise InputError(f"{target}: holds {quote(others[0])}, which is no part of an export; name a new folder")
    return target


def _files_of(folder: Path) -> set[str]:
    """The files of the export that a folder holds."""
    try:
        described = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        return {DESCRIPTION, *map(str, described["files"])}
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def _export(model: Model, form: str, largest_file: int, new: Path, target: Path) -> Exported:
    graph: Graph = Step(model) if model.architecture.is_decoder else WholeText(model)
    program = trace(graph)
    write(graph, program, form, new, largest_file)
    deviation, cases = _check(graph, open_file(form, new, graph), next(model.parameters()).dtype)
    if model.tokenizer is not None:
        model.tokenizer.save(new, types=model.architecture.embeddings.token_types > 1)
    files = sorted(one.relative_to(new).as_posix() for one in new.rglob("*") if one.is_file())
    exported = Exported(
        folder=target, file=FILES[form], format=form, kind=graph.kind, inputs=graph.inputs, outputs=graph.outputs,
        longest=model.architecture.length, memory=growth(program, graph), deviation=deviation, cases=tuple(cases),
        bytes=sum((new / one).stat().st_size for one in files if one.startswith(FILES[form])),
        files=(*files, DESCRIPTION), notes=tuple(graph.notes),
    )  # fmt: skip
    described = json.dumps(_description(model, exported), indent=2, ensure_ascii=False, allow_nan=False)
    (new / DESCRIPTION).write_text(described + "\n", encoding="utf-8")
    return exported


def _check(graph: Graph, run: Run, dtype: torch.dtype) -> tuple[float, list[str]]:
    """The largest deviation, and what was compared. Raises GossamerError where the graph differs from the model."""
    largest, said = 0.0, []
    for case in graph.cases(run):
        found, wanted = case.found.double(), case.wanted.double()
        if found.shape != wanted.shape:
            raise GossamerError(
                f"the graph gives {list(found.shape)} and the model {list(wanted.shape)} ({case.said}); nothing was "
                "written. Please report it"
            )
        if case.real is not None:
            found, wanted = found[case.real], wanted[case.real]
        apart = float((found - wanted).abs().max() / wanted.abs().max().clamp(min=1e-6)) if wanted.numel() else 0.0
        if not apart <= _ALLOWED[dtype]:
            raise GossamerError(
                f"the graph differs from the model by {apart:.1e} ({case.said}), {_ALLOWED[dtype]:.0e} allowed; "
                "nothing was written. Please report it"
            )
        largest = max(largest, apart)
        said.append(case.said)
    return largest, said


def _description(model: Model, exported: Exported) -> dict[str, Any]:
    head = model.architecture.head
    described = model.architecture.to_dict()["head"]
    return {
        "gossamer": __version__,
        "source": model.source,
        **exported.to_dict(),
        "head": described if head is not None else None,
        "padding_id": model.architecture.embeddings.padding_id,
    }
