"""A run's checkpoints: all that going on exactly needs, written whole or not at all, sealed, the last few kept."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from gossamer.checkpoints.files import read_json, reason
from gossamer.checkpoints.replace import replacing
from gossamer.checkpoints.seal import digest_of, write_seal
from gossamer.errors import GossamerError, InputError, quote
from gossamer.training.processes import whole

__all__ = [
    "RunState",
    "load_checkpoint",
    "newest_checkpoint",
    "optimizer_state",
    "placed",
    "restore_optimizer",
    "save_checkpoint",
    "sweep",
]

WEIGHTS, OPTIMIZER, STATE, SEAL = "model.safetensors", "optimizer.safetensors", "state.json", "seal.json"
FORMAT = 1
_OTHER_VERSION = "was written by another version of Gossamer; go on with that one, or begin anew"
_STEP = re.compile(r"step-(\d{1,15})")
_LEFT_BEHIND = re.compile(r"\.step-\d{1,15}\.(gone|[0-9a-f]{8}\.\d{1,9}\.[0-9a-f]{8}\.(new|old))")
"""What kills left of a checkpoint that was being removed or written."""


@dataclass(frozen=True, kw_only=True)
class RunState:
    """Where a run stands after `step` steps, beside its tensors; every value is JSON's.

    `best`: the best value of the metric on held-out text, by its name, and the step that had it; `worse`: evaluations
    since then; `evaluated`: what the last one gave. `loss`: of the last step. `skipped`: steps in a row whose float16
    gradients were not finite.
    `conditions` are told, not compared: threads, processes, versions. `beside`: what is learnt with, and what
    the model was made of, where that is known, by their SHA-256.
    """

    step: int
    config: dict[str, Any]
    architecture: dict[str, Any]
    data: str
    best: dict[str, float] | None = None
    worse: int = 0
    evaluated: dict[str, float | None] | None = None
    skipped: int = 0
    scaler: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    loss: float | None = None
    conditions: dict[str, Any] = field(default_factory=dict)
    beside: dict[str, str] = field(default_factory=dict)


def save_checkpoint(
    folder: Path, state: RunState, weights: Mapping[str, Tensor], optimizer: Mapping[str, Tensor], keep: int
) -> Path:
    """Write `folder/step-N`, flush it to the disk, then remove all but the newest `keep`; returns its path.

    Removed are, too, what kills left behind, and checkpoints of later steps, which a run that goes on from an earlier
    one passed over as damaged: only one run may write to a folder. What another version wrote stays. GossamerError
    where it cannot be written, as on a full disk: the checkpoints that were there still are.
    """
    target = folder / f"step-{state.step}"
    try:
        with replacing(target) as new:
            save_file(dict(weights), new / WEIGHTS)
            save_file(dict(optimizer), new / OPTIMIZER)
            (new / STATE).write_text(json.dumps(dataclasses.asdict(state), indent=1, allow_nan=False), encoding="utf-8")
            _seal(new)
    except (OSError, SafetensorError) as problem:
        raise GossamerError(f"{target}: could not be saved ({reason(problem)}); {_left(folder)}") from problem
    _remove_passed(folder, state.step)
    sweep(folder, state.step, keep)
    return target


def newest_checkpoint(folder: Path, remark: Callable[[str], None] = lambda _: None) -> Path | None:
    """The newest checkpoint that is whole and of this version's format; others are passed over with a remark.

    None where there is none; InputError where there are none but another version's.
    """
    foreign = None
    for step, path in _checkpoints(folder):
        problem = _damage(path)
        if problem is not None:
            remark(f"{path} (step {step}) is damaged and passed over: {problem}")
        elif _is_foreign(path):
            foreign = foreign or path
            remark(f"{path} (step {step}) was written by another version of Gossamer, and is passed over")
        else:
            return path
    if foreign is not None:
        raise InputError(f"{foreign}: {_OTHER_VERSION}")
    return None


def sweep(folder: Path, newest: int, keep: int, *, check: bool = False) -> None:
    """Remove what kills left behind, and all but the newest `keep` checkpoints of those up to step `newest`.

    check: look whether they are whole; those that are not are removed too, and do not count. What another version wrote
    stays. Each loses its name first, so that a kill leaves no half of one under it.
    """
    for path in [path for path in folder.iterdir() if _LEFT_BEHIND.fullmatch(path.name)]:
        shutil.rmtree(path, ignore_errors=True)
    ours = [path for step, path in _checkpoints(folder) if step <= newest and not _is_foreign(path)]
    damaged = [path for path in ours if check and _damage(path) is not None]
    _remove([*damaged, *[path for path in ours if path not in damaged][keep:]])


def load_checkpoint(path: Path) -> tuple[RunState, dict[str, Tensor], dict[str, Tensor]]:
    """State, weights and the optimizer's tensors; InputError for a format that this version does not read."""
    fields = read_json(path / STATE)
    known = {one.name for one in dataclasses.fields(RunState)}
    if read_json(path / SEAL).get("format") != FORMAT or set(fields) != known:
        raise InputError(f"{path}: {_OTHER_VERSION}")
    return RunState(**fields), _tensors(path / WEIGHTS), _tensors(path / OPTIMIZER)


