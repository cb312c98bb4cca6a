"""The verbs fill-mask, classify, tag and answer on small models: pages, JSON, files, and what they refuse."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import gossamer as gs
from gossamer.models import (
    Head,
    MaskedLM,
    Model,
    PreTraining,
    QuestionAnswering,
    SequenceClassification,
    TokenClassification,
)

Command = Callable[..., Any]
HEADS: dict[str, Head] = {
    "fill-mask": MaskedLM(),
    "classify": SequenceClassification(labels=("no", "yes")),
    "tag": TokenClassification(labels=("B-PER", "I-PER")),
    "answer": QuestionAnswering(),
}
LONG = "word " * 60
TEXT = {"fill-mask": "a [MASK] cat", "classify": "a cat", "tag": "Ada wrote", "answer": "Ada wrote to Charles"}


@pytest.fixture(scope="session")
def with_head(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The small model with the head of a task, saved."""
    made: dict[str, Path] = {}

    def make(verb: str) -> Path:
        if verb not in made:
            torch.manual_seed(0)
            model = gs.load(small, head=HEADS[verb])
            made[verb] = gs.save(model, tmp_path_factory.mktemp("heads") / verb)
        return made[verb]

    return make


def asked(verb: str) -> list[str]:
    """The arguments before the texts."""
    return ["who wrote"] if verb == "answer" else []


@pytest.mark.parametrize("verb", HEADS)
def test_json_holds_what_the_task_gives(gossamer: Command, with_head: Callable[[str], Path], verb: str) -> None:
    path = with_head(verb)
    done = gossamer(verb, path, *asked(verb), TEXT[verb], TEXT[verb] + " too", "--json")
    assert (done.code, done.err) == (0, "")
    found = gs.task(verb, gs.load(path))(*asked(verb), [TEXT[verb], TEXT[verb] + " too"]).to_dict()
    field = {"fill-mask": "masks", "classify": "labels", "tag": "entities", "answer": "answers"}[verb]
    assert json.loads(json.dumps([one[field] for one in done.json["texts"]])) == json.loads(json.dumps(found[field]))
    assert [one["tokens"] for one in done.json["texts"]] == found["tokens"]
    assert [one["source"] for one in done.json["texts"]] == ["argument 1", "argument 2"]
    assert ("null_score" in done.json["texts"][0]) == (verb == "answer")


@pytest.mark.parametrize("verb", HEADS)
def test_a_batch_size_bounds_what_is_read_at_once(
    gossamer: Command, with_head: Callable[[str], Path], verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    forward = Model.forward
    monkeypatch.setattr(Model, "forward", lambda *x, **more: read.append(x[1].numel()) or forward(*x, **more))
    length = gs.load(with_head(verb)).reading_length()
    arguments = (verb, with_head(verb), *asked(verb), *(f"{TEXT[verb]} {LONG}" for _ in range(3)), "--json")
    results = []
    for size in (1, 2, 9):
        read.clear()
        done = gossamer(*arguments, "--batch-size", size)
        assert done.code == 0
        assert max(read) <= size * length
        results.append(([text["tokens"] for text in done.json["texts"]], len(read)))
    assert results[0][0] == results[1][0] == results[2][0]
    assert results[0][1] > results[1][1] > results[2][1]
    refused = gossamer(*arguments, "--batch-size", "0")
    assert refused.code == 2
    assert "--batch-size" in refused.err


@pytest.mark.parametrize("verb", HEADS)
def test_pages(gossamer: Command, with_head: Callable[[str], Path], verb: str) -> None:
    done = gossamer(verb, with_head(verb), *asked(verb), TEXT[verb])
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0] == TEXT[verb]
    assert lines[1].endswith("tokens, 1 pass")
    assert "score" in lines[2]
    assert len(lines) > 4
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize("verb", HEADS)
def test_long_texts_are_read_and_said_to_be(gossamer: Command, with_head: Callable[[str], Path], verb: str) -> None:
    text = f"{LONG} {TEXT[verb]}"
    done = gossamer(verb, with_head(verb), *asked(verb), text, "--json")
    assert done.code == 0
    assert done.error.startswith("gossamer: argument 1 ")
    assert "the model reads 32: read in overlapping passes" in done.error
    assert done.json["notes"][0] in done.error
    assert done.json["texts"][0]["passes"] > (0 if verb == "fill-mask" else 1)
    refused = gossamer(verb, with_head(verb), *asked(verb), text, "--long", "error", "--json")
    assert (refused.code, refused.json["error"]["type"]) == (2, "InputError")


