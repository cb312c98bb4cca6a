"""How much of a number can be read off an embedding: ridge regression, judged only on groups it has never seen."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gossamer.errors import InputError
from gossamer.metrics.correlation import spearman
from gossamer.metrics.estimate import Estimate, Groups, estimate_mean, number_groups, refuse_not_finite

__all__ = ["ALPHAS", "RidgeResult", "ridge_cross_validated", "ridge_predictions"]

ALPHAS = tuple(10.0 ** (e / 2) for e in range(-4, 11))


@dataclass(frozen=True, kw_only=True, eq=False)
class RidgeResult:
    """Out-of-fold predictions and what they are worth; errors are in the target's unit."""

    predictions: Tensor  # float64 [n]
    folds: Tensor  # int64 [n]: the fold in which each observation was held out
    alphas: tuple[float, ...]  # the strength chosen in each fold
    r2: float  # against predicting the mean of the training part
    mean_absolute_error: Estimate
    chance_mean_absolute_error: Estimate  # of predicting the mean of the training part
    spearman: float | None  # None where all predictions are equal


def ridge_cross_validated(
    features: Tensor,
    target: Tensor,
    groups: Groups,
    alphas: Sequence[float] = ALPHAS,
    folds: int = 5,
    seed: int = 0,
) -> RidgeResult:
    """Predict `target` [n] from `features` [n, d] by ridge regression, each group wholly held out once.

    groups: n labels. Minimises ||y - Xw||^2 + alpha ||w||^2 in float64, features standardised and target centred on
    the training part alone; alpha is chosen inside the training part by the squared error of a second grouped
    cross-validation. Standard errors are clustered over groups. Source: Hoerl and Kennard 1970. Raises InputError for
    shapes that do not fit, NaN or infinities, a constant target, alphas that are not positive, and too few groups.
    """
    x, y, labels = _check(features, target, groups, alphas)
    fold = _assign_folds(labels, folds, torch.Generator().manual_seed(seed))
    predictions, baseline, chosen = torch.empty_like(y), torch.empty_like(y), []
    for k in range(folds):
        train, test = fold != k, fold == k
        alpha = _choose(x[train], y[train], labels[train], alphas, folds, seed + 1 + k)
        predictions[test] = ridge_predictions(x[train], y[train], x[test], (alpha,))[0]
        baseline[test] = y[train].mean()
        chosen.append(alpha)
    r2 = 1 - float((y - predictions).square().sum() / (y - baseline).square().sum())
    return RidgeResult(
        predictions=predictions,
        folds=fold,
        alphas=tuple(chosen),
        r2=r2,
        mean_absolute_error=estimate_mean((y - predictions).abs(), labels),
        chance_mean_absolute_error=estimate_mean((y - baseline).abs(), labels),
        spearman=spearman(predictions, y),
    )


def ridge_predictions(x: Tensor, y: Tensor, new: Tensor, alphas: Sequence[float]) -> Tensor:
    """Ridge fitted on float64 `x` [n, d], `y` [n], applied to `new` [m, d], for every alpha: [alphas, m].

    One singular value decomposition serves all alphas: w = V diag(s / (s^2 + alpha)) U'y on standardised features.
    """
    centre, scale = x.mean(dim=0), x.std(dim=0, correction=0)
    # A constant feature keeps rounding noise for a spread; dividing by it would blow the noise up.
    scale = torch.where(scale > 1e-12 * centre.abs(), scale, torch.ones_like(scale))
    u, s, vh = torch.linalg.svd((x - centre) / scale, full_matrices=False)
    shrink = s / (s.square() + torch.tensor(alphas, dtype=x.dtype)[:, None])
    weights = (shrink * (u.T @ (y - y.mean()))) @ vh
    return weights @ ((new - centre) / scale).T + y.mean()


def _choose(x: Tensor, y: Tensor, labels: Tensor, alphas: Sequence[float], folds: int, seed: int) -> float:
    """The alpha of least squared error over groups held out of this training part; the smallest of equals."""
    labels = number_groups(labels, len(labels))
    count = int(labels.max()) + 1
    if count < 2:
        raise InputError("one fold leaves a single group to train and choose alpha on; give more groups or more folds")
    inner = min(folds, count)
    fold = _assign_folds(labels, inner, torch.Generator().manual_seed(seed))
    ordered = sorted(alphas)
    errors = torch.zeros(len(ordered), dtype=x.dtype)
    for k in range(inner):
        train, test = fold != k, fold == k
        errors += (ridge_predictions(x[train], y[train], x[test], ordered) - y[test]).square().sum(dim=1)
    return float(ordered[int(errors.argmin())])


def _assign_folds(labels: Tensor, folds: int, generator: torch.Generator) -> Tensor:
    """A fold for every observation, groups kept whole: the largest group left goes to the smallest fold."""
    sizes = torch.bincount(labels)
    if folds < 2 or len(sizes) < folds:
        raise InputError(
            f"{len(sizes)} groups cannot make {folds} folds; from 2 folds on, give each at least one group"
        )
    shuffled = torch.randperm(len(sizes), generator=generator)
    order = shuffled[sizes[shuffled].argsort(descending=True, stable=True)]
    filled, fold_of = [0] * folds, torch.empty_like(sizes)
    for group in order.tolist():
        fold_of[group] = filled.index(min(filled))
        filled[int(fold_of[group])] += int(sizes[group])
    return fold_of[labels]


def _check(features: Tensor, target: Tensor, groups: Groups, alphas: Sequence[float]) -> tuple[Tensor, Tensor, Tensor]:
    if features.dim() != 2 or target.shape != features.shape[:1] or features.shape[1] == 0:
        raise InputError(
            f"features have shape {list(features.shape)}, target {list(target.shape)}; give [n, d] and [n] with d >= 1"
        )
    if not alphas or not all(0 < alpha < float("inf") for alpha in alphas):
        raise InputError(f"alphas are {tuple(alphas)}; give one or more positive numbers")
    refuse_not_finite("features", features)
    refuse_not_finite("target", target)
    y = target.detach().to("cpu", torch.float64)
    if len(y) == 0 or bool((y == y[0]).all()):
        raise InputError(f"target has {len(y)} values that do not differ; there is nothing to predict")
    return features.detach().to("cpu", torch.float64), y, number_groups(groups, len(y))
