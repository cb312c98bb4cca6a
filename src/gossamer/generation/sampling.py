"""The next token from its scores: the likeliest, or one drawn from what temperature, top-k and top-p leave."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gossamer.errors import GossamerError
from gossamer.models.checks import require

__all__ = ["Sampling", "checked_scores", "choose", "filtered"]

SMALLEST, LARGEST = torch.finfo(torch.float32).tiny, torch.finfo(torch.float32).max
"""Scores are divided in float32, where less is 0 and more is infinite."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the next token is chosen; `temperature=0` takes the likeliest one.

    Scores are divided by `temperature`; of them the `top_k` highest stay, with those equal to the last of them (None:
    all), and of these the fewest that have `top_p` of the probability together (Holtzman et al. 2020, section 3.1): the
    order, and the ties, of `transformers`. Temperatures above 0 are those that float32 holds in full precision.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0

    def __post_init__(self) -> None:
        is_number = type(self.temperature) in (int, float) and 0 <= self.temperature < math.inf
        require(is_number, "temperature", self.temperature, "a finite number, 0 (the likeliest token) or more")
        fits = self.temperature == 0 or SMALLEST <= self.temperature <= LARGEST
        require(
            fits, "temperature", self.temperature, f"0 (the likeliest token) or from {SMALLEST:.2g} to {LARGEST:.2g}"
        )
        counts = self.top_k is None or (type(self.top_k) is int and self.top_k >= 1)
        require(counts, "top_k", self.top_k, "a whole number of tokens, 1 or more, or None for all")
        is_share = type(self.top_p) in (int, float) and 0 < self.top_p <= 1
        require(is_share, "top_p", self.top_p, "above 0 and at most 1, which keeps all tokens")


def filtered(logits: Float[Tensor, "rows vocabulary"], sampling: Sampling) -> Float[Tensor, "rows vocabulary"]:
    """The scores that are drawn from: divided by the temperature (above 0), -inf for tokens that are left out."""
    # From the highest, which does not change what softmax gives: a tiny temperature then takes nothing to infinity.
    scores = (logits - logits.amax(dim=-1, keepdim=True)) / sampling.temperature
    if sampling.top_k is not None and sampling.top_k < scores.shape[-1]:
        least = scores.topk(sampling.top_k).values[:, -1:]
        scores = scores.masked_fill(scores < least, -torch.inf)
    if sampling.top_p < 1:
        rising, order = scores.sort(dim=-1)
        left_out = rising.softmax(dim=-1).cumsum(dim=-1) <= 1 - sampling.top_p
        left_out[:, -1] = False
        scores = scores.masked_fill(left_out.scatter(1, order, left_out), -torch.inf)
    return scores


def checked_scores(logits: Float[Tensor, "rows vocabulary"]) -> Float[Tensor, "rows vocabulary"]:
    """The scores in float32 at least. Raises GossamerError where NaN or infinite; -inf may stand beside finite ones."""
    logits = logits if logits.dtype == torch.float64 else logits.float()
    if not bool(logits.amax(dim=-1).isfinite().all()):
        raise GossamerError(
            "the model's scores are NaN or infinite: its weights are damaged, or float16 overflows; try bfloat16"
        )
    return logits


def choose(
    logits: Float[Tensor, "rows vocabulary"], sampling: Sampling, draws: Float[Tensor, "rows"] | None
) -> Int[Tensor, "rows"]:
    """One token a row. draws: a number from [0, 1) for each row, float64, unless the temperature is 0.

    A row's token is where the sum of the probabilities, in the vocabulary's order, passes its number: so it depends on
    its own scores and number alone. Raises GossamerError for scores that are NaN or infinite; -inf may
    stand beside finite ones.
    """
    logits = checked_scores(logits)
    if draws is None or sampling.temperature == 0:
        return logits.argmax(dim=-1)
    # In main memory: not every device has float64, and some add up in no fixed order.
    sums = filtered(logits, sampling).cpu().double().softmax(dim=-1).cumsum(dim=-1)
    passed = torch.searchsorted(sums, draws[:, None] * sums[:, -1:], right=True)[:, 0]
    return passed.clamp(max=logits.shape[-1] - 1)
