"""benchmarks/tasks.py: both sides do the same, what does not is refused, and every task is there."""

import dataclasses

import pytest
import task_peers
import tasks
from gate import ParityError
from task_peers import TASKS, mixed_texts, pairs_of
from task_writers import SMOKE, check_tokens, writers

import gossamer.tasks

PLAN = tasks.PLANS["smoke"]
NO_PEER = {"answer", "score", "summarize", "translate", "rewrite", "generate"}
"""No pipeline is left for the first five; the last is measured in tokens."""


def test_every_task_with_a_peer_is_measured():
    assert set(TASKS) | NO_PEER == set(gossamer.tasks.TASKS)
    keys = [step.key for step in tasks.steps(PLAN, None, 0, (*TASKS, "generate"))]
    assert keys[: len(TASKS)] == list(TASKS)
    assert len(keys) == len(TASKS) + 8


@pytest.mark.parametrize("task", ["classify", "rank"])
def test_both_sides_give_the_same_and_others_are_refused(task, tmp_path):
    pair = pairs_of(task, tmp_path, 3, (2,), seed=0)
    (theirs,) = pair.theirs.values()
    task_peers.check(task, pair, pair.ours(), theirs())
    other = pairs_of(task, tmp_path / "other", 3, (2,), seed=1)
    with pytest.raises(ParityError, match=f"{task}: what .* gives for the same texts is something else"):
        task_peers.check(task, pair, pair.ours(), next(iter(other.theirs.values()))())


@pytest.mark.parametrize("kind", sorted(SMOKE))
def test_both_sides_write_the_same_tokens(kind, tmp_path):
    sides = writers(kind, tmp_path, SMOKE, 3, seed=0)
    for beams in (1, 4):
        calls = sides.calls(2, beams, seed=0)
        mine, other = (call() for call in calls.values())
        check_tokens(kind, mine, other)
        assert [len(row) for row in mine] == [3, 3]
    with pytest.raises(ParityError):
        check_tokens(kind, mine, [row[::-1] for row in dataclasses.replace(sides, new=3).calls(2, 1, 5)["gossamer"]()])


def test_texts_are_of_mixed_lengths():
    lengths = [len(text.split()) for text in mixed_texts(200, seed=0)]
    assert min(lengths) < 10
    assert max(lengths) > 300
    assert mixed_texts(5, seed=3) == mixed_texts(5, seed=3)


def test_the_report_compares_with_the_best_setting():
    times = [
        {"case": "tag", "name": name, "median": median, "lower_quartile": median, "upper_quartile": median,
         "samples": {"0": median}}
        for name, median in (("gossamer", 1.0), ("pipeline, batches of 1", 3.0), ("pipeline, batches of 8", 2.0))
    ]  # fmt: skip
    said = tasks.report({"times": times})
    assert "holds: tag: 2.00 times as fast as pipeline, batches of 8" in said
