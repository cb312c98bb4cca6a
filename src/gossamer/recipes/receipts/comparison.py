"""Models side by side: what they weigh, cost and take, relative to the first, and how sure differences are."""

from __future__ import annotations

import dataclasses
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from gossamer.checkpoints import save
from gossamer.errors import InputError, Remark, clean_line, quote
from gossamer.inspection.cost import cost
from gossamer.inspection.page import flops_text, size_text
from gossamer.inspection.report import ReportTable, html_page, markdown_table
from gossamer.metrics import PairedDifference, paired_difference
from gossamer.metrics.estimate import Groups, Values, read_values
from gossamer.models.model import Model
from gossamer.models.model_argument import check_model, check_one_text
from gossamer.recipes.receipts.measure import (
    check_devices,
    check_settings,
    exchanged_bytes,
    gradient_bytes,
    machine,
    measure_latency,
)
from gossamer.recipes.receipts.peak_memory import peak_memory
from gossamer.training.receipt import TrainingReceipt

__all__ = ["ComparedRow", "Comparison", "Making", "compare", "unique_names"]

_LONGEST_NAME = 60


@dataclass(frozen=True, kw_only=True)
class ComparedRow:
    """One number of each model, in their order, None where a model has none; `unit`: "", "bytes", "FLOP", "s", "score".

    spreads: the quartiles of what was measured in rounds, the least and greatest mean of a score's seeds. differences:
    of a score from the first model's, paired.
    """

    name: str
    unit: str
    values: tuple[float | None, ...]
    spreads: tuple[tuple[float, float] | None, ...] | None = None
    differences: tuple[PairedDifference | None, ...] | None = None

    def relative(self, i: int) -> float | None:
        """The i-th value as a multiple of the first."""
        value, first = self.values[i], self.values[0]
        return None if value is None or not first else value / first


@dataclass(frozen=True, kw_only=True)
class Making:
    """What it cost to make a model: seconds of training, tokens learnt from, FLOPs of that."""

    seconds: float
    tokens: int
    flops: float

    @classmethod
    def of_training(cls, receipt: TrainingReceipt, model: Model, length: int | None = None) -> Making:
        """Of a run whose texts have `length` tokens (as many as the model reads where nothing is said).

        FLOPs are three times those of reading the same tokens, a backward pass being two forward ones (Kaplan et al.
        2020, section 2.1): more than it took where parts were frozen.
        """
        read = model.architecture.length if length is None else length
        forward = cost(model.architecture, read).flops / read
        return cls(seconds=receipt.seconds, tokens=receipt.tokens, flops=3 * forward * receipt.tokens)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Rows of numbers, a column for each of `models`; what was measured was so under `conditions`."""

    models: tuple[str, ...]
    rows: tuple[ComparedRow, ...]
    conditions: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """The comparison as JSON-ready values."""
        return dataclasses.asdict(self)

    def table(self) -> ReportTable:
        """What people read: each value, and beside it what multiple of the first model's it is."""
        rows = tuple((row.name, *(_cell(row, i) for i in range(len(self.models)))) for row in self.rows)
        said = ", ".join(f"{name} {value}" for name, value in self.conditions.items())
        title = " and ".join([", ".join(self.models[:-1]), self.models[-1]])
        return ReportTable(title=title, head=("", *self.models), rows=rows, remark=said)

    def __str__(self) -> str:
        table = self.table()
        return f"{markdown_table(table)}\n\n{table.remark}"

    def to_html(self) -> str:
        """One page with the table and a plot of all multiples, which needs no other file."""
        return html_page("Models compared", [self.table()], plots=self.plots())

    def plots(self) -> list[str]:
        """`<svg>` elements: every row but scores, as multiples of the first model's value."""
        from gossamer.recipes.receipts.comparison_plot import plot_rows  # matplotlib takes a while

        return [plot_rows(self.models, [row for row in self.rows if row.unit != "score"])]


