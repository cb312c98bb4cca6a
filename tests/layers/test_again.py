"""A second pass draws what the first one drew, and states of generators lie in few blocks."""

import torch

from gossamer.layers.again import STATES_IN_BLOCK, Moments

CPU = torch.device("cpu")


def test_every_moment_draws_again_what_it_drew() -> None:
    torch.manual_seed(3)
    moments, drawn = Moments(), []
    for _ in range(2 * STATES_IN_BLOCK + 1):
        then = moments.now(CPU)
        drawn.append((then, torch.rand(3)))
    afterwards = torch.get_rng_state()
    for then, numbers in reversed(drawn):
        with then.again():
            assert torch.equal(torch.rand(3), numbers)
    assert torch.equal(torch.get_rng_state(), afterwards)
    assert len({then.cpu.untyped_storage().data_ptr() for then, _ in drawn}) == 3


def test_moments_between_which_nothing_is_drawn_are_one() -> None:
    moments = Moments()
    first = moments.now(CPU)
    assert moments.now(CPU) is first
    with torch.autocast("cpu", torch.bfloat16):
        assert moments.now(CPU) is not first
    torch.rand(1)
    assert not moments.now(CPU).is_like(first)
