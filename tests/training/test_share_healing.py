"""`gossamer.share` with texts: the shared model learns from the model that it was made of, and goes on exactly."""

from pathlib import Path
from typing import Any

import pytest
import torch
from broken_runs import broken_off
from tiny_labels import save_encoder, texts
from tiny_runs import assert_same_run, encoder_config, write_text

import gossamer as gs
from gossamer.errors import InputError
from gossamer.models import Architecture, Model, SequenceClassification
from gossamer.text import byte_tokenizer
from gossamer.training.stops import RunStopped

QUICK: dict[str, Any] = {"journal.live": False, "threads": 1, "steps": 3, "batch.rows": 6}


def language_model(folder: Path) -> Model:
    torch.manual_seed(5)
    description = Architecture.from_dict(encoder_config(folder)["model"]["architecture"]).to_dict()
    description["layers"] = [
        {
            **layer,
            "attention": layer["attention"] | {"weights": i},
            "feed_forward": layer["feed_forward"] | {"weights": i},
        }
        for i, layer in enumerate(description["layers"])
    ]
    return Model(Architecture.from_dict(description), tokenizer=byte_tokenizer(mask=True)).eval()


def classifier(folder: Path) -> Model:
    head = SequenceClassification(labels=("book", "film", "song"), problem_type="single_label_classification")
    torch.manual_seed(5)
    return gs.load(save_encoder(folder), head=head)


def distance(model: Model, other: Model, batch: dict[str, torch.Tensor]) -> float:
    """Of their states over real tokens."""
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    ours, theirs = (one(**inputs).last_hidden_state[batch["attention_mask"].bool()] for one in (model, other))
    return float((ours - theirs).norm().detach())


def test_a_shared_model_comes_nearer_to_what_it_was(tmp_path: Path) -> None:
    model = classifier(tmp_path)
    rows = texts(30)
    before = {name: one.clone() for name, one in model.state_dict().items()}
    settings = QUICK | {"steps": 60, "optimizer.learning_rate": 0.01}
    start, untrained = gs.share(model, embedding_size=6)
    new, receipt = gs.share(model, rows, evaluate=rows, embedding_size=6, task_weight=0.0, settings=settings)
    batch = model.tokenizer([row["text"] for row in rows])
    assert distance(new, model, batch) < 0.8 * distance(start, model, batch)
    for name, value in untrained.measured.items():
        assert receipt.measured[f"{name}_before_training"] == value != receipt.measured[name]
    assert "held_out_loss" in receipt.measured
    assert receipt.recipe == "share"
    assert receipt.settings["steps"] == 60
    assert receipt.after["parameters"] < receipt.before["parameters"]
    assert (len(new.attention), new.training) == (1, False)
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)


def test_what_was_broken_off_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    """And with the same form alone."""
    write_text(tmp_path / "text.txt")
    common: dict[str, Any] = {"train": tmp_path / "text.txt", "embedding_size": 8, "settings": QUICK}
    common["settings"] = QUICK | {"data.split": "lines", "checkpoints.every": 1}
    gs.share(language_model(tmp_path), output=tmp_path / "whole", **common)
    for how in (RunStopped, ZeroDivisionError):
        out = tmp_path / how.__name__
        broken_off(language_model(tmp_path), 2, how, learn=gs.share, output=out, **common)
        gs.share(language_model(tmp_path), output=out, resume="must", **common)
        assert_same_run(tmp_path / "whole", out, step=3)
    with pytest.raises(InputError, match=r"^the student is not that of the run, which stands at step 3: put it back"):
        gs.share(language_model(tmp_path), output=tmp_path / "whole", **(common | {"start": 1}))


def test_a_sentence_encoder_learns_its_vectors(tmp_path: Path) -> None:
    encoder = gs.load(save_encoder(tmp_path), head="embed")
    new, receipt = gs.share(encoder, texts(12), settings=QUICK)
    assert receipt.settings["objective"] == "embed"
    assert new.architecture.head == encoder.architecture.head


def test_matches_are_the_states_of_every_layer_unless_given(tmp_path: Path) -> None:
    model = classifier(tmp_path)
    layers = len(model.architecture.layers)
    _, receipt = gs.share(model, texts(12), settings=QUICK)
    assert f"{layers} matches of layers" in receipt.changes
    _, receipt = gs.share(model, texts(12), matches=[], settings=QUICK)
    assert not any("matches" in line for line in receipt.changes)


def test_matches_of_another_kind_are_refused(tmp_path: Path) -> None:
    for matches in (3, "states"):
        with pytest.raises(InputError, match=rf"matches is {matches!r}; "):
            gs.share(classifier(tmp_path), texts(6), matches=matches, settings=QUICK)  # type: ignore[arg-type]
