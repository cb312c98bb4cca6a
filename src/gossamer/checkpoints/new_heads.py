"""Heads whose weights are to be drawn: what a checkpoint's own format makes of them."""

from pathlib import Path

from gossamer.checkpoints.files import read_json
from gossamer.checkpoints.hub import find_checkpoint
from gossamer.checkpoints.sentence_transformers import find_encoder
from gossamer.errors import InputError
from gossamer.families import get_family
from gossamer.models.heads import Head

__all__ = ["usual_head"]


def usual_head(path_or_hub_id: str | Path, kind: type[Head]) -> Head:
    """The head of this kind as it is usual on a checkpoint, with its dropout and activation; only config.json is read.

    Its labels are those that the file names. Raises InputError for a file that cannot be read.
    """
    path = find_encoder(find_checkpoint(path_or_hub_id)) / "config.json"
    config = read_json(path)
    try:
        return get_family(config.get("model_type")).usual_head(config, kind)
    except InputError as problem:
        raise InputError(f"{path}: {problem}") from None
