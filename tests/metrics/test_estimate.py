"""Means and their standard errors, with and without groups."""

import math

import pytest
import torch

from gossamer.errors import InputError
from gossamer.metrics import Estimate, estimate_mean


def test_without_groups_it_is_the_textbook_standard_error():
    x = torch.randn(50, generator=torch.Generator().manual_seed(0))
    got = estimate_mean(x)
    assert got.value == pytest.approx(float(x.double().mean()), rel=1e-12)
    assert got.standard_error == pytest.approx(float(x.double().std()) / math.sqrt(50), rel=1e-12)
    assert got.count == 50


def test_by_hand_with_groups_of_unequal_size():
    got = estimate_mean(torch.tensor([1.0, 2.0, 3.0, 6.0]), ["b", "a", "b", "b"])
    # residuals -2 -1 0 3: sums 1 (b) and -1 (a); 2 / 1 * (1 + 1) / 16
    assert (got.value, got.standard_error) == (3.0, 0.5)


def test_copies_of_an_observation_tell_nothing_new():
    x = torch.randn(40, generator=torch.Generator().manual_seed(1))
    copied = estimate_mean(x.repeat_interleave(5), torch.arange(40).repeat_interleave(5))
    assert copied.standard_error == pytest.approx(estimate_mean(x).standard_error, rel=1e-12)
    assert estimate_mean(x.repeat_interleave(5)).standard_error < copied.standard_error / 2


def test_it_covers_the_spread_of_clustered_means():
    g = torch.Generator().manual_seed(2)
    draws = torch.randn(400, 60, 1, generator=g) + 0.5 * torch.randn(400, 60, 4, generator=g)
    groups = torch.arange(60).repeat_interleave(4)
    errors = [estimate_mean(draw.flatten(), groups).standard_error for draw in draws]
    assert sum(errors) / 400 == pytest.approx(float(draws.mean(dim=(1, 2)).std()), rel=0.1)


def test_labels_are_names_not_positions():
    x = torch.tensor([1.0, 4.0, 2.0, 8.0])
    as_words, as_numbers = estimate_mean(x, ["x", "y", "x", "z"]), estimate_mean(x, torch.tensor([9, -5, 9, 0]))
    assert as_words == as_numbers


def test_one_group_leaves_the_error_unknown():
    got = estimate_mean(torch.tensor([1.0, 2.0]), ["a", "a"])
    assert got.value == 1.5
    assert math.isnan(got.standard_error)
    assert str(Estimate(0.5, 0.0123, 4)) == "0.500 ± 0.012"


@pytest.mark.parametrize(
    ("values", "groups", "match"),
    [
        (torch.tensor([]), None, r"shape \[0\]"),
        (torch.ones(2, 2), None, r"shape \[2, 2\]"),
        (torch.tensor([1.0, math.nan, math.inf]), None, r"2 NaN or infinite entries, the first at \[1\]"),
        (torch.ones(3), ["a"], "1 group labels for 3 observations"),
    ],
)
def test_wrong_values(values, groups, match):
    with pytest.raises(InputError, match=match):
        estimate_mean(values, groups)