def compare(
    models: Mapping[str, Model] | Sequence[Model],
    *,
    latency: bool = True,
    memory: bool = True,
    batches: Sequence[int] = (1, 8),
    tokens: Sequence[int] = (128, 512),
    threads: Sequence[int] = (1, 2),
    rounds: int = 5,
    processes: int = 2,
    scores: Mapping[str, Mapping[str, Values | Sequence[Values]]] | None = None,
    groups: Groups | None = None,
    made: Mapping[str, Making] | None = None,
) -> Comparison:
    """Lay two or more models side by side; the first is what the others are compared with.

    Parameters, FLOPs of a text and the bytes that each of `processes` sends in a data-parallel step are counted; bytes
    on disk are those of the weight files that `gossamer.save` writes. Time (`latency`) is measured as
    `measure_latency` says, for every number of texts, tokens and threads, and peak memory (`memory`) in a process for
    each model, of the most texts and tokens. Numbers of tokens are cut to what the longest model reads.

    Args:
        models: by name, or as they come, named by where they were loaded from.
        scores: for each metric a vector for each model's name: a value an example, or a seed, the same in every model;
            or a list of such vectors, one a seed, of which models may have different numbers. Told are their means,
            the least and greatest mean of a seed, and the differences from the first, of each example's mean over
            seeds, with a 95% interval (`paired_difference`).
        groups: of the scores' values, which hang together.
        made: what it cost to make a model, by its name.

    Raises:
        InputError: fewer than two models, what is no model, settings below 1, scores or costs of no model that is
            compared, and vectors of different length.
    """
    named = _named(models)
    check_settings(batches=batches, tokens=tokens, threads=threads, rounds=(rounds,), processes=(processes,))
    if latency:
        check_devices(named)
    _check_names({f"scores[{quote(name)}]": vectors for name, vectors in (scores or {}).items()}, named)
    _check_names({"made": made or {}}, named)
    longest = max(model.architecture.length for model in named.values())
    lengths = list(dict.fromkeys(min(length, longest) for length in tokens))
    judged = [_score_row(name, vectors, list(named), groups) for name, vectors in (scores or {}).items()]
    rows = _counted_rows(named, lengths, processes)
    with tempfile.TemporaryDirectory() as folder:
        saved = _save_all(named, Path(folder))
        rows.insert(1, ComparedRow(name="weights on disk", unit="bytes", values=tuple(map(_weight_bytes, saved))))
        if memory:
            rows += [_memory_row(named, saved, max(batches), lengths)]
    if latency:
        rows += _latency_rows(named, batches, lengths, threads, rounds)
    return Comparison(
        models=tuple(named),
        rows=(*rows, *_making_rows(named, made or {}), *judged),
        conditions=machine() | {"dtype": _dtypes(named)} | ({"rounds": rounds} if latency else {}),
    )


def unique_names(names: Sequence[str]) -> list[str]:
    """Names of one line each, of which no two are alike."""
    unique: list[str] = []
    for name in names:
        line = clean_line(name, _LONGEST_NAME)
        number = 1 + sum(other == line or other.startswith(f"{line} (") for other in unique)
        unique.append(line if number == 1 else f"{line} ({number})")
    return unique


def _named(models: Mapping[str, Model] | Sequence[Model]) -> dict[str, Model]:
    if not isinstance(models, Mapping | list | tuple) or len(models) < 2:
        raise InputError(f"models is {quote(models)}; give two or more to compare, in a list or by name")
    if isinstance(models, Mapping):
        names, values = list(models), list(models.values())
    else:
        values = list(models)
        names = [getattr(model, "source", None) or f"model {i}" for i, model in enumerate(values, start=1)]
    for name, model in zip(names, values, strict=True):
        check_one_text(check_model(model), "compare")
        if not isinstance(name, str):
            raise InputError(f"models has the name {quote(name)}; names are texts")
    return dict(zip(unique_names(names), values, strict=True))


def _dtypes(models: Mapping[str, Model]) -> str:
    names = (str(next(model.parameters()).dtype).removeprefix("torch.") for model in models.values())
    return ", ".join(dict.fromkeys(names))


def _check_names(by_name: Mapping[str, Mapping[str, Any]], models: Mapping[str, Model]) -> None:
    for argument, entries in by_name.items():
        for name in entries:
            if name not in models:
                raise InputError(f"{argument} has {quote(name)}, which is none of the models, {quote(list(models))}")


def _counted_rows(models: Mapping[str, Model], lengths: Sequence[int], processes: int) -> list[ComparedRow]:
    parameters = tuple(sum(weight.numel() for weight in model.parameters()) for model in models.values())
    sent = tuple(exchanged_bytes(gradient_bytes(model), processes) for model in models.values())
    return [
        ComparedRow(name="parameters", unit="", values=parameters),
        *(
            ComparedRow(
                name=f"FLOPs, 1 x {length:,} tokens",
                unit="FLOP",
                values=tuple(
                    cost(model.architecture, length).flops if length <= model.architecture.length else None
                    for model in models.values()
                ),
            )
            for length in lengths
        ),
        ComparedRow(name=f"sent a step by each of {processes} processes", unit="bytes", values=sent),
    ]


def _save_all(models: Mapping[str, Model], folder: Path) -> list[Path]:
    saved = []
    for i, model in enumerate(models.values()):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Remark)  # of a copy that nobody keeps
            saved.append(save(model, folder / str(i)))
    return saved


