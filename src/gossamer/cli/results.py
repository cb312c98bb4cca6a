"""Where a verb that makes a model of a model writes it, and what it says of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from gossamer.cli.output import check_directory, note, print_json, show, working
from gossamer.errors import InputError

if TYPE_CHECKING:
    from gossamer.models import Model
    from gossamer.recipes import Receipt

__all__ = ["check_out", "save_result"]


def check_out(model: str, out: Path, done: str) -> None:
    """Refuse a directory that holds the model to be `done` ("lengthened"), or another that Gossamer did not write."""
    if out.is_dir() and Path(model).is_dir() and out.samefile(model):
        raise InputError(f"{out}: is the model to be {done}; name another directory, so that both are there")
    check_directory(out)
    if (out / "config.json").exists() and not (out / "gossamer.json").exists():
        raise InputError(f"{out}: holds a model that Gossamer did not write; name another directory")


def save_result(new: Model, receipt: Receipt, out: Path, *, as_json: bool) -> None:
    """Save the model that a recipe made, and print its receipt."""
    from gossamer.checkpoints import save

    replaced = (out / "config.json").exists()
    with working(f"saving it in {out}"):
        save(new, out)
    if replaced:
        note(f"{out}: the model that was there was replaced")
    if as_json:
        print_json({"out": str(out), "family": new.family, "receipt": receipt.to_dict()})
    else:
        show(Text.assemble(f"{receipt}\nsaved in ", (str(out), "bold"), no_wrap=True, overflow="ignore"))
