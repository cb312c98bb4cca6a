"""Fine-tuning from files of every kind and from a dataset: the same rows, and runs that go on, by the command too."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from finetune_rows import PAIRS, QUESTIONS, SENTENCES, TEXTS, save_bare, write_rows

import gossamer as gs
from gossamer.models.heads import CausalLM, MaskedLM
from gossamer.recipes import finetune
from gossamer.recipes.evaluate import evaluate
from gossamer.recipes.finetune import first_row, read_data
from gossamer.training import run as run_module

QUICK: dict[str, Any] = {
    "journal.live": False, "threads": 1, "steps": 3, "epochs": None, "schedule.warmup": 0, "checkpoints.every": 1,
}  # fmt: skip
ROWS: dict[str, list[dict[str, Any]]] = {
    "several": [{"text": row["text"], "labels": [row["label"], "any"][: i % 3]} for i, row in enumerate(TEXTS)],
    "scores": [{"text": row["text"], "score": i / 4} for i, row in enumerate(TEXTS)],
    "tags": SENTENCES,
    "entities": [
        {"text": "Ann sings", "entities": [{"start": 0, "end": 3, "label": "PER"}][: i % 2]} for i in range(8)
    ],
    "answers": QUESTIONS,
    "triplets": [{**row, "negatives": ["Ann", "here, here"]} for row in PAIRS],
}


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    """The rows as a file of the kind that the name ends in; a list in a cell of a table is JSON."""
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix in (".csv", ".tsv"):
        with path.open("w", newline="") as file:
            table = csv.DictWriter(file, list(rows[0]), delimiter="," if path.suffix == ".csv" else "\t")
            table.writeheader()
            for row in rows:
                table.writerow({k: v if isinstance(v, str) else json.dumps(v) for k, v in row.items()})
    else:
        write_rows(path, rows)
    return path


class Dataset:
    """As a `datasets.Dataset` is one: rows by number, names of labels in its features."""

    features: ClassVar[dict[str, Any]] = {"tags": SimpleNamespace(feature=SimpleNamespace(names=["O", "B-PER"]))}

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, i: int) -> dict[str, Any]:
        row = dict(self._rows[i])
        return row | ({"tags": [int(tag == "B-PER") for tag in row["tags"]]} if "tags" in row else {})


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet"])
@pytest.mark.parametrize("kind", ROWS)
def test_rows_of_any_file_are_the_same(tmp_path: Path, kind: str, ending: str) -> None:
    from gossamer.recipes.columns import find_columns
    from gossamer.training.config import TrainingConfig
    from gossamer.training.data.labelled import read_rows

    def read(data: Any) -> list[tuple[Any, ...]]:
        sources, changes = read_data(data, None)
        found = find_columns(*first_row(changes, sources), None, None, {})
        fields = {"objective": found.objective, "data": {"field": found.text}, "output": "out", "steps": 1}
        rows = read_rows(TrainingConfig.read(fields, changes), sources).all
        numbers = found.objective.get("problem") == "regression"
        return [(one.text, one.pair, float(one.label) if numbers else one.label, *vars(one)) for one in rows]

    assert read(str(write(tmp_path / f"rows.{ending}", ROWS[kind]))) == read(ROWS[kind])


def broken_off(model: Any, rows: Any, **given: Any) -> None:
    """A run that ends in its second step, with nothing saved but the first."""
    with pytest.MonkeyPatch.context() as patch:
        update = run_module.Run.update

        def broken(run: Any) -> None:
            if run.step == 1:
                raise MemoryError
            update(run)

        patch.setattr(run_module.Run, "update", broken)
        with pytest.raises(MemoryError):
            finetune(model, rows, **given)


@pytest.mark.parametrize(
    ("ending", "kind", "family"),
    [
        ("csv", "tags", "bert"), ("tsv", "several", "llama"), ("parquet", "answers", "bert"),
        ("csv", "triplets", "bert"), ("jsonl", "texts", "gpt2"),
    ],
)  # fmt: skip
def test_a_file_is_learnt_and_the_command_goes_on(
    gossamer: Callable[..., Any], tmp_path: Path, ending: str, kind: str, family: str
) -> None:
    model = save_bare(tmp_path, family, CausalLM() if kind == "texts" else None)
    rows = [{"text": row["text"]} for row in TEXTS] if kind == "texts" else ROWS[kind]
    file = write(tmp_path / f"rows.{ending}", rows)
    given: dict[str, Any] = {"evaluate": 0.25, "batch": 2, "length": 16 if kind == "texts" else None, "settings": QUICK}
    finetune(model, rows, **given, output=tmp_path / "whole")
    broken_off(model, file, **given, output=tmp_path / "broken")
    changes = [part for name, value in QUICK.items() for part in ("--set", f"{name}={json.dumps(value)}")]
    length = ["--length", 16] if kind == "texts" else []
    done = gossamer(
        "finetune", model, "--train", file, "--evaluate", 0.25, "--batch", 2, *length, "--out", tmp_path / "broken",
        *changes, "--resume", "must",
    )  # fmt: skip
    assert (done.code, done.err) == (0, "")
    weights = [(tmp_path / one / "last" / "model.safetensors").read_bytes() for one in ("whole", "broken")]
    assert weights[0] == weights[1]
    told = json.loads((tmp_path / "broken" / "receipt.json").read_text())["evaluation"]
    assert told == json.loads((tmp_path / "whole" / "receipt.json").read_text())["evaluation"]


def test_a_dataset_is_learnt_and_goes_on(tmp_path: Path) -> None:
    model = save_bare(tmp_path, "bert")
    rows: Any = Dataset(SENTENCES)
    given: dict[str, Any] = {"batch": 2, "settings": QUICK}
    finetune(model, SENTENCES, Dataset(SENTENCES[:3]), **given, output=tmp_path / "whole")
    broken_off(model, rows, evaluate=rows, **given, output=tmp_path / "broken")
    with pytest.raises(gs.InputError, match="data"):
        finetune(model, rows, SENTENCES[:2], **given, output=tmp_path / "broken")
    finetune(model, rows, SENTENCES[:3], **given, output=tmp_path / "other")
    weights = [(tmp_path / one / "last" / "model.safetensors").read_bytes() for one in ("whole", "other")]
    assert weights[0] == weights[1]


@pytest.mark.parametrize("family", ["gpt2", "bert"])
def test_texts_alone_are_for_a_language_model(tmp_path: Path, family: str) -> None:
    """Perplexity; bits per byte of decoders, since a masked model predicts some of the tokens only."""
    texts = [{"body": " ".join(row["text"] for row in TEXTS[i : i + 4])} for i in range(8)]
    model = save_bare(tmp_path, family, CausalLM() if family == "gpt2" else MaskedLM())
    given: dict[str, Any] = {"columns": {"text": "body"}, "batch": 2, "length": 16, "settings": QUICK}
    tuned, receipt = finetune(model, texts, texts[:5], **given)
    assert receipt.evaluation.keys() == {"loss", "perplexity", "bits_per_byte"}
    assert (receipt.evaluation["bits_per_byte"] is None) == (family == "bert")
    told = evaluate(tuned, texts[:5], columns={"text": "body"}, batch=2, length=16)
    known = {name: value for name, value in receipt.evaluation.items() if value is not None}
    assert {"loss": told.loss, **told.scores} == pytest.approx(known, rel=1e-4)
    assert told.rows == 5
    one = evaluate(tuned, [{"text": "film here"}])
    assert one.scores["perplexity"] > 1
    with pytest.raises(gs.InputError, match=r"^the model has no head 'causal-lm'|from which no head is trained"):
        finetune(save_bare(tmp_path / "bare", family), texts, **given)


def test_the_digits_of_a_place_are_a_label_in_tables_too(tmp_path: Path) -> None:
    """1 is the second label of a model that knows names, whether JSON writes the number or a cell its digit."""
    model, _ = finetune(save_bare(tmp_path, "bert"), TEXTS, batch=2, settings=QUICK)
    rows = [{"text": row["text"], "label": int(row["label"] == "song")} for row in TEXTS]
    by_number, by_name = (evaluate(model, one) for one in (rows, TEXTS))
    assert evaluate(model, write(tmp_path / "rows.csv", rows)) == by_number == by_name
    wrong = write(tmp_path / "wrong.csv", [*rows, {"text": "film", "label": 2}])
    with pytest.raises(gs.InputError, match=r"wrong\.csv:14: the label '2' is none of the model's"):
        evaluate(model, wrong)
