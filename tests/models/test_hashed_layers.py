"""Hashed patterns in models: rotations while learning and reading, generation with a cache, feed-forwards in chunks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import gossamer as gs
from gossamer.inspection import capture
from gossamer.kernels import attention_rows
from gossamer.models import Cache, Model
from gossamer.models.decoders import decoder

IDS = torch.randint(0, 50, (2, 24), generator=torch.Generator().manual_seed(0))


def model_of(pattern: gs.Hashed, chunk: int | None = None) -> Model:
    torch.manual_seed(0)
    made = decoder(
        vocabulary_size=50, length=32, layers=2, hidden_size=16, heads=2, patterns=pattern, feed_forward_chunk=chunk,
        initializer="mimetic",
    )  # fmt: skip
    return Model(made)


def test_a_learner_draws_new_rotations_and_a_reader_has_the_same() -> None:
    model = model_of(gs.Hashed(rounds=1, buckets=8, chunk=4))
    assert not torch.equal(model(IDS).logits, model(IDS).logits)
    model.eval()
    assert torch.equal(model(IDS).logits, model(IDS).logits)


@pytest.mark.parametrize("sizes", [[24], [10, 14], [9] + [1] * 15])
def test_a_cache_of_whole_buckets_reads_what_the_model_reads(sizes: list[int]) -> None:
    model = model_of(gs.Hashed(rounds=2, buckets=4, chunk=None)).eval()
    cache = Cache(model.architecture)
    with torch.no_grad():
        parts = [model(part, cache=cache).logits for part in IDS.split(sizes, dim=1)]
        torch.testing.assert_close(torch.cat(parts, 1), model(IDS).logits)


def test_rows_of_several_lengths_in_a_cache() -> None:
    model = model_of(gs.Hashed(rounds=2, buckets=4, chunk=None)).eval()
    mask = torch.ones_like(IDS)
    mask[0, 15:] = 0
    cache = Cache(model.architecture)
    with torch.no_grad():
        model(IDS, attention_mask=mask, cache=cache)
        found = model(torch.tensor([[7], [8]]), cache=cache).logits[:, 0]
        for row, length in ((0, 15), (1, 24)):
            text = torch.cat([IDS[row, :length], torch.tensor([7 + row])])[None]
            torch.testing.assert_close(found[row], model(text).logits[0, -1])


def test_in_chunks_a_new_token_sees_what_it_would_among_all() -> None:
    """Of one layer: in deeper ones the earlier tokens lay in other chunks when they were read."""
    torch.manual_seed(0)
    made = decoder(
        vocabulary_size=50, length=32, layers=1, hidden_size=16, heads=2, patterns=gs.Hashed(2, 4, 4),
    )  # fmt: skip
    model = Model(made).eval()
    cache = Cache(model.architecture)
    with torch.no_grad():
        model(IDS[:, :23], cache=cache)
        torch.testing.assert_close(model(IDS[:, 23:], cache=cache).logits, model(IDS).logits[:, -1:])


def test_greedy_tokens_are_those_without_a_cache() -> None:
    model = model_of(gs.Hashed(rounds=2, buckets=4, chunk=None)).eval()
    found, wanted = (
        gs.generate(model, IDS[:, :5], max_new_tokens=6, temperature=0, use_cache=cached).ids
        for cached in (True, False)
    )
    assert found == wanted


@pytest.mark.parametrize("chunk", [1, 5, 24, 100])
def test_feed_forwards_in_chunks_change_nothing(chunk: int) -> None:
    whole, parts = model_of(gs.Hashed(2, 4, 4, seed=1)), model_of(gs.Hashed(2, 4, 4, seed=1), chunk)

    def read(model: Model) -> tuple[Tensor, list[Tensor]]:
        loss = model(IDS, labels=IDS).loss
        return loss, list(torch.autograd.grad(loss, list(model.parameters())))

    (loss, gradients), (wanted, of_whole) = read(parts), read(whole)
    torch.testing.assert_close(loss, wanted)
    for one, other in zip(gradients, of_whole, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_weights_are_not_shown() -> None:
    q = torch.zeros(1, 2, 8, 4)
    with pytest.raises(gs.InputError, match="are not shown yet"):
        attention_rows(q, q, gs.Hashed(), [0])
    model = model_of(gs.Hashed(2, 4, 4)).eval()
    with pytest.raises(gs.InputError, match="are not shown yet"), capture(model):
        model(IDS)
