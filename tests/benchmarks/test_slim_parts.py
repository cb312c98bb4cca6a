"""The parts vectors, pairs and long of benchmarks/slim.py: their data, what they conclude, and runs to the end."""

import json

import pytest
import slim
import slim_long
import slim_pairs
import slim_speeches
import slim_trim
import slim_vectors
import torch

from gossamer.text.speeches import speeches

SPEECHES = [i // 5 for i in range(100)]


def searched(**found):
    """Results of models that find so many of 100 passages first, the others at rank 50."""
    ranks = {name.replace("_", " "): [1] * count + [50] * (100 - count) for name, count in found.items()}
    return {"rows": [{"name": name, "seed": 0, "ranks": one, "speeches": SPEECHES} for name, one in ranks.items()]}


def test_sentences_are_the_whole_speech():
    text = speeches()[0].text
    assert " ".join(slim_speeches.sentences(text)) == text
    assert slim_speeches.sentences('One. "Two?" Three; four. (Five!)') == ["One.", '"Two?" Three; four.', "(Five!)"]


def test_nobody_is_judged_whom_a_model_learnt_from():
    learnt, judged = slim_speeches.by_speakers(9)
    assert not {one.speaker for one in learnt} & {one.speaker for one in judged}
    assert len(learnt) + len(judged) == len(speeches())
    folds = [slim_speeches.by_fold(fold, 3)[1] for fold in range(3)]
    assert sorted(one.year for some in folds for one in some) == sorted(one.year for one in speeches())


def test_a_query_is_no_part_of_its_document_and_no_text_comes_twice():
    some = speeches()[:3]
    for data in (slim_speeches.sentence_queries(some, 100, None), slim_speeches.neighbours(some, 60, None)):
        assert len({*data.queries, *data.documents}) == 2 * len(data.queries)
        pairs = zip(data.queries, data.documents, data.speeches, strict=True)
        assert all(query not in document and query in some[number].text for query, document, number in pairs)
    assert len(slim_speeches.neighbours(some, 60, 7).queries) == 7


def test_ranks_are_those_of_each_querys_own_row():
    index = torch.eye(3)
    assert slim_speeches.ranks_in(index, index[[0, 2, 1]]) == [1, 3, 3]


def test_vectors_reach_the_goal_or_fall_short():
    told = slim_vectors.verdicts(searched(teacher=80, **{"3_layers": 77}))
    assert told[0].startswith("holds: 3 layers: 95% of the teacher's recall@1: 96.2%; above that by +0.0100")
    told = slim_vectors.verdicts(searched(teacher=80, **{"3_layers": 75}))
    assert told[0].startswith("falls short: 3 layers: 95% of the teacher's recall@1: 93.8%; above that by -0.0100")


def test_pairs_tell_what_is_regained_and_whether_losses_are_the_same():
    results = searched(original=80, spoiled=40, trained=70)
    results["rows"].append({"name": "gradient caching", "losses": {"at once": [1.0, 0.5], "in parts": [1.0, 0.500001]}})
    told = slim_pairs.verdicts(results)
    assert told[0].startswith("recall@1 regained: 75.0% of what was lost; less the original's: -0.1000")
    assert told[2].startswith("holds: with and without gradient caching the same loss to 1e-05: 1.0e-06")
    results["rows"][-1]["losses"]["in parts"][0] = 1.1
    assert slim_pairs.verdicts(results)[2].startswith("falls short")


def test_trimming_holds_what_is_promised_or_falls_short():
    sound = {"name": "few", "bytes": 50, "parameters": 60, "same_rows": 1.0, "largest_difference_of_outputs": 2e-7}
    results = {"rows": [{"name": "original", "bytes": 100, "parameters": 100}, sound]}
    assert slim_trim.verdicts(results) == [
        "holds: few: the same tokens, and their rows to the bit",
        "holds: few: outputs at most 1e-6 apart: 2.0e-07",
        "few: 50.0% fewer bytes, 40.0% fewer parameters",
    ]
    results["rows"][1] = sound | {"same_tokens": 0.99, "largest_difference_of_outputs": 2e-6}
    assert [one.partition(":")[0] for one in slim_trim.verdicts(results)[:2]] == ["falls short", "falls short"]


def predicted(**off):
    """Results of models that miss each of 20 speakers' years by so many, and tell every party."""
    speakers = [f"speaker {i}" for i in range(20)]
    case = {"seed": 0, "fold": 0, "speakers": speakers, "years": [1900] * 20, "parties": [1.0, -1.0, 0.0, 1.0] * 5}
    rows = [
        {"name": name, **case, "said_years": [1900 + years + i % 3 for i in range(20)], "said_parties": case["parties"]}
        for name, years in off.items()
    ]
    return {"rows": rows}


def test_long_tells_whichever_wins():
    names = {slim_long.LONG: 5, slim_long.LIMIT: 9, slim_long.CHUNKS: 4}
    told = slim_long.verdicts(predicted(**names))
    assert told[0].startswith("years off: lengthened wins: lengthened less its own limit -4.0000")
    assert told[1].startswith("years off: averaged chunks wins: lengthened less averaged chunks +1.0000")
    assert told[2].startswith("parties told: neither wins against its own limit")
    assert slim_long.parties_right(predicted(**names), slim_long.LONG)[0] == [1.0] * 15


def test_chunks_and_the_whole_are_the_same_text():
    tokenizer = slim_long._model(slim_long.PLANS["smoke"], 0).tokenizer
    text = speeches()[0].text
    cut = slim_long._Cut(tokenizer=tokenizer, size=100, chunks=3)
    (whole,) = cut.whole(text)
    assert text.startswith(whole)
    assert len(tokenizer.encode_plain(whole)[0]) == 300
    assert len(cut.all(text)) == 3
    assert cut.first(text) == cut.all(text)[:1]
    assert "".join(cut.all(text)).replace(" ", "") == whole.replace(" ", "")


@pytest.mark.slow
@pytest.mark.parametrize("part", ["vectors", "pairs", "long", "trim"])
def test_smoke_runs_go_to_the_end(part, tmp_path, capsys):
    out = tmp_path / "results.json"
    given = [part, "--budget", "smoke", "--out", str(out), "--plots", str(tmp_path), "--work", str(tmp_path / "runs")]
    assert slim.main(given) == 0
    assert json.loads(out.read_text())["complete"]
    assert (tmp_path / f"slim-{part}.svg").stat().st_size > 0
    first = capsys.readouterr().out
    assert slim.main(given) == 0  # goes on with runs that are over
    assert (
        capsys.readouterr().out.split("load_at_end")[1].split("\n", 1)[1]
        == first.split("load_at_end")[1].split("\n", 1)[1]
    )
