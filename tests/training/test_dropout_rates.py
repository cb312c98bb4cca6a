"""The rates of dropout that a training asks for: of every part of every model, for as long as it lasts."""

from pathlib import Path
from typing import Any

import pytest
import torch
from broken_runs import broken_off
from family_models import PAIRS, Batch, batch, ours, outputs
from tiny_runs import assert_same_run, decoder_config, journal

import gossamer as gs
from gossamer.errors import InputError
from gossamer.models import Model
from gossamer.models.dropout import set_dropout, with_dropout
from gossamer.training.estimate.estimate import estimate


def read(model: Model, texts: Batch) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return outputs(texts.read(model), texts.mask)


@pytest.mark.parametrize(("family", "head"), PAIRS)
def test_without_dropout_a_training_model_gives_what_it_gives_in_evaluation(family: str, head: str) -> None:
    """Of every family with every head; and then all rates are what they were."""
    model = ours(family, head)
    texts = batch(model, 12, 0)
    described, settled = model.architecture, read(model.eval(), texts)
    drops = with_dropout(described, 0.0) != described
    drawn = read(model.train(), texts)
    restore = set_dropout(model, 0.0)
    for name, wanted in settled.items():
        torch.testing.assert_close(read(model, texts)[name], wanted)
    assert any(not torch.allclose(drawn[name], wanted) for name, wanted in settled.items()) == drops
    model.architecture = described
    restore()
    torch.testing.assert_close(read(model, texts), drawn)


def test_rates_above_nothing_become_the_one_that_is_asked_for() -> None:
    described = ours("bert", "sequence-classification").architecture
    changed = with_dropout(described, 0.3)
    rates = {changed.embeddings.dropout, changed.head.dropout}  # type: ignore[union-attr]
    for layer in changed.layers:
        rates |= {layer.attention.dropout, layer.attention.residual_dropout, layer.feed_forward.residual_dropout}
        assert layer.feed_forward.dropout == 0.0, "BERT has none there"
    assert rates == {0.3}
    assert with_dropout(described, None) is described
    with pytest.raises(InputError, match=r"^dropout is 0.2; it must be 0, or left out: the model drops nothing any"):
        with_dropout(with_dropout(described, 0.0), 0.2)


def test_a_run_without_dropout_is_that_of_a_model_without_it(tmp_path: Path) -> None:
    """What is saved and what comes back have their own rates; it goes on to the same bits."""
    config = decoder_config(tmp_path, "without", dropout=0.0)
    model, _ = gs.train(config)
    config_of_none = decoder_config(tmp_path, "of-none")
    config_of_none["model"]["decoder"]["dropout"] = 0.0
    gs.train(config_of_none)
    assert losses(tmp_path / "without") == losses(tmp_path / "of-none")
    gs.train(decoder_config(tmp_path, "with"))
    assert losses(tmp_path / "with") != losses(tmp_path / "without")
    saved = gs.load(tmp_path / "without" / "last")
    assert saved.architecture == model.architecture
    assert model.architecture.embeddings.dropout == model.embeddings.dropout.p == 0.1
    broken_off(decoder_config(tmp_path, "broken", dropout=0.0), 4, MemoryError)
    with pytest.raises(InputError, match="dropout"):
        gs.train(decoder_config(tmp_path, "broken"))
    gs.train(decoder_config(tmp_path, "broken", dropout=0.0), resume="must")
    assert_same_run(tmp_path / "without", tmp_path / "broken", 6)


def test_an_estimate_reckons_with_it(tmp_path: Path) -> None:
    config = decoder_config(tmp_path)
    without = decoder_config(tmp_path)
    without["model"]["decoder"]["dropout"] = 0.0
    reckoned = [estimate(one).peak_bytes for one in ({**config, "dropout": 0.0}, without, config)]
    assert reckoned[0] == reckoned[1] < reckoned[2]


def losses(folder: Path) -> list[float]:
    return [line["loss"] for line in journal(folder) if line["split"] == "train"]


@pytest.mark.parametrize("rate", [-0.1, 1.0, True, "much"])
def test_what_is_no_rate_is_refused(rate: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^dropout is .*must be (a rate from 0 up to, but not, 1|a number)"):
        gs.train(decoder_config(tmp_path, dropout=rate))
    assert not (tmp_path / "out").exists()
