"""What an objective is: a kind by name, a term in its loss, a call before each step; and tokens as a budget."""

import copy
import pickle
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
import torch
from tiny_labels import classifier_config, labels_config
from tiny_runs import decoder_config, encoder_config, journal, tensors
from torch import Tensor, nn
from torch.nn import functional as F

import gossamer as gs
from gossamer.errors import InputError
from gossamer.models import Model
from gossamer.training.config import TrainingConfig
from gossamer.training.material import gather
from gossamer.training.objectives import (
    Batch,
    CausalObjective,
    ClassificationObjective,
    MaskedObjective,
    Objective,
    ReplacedTokenObjective,
    TaggingObjective,
    unwrapped,
)
from gossamer.training.processes import Processes

KINDS = {
    "causal-lm": CausalObjective,
    "masked-lm": MaskedObjective,
    "replaced-token": ReplacedTokenObjective,
    "classification": ClassificationObjective,
    "tagging": TaggingObjective,
}


@dataclass(frozen=True, kw_only=True)
class SmallWords(CausalObjective, kind="small-words"):
    """The next token, and a penalty on the word table's weights that grows with the steps."""

    kind: Literal["small-words"] = "small-words"  # type: ignore[assignment]
    weight: float = 0.1
    calls: ClassVar[list[int]] = []

    def before_step(self, model: Model, step: int) -> None:
        self.calls.append(step)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        penalty = unwrapped(model).embeddings.word.weight.square().sum()
        return super().loss(model, batch) + self.weight * penalty


@dataclass(frozen=True, kw_only=True)
class Taught(ClassificationObjective, kind="taught"):
    """Labels, and the probabilities that a teacher gives them (Hinton et al. 2015)."""

    kind: Literal["taught"] = "taught"  # type: ignore[assignment]
    teacher: str = ""

    @cached_property
    def _teacher(self) -> Model:
        return gs.load(self.teacher)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        out = model(**batch)
        with torch.no_grad():
            wanted = self._teacher(**{name: one for name, one in batch.items() if name != "labels"}).logits
        return F.cross_entropy(out.logits, wanted.softmax(dim=-1))


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_kind_by_name_is_of_its_class(kind: str) -> None:
    one = Objective(kind=kind)  # type: ignore[abstract]
    assert type(one) is KINDS[kind]
    assert one == KINDS[kind]() == eval(str(one))
    assert str(one).startswith(f"Objective(kind={kind!r}")
    assert copy.deepcopy(one) == pickle.loads(pickle.dumps(one)) == one


def test_the_config_reads_and_writes_every_kind(tmp_path: Path) -> None:
    given = {"kind": "tagging", "labels": ["B-X", "O"], "tags_field": "ner"}
    config = TrainingConfig.read(decoder_config(tmp_path, objective=given))
    assert config.objective == TaggingObjective(labels=("B-X", "O"), tags_field="ner")
    assert TrainingConfig.read(config.to_dict()) == config
    with pytest.raises(
        InputError,
        match=r"^objective\.kind is 'mlm'; it must be one of 'causal-lm', .*'masked-lm', .*'replaced-token'",
    ):
        TrainingConfig.read(decoder_config(tmp_path, objective="mlm"))
    with pytest.raises(InputError, match=r"^objective\.share is no field"):
        TrainingConfig.read(decoder_config(tmp_path, objective={"kind": "tagging", "share": 0.5}))


def test_a_penalty_counts_once_a_step_and_steps_are_told(tmp_path: Path) -> None:
    """However a batch is cut, the term of the weights alone has the same gradient; without it weights differ."""
    SmallWords.calls.clear()
    objective = {"kind": "small-words", "weight": 0.1}
    # Labels of micro-batches differ in number, so equal shares would be wrong; without dropout both are one sum.
    model = decoder_config(tmp_path)["model"]["decoder"] | {"dropout": 0.0}
    common: dict[str, Any] = {
        "model": {"decoder": model},
        "steps": 3,
        "optimizer": {"learning_rate": 0.01, "eps": 1e-3},
    }
    gs.train(decoder_config(tmp_path, "whole", objective=objective, **common))
    gs.train(decoder_config(tmp_path, "parts", objective=objective, batch={"rows": 6, "accumulation": 3}, **common))
    gs.train(decoder_config(tmp_path, "plain", **common))
    assert SmallWords.calls == [0, 1, 2, 0, 1, 2]
    whole, parts, plain = (tensors(tmp_path / name, 3) for name in ("whole", "parts", "plain"))
    for name in whole:
        torch.testing.assert_close(whole[name], parts[name], rtol=0, atol=1e-6, msg=name)
    word = "embeddings.word.weight"
    assert float((whole[word] - plain[word]).abs().max()) > 1e-4
    first = [journal(tmp_path / name)[0]["loss"] for name in ("whole", "plain")]
    drawn = gather(TrainingConfig.read(decoder_config(tmp_path, "drawn", **common)), None, Processes()).model
    assert first[0] - first[1] == pytest.approx(
        0.1 * float(drawn.embeddings.word.weight.detach().square().sum()), rel=1e-4
    )


