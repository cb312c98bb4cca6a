"""What --help prints: one compact page, the same for the command and its verbs."""

from __future__ import annotations

import inspect
from enum import Enum
from typing import Any

from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text
from typer.core import TyperCommand, TyperGroup

from gossamer.cli.output import show
from gossamer.cli.wording import wording

__all__ = ["Verb", "Verbs"]

WIDTH = 100


class Verb(TyperCommand):
    """One verb: what it does, its arguments, its options."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        params = [parameter for parameter in self.get_params(ctx) if not getattr(parameter, "hidden", False)]
        arguments = [parameter for parameter in params if not _is_option(parameter)]
        names = " ".join(parameter.metavar or str(parameter.name).upper() for parameter in arguments)
        usage = " ".join(part for part in (ctx.command_path, names, "[OPTIONS]") if part)
        _show(usage, self.help, [_rows(arguments), _rows([parameter for parameter in params if _is_option(parameter)])])


class Verbs(TyperGroup):
    """The command: what it is for, and its verbs."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        wording.take(command)
        return name, command, rest

    def format_help(self, ctx: Any, formatter: Any) -> None:
        verbs = [
            (Text(name, "bold cyan"), Text(command.short_help or command.help or ""))
            for name, command in self.commands.items()
        ]
        rows = _rows(self.get_params(ctx))
        _show(f"{ctx.command_path} VERB ...", self.help, [verbs, rows], self.epilog)


Row = tuple[Text, Text]


def _is_option(parameter: Any) -> bool:
    return str(parameter.opts[0]).startswith("-")


def _rows(parameters: list[Any]) -> list[Row]:
    return [_option(parameter) if _is_option(parameter) else _argument(parameter) for parameter in parameters]


def _argument(argument: Any) -> Row:
    return Text(argument.metavar or str(argument.name).upper(), "bold"), Text(argument.help or "")


def _option(option: Any) -> Row:
    name = Text(
        ", ".join(sorted([*option.opts, *option.secondary_opts], key=lambda name: not name.startswith("--"))),
        "bold cyan",
    )
    if not option.is_flag:
        name.append(f" {option.metavar or ('N' if isinstance(option.default, int) else 'VALUE')}", "not bold")
    text = Text(option.help or "")
    if option.required:
        text.append(" (required)", "bold")
    elif not option.is_flag and option.default not in (None, "") and not callable(option.default):
        default = option.default.value if isinstance(option.default, Enum) else option.default
        text.append(f" [{default}]", "dim")
    return name, text


def _show(usage: str, about: str | None, sections: list[list[Row]], end: str | None = None) -> None:
    """Print the page; all sections share one width of names."""
    widest = max((len(name) for rows in sections for name, _ in rows), default=0)
    parts: list[Any] = [Text.assemble("Usage: ", (usage, "bold"))]
    parts += [Text("\n" + " ".join(paragraph.split())) for paragraph in inspect.cleandoc(about or "").split("\n\n")]
    parts += [Padding(_grid(rows, widest), (1, 0, 0, 2)) for rows in sections if rows]
    show(Group(*parts, *([Text(f"\n{end}", "dim")] if end else [])), most=WIDTH)


def _grid(rows: list[Row], width: int) -> Table:
    grid = Table.grid(padding=(0, 3, 0, 0))
    grid.add_column(min_width=width, max_width=width)
    grid.add_column(overflow="fold")
    for row in rows:
        grid.add_row(*row)
    return grid
