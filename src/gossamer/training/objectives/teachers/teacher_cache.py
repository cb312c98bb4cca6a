"""A teacher's outputs on disk: made once before a training, then read in place of the teacher."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from gossamer.atomic_files import write_texts
from gossamer.checkpoints.files import read_json
from gossamer.errors import InputError, quote
from gossamer.models.checks import require, require_choice
from gossamer.training.micro_batches import autocast
from gossamer.training.objectives.base import Batch, RunData
from gossamer.training.objectives.rows_read import ReadRow, grouped, real_tokens, rows_of
from gossamer.training.objectives.teachers import output_shards
from gossamer.training.objectives.teachers.output_shards import Column, OutputShards, cut_into_shards, require_pyarrow

__all__ = ["CachedOutputs", "OutputReader", "TeacherCache", "open_cache"]

Precision = Literal["float32", "float16"]

MANIFEST = "cache.json"
FORMAT = 2
PASS_TOKENS = 4096
"""That the teacher reads at once."""
TOLD_EVERY = 10.0
"""Seconds between two lines that say how far the teacher is."""


@dataclass(frozen=True, kw_only=True)
class TeacherCache:
    """Where a teacher's outputs are kept, and in what form.

    folder: a new or empty one, or one that holds the very same. top_k: so many of its highest scores a token, with what
    all others come to (`TopTargets`), or "all"; unless given, 32 of a vocabulary, and all of a few classes, of which
    there is no other choice. precision: of scores, states and vectors.
    """

    folder: str
    top_k: int | Literal["all"] | None = None
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        require(isinstance(self.folder, str) and bool(self.folder), "folder", self.folder, "a folder's name")
        fits = self.top_k in (None, "all") or (type(self.top_k) is int and self.top_k > 0)
        require(fits, "top_k", self.top_k, "a whole number from 1, or 'all'")
        require_choice(self, Precision, "precision")

    @classmethod
    def of(cls, value: object, name: str = "cache") -> TeacherCache | None:
        """Settings, or a folder's name alone."""
        if value is None or isinstance(value, cls):
            return value
        require(isinstance(value, str | Path), name, value, "a folder's name, or a TeacherCache")
        return cls(folder=str(value))

    def check(self) -> None:
        """InputError, before anything is read, where nothing can be written or something else is there."""
        require_pyarrow()
        folder = Path(self.folder)
        try:
            names = [one.name for one in folder.iterdir()] if folder.exists() else []
        except OSError:
            raise InputError(f"cache is {quote(self.folder)}, which is no folder; name a new or empty one") from None
        # What a kill leaves of a file that was being written has a dot before its name.
        others = [name for name in names if not name.startswith(".")]
        if others and MANIFEST not in others:
            raise InputError(
                f"cache is {quote(self.folder)}, where other files are; name a new or empty folder, or a cache's"
            )


class OutputReader(Protocol):
    """What is kept of a teacher's outputs.

    columns: what they are. fingerprint: by name what they depend on beside the rows, as JSON has it.
    """

    @property
    def columns(self) -> tuple[Column, ...]: ...

    @property
    def fingerprint(self) -> Mapping[str, Any]: ...

    def read(self, inputs: Batch, device: torch.device) -> dict[str, Tensor]:
        """The outputs for rows of one length: [rows, width], of tokens [rows, length, width]."""


class CachedOutputs:
    """The outputs of a teacher for every row that a run reads, from disk."""

    def __init__(self, shards: OutputShards, numbers: Mapping[bytes, int]) -> None:
        self._shards, self._numbers = shards, numbers

    def of(self, batch: Batch) -> dict[str, Tensor]:
        """What the teacher gives for a batch: [rows, width], of tokens [rows, length, width], 0 at padding."""
        rows, is_real = list(rows_of(batch)), real_tokens(batch).cpu()
        keys = [row.key for row in rows]
        missing = [key for key in keys if key not in self._numbers]
        if missing:
            raise InputError(
                f"{self._shards.folder}: holds nothing for a row that was not read when it was made; run the same data "
                "and settings, or name another folder"
            )
        read = self._shards.read(keys, [self._numbers[key] for key in keys])
        told = {}
        for column in self._shards.columns:
            whole = np.int32 if column.dtype == "int32" else np.float32
            shape = (*is_real.shape, column.width) if column.of_tokens else (len(rows), column.width)
            values = torch.from_numpy(np.zeros(shape, dtype=whole))
            for i, row in enumerate(read):
                values[i][is_real[i] if column.of_tokens else ...] = torch.from_numpy(row[column.name].astype(whole))
            told[column.name] = values.to(batch["input_ids"].device)
        return told


