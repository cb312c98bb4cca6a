"""What other libraries' words mean here: their windows, their packed documents, their alignment."""

import pytest
import torch
from kernel_cases import random_call
from transformers import LongformerConfig, LongformerModel, masking_utils

import gossamer as gs
from gossamer.kernels import segments_from_cu_seqlens
from gossamer.patterns import Pattern

LENGTH = 13
Q, K = torch.arange(LENGTH)[:, None], torch.arange(LENGTH)


@pytest.mark.parametrize("w", [1, 2, 3, 5])
def test_the_windows_of_docs_attention(w: int) -> None:
    def same(pattern: Pattern, mask: torch.Tensor) -> None:
        assert torch.equal(pattern.mask(LENGTH), mask.expand(LENGTH, LENGTH)), pattern

    causal = masking_utils.sliding_window_causal_mask_function(w)
    both_sides = masking_utils.sliding_window_bidirectional_mask_function(w)
    same(gs.Window(w - 1, 0), causal(0, 0, Q, K))
    same(gs.Window(w, w), both_sides(0, 0, Q, K))
    left, right = w, w - 1  # flash-attention, window_size=(left, right): i - left <= j <= i + right
    same(gs.Window(left, right), (Q - left <= K) & (Q + right >= K))
    # xformers, LowerTriangularMask.make_local_attention(w), OpenAI's "local" with w and NATTEN's causal kernel of w:
    # the last w keys, itself among them.
    same(gs.Window(w - 1, 0), (K <= Q) & (w > Q - K))
    same(gs.Window(w - 1, 0, 2), (K <= Q) & (2 * w > Q - K) & ((Q - K) % 2 == 0))


@pytest.mark.parametrize("w", [4, 6])
def test_a_longformer_window_is_half_of_it_to_either_side(w: int) -> None:
    """Which tokens' states move when one token changes, in a layer of `transformers` itself."""
    torch.manual_seed(0)
    config = LongformerConfig(
        vocab_size=30, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
        attention_window=w, max_position_embeddings=40, pad_token_id=1,
    )  # fmt: skip
    model = LongformerModel(config).eval()
    ids = torch.randint(3, 30, (1, 16))
    with torch.no_grad():
        before = model(ids).last_hidden_state[0]
        for j in range(16):
            other = ids.clone()
            other[0, j] = (other[0, j] - 2) % 27 + 3
            moved = (model(other).last_hidden_state[0] - before).abs().max(-1).values > 1e-6
            assert torch.equal(moved, gs.Window(w // 2, w // 2).mask(16)[:, j]), j


def test_cu_seqlens_are_documents_read_one_by_one() -> None:
    ends = [0, 5, 5, 6, 17]
    for given in (ends, torch.tensor(ends, dtype=torch.int32)):
        segments = segments_from_cu_seqlens(given)
        assert segments.tolist() == [[0] * 5 + [2] + [3] * 11]
    call = random_call(gs.Window(3, 2), 17, batch=1)
    packed = gs.attend(call.q, call.k, call.v, call.pattern, segments=segments)
    for start, stop in ((0, 5), (5, 6), (6, 17)):
        alone = gs.attend(*(x[:, :, start:stop] for x in (call.q, call.k, call.v)), call.pattern, backend="reference")
        torch.testing.assert_close(packed[:, :, start:stop], alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize("given", [[1, 2], [0, 3, 2], [0], [], [0.0, 1.0], [[0, 1]], ["a", "b"], torch.zeros(2), None])
def test_other_numbers_are_refused(given: object) -> None:
    with pytest.raises(gs.InputError, match="cu_seqlens is "):
        segments_from_cu_seqlens(given)  # type: ignore[arg-type]
