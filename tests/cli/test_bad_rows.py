"""Bad rows: `gossamer finetune` says of each in one line which file and row, before anything is computed or written."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from finetune_rows import QUESTIONS, SENTENCES, TEXTS

import gossamer as gs
from gossamer.families import get_family
from gossamer.models import Model
from gossamer.text import train_tokenizer


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokenizer = train_tokenizer(["film song Ann sings here"], family="bert", vocabulary_size=60, max_length=32)
    sizes = {
        "max_position_embeddings": 32,
        "hidden_size": 8,
        "num_attention_heads": 2,
        "num_hidden_layers": 1,
        "intermediate_size": 8,
    }
    model = Model(get_family("bert").read({**sizes, "vocab_size": tokenizer.vocabulary_size}), family="bert")
    model.tokenizer = tokenizer
    return gs.save(model, tmp_path_factory.mktemp("bad") / "encoder")


def lines(*rows: Any) -> bytes:
    """A line of JSON each; a text stands there as it is."""
    return "\n".join(one if isinstance(one, str) else json.dumps(one) for one in rows).encode()


PAIRS = [{"text": "film", "text_pair": "song", "label": row["label"]} for row in TEXTS]
SCORES = [{"text": row["text"], "score": i / 2} for i, row in enumerate(TEXTS)]
SEVERAL = [{"text": row["text"], "labels": [row["label"]] * (i % 2)} for i, row in enumerate(TEXTS)]
ENTITIES = [{"text": "Ann sings", "entities": [{"start": 0, "end": 3, "label": "PER"}]}] * 12


TABLE = "".join(f"{row['text']},{row['label']}\n" for row in TEXTS).encode()
QUICK = ["--set", "steps=1", "--set", "epochs=", "--set", "schedule.warmup=0", "--set", "journal.live=false"]


def question(**changes: Any) -> dict[str, Any]:
    return {"question": "who", "context": "Ann sings", "answers": {"text": ["Ann"], "answer_start": [0]}, **changes}


def answers(*answers: Any, starts: Any = (0,)) -> dict[str, Any]:
    return question(answers={"text": list(answers), "answer_start": list(starts)})


def entity(**changes: Any) -> dict[str, Any]:
    return {"text": "Ann sings", "entities": [{"start": 0, "end": 3, "label": "PER", **changes}]}


FILES: dict[str, tuple[str, bytes, str]] = {
    "an empty file": ("rows.jsonl", b"", "rows.jsonl: there are no rows"),
    "blank lines": ("rows.jsonl", b"\n \n", "rows.jsonl: there are no rows"),
    "a table of a head alone": ("rows.csv", b"text,label\n", "rows.csv: there are no rows"),
    "an empty array": ("rows.json", b"[]", "rows.json: there are no rows"),
    "an empty table": ("rows.csv", b"", "rows.csv: there are no rows"),
    "broken JSON of an array": (
        "rows.json",
        b'[{"text": "film", "label": "film"}, {"text"]',
        "rows.json:2: is no JSON",
    ),
    "a number in an array": ("rows.json", b'[{"text": "film", "label": "film"}, 3]', "rows.json:2: is 3"),
    "bytes that are no UTF-8": ("rows.jsonl", lines(*TEXTS) + b'\n{"text": "\xff", "label": "film"}', "rows.jsonl"),
    "a short row of a table": (
        "rows.csv",
        b"text,label\nfilm,film\nsong\n",
        "rows.csv:3: has 1 cells, the first line 2",
    ),
    "an open quote": ("rows.csv", b'text,label\nfilm,film\n"song,song\n', "rows.csv:3: is no row of a table"),
    "two columns of one name": ("rows.csv", b"text,label,label\nfilm,film,song\nsong,song,song\n", "rows.csv"),
    "no parquet": ("rows.parquet", b"PAR1", "rows.parquet: cannot be read as parquet"),
    "no column": ("rows.jsonl", lines({"body": "film"}), "rows.jsonl:1: has the columns 'body'"),
    "no label anywhere": (
        "rows.jsonl",
        lines({"text": "film"}, {"text": "song"}),
        "rows.jsonl:1: has the columns 'text'",
    ),
    "no column of a table": ("rows.csv", b"words_,label\nfilm,film\n", "rows.csv:2: has the columns 'words_', 'label'"),
    "an empty cell": ("rows.csv", b"text,label\nfilm,film\n,song\n", "rows.csv:3: the field 'text' is ''"),
    "one class": ("rows.jsonl", lines(*TEXTS[::2]), "rows.jsonl:1: all rows have the label 'film'"),
    "lists without a label": ("rows.jsonl", lines(*[{"text": "film", "labels": []}] * 12), "rows.jsonl:1"),
    "an endless score": ("rows.csv", b"text,score\nfilm,1\nsong,inf\n", "rows.csv:3: its label is 'inf'"),
    "a score that is no number": ("rows.csv", b"text,score\nfilm,1\nsong,nan\n", "rows.csv:3: its label is 'nan'"),
    "an empty score": ("rows.csv", b"text,score\nfilm,1\nsong,\n", "rows.csv:3: the field 'score' is ''"),
    "one tag": ("rows.jsonl", lines(*[{"tokens": ["Ann"], "tags": ["O"]}] * 12), "rows.jsonl:1: all"),
}
ROWS: dict[str, tuple[list[dict[str, Any]], Any, str]] = {
    "broken JSON": (TEXTS, '{"text": "film", "label"', "is no JSON"),
    "a line that is no object": (TEXTS, "[1, 2]", "is [1, 2]; each line must be"),
    "NaN in JSON": (SCORES, '{"text": "film", "score": NaN}', "the field 'score'"),
    "no label": (TEXTS, {"text": "film"}, "the field 'label' is missing"),
    "no text": (TEXTS, {"label": "film"}, "the field 'text' is missing"),
    "no tags": (SENTENCES, {"tokens": ["Ann"]}, "the field 'tags' is missing"),
    "no tokens": (SENTENCES, {"tags": ["O"]}, "the field 'tokens' is missing"),
    "no entities": (ENTITIES, {"text": "Ann"}, "the field 'tokens' is missing (it has: text); it must be"),
    "no score": (SCORES, {"text": "film"}, "the field 'score' is missing"),
    "no context": (QUESTIONS, {"question": "who", "answers": []}, "the field 'context' is missing"),
    "no answers": (QUESTIONS, {"question": "who", "context": "Ann"}, "the field 'answers' is missing"),
    "an empty text": (TEXTS, {"text": "", "label": "film"}, "the field 'text' is ''"),
    "a blank text": (TEXTS, {"text": " \t", "label": "film"}, "the field 'text' is ' \\t'"),
    "a number for a text": (TEXTS, {"text": 3, "label": "film"}, "the field 'text' is 3"),
    "half a pair": (PAIRS, {"text": "film", "text_pair": "", "label": "film"}, "the field 'text_pair' is ''"),
    "half a character": (TEXTS, '{"text": "\\ud800", "label": "film"}', "the field 'text' is"),
    "an empty label": (TEXTS, {"text": "film", "label": ""}, "the field 'label' is ''"),
    "true for a label": (TEXTS, {"text": "film", "label": True}, "the field 'label' is True"),
    "null for a label": (TEXTS, {"text": "film", "label": None}, "the field 'label' is None"),
    "an object for a label": (TEXTS, {"text": "film", "label": {"a": 1}}, "the field 'label' is {"),
    "a list beside labels": (TEXTS, {"text": "film", "label": ["film"]}, ""),
    "a number beside labels": (TEXTS, {"text": "film", "label": 1.5}, ""),
    "a label beside lists": (SEVERAL, {"text": "film", "labels": "film"}, ""),
    "a list of two kinds": (SEVERAL, {"text": "film", "labels": ["film", 1]}, "the field 'labels' is"),
    "a text for a score": (SCORES, {"text": "film", "score": "good"}, "its label is 'good'"),
    "a score too large": (SCORES, {"text": "film", "score": 1e39}, "its label is 1e+39"),
    "fewer tags": (SENTENCES, {"tokens": ["Ann", "sings"], "tags": ["O"]}, "the field 'tags' is ['O']"),
    "no words": (SENTENCES, {"tokens": [], "tags": []}, "the field 'tokens' is []"),
    "a text for words": (SENTENCES, {"tokens": "Ann", "tags": ["O", "O", "O"]}, "the field 'tokens' is 'Ann'"),
    "a text for tags": (SENTENCES, {"tokens": ["A", "b", "c"], "tags": "OOO"}, "the field 'tags' is 'OOO'"),
    "an empty word": (SENTENCES, {"tokens": ["Ann", ""], "tags": ["O", "O"]}, "the field 'tokens' is ['Ann', '']"),
    "null for a tag": (SENTENCES, {"tokens": ["Ann"], "tags": [None]}, "the field 'tags' is [None]"),
    "an entity behind the text": (ENTITIES, entity(end=99), "the entity"),
    "an entity of nothing": (ENTITIES, entity(end=0), "the entity"),
    "an entity without a label": (ENTITIES, entity(label=None), "the entity"),
    "an answer that is not there": (QUESTIONS, answers("Bo"), "the answer 'Bo' does not stand"),
    "an answer elsewhere": (QUESTIONS, answers("Ann", starts=[4]), "the answer 'Ann' does not stand"),
    "an answer before the text": (QUESTIONS, answers("Ann", starts=[-1]), "the answer 'Ann' "),
    "an answer without a place": (QUESTIONS, answers("Ann", starts=[]), "the field 'answers' is"),
    "an empty answer": (QUESTIONS, answers(""), "the answer ''"),
    "a text for answers": (QUESTIONS, question(answers="Ann"), "the field 'answers' is 'Ann'"),
    "a number for a question": (QUESTIONS, question(question=3), "the field 'question' is 3"),
    "an empty context": (QUESTIONS, question(context=" "), "the field 'context' is ' '"),
    "a question too long": (QUESTIONS, question(question="who " * 90), "its question is"),
}
"""Rows that are well, a thirteenth that is not, and what is said of that."""
CASES = FILES | {
    case: ("rows.jsonl", lines(*before, row), f"rows.jsonl:13: {message}" if message else "rows.jsonl:13")
    for case, (before, row, message) in ROWS.items()
}


READ = {
    "a byte order mark": ("rows.jsonl", b"\xef\xbb\xbf" + lines(*TEXTS)),
    "lines of Windows": ("rows.jsonl", lines(*TEXTS).replace(b"\n", b"\r\n") + b"\r\n"),
    "blank lines between": ("rows.jsonl", lines(*TEXTS).replace(b"\n", b"\n\n")),
    "a table with both": ("rows.csv", b"\xef\xbb\xbftext,label\r\n" + TABLE.replace(b"\n", b"\r\n")),
    "a table": ("rows.csv", b"text,label\n" + TABLE),
}


@pytest.mark.parametrize("case", READ)
def test_marks_and_line_ends_are_no_part_of_a_row(
    gossamer: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoder: Path, case: str
) -> None:
    name, content = READ[case]
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(content)
    done = gossamer("finetune", encoder, "--train", name, "--out", "out", "--batch", 4, *QUICK)
    assert (done.code, done.err) == (0, "")
    digest = json.loads(next(Path("out/checkpoints").glob("step-*/state.json")).read_text())["data"]
    Path("plain.jsonl").write_bytes(lines(*TEXTS))
    gossamer("finetune", encoder, "--train", "plain.jsonl", "--out", "plain", "--batch", 4, *QUICK)
    assert json.loads(next(Path("plain/checkpoints").glob("step-*/state.json")).read_text())["data"] == digest
    assert gs.load("out/last").architecture.head.labels == ("film", "song")


@pytest.mark.parametrize("case", CASES)
def test_bad_rows_are_told_by_file_and_row(
    gossamer: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoder: Path, case: str
) -> None:
    name, content, message = CASES[case]
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(content)
    monkeypatch.setattr("gossamer.training.run.Run.update", lambda run: pytest.fail("it computes"))
    done = gossamer("finetune", encoder, "--train", name, "--out", "out", "--batch", 2)
    assert (done.code, done.out) == (2, "")
    assert message in done.error
    assert [path.name for path in Path().rglob("*") if path.name != ".lock"] in ([name], ["out", name], [name, "out"])
