"""Attention to other states is torch's, its gradients too; documents and heads by hand; kept keys give the same."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gossamer.errors import InputError
from gossamer.layers import CrossAttention, OtherStates, TokenInfo
from gossamer.models.cache.cross import CrossMemory

HIDDEN, HEADS, SIZE = 12, 4, 3
REAL = torch.arange(7) < torch.tensor([[7], [4]])


def made(**settings: Any) -> CrossAttention:
    torch.manual_seed(0)
    return CrossAttention(HIDDEN, HEADS, SIZE, norm=nn.LayerNorm(HIDDEN), **settings).double()


def states(length: int, seed: int) -> Tensor:
    drawn = torch.randn(2, length, HIDDEN, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return drawn.requires_grad_()


def of_torch(attention: CrossAttention) -> nn.MultiheadAttention:
    """torch's module with the same weights."""
    theirs = nn.MultiheadAttention(HIDDEN, HEADS, batch_first=True, dtype=torch.float64)
    maps = (attention.query, attention.key, attention.value)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([one.weight for one in maps]))
        theirs.in_proj_bias.copy_(torch.cat([one.bias for one in maps]))
        theirs.out_proj.load_state_dict(attention.output.state_dict())
    return theirs


def by_hand(attention: CrossAttention, hidden: Tensor, other: Tensor, allowed: Tensor) -> Tensor:
    """The definition, densely, with key heads repeated."""
    split: Callable[[Tensor], Tensor] = lambda x: x.unflatten(-1, (-1, SIZE)).transpose(1, 2)  # noqa: E731
    q, k, v = (split(one) for one in (attention.query(hidden), attention.key(other), attention.value(other)))
    q = q if attention.query_norm is None else attention.query_norm(q)
    k = k if attention.key_norm is None else attention.key_norm(k)
    k, v = (one.repeat_interleave(HEADS // k.shape[1], dim=1) for one in (k, v))
    scores = (q @ k.transpose(2, 3) / SIZE**0.5).masked_fill(~allowed[:, None], -torch.inf)
    return attention.output((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))


def same(ours: Tensor, theirs: Tensor, inputs: list[Tensor]) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    weights = torch.randn(ours.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    mine, wanted = (torch.autograd.grad((one * weights).sum(), inputs) for one in (ours, theirs))
    for one, other in zip(mine, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("length", [1, 5, 9])
def test_it_is_torchs(length: int, padded: bool) -> None:
    attention, hidden, other = made(), states(length, 1), states(7, 2)
    tokens = TokenInfo(key_mask=REAL if padded else None)
    ours = attention(hidden, TokenInfo(), OtherStates(states=other, tokens=tokens))
    theirs, _ = of_torch(attention)(hidden, other, other, key_padding_mask=~REAL if padded else None)
    same(ours, theirs, [hidden, other])


def test_key_heads_norms_and_documents_are_their_definition() -> None:
    attention = made(key_heads=2, bias=False, query_norm=nn.LayerNorm(SIZE), key_norm=nn.LayerNorm(SIZE))
    hidden, other = states(5, 3), states(7, 4)
    ours, theirs = torch.tensor([[0, 0, 1, 1, 1], [0, 1, 1, 1, 2]]), torch.tensor([[0, 1, 1, 1, 1, 1, 1]] * 2)
    theirs[1, 3:] = 2
    found = attention(hidden, TokenInfo(segments=ours), OtherStates(states=other, tokens=TokenInfo(segments=theirs)))
    wanted = by_hand(attention, hidden, other, ours[:, :, None] == theirs[:, None])
    same(found, wanted, [hidden, other, *attention.key.parameters(), *attention.query_norm.parameters()])  # type: ignore


@pytest.mark.parametrize("side", ["ours", "theirs"])
def test_documents_of_one_side_alone_are_refused(side: str) -> None:
    packed = TokenInfo(segments=torch.zeros(2, 5, dtype=torch.long))
    ours, theirs = (packed, TokenInfo()) if side == "ours" else (TokenInfo(), packed)
    said = "the stack's own tokens" if side == "ours" else "the other states"
    with pytest.raises(InputError, match=f"segments were given for {said} alone; give those of both sides"):
        made()(states(5, 1), ours, OtherStates(states=states(5, 2), tokens=theirs))


def test_kept_keys_are_made_once_and_follow_their_rows() -> None:
    attention, other = made().eval(), OtherStates(states=states(7, 2), tokens=TokenInfo(key_mask=REAL))
    memory, calls = CrossMemory(), []
    attention.key.register_forward_hook(lambda *_: calls.append(1))
    assert (memory.filled, memory.bytes) == (False, 0)
    hidden = states(3, 1)
    wanted = attention(hidden, TokenInfo(), other)
    torch.testing.assert_close(attention(hidden, TokenInfo(), other, memory=memory), wanted, rtol=1e-12, atol=1e-13)
    assert (memory.filled, memory.bytes) == (True, 2 * 2 * 7 * HEADS * SIZE * 8)
    memory.select(torch.tensor([1, 1, 0]))
    rows = attention(hidden[[1, 1, 0]], TokenInfo(), None, memory=memory)
    torch.testing.assert_close(rows, wanted[[1, 1, 0]], rtol=1e-12, atol=1e-13)
    assert len(calls) == 2  # without a memory, and to fill it


@pytest.mark.parametrize("key_heads", [2, 4])
@pytest.mark.parametrize("length", [1, 3])
def test_what_is_kept_of_padding_reaches_no_row(length: int, key_heads: int) -> None:
    attention, hidden, real = made(key_heads=key_heads).eval(), states(length, 1), REAL.clone()
    dirty = states(7, 2).detach().masked_fill(~real[..., None], torch.nan)
    memory, other = CrossMemory(), OtherStates(states=dirty, tokens=TokenInfo(key_mask=real))
    kept = attention(hidden, TokenInfo(), other, memory=memory)
    allowed = real[:, None].expand(2, length, 7)
    torch.testing.assert_close(kept, by_hand(attention, hidden, dirty.nan_to_num(3.0), allowed), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("length", [1, 3])
def test_a_row_without_any_other_token_reads_nothing(length: int) -> None:
    attention, hidden = made().eval(), states(length, 1)
    real = REAL & torch.tensor([[True], [False]])
    memory, other = CrossMemory(), OtherStates(states=states(7, 2), tokens=TokenInfo(key_mask=real))
    nothing = attention.output(torch.zeros(length, HIDDEN, dtype=torch.float64))
    torch.testing.assert_close(attention(hidden, TokenInfo(), other, memory=memory)[1], nothing)
    memory.select(torch.tensor([1, 0]))
    torch.testing.assert_close(attention(hidden[[1, 0]], TokenInfo(), None, memory=memory)[0], nothing)
    memory.select(torch.tensor([1]))
    assert not attention(hidden[:1], TokenInfo(), None, memory=memory).isnan().any()


def test_dropout_is_that_of_training() -> None:
    attention, hidden, other = made(), states(5, 1), OtherStates(states=states(7, 2))
    still = attention(hidden, TokenInfo(), other)
    assert not torch.equal(attention(hidden, TokenInfo(), other, 0.5), still)
    attention.eval()
    torch.testing.assert_close(attention(hidden, TokenInfo(), other, 0.5), still)
