"""Peak memory of blocked attention, forward and backward, is linear in the length."""

import pytest
import torch
from kernel_cases import peak_bytes

from gossamer import Global, Window, attend
from gossamer.patterns import Pattern


def peak_of(pattern: Pattern, length: int, padded: bool) -> int:
    """The most that is held at once beyond the inputs, forward and backward."""
    q, k, v = (torch.randn(1, 2, length, 16).requires_grad_() for _ in range(3))
    real = torch.arange(length)[None] < length - 5 if padded else None
    flags = torch.arange(length)[None] < 4

    def work() -> None:
        out, lse = attend(q, k, v, pattern, key_mask=real, global_mask=flags, backend="blocked", return_lse=True)
        (out.sum() + (lse.sum() if padded else 0)).backward()

    return peak_bytes(work)


@pytest.mark.parametrize("padded", [False, True], ids=["plain", "padded, with log-sum-exp"])
@pytest.mark.parametrize("pattern", [Window(32, 32), Window(32, 32) | Global(), Window(16, 16, 4)], ids=str)
def test_linear(pattern: Pattern, padded: bool) -> None:
    short, long = (peak_of(pattern, length, padded) for length in (4096, 8192))
    assert 0 < short < 2 * 4096 * 4096, "less than a byte for every pair and head"
    assert long < 2.5 * short
