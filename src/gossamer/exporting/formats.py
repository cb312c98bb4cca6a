"""A graph as a file, and the file as a function: torch.export's .pt2, and ONNX run by ONNX Runtime."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from gossamer.errors import GossamerError, clean_line
from gossamer.exporting.graph import Graph, Run

__all__ = ["FILES", "growth", "open_file", "trace", "write"]

FILES = {"onnx": "model.onnx", "torch": "model.pt2"}
"""What the file of each format is called; weights beside it have this name and ".data" behind it."""

_SHORT, _LONG = 2**14, 2**15
"""Tokens at which the tensors of a graph are measured."""
_GROWING = ("length", "total", "past")


def trace(graph: Graph) -> ExportedProgram:
    """The graph as torch.export has it, every size of `Graph.bounds` left open."""
    open_sizes = {name: Dim(name, min=least, max=most) for name, (least, most) in graph.bounds.items()}
    shapes = tuple({i: open_sizes[size] for i, size in one.open.items()} for one in graph.inputs)
    with _telling("torch.export"), torch.no_grad():
        # The modules take any number of tensors, whose shapes are then those of one tuple.
        return torch.export.export(graph.module, graph.example(), dynamic_shapes=_as_given(graph, shapes), strict=False)


def _as_given(graph: Graph, shapes: tuple[dict[int, Dim], ...]) -> tuple[object, ...]:
    """Shapes by the parameters of `forward`, of which the last one takes what is left."""
    named = graph.module.forward.__code__.co_argcount - 1
    return (*shapes[:named], shapes[named:]) if len(shapes) > named else shapes


def write(graph: Graph, program: ExportedProgram, form: str, folder: Path, largest_file: int) -> None:
    """Write the file into `folder`; weights of more than `largest_file` bytes into one beside it (ONNX)."""
    path = folder / FILES[form]
    if form == "torch":
        with _telling("torch.export.save"):
            torch.export.save(program, path)
        return
    weights = sum(one.nbytes for one in {id(one): one for one in program.state_dict.values()}.values())
    names = tuple({i: str(size) for i, size in one.open.items()} for one in graph.inputs)
    with _telling("torch.onnx.export"):
        made = torch.onnx.export(
            program, dynamo=True, verbose=False, dynamic_shapes=_as_given(graph, names),  # type: ignore[arg-type]
            input_names=[one.name for one in graph.inputs], output_names=[one.name for one in graph.outputs],
        )  # fmt: skip
        assert made is not None
        made.save(path, external_data=weights > largest_file)


def open_file(form: str, folder: Path, graph: Graph) -> Run:
    """The file in `folder` as a function."""
    path = folder / FILES[form]
    if form == "torch":
        with _telling("torch.export.load"):
            module = torch.export.load(path).module()

        def call(given: Sequence[Tensor]) -> list[Tensor]:
            with _telling("the exported program"), torch.no_grad():
                return list(module(*given))

        return call
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    with _telling("onnxruntime"):
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [one.name for one in graph.inputs]

    def run(given: Sequence[Tensor]) -> list[Tensor]:
        fed = {name: one.contiguous().numpy() for name, one in zip(names, given, strict=True)}
        with _telling("onnxruntime"):
            return [torch.from_numpy(one) for one in session.run(None, fed)]

    return run


def growth(program: ExportedProgram, graph: Graph) -> str:
    """How the largest tensor of a graph grows with the length of a text: "linear" or "quadratic"."""
    growing = _symbols(program, graph)
    largest = {length: max(_numbers(program, growing, length)) for length in (_SHORT, _LONG)}
    return "linear" if largest[_LONG] <= 2.5 * largest[_SHORT] else "quadratic"


def _symbols(program: ExportedProgram, graph: Graph) -> set[object]:
    """The symbols that grow with a text."""
    found = set()
    values = {node.name: node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"}
    for name, named in zip(program.graph_signature.user_inputs, graph.inputs, strict=True):
        sizes = values[name].shape
        found |= {sizes[i].node.expr for i, size in named.open.items() if size in _GROWING}
    return found


def _numbers(program: ExportedProgram, growing: set[object], length: int) -> Iterator[float]:
    """How many numbers each tensor of the graph holds at this length, every other open size being small."""
    for node in program.graph.nodes:
        value = node.meta.get("val")
        if not isinstance(value, Tensor):
            continue
        sizes = [*value.shape]
        if node.target is torch.ops.aten.scaled_dot_product_attention.default:  # its scores are no tensor of the graph
            sizes[-1] = node.args[1].meta["val"].shape[-2]
        yield math.prod(_at(size, growing, length) for size in sizes)


def _at(size: Any, growing: set[object], length: int) -> float:
    if isinstance(size, int):
        return size
    form = size.node.expr
    return float(form.subs({free: length if free in growing else 4 for free in form.free_symbols}))


@contextmanager
def _telling(what: str) -> Iterator[None]:
    """What torch says of its own workings is left out; what it raises is told in one line."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (GossamerError, MemoryError, OSError):
        raise
    except Exception as problem:
        line = clean_line(str(problem).strip().split("\n")[0], 200)
        raise GossamerError(
            f"{what} failed on this model ({type(problem).__name__}: {line}); nothing was written. Please report it"
        ) from problem
    finally:
        log.setLevel(level)
