"""Pruning to a share of a model's time: the table, and the choice of the largest share of units that it allows."""

import json
from fractions import Fraction
from itertools import accumulate, pairwise, product
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gossamer as gs
from gossamer.settings import plain
from gossamer.training.pruning.choice import check_share, keep_highest, least_share, number_kept
from gossamer.training.pruning.settings import PruningSettings, Selection
from gossamer.training.pruning.time_budget import TimeBudget
from gossamer.training.pruning.time_table import PartTimes, TimeTable
from gossamer.training.pruning.units import Units

HEADS = PartTimes(units=(0, 1, 2), milliseconds=(0.0, 3.0, 4.0))
NEURONS = PartTimes(units=(0, 32, 64), milliseconds=(0.0, 2.0, 6.0))
TABLE = TimeTable(parts={"attention.0": HEADS, "feed_forward.0": NEURONS}, rest=10.0)


def units_of(name: str, number: int) -> Units:
    structure = "heads" if name.startswith("attention") else "neurons"
    return Units(structure=structure, map=f"{name}.last", shape=(1, number), block=(1, 1))


def test_between_two_widths_lies_a_straight_line_and_everything_is_the_sum_of_its_parts() -> None:
    assert [NEURONS.at(units) for units in (0, 8, 32, 48, 64)] == [0.0, 0.5, 2.0, 4.0, 6.0]
    assert TABLE.milliseconds({}) == 20.0
    assert TABLE.milliseconds({"attention.0": (1, 2)}) == 19.0
    assert TABLE.milliseconds({"attention.0": (0, 2), "feed_forward.0": (1, 4)}) == 11.0
    budget = TimeBudget(table=TABLE, units=[[units_of("feed_forward.0", 64)]], scope="layer")
    assert budget.share_of([[32]]) == 16 / 20


@given(st.lists(st.floats(-1, 100), min_size=2, max_size=6), st.integers(0, 10_000))
@settings(max_examples=50)
def test_measured_times_become_ones_that_never_fall(measured: list[float], tenth: int) -> None:
    times = PartTimes.of_measured([7 * i for i in range(len(measured))], measured)
    for i, one in enumerate(times.milliseconds):
        assert one == max(0.0, *measured[: i + 1])
    read = [times.at(times.all * i / 10_007) for i in (tenth, tenth + 1, tenth + 7)]
    assert all(low <= high for low, high in pairwise(read))


def test_a_table_is_what_its_file_says(tmp_path: Path) -> None:
    (tmp_path / "times.json").write_text(json.dumps(plain(TABLE)))
    assert TimeTable.read(tmp_path / "times.json") == TABLE
    given_name = PruningSettings(structure="heads", latency=0.9, times=str(tmp_path / "times.json"))
    assert given_name == PruningSettings(structure="heads", latency=0.9, times=TABLE)
    assert given_name.keep is None


MAPS = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=5), min_size=1, max_size=3)


def brute_force(budget: TimeBudget, scores: list[list[torch.Tensor]], most: float) -> list[list[torch.Tensor]]:
    """All shares of units one after another, from the least that empties nothing ranked together."""
    ranked = [
        number
        for some in scores
        for number in ([sum(one.numel() for one in some)] if budget.scope == "global" else [o.numel() for o in some])
    ]
    changes = sorted({Fraction(2 * i - 1, 2 * number) for number in ranked for i in range(1, number + 1)})
    between = [(low + high) / 2 for low, high in pairwise([*changes, Fraction(1)])]
    # At a share such as 1/2 numbers are rounded to even ones, which may be more of one structure and not of another.
    exact = [one for one in changes if one.denominator & (one.denominator - 1) == 0]
    shares = [float(share) for share in sorted([*between, *exact, Fraction(1)])]
    shares = [share for share in shares if all(number_kept(share, number) for number in ranked)]
    chosen = None
    for share in shares:
        masks = [keep_highest(some, share, budget.scope) for some in scores]
        taken = budget.share_of([[int(mask.sum()) for mask in some] for some in masks])
        if chosen is None or taken <= most:
            chosen = masks
    assert chosen is not None
    return chosen


@given(
    st.lists(MAPS, min_size=1, max_size=2),
    st.sampled_from(["layer", "global"]),
    st.integers(0, 100),
    st.randoms(use_true_random=False),
)
@settings(max_examples=40, deadline=None)
def test_the_largest_share_that_the_time_allows_is_chosen(drawn: Any, scope: str, percent: int, random: Any) -> None:
    scores = [[torch.tensor([values], dtype=torch.float32) for values in maps] for maps in drawn]
    names = [[f"{('attention', 'feed_forward')[i]}.{j}" for j in range(len(maps))] for i, maps in enumerate(drawn)]
    units = [
        [units_of(name, one.numel()) for name, one in zip(*pair, strict=True)]
        for pair in zip(names, scores, strict=True)
    ]
    parts = {
        one.part: PartTimes.of_measured(range(one.number + 1), [random.random() * i for i in range(one.number + 1)])
        for some in units
        for one in some
    }
    budget = TimeBudget(table=TimeTable(parts=parts, rest=0.25), units=units, scope=scope)
    wanted, masks = brute_force(budget, scores, percent / 100), budget.masks(scores, percent / 100)
    for some, others in zip(masks, wanted, strict=True):
        assert [mask.tolist() for mask in some] == [mask.tolist() for mask in others]


