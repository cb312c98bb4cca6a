"""From a model's directory to a repository on the hub: everything in one commit, or none."""

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gossamer import __version__
from gossamer.checkpoints.card import CARD, PLACE, model_card
from gossamer.checkpoints.files import read_json, reason
from gossamer.checkpoints.hub_errors import check_token, hub_errors, quiet_client
from gossamer.checkpoints.hub_names import SAFE, check_id, choose
from gossamer.checkpoints.load import load_without_memory
from gossamer.checkpoints.save import is_model_file
from gossamer.checkpoints.seal import SEAL, check_seal, is_as_sealed
from gossamer.errors import InputError, quote
from gossamer.families import get_family
from gossamer.regular_files import check_regular

__all__ = ["Uploaded", "upload"]

_COMMIT = re.compile(r"[0-9a-f]{40}")
_NOTHING = "nothing was uploaded"
_NO_COMMIT = "no commit was made: the model there is as it was"


@dataclass(frozen=True, kw_only=True)
class Uploaded:
    """What became of an upload: the commit and its address, names of files that went up, were left out, were removed.

    keeps_card: whether a card that a person wrote was left as it is. is_new: whether the repository was created.
    """

    name: str
    commit: str
    url: str
    files: tuple[str, ...]
    left_out: tuple[str, ...]
    removed: tuple[str, ...]
    keeps_card: bool
    is_new: bool


def upload(
    directory: str | Path,
    name: str,
    *,
    revision: str | None = None,
    private: bool = False,
    message: str | None = None,
    create_pr: bool = False,
    allow: Sequence[str] = (),
) -> Uploaded:
    """Send a model's directory to a repository of the hub, which is created where it is not there.

    revision: a branch, created where it is not there; "main". private: of a new repository; one that is there and open
    to all is refused. create_pr: open a pull request in place of a commit to the branch. allow: names of further files
    than safetensors, configuration, vocabulary and texts. All files are one commit, which also removes the old model's
    other weights; where anything fails no commit is made. A card of Gossamer's goes up with the repository's id in it,
    one is written where there is none, and a card there that a person wrote is kept. Nothing is unpickled. Raises
    InputError, one line.
    """
    check_id(name, with_owner=True)
    branch = _branch(revision)
    folder = Path(directory).expanduser()
    paths, left_out = _files(folder, allow)
    check_token(needed=True)
    with quiet_client(), hub_errors(name, branch, _NOTHING):
        is_new = _find_or_create(name, private)
        parent = _head(name, branch, may_create=not create_pr)
        there = _names(name, parent)
        contents: dict[str, Path | bytes] = dict(paths)
        is_written_by_hand = CARD in paths and is_as_sealed(folder, CARD) is not True
        keeps_card = not is_written_by_hand and _has_own_card(name, parent, there)
        if keeps_card:
            contents.pop(CARD, None)
        elif not is_written_by_hand:
            contents |= _card(folder, name, contents)
    removed = sorted(one for one in there if is_model_file(one.split("/")[0]) and one not in contents and one != CARD)
    with quiet_client():
        info = _commit(name, branch, parent, contents, removed, message or "Upload with gossamer", create_pr)
    return Uploaded(
        name=name, commit=info.oid, url=info.pr_url or info.commit_url, files=tuple(sorted(contents)),
        left_out=tuple(left_out), removed=tuple(removed), keeps_card=keeps_card, is_new=is_new,
    )  # fmt: skip


def _branch(revision: str | None) -> str:
    if revision is None:
        return "main"
    if not isinstance(revision, str) or not revision.strip() or not revision.isprintable():
        raise InputError(f"revision is {quote(revision)}; name a branch, such as 'main'")
    if _COMMIT.fullmatch(revision):
        raise InputError(f"revision is {quote(revision)}, a commit, which nothing can be added to; name a branch")
    return revision


