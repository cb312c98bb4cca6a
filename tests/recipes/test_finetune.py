"""Fine-tuning: the head follows the columns, bad rows are refused before anything is computed, runs go on exactly."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pandas
import pyarrow
import pytest
import torch
from finetune_rows import PAIRS, QUESTIONS, SENTENCES, TEXTS, save_bare, write_rows

import gossamer as gs
from gossamer.checkpoints.checkpoint import Checkpoint
from gossamer.errors import InputError
from gossamer.models import Model
from gossamer.models.heads import QuestionAnswering, SequenceClassification, TokenClassification
from gossamer.recipes import finetune
from gossamer.recipes.evaluate import evaluate
from gossamer.training.data.rows import DataSources
from gossamer.training.processes import Processes

QUICK: dict[str, Any] = {"journal.live": False, "threads": 1, "steps": 2, "epochs": None, "schedule.warmup": 0}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bare(tmp_path_factory.mktemp("encoder"), "bert")


def tuned(model: Any, rows: Any, evaluate: Any = None, **given: Any) -> tuple[Model, Any]:
    settings = QUICK | given.pop("settings", {})
    return finetune(model, rows, evaluate, batch=4, **given, settings=settings)


CASES: dict[str, tuple[list[dict[str, Any]], type, set[str]]] = {
    "classes": (TEXTS, SequenceClassification, {"loss", "accuracy", "f1_macro", "matthews"}),
    "pairs": (
        [{"sentence1": "film", "sentence2": row["text"], "label": row["label"]} for row in TEXTS],
        SequenceClassification, {"loss", "accuracy", "f1_macro", "matthews"},
    ),
    "numbers": (
        [{"text": row["text"], "score": i % 3} for i, row in enumerate(TEXTS)],
        SequenceClassification, {"loss", "mean_absolute_error", "pearson", "spearman"},
    ),
    "several": (
        [{"text": row["text"], "labels": [row["label"], "any"][: i % 3]} for i, row in enumerate(TEXTS)],
        SequenceClassification, {"loss", "accuracy", "f1", "f1_macro"},
    ),
    "tags": (SENTENCES, TokenClassification, {"loss", "accuracy", "f1"}),
    "answers": (QUESTIONS, QuestionAnswering, {"loss", "exact_match", "answer_f1"}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_head_follows_the_columns(encoder: Path, name: str) -> None:
    rows, head, scores = CASES[name]
    model, receipt = tuned(encoder, rows, rows[:5])
    assert isinstance(model.architecture.head, head)
    assert receipt.evaluation.keys() == scores
    assert model.receipt is receipt
    problems = {"numbers": "regression", "several": "multi_label_classification"}
    if head is SequenceClassification:
        assert model.architecture.head.problem_type == problems.get(name, "single_label_classification")  # type: ignore[union-attr]


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_decoders_get_their_own_classifier(tmp_path: Path, family: str) -> None:
    import transformers

    model, _ = tuned(save_bare(tmp_path, family), TEXTS, output=tmp_path / "out")
    assert model.family == family
    assert model.architecture.head.reads == "last"  # type: ignore[union-attr]
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "out" / "last").eval()
    assert theirs.config.id2label == {0: "film", 1: "song"}
    batch = model.tokenizer(["film film", "a song"])
    with torch.no_grad():
        ours = model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        other = theirs(batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    torch.testing.assert_close(ours, other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("name", ["numbers", "several", "tags", "answers", "vectors"])
def test_decoders_learn_with_every_head(tmp_path: Path, family: str, name: str) -> None:
    rows, _, scores = CASES.get(name, (PAIRS, None, {"loss", "ndcg_at_10", "mrr_at_10", "recall_at_1", "recall_at_10"}))
    model, receipt = tuned(save_bare(tmp_path, family), rows, 4, output=tmp_path / "out")
    assert receipt.evaluation.keys() == scores
    again = gs.load(tmp_path / "out" / "last")
    assert again.family == family
    assert again.architecture.head == model.architecture.head
    told = evaluate(again, rows, batch=4)
    assert told.scores.keys() == scores - {"loss"}


def test_files_are_learnt_as_rows_are(tmp_path: Path, encoder: Path) -> None:
    gs.finetune(encoder, TEXTS, 0.25, batch=4, output=tmp_path / "rows", settings=QUICK)
    file = write_rows(tmp_path / "rows.jsonl", TEXTS)
    table = "\n".join(["text,label", *(f"{row['text']},{row['label']}" for row in TEXTS)])
    (tmp_path / "rows.csv").write_text(table)
    for name in (file, [tmp_path / "rows.csv"]):
        tuned(gs.load(encoder), name, 0.25, output=tmp_path / "files", resume="auto")
        weights = [(tmp_path / one / "last" / "model.safetensors").read_bytes() for one in ("rows", "files")]
        assert weights[0] == weights[1]


@pytest.mark.parametrize("fits", [False, True])
def test_rows_are_read_once_and_tensors_are_loaded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoder: Path, fits: bool
) -> None:
    model = gs.save(tuned(encoder, TEXTS)[0], tmp_path / "classifier") if fits else encoder
    calls: list[str] = []
    read, load = DataSources.documents, Checkpoint.extra_config

    def reading(sources: DataSources, inputs: tuple[str, ...], **how: Any) -> Any:
        calls.append(Path(inputs[0]).name)
        return read(sources, inputs, **how)

    def loading(checkpoint: Checkpoint) -> Any:
        calls.append("tensors")
        return load(checkpoint)

    monkeypatch.setattr(DataSources, "documents", reading)
    monkeypatch.setattr(Checkpoint, "extra_config", loading)
    files = [write_rows(tmp_path / f"{name}.jsonl", TEXTS) for name in ("train", "evaluate")]
    tuned(model, *files)
    assert calls == ["train.jsonl", "evaluate.jsonl", "tensors"]


def test_the_given_model_stays_and_a_fitting_head_is_taken(encoder: Path) -> None:
    first, _ = tuned(encoder, TEXTS)
    before = {name: one.clone() for name, one in first.state_dict().items()}
    said: list[str] = []
    second, _ = tuned(first, TEXTS, settings={"optimizer.learning_rate": 1e-12}, remark=said.append)
    torch.testing.assert_close(second.state_dict(), before)
    assert first.state_dict().keys() == before.keys()
    assert all(torch.equal(one, before[name]) for name, one in first.state_dict().items())
    assert said == []
    other = [{**row, "label": {"film": "yes", "song": "no"}[row["label"]]} for row in TEXTS]
    third, _ = tuned(first, other, seed=1, settings={"optimizer.learning_rate": 1e-12}, remark=said.append)
    assert third.architecture.head.labels == ("no", "yes")  # type: ignore[union-attr]
    assert not torch.allclose(third.state_dict()["head.output.weight"], before["head.output.weight"], atol=1e-3)
    assert said == [
        "the model's own head, sequence-classification, 2 labels: film, song, is for other labels; a new one is drawn"
    ]


def test_names_of_a_datasets_labels_are_taken(encoder: Path) -> None:
    class Dataset(list[Any]):
        features: ClassVar[dict[str, Any]] = {"label": SimpleNamespace(names=["good", "bad"]), "text": None}

    rows = Dataset({"text": row["text"], "label": int(row["label"] == "film")} for row in TEXTS)
    model, _ = tuned(encoder, rows)
    assert model.architecture.head.labels == ("bad", "good")  # type: ignore[union-attr]

    class Tagged(list[Any]):
        features: ClassVar[dict[str, Any]] = {
            "ner_tags": SimpleNamespace(feature=SimpleNamespace(names=["O", "B-PER"]))
        }

    tags = [{"tokens": row["tokens"], "ner_tags": [int(tag != "O") for tag in row["tags"]]} for row in SENTENCES]
    model, _ = tuned(encoder, Tagged(tags))
    assert model.architecture.head.labels == ("B-PER", "O")  # type: ignore[union-attr]


def test_a_broken_off_run_goes_on_to_the_same_bits(tmp_path: Path, encoder: Path) -> None:
    settings = {"steps": 4, "checkpoints.every": 1}
    tuned(encoder, QUESTIONS, 4, output=tmp_path / "whole", settings=settings)

    def stop(text: str) -> None:
        raise MemoryError(text)

    with pytest.MonkeyPatch.context() as patch:
        update = gs.training.run.Run.update  # type: ignore[attr-defined]

        def broken(run: Any) -> None:
            if run.step == 2:
                stop("killed")
            update(run)

        patch.setattr("gossamer.training.run.Run.update", broken)
        with pytest.raises(MemoryError):
            tuned(encoder, QUESTIONS, 4, output=tmp_path / "broken", settings=settings)
    tuned(encoder, QUESTIONS, 4, output=tmp_path / "broken", settings=settings, resume="must")
    weights = [(tmp_path / one / "last" / "model.safetensors").read_bytes() for one in ("whole", "broken")]
    assert weights[0] == weights[1]


def test_the_best_epoch_is_returned(tmp_path: Path, encoder: Path) -> None:
    """Under a rate that spoils the model at the end the first reading is the best."""
    settings = {"steps": None, "epochs": 3, "optimizer.learning_rate": 0.5, "schedule.name": "constant"}
    model, receipt = tuned(
        encoder, TEXTS, TEXTS, output=tmp_path / "out", metric="accuracy", patience=1, settings=settings
    )
    assert receipt.best is not None
    name = "last" if receipt.best["step"] == receipt.steps else "best"
    torch.testing.assert_close(model.state_dict(), gs.load(tmp_path / "out" / name).state_dict())
    assert receipt.best["step"] < receipt.steps


def test_rows_of_one_class_are_for_a_model_that_knows_more(encoder: Path) -> None:
    """A new head would have nothing to tell apart; one that is there goes on, and it is said."""
    films = [row for row in TEXTS if row["label"] == "film"]
    with pytest.raises(InputError, match=r"^rows:1: all rows have the label 'film'; there is nothing to tell apart$"):
        tuned(encoder, films)
    model, _ = tuned(encoder, TEXTS)
    said: list[str] = []
    again, receipt = tuned(model, films, films[:2], remark=said.append)
    assert again.architecture.head.labels == ("film", "song")  # type: ignore[union-attr]
    assert said[0] == "rows:1: all rows to train on have the label 'film', of those of the model"
    assert receipt.evaluation["accuracy"] is not None


def test_one_class_held_out_is_said(encoder: Path) -> None:
    _, receipt = tuned(encoder, TEXTS, [row for row in TEXTS if row["label"] == "film"])
    assert receipt.evaluation["f1_macro"] is None
    assert "not defined on the held-out rows: f1 macro, matthews" in str(receipt)


BAD: list[tuple[list[dict[str, Any]], dict[str, Any], str]] = [
    ([], {}, r"^rows\.jsonl: there are no rows"),
    ([{"body": "a"}] * 2, {}, r"^rows\.jsonl:1: has the columns 'body', from which no head is trained; give a 'text'"),
    ([*TEXTS, {"text": "a"}], {}, r"^rows\.jsonl:13: the field 'label' is missing"),
    ([*TEXTS, {"text": "a", "label": 1.5}], {}, r"rows\.jsonl:13 one for regression: mend one of them"),
    ([{"text": "a", "label": "x"}] * 4, {}, r"^rows\.jsonl:1: all rows have the label 'x'; there is nothing to tell"),
    ([*SENTENCES, {"tokens": ["a", "b"], "tags": ["O"]}], {}, r"^rows\.jsonl:13: the field 'tags' is \['O'\]"),
    (TEXTS, {"labels": ["film", "soup"]}, r"^rows\.jsonl:2: the label 'song' is none of the model's"),
    (TEXTS, {"head": "question-answering"}, r"^rows\.jsonl:1: .* 'question-answering' is trained on 'question' and"),
    (TEXTS, {"head": "tagger"}, r"^head is 'tagger'; it must be one of 'question-answering'"),
    (TEXTS, {"columns": {"text": "review"}}, r"^rows\.jsonl:1: has no column 'review' \(it has: text, label\)"),
    (TEXTS, {"columns": {"body": "text"}}, r"^columns names 'body'; it must be one of 'text'"),
    (
        [*QUESTIONS, {"question": "a", "context": "b", "answers": {"text": ["c"], "answer_start": [0]}}],
        {}, r"^rows\.jsonl:13: the answer 'c' does not stand at character 0 of its context",
    ),
    ([*QUESTIONS, {"question": "a", "context": "b"}], {}, r"^rows\.jsonl:13: the field 'answers' is missing"),
    ([{**QUESTIONS[0], "question": "a " * 40}] * 4, {}, r"^rows\.jsonl:1: its question is 40 tokens long"),
]  # fmt: skip


@pytest.mark.parametrize(("rows", "given", "message"), BAD)
def test_bad_rows_are_one_line_before_anything_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoder: Path, rows: Any, given: dict[str, Any], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_rows(Path("rows.jsonl"), rows)
    with pytest.raises(InputError, match=message):
        tuned(encoder, "rows.jsonl", output="out", **given)
    assert not Path("out/journal.jsonl").exists()


@pytest.mark.slow
def test_a_real_model_learns_a_task(tmp_path: Path, minilm: Path) -> None:
    rows = [{"text": f"a {kind} {thing}", "label": label} for label, kinds in
            {"good": ("lovely", "great", "fine"), "bad": ("dreadful", "awful", "poor")}.items()
            for kind in kinds for thing in ("film", "meal", "day", "song")]  # fmt: skip
    settings = {"journal.live": False, "threads": 1, "batch.length": 8}
    model, receipt = gs.finetune(minilm, rows, 4, epochs=4, batch=8, learning_rate=3e-4, settings=settings)
    assert receipt.evaluation is not None
    assert receipt.evaluation["accuracy"] == 1.0
    labels = gs.task("classify", model)(["an excellent book", "a terrible book"]).labels
    assert [one[0].label for one in labels] == ["good", "bad"]
    assert json.dumps(receipt.to_dict())


def test_the_first_process_alone_says_that_a_head_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = SequenceClassification(labels=("a", "b"), problem_type="single_label_classification")
    model = save_bare(tmp_path, "bert", labels)
    for rank, count in (("0", 1), ("1", 0)):
        monkeypatch.setenv("RANK", rank)
        notes: list[str] = []
        tuned(model, TEXTS, remark=notes.append)
        assert len([note for note in notes if "a new one is drawn" in note]) == count


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Model:
    head = SequenceClassification(labels=("film", "song"), problem_type="single_label_classification")
    return gs.load(save_bare(tmp_path_factory.mktemp("classifier"), "bert", head))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"batch": -1}, r"^batch is -1; it must be a whole number of rows, 1 or more$"),
        ({"batch": 0}, r"^batch is 0; it must be a whole number of rows"),
        ({"batch": "4"}, r"^batch is '4'; it must be a whole number of rows"),
        ({"length": 0}, r"^length is 0; it must be a whole number of tokens from 1 to 32, all that the model can"),
        ({"length": 100_000}, r"^length is 100000; it must be a whole number of tokens from 1 to 32"),
        ({"length": 4.5}, r"^length is 4\.5; it must be"),
        ({"length": True}, r"^length is [Tt]rue; it must be"),
    ],
)
def test_what_evaluates_nothing_is_refused(classifier: Model, given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        evaluate(classifier, TEXTS, **given)


def test_each_process_evaluates_by_itself(classifier: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the device that the model is on, whichever that is, joining none of the others."""
    monkeypatch.setattr(Processes, "__init__", None)
    assert evaluate(classifier, TEXTS).rows == len(TEXTS)
    device = torch.device("cuda:1")
    assert Processes.alone(device).device == device
    assert Processes.alone(device).total(1.5, 2) == [1.5, 2]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"settings": None}, r"^settings is none; it must be a mapping of fields of a TrainingConfig"),
        ({"settings": ["epochs=1"]}, r"^settings is \['epochs=1'\]; it must be a mapping"),
        ({"settings": {1: 2}}, r"^settings is \{1: 2\}; it must be a mapping"),
        ({"columns": ["text"]}, r"^columns is \['text'\]; it must be a mapping of names, such as \{'text': 'review'\}"),
        ({"columns": "text"}, r"^columns is 'text'; it must be a mapping"),
        ({"columns": None}, r"^columns is none; it must be a mapping"),
        ({"columns": {"text": 1}}, r"^columns is \{'text': 1\}; it must be a mapping"),
        ({"head": ["x"]}, r"^head is \['x'\]; it must be one of 'question-answering', "),
        ({"labels": "ham"}, r"^labels is 'ham'; it must be a list of names, or None for those of the rows$"),
        ({"labels": 2}, r"^labels is 2; it must be a list of names"),
        ({"train": None}, r"^train is none; it must be a file, a list of files, or a sequence of dicts$"),
        ({"train": 3}, r"^train is 3; give a sequence of dicts"),
        ({"output": 3}, r"^output is 3; it must be a folder, or None$"),
    ],
)
def test_an_argument_of_another_kind_is_one_line(classifier: Model, given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"(?i){message}"):
        finetune(classifier, **{"train": TEXTS, **given})


def test_evaluate_names_its_own_arguments(classifier: Model) -> None:
    with pytest.raises(InputError, match=r"(?i)^data is none; it must be a file"):
        evaluate(classifier, None)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"^columns is 'text'; it must be a mapping"):
        evaluate(classifier, TEXTS, columns="text")  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [pandas.DataFrame, pyarrow.Table.from_pylist])
@pytest.mark.parametrize("name", ["classes", "tags", "answers"])
def test_a_table_is_read_as_its_rows(encoder: Path, name: str, kind: Any) -> None:
    rows = CASES[name][0]
    _, expected = tuned(encoder, rows, rows[:5])
    _, receipt = tuned(encoder, kind(rows), kind(rows[:5]))
    assert receipt.evaluation.keys() == expected.evaluation.keys()
    assert receipt.evaluation["loss"] == pytest.approx(expected.evaluation["loss"], rel=1e-5)


def test_a_hole_in_a_table_is_one_line(encoder: Path) -> None:
    with pytest.raises(InputError, match=r"^rows:3: the field 'text' is nan; it must be a text"):
        tuned(encoder, pandas.DataFrame([*TEXTS[:2], {"label": "film"}]))
