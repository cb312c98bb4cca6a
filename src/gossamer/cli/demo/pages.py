"""The demo's results for people: tables on the terminal and one self-contained HTML page."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from gossamer.cli.demo.plots import Pictures

__all__ = ["report_page", "table_page"]

NAMES = {
    "truncated": "first 512 tokens only",
    "chunk whole": "chunks of 512, averaged",
    "span whole": "whole, long model",
    **{f"chunk {size}": f"chunks of {size}, read alone" for size in (128, 256, 512)},
    **{f"span {size}": f"spans of {size}, long model" for size in (128, 256, 512)},
}
"""Ways of reading in words."""

Rows = list[tuple[str, ...]]


class Section(NamedTuple):
    """A table: its title, the heads of its columns, its rows, and a remark below it."""

    title: str
    head: tuple[str, ...]
    rows: Rows
    remark: str = ""


def table_page(receipt: dict[str, Any], out: Path) -> Group:
    """All tables, for the terminal."""
    parts: list[Any] = []
    for title, head, rows, remark in _tables(receipt):
        table = Table(*head, box=SIMPLE_HEAD, title=title, title_justify="left", title_style="bold", pad_edge=False)
        for column in table.columns[1:]:
            column.justify = "right"
        for row in rows:
            table.add_row(*row)
        parts += [table, *([Text(remark, style="dim")] if remark else []), ""]
    return Group(Text(headline(receipt), style="bold"), "", *parts, Text(_where(receipt, out)))


def report_page(receipt: dict[str, Any], pictures: Pictures) -> str:
    """The HTML page, with everything it shows inside."""
    template = files("gossamer.cli.demo").joinpath("report.html.j2").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters["number"] = _number
    return environment.from_string(template).render(
        headline=headline(receipt),
        receipt=receipt,
        tables=_tables(receipt),
        plots={name: Markup(svg) for name, svg in pictures.plots.items()},
        pattern=Markup(pictures.pattern),
        pictured=pictures.pictured,
    )


def headline(receipt: dict[str, Any]) -> str:
    """What happened, in a sentence."""
    material, lengthened = receipt["material"], receipt["lengthen"]
    seconds = receipt["seconds"]["read whole (long model)"]
    return (
        f"{lengthened['source']}, made for {lengthened['before']['length']:,} tokens, read {material['speeches']} "
        f"speeches ({material['tokens']:,} tokens, the longest {material['longest_tokens']:,}), "
        f"{material['speeches_in_one_pass']} of them in one pass of up to {lengthened['after']['length']:,} tokens, "
        f"in {seconds:.0f} s, in {receipt['conditions']['dtype']} on {receipt['conditions']['threads']} CPU threads."
    )


def _where(receipt: dict[str, Any], out: Path) -> str:
    return f"{receipt['seconds']['whole']:.0f} s in all. {out / 'report.html'}, {out / 'receipt.json'}"


def _tables(receipt: dict[str, Any]) -> list[Section]:
    return [
        Section("Vectors of short text", ("", "relative difference"), _unchanged(receipt["unchanged"])),
        Section(
            "States of one text's tokens, before and after", ("", "relative difference"), _states(receipt["lengthen"])
        ),
        Section(
            "Time and peak memory for one text, dense against windowed attention",
            ("tokens", "dense s", "windowed s", "times faster", "dense MiB", "windowed MiB"),
            _scaling(receipt["scaling"]),
        ),
        Section(
            "100-word passages that must find their speech (standard errors by speech)",
            ("speech read as", "vectors", "recall@1", "recall@10", "MRR"),
            _retrieval(receipt["retrieval"]),
            _content(receipt),
        ),
        Section(
            "Spans minus chunks, passage by passage: the same tokens and number of vectors",
            ("tokens a vector", "recall@1", "recall@10", "MRR"),
            _differences(receipt["spans_minus_chunks"]),
        ),
        Section(
            "The year of a speech, from one vector (ridge regression, speakers held out)",
            ("speech read as", "mean error, years", "R2", "rank correlation"),
            _years(receipt["years"]),
        ),
        Section("Reading", ("", "tokens", "seconds", "tokens a second"), _reading(receipt["reading"])),
    ]


def _unchanged(found: dict[str, Any]) -> Rows:
    backends = " and ".join(found["backends"])
    as_it_runs = f"as it runs (backend {backends})" if backends else "as it runs"
    return [
        ("passages that the window covers", f"{found['texts']:,}"),
        (as_it_runs, _small(found["relative_difference"])),
        ("by the backend blocked", _small(found["relative_difference_windowed_kernel"])),
    ]


def _small(difference: float | None) -> str:
    return "none to compare" if difference is None else f"{difference:.1e}"


def _states(lengthened: dict[str, Any]) -> Rows:
    """The receipt's own measurements: within what every window covers, and beyond it."""
    rows: Rows = []
    for name, value in lengthened["measured"].items():
        tokens = int(next(part for part in name.split("_") if part.isdigit()))
        covered = tokens <= lengthened["settings"]["window"] // 2 + 1
        place = "covered by the window" if covered else "beyond the window: expected to differ"
        rows.append((f"token states at {tokens:,} tokens, {place}", "" if value is None else f"{value:.1e}"))
    return rows


