"""gossamer estimate: what a training will take, before it begins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from rich.console import Group
from rich.table import Table
from rich.text import Text
from typer import Argument, Option

from gossamer.cli.changes import Changes, read_changes
from gossamer.cli.options import AsJson
from gossamer.cli.output import print_json, show, working

if TYPE_CHECKING:
    from gossamer.training.estimate.estimate import Estimate

__all__ = ["estimate"]


def estimate(
    config: Annotated[str, Argument(metavar="CONFIG.yaml", help="The settings that gossamer train would be given.")],
    change: Changes = None,
    processes: Annotated[int, Option(metavar="N", help="Processes that share the batch.")] = 1,
    as_json: AsJson = False,
) -> None:
    """What a training takes: the most memory at once, and the time of a step.

    Nothing is trained and no data are read, so that rows with labels are taken to be as long as they may be; for some
    seconds the machine's speed is measured. Memory is that of one process, on top of Python and torch themselves.
    """
    changes = read_changes(change)
    with working("measuring this machine"):
        from gossamer.training.config import TrainingConfig
        from gossamer.training.estimate.estimate import estimate as reckon

        estimated = reckon(TrainingConfig.read(config, changes), processes=processes)
    if as_json:
        print_json(estimated.to_dict())
    else:
        show(_page(estimated))


def _page(estimated: Estimate) -> Group:
    head = (
        f"{estimated.parameters:,} parameters; {estimated.tokens:,} tokens a step: "
        f"{estimated.rows} x {estimated.length:,}"
        f"{f' x {estimated.accumulation}' if estimated.accumulation > 1 else ''}, on {estimated.device}"
    )
    memory, seconds = estimated.memory, estimated.seconds
    sizes = {
        "weights": memory.weights,
        "optimizer": memory.optimizer,
        "gradients": memory.gradients,
        **{f"kept: {kind.replace('_', '-')}": size for kind, size in memory.activations.items()},
        "at work": memory.at_work + memory.batch,
    }
    longest = f"all rows taken to be of {estimated.length:,} tokens (batch.length); shorter texts take less"
    return Group(
        Text(head),
        *([Text(longest)] if estimated.is_upper_bound else []),
        Text(f"\nmemory at its fullest ({memory.moment.replace('_', '-')}): {_bytes(memory.peak)}", "bold"),
        _grid([(name, _bytes(size)) for name, size in sizes.items() if size]),
        Text(f"\ntime of a step: {_time(estimated.step_seconds)}, {_rate(estimated)} tokens/s", "bold"),
        _grid([(name, _time(time)) for name, time in sorted(seconds.items(), key=lambda item: -item[1])]),
    )


def _grid(rows: list[tuple[str, str]]) -> Table:
    grid = Table.grid(padding=(0, 3, 0, 0))
    grid.add_column(min_width=20)
    grid.add_column(justify="right")
    for name, value in rows:
        grid.add_row(f"  {name}", value)
    return grid


def _rate(estimated: Estimate) -> str:
    return f"{estimated.tokens / estimated.step_seconds:,.0f}" if estimated.step_seconds else "?"


def _bytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


def _time(seconds: float) -> str:
    return f"{seconds:,.2f} s" if seconds >= 1 else f"{1e3 * seconds:,.1f} ms"
