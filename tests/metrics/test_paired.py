"""Paired differences against scipy's paired t, clustered by hand, and what is refused."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from gossamer.errors import InputError
from gossamer.metrics import estimate_mean, paired_difference
from gossamer.metrics.paired import t_quantile


@given(probability=st.floats(0.5, 0.9999), freedom=st.integers(1, 10**5))
def test_the_quantiles_of_t_are_those_of_scipy(probability: float, freedom: int) -> None:
    assert t_quantile(probability, freedom) == pytest.approx(stats.t.ppf(probability, freedom), rel=1e-7, abs=1e-9)


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 199, 200, 201, 202])
def test_the_quantiles_at_the_seams(freedom: int) -> None:
    for probability in (0.5, 0.6, 0.975, 0.99999):
        assert t_quantile(probability, freedom) == pytest.approx(stats.t.ppf(probability, freedom), rel=1e-7, abs=1e-9)


@given(seed=st.integers(0, 2**20), n=st.integers(2, 300), level=st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_pairs_are_compared_as_scipy_compares_them(seed: int, n: int, level: float) -> None:
    a, b = torch.randn(2, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    interval = stats.ttest_rel(a.numpy(), b.numpy()).confidence_interval(level)
    difference = paired_difference(a, b.tolist(), level=level)
    assert difference is not None
    assert (difference.low, difference.high) == pytest.approx((interval.low, interval.high))
    assert difference.value == pytest.approx(float((a - b).mean()))
    assert (difference.count, difference.groups) == (n, n)


def test_groups_count_as_one_each() -> None:
    """Every pair three times over is no more evidence."""
    a, b = torch.tensor([1.0, 2, 4, 3]), torch.tensor([0.5, 2, 3, 1])
    alone = paired_difference(a, b)
    thrice = paired_difference(a.repeat(3), b.repeat(3), groups=list("abcd") * 3)
    assert alone is not None
    assert thrice is not None
    assert (thrice.low, thrice.high) == pytest.approx((alone.low, alone.high))
    assert thrice.standard_error == pytest.approx(estimate_mean(a - b).standard_error)
    assert (thrice.count, thrice.groups) == (12, 4)
    assert str(alone) == f"+0.8750 (95% interval {alone.low:+.4f} to {alone.high:+.4f})"


def test_one_pair_or_one_group_has_no_interval() -> None:
    assert paired_difference([1.0], [2.0]) is None
    assert paired_difference([1.0, 2], [2.0, 5], groups=["a", "a"]) is None


@pytest.mark.parametrize(
    ("a", "b", "settings", "message"),
    [
        ([], [], {}, r"a has shape \[0\]"),
        ([1.0, 2], [1.0], {}, "2 values against 1; a difference is of pairs"),
        ([1.0, math.inf], [1.0, 2], {}, "a has 1 NaN or infinite entries"),
        ([1.0, 2], [1.0, 2], {"groups": ["a"]}, "1 group labels for 2 observations"),
        ([1.0, 2], [1.0, 2], {"level": 95}, "level is 95; it must be between 0 and 1"),
    ],
)
def test_what_cannot_be_compared_is_refused(a: Any, b: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        paired_difference(a, b, **settings)
