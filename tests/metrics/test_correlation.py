"""Pearson and Spearman against scipy; by hand; what cannot be computed."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from gossamer.errors import InputError
from gossamer.metrics import pearson, spearman

PAIRS = st.lists(st.tuples(st.integers(-50, 50), st.integers(-50, 50)), min_size=1, max_size=40)


@given(pairs=PAIRS, scale=st.sampled_from([1.0, 1e-150, 1e150, 1 / 3]))
def test_correlations_are_those_of_scipy(pairs: list[tuple[int, int]], scale: float) -> None:
    a, b = [x * scale for x, _ in pairs], [y for _, y in pairs]
    if len(set(a)) == 1 or len(set(b)) == 1:
        assert pearson(a, b) is None
        assert spearman(a, b) is None
        return
    # scipy's own squares overflow at the largest scale: it is given what the scale leaves the same.
    assert pearson(a, b) == pytest.approx(stats.pearsonr([x for x, _ in pairs], b).statistic, abs=1e-9)
    assert spearman(torch.tensor(a, dtype=torch.float64), np.array(b)) == pytest.approx(
        stats.spearmanr(a, b).statistic, abs=1e-9
    )


def test_by_hand() -> None:
    up = torch.arange(5.0)
    assert spearman(up, up.exp()) == pytest.approx(1)
    assert spearman(up, -up) == pytest.approx(-1)
    assert pearson(up, 3 - up * 2) == pytest.approx(-1)
    # ranks 1 2.5 2.5 4 against 1 3 2 4: 4.5 / sqrt(4.5 * 5)
    assert spearman(torch.tensor([0, 7, 7, 9.0]), torch.tensor([1, 3, 2, 4.0])) == pytest.approx(4.5 / math.sqrt(22.5))


def test_a_constant_is_told_from_rounding_noise() -> None:
    """A mean of equal numbers may differ from them in the last bit, and noise would correlate."""
    assert pearson([0.1] * 3, [1.0, 2.0, 3.0]) is None
    assert spearman([1.0, 2.0, 3.0], [0.7] * 3) is None


@pytest.mark.parametrize("call", [pearson, spearman])
@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ([], [], r"a has shape \[0\]; give a vector of at least one"),
        ([1.0], [1.0, 2.0], "1 values against 2; give pairs"),
        ([1.0, math.nan], [1.0, 2.0], "a has 1 NaN or infinite entries"),
        ([1.0, 2.0], [[1.0, 2.0]], r"b has shape \[1, 2\]"),
        (["x"], [1.0], r"a is \['x'\]; it must be a vector of numbers"),
    ],
)
def test_what_has_no_correlation_is_refused(call: Any, a: Any, b: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call(a, b)
