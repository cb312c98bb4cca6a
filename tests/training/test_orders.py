"""Orders of rows: every row once an epoch, batches within a budget, a function of seed and step alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossamer.errors import InputError
from gossamer.training.data.orders import Grouped, Order, Shuffled

LENGTHS = st.lists(st.integers(1, 300), min_size=1, max_size=60)


def order_of(lengths: list[int], tokens: int | None, seed: int) -> Order:
    if tokens is None:
        return Shuffled(count=len(lengths), batch=3, seed=seed)
    return Grouped(lengths=np.array(lengths), tokens=tokens, seed=seed)


@given(lengths=LENGTHS, tokens=st.integers(300, 900), seed=st.integers(0, 9), epoch=st.integers(0, 4))
def test_an_epoch_reads_every_row_once_within_the_budget(
    lengths: list[int], tokens: int, seed: int, epoch: int
) -> None:
    order = order_of(lengths, tokens, seed)
    steps = int(order.steps_per_epoch)
    batches = [order.rows(epoch * steps + i) for i in range(steps)]
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    for rows in batches:
        longest = max(lengths[i] for i in rows)
        assert len(rows) * longest <= tokens
        # Those of a batch are of about one length, but where the budget is as wide as the lengths differ.
        assert len(rows) >= 1


@given(lengths=LENGTHS, tokens=st.none() | st.integers(300, 900), seed=st.integers(0, 9), steps=st.integers(0, 30))
def test_it_depends_on_seed_and_step_alone(lengths: list[int], tokens: int | None, seed: int, steps: int) -> None:
    forward, backward = order_of(lengths, tokens, seed), order_of(lengths, tokens, seed)
    ahead = [forward.rows(i).tolist() for i in range(steps)]
    behind = [backward.rows(i).tolist() for i in reversed(range(steps))]
    assert ahead == behind[::-1]
    sizes = np.array(lengths)
    assert backward.total_before(steps, sizes) == sum(lengths[i] for rows in ahead for i in rows)


def test_lengths_stay_together_and_the_rest_changes() -> None:
    lengths = np.random.default_rng(0).integers(1, 513, 4000)
    one, other = (Grouped(lengths=lengths, tokens=8192, seed=seed) for seed in (0, 1))
    steps = int(one.steps_per_epoch)
    first, second = ([one.rows(i) for i in range(epoch * steps, (epoch + 1) * steps)] for epoch in (0, 1))
    padded = sum(len(rows) * lengths[rows].max() for rows in first)
    assert padded < 1.1 * lengths.sum()
    assert {tuple(sorted(rows)) for rows in first} != {tuple(sorted(rows)) for rows in second}
    assert [len(rows) for rows in first] != [len(rows) for rows in second]
    assert sorted(len(rows) for rows in first) == sorted(len(rows) for rows in second)
    assert one.rows(0).tolist() != other.rows(0).tolist()
    # A budget's worth is read in all but the last batch of each length.
    assert padded > 0.8 * 8192 * steps


def test_a_row_beyond_the_budget_is_refused() -> None:
    with pytest.raises(InputError, match=r"batch\.tokens is 99, but the longest row has 100 tokens; give at least"):
        Grouped(lengths=np.array([5, 100]), tokens=99, seed=0)
