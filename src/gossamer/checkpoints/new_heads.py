"""Heads whose weights are to be drawn: what a checkpoint's own format makes of them."""

from pathlib import Path

import torch

from gossamer.checkpoints.checkpoint import open_checkpoint
from gossamer.checkpoints.files import read_json
from gossamer.checkpoints.hub import find_checkpoint
from gossamer.checkpoints.load import load
from gossamer.checkpoints.sentence_transformers import find_encoder
from gossamer.errors import InputError
from gossamer.families import get_family
from gossamer.models.heads import Head
from gossamer.models.initial import initialise
from gossamer.models.model import Model

__all__ = ["load_with_new_head", "own_head", "usual_head"]


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


def own_head(path_or_hub_id: str | Path) -> Head | None:
    """The head that a checkpoint has, as `load` would give it; no tensor is read. Raises InputError as `load` does."""
    return open_checkpoint(path_or_hub_id, None).architecture.head


def load_with_new_head(path_or_hub_id: str | Path, head: Head, seed: int) -> Model:
    """The checkpoint's model with this head, in float32: what its files have of it, the rest drawn by the seed.

    Its last map is drawn where that of the files is for other labels, though it be as many.
    """
    own = own_head(path_or_hub_id)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = load(path_or_hub_id, head=head, dtype="float32")
        if isinstance(own, type(head)) and not _means_the_same(own, head):
            initialise(model.get_submodule("head.output"), model.architecture.initializer_range)
    return model


def _means_the_same(own: Head, new: Head) -> bool:
    """Whether the outputs of two heads of one kind stand for the same; a file may not say for which problem."""
    problems = {getattr(head, "problem_type", None) for head in (own, new)} - {None}
    return getattr(own, "labels", ()) == getattr(new, "labels", ()) and len(problems) < 2