def _weight_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*.safetensors"))


def _memory_row(models: Mapping[str, Model], saved: Sequence[Path], batch: int, lengths: Sequence[int]) -> ComparedRow:
    most = min(max(lengths), *(model.architecture.length for model in models.values()))
    peaks = tuple(peak_memory(folder, batch=batch, tokens=most) for folder in saved)
    return ComparedRow(name=f"peak memory, {batch} x {most:,} tokens", unit="bytes", values=peaks)


def _latency_rows(
    models: Mapping[str, Model],
    batches: Sequence[int],
    lengths: Sequence[int],
    threads: Sequence[int],
    rounds: int,
) -> list[ComparedRow]:
    rows = []
    for timed in measure_latency(models, batches=batches, tokens=lengths, threads=threads, rounds=rounds):
        count = f"{timed.threads} thread{'s' if timed.threads > 1 else ''}"
        quartiles = [timed.seconds[name] for name in models]
        rows.append(
            ComparedRow(
                name=f"time, {timed.batch} x {timed.tokens:,} tokens, {count}",
                unit="s",
                values=tuple(None if each is None else each[1] for each in quartiles),
                spreads=tuple(None if each is None else (each[0], each[2]) for each in quartiles),
            )
        )
    return rows


def _making_rows(models: Mapping[str, Model], made: Mapping[str, Making]) -> list[ComparedRow]:
    units = {"seconds": "s", "tokens": "", "flops": "FLOP"}
    words = {"seconds": "time to make it", "tokens": "tokens learnt from", "flops": "FLOPs to make it"}
    return [
        ComparedRow(
            name=words[field],
            unit=unit,
            values=tuple(getattr(made[name], field) if name in made else None for name in models),
        )
        for field, unit in units.items()
        if made
    ]


def _score_row(
    name: str, vectors: Mapping[str, Values | Sequence[Values]], models: Sequence[str], groups: Groups | None
) -> ComparedRow:
    seeds = {model: _read_seeds(f"scores[{quote(name)}][{quote(model)}]", vectors[model]) for model in vectors}
    lengths = {vector.shape[1] for vector in seeds.values()}
    if len(lengths) > 1:
        raise InputError(f"scores[{quote(name)}] has vectors of {sorted(lengths)} values; give each model as many")
    examples = {model: vector.mean(0) for model, vector in seeds.items()}
    first = examples.get(models[0])
    differences = tuple(
        paired_difference(examples[model], first, groups)
        if first is not None and model in examples and model != models[0]
        else None
        for model in models
    )
    means = tuple(float(examples[model].mean()) if model in examples else None for model in models)
    spreads = tuple(_spread_of_seeds(seeds.get(model)) for model in models)
    return ComparedRow(
        name=clean_line(name, _LONGEST_NAME), unit="score", values=means, differences=differences,
        spreads=spreads if any(spreads) else None,
    )  # fmt: skip


def _read_seeds(name: str, values: Values | Sequence[Values]) -> Tensor:
    """The values of each seed, float64 [seeds, examples]."""
    if not (isinstance(values, list | tuple) and len(values) > 0 and isinstance(values[0], list | tuple | Tensor)):
        return read_values(name, cast(Values, values))[None]
    rows = [read_values(f"{name}[{i}]", cast(Values, vector)) for i, vector in enumerate(values)]
    if len({len(row) for row in rows}) > 1:
        raise InputError(f"{name} has seeds of {sorted({len(row) for row in rows})} values; give each as many")
    return torch.stack(rows)


def _spread_of_seeds(seeds: Tensor | None) -> tuple[float, float] | None:
    """The least and the greatest mean of a seed, where there are several."""
    if seeds is None or len(seeds) == 1:
        return None
    means = seeds.mean(1)
    return float(means.min()), float(means.max())


def _cell(row: ComparedRow, i: int) -> str:
    value, relative = row.values[i], row.relative(i)
    if value is None:
        return "-"
    told = _value_text(value, row.unit)
    if row.spreads is not None and (spread := row.spreads[i]) is not None:
        told += f" [{_value_text(spread[0], row.unit)} to {_value_text(spread[1], row.unit)}]"
    if row.differences is not None:
        difference = row.differences[i]
        return told if difference is None else f"{told}, {difference}"
    return told if i == 0 or relative is None else f"{told} ({relative:.3g}x)"


def _value_text(value: float, unit: str) -> str:
    if unit == "bytes":
        return size_text(value)
    if unit == "FLOP":
        return flops_text(value)
    if unit == "s":
        return f"{1000 * value:.3g} ms" if value < 1 else f"{value:,.1f} s"
    return f"{value:.4f}" if unit == "score" else f"{value:,.0f}"
