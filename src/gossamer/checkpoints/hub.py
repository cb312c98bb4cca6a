"""From what the user names, a directory or an id on the Hugging Face hub, to a local directory."""

import re
from pathlib import Path

from gossamer.checkpoints.files import reason
from gossamer.checkpoints.samples import SAMPLE_PREFIX, find_sample
from gossamer.errors import InputError, quote

__all__ = ["find_checkpoint"]

_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_SMALL = ["*.json", "*.txt", "*.model", "README.md"]
_SAFE = "*.safetensors"
_PICKLED = ["*/pytorch_model*.bin", "pytorch_model*.bin"]  # sentence-transformers once kept the encoder in a folder


def find_checkpoint(path_or_id: str | Path) -> Path:
    """A local directory as it is; an installed sample ("sample:minilm"); else the hub's snapshot of that id,
    configuration, tokenizer and weights only.

    Raises InputError where neither is there, or the hub cannot be reached.
    """
    if not isinstance(path_or_id, str | Path):
        raise InputError(
            f"the model is {quote(path_or_id)}; name a directory or an id on the hub, such as 'owner/name'"
        )
    name = str(path_or_id)
    try:
        path = Path(path_or_id).expanduser()
        if name and path.is_dir():
            return path
        is_file = bool(name) and path.exists()
    except (OSError, RuntimeError, ValueError) as problem:  # too long, or of a user who is not there
        raise InputError(f"{quote(name)}: no such directory ({reason(problem)}); name a model directory") from None
    if is_file:
        raise InputError(f"{path}: is a file; name the directory that holds config.json and the weights")
    if isinstance(path_or_id, str) and name.startswith(SAMPLE_PREFIX):
        return find_sample(name)
    if isinstance(path_or_id, Path) or not _ID.fullmatch(name):
        raise InputError(
            f"{quote(name)}: no such directory; name a model directory or an id on the hub, such as 'owner/name'"
        )
    return _download(name)


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        snapshot = Path(snapshot_download(name, allow_patterns=[*_SMALL, _SAFE]))
        if pickled := _still_pickled(snapshot):
            snapshot = Path(snapshot_download(name, allow_patterns=[*_SMALL, _SAFE, *pickled]))
        return snapshot
    except GatedRepoError:
        raise InputError(
            f"{quote(name)} is closed to you: accept its terms on the hub and log in, then try again"
        ) from None
    except RepositoryNotFoundError:
        raise InputError(f"{quote(name)} is neither a directory here nor a model on the hub; check the name") from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError) as problem:
        raise InputError(
            f"{quote(name)} is no directory here, and the hub could not give it ({reason(problem)}); "
            "name a local directory, or try again online"
        ) from None


def _still_pickled(snapshot: Path) -> list[str]:
    """The patterns of weights that are not there as safetensors: all, or those of sentence-transformers' maps."""
    dense, there = set(snapshot.glob("*_Dense")), {path.parent for path in snapshot.rglob(_SAFE)}
    if not there - dense:
        return _PICKLED
    return ["*_Dense/pytorch_model.bin"] if dense - there else []
