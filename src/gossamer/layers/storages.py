"""How a linear map keeps its weight, as a value beside it: whole, or whole and frozen with a low-rank addition."""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from gossamer.errors import InputError, quote
from gossamer.kernels import ACTIVATIONS, linear
from gossamer.kernels.accounts import account_activation, account_linear
from gossamer.kernels.ledger import Ledger, own_frame

if TYPE_CHECKING:
    from gossamer.layers.linear import Linear

__all__ = ["DENSE", "Dense", "LowRank", "Storage", "storage_from_dict"]


class Storage(ABC):
    """A frozen dataclass that says what tensors stand for a weight, and computes with them; `kind` is its name.

    `frozen`: those of the tensors that training leaves as they are. A map that is stored in another way gives the same
    outputs until it is trained.
    """

    kinds: ClassVar[dict[str, type[Storage]]] = {}
    frozen: ClassVar[tuple[str, ...]] = ()
    kind: str

    def __init_subclass__(cls, kind: str, **rest: object) -> None:
        super().__init_subclass__(**rest)
        Storage.kinds[kind] = cls

    @abstractmethod
    def tensors(self, weight: Float[Tensor, "outputs inputs"]) -> dict[str, Tensor]:
        """The tensors that stand for this weight, by their names in the map. Raises InputError where none can."""

    @abstractmethod
    def whole(self, stored: Linear) -> Float[Tensor, "outputs inputs"]:
        """The weight as one matrix, through which gradients reach what is stored."""

    @abstractmethod
    def product(
        self, stored: Linear, x: Float[Tensor, "*rest inputs"], activation: str | None, residual: Tensor | None
    ) -> Float[Tensor, "*rest outputs"]:
        """`activation(x @ whole.T + bias) + residual`."""

    @abstractmethod
    def account(self, stored: Linear, x: Tensor, ledger: Ledger, activation: str | None) -> Tensor:
        """What `product` takes."""

    @abstractmethod
    def describe(self) -> str:
        """What is said of it behind a map's sizes in the tree of a model."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; `storage_from_dict` reads it back."""
        return dataclasses.asdict(self) | {"kind": self.kind}  # type: ignore[call-overload]


@dataclass(frozen=True)
class Dense(Storage, kind="dense"):
    """The weight itself."""

    kind = "dense"

    def tensors(self, weight: Float[Tensor, "outputs inputs"]) -> dict[str, Tensor]:
        return {"weight": weight}

    def describe(self) -> str:
        return ""

    def whole(self, stored: Linear) -> Float[Tensor, "outputs inputs"]:
        return stored.weight

    def product(
        self, stored: Linear, x: Float[Tensor, "*rest inputs"], activation: str | None, residual: Tensor | None
    ) -> Float[Tensor, "*rest outputs"]:
        return linear(x, stored.weight, stored.bias, activation, residual)

    def account(self, stored: Linear, x: Tensor, ledger: Ledger, activation: str | None) -> Tensor:
        return account_linear(x, stored.weight, stored.bias, ledger, activation)


DENSE = Dense()


@dataclass(frozen=True, kw_only=True)
class LowRank(Storage, kind="low-rank"):
    """`weight + scale * low_rank_b @ low_rank_a`; weight and bias are frozen.

    low_rank_a [rank, inputs] is drawn, low_rank_b [outputs, rank] is 0. dropout: while training, of what the addition
    reads, and not of what the weight reads. Source: Hu et al. 2021 (LoRA, arXiv 2106.09685), section 4.1, where `scale`
    is alpha / r; its dropout (appendix D) stands where their code and peft have it.
    """

    rank: int
    scale: float = 1.0
    dropout: float = 0.0
    kind = "low-rank"
    frozen = ("weight", "bias")

    def __post_init__(self) -> None:
        if type(self.rank) is not int or self.rank < 1:
            raise InputError(f"rank is {quote(self.rank)}; it must be a whole number, 1 or more")
        if type(self.scale) not in (int, float) or not math.isfinite(self.scale):
            raise InputError(f"scale is {quote(self.scale)}; it must be a finite number")
        if type(self.dropout) not in (int, float) or not 0 <= self.dropout < 1:
            raise InputError(f"dropout is {quote(self.dropout)}; it must be a rate from 0 up to, but not, 1")

    def tensors(self, weight: Float[Tensor, "outputs inputs"]) -> dict[str, Tensor]:
        outputs, inputs = weight.shape
        if self.rank > min(outputs, inputs):
            raise InputError(f"rank is {self.rank}; a map of {inputs} to {outputs} has {min(outputs, inputs)} at most")
        drawn = torch.randn(self.rank, inputs, dtype=weight.dtype, device=weight.device) / math.sqrt(inputs)
        return {"weight": weight, "low_rank_a": drawn, "low_rank_b": weight.new_zeros(outputs, self.rank)}

    def to_dict(self) -> dict[str, Any]:
        """Without a dropout that is none, which older versions do not know."""
        return {name: value for name, value in super().to_dict().items() if name != "dropout" or value}

    def describe(self) -> str:
        return f", frozen, with an addition of rank {self.rank}"

    def whole(self, stored: Linear) -> Float[Tensor, "outputs inputs"]:
        a, b = _factors(stored)
        return stored.weight + self.scale * (b @ a)

    def product(
        self, stored: Linear, x: Float[Tensor, "*rest inputs"], activation: str | None, residual: Tensor | None
    ) -> Float[Tensor, "*rest outputs"]:
        a, b = _factors(stored)
        read = F.dropout(x, self.dropout) if self.dropout and stored.training else x
        out = linear(self.scale * linear(read, a), b, residual=linear(x, stored.weight, stored.bias))
        out = out if activation is None else ACTIVATIONS[activation](out)
        return out if residual is None else out + residual

    @own_frame
    def account(self, stored: Linear, x: Tensor, ledger: Ledger, activation: str | None) -> Tensor:
        a, b = _factors(stored)
        narrow = account_linear(ledger.dropout(x, self.dropout), a, None, ledger)
        narrow = ledger.operation(narrow.shape, narrow.dtype, (narrow,))
        out = account_linear(narrow, b, None, ledger, residual=account_linear(x, stored.weight, stored.bias, ledger))
        return out if activation is None else account_activation(activation, out, ledger)


def _factors(stored: Linear) -> tuple[Tensor, Tensor]:
    return stored.get_parameter("low_rank_a"), stored.get_parameter("low_rank_b")


def storage_from_dict(data: object) -> Storage:
    """The storage that `to_dict` wrote. Raises InputError for another kind, and for fields that it has not."""
    if not isinstance(data, dict) or data.get("kind") not in tuple(Storage.kinds):
        raise InputError(f"storage is {quote(data)}; its kind must be one of {', '.join(Storage.kinds)}")
    settings = Storage.kinds[data["kind"]]
    names = [one.name for one in dataclasses.fields(settings)]  # type: ignore[arg-type]
    given = {name: value for name, value in data.items() if name != "kind"}
    if unknown := sorted(set(given) - set(names)):
        raise InputError(f"storage {data['kind']!r} has unknown fields {unknown}; known are {names}")
    try:
        return settings(**given)
    except TypeError:
        raise InputError(f"storage is {quote(data)}; {data['kind']!r} needs {', '.join(names)}") from None
