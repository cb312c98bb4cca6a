"""What training refuses before it reads its data, `estimate` refuses too; and it takes what would be trained."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import decoder_config, encoder_config

import gossamer as gs
from gossamer.models import Model
from gossamer.text import byte_tokenizer
from gossamer.training.config import TrainingConfig
from gossamer.training.config.reading import changed
from gossamer.training.estimate.estimate import estimate


@pytest.fixture(autouse=True)
def _untimed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gossamer.training.estimate.estimate.step_seconds", lambda *rest, **more: {"maps": 1.0})


@pytest.fixture
def words(tmp_path: Path) -> Path:
    """The directory of a tokenizer of three tokens, of which the last is number 99."""
    place = tmp_path / "words"
    place.mkdir()
    model = {"type": "WordLevel", "vocab": {"[UNK]": 0, "the": 1, "web": 99}, "unk_token": "[UNK]"}
    rest = ("truncation", "padding", "normalizer", "post_processor", "decoder")
    fields = {"version": "1.0", **dict.fromkeys(rest), "added_tokens": [], "model": model}
    (place / "tokenizer.json").write_text(json.dumps(fields | {"pre_tokenizer": {"type": "Whitespace"}}))
    return place


def with_changes(fields: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    for path, value in changes.items():
        fields = changed(fields, path, value)
    return fields


TABLE = "embeddings.position.weight"
NOT_HERE = "mps" if torch.cuda.is_available() else "cuda"
REFUSED = [
    ({"objective": "masked-lm"}, r"objective\.kind is 'masked-lm', but the model has the head 'causal-lm'"),
    ({"train_only": ["nonsense"]}, r"train_only\[0\] is 'nonsense'; the model has no such part: the nearest is"),
    ({"frozen_rows": {"embeddings.position": 3}}, rf"the nearest is '{TABLE}'"),
    ({"frozen_rows": {TABLE: 33}}, rf"frozen_rows\.{TABLE} is 33; the table has 32 rows"),
    ({"model.decoder.vocabulary_size": 100}, r"data\.tokenizer has a vocabulary of 257, the model's has 100"),
    ({"device": NOT_HERE}, rf"device is '{NOT_HERE}'; this machine has cpu"),
    ({"sample": {"prompt": "long " * 10}}, r"sample\.prompt is 50 tokens long; the model reads 32"),
    ({"batch.length": 64}, r"batch\.length is 64; the model reads 32 tokens"),
    ({"model": None}, r"model is missing; name a checkpoint"),
    ({"data.tokenizer": "/no/such/place"}, r"'/no/such/place'"),
    ({"model": {"checkpoint": "/no/such/place"}}, r"'/no/such/place'"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED)
def test_what_training_refuses_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    fields = with_changes(decoder_config(tmp_path), changes)
    for take in (estimate, gs.train):
        with pytest.raises(gs.InputError, match=message) as caught:
            take(fields)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("more", "what"),
    [
        ({"optimizer.name": "adafactor"}, "tensors into pieces; with torch's Adafactor"),
        ({"frozen_rows": {TABLE: 3}}, "tensors into pieces; with frozen_rows"),
        ({"pruning": {}}, "masks and scores into pieces; with pruning"),
    ],
)
def test_what_fsdp2_cannot_cut_is_refused_for_several_processes(
    tmp_path: Path, more: dict[str, Any], what: str
) -> None:
    fields = with_changes(decoder_config(tmp_path), {"parallel": "fsdp2", **more})
    with pytest.raises(gs.InputError, match=rf"^parallel is 'fsdp2', which cuts {what} it must be 'ddp'$"):
        estimate(fields, processes=2)
    assert estimate(fields).rows == 6
    assert estimate({**fields, "parallel": "ddp"}, processes=2).rows == 3


def test_of_split_sequences_a_process_has_a_part_of_every_row(tmp_path: Path) -> None:
    told = estimate(decoder_config(tmp_path, parallel="sequence", batch={"rows": 3}), processes=2)
    assert (told.rows, told.length) == (3, 16)
    full = {"model": {"decoder": {"layers": 1, "hidden_size": 8, "heads": 2, "length": 32, "pattern": "full"}}}
    with pytest.raises(gs.InputError, match="the pattern 'causal full' sees without bounds, and a sequence that is"):
        estimate(decoder_config(tmp_path, parallel="sequence", **full), processes=2)


def test_a_tokenizer_without_a_mask_is_refused_for_a_masked_lm(tmp_path: Path, words: Path) -> None:
    fields = with_changes(encoder_config(tmp_path), {"data.tokenizer": str(words)})
    for take in (estimate, gs.train):
        with pytest.raises(gs.InputError, match="the tokenizer has no token for what is taken out"):
            take(fields)


def test_a_checkpoint_without_the_head_is_refused_and_takes_a_new_one(tmp_path: Path, minilm: Path) -> None:
    fields = decoder_config(tmp_path, model=str(minilm), objective="masked-lm")
    for take in (estimate, gs.train):
        with pytest.raises(gs.InputError, match=r"objective\.kind is 'masked-lm', but the model .* head"):
            take(fields)
    before = torch.get_rng_state()
    assert estimate(with_changes(fields, {"model": {"checkpoint": str(minilm), "new_head": True}})).length == 512
    assert torch.equal(torch.get_rng_state(), before)


def test_no_tensor_of_a_checkpoint_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model(TrainingConfig.read(encoder_config(tmp_path)).model.describe(258))  # type: ignore[union-attr]
    model.tokenizer = byte_tokenizer(mask=True)
    gs.save(model, tmp_path / "model")
    fields = encoder_config(tmp_path, model=str(tmp_path / "model"))
    with monkeypatch.context() as patch:
        patch.setattr("gossamer.checkpoints.weights.WeightFiles.read", None)
        assert estimate(fields).parameters == sum(one.numel() for one in model.parameters())
    config = tmp_path / "model" / "config.json"
    config.write_text(config.read_text().replace('"width": 32', '"width": 16'))
    (tmp_path / "model" / "gossamer.json").unlink()
    for take in (estimate, gs.train):
        with pytest.raises(gs.InputError, match=r"model\.safetensors: .*32"):
            take(fields)


def test_a_model_that_is_given_needs_a_tokenizer_that_is_its_own(tmp_path: Path, minilm: Path) -> None:
    fields = decoder_config(tmp_path)
    settings = TrainingConfig.read(fields).model
    assert settings is not None
    model = Model(settings.describe(257))
    with pytest.raises(gs.InputError, match=r"data\.tokenizer is missing and the model has none; name 'bytes'"):
        estimate(fields, model=model)
    named = with_changes(fields, {"data.tokenizer": "bytes"})
    assert estimate(named, model=model).parameters == sum(one.numel() for one in model.parameters())
    assert model.tokenizer is None
    model = Model(settings.describe(40_000), tokenizer=byte_tokenizer())
    assert estimate(named, model=model).length == 32
    with pytest.raises(gs.InputError, match=r"data\.tokenizer is not the model's own: leave it out"):
        estimate(with_changes(fields, {"data.tokenizer": str(minilm)}), model=model)


def test_a_vocabulary_with_gaps_gets_a_table_up_to_its_last_id(tmp_path: Path, words: Path) -> None:
    found = estimate(with_changes(decoder_config(tmp_path), {"data.tokenizer": str(words)}))
    assert found.architecture.embeddings.vocabulary_size == 100
