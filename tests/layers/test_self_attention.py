"""The attention layer against the same sums written out row by row."""

import pytest
import torch
from torch import Tensor

from gossamer.layers import SelfAttention, TokenInfo, count_positions
from gossamer.patterns import Full, Global, Pattern, PerHead, Window

HEADS, SIZE = 2, 4


def layer(global_projections: bool) -> SelfAttention:
    torch.manual_seed(0)
    return SelfAttention(6, HEADS, SIZE, norm=torch.nn.LayerNorm(6), global_projections=global_projections).double()


def by_hand(attention: SelfAttention, hidden: Tensor, pattern: Pattern, masks: TokenInfo) -> Tensor:
    """One query at a time: a flagged one reads every real token of its document with the global projections."""
    rows, length, _ = hidden.shape
    flagged = torch.zeros(rows, length, dtype=torch.bool) if masks.global_mask is None else masks.global_mask
    allowed = pattern.mask(length, flags=flagged)
    allowed = allowed[:, None].expand(-1, HEADS, -1, -1) if allowed.dim() == 3 else allowed.expand(rows, HEADS, -1, -1)
    out = torch.zeros(rows, length, HEADS * SIZE, dtype=hidden.dtype)
    for row in range(rows):
        for i in range(length):
            is_padding = masks.key_mask is not None and not masks.key_mask[row, i]
            if attention.global_projections and is_padding:
                continue  # as in transformers' Longformer, padding reads nothing
            is_global = attention.global_projections and bool(flagged[row, i])
            suffix = "_global" if is_global else ""
            q, k, v = (getattr(attention, name + suffix)(hidden[row]) for name in ("query", "key", "value"))
            for head in range(HEADS):
                part = slice(head * SIZE, (head + 1) * SIZE)
                seen = torch.ones(length, dtype=torch.bool) if is_global else allowed[row, head, i].clone()
                if masks.key_mask is not None:
                    seen &= masks.key_mask[row]
                if masks.segments is not None:
                    seen &= masks.segments[row] == masks.segments[row, i]
                if seen.any():
                    weights = (k[seen][:, part] @ q[i, part] / SIZE**0.5).softmax(0)
                    out[row, i, part] = weights @ v[seen][:, part]
    return attention.output(out)


MASKS = {
    "nothing": TokenInfo(),
    "padding": TokenInfo(key_mask=torch.arange(9) < torch.tensor([[9], [5]])),
    "documents": TokenInfo(segments=torch.tensor([[0, 0, 0, 0, 1, 1, 1, 2, 2], [0, 1, 1, 1, 1, 1, 1, 1, 1]])),
    "globals": TokenInfo(global_mask=torch.tensor([[1, 0, 0, 0, 1, 0, 0, 0, 1], [0, 1, 0, 0, 0, 0, 0, 0, 0]]).bool()),
}
MASKS["all"] = TokenInfo(
    key_mask=MASKS["padding"].key_mask,
    segments=MASKS["documents"].segments,
    global_mask=MASKS["globals"].global_mask & MASKS["padding"].key_mask,  # type: ignore[operator]
)
PATTERNS = [Full(), Window(2, 1) | Global(), PerHead((Full(), 1), (Window(1, 1, dilation=2), 1))]


@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
@pytest.mark.parametrize("masks", MASKS.values(), ids=MASKS.keys())
@pytest.mark.parametrize("global_projections", [False, True])
def test_layer_is_its_definition(pattern: Pattern, masks: TokenInfo, global_projections: bool) -> None:
    attention, hidden = layer(global_projections), torch.randn(2, 9, 6, dtype=torch.float64, requires_grad=True)
    out, expected = attention(hidden, pattern, masks), by_hand(attention, hidden, pattern, masks)
    torch.testing.assert_close(out, expected)
    direction = torch.randn_like(out)
    (slope,) = torch.autograd.grad((out * direction).sum(), hidden)
    (reference,) = torch.autograd.grad((expected * direction).sum(), hidden)
    torch.testing.assert_close(slope, reference)


@pytest.mark.parametrize("masks", [MASKS["globals"], MASKS["all"]], ids=["globals", "all"])
def test_traced_form_of_global_rows_is_the_same(masks: TokenInfo, monkeypatch: pytest.MonkeyPatch) -> None:
    attention, hidden = layer(True), torch.randn(2, 9, 6, dtype=torch.float64)
    expected = attention(hidden, PATTERNS[1], masks)
    monkeypatch.setattr(SelfAttention, "_read_globals", SelfAttention._read_globals_compiled)
    torch.testing.assert_close(attention(hidden, PATTERNS[1], masks), expected)


def test_dropout_is_applied_in_training_only() -> None:
    attention, hidden = layer(False), torch.randn(1, 9, 6, dtype=torch.float64)
    still = attention(hidden, Full(), TokenInfo(), 0.0)
    assert not torch.equal(attention(hidden, Full(), TokenInfo(), 0.5), still)
    attention.eval()
    torch.testing.assert_close(attention(hidden, Full(), TokenInfo(), 0.5), still)


def test_positions_count_real_tokens_from_each_documents_start() -> None:
    counted = torch.tensor([[1, 1, 0, 1, 1, 1, 0, 1]]).bool()
    assert count_positions(counted, None).tolist() == [[1, 2, 0, 3, 4, 5, 0, 6]]
    segments = torch.tensor([[4, 4, 4, 4, 0, 0, 0, 9]])
    assert count_positions(counted, segments).tolist() == [[1, 2, 0, 3, 1, 2, 0, 1]]