def optimizer_state(optimizer: torch.optim.Optimizer, names: Mapping[nn.Parameter, str]) -> dict[str, Tensor]:
    """All state of an optimizer as tensors named `parameter/name`, whole; every process has to call it."""
    return {
        f"{one}/{name}": whole(torch.as_tensor(value).detach()).cpu().contiguous()
        for parameter, one in names.items()
        for name, value in optimizer.state.get(parameter, {}).items()
    }


def restore_optimizer(
    optimizer: torch.optim.Optimizer, names: Mapping[nn.Parameter, str], tensors: Mapping[str, Tensor]
) -> None:
    """Give the optimizer the state that `optimizer_state` told; InputError where it is of other parameters."""
    parameters = {name: one for one, name in names.items()}
    fused = {one for group in optimizer.param_groups if group.get("fused") for one in group["params"]}
    for full_name, tensor in tensors.items():
        name, _, part = full_name.rpartition("/")
        if name not in parameters:
            raise InputError(f"the checkpoint holds state of {name!r}, which is not trained here; begin anew")
        parameter = parameters[name]
        optimizer.state[parameter][part] = placed(tensor, parameter, parameter in fused)


def placed(tensor: Tensor, parameter: nn.Parameter, fused: bool = False) -> Tensor:
    """A tensor of state where the optimizer wants it: beside its parameter; a count of steps only if that is fused."""
    if not hasattr(parameter, "full_tensor") or tensor.shape != parameter.shape:
        return tensor.to(parameter.device) if tensor.dim() or fused else tensor
    from torch.distributed.tensor import distribute_tensor

    sharded: Any = parameter
    return distribute_tensor(tensor.to(sharded.device), sharded.device_mesh, sharded.placements)


def _seal(directory: Path) -> None:
    files = {path.name: digest_of(path) for path in sorted(directory.iterdir())}
    write_seal(directory / SEAL, {"format": FORMAT, "files": files})


def _damage(path: Path) -> str | None:
    """What is wrong with a checkpoint, or None where every file is what it was when it was sealed."""
    try:
        sealed = read_json(path / SEAL)
        files, number = sealed.get("files"), sealed.get("format")
        if type(number) is not int or number < 1:
            return f"the format in {SEAL} is {quote(number)}"
        if not isinstance(files, dict) or set(files) != {WEIGHTS, OPTIMIZER, STATE}:
            return f"{SEAL} does not name its files"
        changed = [name for name, digest in files.items() if digest_of(path / name) != digest]
        return f"{changed[0]} has changed since it was saved (SHA-256 differs)" if changed else None
    except InputError as problem:
        return str(problem)
    except OSError as problem:
        return reason(problem)


def _is_foreign(path: Path) -> bool:
    """Whether a checkpoint says that it has another version's format."""
    try:
        number = read_json(path / SEAL).get("format")
    except InputError:
        return False
    return type(number) is int and number > 0 and number != FORMAT


def _tensors(path: Path) -> dict[str, Tensor]:
    with safe_open(path, framework="pt") as file:
        # Copies lie where torch puts a tensor, not where the mapped file has it, as those did that were saved.
        return {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 - no dictionary


def _checkpoints(folder: Path) -> Iterator[tuple[int, Path]]:
    """Steps and directories, the newest first."""
    found = [(_STEP.fullmatch(path.name), path) for path in folder.iterdir()] if folder.is_dir() else []
    steps = [(int(name[1]), path) for name, path in found if name and path.is_dir()]
    yield from sorted(steps, reverse=True)


def _left(folder: Path) -> str:
    whole_one = newest_checkpoint(folder)
    if whole_one is None:
        return "there is no earlier one: free some space, then run the same command"
    return f"{whole_one} is whole: free some space, then run the same command to go on from there"


def _remove_passed(folder: Path, newest: int) -> None:
    """Remove damaged checkpoints of later steps than the newest; those of another version are not ours to remove."""
    later = [path for step, path in _checkpoints(folder) if step > newest]
    _remove([path for path in later if not _is_foreign(path)])


def _remove(checkpoints: list[Path]) -> None:
    for path in checkpoints:
        gone = path.with_name(f".{path.name}.gone")
        path.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)
