"""Learning rates: where they begin, peak and end, that they never jump, and what is refused."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossamer import InputError
from gossamer.training.optimization.schedules import Schedule, rate_at

NAMES = ("cosine", "linear", "inverse-sqrt", "constant")


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    name, steps = draw(st.sampled_from(NAMES)), draw(st.integers(1, 5000))
    warmup = draw(st.integers(0, steps) | st.floats(0, 0.999))
    floor = draw(st.floats(0, 1)) if name in ("cosine", "linear") else 0.0
    return Schedule(name=name, warmup=warmup, floor=floor, steps=steps)


@given(settings=schedules(), data=st.data())
def test_every_rate_is_a_share_and_after_the_warm_up_it_only_falls_to_the_floor(
    settings: Schedule, data: st.DataObject
) -> None:
    step = data.draw(st.integers(0, 2 * settings.steps))
    rate, following = rate_at(settings, step), rate_at(settings, step + 1)
    assert 0 <= rate <= 1
    if step + 1 < settings.warmup_steps:
        assert following > rate
    elif step >= settings.warmup_steps:
        assert settings.floor <= following <= rate


@given(settings=schedules())
def test_it_peaks_at_the_end_of_the_warm_up_and_at_the_first_step_after_it(settings: Schedule) -> None:
    warmup = settings.warmup_steps
    if warmup:
        assert rate_at(settings, warmup - 1) == 1
        assert rate_at(settings, 0) == 1 / warmup
    if warmup < settings.steps:
        assert rate_at(settings, warmup) == 1


@given(settings=schedules())
def test_it_ends_at_its_floor_and_stays_there(settings: Schedule) -> None:
    ends = {
        "cosine": settings.floor,
        "linear": settings.floor,
        "constant": 1.0,
        "inverse-sqrt": math.sqrt(max(settings.warmup_steps, 1) / settings.steps),
    }
    if settings.warmup_steps < settings.steps:
        assert rate_at(settings, settings.steps) == pytest.approx(ends[settings.name], abs=1e-12)
    if settings.name in ("cosine", "linear"):
        assert rate_at(settings, settings.steps + 1) == rate_at(settings, 10 * settings.steps + 1)


@given(settings=schedules(), data=st.data())
def test_it_never_jumps(settings: Schedule, data: st.DataObject) -> None:
    """No step changes the rate by more than the steepest slope of its curve allows."""
    step = data.draw(st.integers(0, settings.steps - 1))
    warmup = settings.warmup_steps
    change = abs(rate_at(settings, step + 1) - rate_at(settings, step))
    left = max(settings.steps - warmup, 1)
    steepest = {"cosine": math.pi / 2 / left, "linear": 1 / left, "constant": 0.0, "inverse-sqrt": 0.5 / max(step, 1)}
    allowed = 1 / warmup if step + 1 < warmup else steepest[settings.name]
    assert change <= allowed * (1 + 1e-6) + 1e-12


def test_values_that_the_papers_give() -> None:
    cosine = Schedule(name="cosine", warmup=10, floor=0.1, steps=110)
    assert rate_at(cosine, 60) == pytest.approx(0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * 0.5)))
    assert rate_at(cosine, 35) == pytest.approx(0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * 0.25)))
    linear = Schedule(name="linear", steps=100, floor=0.2)
    assert rate_at(linear, 25) == pytest.approx(0.8)
    # Vaswani et al. 2017, equation 3, over its own peak.
    noam = Schedule(name="inverse-sqrt", warmup=4000)
    for step in (4000, 16000, 100000):
        assert rate_at(noam, step) == pytest.approx(min(step**-0.5, step * 4000**-1.5) / 4000**-0.5)
    assert rate_at(Schedule(name="constant"), 10**9) == 1.0


def test_a_warm_up_may_be_a_share_of_the_steps() -> None:
    assert Schedule(warmup=0.1, steps=200).warmup_steps == 20
    assert Schedule(warmup=0.0, steps=200).warmup_steps == 0
    assert Schedule(name="constant", warmup=3).warmup_steps == 3


def test_one_step_trains() -> None:
    for name in NAMES:
        assert rate_at(Schedule(name=name, steps=1), 0) == 1


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"name": "step"}, "name is 'step'; it must be one of 'cosine', 'linear'"),
        ({"warmup": -1}, "warmup is -1; it must be a whole number of steps, or a share"),
        ({"warmup": 1.0}, "warmup is 1.0; it must be"),
        ({"warmup": True}, "warmup is True; it must be"),
        ({"warmup": float("nan")}, "warmup is nan; it must be"),
        ({"warmup": 11, "steps": 10}, "warmup is 11; it must be at most the number of steps, 10"),
        ({"floor": 1.5}, "floor is 1.5; it must be a share"),
        ({"name": "constant", "floor": 0.5}, "floor is 0.5; it must be left out: constant"),
        ({"steps": 0}, "steps is 0; it must be a whole number from 1"),
    ],
)
def test_impossible_schedules_are_refused(fields: dict[str, object], said: str) -> None:
    with pytest.raises(InputError) as problem:
        Schedule(**fields)  # type: ignore[arg-type]
    assert str(problem.value).startswith(said)


def test_what_needs_the_number_of_steps_says_so() -> None:
    for settings in (Schedule(), Schedule(name="constant", warmup=0.1)):
        with pytest.raises(InputError, match=r"steps is None; .* needs the number of steps"):
            rate_at(settings, 0)
    with pytest.raises(InputError, match="step is -1; it must be a whole number, 0 or more"):
        rate_at(Schedule(name="constant"), -1)
