"""Optimizers: AdamW and Adafactor from torch, LAMB from its paper; which weights decay is decided here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gossamer.errors import InputError
from gossamer.models.checks import require, require_choice, require_positive

__all__ = ["Lamb", "OptimizerName", "OptimizerSettings", "build_optimizer", "decays"]

OptimizerName = Literal["adamw", "adafactor", "lamb"]
FUSED_DEVICES = ("cpu", "cuda")


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
    """An optimizer and its numbers. `learning_rate` is the highest one: the schedule multiplies it.

    `betas`: of the running means of the gradient and its square; (0.9, 0.999) unless given; Adafactor has none.
    `eps`: 1e-8 for AdamW, 1e-6 for LAMB and float32's resolution, 1.2e-7, for Adafactor unless given. Adafactor's rate
    is relative to the size of the weights: 0.01 is its paper's. `layer_decay`: the rate of what stands d steps below
    the top is the rate times layer_decay^d (`training.optimization.layer_depths`); None is one rate for all. Sources:
    Howard and Ruder 2018, section 3.2 (1 / 2.6); Clark et al. 2020, appendix B (0.8), whose code gives all but the head
    one power more.
    """

    name: OptimizerName = "adamw"
    learning_rate: float = 1e-3
    betas: tuple[float, float] | None = None
    eps: float | None = None
    weight_decay: float = 0.01
    layer_decay: float | None = None

    def __post_init__(self) -> None:
        require_choice(self, OptimizerName, "name")
        require_positive(self, "learning_rate")
        require_positive(self, "weight_decay", zero=True)
        if self.eps is not None:
            require_positive(self, "eps")
        if self.layer_decay is not None:
            fits = type(self.layer_decay) in (int, float) and 0 < self.layer_decay <= 1
            require(fits, "layer_decay", self.layer_decay, "a number above 0, up to 1")
        if self.betas is not None:
            require(self.name != "adafactor", "betas", self.betas, "left out: adafactor has none")
            pair = isinstance(self.betas, tuple | list) and len(self.betas) == 2
            fits = pair and all(type(one) in (int, float) and 0 <= one < 1 for one in self.betas)
            require(fits, "betas", self.betas, "two numbers from 0 up to, not including, 1")
            object.__setattr__(self, "betas", tuple(self.betas))  # YAML has lists


def build_optimizer(
    settings: OptimizerSettings,
    named_parameters: Iterable[tuple[str, nn.Parameter]],
    depths: Mapping[str, int] = MappingProxyType({}),
    rates: Mapping[str, float] = MappingProxyType({}),
) -> torch.optim.Optimizer:
    """The optimizer of those parameters that take gradients, in two groups: with and without weight decay.

    depths: by name how far below the top a parameter stands, 0 unless given. With `layer_decay` each depth has two
    groups of its own, the deepest last, whose `rate_share` is to be multiplied with a rate before it is theirs. rates:
    by name the highest rates of parameters that have one of their own, and no weight decay.

    Matrices and tables decay, embeddings too, as in BERT and GPT-2; biases and norms do not: they have one dimension.
    Every update is a fixed sequence of operations: the same weights, gradients and state give the same weights, bit for
    bit, on the same device with the same number of threads. All state is in `state_dict`: tensors and plain numbers.
    Raises InputError where no parameter takes gradients, and for Adafactor where FSDP2 has cut them into pieces.
    """
    named = [(name, one) for name, one in named_parameters if one.requires_grad]
    parameters = [one for _, one in named]
    if not parameters:
        raise InputError("no parameter takes gradients; train at least one part of the model")
    if settings.name == "adafactor" and any(hasattr(one, "full_tensor") for one in parameters):
        raise InputError(
            "optimizer.name is 'adafactor', which cannot update weights cut by FSDP2: take 'ddp', 'adamw' or 'lamb'"
        )
    of_depth: dict[int, list[nn.Parameter]] = {}
    for name, one in named:
        if name in rates:
            continue
        of_depth.setdefault(depths.get(name, 0) if settings.layer_decay is not None else 0, []).append(one)
    groups = [group for depth in sorted(of_depth) for group in _groups(settings, of_depth[depth], depth)]
    for rate in sorted({*rates.values()}):
        groups.append(_group_at(settings, [one for name, one in named if rates.get(name) == rate], rate))
    return _build(settings, groups, parameters)


def _groups(settings: OptimizerSettings, parameters: list[nn.Parameter], depth: int) -> Iterator[dict[str, Any]]:
    """The parameters of a depth, those that decay and those that do not."""
    share = (settings.layer_decay or 1.0) ** depth
    for wanted, decay in ((True, settings.weight_decay), (False, 0.0)):
        group: dict[str, Any] = {"params": [one for one in parameters if decays(one) is wanted], "weight_decay": decay}
        adapt = {"adapt": wanted} if settings.name == "lamb" else {}
        if group["params"]:
            yield {**group, **adapt, "rate_share": share, "lr": settings.learning_rate * share}


def _group_at(settings: OptimizerSettings, parameters: list[nn.Parameter], rate: float) -> dict[str, Any]:
    """Parameters with a rate of their own."""
    adapt = {"adapt": False} if settings.name == "lamb" else {}
    share = rate / settings.learning_rate
    return {"params": parameters, "weight_decay": 0.0, **adapt, "rate_share": share, "lr": rate}


def decays(parameter: Tensor) -> bool:
    """Whether weight decay reaches it: anything but biases and norms, which have one dimension."""
    return parameter.dim() > 1


def _build(settings: OptimizerSettings, groups: list[dict[str, Any]], parameters: list[Any]) -> torch.optim.Optimizer:
    rate, eps = settings.learning_rate, settings.eps
    if settings.name == "adafactor":
        # eps: its first; the second, 0.001, is the least size of weights that rates are relative to.
        return torch.optim.Adafactor(groups, lr=rate, eps=(eps, 1e-3), foreach=False)
    betas = settings.betas or (0.9, 0.999)
    if settings.name == "lamb":
        return Lamb(groups, lr=rate, betas=betas, eps=eps or 1e-6)
    # One pass over each tensor and no copies; where torch has no such kernel, its plain loop.
    fused = all(one.device.type in FUSED_DEVICES and one.is_floating_point() for one in parameters)
    return torch.optim.AdamW(groups, lr=rate, betas=betas, eps=eps or 1e-8, fused=fused or None)


class Lamb(torch.optim.Optimizer):
    """LAMB, Algorithm 2 of You et al. 2020 (arXiv 1904.00962v5), its phi being the identity.

    With m and v Adam's means, corrected for their start at 0, and r = m / (sqrt(v) + eps), each tensor x moves by
    -lr ||x|| / ||r + decay x|| (r + decay x); by -lr (r + decay x) where one of the norms is 0, and in groups with
    `adapt=False`: as in the authors' code, biases and norms. None of the libraries that have it will do: one leaves the
    correction out and the decay outside the norm, the other brings torchvision.
    """

    def __init__(
        self, params: Any, *, lr: float, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-6,
        weight_decay: float = 0.0,
    ) -> None:  # fmt: skip
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "adapt": True}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for one in group["params"]:
                if one.grad is not None:
                    self._update(one, one.grad, group)
        return loss

    def _update(self, x: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[x]
        if not state:
            state["step"] = torch.tensor(0.0)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(x), torch.zeros_like(x)
        state["step"] += 1
        steps, (beta1, beta2) = float(state["step"]), group["betas"]
        m, v = state["exp_avg"], state["exp_avg_sq"]
        m.lerp_(gradient, 1 - beta1)
        v.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        root = (v / (1 - beta2**steps)).sqrt_().add_(group["eps"])
        move = (m / (1 - beta1**steps)).div_(root).add_(x, alpha=group["weight_decay"])
        if group["adapt"]:
            move *= _trust(x, move)
        x.add_(move, alpha=-group["lr"])


def _trust(x: Tensor, move: Tensor) -> Tensor:
    """||x|| / ||move||, or 1 where one of them is 0."""
    of_x, of_move = torch.linalg.vector_norm(x), torch.linalg.vector_norm(move)
    return torch.where((of_x > 0) & (of_move > 0), of_x / of_move, 1.0)
