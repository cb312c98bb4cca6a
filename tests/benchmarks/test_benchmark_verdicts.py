"""Verdicts: every goal is named, each turns at its number, and fractions are of the peak of the same rounds."""

import pytest
from contestants import AUTO, BLOCKED, CPU, FLEX, LONGFORMER, SDPA
from encoder_models import OURS, THEIRS
from grid import GROWING
from peak_memory import exponent
from peaks import PEAKS
from shapes import DENSE
from verdicts import find, of_peak, verdicts

MULTIPLY_ADD, DOT_PRODUCT = PEAKS.values()
WINDOW = "window 512"


def timed(name, seconds, *, shape=WINDOW, n=4096, dtype="float32", direction="forward", clock="wall", gflop=1.0):
    return {
        "shape": shape, "n": n, "dtype": dtype, "direction": direction, "clock": clock, "name": name, "gflop": gflop,
        "median": seconds, "gflops": gflop / seconds, "pairs": n * 100, "samples": {"0": seconds, "1": 2 * seconds},
    }  # fmt: skip


def words(times, memory=()):
    found = verdicts(times, memory)
    assert len({verdict.goal for verdict in found}) == len(found)
    return {verdict.goal: verdict.word for verdict in found}


def the_only(found, start):
    (word,) = {word for goal, word in found.items() if goal.startswith(start)}
    return word


def test_verdicts_name_every_goal_even_unmeasured():
    found = words([])
    assert len(found) == 35 + len(GROWING)
    assert set(found.values()) == {"not measured"}


@pytest.mark.parametrize(
    ("name", "peer", "factor", "where", "goal"),
    [
        (CPU, LONGFORMER, 14, {}, "cpu at least 14x transformers Longformer"),
        (CPU, LONGFORMER, 10, {"direction": "forward + backward"}, "cpu at least 10x transformers Longformer"),
        (CPU, FLEX, 2.5, {}, "cpu at least 2.5x Flex"),
        (CPU, FLEX, 5, {"dtype": "bfloat16"}, "cpu at least 5x Flex"),
        (CPU, SDPA, 1.3, {"shape": DENSE}, "cpu at least 1.3x SDPA, dense, float32 forward, n"),
        (AUTO, SDPA, 1, {"shape": DENSE, "n": 32}, "auto at least 1x SDPA, dense, float32"),
        (BLOCKED, LONGFORMER, 4, {}, "blocked at least 4x transformers Longformer, window 512, float32 forward, n"),
        (BLOCKED, FLEX, 0.95, {}, "blocked at least 0.95x"),
        (OURS, THEIRS, 2.2, {"shape": "whole model"}, "whole model at least 2.2x"),
        (OURS, THEIRS, 3, {"shape": "whole model", "dtype": "bfloat16"}, "whole model at least 3x"),
    ],
)
def test_ratios_turn_at_their_goal(name, peer, factor, where, goal):
    for by, word in ((1.001, "holds"), (0.999, "falls short")):
        assert the_only(words([timed(name, 1.0, **where), timed(peer, factor * by, **where)]), goal) == word


@pytest.mark.parametrize(
    ("dtype", "direction", "shape", "least"),
    [
        ("float32", "forward", WINDOW, 0.78),
        ("float32", "forward", DENSE, 0.88),
        ("bfloat16", "forward", WINDOW, 0.72),
        ("bfloat16", "forward", DENSE, 0.85),
        ("float32", "forward + backward", WINDOW, 0.75),
    ],
)
def test_fractions_of_the_peak_turn_at_their_goal(dtype, direction, shape, least):
    where = {"dtype": dtype, "direction": direction, "shape": shape, "clock": "CPU"}
    peak = timed(MULTIPLY_ADD, 0.01, **where)
    for by, word in ((1.001, "holds"), (0.999, "falls short")):
        mine = timed(CPU, 0.01 / (least * by), **where)
        assert the_only(words([peak, mine]), f"{dtype} {direction}, {shape}, n = 4,096: at least {least} of") == word