def test_parts_of_few_rows_learn_what_the_whole_does(tmp_path: Path) -> None:
    """Batches of one row are cut into three parts, two of which count for nothing."""
    settings = {"steps": 5, "optimizer": {"learning_rate": 0.01, "eps": 1e-3}, "checkpoints": {"every": 5}}
    for name, accumulation in (("whole", 1), ("parts", 3)):
        batch = {"tokens": 40, "accumulation": accumulation}
        gs.train(classifier_config(tmp_path, name, batch=batch, **settings))
    whole, parts = tensors(tmp_path / "whole", 5), tensors(tmp_path / "parts", 5)
    for name in whole:
        torch.testing.assert_close(whole[name], parts[name], rtol=0, atol=1e-6, msg=name)


def test_a_student_learns_what_its_teacher_says(tmp_path: Path) -> None:
    gs.train(labels_config(tmp_path, "teacher", steps=40))
    # The labels of the rows are all wrong; the teacher's are right.
    rows = (tmp_path / "classification.jsonl").read_text().splitlines()
    wrong = [one.replace('"label": "film"', '"label": "song"') for one in rows]
    (tmp_path / "wrong.jsonl").write_text("\n".join(wrong))
    objective = {"kind": "taught", "teacher": str(tmp_path / "teacher" / "last"), "labels": ["book", "film", "song"]}
    config = labels_config(tmp_path, "student", objective=objective, data=str(tmp_path / "wrong.jsonl"), steps=40)
    model, _ = gs.train(config)
    assert gs.task("classify", model)("film film").labels[0][0].label == "film"


def test_tokens_of_packed_rows_are_so_many_rows(tmp_path: Path) -> None:
    """The same batches, so the same bits; and it is said what they are."""
    _, receipt = gs.train(decoder_config(tmp_path, "tokens", batch={"tokens": 200}))
    assert receipt.notes == ("batch.tokens is 200: 6 rows of 32 tokens a step",)
    assert receipt.tokens == 6 * 6 * 32
    gs.train(decoder_config(tmp_path, "rows", batch={"rows": 6}))
    ours, theirs = tensors(tmp_path / "tokens", 6), tensors(tmp_path / "rows", 6)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("config_of", [decoder_config, encoder_config])
def test_rows_of_one_document_are_grouped_by_length(tmp_path: Path, config_of: Any) -> None:
    """Every label of an epoch once, rows no wider than their longest; the run learns, and counts what it read."""
    data = {"train": str(tmp_path / "text.txt"), "split": "lines", "pack": False}
    config_of(tmp_path)
    config = config_of(tmp_path, data=data, batch={"tokens": 128}, evaluation={"held_out": 0.1})
    batches: Any = gather(TrainingConfig.read(config), None, Processes()).batches
    epoch = [batches.at(i) for i in range(batches.steps(1))]
    for one in epoch:
        assert one["input_ids"].numel() <= 128
        real = one.get("attention_mask", torch.ones_like(one["input_ids"]))
        assert int(real.sum(dim=1).max()) == one["input_ids"].shape[1]
    read = sum(int(one.get("attention_mask", torch.ones_like(one["input_ids"])).sum()) for one in epoch)
    assert read == batches.tokens_before(len(epoch))
    ids = [name for i in range(len(epoch)) for name in batches.ids(i)]
    assert len(set(ids)) == batches.documents
    _, receipt = gs.train(config)
    assert receipt.tokens == batches.tokens_before(6)


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_the_groups(tmp_path: Path, world: int) -> None:
    """Together they have the rows of one process, and each has a row; where there are too few it learns nothing."""
    data = {"train": str(tmp_path / "text.txt"), "split": "lines", "pack": False}
    decoder_config(tmp_path)
    settings = TrainingConfig.read(decoder_config(tmp_path, data=data, batch={"tokens": 40}))
    alone: Any = gather(settings, None, Processes()).batches
    shares = []
    for rank in range(world):
        processes = Processes()
        processes.rank, processes.count = rank, world
        shares.append(gather(settings, None, processes).batches)
    filled = 0
    for step in range(alone.steps(1)):
        whole, parts = alone.at(step), [one.at(step) for one in shares]
        assert all(len(one["input_ids"]) for one in parts)
        filled += sum(bool((one["labels"] == -100).all()) for one in parts)
        assert sum(int((one["labels"] != -100).sum()) for one in parts) == int((whole["labels"] != -100).sum())
    assert filled > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch": {"tokens": 31}}, r"batch\.tokens is 31; it must be one row of 32 tokens or more"),
        ({"batch": {"tokens": 100, "accumulation": 2}}, r"batch\.tokens is 100, 3 rows; with 1 processes .* of 2 rows"),
        ({"batch": {"tokens": 0}}, r"batch\.tokens is 0; it must be a whole number from 1"),
    ],
)
def test_budgets_that_do_not_fit(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        gs.train(decoder_config(tmp_path, **changes))
    from gossamer.training.estimate.estimate import estimate

    with pytest.raises(InputError, match=message):
        estimate(decoder_config(tmp_path, **changes))
