"""Classes that count differently: torch's weighted cross-entropy over a whole step, however it is cut."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from broken_runs import broken_off
from sklearn.utils.class_weight import compute_class_weight
from tiny_labels import labels_config, texts, write_rows
from tiny_runs import assert_same_run, journal, tensors

import gossamer as gs
from gossamer.models import Model
from gossamer.training.config import TrainingConfig
from gossamer.training.material import Material, gather
from gossamer.training.processes import Processes

WEIGHTS = {"book": 0.02, "film": 0.5, "song": 0.01}
"""A row of a batch may weigh less than 1, and so may a whole one."""


def gathered(config: dict[str, Any]) -> Material:
    return gather(TrainingConfig.read(config), None, Processes())


def weights_of(material: Material) -> torch.Tensor:
    return material.model.get_buffer("class_weights")


def weighted(folder: Path, name: str = "out", **changes: Any) -> dict[str, Any]:
    """A run of rows of which one label is rare."""
    kind = changes.pop("objective", "classification")
    weights = changes.pop("weights", WEIGHTS if kind == "classification" else [0.1, 2.0, 3.0])
    objective = {"kind": kind, "class_weights": weights}
    return labels_config(
        folder, name, **{"evaluation": {"held_out": 0.2, "every": 3}, **changes, "objective": objective}
    )


def without_dropout(config: dict[str, Any]) -> Model:
    """The model of a run, whose new head would have some."""
    drawn = gathered(config).model
    head: Any = drawn.architecture.head
    model = Model(replace(drawn.architecture, head=replace(head, dropout=0.0)), tokenizer=drawn.tokenizer)
    model.load_state_dict(drawn.state_dict())
    return model


@pytest.mark.parametrize("kind", ["classification", "tagging"])
@pytest.mark.parametrize("accumulation", [1, 4])
def test_the_loss_of_a_step_is_torchs_weighted_mean(tmp_path: Path, kind: str, accumulation: int) -> None:
    batch = {"rows": 8, "accumulation": accumulation}
    config = weighted(tmp_path, objective=kind, batch=batch, optimizer={"learning_rate": 1e-30}, steps=3)
    config["schedule"] = {"name": "constant"}
    material = gathered(config)
    model, weights = without_dropout(config).double(), weights_of(material)
    _, receipt = gs.train(config, model=without_dropout(config))
    for line in [one for one in journal(tmp_path / "out") if one["split"] == "train"]:
        batch = material.batches.at(line["step"] - 1)
        logits = model(**{**batch, "labels": None}).logits
        model.zero_grad()
        loss = F.cross_entropy(logits.flatten(0, -2), batch["labels"].flatten(), weight=weights)
        loss.backward()
        norm = torch.cat([one.grad.flatten() for one in model.parameters() if one.grad is not None]).norm()
        assert line["loss"] == pytest.approx(loss.item(), rel=1e-5)
        assert line["gradient_norm"] == pytest.approx(norm.item(), rel=1e-4)
    told, mass = 0.0, 0.0
    with torch.no_grad():
        for batch in material.batches.evaluation():
            read = {name: one for name, one in batch.items() if name not in ("labels", "examples")}
            logits, labels = model(**read).logits.flatten(0, -2), batch["labels"].flatten()
            told += float(F.cross_entropy(logits, labels, weight=weights, reduction="sum"))
            mass += float(weights[labels[labels != -100]].sum())
    assert receipt.evaluation["loss"] == pytest.approx(told / mass, rel=1e-5)
    assert 0 <= receipt.evaluation["accuracy"] <= 1


def test_however_a_step_is_cut_the_same_is_learnt(tmp_path: Path) -> None:
    changes = {"optimizer": {"learning_rate": 0.01, "eps": 1e-3}}
    for name, accumulation in (("whole", 1), ("cut", 4)):
        config = weighted(tmp_path, name, batch={"rows": 8, "accumulation": accumulation}, **changes)
        gs.train(config, model=without_dropout(config))
    one, other = (tensors(tmp_path / name, 6) for name in ("whole", "cut"))
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=0, atol=2e-6, msg=name)


def test_balanced_weights_are_scikit_learns(tmp_path: Path) -> None:
    rows = [row for i, row in enumerate(texts(90)) if row["label"] != "film" or i % 4 == 0]
    write_rows(tmp_path / "rare.jsonl", rows)
    material = gathered(weighted(tmp_path, weights="balanced", data=str(tmp_path / "rare.jsonl")))
    labels = np.array([int(one.labels) for one in material.batches.examples])  # type: ignore[attr-defined]
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    np.testing.assert_allclose(weights_of(material).numpy(), expected, rtol=1e-12)
    assert max(expected) > 2 * min(expected)


def test_lists_and_names_are_one_and_a_model_is_rid_of_them(tmp_path: Path) -> None:
    one, _ = gs.train(weighted(tmp_path, "names"))
    other, _ = gs.train(weighted(tmp_path, "list", weights=[0.02, 0.5, 0.01]))
    plain, _ = gs.train(labels_config(tmp_path, "plain"))
    names = dict(plain.named_buffers()).keys()
    assert dict(one.named_buffers()).keys() == names
    assert all(torch.equal(one.state_dict()[name], tensor) for name, tensor in other.state_dict().items())
    assert not torch.equal(one.get_parameter("head.output.weight"), plain.get_parameter("head.output.weight"))


@pytest.mark.parametrize("kind", ["classification", "tagging"])
def test_a_weighted_run_goes_on_exactly(tmp_path: Path, kind: str) -> None:
    gs.train(weighted(tmp_path, "unbroken", objective=kind, weights="balanced"))
    broken_off(weighted(tmp_path, "broken", objective=kind, weights="balanced"), 5, KeyboardInterrupt)
    gs.train(weighted(tmp_path, "broken", objective=kind, weights="balanced"))
    assert_same_run(tmp_path / "broken", tmp_path / "unbroken", 6)


WRONG = [
    ("even", r"^objective\.class_weights is 'even'; it must be one of 'balanced' or a list"),
    ([1.0, 0.0, 1.0], r"^objective\.class_weights is \(1\.0, 0\.0, 1\.0\); it must be 'balanced', or numbers above 0"),
    ([1.0, 2.0], r"^objective\.class_weights has 2 numbers; the model has 3 labels"),
    ({"book": 1.0, "film": 2.0}, r"^objective\.class_weights: 'song' has no weight"),
    ({**WEIGHTS, "soup": 2.0}, r"^objective\.class_weights: 'soup' is no label of the model"),
    ({**WEIGHTS, "song": -1}, r"^objective\.class_weights is .*numbers above 0"),
]


@pytest.mark.parametrize(("weights", "message"), WRONG)
def test_weights_that_do_not_fit_are_refused(tmp_path: Path, weights: Any, message: str) -> None:
    with pytest.raises(gs.InputError, match=message):
        gs.train(weighted(tmp_path, weights=weights))
    assert not (tmp_path / "out" / "journal.jsonl").exists()


def test_what_cannot_be_balanced_is_said(tmp_path: Path) -> None:
    write_rows(tmp_path / "held.jsonl", [{"text": "soup", "label": "soup"}])
    config = weighted(tmp_path, weights="balanced", evaluation={"data": str(tmp_path / "held.jsonl")})
    with pytest.raises(
        gs.InputError, match=r"is 'balanced', but no row to train on has the label 'soup'; give numbers"
    ):
        gs.train(config)
    write_rows(tmp_path / "several.jsonl", [{**one, "label": [one["label"]]} for one in texts()])
    with pytest.raises(gs.InputError, match=r"is 'balanced', but rows have numbers or several labels at once; leave"):
        gs.train(weighted(tmp_path, weights="balanced", data=str(tmp_path / "several.jsonl")))
