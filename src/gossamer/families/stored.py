"""How a file holds our tensors: mostly one for one; else several in one, or with its matrices the other way round."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Stored", "StoredTensor"]

Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Stored:
    """One place in a key table: `name`, a module of the file, and how it holds a module of ours.

    `part`: modules of one name lie in one tensor, one after the other along their outputs, in this order: 0, 1, 2 ...
    `transposed`: its matrices are [inputs, outputs], where ours, as `torch.nn.Linear` has them, are [outputs, inputs].
    `single`: a dimension of size 1 that it has there and ours has not.
    """

    name: str
    part: int = 0
    transposed: bool = False
    single: int | None = None


@dataclass(frozen=True, kw_only=True)
class StoredTensor:
    """One tensor of a file: the names of ours that it holds, in their order along the outputs.

    `shape` and `join` go from ours to the file's, `split` goes back.
    """

    ours: tuple[str, ...]
    transposed: bool = False
    single: int | None = None

    def shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """Its shape in the file, given the shapes of ours."""
        whole = shapes[self.ours[0]]
        if len(self.ours) > 1:
            whole = (sum(shapes[name][0] for name in self.ours), *whole[1:])
        whole = whole[::-1] if self.transposed else whole
        return whole if self.single is None else (*whole[: self.single], 1, *whole[self.single :])

    def join(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """The file's tensor, in memory of its own."""
        parts = [tensors[name] for name in self.ours]
        whole = torch.cat(parts) if len(parts) > 1 else parts[0]
        whole = self._turned(whole)
        whole = whole if self.single is None else whole.unsqueeze(self.single)
        return whole.clone(memory_format=torch.contiguous_format)

    def split(self, whole: Tensor, shapes: Mapping[str, Shape]) -> dict[str, Tensor]:
        """Ours, each in memory of its own, from a tensor that nobody else holds, shaped as `shape` says."""
        whole = self._turned(whole if self.single is None else whole.squeeze(self.single))
        if len(self.ours) == 1:
            return {self.ours[0]: whole.contiguous()}
        parts = whole.split([shapes[name][0] for name in self.ours])
        return {
            name: part.clone(memory_format=torch.contiguous_format) for name, part in zip(self.ours, parts, strict=True)
        }

    def _turned(self, tensor: Tensor) -> Tensor:
        return tensor.mT if self.transposed and tensor.dim() == 2 else tensor