@pytest.mark.parametrize("verb", HEADS)
def test_texts_come_from_files(gossamer: Command, with_head: Callable[[str], Path], tmp_path: Path, verb: str) -> None:
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"body": TEXT[verb] + more}) + "\n" for more in ("", " b")))
    (tmp_path / "b.txt").write_text(TEXT[verb])
    files = ("--file", tmp_path / "a.jsonl", tmp_path / "b.txt")
    done = gossamer(verb, with_head(verb), *asked(verb), *files, "--field", "body", "--json")
    assert done.code == 0
    assert [one["source"].rpartition("/")[2] for one in done.json["texts"]] == ["a.jsonl:1", "a.jsonl:2", "b.txt"]


@pytest.mark.parametrize("verb", HEADS)
def test_rows_keep_their_fields(gossamer: Command, with_head: Callable[[str], Path], tmp_path: Path, verb: str) -> None:
    rows = tmp_path / "rows.jsonl"
    row = {"id": 7, "text": TEXT[verb], "source": "mine", "tokens": None, "input_source": [1]}
    rows.write_text(json.dumps(row))
    found = gossamer(verb, with_head(verb), *asked(verb), "--file", rows, "--json").json["texts"][0]
    plain = gossamer(verb, with_head(verb), *asked(verb), TEXT[verb], "--json").json["texts"][0]
    added = {"id": 7, "input_source": [1], "input_input_source": "mine", "input_tokens": None}
    assert found == plain | added | {"source": f"{rows}:1"}


def test_options_reach_the_tasks(gossamer: Command, with_head: Callable[[str], Path], tmp_path: Path) -> None:
    fill = with_head("fill-mask")
    data = gossamer("fill-mask", fill, "a [MASK]", "--target", "cat", "--target", "dog", "--json").json
    assert {one["token_str"] for one in data["texts"][0]["masks"][0]["fills"]} == {"cat", "dog"}
    data = gossamer("fill-mask", fill, "a [MASK]", "--top-k", 2, "--dtype", "bfloat16", "--json").json
    assert len(data["texts"][0]["masks"][0]["fills"]) == 2
    data = gossamer("tag", with_head("tag"), "Ada wrote it", "--aggregation", "none", "--json").json
    assert len(data["texts"][0]["entities"]) == 3
    raw = gossamer("classify", with_head("classify"), "a cat", "--function-to-apply", "none", "--json").json
    classify = gs.task("classify", gs.load(with_head("classify")))
    assert raw["texts"][0]["labels"] == classify("a cat", function_to_apply="none").to_dict()["labels"][0]
    assert raw["function_to_apply"] == "none"
    tagged = gossamer("tag", with_head("tag"), "Ada wrote it", "--max-length", 3).err
    assert "argument 1 is 5 tokens long, the model reads 3: read in overlapping passes" in tagged
    refused = gossamer("classify", with_head("classify"), "a", "--max-length", 0)
    assert (refused.code, refused.err[:27]) == (2, "gossamer: --max-length is 0")
    answers = ("answer", with_head("answer"), "who", "Ada wrote it", "--top-k", 99, "--json")
    several = gossamer(*answers, "--max-answer-tokens", 1).json["texts"][0]["answers"]
    assert sorted(one["text"] for one in several) == ["Ada", "it", "wrote"]
    assert "" in [one["text"] for one in gossamer(*answers, "--impossible").json["texts"][0]["answers"]]


def test_a_rows_own_pair_is_read_and_said_to_be(
    gossamer: Command, with_head: Callable[[str], Path], tmp_path: Path
) -> None:
    rows = tmp_path / "pairs.jsonl"
    rows.write_text('{"text": "a cat", "text_pair": "a dog"}\n{"text": "a", "text_pair": "b"}\n')
    own, named = (
        gossamer("classify", with_head("classify"), "--file", rows, *more, "--json")
        for more in ((), ("--pair-field", "text_pair"))
    )
    assert "the rows have a field 'text_pair', which is read with each text" in own.err
    assert [one["labels"] for one in own.json["texts"]] == [one["labels"] for one in named.json["texts"]]


