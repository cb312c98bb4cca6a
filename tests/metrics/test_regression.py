"""Ridge against the normal equations, and that nothing of a held-out group leaks into its prediction."""

import math

import pytest
import torch

from gossamer.errors import InputError
from gossamer.metrics import ridge_cross_validated
from gossamer.metrics.regression import ridge_predictions


def data(n: int = 120, d: int = 8, groups: int = 30, noise: float = 0.5, seed: int = 0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=g, dtype=torch.float64)
    y = x @ torch.arange(1.0, d + 1, dtype=torch.float64) + noise * torch.randn(n, generator=g, dtype=torch.float64)
    return x * 3 + 7, y + 1900, torch.randint(groups, (n,), generator=g)


def normal_equations(x, y, new, alpha):
    centre, scale = x.mean(dim=0), x.std(dim=0, correction=0)
    z = (x - centre) / scale
    w = torch.linalg.solve(z.T @ z + alpha * torch.eye(x.shape[1], dtype=x.dtype), z.T @ (y - y.mean()))
    return (new - centre) / scale @ w + y.mean()


@pytest.mark.parametrize(("n", "d"), [(50, 8), (20, 64), (8, 8)])
def test_predictions_solve_the_normal_equations(n: int, d: int):
    x, y, _ = data(n=n + 10, d=d)
    alphas = (1e-3, 1.0, 1e3)
    got = ridge_predictions(x[:n], y[:n], x[n:], alphas)
    wanted = torch.stack([normal_equations(x[:n], y[:n], x[n:], alpha) for alpha in alphas])
    torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-9)


def test_out_of_fold_predictions_are_those_of_the_other_folds():
    x, y, groups = data()
    result = ridge_cross_validated(x, y, groups, folds=4, seed=3)
    baseline = torch.empty_like(y)
    for k, alpha in enumerate(result.alphas):
        test = result.folds == k
        wanted = normal_equations(x[~test], y[~test], x[test], alpha)
        torch.testing.assert_close(result.predictions[test], wanted, rtol=1e-9, atol=1e-9)
        baseline[test] = y[~test].mean()
    squares = (y - result.predictions).square().sum() / (y - baseline).square().sum()
    assert result.r2 == pytest.approx(1 - float(squares))
    assert result.mean_absolute_error.value == pytest.approx(float((y - result.predictions).abs().mean()))
    assert result.chance_mean_absolute_error.value == pytest.approx(float((y - baseline).abs().mean()))
    assert result.r2 > 0.95
    assert result.spearman > 0.95


def test_groups_stay_whole_and_every_fold_has_its_share():
    x, y, groups = data(n=200, groups=40)
    folds = ridge_cross_validated(x, y, groups, folds=5).folds
    assert all(len(folds[groups == g].unique()) == 1 for g in groups.unique())
    assert torch.bincount(folds).tolist() == pytest.approx([40] * 5, abs=6)


@pytest.mark.parametrize("what", ["features", "target"])
def test_a_held_out_group_cannot_leak(what: str):
    x, y, groups = data()
    before = ridge_cross_validated(x, y, groups, seed=1)
    hidden = before.folds == 2
    if what == "target":
        changed = ridge_cross_validated(x, torch.where(hidden, y * -50, y), groups, seed=1)
        assert torch.equal(before.predictions[hidden], changed.predictions[hidden])
    else:
        changed = ridge_cross_validated(torch.where(hidden[:, None], x * 1e6, x), y, groups, seed=1)
        assert not torch.equal(before.predictions[hidden], changed.predictions[hidden])
    assert torch.equal(before.folds, changed.folds)
    assert before.alphas[2] == changed.alphas[2]
    assert not torch.equal(before.predictions[~hidden], changed.predictions[~hidden])


def test_recognising_the_group_earns_nothing():
    g = torch.Generator().manual_seed(0)
    groups = torch.arange(40).repeat_interleave(5)
    x = torch.randn(40, 60, generator=g)[groups] + 0.01 * torch.randn(200, 60, generator=g)
    y = torch.randn(40, generator=g)[groups]
    assert ridge_cross_validated(x, y, groups).r2 < 0.1
    assert ridge_cross_validated(x, y, torch.arange(200)).r2 > 0.9


def test_noise_asks_for_a_strong_penalty_and_signal_for_a_weak_one():
    x, y, groups = data(noise=0.01)
    assert max(ridge_cross_validated(x, y, groups).alphas) < 1
    noise = torch.randn(120, generator=torch.Generator().manual_seed(5))
    result = ridge_cross_validated(x, noise, groups)
    assert min(result.alphas) > 10
    assert abs(result.r2) < 0.15


def test_it_repeats_and_the_order_of_alphas_does_not_matter():
    x, y, groups = data()
    a, b = ridge_cross_validated(x, y, groups, seed=4), ridge_cross_validated(x, y, groups.tolist(), seed=4)
    assert torch.equal(a.predictions, b.predictions)
    assert not torch.equal(a.folds, ridge_cross_validated(x, y, groups, seed=5).folds)
    forth, back = (ridge_cross_validated(x, y, groups, alphas=alphas) for alphas in ((0.1, 1, 10), (10, 1, 0.1)))
    assert torch.equal(forth.predictions, back.predictions)


def test_constant_features_and_the_unit_of_the_target_change_nothing():
    x, y, groups = data()
    plain = ridge_cross_validated(x, y, groups)
    padded = ridge_cross_validated(torch.cat([x, torch.full((120, 1), 0.1)], dim=1), y, groups)
    torch.testing.assert_close(plain.predictions, padded.predictions)
    months = ridge_cross_validated(x.float(), y * 12, groups)
    assert months.mean_absolute_error.value == pytest.approx(12 * plain.mean_absolute_error.value, rel=1e-4)
    assert months.r2 == pytest.approx(plain.r2, rel=1e-4)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"features": torch.ones(120)}, r"features have shape \[120\]"),
        ({"target": torch.ones(3)}, r"target \[3\]"),
        ({"target": torch.ones(120)}, "120 values that do not differ"),
        ({"target": torch.full((120,), math.nan)}, "target has 120 NaN"),
        ({"features": torch.full((120, 2), math.inf)}, "features has 240 NaN or infinite"),
        ({"groups": [1, 2]}, "2 group labels for 120"),
        ({"groups": [1] * 120}, "1 groups cannot make 5 folds"),
        ({"groups": [1, 2] * 60, "folds": 2}, "a single group to train and choose alpha on"),
        ({"folds": 1}, "cannot make 1 folds"),
        ({"alphas": ()}, r"alphas are \(\)"),
        ({"alphas": (1.0, 0.0)}, "give one or more positive numbers"),
        ({"alphas": (math.nan,)}, "give one or more positive numbers"),
    ],
)
def test_wrong_arguments(change, match):
    x, y, groups = data()
    with pytest.raises(InputError, match=match):
        ridge_cross_validated(**{"features": x, "target": y, "groups": groups, **change})
