"""Which pairs dropout drops, to the last of 32 bits: the same on every backend and instruction set, at every rate."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from cpu_cases import SETS
from torch import Tensor

from gossamer import Full, attend
from gossamer.kernels.backends.cpu import attention as cpu_attention
from gossamer.kernels.backends.cpu import library
from gossamer.kernels.dropout import keep_threshold

SEED = 9
LENGTH = 24


def mixed(x: int) -> int:
    """Murmur3's finaliser (Appleby 2008)."""
    x = (x ^ x >> 16) * 0x85EBCA6B % 2**32
    x = (x ^ x >> 13) * 0xC2B2AE35 % 2**32
    return x ^ x >> 16


def bits_of(batch: int, head: int, query: int, key: int) -> int:
    """The 32 bits that decide on a pair, counted from the least signed number: anew, in whole numbers of any size."""
    state = mixed(SEED)
    for part in (batch, head, query):
        state = mixed(state ^ part * 0x9E3779B9 % 2**32)
    bits = (state ^ mixed(key * 0x85EBCA6B % 2**32 ^ 0x5BD1E995)) * 0x7FEB352D % 2**32
    return (bits ^ bits >> 15) * 0x846CA68B % 2**32 ^ 2**31


BITS = torch.tensor(
    [[[[bits_of(b, h, i, j) for j in range(LENGTH)] for i in range(LENGTH)] for h in range(3)] for b in range(2)]
)

BACKENDS = ["reference", "blocked", *(f"cpu {name}" for name in SETS)]


@pytest.fixture(params=BACKENDS)
def weights(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], Tensor]:
    """Attention weights after dropout, [batch, heads, queries, keys], where all scores are equal, by rate."""
    backend, _, instructions = request.param.partition(" ")
    if instructions:
        opened = library._open(instructions)
        monkeypatch.setattr(cpu_attention, "library", lambda: opened)

    def of_rate(rate: float) -> Tensor:
        zeros = torch.zeros(2, 3, LENGTH, 8)
        values = torch.eye(LENGTH).expand(2, 3, LENGTH, LENGTH)
        return attend(zeros, zeros, values, Full(), dropout=rate, seed=SEED, backend=backend)

    return of_rate


def rates() -> list[float]:
    """The rates between which a pair's fate turns: those of the pairs with the fewest, middle and most bits."""
    ordered = BITS.flatten().sort().values.tolist()
    at = [ordered[i] for i in (0, 1, len(ordered) // 2, -2, -1)]
    exact = [(bits + step) / 2**32 for bits in at for step in (0, 1)]
    return exact + [math.nextafter(rate, side) for rate in exact for side in (0, 1)]


EDGES = [2**-33, 2**-32, 2**-24, 1e-300, 0.17, 1 - 2**-24, 1 - 2**-32, 1 - 2**-33, 1 - 2**-53]


@pytest.mark.parametrize("rate", rates() + EDGES)
def test_every_pair_at_the_rates_where_it_matters(weights: Callable[[float], Tensor], rate: float) -> None:
    kept = math.floor(rate * 2**32) <= BITS
    found = weights(rate)
    assert torch.equal(found > 0, kept)
    assert torch.allclose(found[kept] * (1 - rate), torch.tensor(1 / LENGTH), rtol=1e-6, atol=0.0)


def test_thresholds() -> None:
    """Whole numbers that 32 bits hold, for every rate that `attend` takes."""
    assert [keep_threshold(rate) for rate in (0.0, 1e-300, 2**-33, 2**-32, 0.5)] == [0, 0, 0, 1, 2**31]
    assert [keep_threshold(rate) for rate in (1 - 2**-32, 1 - 2**-53)] == [2**32 - 1, 2**32 - 1]


def test_a_pair_that_float32_would_decide_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Row [3, 353] of this call: one pair of it lies between 0.17 and the nearest float32."""
    q, k = torch.zeros(1, 4, 354, 8), torch.zeros(1, 4, 60, 8)
    v = torch.eye(60).expand(1, 4, 60, 60)
    options = {"dropout": 0.17, "seed": 1714352538}
    wanted = attend(q, k, v, Full(), backend="reference", **options)
    rounded = attend(q, k, v, Full(), backend="reference", **{**options, "dropout": float(torch.tensor(0.17))})
    assert (wanted != 0).ne(rounded != 0).nonzero()[:, :3].tolist() == [[0, 3, 353]]
    for name in SETS:
        opened = library._open(name)
        monkeypatch.setattr(cpu_attention, "library", lambda opened=opened: opened)
        assert torch.equal(attend(q, k, v, Full(), backend="cpu", **options) != 0, wanted != 0)
    assert torch.equal(attend(q, k, v, Full(), backend="blocked", **options) != 0, wanted != 0)
