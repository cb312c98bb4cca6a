"""Dense modules of sentence-transformers: a folder each, with a config.json and the weights of one linear map."""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from gossamer.checkpoints.files import naming, read_json, tell_unread, write_json
from gossamer.checkpoints.weights import WeightFile, open_weights
from gossamer.errors import InputError, quote
from gossamer.models.checks import MOST_COLUMNS, require
from gossamer.models.heads import DenseActivation, DenseLayer

__all__ = ["DenseFiles", "DenseWeights", "check_sizes", "read_dense", "write_dense"]

# Names that are compared and written, and never imported.
_CLASSES: dict[DenseActivation, str] = {
    "identity": "torch.nn.modules.linear.Identity",
    "tanh": "torch.nn.modules.activation.Tanh",
    "relu": "torch.nn.modules.activation.ReLU",
    "gelu": "torch.nn.modules.activation.GELU",
    "silu": "torch.nn.modules.activation.SiLU",
}
_ACTIVATIONS = {name: activation for activation, name in _CLASSES.items()}
_ACTIVATIONS |= {f"torch.nn.{name.rpartition('.')[2]}": activation for activation, name in _CLASSES.items()}
_FIXED: dict[str, tuple[object, ...]] = {
    "use_residual": (False,),
    "module_input_name": ("sentence_embedding",),
    "module_output_name": ("sentence_embedding", None),
}
"""Fields that may be there with these values alone."""
_SIZES = ("in_features", "out_features")
_READ = {*_SIZES, "bias", "activation_function", *_FIXED}


@dataclass(frozen=True)
class DenseFiles:
    """What one folder says: a map of vectors of `inputs` numbers."""

    folder: Path
    inputs: int
    layer: DenseLayer

    @property
    def config(self) -> Path:
        return self.folder / "config.json"


def read_dense(folder: Path) -> DenseFiles:
    """What a folder's config.json says. InputError for a size, an activation or a field that Gossamer does not have."""
    path = folder / "config.json"
    config = read_json(path)
    for name, allowed in _FIXED.items():
        if name in config and not any(config[name] is value or config[name] == value for value in allowed):
            raise InputError(f"{path}: {name} is {quote(config[name])}; Gossamer reads Dense with {quote(allowed[0])}")
    # Without a name it is Tanh, as sentence-transformers has it.
    named = config.get("activation_function", _CLASSES["tanh"])
    if not isinstance(named, str) or named not in _ACTIVATIONS:
        known = ", ".join(_CLASSES.values())
        raise InputError(f"{path}: activation_function is {quote(named)}; it must be one of {known}")
    tell_unread(path, config, _READ)
    inputs, size = (config.get(name) for name in _SIZES)
    with naming(path):
        for name, value in zip(_SIZES, (inputs, size), strict=True):
            is_size = type(value) is int and 1 <= value <= MOST_COLUMNS
            require(is_size, name, value, f"a whole number from 1 to {MOST_COLUMNS}")
        layer = DenseLayer(size=size, bias=config.get("bias", True), activation=_ACTIVATIONS[named])
    return DenseFiles(folder, inputs, layer)


def check_sizes(modules: Iterable[DenseFiles], hidden_size: int) -> None:
    """Raise InputError unless each map reads vectors of the size that it is given, the first one pooled states."""
    size = hidden_size
    for module in modules:
        if module.inputs != size:
            raise InputError(
                f"{module.config}: in_features is {module.inputs}; the vectors before it have {size} numbers"
            )
        size = module.layer.size


class DenseWeights(WeightFile):
    """The weights of a folder under the names that they have in a model, `head.dense.0.weight` for the first folder's.

    Raises InputError where they are not those of the config.json beside them.
    """

    def __init__(self, module: DenseFiles, number: int) -> None:
        files = open_weights(module.folder)
        super().__init__(files.where)
        layer = module.layer
        expected: dict[str, tuple[int, ...]] = {"linear.weight": (layer.size, module.inputs)}
        expected |= {"linear.bias": (layer.size,)} if layer.bias else {}
        if files.shapes != expected:
            held, wanted = (
                ", ".join(f"{name} {list(shape)}" for name, shape in sorted(one.items()))
                for one in (files.shapes, expected)
            )
            raise InputError(f"{files.where}: does not fit its config.json: it holds {quote(held)}, not {wanted}")
        self._files = files
        self._names = {_own_name(name, number): name for name in expected}

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return {ours: self._files.shapes[name] for ours, name in self._names.items()}

    def read(self, name: str) -> Tensor:
        return self._files.read(self._names[name])


def write_dense(
    folders: Sequence[Path], layers: Sequence[DenseLayer], hidden_size: int, tensors: Mapping[str, Tensor], like: Path
) -> list[Path]:
    """Write a folder for each map, with the permissions of the file `like`; gives the files of weights."""
    inputs, written = hidden_size, []
    for number, (folder, layer) in enumerate(zip(folders, layers, strict=True)):
        folder.mkdir()
        config: dict[str, Any] = {"in_features": inputs, "out_features": layer.size, "bias": layer.bias}
        write_json(folder / "config.json", {**config, "activation_function": _CLASSES[layer.activation]})
        names = ["linear.weight", *(["linear.bias"] if layer.bias else [])]
        written.append(folder / "model.safetensors")
        save_file({name: tensors[_own_name(name, number)] for name in names}, written[-1], metadata={"format": "pt"})
        shutil.copymode(like, written[-1])  # which safetensors leaves to its owner alone
        inputs = layer.size
    return written


def _own_name(name: str, number: int) -> str:
    return f"head.dense.{number}.{name.removeprefix('linear.')}"