def test_pairs(gossamer: Command, with_head: Callable[[str], Path], tmp_path: Path) -> None:
    path = with_head("classify")
    expected = gs.task("classify", gs.load(path))(["a cat", "a dog"], ["it sleeps"] * 2).to_dict()["labels"]
    done = gossamer("classify", path, "a cat", "a dog", "--pair", "it sleeps", "--json")
    assert [one["labels"] for one in done.json["texts"]] == expected
    rows = [{"text": text, "other": "it sleeps"} for text in ("a cat", "a dog")]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = gossamer("classify", path, "--file", tmp_path / "pairs.jsonl", "--pair-field", "other", "--json")
    assert [one["labels"] for one in done.json["texts"]] == expected


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["fill-mask", "{small}", "[MASK]"], "the model's head is 'embed', so it cannot fill masks in texts"),
        (["fill-mask", "{fill-mask}", "a cat"], "argument 1 has no mask: write [MASK] where a token is wanted"),
        (["fill-mask", "{fill-mask}", "a [MASK]", "--target", "qqzz"], "target 'qqzz' is no token of the vocabulary"),
        (["fill-mask", "/nowhere", "a [MASK]", "--top-k", "0"], "--top-k is 0; it must be a whole number, 1 or more"),
        (["fill-mask", "/nowhere"], "there is no text; give TEXT, or --file FILE"),
        (["classify", "{small}", "a"], "the model's head is 'embed', so it cannot classify texts"),
        (
            ["classify", "/nowhere", "a", "--pair-field", "b"],
            "argument 1: the field 'b' is missing",
        ),
        (
            ["classify", "/nowhere", "a", "--pair", "b", "--pair-field", "b"],
            "--pair 'b' and --pair-field 'b' were both",
        ),
        (["classify", "/nowhere", "a", "--top-k", "x"], "--top-k is 'x'; it must be a whole number"),
        (["tag", "/nowhere", "a", "--aggregation", "mean"], "'mean' is not one of"),
        (["tag", "{small}", "a"], "so it cannot tag texts"),
        (["answer", "/nowhere"], "Missing argument 'QUESTION'"),
        (["answer", "/nowhere", " ", "a"], "QUESTION is ' '; ask something"),
        (["answer", "/nowhere", "who"], "there is no text; give TEXT"),
        (["answer", "/nowhere", "who", "a", "--max-answer-tokens", "0"], "--max-answer-tokens is 0"),
        (["answer", "{answer}", "who " * 40, "a"], "QUESTION is 40 tokens long, which leaves no room"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_mistakes_are_told_in_one_line(
    gossamer: Command, small: Path, with_head: Callable[[str], Path], args: list[str], said: str
) -> None:
    paths = {"{small}": small} | {f"{{{verb}}}": with_head(verb) for verb in HEADS if f"{{{verb}}}" in args}
    done = gossamer(*[paths.get(one, one) for one in args])
    assert (done.code, done.out) == (2, "")
    assert said in done.error


def test_refusals_name_the_place_and_the_option(
    gossamer: Command, with_head: Callable[[str], Path], tmp_path: Path
) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"text": "a [MASK]"}\n{"text": "a", "other": null}\n')
    assert f"{file}:2 has no mask" in gossamer("fill-mask", with_head("fill-mask"), "--file", file).err
    refused = gossamer("tag", with_head("tag"), LONG, "--long", "error").error
    assert refused.startswith("gossamer: argument 1 is ")
    assert "gossamer lengthen MODEL --to 64 --out DIR, or give --long chunk or --long truncate" in refused
    pairs = ("classify", with_head("classify"), "--file", file, "--pair-field", "other")
    missing = gossamer(*pairs).error
    assert f"{file}:1: the field 'other' is missing (it has: none but its text); name one" in missing
    assert missing.endswith("with --pair-field")
    nothing = gossamer("tag", with_head("tag"), "--file", file, "--field", "other").error
    assert f"{file}:1: the field 'other' is missing (it has: text); name the field" in nothing
    assert nothing.endswith("with --field")
    file.write_text('{"text": null}\n')
    assert "the field 'text' is None; name the field" in gossamer("tag", with_head("tag"), "--file", file).error
    pair = gossamer("classify", with_head("classify"), "a", "--pair", " ").error
    assert "argument 1: the second text is empty" in pair


def test_small_scores_are_no_zeros(gossamer: Command, with_head: Callable[[str], Path]) -> None:
    done = gossamer("fill-mask", with_head("fill-mask"), "a [MASK]", "--target", "cat")
    assert "e-0" in done.out
    assert "0.0000" not in done.out