def open_cache(settings: TeacherCache, reader: OutputReader, run: RunData, *, held_out: bool) -> CachedOutputs:
    """The outputs for all rows of a run, made where they are not there yet; each process makes a share of the files.

    held_out: whether the teacher is asked about held-out rows too. Raises InputError for a folder that holds outputs of
    something else, and names what differs; for too little room on the disk, and for a file that is damaged.
    """
    settings.check()
    plan = _plan(rows for batch in run.every_row(held_out) for rows in rows_of(batch))
    folder, row_bytes = Path(settings.folder), plan.row_bytes(reader.columns)
    wanted = _manifest({**reader.fingerprint, "precision": run.precision, **plan.fingerprint}, row_bytes, run)
    manifest = _read_manifest(folder) or wanted
    _check_same(manifest, wanted, folder)
    shards = OutputShards(
        folder=folder, columns=reader.columns, identity=_digest(wanted["made_of"]), group_rows=manifest["group_rows"],
        ends=cut_into_shards(row_bytes, manifest["shard_bytes"], manifest["shard_rows"]),
    )  # fmt: skip
    missing = shards.missing()
    if missing:
        _tell_size(plan, row_bytes, reader.columns, shards, missing, run)
    if manifest["device"] != wanted["device"]:
        run.remark(
            f"cache: {folder} was begun on {manifest['device']!r}, this run is on {wanted['device']!r}, where a "
            "teacher's outputs are rounded in another way"
        )
    _settle_manifest(folder, manifest, run)
    # By a file's number: a process that sees another one's first files takes none of its share for that.
    mine = [shard for shard in missing if shard % run.processes.count == run.processes.rank]
    _write(shards, mine, plan, chain.from_iterable(map(rows_of, run.every_row(held_out))), reader, run)
    run.processes.wait()
    for shard in shards.missing():
        raise InputError(f"{shards.path(shard)}: is not there; all processes must share the cache's folder")
    return CachedOutputs(shards, plan.numbers)


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """Every row that a run reads, once: its number by its key, in the order of the data; and what they come to."""

    numbers: dict[bytes, int]
    tokens: np.ndarray  # of each row
    digest: str

    @property
    def fingerprint(self) -> dict[str, Any]:
        return {"longest row": int(self.tokens.max(initial=0)), "data": self.digest}

    def row_bytes(self, columns: Sequence[Column]) -> np.ndarray:
        """What each row takes, int64 [rows]."""
        return np.stack([one.row_bytes(self.tokens) for one in columns]).sum(axis=0)


def _plan(rows: Iterator[ReadRow]) -> _Plan:
    numbers: dict[bytes, int] = {}
    tokens = array("i")
    digest = hashlib.sha256()
    for row in rows:
        if row.key not in numbers:
            numbers[row.key] = len(numbers)
            tokens.append(row.tokens)
            digest.update(row.key)
    return _Plan(numbers=numbers, tokens=np.array(tokens), digest=digest.hexdigest())


