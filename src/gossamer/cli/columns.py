"""`--column text=review`: what columns are called, for every verb that reads labelled rows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from typer import BadParameter, Option

from gossamer.errors import quote

__all__ = ["Columns", "read_columns"]

Columns = Annotated[
    list[str] | None, Option("--column", metavar="OURS=YOURS", help="What a column is called: text=review.")
]


def read_columns(columns: Iterable[str] | None) -> dict[str, str]:
    """Their names by ours. BadParameter for another form."""
    return dict(map(_column, columns or []))


def _column(text: str) -> tuple[str, str]:
    ours, equals, yours = text.partition("=")
    if not (ours and equals and yours):
        raise BadParameter(f"{quote(text)} is not of the form OURS=YOURS, such as text=review", param_hint="'--column'")
    return ours, yours