def _files(folder: Path, allow: Sequence[str]) -> tuple[dict[str, Path], list[str]]:
    """The files that go up, by their names there, and those that do not; InputError for what is no model."""
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder}: holds no model (no config.json); name a model directory")
    found: dict[str, Path] = {}
    try:
        for top, folders, names in os.walk(folder):
            folders[:] = [one for one in folders if not one.startswith(".")]
            found |= {(Path(top) / one).relative_to(folder).as_posix(): Path(top) / one for one in names}
    except OSError as problem:
        raise InputError(f"{folder}: cannot be read ({reason(problem)})") from None
    chosen, left_out = choose(found, allow, str(folder))
    if not any(Path(one).match(SAFE) or one in allow for one in chosen):
        raise InputError(f"{folder}: holds no weights (*.safetensors); save a model there first")
    for one in chosen:
        if not found[one].resolve().is_relative_to(folder.resolve()):
            raise InputError(f"{found[one]}: is a link that leads outside of the folder; copy the file there")
        check_regular(found[one])
    check_seal(folder)
    return {one: found[one] for one in chosen}, [one for one in left_out if not one.startswith(".")]


def _api() -> Any:
    from huggingface_hub import HfApi

    return HfApi(library_name="gossamer", library_version=__version__)


def _find_or_create(name: str, private: bool) -> bool:
    """See to it that the repository is there; whether it had to be created."""
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        info = _api().repo_info(name)
    except RepositoryNotFoundError:
        _api().create_repo(name, private=private or None)
        return True
    if private and not info.private:
        raise InputError(
            f"{quote(name)} is there and open to all, and private=True was asked for; make it private on the hub, or "
            "name another"
        )
    return False


def _head(name: str, branch: str, *, may_create: bool) -> str:
    """The commit that a branch stands at; a branch that is not there starts where "main" stands."""
    from huggingface_hub.errors import RevisionNotFoundError

    try:
        return str(_api().repo_info(name, revision=branch).sha)
    except RevisionNotFoundError:
        if not may_create:
            raise
    _api().create_branch(name, branch=branch, exist_ok=True)
    return str(_api().repo_info(name, revision=branch).sha)


def _names(name: str, commit: str) -> set[str]:
    from huggingface_hub.hf_api import RepoFile

    tree = _api().list_repo_tree(name, recursive=True, revision=commit)
    return {entry.path for entry in tree if isinstance(entry, RepoFile)}


def _has_own_card(name: str, commit: str, there: set[str]) -> bool:
    """Whether the repository has a card that is not as Gossamer wrote it."""
    if CARD not in there:
        return False
    with tempfile.TemporaryDirectory() as scratch:
        for one in (CARD, SEAL):
            if one in there:
                _api().hf_hub_download(name, one, revision=commit, local_dir=scratch)
        return is_as_sealed(Path(scratch), CARD) is not True


def _card(folder: Path, name: str, contents: Mapping[str, Path | bytes]) -> dict[str, bytes]:
    """A card of Gossamer's with the repository's id in it, and the seal that knows of it."""
    if CARD in contents:
        text = (folder / CARD).read_text(encoding="utf-8")
    else:
        model = load_without_memory(folder)
        text = model_card(model, get_family(model.family))
    card = text.replace(PLACE, name).encode()
    if SEAL not in contents:
        return {CARD: card}
    seal = read_json(folder / SEAL)
    seal["files"][CARD] = {"size": len(card), "sha256": hashlib.sha256(card).hexdigest()}
    return {CARD: card, SEAL: (json.dumps(seal, indent=2) + "\n").encode()}


def _commit(
    name: str, branch: str, parent: str, contents: Mapping[str, Path | bytes], removed: Sequence[str], message: str,
    create_pr: bool,
) -> Any:  # fmt: skip
    """Send the large files, then everything in one commit upon `parent`."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    with hub_errors(name, branch, _NO_COMMIT):
        additions = [
            CommitOperationAdd(one, content if isinstance(content, bytes) else str(content))
            for one, content in contents.items()
        ]
        _api().preupload_lfs_files(
            name, additions, revision=branch, create_pr=create_pr, free_memory=False, num_threads=2
        )
    operations = [*additions, *(CommitOperationDelete(one, is_folder=False) for one in removed)]
    with hub_errors(name, branch, "look at its last commit before you try again: it is whole, or was not made"):
        return _api().create_commit(
            name, operations, commit_message=message, revision=branch, create_pr=create_pr, parent_commit=parent
        )
