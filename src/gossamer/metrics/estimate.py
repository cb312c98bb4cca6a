"""A mean and how sure we are of it, also where observations come in groups that are not independent inside."""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gossamer.errors import InputError, quote

__all__ = ["Estimate", "Groups", "Values", "estimate_mean", "number_groups", "read_values", "refuse_not_finite"]

Groups = Sequence[Hashable] | Tensor
Values = Sequence[float] | Tensor


@dataclass(frozen=True)
class Estimate:
    """A mean over `count` observations with its standard error (NaN where one group leaves it unknown)."""

    value: float
    standard_error: float
    count: int

    def __str__(self) -> str:
        return f"{self.value:.3f} ± {self.standard_error:.3f}"


def estimate_mean(values: Tensor, groups: Groups | None = None) -> Estimate:
    """Mean of `values` [n] with a standard error that is robust to dependence inside `groups` (n labels).

    With residuals e and G groups: SE^2 = G / (G - 1) * sum_g (sum_{i in g} e_i)^2 / n^2. Without groups every value is
    its own and this is s / sqrt(n). The SE of a difference of two methods is that of their paired differences.
    Source: Liang and Zeger 1986, the sandwich for a mean. Raises InputError for no values, NaN, infinities, and a
    number of labels other than n.
    """
    if values.dim() != 1 or len(values) == 0:
        raise InputError(f"values have shape {list(values.shape)}; give a vector of at least one")
    refuse_not_finite("values", values)
    x = values.detach().to("cpu", torch.float64)
    labels = torch.arange(len(x)) if groups is None else number_groups(groups, len(x))
    mean = x.mean()
    count = int(labels.max()) + 1
    sums = torch.zeros(count, dtype=torch.float64).index_add_(0, labels, x - mean)
    variance = math.nan if count == 1 else count / (count - 1) * float(sums.square().sum()) / len(x) ** 2
    return Estimate(float(mean), math.sqrt(variance), len(x))


def read_values(name: str, values: Values) -> Tensor:
    """A vector of at least one finite number, as float64 [n] on the CPU; InputError for what is none."""
    try:
        x = torch.as_tensor(values, dtype=torch.float64, device="cpu").detach()
    except (TypeError, ValueError, RuntimeError):
        raise InputError(f"{name} is {quote(values)}; it must be a vector of numbers") from None
    if x.dim() != 1 or len(x) == 0:
        raise InputError(f"{name} has shape {list(x.shape)}; give a vector of at least one")
    refuse_not_finite(name, x)
    return x


def number_groups(groups: Groups, n: int) -> Tensor:
    """Labels of any kind as numbers 0, 1, ... in order of first appearance, int64 [n]; InputError if they are not n."""
    labels = groups.tolist() if isinstance(groups, Tensor) else list(groups)
    if len(labels) != n:
        raise InputError(f"{len(labels)} group labels for {n} observations; give one label for each")
    numbers = {label: i for i, label in enumerate(dict.fromkeys(labels))}
    return torch.tensor([numbers[label] for label in labels], dtype=torch.int64)


def refuse_not_finite(name: str, values: Tensor) -> None:
    """InputError that counts the NaN and infinite entries of `values` and names the first, if there is any."""
    if values.is_floating_point() and not bool(values.isfinite().all()):
        bad = (~values.isfinite()).nonzero()
        raise InputError(
            f"{name} has {len(bad)} NaN or infinite entries, the first at {bad[0].tolist()}; "
            "a metric over them would mean nothing: find where they come from"
        )
