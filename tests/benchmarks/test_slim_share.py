"""The parts share and order of benchmarks/slim.py: what they conclude, and runs to the end."""

import json

import pytest
import slim
import slim_order
import slim_share
from slim_data import LABELS, Sentences


def shared(**counts):
    """Results of models that tell so many of 100 sentences."""
    rows = {name.replace("_", ", "): [1] * count + [0] * (100 - count) for name, count in counts.items()}
    return {
        "rows": [{"name": name, "seed": 0, "parameters": 10**6, "right": right} for name, right in rows.items()],
        "times": [],
    }


def ordered(**counts):
    """Results of models that tell so many of 200 pairs of either kind."""
    rows = []
    for name, count in counts.items():
        told = {"right": [1] * count + [0] * (200 - count), "masked_accuracy": 0.3}
        family, what = name.split("_", 1)
        full = f"{family}, {what.replace('_', ' ')}"
        rows.append({"name": full, "seed": 0, "parameters": 1, "steps": 1, "tokens": 1, "order": told, "next": told})
    return {"rows": rows}


def test_share_tells_which_way_it_goes():
    results = shared(original=90, all_128=80, none_128=85, all_64=70, all_384=82)
    told = slim_share.verdicts(results)
    assert told[0].startswith("all, 128 less none, 128: -0.0500")
    assert told[0].endswith("in the paper -1.5 points")
    assert told[1].startswith("all, 64 less all, 128: -0.1000")
    assert told[2].endswith("in the paper -0.3 points")
    assert "less the original's" in slim_share.tables(results)[0]


def test_order_holds_or_falls_short():
    names = {"ALBERT_sentence_order": 160, "ALBERT_next_sentence": 104, "BERT_sentence_order": 150}
    told = slim_order.verdicts(ordered(**names))
    assert told[0].startswith("holds: the next-sentence model tells order near chance (paper 52%): 0.520")
    assert told[1].startswith("holds: the order model tells order well above that (paper 86.5%): +0.2800")
    assert told[2].startswith("at equal time ALBERT less BERT: order +0.0500")
    told = slim_order.verdicts(ordered(**names | {"ALBERT_sentence_order": 106, "ALBERT_next_sentence": 160}))
    assert told[0].startswith("falls short")
    assert told[1].startswith("falls short")


@pytest.mark.slow
@pytest.mark.parametrize("part", ["share", "order"])
def test_smoke_runs_of_share_and_order_go_to_the_end(part, tmp_path, capsys, monkeypatch):
    made = [{"text": f"a {word} film, number {i}", "label": word} for i in range(48) for word in LABELS]
    monkeypatch.setattr(slim_share, "film_reviews", lambda train, test: Sentences(train=made[:64], test=made[64:]))
    out = tmp_path / "results.json"
    given = [part, "--budget", "smoke", "--out", str(out), "--plots", str(tmp_path), "--work", str(tmp_path / "runs")]
    assert slim.main(given) == 0
    assert json.loads(out.read_text())["complete"]
    assert (tmp_path / f"slim-{part}.svg").stat().st_size > 0
    names = [row["name"] for row in json.loads(out.read_text())["rows"]]
    assert names == (["original", *slim_share.ARMS] if part == "share" else [*slim_order.ARMS])
    assert "million parameters" in capsys.readouterr().out
