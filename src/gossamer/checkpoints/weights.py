"""Weight files: safetensors or .bin, in one piece or in shards; shapes are known before any tensor is read."""

import pickle
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from gossamer.checkpoints.archive import check_archive
from gossamer.checkpoints.compressed import NONZERO, PLACES, expand, read_shapes
from gossamer.checkpoints.files import check_inside, is_there, list_some, read_json, reason
from gossamer.errors import InputError, quote
from gossamer.regular_files import check_regular

__all__ = ["WeightFiles", "open_weights"]

_AGAIN = "copy or download it again"
_LONGEST_NAME = 300
_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


class WeightFile(ABC):
    """One opened file of tensors: `shapes` without reading them, `read` one."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    @abstractmethod
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """The shape of every tensor in the file."""

    @abstractmethod
    def read(self, name: str) -> Tensor:
        """One tensor, in memory of its own, where torch puts one: products differ a little where a matrix lies else.

        A tensor is read once; what a file holds of it in memory is let go.
        """


class SafetensorsFile(WeightFile):
    """A .safetensors file; matrices that it holds compressed are told and read as they are."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            self._file = safe_open(path, framework="pt")
            self._shapes = {name: tuple(self._file.get_slice(name).get_shape()) for name in self._file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError, ValueError, OverflowError) as problem:
            raise InputError(f"{path}: not a whole safetensors file ({reason(problem)}); {_AGAIN}") from None
        self._compressed = read_shapes(path, self._file.metadata() or {}, self._shapes)
        for name, shape in self._compressed.items():
            del self._shapes[name + NONZERO], self._shapes[name + PLACES]
            self._shapes[name] = shape

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return self._shapes

    def read(self, name: str) -> Tensor:
        try:
            # The file is mapped; a copy of our own survives whatever happens to the file later.
            if name not in self._compressed:
                return self._file.get_tensor(name).clone()
            nonzero, places = (self._file.get_tensor(name + ending) for ending in (NONZERO, PLACES))
            return expand(nonzero, places, self._compressed[name])
        except (SafetensorError, OSError, RuntimeError, ValueError, AttributeError) as problem:
            raise InputError(f"{self.path}: tensor {name!r} cannot be read ({reason(problem)}); {_AGAIN}") from None


class TorchFile(WeightFile):
    """A .bin file written by `torch.save`, read without running any code that it may hold."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._tensors = _load_pickle(path)
        self._shapes = {name: tuple(tensor.shape) for name, tensor in self._tensors.items()}

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return self._shapes

    def read(self, name: str) -> Tensor:
        return self._tensors.pop(name).detach().clone(memory_format=torch.contiguous_format)


class WeightFiles:
    """All tensors of a checkpoint, whichever files they lie in."""

    def __init__(self, files: Iterable[WeightFile], where: Path) -> None:
        self.where = where
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._homes: dict[str, WeightFile] = {}
        for file in files:
            self.add(file)

    def add(self, file: WeightFile) -> None:
        """One more file. InputError for a name that no tensor has, or another file's tensor."""
        for name, shape in file.shapes.items():
            if not name.isprintable() or len(name) > _LONGEST_NAME:
                raise InputError(f"{file.path}: names a tensor {quote(name)}; the file is damaged: {_AGAIN}")
            if name in self._homes:
                raise InputError(f"{file.path}: tensor {name!r} is also in {self._homes[name].path.name}; keep one")
            self.shapes[name], self._homes[name] = shape, file

    def check_homes(self, weight_map: Mapping[str, str]) -> None:
        """Refuse an index that names another file for a tensor than the one it was found in."""
        for name, file in weight_map.items():
            home = self._homes.get(name)
            if home is None or home.path != self.where.parent / file:
                where = "none has it" if home is None else f"it is in {home.path.name}"
                raise InputError(f"{self.where}: says that tensor {quote(name)} is in {file}, but {where}; {_AGAIN}")

    def read(self, name: str) -> Tensor:
        """One tensor. InputError for a type that no model computes in, and for NaN or infinity."""
        home = self._homes[name]
        tensor = home.read(name)
        if tensor.dtype not in _DTYPES:
            kind, allowed = (str(tensor.dtype).removeprefix("torch."), "float32, bfloat16, float16 or float64")
            raise InputError(f"{home.path}: tensor {name!r} holds {kind}; convert it to {allowed}")
        if not torch.isfinite(tensor).all():
            raise InputError(f"{home.path}: tensor {name!r} holds NaN or infinity; the file is damaged: {_AGAIN}")
        return tensor


