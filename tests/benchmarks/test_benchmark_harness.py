"""The harness: who runs when, what its numbers mean, and that results are never half written."""

import json
import random

import pytest
import torch
from harness import Entry, interleave, paired_ratio, sample, spread, table, threads, write_json


class FakeClock:
    """A clock that moves only when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def lasting(self, seconds: float):
        def call() -> None:
            self.now += seconds

        return call


def test_spread_is_the_quartiles_of_the_samples():
    found = spread([5.0, 1.0, 2.0, 4.0, 3.0])
    assert (found.runs, found.least, found.lower_quartile, found.median, found.upper_quartile) == (5, 1, 2, 3, 4)


def test_spread_of_one_sample_is_that_sample():
    found = spread([7.0])
    assert (found.runs, found.least, found.lower_quartile, found.median, found.upper_quartile) == (1, 7, 7, 7, 7)


def test_ratio_is_taken_within_rounds():
    """Round 1 was disturbed for both: within rounds the ratio is always 2, and rounds of one side alone don't count."""
    assert paired_ratio({0: 2.0, 1: 200.0, 2: 4.0, 3: 1.0}, {0: 1.0, 1: 100.0, 2: 2.0}) == 2.0


def test_everybody_runs_in_every_round_in_changing_order():
    clock, order = FakeClock(), []
    entries = [Entry(name, lambda name=name: (order.append(name), clock.lasting(1)())) for name in "abc"]
    found = interleave(entries, rounds=6, patience=100, rng=random.Random(3), clock=clock)
    rounds = [tuple(order[i : i + 3]) for i in range(0, 18, 3)]
    assert all(sorted(names) == ["a", "b", "c"] for names in rounds)
    assert len(set(rounds)) > 1
    assert {name: list(samples) for name, samples in found.items()} == {name: list(range(6)) for name in "abc"}


def test_the_impatient_sit_out_later_rounds():
    clock = FakeClock()
    entries = [Entry("slow", clock.lasting(5)), Entry("fast", clock.lasting(0.5))]
    found = interleave(entries, rounds=8, patience=9, rng=random.Random(0), clock=clock)
    assert found == {"slow": {0: 5, 1: 5}, "fast": dict.fromkeys(range(8), 0.5)}


def test_a_sample_repeats_short_calls():
    clock = FakeClock()
    assert sample(clock.lasting(0.25), clock, at_least=1.0) == 0.25
    assert clock.now == 1.0


def test_threads_are_put_back_after_an_error():
    before = torch.get_num_threads()
    with pytest.raises(ZeroDivisionError), threads(before + 1):
        1 // (before + 1 - torch.get_num_threads())
    assert torch.get_num_threads() == before


def test_a_failed_write_leaves_the_old_results(tmp_path):
    path = tmp_path / "folder" / "results.json"
    write_json(path, {"n": 1})
    with pytest.raises(TypeError):
        write_json(path, {"n": object()})
    assert json.loads(path.read_text()) == {"n": 1}
    assert [file.name for file in path.parent.iterdir()] == ["results.json"]


def test_table_aligns_names_left_and_numbers_right():
    assert table(["n", "512"], [["blocked", "9.5"], ["x", "10.25"]]) == (
        "n          512\n-------  -----\nblocked    9.5\nx        10.25"
    )
