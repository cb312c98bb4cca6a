"""One form for all receipts: a table in Markdown, and a page of HTML with everything it shows inside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

__all__ = ["ReportTable", "html_page", "markdown_table"]


@dataclass(frozen=True, kw_only=True)
class ReportTable:
    """A title, the heads of the columns, the rows, and a remark below them."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    remark: str = ""


def markdown_table(table: ReportTable) -> str:
    """The table alone, whatever is in its cells."""
    cells = [[_cell(text) for text in row] for row in (table.head, *table.rows)]
    widths = [max(3, *map(len, column)) for column in zip(*cells, strict=True)]
    lines = [[text.ljust(width) for text, width in zip(row, widths, strict=True)] for row in cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in [lines[0], ["-" * width for width in widths], *lines[1:]])


def html_page(
    title: str, tables: Sequence[ReportTable], *, lines: Sequence[str] = (), plots: Sequence[str] = ()
) -> str:
    """A page that needs no other file. Texts are escaped, whoever wrote them; plots are `<svg>` elements."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    template = files("gossamer.inspection").joinpath("report.html.j2").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(template).render(
        title=title, tables=tables, lines=lines, plots=[Markup(plot) for plot in plots]
    )


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
