"""From what the user names, a directory or an id on the Hugging Face hub, to a local directory."""

from pathlib import Path

from gossamer.checkpoints.download import check_revision, is_intact
from gossamer.checkpoints.files import reason
from gossamer.checkpoints.hub_errors import check_token, hub_errors
from gossamer.checkpoints.hub_names import is_id
from gossamer.checkpoints.samples import SAMPLE_PREFIX, find_sample
from gossamer.errors import InputError, quote

__all__ = ["find_checkpoint"]

_SMALL = ["*.json", "*.txt", "*.model", "*.spm", "*.jinja", "README.md"]
_SAFE = "*.safetensors"
_DIGESTS = (40, 64)  # letters of git's SHA-1 and of SHA-256
_PICKLED = ["*/pytorch_model*.bin", "pytorch_model*.bin"]  # sentence-transformers once kept the encoder in a folder


def find_checkpoint(path_or_id: str | Path, revision: str | None = None) -> Path:
    """A local directory as it is; an installed sample ("sample:minilm"); else the hub's snapshot of that id,
    configuration, tokenizer and weights only.

    revision: a branch, a tag or a commit of an id on the hub, "main" unless given. What comes anew from the hub is
    compared with the digest it goes by. Raises InputError where neither is there, the hub cannot be reached, or a
    revision is given for what has none.
    """
    check_revision(revision)
    if not isinstance(path_or_id, str | Path):
        raise InputError(
            f"the model is {quote(path_or_id)}; name a directory or an id on the hub, such as 'owner/name'"
        )
    name = str(path_or_id)
    try:
        path = Path(path_or_id).expanduser()
        if name and path.is_dir():
            _refuse_revision(revision, f"{quote(name)} is a directory")
            return path
        is_file = bool(name) and path.exists()
    except (OSError, RuntimeError, ValueError) as problem:  # too long, or of a user who is not there
        raise InputError(f"{quote(name)}: no such directory ({reason(problem)}); name a model directory") from None
    if is_file:
        raise InputError(f"{path}: is a file; name the directory that holds config.json and the weights")
    if isinstance(path_or_id, str) and name.startswith(SAMPLE_PREFIX):
        _refuse_revision(revision, f"{quote(name)} is an installed sample")
        return find_sample(name)
    if isinstance(path_or_id, Path) or not is_id(name):
        raise InputError(
            f"{quote(name)}: no such directory; name a model directory or an id on the hub, such as 'owner/name'"
        )
    return _download(name, revision)


def _refuse_revision(revision: str | None, what: str) -> None:
    if revision is not None:
        raise InputError(f"revision is {quote(revision)}, but {what}, which has none; leave it out, or name an id")


def _download(name: str, revision: str | None) -> Path:
    from huggingface_hub.errors import LocalEntryNotFoundError

    check_token(needed=False)
    with hub_errors(name, revision):
        try:
            snapshot = _snapshot(name, revision, [*_SMALL, _SAFE])
            if pickled := _still_pickled(snapshot):
                snapshot = _snapshot(name, revision, [*_SMALL, _SAFE, *pickled])
            return snapshot
        except LocalEntryNotFoundError as problem:
            raise InputError(
                f"{quote(name)} is no directory here, and the hub could not give it ({reason(problem)}); "
                "name a local directory, or try again online"
            ) from None


def _snapshot(name: str, revision: str | None, patterns: list[str]) -> Path:
    """The hub's snapshot in its client's cache, where each file is named by its digest: new ones must have it."""
    from huggingface_hub import constants, snapshot_download

    blobs = Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}" / "blobs"
    before = set(blobs.iterdir()) if blobs.is_dir() else set()
    snapshot = Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
    for blob in set(blobs.iterdir()) - before if blobs.is_dir() else ():
        if len(blob.name) in _DIGESTS and not is_intact(blob, blob.name):
            blob.resolve().unlink(missing_ok=True)  # in a store that repositories share it is a link
            blob.unlink(missing_ok=True)
            raise InputError(
                f"{quote(name)}: a file that came is not the one that the hub lists (its digest {blob.name[:12]}... "
                "differs), and was not kept; try again, or tell the owner"
            )
    return snapshot


def _still_pickled(snapshot: Path) -> list[str]:
    """The patterns of weights that are not there as safetensors: all, or those of sentence-transformers' maps."""
    dense, there = set(snapshot.glob("*_Dense")), {path.parent for path in snapshot.rglob(_SAFE)}
    if not there - dense:
        return _PICKLED
    return ["*_Dense/pytorch_model.bin"] if dense - there else []
