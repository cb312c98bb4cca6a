"""benchmarks/slim.py: what it concludes from tested sentences and latencies, and a run to the end."""

import json

import pytest
import slim
import slim_distil
from slim_data import LABELS, Sentences

TRIPLE = [1] * 90 + [0] * 10


def results(*, drawn=(1,) * 50 + (0,) * 50, student=0.5):
    rows = {"teacher": [1] * 92 + [0] * 8, "triple loss": TRIPLE, "random initialisation": list(drawn)}
    times = [
        {"name": name, "threads": 1, "batch": 1, "median": seconds}
        for name, seconds in (("teacher", 1.0), ("student", student))
    ]
    return {
        "rows": [{"name": name, "accuracy": sum(right) / 100, "right": right} for name, right in rows.items()],
        "times": times,
    }  # fmt: skip


def test_verdicts_follow_the_numbers():
    told = slim_distil.verdicts(results())
    assert told[0] == "holds: 97% of the teacher's accuracy: 97.8%"
    assert told[1].startswith("holds: random initialisation is clearly below: -0.4000")
    assert told[2] == "holds: 1.6 times as fast (batch 1, threads 1): 2.00"
    assert slim_distil.verdicts(results(drawn=[*TRIPLE[:-1], 1]))[1].startswith("falls short")
    assert slim_distil.verdicts(results(student=0.7))[2] == "falls short: 1.6 times as fast (batch 1, threads 1): 1.43"


def test_sentences_of_several_seeds_are_averaged_before_they_are_compared():
    twice = results()
    twice["rows"] += [{**row, "right": [1 - one for one in row["right"]]} for row in twice["rows"]]
    assert slim_distil.differences(twice)["random initialisation"].startswith("+0.0000")


@pytest.mark.slow
def test_slim_smoke_run_goes_to_the_end(tmp_path, capsys, monkeypatch):
    made = [{"text": f"a {word} film, number {i}", "label": word} for i in range(48) for word in LABELS]
    monkeypatch.setattr(slim_distil, "film_reviews", lambda train, test: Sentences(train=made[:64], test=made[64:]))
    out = tmp_path / "results.json"
    given = [
        "distil",
        "--budget",
        "smoke",
        "--out",
        str(out),
        "--plots",
        str(tmp_path),
        "--work",
        str(tmp_path / "runs"),
    ]
    assert slim.main(given) == 0
    told = json.loads(out.read_text())
    assert told["complete"]
    assert [row["name"] for row in told["rows"]] == ["teacher", *slim_distil.ARMS]
    assert {len(row["right"]) for row in told["rows"]} == {32}
    assert all(one["median"] > 0 for one in told["times"])
    assert (tmp_path / "slim-distil.svg").stat().st_size > 0
    assert "random initialisation" in capsys.readouterr().out
