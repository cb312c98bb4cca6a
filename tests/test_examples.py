"""The examples: each runs and prints a number beside floors, and beats those that are named here and no others."""

import ast
import json
import math
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from gossamer.tasks import TASKS
from gossamer.training.config import TrainingConfig

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
CONFIGS = sorted(path.name for path in EXAMPLES.glob("*.yaml"))
SHARED = {"docstrings.py"}
"""What examples read from; no example itself."""
LINE = re.compile(r"([^;]+?) (\d[\d.]*); (.+)")


@dataclass(frozen=True, kw_only=True)
class Case:
    """An example: the floors that its number beats, and those that it does not; lower: whether less is better."""

    beats: tuple[str, ...]
    loses: tuple[str, ...] = ()
    lower: bool = False


CASES = {
    "answer.py": Case(beats=("the first name", "a name that the question spells")),
    "classify.py": Case(beats=("majority", "bag of words")),
    "compact.py": Case(beats=("bag of words", "chance"), loses=("the whole model",)),
    "compare.py": Case(beats=("half of the layers", "bag of words", "chance")),
    "distill.py": Case(beats=("untrained layers", "the mean vector")),
    "embed.py": Case(beats=("chance", "bag of words")),
    "fill_mask.py": Case(beats=("the commonest word",), loses=("the usual word behind the last",)),
    "generate.py": Case(beats=("bytes alone",), loses=("by the last byte",), lower=True),
    "heal.py": Case(beats=("before", "the frequencies of tokens"), lower=True),
    "lengthen.py": Case(beats=("cut to 512 tokens", "chance")),
    "prune.py": Case(beats=("drawn weights", "bag of words", "chance")),
    "score.py": Case(beats=("the mean year",), loses=("bag of words",), lower=True),
    "sentence_pairs.py": Case(beats=("before", "bag of words", "chance")),
    "several_labels.py": Case(beats=("every label",), loses=("bag of words",)),
    "similar.py": Case(beats=("chance", "bag of words")),
    "share.py": Case(beats=("before it learnt", "the mean vector")),
    "tag.py": Case(beats=("majority", "each word's commonest tag")),
    "trim.py": Case(beats=("letters alone", "chance")),
}


def read_line(text: str) -> tuple[str, float, dict[str, float]]:
    """What is told, its value, and the floors beside it."""
    found = LINE.fullmatch(text)
    assert found is not None, text
    floors = dict(one.rsplit(" ", 1) for one in found[3].split(", "))
    return found[1], float(found[2]), {name: float(value) for name, value in floors.items()}


def documented() -> dict[str, str]:
    """The line of each example in docs/examples.md."""
    page = (ROOT / "docs" / "examples.md").read_text(encoding="utf-8")
    return dict(re.findall(r"^\| \[([\w.-]+)\]\(\.\./examples/[\w.-]+\) \|.*\| ([^|]+) \|$", page, re.MULTILINE))


def settings_of(config: str) -> dict[str, Any]:
    settings: dict[str, Any] = yaml.safe_load((EXAMPLES / config).read_text(encoding="utf-8"))
    return settings


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "2", "PYTHONDONTWRITEBYTECODE": "1"}


def test_every_example_has_a_case_and_a_line_in_the_docs() -> None:
    scripts = {path.name for path in EXAMPLES.glob("*.py")} - SHARED
    assert scripts == CASES.keys()
    assert documented().keys() == scripts
    for name, case in CASES.items():
        _, value, floors = read_line(documented()[name])
        assert {name for name, floor in floors.items() if (value < floor if case.lower else value > floor)} == {
            *case.beats
        }
        assert floors.keys() == {*case.beats, *case.loses}