def test_bfloat16_is_held_against_the_higher_peak():
    where = {"dtype": "bfloat16", "clock": "CPU"}
    peaks = [timed(MULTIPLY_ADD, 0.005, **where), timed(DOT_PRODUCT, 0.01, **where)]
    mine = timed(CPU, 0.02, **where)
    fraction, which = of_peak([*peaks, mine], mine)
    assert (fraction, which) == (pytest.approx(0.25), "float32 multiply-add")
    peaks[1] = timed(DOT_PRODUCT, 0.0025, **where)
    fraction, which = of_peak([*peaks, mine], mine)
    assert (fraction, which) == (pytest.approx(0.125), "bfloat16 dot product")
    single = timed(CPU, 0.02, clock="CPU")
    assert of_peak([timed(MULTIPLY_ADD, 0.005, clock="CPU"), timed(DOT_PRODUCT, 0.001, clock="CPU"), single], single)[
        0
    ] == pytest.approx(0.25)


def test_cases_of_different_times_are_compared_by_their_peaks():
    """The machine was half as fast while window 64 was measured: that is not the window's fault."""
    fast, slow = {"clock": "CPU"}, {"clock": "CPU", "shape": "window 64"}
    times = [timed(MULTIPLY_ADD, 0.01, **fast), timed(CPU, 0.02, **fast)]
    times += [timed(MULTIPLY_ADD, 0.02, **slow), timed(CPU, 0.079, **slow)]
    assert words(times)["window 64, float32 forward: at least 0.5x the rate of window 512 (one thread)"] == "holds"
    times[-1] = timed(CPU, 0.081, **slow)
    goal = "window 64, float32 forward: at least 0.5x the rate of window 512 (one thread)"
    assert words(times)[goal] == "falls short"


@pytest.mark.parametrize("shape", [WINDOW, DENSE])
def test_bfloat16_backward_is_held_against_float32s(shape):
    """By the float32 peak of both cases, whatever the dot product reaches."""
    where = {"clock": "CPU", "direction": "forward + backward", "shape": shape}
    single = [timed(MULTIPLY_ADD, 0.01, **where), timed(CPU, 0.016, **where)]
    half = {**where, "dtype": "bfloat16"}
    peaks = [timed(MULTIPLY_ADD, 0.02, **half), timed(DOT_PRODUCT, 0.01, **half)]
    for seconds, word in ((0.0199, "holds"), (0.0201, "falls short")):
        found = words([*single, *peaks, timed(CPU, seconds, **half)])
        assert the_only(found, f"bfloat16 forward + backward, {shape}, n = 4,096: at least 1.6x") == word


def test_a_pattern_that_densifies_falls_short():
    for factor, word in ((1.4, "holds"), (1.6, "falls short")):
        times = [timed(CPU, 1.0), timed(CPU, 16 * factor, n=65536)]
        assert the_only(words(times), "window 512: from 4,096 to 65,536") == word


@pytest.mark.parametrize(("part", "word"), [(0.33, "holds"), (0.34, "falls short")])
def test_memory_of_the_whole_model_is_a_third_at_most(part, word):
    common = {"shape": "whole model", "n": 4096, "dtype": "float32", "direction": "forward"}
    memory = [{**common, "name": OURS, "extra": part * 2**30}, {**common, "name": THEIRS, "extra": 2**30}]
    assert words([], memory)["whole model: at most 1/3 of transformers' extra memory, float32, n = 4,096"] == word


@pytest.mark.parametrize("direction", ["forward", "forward + backward"])
def test_one_slow_length_is_enough_to_fall_short(direction):
    times = [timed(name, 1.0, n=n, direction=direction) for name in (AUTO, SDPA) for n in (512, 1024)]
    goal = f"auto never over 10% slower than SDPA given the same mask, {direction}, every n"
    assert words(times)[goal] == "holds"
    slow = [timed(AUTO, 1.11, n=2048, direction=direction), timed(SDPA, 1.0, n=2048, direction=direction)]
    assert words(times + slow)[goal] == "falls short"


@pytest.mark.parametrize(("power", "word"), [(1, "holds"), (1.5, "falls short")])
def test_memory_verdict_reads_the_growth(power, word):
    memory = [
        {"name": BLOCKED, "direction": "forward", "n": n, "extra": 10 * n**power, "held": 0} for n in (2048, 4096, 8192)
    ]
    assert words([], memory)["blocked: peak memory linear in n, forward"] == word


@pytest.mark.parametrize("power", [1, 2])
def test_exponent_of_a_power_is_found(power):
    lengths = [2048, 4096, 8192]
    assert exponent(lengths, [3 * n**power for n in lengths]) == pytest.approx(power)


def test_find_gives_nothing_where_nothing_fits():
    assert find([timed(CPU, 1.0)], name=CPU, n=5) is None