@pytest.fixture(scope="session")
def pre_trained(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of two heads: masked tokens, and whether one text follows the other."""
    torch.manual_seed(0)
    return gs.save(gs.load(small, head=PreTraining()), tmp_path_factory.mktemp("heads") / "pre-trained")


def test_one_of_several_heads_is_read_where_it_is_named(gossamer: Command, pre_trained: Path) -> None:
    text = "a [MASK] cat"
    assert (
        "the model's head is 'next-sentence'"
        in gossamer("fill-mask", pre_trained, text, "--head", "next-sentence").error
    )
    done = gossamer("fill-mask", pre_trained, text, "--head", "masked-lm", "--json")
    fill = gs.task("fill-mask", gs.load(pre_trained, head="masked-lm"))
    assert done.json["texts"][0]["masks"] == json.loads(json.dumps(fill([text]).to_dict()["masks"][0]))


def test_a_head_that_is_not_there_is_one_line(gossamer: Command, pre_trained: Path) -> None:
    refused = gossamer("fill-mask", pre_trained, "a [MASK] cat", "--head", "masked")
    assert (refused.code, refused.error.split("; it must be one of none, ")[0]) == (2, "gossamer: --head is 'masked'")
    assert gossamer("embed", pre_trained, "a cat").error == (
        "gossamer: the model's head is 'pre-training'; load it with --head embed to embed texts"
    )
    assert gossamer("embed", pre_trained, "a cat", "--head", "embed").code == 0


READING = {"classify": (), "tag": (), "answer": ("what?",), "fill-mask": (), "generate": (), "embed": ()}
"""Each verb that reads a text by a head, and what it is told before the text."""


@pytest.mark.parametrize("verb", READING)
def test_every_verb_refuses_a_head_that_is_not_there_in_one_line(
    gossamer: Command, pre_trained: Path, verb: str
) -> None:
    for wrong in ("WRONG", "question_answering", ""):
        done = gossamer(verb, pre_trained, *READING[verb], "a cat", "--head", wrong)
        assert done.code == 2
        assert done.error.startswith(f"gossamer: --head is {wrong!r}; it must be one of none, ")
        assert done.error.count("\n") == 0


def test_numbers_that_json_does_not_have_become_null_and_a_note(
    gossamer: Command, with_head: Callable[[str], Path], small: Path, tmp_path: Path
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "a cat", "x": NaN, "y": {"z": [-Infinity, 1.5]}}\n' * 2)
    said = "gossamer: NaN and infinity in the fields of rows, which JSON does not have, are null in the result"
    for args in (("classify", with_head("classify")), ("embed", small)):
        done = gossamer(*args, "--file", rows, "--json")
        listed = done.json["texts" if args[0] == "classify" else "rows"]
        assert [(row["x"], row["y"]) for row in listed] == [(None, {"z": [None, 1.5]})] * 2
        assert done.error == said
    assert gossamer("embed", small, "--file", rows).err == ""


BAD = '{"text": "a cat"}\n{"text": "", "id": 7}\n{"body": 1}\nno json\n[1]\n{"text": "a dog", "id": 8}\n'
SAID = ["", ":2: the text is empty", ":3: the field 'text' is missing", ":4: is no JSON", ":5: is [1]; each line", ""]


@pytest.mark.parametrize("to", ["page", "json", "out"])
def test_bad_rows_are_told_with_their_place_and_the_others_go_on(
    gossamer: Command, with_head: Callable[[str], Path], tmp_path: Path, to: str
) -> None:
    file, out = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    file.write_text(BAD)
    how = {"page": [], "json": ["--json"], "out": ["--out", out]}[to]
    done = gossamer("classify", with_head("classify"), "--file", file, *how)
    assert done.code == 2
    lines = done.err.splitlines()
    assert lines[0] == "gossamer: 4 of 6 texts could not be read"
    assert lines[1].startswith(f"gossamer: {file}:2: the text is empty")
    assert lines[3] == "gossamer: and 2 more texts like these"
    if to == "page":
        assert done.out.count("score") == 2
        return
    rows = done.json["texts"] if to == "json" else [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["source"] for row in rows] == [f"{file}:{i}" for i in range(1, 7)]
    for row, said in zip(rows, SAID, strict=True):
        assert ("labels" in row) == (not said)
        assert row.get("error", "").startswith(f"{file}{said}" if said else "")
    assert rows[1]["id"] == 7
    assert rows[5]["id"] == 8
    classify = gs.task("classify", gs.load(with_head("classify")))
    expected = classify(["a cat", "a dog"]).to_dict()["labels"][1]
    assert [one["label"] for one in rows[5]["labels"]] == [one["label"] for one in expected]
    assert [one["score"] for one in rows[5]["labels"]] == pytest.approx([one["score"] for one in expected])


def test_nothing_but_bad_rows_is_refused(gossamer: Command, with_head: Callable[[str], Path], tmp_path: Path) -> None:
    file, out = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    file.write_text('{"text": ""}\n{"text": 5}\n')
    done = gossamer("classify", with_head("classify"), "--file", file, "--out", out)
    assert (done.code, done.out) == (2, "")
    assert f"{file}:1: the text is empty" in done.error
    assert not out.exists()


@pytest.mark.parametrize("verb", HEADS)
def test_rows_are_written_as_they_are_read(
    gossamer: Command, with_head: Callable[[str], Path], tmp_path: Path, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gossamer.tasks.stream.GROUP_ITEMS", 3)
    file, out = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    file.write_text("".join(json.dumps({"text": f"{TEXT[verb]} {i}", "id": i}) + "\n" for i in range(10)))
    done = gossamer(verb, with_head(verb), *asked(verb), file, "--out", out)
    assert (done.code, done.out.strip()) == (0, f"10 rows written to {out}")
    listed = gossamer(verb, with_head(verb), *asked(verb), file, "--json").json
    assert [json.loads(line) for line in out.read_text().splitlines()] == listed["texts"]
    told = gossamer(verb, with_head(verb), *asked(verb), file, "--out", out, "--json").json
    assert told | {"out": str(out), "rows": 10, "errors": 0} == told


def test_an_interrupt_leaves_the_rows_that_are_finished(
    gossamer: Command, with_head: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gossamer.tasks.stream.GROUP_ITEMS", 2)
    file, out = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    file.write_text('{"text": "a cat"}\n' * 9)
    out.write_text("mine")
    groups = []

    def interrupting(*x: Any, **more: Any) -> Any:
        groups.append(1)
        if len(groups) == 3:
            raise KeyboardInterrupt
        return forward(*x, **more)

    forward = Model.forward
    monkeypatch.setattr(Model, "forward", interrupting)
    done = gossamer("classify", with_head("classify"), "--file", file, "--out", out)
    assert done.code == 130
    assert out.read_text() == "mine"
    assert len((tmp_path / "out.partial.jsonl").read_text().splitlines()) == 4
    assert f"4 rows are finished and in {tmp_path / 'out.partial.jsonl'}" in done.err


def test_lines_are_texts_of_their_own(
    gossamer: Command, with_head: Callable[[str], Path], small: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text("a cat\n\na dog\n")
    done = gossamer("classify", with_head("classify"), tmp_path / "a.txt", "--lines", "--json")
    assert [one["source"] for one in done.json["texts"]] == [f"{tmp_path / 'a.txt'}:1", f"{tmp_path / 'a.txt'}:3"]
    vectors = gossamer("embed", small, tmp_path / "a.txt", "--lines", "--json").json
    assert [one["source"] for one in vectors["texts"]] == [one["source"] for one in done.json["texts"]]


def test_out_is_checked_before_anything_is_read(gossamer: Command, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a"}')
    for out, said in ((tmp_path / "a.txt", "must end in .jsonl"), (tmp_path / "a.jsonl", "is one of the texts"),
                      (tmp_path / "no" / "a.jsonl", "there is no directory")):  # fmt: skip
        done = gossamer("classify", "/nowhere", tmp_path / "a.jsonl", "--out", out)
        assert done.code == 2
        assert said in done.error


def test_options_of_passes_and_rules_of_labels_reach_the_tasks(
    gossamer: Command, with_head: Callable[[str], Path]
) -> None:
    passes = [
        gossamer("tag", with_head("tag"), LONG, "--stride", stride, "--json").json["texts"][0]["passes"]
        for stride in (0, 20)
    ]
    assert passes[0] < passes[1]
    refused = gossamer("tag", with_head("tag"), LONG, "--stride", 30)
    assert "--stride is 30; it must be less than the 30 tokens of a text that a pass holds" in refused.error
    assert gossamer("tag", with_head("tag"), "Ada wrote it", "--constrained").code == 0
