"""`--set FIELD=VALUE`: another value in a config, for every verb that reads one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from typer import BadParameter, Option

from gossamer.errors import quote

__all__ = ["Changes", "read_changes"]

Changes = Annotated[
    list[str] | None, Option("--set", metavar="FIELD=VALUE", help="Another value: optimizer.learning_rate=1e-4.")
]


def read_changes(changes: Iterable[str] | None) -> dict[str, Any]:
    """Paths in the config and their values, which are read as YAML. BadParameter for another form."""
    return dict(map(_change, changes or []))


def _change(text: str) -> tuple[str, Any]:
    import yaml  # type: ignore[import-untyped]

    name, equals, value = text.partition("=")
    if not (name and equals):
        raise BadParameter(f"{quote(text)} is not of the form FIELD=VALUE, such as steps=100", param_hint="'--set'")
    try:
        return name, yaml.safe_load(value)
    except yaml.YAMLError:
        return name, value
    except ValueError:  # more digits than Python reads
        raise BadParameter(f"{quote(name)} is {quote(value)}, too large a number", param_hint="'--set'") from None
