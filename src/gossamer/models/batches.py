"""How many tokens a model reads at once, where nobody says."""

from __future__ import annotations

import torch

from gossamer.models.model import Model

__all__ = ["tokens_at_once"]

# What a layer makes of so many tokens stays in a core's cache: docs/benchmarks.md, "Tasks beside their peers".
_A_THREAD, _LEAST, _ELSEWHERE = 512, 1024, 16384


def tokens_at_once(model: Model, given: int | None) -> int:
    """What is given, or 512 a thread on a CPU, 1,024 at least, and 16,384 on other devices."""
    if given is not None:
        return given
    weight = next(model.parameters(), None)
    if weight is None or weight.device.type == "cpu":
        return max(_LEAST, _A_THREAD * torch.get_num_threads())
    return _ELSEWHERE
