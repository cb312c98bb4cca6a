"""benchmarks/crossover.py: the fit finds constants that made the times, and the script runs."""

import crossover
import pytest
from crossover import NAMES, Point, fit, fitted_choice


def made_point(n: int, window: int, constants: dict[str, float], pair: float) -> Point:
    plain = Point(n=n, window=window, dense=pair * 12 * n**2, blocked=1.0, auto="dense")
    *factors, pairs = plain.features()
    blocked = pair * (pairs + sum(f * constants[name] for f, name in zip(factors, NAMES, strict=True)))
    return Point(n=n, window=window, dense=plain.dense, blocked=blocked, auto="dense")


def test_fit_finds_the_constants_that_made_the_times():
    constants = dict(zip(NAMES, (300_000.0, 120_000.0, 80.0), strict=True))
    points = [made_point(n, w, constants, 1e-10) for n in (256, 512, 1024, 4096) for w in (32, 512)]
    found = fit(points)
    assert found == pytest.approx({**constants, "seconds_a_pair": 1e-10}, rel=1e-6)
    assert all(p.loss(fitted_choice(p, found)) == 1 for p in points)


def test_quick_run_prints_the_constants(capsys):
    assert crossover.main(["--quick"]) == 0
    printed = capsys.readouterr().out
    assert all(f"{name} = " in printed for name in NAMES)
