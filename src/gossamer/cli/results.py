"""Where a verb that makes a model of a model writes it, and what it says of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from gossamer.cli.output import check_directory, note, print_json, show, working
from gossamer.errors import InputError
from gossamer.training.launched import is_first_process

if TYPE_CHECKING:
    from gossamer.models import Model
    from gossamer.recipes import Receipt

__all__ = ["check_out", "save_result", "show_result"]


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
    show_result(new, receipt, out, out, as_json=as_json)


def show_result(new: Model, receipt: Receipt, out: Path, saved: Path, *, as_json: bool) -> None:
    """Print the receipt of a model that lies in `saved`, a folder of `out`; of several processes the first does."""
    if as_json and is_first_process():
        print_json({"out": str(out), "family": new.family, "receipt": receipt.to_dict()})
    elif is_first_process():
        show(Text.assemble(f"{receipt}\nsaved in ", (str(saved), "bold"), no_wrap=True, overflow="ignore"))
