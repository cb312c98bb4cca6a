"""Keys that do not lie in one piece are copied once for many tiles; no tile may read what another head left there."""

import pytest
import torch
from torch import Tensor

import gossamer as gs

HIDDEN, SEEN = 20_000, 200


def call(head_size: int = 16) -> tuple[list[Tensor], dict[str, tuple[Tensor, Tensor]]]:
    """Two documents: the queries of the first one see none of its keys, which are too many to be kept."""
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(1, 3, 96 + SEEN, head_size, generator=generator)
    k, v = (torch.randn(1, 3, HIDDEN + SEEN, head_size, generator=generator) for _ in range(2))
    segments = tuple(torch.tensor([[0] * n + [1] * SEEN]) for n in (96, HIDDEN))
    far = torch.arange(96) + 1_700_000_000
    positions = tuple(torch.cat([one, torch.arange(SEEN)])[None] for one in (far, torch.arange(HIDDEN)))
    return [q, k, v], {"segments": segments, "positions": positions}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_heads_do_not_read_one_anothers_rows(dtype: torch.dtype, threads: int) -> None:
    tensors, options = call()
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    found = []
    for backend, kind in (("cpu", dtype), ("reference", torch.float64)):
        inputs = [x.to(dtype).to(kind, copy=True).requires_grad_() for x in tensors]
        out = gs.attend(*inputs, gs.Window(50, 0), backend=backend, **options)
        out.double().square().sum().backward()
        found.append([out.detach().double()] + [x.grad.double() for x in inputs if x.grad is not None])
    torch.set_num_threads(before)
    limit = 2e-5 if dtype == torch.float32 else 3e-2
    for one, expected in zip(*found, strict=True):
        assert (one - expected).abs().max() <= limit * expected.abs().max()