def _content(receipt: dict[str, Any]) -> str:
    """What a chunk or span holds where that is less than its name says, and what the short model was made to read."""
    less = [(size, content) for size, content in receipt["content_tokens"].items() if int(size) > content]
    said = [
        f"A chunk or span of {size} holds {content} tokens of text: the short model's "
        f"{receipt['lengthen']['before']['length']:,} less [CLS] and [SEP]."
        for size, content in less
    ]
    reads = receipt["reads"]
    if reads["own_limit"] < reads["tokens"]:
        said.append(f"It reads {reads['tokens']:,} tokens here, where its own files say {reads['own_limit']:,}.")
    return " ".join(said)


def _scaling(rows: list[dict[str, Any]]) -> Rows:
    return [
        (
            f"{row['tokens']:,}",
            f"{row['dense_seconds']:.2f}",
            f"{row['windowed_seconds']:.2f}",
            f"{row['dense_seconds'] / row['windowed_seconds']:.2f}",
            f"{row['dense_peak_bytes'] / 2**20:,.0f}",
            f"{row['windowed_peak_bytes'] / 2**20:,.0f}",
        )
        for row in rows
    ]


def _retrieval(rows: list[dict[str, Any]]) -> Rows:
    keys = ("recall_at_1", "recall_at_10", "mrr")
    return [(NAMES[row["way"]], f"{row['vectors']:,}", *(_estimate(row[key]) for key in keys)) for row in rows]


def _differences(rows: list[dict[str, Any]]) -> Rows:
    keys = ("recall_at_1", "recall_at_10", "mrr")
    return [(row["size"], *(_estimate(row[key], sign="+") for key in keys)) for row in rows]


def _years(rows: list[dict[str, Any]]) -> Rows:
    if not rows:
        return []
    shown = [
        (NAMES[row["way"]], _estimate(row["mean_absolute_error"], 1), _number(row["r2"]), _number(row["spearman"]))
        for row in rows
    ]
    return [*shown, ("chance: the mean year", _estimate(rows[0]["chance"], 1), "0.00", "")]


def _reading(found: dict[str, Any]) -> Rows:
    return [
        (name, f"{one['tokens']:,}", f"{one['seconds']:.1f}", f"{one['tokens_per_second']:,.0f}")
        for name, one in found.items()
    ]


def _estimate(found: dict[str, Any], digits: int = 3, sign: str = "") -> str:
    error = found["standard_error"]
    return f"{found['value']:{sign}.{digits}f}" + ("" if error is None else f" ± {error:.{digits}f}")


def _number(value: Any) -> str:
    """A number of the receipt for people; null there is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "" if value is None else str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.2f}"
