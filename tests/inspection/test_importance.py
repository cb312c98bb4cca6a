"""Heads switched off one by one, against models whose heads are cut off by hand."""

import copy

import pytest
import torch
from drawn_models import byte_model
from family_models import ours
from generation_models import decoder

from gossamer.errors import InputError
from gossamer.inspection import head_importance
from gossamer.models import Model
from gossamer.patterns import Full
from gossamer.text import byte_tokenizer

TEXTS = ["the cat saw a dog", "seven"]


def cut(model: Model, layer: int, head: int, size: int) -> Model:
    """The model without what one head gives."""
    without = copy.deepcopy(model)
    with torch.no_grad():
        without.attention[layer].output.weight[:, head * size : (head + 1) * size] = 0
    return without


@torch.no_grad()
def test_of_a_body_it_is_the_distance_of_states() -> None:
    model = byte_model()
    counts: list[tuple[int, int]] = []
    found = head_importance(model, TEXTS, progress=lambda *step: counts.append(step))
    assert counts == [(i + 1, 10) for i in range(10)]
    assert found.values.shape == (2, 2)
    for layer in range(2):
        for head in range(2):
            changes = []
            for text in TEXTS:
                batch = model.tokenizer(text)  # type: ignore[misc]
                old, new = (one(**batch).last_hidden_state for one in (model, cut(model, layer, head, 4)))
                changes.append(1 - torch.cosine_similarity(old.double(), new.double(), dim=-1).mean())
            assert float(found.values[layer, head]) == pytest.approx(float(sum(changes) / 2), abs=1e-6)
    assert "cosine" in found.told


@torch.no_grad()
def test_of_a_language_model_it_is_the_loss() -> None:
    model = decoder([Full(causal=True)] * 2, vocabulary=300, tokenizer=byte_tokenizer())
    found = head_importance(model, TEXTS)
    for layer, head in ((0, 3), (1, 1)):
        changes = []
        for text in TEXTS:
            ids = model.tokenizer(text)["input_ids"]  # type: ignore[misc]
            losses = [one(ids, labels=ids).loss for one in (cut(model, layer, head, 4), model)]
            changes.append(float(losses[0] - losses[1]))
        assert float(found.values[layer, head]) == pytest.approx(sum(changes) / 2, abs=1e-9)
    assert "nats a token" in found.told


@torch.no_grad()
def test_of_labels_it_is_the_divergence() -> None:
    model = ours("bert", "sequence-classification", dtype=torch.float64)
    model.tokenizer = byte_tokenizer()
    ids = torch.tensor([[5, 6, 7, 8]])
    model.tokenizer = _Fixed(ids)  # type: ignore[assignment]
    found = head_importance(model, ["any"])
    old, new = (one(ids).logits.log_softmax(-1) for one in (model, cut(model, 1, 0, 4)))
    wanted = torch.nn.functional.kl_div(new, old, log_target=True, reduction="batchmean")
    assert float(found.values[1, 0]) == pytest.approx(float(wanted), rel=1e-6)


class _Fixed:
    def __init__(self, ids: torch.Tensor) -> None:
        self.ids = ids

    def __call__(self, text: str, **_: object) -> dict[str, torch.Tensor]:
        return {"input_ids": self.ids}


@pytest.mark.parametrize(("texts", "said"), [([], "one text or none"), ("a text", "one text or none")])
def test_what_is_refused(texts: object, said: str) -> None:
    with pytest.raises(InputError, match=said):
        head_importance(byte_model(), texts)  # type: ignore[arg-type]
