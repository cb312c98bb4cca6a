"""The parts scores, blocks and smallest of benchmarks/slim.py: what they conclude, and runs to the end."""

import json

import pytest
import slim
import slim_blocks
import slim_scores
import slim_smallest
import slim_times
from slim_data import LABELS, Sentences


def told_rightly(counts, **sizes):
    """Rows of models that tell so many of 1,000 sentences."""
    return [
        {"name": name, "seed": 0, "accuracy": count / 1000, "right": [1] * count + [0] * (1000 - count), **sizes}
        for name, count in counts.items()
    ]


def timed(seconds, threads=2, batch=8):
    """Latencies of three rounds, the last of them disturbed for everybody."""
    return [
        {"name": name, "threads": threads, "batch": batch, "median": one, "rounds": [one, one, 5 * one]}
        for name, one in seconds.items()
    ]


def test_speed_is_told_by_pairs_of_turns():
    assert slim_times.times_as_fast(timed({"old": 0.3, "new": 0.1}), "new", "old") == pytest.approx(3.0)


def test_movement_is_above_magnitude_or_falls_short():
    counts = {"magnitude, 10%": 700, "movement, 10%": 780, "soft-movement, 10%": 690, "movement, 70%": 800}
    told = slim_scores.verdicts({"rows": told_rightly(counts, left=0.1)})
    assert told[0].startswith("holds: movement above magnitude at 10% of the weights: +0.0800")
    assert told[0].endswith("in the paper +1.8 points")
    assert told[1].startswith("falls short: soft-movement above magnitude at 10% of the weights: -0.0100")
    assert len(told) == 2
    told = slim_scores.verdicts({"rows": told_rightly({"magnitude, 3%": 700, "movement, 3%": 701}, left=0.03)})
    assert told[0].startswith("falls short: movement above magnitude at 3%"), "the interval holds 0"
    told = slim_scores.verdicts({"rows": told_rightly({"magnitude, 3%": 700, "movement, 3%": 801}, left=0.2)})
    assert told[0].startswith("falls short: movement ends with 3% of the weights: with 20.0%")


@pytest.mark.parametrize(
    ("accuracy", "seconds", "begins"),
    [
        (
            840,
            0.04,
            "holds: 2 times as fast (8 x 128, encoder alone), at most 1.5% lost: movement, hybrid, 30% is 2.50",
        ),
        (830, 0.04, "falls short: 2 times as fast (8 x 128, encoder alone), at most 1.5% lost: movement, hybrid, 30%"),
        (840, 0.06, "falls short: 2 times as fast (8 x 128, encoder alone), at most 1.5% lost: the fastest is 1.67"),
    ],
)
def test_blocks_are_fast_and_good_or_fall_short(accuracy, seconds, begins):
    pruned = "movement, hybrid, 30%"
    rows = told_rightly({"teacher": 850, pruned: accuracy}, layer_parameters=10**6, bytes=10**6)
    results = {"rows": rows, "times": timed({"teacher": 0.1, pruned: seconds})}
    assert slim_blocks.verdicts(results)[0].startswith(begins)
    assert "less the teacher's" in slim_blocks.tables(results)[0]


def test_the_smallest_reaches_each_goal_or_falls_short():
    first, *_, last = slim_smallest.STAGES
    rows = told_rightly({first: 850, last: 810}, parameters=10**6, bytes=90)
    rows[1]["bytes"] = 15
    results = {"rows": rows, "times": timed({first: 0.4, last: 0.08}) + timed({first: 0.1, last: 0.05}, batch=1)}
    assert slim_smallest.verdicts(results) == [
        "holds: 95% of the accuracy: 95.3%",
        "holds: 5 times fewer bytes: 6.00",
        "holds: 4 times as fast (batch 8, threads 2): 5.00",
        "falls short: 4 times as fast (batch 1, threads 2): 2.00",
    ]
    assert "less the original's" in slim_smallest.tables(results)[0]


@pytest.mark.slow
@pytest.mark.parametrize("part", [slim_scores, slim_blocks, slim_smallest])
def test_smoke_runs_of_pruning_go_to_the_end(part, tmp_path, capsys, monkeypatch):
    made = [{"text": f"a {word} film, number {i}", "label": word} for i in range(48) for word in LABELS]
    monkeypatch.setattr(part, "film_reviews", lambda train, test: Sentences(train=made[:64], test=made[64:]))
    name = part.__name__.removeprefix("slim_")
    out = tmp_path / "results.json"
    given = [name, "--budget", "smoke", "--out", str(out), "--plots", str(tmp_path), "--work", str(tmp_path / "runs")]
    assert slim.main(given) == 0
    results = json.loads(out.read_text())
    assert results["complete"]
    assert (tmp_path / f"slim-{name}.svg").stat().st_size > 0
    assert len(results["rows"]) == {"scores": 8, "blocks": 4, "smallest": 5}[name]
    assert all(one["median"] > 0 for one in results["times"])
    assert "accuracy" in capsys.readouterr().out
