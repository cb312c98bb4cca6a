"""From a repository on the hub to a folder of one's own: whole, checked, and going on where it was broken off."""

import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gossamer.checkpoints.files import list_some, reason
from gossamer.checkpoints.hub_errors import check_token, hub_errors, quiet_client
from gossamer.checkpoints.hub_names import check_id, check_name, choose
from gossamer.checkpoints.replace import replacing
from gossamer.errors import InputError, quote

__all__ = ["Downloaded", "check_revision", "download", "is_intact"]

PAUSE = 1.0
"""Seconds before a broken connection is tried again."""
_TRIES = 5
_CHUNK = 2**20
_DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Downloaded:
    """What lies where: the folder, the commit that it is of, its files, and the files that were left out."""

    directory: Path
    commit: str
    files: tuple[str, ...]
    left_out: tuple[str, ...]
    size: int


@dataclass(frozen=True, kw_only=True)
class _File:
    """A file of a commit; digest: SHA-256 of a large one, git's SHA-1 of a small one."""

    path: str
    size: int
    digest: str


def download(
    name: str,
    out: str | Path | None = None,
    *,
    revision: str | None = None,
    allow: Sequence[str] = (),
    report: Callable[[int, int | None], None] = lambda done, total: None,
) -> Downloaded:
    """Bring a repository of the hub into a new folder: safetensors, configuration, vocabulary and texts.

    out: the folder, named after the repository unless given; it must be new or empty. revision: a branch, a tag or a
    commit; "main". allow: names of further files. report: told bytes done and bytes in all. Every file is compared with
    the digest that the hub lists; the folder is there when all are right, not before. What a broken call has brought is
    kept beside the folder, and the next call goes on from there, within a file too. Raises InputError, one line.
    """
    check_id(name)
    check_revision(revision)
    check_token(needed=False)
    target = _target(Path(name.rsplit("/", 1)[-1] if out is None else out).expanduser())
    with quiet_client():
        with hub_errors(name, revision):
            commit, listed = _list(name, revision)
        chosen, left_out = choose(listed, allow, quote(name))
        if not chosen:
            raise InputError(f"{quote(name)} has no file of a model; it has {list_some(left_out) or 'none'}")
        files = [listed[path] for path in chosen]
        parts = target.parent / f".{target.name}.download"
        again = f"what came is kept in {parts}, and the same command goes on from there"
        with hub_errors(name, revision, again):
            with _locked(parts):
                _fetch_all(files, name, commit, parts, report)
                _put_together(files, parts, target)
            shutil.rmtree(parts, ignore_errors=True)
    size = sum(file.size for file in files)
    return Downloaded(directory=target, commit=commit, files=tuple(chosen), left_out=tuple(left_out), size=size)


def check_revision(revision: object) -> None:
    """Refuse what can be no revision."""
    if revision is not None and (not isinstance(revision, str) or not revision.strip() or not revision.isprintable()):
        raise InputError(f"revision is {quote(revision)}; name a branch, a tag or a commit, such as 'main'")


def is_intact(path: Path, digest: str) -> bool:
    """Whether a file is the one of this digest: SHA-256 of its bytes, or git's SHA-1 of it as a blob."""
    is_git = len(digest) == 40
    hasher = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False) if is_git else hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_CHUNK):
            hasher.update(block)
    return hasher.hexdigest() == digest


def _target(out: Path) -> Path:
    """A folder that is new or empty; InputError for any other, and where it could not be written."""
    try:
        if out.is_symlink() or (out.exists() and not out.is_dir()):
            raise InputError(f"{out}: is a {'link' if out.is_symlink() else 'file'}; name a new directory")
        if out.is_dir() and any(out.iterdir()):
            raise InputError(f"{out}: holds files already; name a new directory, or remove this one first")
        out.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(out.parent, os.W_OK):
            raise InputError(f"{out}: {str(out.parent)!r} may not be written to; name another directory")
        return out.parent.resolve() / out.name
    except OSError as problem:
        raise InputError(f"{out}: cannot be written ({reason(problem)}); name another directory") from None


def _list(name: str, revision: str | None) -> tuple[str, dict[str, _File]]:
    """The commit that a revision stands for, and its files by name, all names and digests checked."""
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    api = HfApi(library_name="gossamer")
    commit = api.repo_info(name, revision=revision).sha
    files = {}
    try:
        for entry in api.list_repo_tree(name, recursive=True, revision=commit):
            check_name(entry.path, quote(name))
            if isinstance(entry, RepoFile):
                files[entry.path] = _file(name, entry)
    except (KeyError, TypeError):
        raise InputError(f"{quote(name)}: the hub's list of its files cannot be read; try again later") from None
    return str(commit), files


