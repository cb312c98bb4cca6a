"""benchmarks/trained.py: data, splits, floors and verdicts, and smoke runs of all parts to the end."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import corpora
import planted
import pytest
import trained
import trained_answerer
import trained_rewriter
import trained_summarizer
import trained_tagger
import trained_translator
from trained_lexicon import lexicon, parts_of, word_by_word
from trained_parts import held_out

import gossamer as gs
from gossamer.text import train_tokenizer
from gossamer.training.config.models import ModelSettings

PAIRS = [
    ("The dog sees the cat.", "El perro ve el gato."),
    ("The cat sees the house.", "El gato ve la casa."),
    ("The dog eats.", "El perro come."),
    ("The cat eats.", "El gato come."),
]


def test_verses_lose_notes_and_marks_but_no_space() -> None:
    marked = '<w lemma="x">God</w><note placement="foot"><reference>1:1 </reference>Elohim.</note><w>created</w>, &amp;'
    assert corpora.plain_verse(marked) == "God created, &"
    assert (
        corpora.plain_verse('my shepherd;<l eID="a"/> <l sID="b"/><w>I</w> shall.<div eID="c"/>')
        == "my shepherd; I shall."
    )


def test_tags_are_those_of_the_word_itself() -> None:
    found = [corpora.simple_tag(tag) for tag in ("nn-tl-hl", "fw-in", "pps+bez", "np$", "--", "ppss+hv*")]
    assert found == ["nn", "in", "pps", "np$", "--", "ppss"]


def test_descriptions_are_joined_without_the_synopsis() -> None:
    listed = "Package: a\nDescription-md5: 1\nDescription-en: a tool\n It does\n .\n  much.\n\nPackage: b\n"
    assert list(corpora._described(listed)) == [("It does much.", "a tool")]


def test_an_archive_of_another_digest_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpora, "CACHE", tmp_path)
    (tmp_path / "a.tgz").write_bytes(b"other")
    with pytest.raises(SystemExit, match="its SHA-256 is"):
        corpora.Archive(name="a.tgz", digest="0" * 64, command=("false",)).path()


def test_no_text_is_on_both_sides() -> None:
    items = [(word, i) for i in range(6) for word in ("a", "b", "c", "d")]
    learnt, judged = held_out(items, 2, lambda item: item[0])
    assert len(judged) == 2
    assert len(learnt) == 12
    assert not {one for one, _ in learnt} & {one for one, _ in judged}
    assert held_out(items[::-1], 2, lambda item: item[0])[1][0][0] == judged[0][0]


def test_word_by_word_learns_who_becomes_whom() -> None:
    table = {one: other for one, (other, _) in lexicon(PAIRS).items()}
    assert (table["dog"], table["cat"], table["house"], table["eats"]) == ("perro", "gato", "casa", "come")
    assert all(0 < likely <= 1 + 1e-9 for _, likely in lexicon(PAIRS).values())
    assert word_by_word(PAIRS, ["The cat sees a Dog."]) == ["El gato ve a Perro."]


def test_parts_are_those_between_as_many_marks() -> None:
    pair = ("He came; he saw, and he won.", "Vino; vió, y venció.")
    assert parts_of(pair) == [("He came;", "Vino;"), ("he saw,", "vió,"), ("and he won.", "y venció.")]
    assert parts_of(("He came; he saw, and won.", "Vino; vió y venció.")) == [
        ("He came;", "Vino;"),
        ("he saw, and won.", "vió y venció."),
    ]
    assert parts_of(("He came; he saw.", "Vino; y vió todo lo que había por allí en la tierra.")) == []
    assert parts_of(("He came.", "Vino.")) == []


def test_planted_answers_stand_where_they_are_said_to() -> None:
    learnt, judged = (planted.planted([20, 200, 900], [0.0, 0.5, 1.0], which, 0) for which in (False, True))
    for one in (*learnt, *judged):
        row = one.row()
        (start,), (answer,) = row["answers"]["answer_start"], row["answers"]["text"]
        assert one.context[start : start + len(answer)] == answer
        assert abs(len(one.context.split()) - one.words - 60) < 40
    assert judged[0].start < 200
    assert judged[2].start > len(judged[2].context) - 200
    mine, others = planted.names(True), planted.names(False)
    assert not set(mine.people) & set(others.people)
    assert not set(mine.towns) & set(others.towns)


def test_the_nearest_of_the_kind_is_right_where_it_stands_beside() -> None:
    whom = planted.names(True)
    person, other, town = whom.people[0], whom.people[-1], whom.towns[0]
    context = f"In 1701, while {other}, who had moved in 1650, was away, {person} moved to {town}."
    asked = {"question": "", "context": context, "start": 0, "depth": 0.0, "words": 0}
    assert planted.nearest(planted.Question(kind="year", given=person, answer="1701", **asked), whom) == "1650"
    assert planted.nearest(planted.Question(kind="town", given=person, answer=town, **asked), whom) == town
    span = planted.random_span(planted.Question(kind="town", given=person, answer=town, **asked), random.Random(0))
    assert len(span.split()) == 1


def test_bare_words_keep_what_is_inside_of_them() -> None:
    assert trained_rewriter.bare("“The People’s well-being,” he said -- in 1,000 ways!") == (
        "the people’s well-being he said in 1 000 ways"
    )
    assert trained_rewriter.word_errors(["a", "b", "d", "e"], ["a", "c", "d"]) == 2
    assert trained_rewriter.word_errors([], ["a"]) == 1
    assert trained_rewriter.word_errors(["a", "c"], ["a", "b", "c"]) == 1
    assert trained_rewriter.word_errors(["a", "b", "c"], ["a", "c"]) == 1


def test_the_commonest_tag_of_each_word() -> None:
    train = [[("run", "vb"), ("run", "nn"), ("Run", "vb")], [("rare", "jj")], [("seldom", "jj")], [("x", "y")]]
    assert trained_tagger.by_word(train, [[("run", ""), ("RUN", ""), ("new", "")]]) == [["vb", "vb", "jj"]]


def test_verdicts_follow_the_numbers() -> None:
    rows = [
        {"name": "copying", "chrf": 17.0},
        {"name": "word by word", "chrf": 43.0},
        {"name": "verses alone", "chrf": 30.0},
    ]
    told = trained_translator.verdicts({"rows": rows})
    assert told == [
        "holds: verses alone: chrF above copying, 30.00 and 17.00",
        "against word by word wins: word by word (30.00 and 43.00)",
    ]
    rows[2]["chrf"] = 16.0
    assert trained_translator.verdicts({"rows": rows})[0].startswith("falls short")
    ours, floor = ({"name": name, "rouge_l": share, "each": [share, share + 0.01]} for name, share in (
        ("summarizer", 0.4), ("first seven words", 0.3)))  # fmt: skip
    assert trained_summarizer.verdicts({"rows": [floor, ours]})[0].startswith("holds")
    assert trained_summarizer.verdicts({"rows": [floor | {"each": [0.1, 0.7]}, ours]})[0].startswith("falls short")


def run(part: str, folder: Path, *given: str) -> dict[str, Any]:
    out = folder / "results.json"
    where = ["--out", str(out), "--plots", str(folder), "--work", str(folder / "work" / "trained")]
    assert trained.main([part, "--budget", "smoke", *where, *given]) == 0
    results: dict[str, Any] = json.loads(out.read_text())
    assert results["complete"]
    assert results["verdicts"]
    return results


@pytest.mark.slow
def test_the_translator_goes_to_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = [(f"{one} number {i}", f"{other} número {i}") for i in range(75) for one, other in PAIRS]
    monkeypatch.setattr(trained_translator, "verses", lambda: made)
    first = run("translator", tmp_path)
    written = ["verses alone", "parts and words, too"]
    names = ["copying", "word by word", *(name for one in written for name in (one, f"{one}, 4 beams"))]
    assert [row["name"] for row in first["rows"]] == names
    assert first["rows"][2]["training"]["steps"] == 3
    assert run("translator", tmp_path)["rows"][2]["chrf"] == first["rows"][2]["chrf"]  # finished runs are taken


@pytest.mark.slow
def test_the_tagger_goes_to_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = [[("The", "at"), (f"dog{i}", "nn"), ("eats", "vbz"), (".", ".")] for i in range(60)]
    monkeypatch.setattr(trained_tagger, "brown", lambda: iter(made))
    names = [row["name"] for row in run("tagger", tmp_path)["rows"]]
    assert names == ["majority", "each word's commonest tag", "tagger"]


@pytest.mark.slow
def test_the_answerer_goes_to_the_end(tmp_path: Path) -> None:
    results = run("answerer", tmp_path)
    assert [row["name"] for row in results["rows"]] == ["random span", "nearest of the kind", "answerer"]
    assert {len(row["right"]) for row in results["rows"]} == {10}
    assert (tmp_path / "trained-answerer.svg").stat().st_size > 0


def small_t5(folder: Path) -> Path:
    """A drawn T5 with a tokenizer of its own."""
    texts = [text for pair in PAIRS for text in pair] * 3
    tokenizer = train_tokenizer(texts, family="roberta", vocabulary_size=300)
    config = {
        "model_type": "t5", "architectures": ["T5ForConditionalGeneration"], "d_model": 16, "d_kv": 8, "d_ff": 32,
        "num_layers": 1, "num_heads": 2, "eos_token_id": 2, "decoder_start_token_id": 1,
    }  # fmt: skip
    model = gs.models.Model(ModelSettings(config=config).describe(tokenizer.vocabulary_size), tokenizer=tokenizer)
    model.family = "t5"
    gs.save(model, folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("part", ["summarizer", "rewriter"])
def test_a_tuned_t5_goes_to_the_end(part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = {"summarizer": trained_summarizer, "rewriter": trained_rewriter}[part]
    made = [(f"{one} It is number {i} of all that there are.", f"number {i}") for i in range(12) for one, _ in PAIRS]
    monkeypatch.setattr(trained_summarizer, "descriptions", lambda: made)
    monkeypatch.setattr(module, "write_titles", lambda folder: small_t5(tmp_path / "t5"))
    names = [row["name"] for row in run(part, tmp_path)["rows"]]
    floors = {"summarizer": ["first seven words", "first twelve words"], "rewriter": ["copying"]}[part]
    assert names == [*floors, "before", part]


def test_the_answerer_judges_every_depth_alike() -> None:
    plan = trained_answerer.PLANS["smoke"]
    judged = trained_answerer.to_judge(plan, 0)
    assert [one.depth for one in judged] == [*trained_answerer.DEPTHS] * 2
    assert {one.words for one in trained_answerer.to_learn(plan, 0)} != {one.words for one in judged}