def open_weights(directory: Path) -> WeightFiles:
    """Find and open a checkpoint's weights. InputError names what is missing, damaged or refused."""
    openers = (("model.safetensors", SafetensorsFile), ("pytorch_model.bin", TorchFile))
    for name, opener in openers:
        single, index = directory / name, directory / f"{name}.index.json"
        if is_there(single):
            _check_file(single)
            return WeightFiles([opener(single)], single)
        if is_there(index):
            weight_map = _weight_map(index)
            files = WeightFiles([opener(shard) for shard in _shards(index, weight_map)], index)
            files.check_homes(weight_map)
            return files
    names = ", ".join(f"{name} (or {name}.index.json)" for name, _ in openers)
    raise InputError(f"{directory}: no weights there; one of these must be: {names}")


def _check_file(path: Path) -> None:
    """Refuse what is no regular file before a library waits for it, and a link that leads nowhere."""
    try:
        check_regular(path, "put the weights there")
    except OSError as problem:
        raise InputError(f"{path}: cannot be read ({reason(problem)}); {_AGAIN}") from None


def _weight_map(index: Path) -> dict[str, Any]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise InputError(f"{index}: its 'weight_map' is {quote(weight_map)}; it must map tensor names to files")
    return weight_map


def _shards(index: Path, weight_map: Mapping[str, Any]) -> list[Path]:
    shards = [check_inside(index.parent, name, index) for name in dict.fromkeys(map(_hashable, weight_map.values()))]
    missing = [shard.name for shard in shards if not is_there(shard)]
    if missing:
        raise InputError(f"{index}: names {list_some(missing)}, which {_are(missing)} not there; {_AGAIN}")
    for shard in shards:
        _check_file(shard)
    return shards


def _hashable(name: object) -> object:
    return name if isinstance(name, str) else quote(name)


def _are(names: list[str]) -> str:
    return "is" if len(names) == 1 else "are"


def _load_pickle(path: Path) -> dict[str, Tensor]:
    check_archive(path)
    try:
        data = _load_safely(path)
    except pickle.UnpicklingError:
        raise InputError(
            f"{path}: holds pickled code or is damaged, and was not run; ask its author for a model.safetensors"
        ) from None
    except Exception as problem:  # whatever a damaged pickle makes torch raise
        raise InputError(f"{path}: not a whole torch file ({reason(problem)}); {_AGAIN}") from None
    if not isinstance(data, dict) or not data:
        raise InputError(f"{path}: holds a {type(data).__name__}; it must hold names and their tensors")
    for name, tensor in data.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor) or tensor.layout != torch.strided:
            raise InputError(f"{path}: entry {quote(name)} is a {type(tensor).__name__}; it must be a named tensor")
        _check_storage(path, name, tensor)
    return data


def _check_storage(path: Path, name: str, tensor: Tensor) -> None:
    """Refuse a tensor that claims more numbers than the file holds: reading it would take memory without end."""
    if tensor.device.type != "cpu":
        raise InputError(f"{path}: tensor {quote(name)} lies on {tensor.device.type!r}; save it from the CPU again")
    if tensor.untyped_storage().nbytes() < tensor.numel() * tensor.element_size():
        raise InputError(
            f"{path}: tensor {quote(name)} is {list(tensor.shape)}, more than the file holds; "
            "save it again after .contiguous()"
        )


def _load_safely(path: Path) -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what torch warns of here, it also refuses or reads well
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError as problem:
            if "mmap can only be used" not in str(problem):
                raise
            # Files from before torch 1.6 are no zip archives and cannot be mapped.
            return torch.load(path, map_location="cpu", weights_only=True)