@pytest.mark.parametrize("name", [*CASES, *sorted(SHARED)])
def test_a_script_parses_and_is_short(name: str) -> None:
    text = (EXAMPLES / name).read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(text))
    assert len(text.splitlines()) <= 60


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_reads(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = settings_of(name)["data"]
    train = data["train"] if isinstance(data, dict) else data
    if train != "speeches":
        Path(train).touch()
    assert TrainingConfig.read(EXAMPLES / name).evaluation.has_text
    assert f"gossamer train examples/{name}" in (EXAMPLES / name).read_text(encoding="utf-8")


ELSEWHERE = {
    **dict.fromkeys(("rewrite", "summarize", "translate"), "benchmarks/trained.py: minutes of training"),
    **dict.fromkeys(("rank", "zero-shot"), "no trained model is at hand: tests compare drawn ones with their peers"),
    "score": "docs/tasks.md",
}
"""Tasks without an example, and why."""


def test_every_task_has_an_example() -> None:
    texts = "".join((EXAMPLES / name).read_text(encoding="utf-8") for name in CASES)
    shown = set(re.findall(r'gs\.task\("([\w-]+)"', texts))
    assert shown | ELSEWHERE.keys() == TASKS.keys()
    assert not shown & ELSEWHERE.keys()


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_script_beats_its_floors(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLES / name],
        cwd=tmp_path, capture_output=True, text=True, env=environment(), check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    line, case = done.stdout.splitlines()[-1], CASES[name]
    what, value, floors = read_line(line)
    written, _, others = read_line(documented()[name])
    assert (what, floors.keys()) == (written, others.keys())
    for floor in case.beats:
        assert value < floors[floor] if case.lower else value > floors[floor], line


@dataclass(frozen=True, kw_only=True)
class ConfigCase:
    """How a config is run here, shorter than it stands there, and which score of held-out rows it tells.

    rows: what stands in its rows.jsonl. first: a config that is run before it.
    """

    changes: tuple[str, ...]
    score: str
    rows: str | None = None
    first: str | None = None


OWN_ROWS = ("data.train=rows.jsonl", "epochs=1", "evaluation.every=epoch")
CONFIG_CASES = {
    "albert.yaml": ConfigCase(changes=("steps=30",), score="order_accuracy"),
    "bert.yaml": ConfigCase(changes=("steps=30",), score="next_sentence_accuracy"),
    "classify.yaml": ConfigCase(rows="labels", changes=OWN_ROWS, score="accuracy"),
    "distill.yaml": ConfigCase(first="speeches.yaml", changes=("steps=60",), score="bits_per_byte"),
    "electra.yaml": ConfigCase(changes=("steps=30",), score="f1"),
    "llama.yaml": ConfigCase(changes=("steps=60",), score="bits_per_byte"),
    "modernbert.yaml": ConfigCase(changes=("steps=60",), score="perplexity"),
    "sentence-pairs.yaml": ConfigCase(rows="pairs", changes=(*OWN_ROWS, "batch.rows=64"), score="recall_at_10"),
    "speeches.yaml": ConfigCase(changes=("steps=60",), score="bits_per_byte"),
    "tag.yaml": ConfigCase(rows="tags", changes=OWN_ROWS, score="accuracy"),
}


def rows_of(kind: str) -> list[dict[str, Any]]:
    """Rows of the kind that a config says it reads."""
    sys.path.insert(0, str(EXAMPLES))
    try:
        from docstrings import functions
    finally:
        sys.path.remove(str(EXAMPLES))
    if kind == "labels":
        return [{"text": one.summary, "label": one.part} for one in functions()]
    if kind == "pairs":
        return [{"query": one.summary, "positive": one.details} for one in functions() if one.details]
    sentences = [re.findall("[A-Za-z]+", one.summary) for one in functions()[:200]]
    return [
        {"tokens": [word.lower() for word in words], "tags": ["O" if word.islower() else "B-CAP" for word in words]}
        for words in sentences
    ]


def train(config: str, folder: Path, changes: tuple[str, ...]) -> dict[str, Any]:
    """The receipt of a config that was run with these changes."""
    command = [sys.executable, "-m", "gossamer", "train", str(EXAMPLES / config)]
    sets = [part for change in (*changes, "journal.live=false") for part in ("--set", change)]
    done = subprocess.run([*command, *sets], cwd=folder, capture_output=True, text=True, env=environment(), check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    receipt: dict[str, Any] = json.loads((folder / settings_of(config)["output"] / "receipt.json").read_text())
    return receipt


def test_every_config_has_a_case() -> None:
    assert CONFIG_CASES.keys() == {*CONFIGS}


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIG_CASES)
def test_a_config_runs(name: str, tmp_path: Path) -> None:
    case = CONFIG_CASES[name]
    if case.rows is not None:
        (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows_of(case.rows))), encoding="utf-8")
    if case.first is not None:
        train(case.first, tmp_path, CONFIG_CASES[case.first].changes)
    receipt = train(name, tmp_path, case.changes)
    value = receipt["evaluation"][case.score]
    assert value is not None
    assert math.isfinite(value)