@given(data=st.data())
def test_what_must_stay_of_all_maps_takes_the_most_that_any_scores_leave(data: st.DataObject) -> None:
    """Over every way to place so many units."""
    sizes = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    steps = st.lists(st.floats(0, 3), min_size=4, max_size=4)
    parts, units = {}, []
    for i, size in enumerate(sizes):
        rising = data.draw(steps)[:size]
        parts[f"attention.{i}"] = PartTimes.of_measured(
            range(size + 1), accumulate([data.draw(st.floats(0, 1)), *rising])
        )
        units.append(units_of(f"attention.{i}", size))
    budget = TimeBudget(table=TimeTable(parts=parts, rest=1.0), units=[units], scope="global")
    # One unit of all has to stay; with a feed-forward of fewer units beside them it would be more.
    for count in range(sum(sizes) + 1):
        placed = [
            sum(parts[f"attention.{i}"].at(k) - parts[f"attention.{i}"].at(0) for i, k in enumerate(numbers))
            for numbers in product(*(range(size + 1) for size in sizes))
            if sum(numbers) == count
        ]
        assert budget._most_of(units, count) == pytest.approx(max(placed), abs=1e-9)


@pytest.mark.parametrize(("scope", "least"), [("layer", 0.9), ("global", 0.75)])
def test_a_latency_below_what_must_stay_is_refused_and_the_one_that_is_named_can_be_had(
    scope: str, least: float
) -> None:
    """Of heads, one of each layer, or one of all; what has no units stays whole."""
    table = TimeTable(parts={"attention.0": HEADS, "attention.1": HEADS, "feed_forward.0": NEURONS}, rest=6.0)
    heads = [[units_of("attention.0", 2), units_of("attention.1", 2)]]
    budget = TimeBudget(table=table, units=heads, scope=scope)
    with pytest.raises(gs.InputError, match=rf"^latency is 0\.3; what has to stay of the model .*: give {least} or"):
        budget.check(0.3)
    budget.check(least)
    (masks,) = budget.masks([[torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0]])]], least)
    left = [int(mask.sum()) for mask in masks]
    assert left == ([1, 1] if scope == "layer" else [0, 1])
    assert budget.share_of([left]) <= least


@pytest.mark.parametrize("number", [*range(1, 60), 1536, 4096, 36_864])
def test_the_least_share_is_the_least_of_two_digits(number: int) -> None:
    share = least_share(number)
    digits = f"{share:.1e}"
    assert float(digits) == share
    assert number_kept(share, number) == 1
    assert number_kept(share - 10.0 ** (int(digits.partition("e")[2]) - 1), number) == 0


def test_a_share_of_nothing_is_refused_with_the_one_that_works() -> None:
    with pytest.raises(gs.InputError, match=r"^keep is 0\.01; of the 12 heads units of .*: keep 0\.042 or more$"):
        check_share([units_of("attention.0", 12)], 0.01, "layer")
    check_share([units_of("attention.0", 12)], 0.042, "layer")


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"latency": 0.5, "keep": 0.5}, r"^keep is 0\.5; it must be left out where there is a latency"),
    ({"latency": 0}, r"^latency is 0; it must be a share of the model's time, above 0, up to 1"),
    ({"latency": 1.5}, r"^latency is 1\.5; it must be a share"),
    ({"times": TABLE}, r"^times is TimeTable.*; it must be left out without a latency"),
    ({"latency": 0.5, "structure": "hybrid"}, r"^structure is 'hybrid'; single weights and blocks bring no time until"),
    ({"latency": 0.5, "structure": ["heads", "weight"]}, r"bring no time .* take heads, neurons, layers, or give keep"),
    (
        {"latency": 0.5, "times": "none.json"},
        r"^none\.json: No such file or directory; name a latency\.json that gossamer",
    ),
]


@pytest.mark.parametrize(("fields", "message"), WRONG, ids=lambda one: str(one)[:40])
def test_what_is_no_such_selection_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(gs.InputError, match=message):
        Selection(**{"structure": "heads", **fields})


BROKEN: list[tuple[Any, str]] = [
    ([], r"it must be a mapping of fields"),
    ({"parts": {}}, r"rest is missing"),
    ({"parts": {}, "rest": 0}, r"rest is 0; it must be above 0 where no part takes any time"),
    ({"parts": {"attention.0": {"units": [0, 2], "milliseconds": [0, -1]}}, "rest": 1}, r"parts\.attention\.0\.milli"),
    ({"parts": {"attention.0": {"units": [0, 2], "milliseconds": [2, 1]}}, "rest": 1}, r"never less for more units"),
    ({"parts": {"attention.0": {"units": [1, 2], "milliseconds": [0, 1]}}, "rest": 1}, r"that rise from 0"),
    ({"parts": {"attention.0": {"units": [0, 2], "milliseconds": [0]}}, "rest": 1}, r"2 numbers, one for each of"),
]


@pytest.mark.parametrize(("fields", "message"), BROKEN, ids=lambda one: str(one)[:40])
def test_a_file_that_holds_no_table_is_refused(tmp_path: Path, fields: Any, message: str) -> None:
    path = tmp_path / "times.json"
    path.write_text(json.dumps(fields))
    with pytest.raises(
        gs.InputError, match=rf"times\.json: .*{message}.*; name a latency\.json that gossamer\.prune wrote"
    ):
        TimeTable.read(path)
    path.write_text("{")
    with pytest.raises(gs.InputError, match=r"times\.json: is no JSON; name"):
        TimeTable.read(path)


def test_a_score_whose_penalty_decides_is_refused() -> None:
    for score in ("soft-movement", "l0"):
        with pytest.raises(gs.InputError, match=rf"^score is '{score}', whose penalty decides what stays; with a late"):
            PruningSettings(score=score, structure="heads", latency=0.5, times=TABLE)
    assert PruningSettings(score="zeros", structure="heads", latency=0.5).keep is None
