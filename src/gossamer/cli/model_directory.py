"""Where a verb that makes a model of another may save it."""

from __future__ import annotations

from pathlib import Path

from gossamer.cli.output import check_directory
from gossamer.errors import InputError

__all__ = ["check_model_directory"]


def check_model_directory(model: str, out: Path, what: str) -> None:
    """Refuse, before any work is done, the directory of the model that is to be `what` ("trimmed"), and others' models.

    Raises InputError for those, and for a directory that cannot be written.
    """
    if out.is_dir() and Path(model).is_dir() and out.samefile(model):
        raise InputError(f"{out}: is the model to be {what}; name another directory, so that both are there")
    check_directory(out)
    if (out / "config.json").exists() and not (out / "gossamer.json").exists():
        raise InputError(f"{out}: holds a model that Gossamer did not write; name another directory")
