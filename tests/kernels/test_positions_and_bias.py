"""Positions, documents and biases where they go wrong: beyond a tile, in pieces, extreme, in small integers."""

import pytest
import torch
from torch import Tensor

import gossamer as gs
from gossamer.errors import InputError

LENGTH = 700


def _qkv(length: int = LENGTH) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 1, 1, length, 8, generator=generator).unbind()
    return q, k, v


def _difference(pattern: gs.Window | gs.Full, backend: str = "auto", **given: object) -> float:
    q, k, v = _qkv()
    out, right = (gs.attend(q, k, v, pattern, backend=one, **given) for one in (backend, "reference"))  # type: ignore[arg-type]
    return float((out - right).norm() / right.norm())


def _in_pieces() -> tuple[Tensor, Tensor]:
    """Document 0, interrupted by document 1, goes on where it stopped: ids and positions."""
    ids = torch.zeros(1, LENGTH, dtype=torch.long)
    ids[:, 200:500] = 1
    return ids, torch.cat([torch.arange(200), torch.arange(300), torch.arange(200, 400)])[None]


def test_a_document_in_pieces_keeps_its_own_window() -> None:
    ids, positions = _in_pieces()
    assert _difference(gs.Window(8, 8), segments=ids, positions=positions) < 1e-6
    q, k, v = _qkv()
    said = gs.explain(q, k, v, gs.Window(8, 8), segments=ids, positions=positions)
    assert "several pieces" in said.others["blocked"]


def test_queries_of_other_documents_than_the_keys() -> None:
    ids = (torch.arange(LENGTH) >= LENGTH // 2).long()[None]
    positions = torch.arange(LENGTH // 2).repeat(2)[None]
    assert _difference(gs.Window(8, 8), segments=(1 - ids, ids), positions=positions) < 1e-6


def test_packed_documents_that_start_again_stay_on_blocked() -> None:
    ids = torch.arange(LENGTH)[None] // 100
    given = {"segments": ids, "positions": torch.arange(LENGTH)[None] % 100}
    assert _difference(gs.Window(8, 8), backend="blocked", **given) < 1e-6


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16])
def test_positions_in_small_integers_do_not_wrap(dtype: torch.dtype) -> None:
    q, k, v = _qkv(4)
    positions = torch.tensor([[0, 60, 100, 127]], dtype=dtype)
    for backend in ("reference", "dense", "blocked"):
        narrow, wide = (
            gs.attend(q, k, v, gs.Window(110, 110), positions=p, backend=backend) for p in (positions, positions.long())
        )
        assert torch.equal(narrow, wide)


@pytest.mark.parametrize("value", [torch.finfo(torch.float32).min, float("-inf")])
@pytest.mark.parametrize("backend", ["dense", "reference"])
def test_no_bias_lets_a_causal_query_see_the_future(backend: str, value: float) -> None:
    q, k, v = _qkv(6)
    bias = torch.zeros(1, 1, 1, 6)
    bias[..., :3] = value
    later = v.clone()
    later[:, :, 3:] = 1000
    one, other = (gs.attend(q, k, x, gs.Full(causal=True), bias=bias, backend=backend) for x in (v, later))
    assert torch.equal(one[:, :, :3], other[:, :, :3])
    assert one.isfinite().all()


def test_a_bias_of_minus_infinity_hides_a_key() -> None:
    q, k, v = _qkv(6)
    bias = torch.zeros(1, 1, 6, 6)
    bias[:, :, 2] = float("-inf")
    for backend in ("dense", "reference"):
        q_, k_, v_ = (x.clone().requires_grad_() for x in (q, k, v))
        out = gs.attend(q_, k_, v_, gs.Full(), bias=bias, backend=backend)
        out.sum().backward()
        assert not out[0, 0, 2].any()
        assert all(x.grad is not None and x.grad.isfinite().all() for x in (q_, k_, v_))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"query_start": 1.5}, "query_start is 1.5"),
        ({"query_start": True}, "query_start is True"),
        ({"scale": "x"}, "scale is 'x'"),
        ({"dropout": "a"}, "dropout is 'a'"),
        ({"key_mask": [True]}, r"key_mask is \[True\], a list; it must be a tensor"),
        ({"bias": 3}, "bias is 3, a int; it must be a tensor"),
    ],
)
def test_values_of_the_wrong_type_are_quoted(given: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        gs.attend(*_qkv(4), gs.Full(), **given)  # type: ignore[arg-type]
