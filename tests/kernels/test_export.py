"""torch.export with a length left open: the exported program equals the eager call at lengths it has not seen."""

import pytest
import torch
from kernel_cases import relative_error
from torch import Tensor, nn
from torch.export import Dim, export

from gossamer import Fixed, Full, Global, PerHead, Strided, Window, attend
from gossamer.patterns import Pattern

LENGTHS = (2, 9, 17, 64, 129, 300)
PATTERNS = {
    "window": Window(5, 3),
    "causal window": Window(12, 0),
    "wide window": Window(150, 150),
    "dilated": Window(4, 2, 3),
    "global": Window(5, 3) | Global(),
    "per head": PerHead((Window(5, 3) | Global(), 1), (Window(3, 3, 2), 1)),
    "full": Full(),
    "causal": Full(causal=True),
    "strided": PerHead((Strided(7), 1), (Strided(5, "column") | Window(3, 3, 2), 1)),
    "fixed": PerHead((Fixed(9, 2), 1), (Fixed(9, 2, "summary", 2) | Window(3, 3), 1)),
}


class Attention(nn.Module):
    def __init__(self, pattern: Pattern) -> None:
        super().__init__()
        self.pattern = pattern

    def forward(self, q: Tensor, k: Tensor, v: Tensor, key_mask: Tensor, global_mask: Tensor) -> Tensor:
        return attend(q, k, v, self.pattern, key_mask=key_mask, global_mask=global_mask)


def arguments(length: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(length)
    q, k, v = (torch.randn(2, 2, length, 8, generator=generator, dtype=torch.float64) for _ in range(3))
    real = torch.arange(length) < torch.tensor([[length], [length - length // 3]])
    return q, k, v, real, torch.rand(2, length, generator=generator) < 0.1


@pytest.mark.parametrize(("name", "strict"), [*((name, False) for name in PATTERNS), ("per head", True)])
def test_exported_once_for_all_lengths(name: str, strict: bool) -> None:
    module, length = Attention(PATTERNS[name]), Dim("length", min=2, max=4096)
    shapes = ({2: length}, {2: length}, {2: length}, {1: length}, {1: length})
    program = export(module, arguments(40), dynamic_shapes=shapes, strict=strict).module()
    for other in LENGTHS:
        call = arguments(other)
        assert relative_error(program(*call), attend_reference(module.pattern, *call)) < 1e-12


class Packed(nn.Module):
    def forward(self, q: Tensor, k: Tensor, v: Tensor, segments: Tensor) -> Tensor:
        return attend(q, k, v, PATTERNS["fixed"], segments=segments)


def test_places_in_documents_are_exported() -> None:
    """Where a document begins is part of the input: blocks are counted from there."""
    length = Dim("length", min=2, max=4096)
    q, k, v, *_ = arguments(40)
    ids = torch.arange(40).expand(2, -1) // 13
    program = export(Packed(), (q, k, v, ids), dynamic_shapes=({2: length}, {2: length}, {2: length}, {1: length}))
    for other in LENGTHS:
        q, k, v, *_ = arguments(other)
        ids = torch.stack([torch.arange(other) // 10, torch.arange(other) // 31])
        wanted = attend(q, k, v, PATTERNS["fixed"], segments=ids, backend="reference")
        assert relative_error(program.module()(q, k, v, ids), wanted) < 1e-12


def attend_reference(pattern: Pattern, q: Tensor, k: Tensor, v: Tensor, key_mask: Tensor, flags: Tensor) -> Tensor:
    return attend(q, k, v, pattern, key_mask=key_mask, global_mask=flags, backend="reference")


def test_exported_window_is_linear_in_memory() -> None:
    """No tensor of the exported graph holds a pair of every query and key."""
    length = Dim("length", min=2, max=2**20)
    shapes = ({2: length}, {2: length}, {2: length}, {1: length}, {1: length})
    program = export(Attention(PATTERNS["window"]), arguments(512), dynamic_shapes=shapes)
    for node in program.graph.nodes:
        value = node.meta.get("val")
        if isinstance(value, Tensor):
            symbols = [size for size in value.shape if not isinstance(size, int)]
            assert len(symbols) <= 1, f"{node} has shape {tuple(value.shape)}"