def _file(name: str, entry: Any) -> _File:
    digest, size = (entry.blob_id, entry.size) if entry.lfs is None else (entry.lfs.sha256, entry.lfs.size)
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest) or not isinstance(size, int) or size < 0:
        raise InputError(f"{quote(name)}: the hub lists {entry.path!r} without a size and a digest to check it by")
    return _File(path=entry.path, size=size, digest=digest)


@contextmanager
def _locked(parts: Path) -> Iterator[None]:
    """The folder of what has come so far, for one process alone."""
    from filelock import Timeout
    from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]

    if parts.is_symlink() or (parts.exists() and not parts.is_dir()):
        raise InputError(f"{parts}: is no folder of a download; remove it, or name another directory")
    parts.mkdir(exist_ok=True)
    try:
        with WeakFileLock(parts / "lock", timeout=0.1):
            yield
    except Timeout:
        raise InputError(
            f"{parts}: another process downloads into it; wait for it, or name another directory"
        ) from None


def _fetch_all(
    files: Sequence[_File], name: str, commit: str, parts: Path, report: Callable[[int, int | None], None]
) -> None:
    """Bring what is not there, each file under its digest; what belongs to an older commit goes."""
    wanted = {file.digest for file in files}
    for old in parts.iterdir():
        if old.name != "lock" and old.name.removesuffix(".part") not in wanted:
            old.unlink()
    done, total = 0, sum(file.size for file in files)
    for file in files:
        if not (parts / file.digest).exists():
            _fetch(file, name, commit, parts / f"{file.digest}.part", _from(done, total, report))
        done += file.size
        report(done, total)


def _from(done: int, total: int, report: Callable[[int, int | None], None]) -> Callable[[int], None]:
    return lambda come: report(done + come, total)


def _fetch(file: _File, name: str, commit: str, part: Path, report: Callable[[int], None]) -> None:
    """One file, to its end: what breaks off is asked for again from where it stands, as long as more comes."""
    import httpx
    from huggingface_hub import hf_hub_url

    url, tries = hf_hub_url(name, file.path, revision=commit), 0
    part.touch()
    while part.stat().st_size != file.size:
        before = part.stat().st_size
        try:
            _stream(url, file, name, part, report)
            problem = None
        except httpx.TransportError as caught:
            problem = caught
        tries = 0 if part.stat().st_size > before else tries + 1
        if tries >= _TRIES:
            raise problem or InputError(f"{quote(name)}: {file.path!r} ends after {before:,} of {file.size:,} bytes")
        if problem is not None:
            time.sleep(PAUSE)
    if not is_intact(part, file.digest):
        part.unlink()
        raise InputError(
            f"{quote(name)}: {file.path!r} is not the file that the hub lists (its digest differs), and was not kept; "
            "try again, or tell the owner"
        )
    part.rename(part.with_suffix(""))


def _stream(url: str, file: _File, name: str, part: Path, report: Callable[[int], None]) -> None:
    """Ask for the rest of a file, and add what comes; a server that sends all of it again overwrites it."""
    from huggingface_hub import constants, get_session, hf_raise_for_status
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    come = part.stat().st_size
    if come > file.size:
        os.truncate(part, come := 0)
    headers = build_hf_headers(library_name="gossamer") | {"Accept-Encoding": "identity"}
    if come:
        headers["Range"] = f"bytes={come}-"
    timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
    with get_session().stream("GET", url, headers=headers, timeout=timeout) as response:
        if response.status_code >= 400:
            response.read()
        hf_raise_for_status(response)
        come = come if _goes_on(response, come) else 0
        with part.open("r+b") as out:
            out.seek(come)
            out.truncate()
            for chunk in response.iter_bytes():  # as they come: a larger chunk would be lost with the connection
                come += len(chunk)
                if come > file.size:
                    out.truncate(0)
                    raise InputError(
                        f"{quote(name)}: {file.path!r} goes on behind the {file.size:,} bytes it should have"
                    )
                out.write(chunk)
                report(come)


def _goes_on(response: Any, come: int) -> bool:
    """Whether an answer holds the rest that was asked for, not the whole file."""
    return response.status_code == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {come}-")


def _put_together(files: Sequence[_File], parts: Path, target: Path) -> None:
    """The folder with all files under their names, in one step; the parts stay until it is there."""
    placed = set()
    with replacing(target) as new:
        for file in files:
            path = new / file.path
            path.parent.mkdir(parents=True, exist_ok=True)
            if file.digest in placed:  # two names of one content are two files
                shutil.copyfile(parts / file.digest, path)
            else:
                _link_or_copy(parts / file.digest, path)
            placed.add(file.digest)


def _link_or_copy(source: Path, path: Path) -> None:
    try:
        os.link(source, path)
    except OSError:
        shutil.copyfile(source, path)