def _manifest(made_of: dict[str, Any], row_bytes: np.ndarray, run: RunData) -> dict[str, Any]:
    """What a new cache says of itself."""
    group = max(output_shards.GROUP_BYTES // max(int(row_bytes.mean()), 1), 1)
    return {
        "format": FORMAT,
        "made_of": made_of,
        "shard_bytes": output_shards.SHARD_BYTES,
        "shard_rows": output_shards.SHARD_ROWS,
        "group_rows": min(group, output_shards.SHARD_ROWS),
        "device": run.processes.device.type,
    }


def _settle_manifest(folder: Path, manifest: dict[str, Any], run: RunData) -> None:
    """Write it where none is; InputError, in all processes, where another run has begun something else meanwhile."""
    run.processes.wait()
    if run.processes.first and _read_manifest(folder) is None:
        folder.mkdir(parents=True, exist_ok=True)
        write_texts({folder / MANIFEST: json.dumps(manifest, indent=1) + "\n"})
    run.processes.wait()
    found = _read_manifest(folder)
    if found is None:
        raise InputError(f"{folder / MANIFEST}: is not there; all processes must share the cache's folder")
    _check_same(found, manifest, folder)


def _read_manifest(folder: Path) -> dict[str, Any] | None:
    path = folder / MANIFEST
    if not path.exists():
        return None
    found = read_json(path)
    sizes = [found.get(name) for name in ("shard_bytes", "shard_rows", "group_rows")]
    whole = all(type(size) is int and size > 0 for size in sizes) and isinstance(found.get("made_of"), dict)
    if found.get("format") != FORMAT or not whole or not isinstance(found.get("device"), str):
        raise InputError(f"{path}: is of no cache that this version reads; name another folder")
    return found


def _check_same(found: Mapping[str, Any], wanted: Mapping[str, Any], folder: Path) -> None:
    """InputError that names all that differs, with its values where they are short."""
    old, new = found["made_of"], wanted["made_of"]
    differing = [name for name in (*new, *(one for one in old if one not in new)) if old.get(name) != new.get(name)]
    if differing:
        told = "; ".join(_difference(name, old.get(name), new.get(name)) for name in differing)
        raise InputError(
            f"cache is {quote(str(folder))}, which was made with something else: {told}; name another folder, or "
            "remove this one"
        )


def _difference(name: str, old: Any, new: Any) -> str:
    if any(isinstance(one, str) and len(one) > 40 for one in (old, new)):
        return f"other {name}"
    return f"{name} {quote(old)}, now {quote(new)}"


def _digest(made_of: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()


def _tell_size(
    plan: _Plan, row_bytes: np.ndarray, columns: Sequence[Column], shards: OutputShards, missing: Sequence[int],
    run: RunData,
) -> None:  # fmt: skip
    """Say how much will be written; InputError where the disk has no room for it."""
    total = int(row_bytes.sum())
    left = np.concatenate([np.array(shards.numbers(shard)) for shard in missing])
    to_write, tokens = int(row_bytes[left].sum()), int(plan.tokens[left].sum())
    held = ", ".join(f"{one.name} {one.item_bytes:,} bytes a {'token' if one.of_tokens else 'row'}" for one in columns)
    run.remark(
        f"cache: the teacher reads {len(left):,} of {shards.rows:,} rows ({tokens:,} tokens) before the training; "
        f"{shards.folder} takes {_size(total)}, of which {_size(to_write)} are to be written ({held})"
    )
    free = shutil.disk_usage(_existing(shards.folder)).free
    if free < to_write:
        raise InputError(
            f"cache is {quote(str(shards.folder))}, where {_size(free)} are free and {_size(to_write)} are needed; "
            "free some, or hold less (cache.top_k, cache.precision, cosine_weight: 0)"
        )


def _existing(folder: Path) -> Path:
    """The folder, or the nearest above it that is there."""
    whole = folder.absolute()
    return next(one for one in (whole, *whole.parents) if one.exists())


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _write(
    shards: OutputShards, missing: Sequence[int], plan: _Plan, rows: Iterator[ReadRow], reader: OutputReader,
    run: RunData,
) -> None:  # fmt: skip
    """Write these files, of the rows in the order of the plan; each is made of its own rows alone."""
    if not missing:
        return
    progress = _Progress(total=sum(len(shards.numbers(shard)) for shard in missing), run=run)
    wanted, waiting, met = set(missing), list[ReadRow](), -1
    for row in rows:
        number = plan.numbers[row.key]
        if number <= met:
            continue
        met = number
        shard = shards.shard_of(number)
        if shard not in wanted:
            continue
        waiting.append(row)
        if number == shards.numbers(shard)[-1]:
            shards.write(shard, [one.key for one in waiting], _outputs(waiting, reader, run))
            progress.add(len(waiting))
            waiting = []


def _outputs(rows: Sequence[ReadRow], reader: OutputReader, run: RunData) -> list[dict[str, np.ndarray]]:
    """What the teacher gives for each row, read beside rows of its own length, so that nothing is padded."""
    device = run.processes.device
    told: list[dict[str, np.ndarray]] = [{} for _ in rows]
    for members, inputs in grouped(rows, PASS_TOKENS):
        given = {name: tensor.to(device) for name, tensor in inputs.items()}
        with torch.no_grad(), autocast(device, run.precision):
            outputs = reader.read(given, device)
        for column in reader.columns:
            whole = outputs[column.name].cpu()
            values = whole.numpy() if column.dtype == "int32" else whole.float().numpy()
            with np.errstate(over="ignore"):
                held = values.astype(column.dtype)
            if not np.isfinite(held).all():
                raise InputError(
                    f"cache: the teacher's {column.name} are not all numbers that {column.dtype} holds; "
                    "cache.precision: float32 holds larger ones, and a teacher that gives none teaches nothing"
                )
            for i, row in zip(members, held, strict=True):
                told[i][column.name] = row
    return told


class _Progress:
    """Says now and then how far the teacher is."""

    def __init__(self, total: int, run: RunData) -> None:
        self._total, self._run, self._done = total, run, 0
        self._began = self._told = time.monotonic()

    def add(self, rows: int) -> None:
        self._done += rows
        now = time.monotonic()
        if self._run.processes.first and (now - self._told >= TOLD_EVERY or self._done == self._total):
            self._told = now
            left = (now - self._began) / self._done * (self._total - self._done)
            of_each = " by each process" if self._run.processes.count > 1 else ""
            self._run.say(f"cache: {self._done:,} of {self._total:,} rows read{of_each}, {left:,.0f} s left")
