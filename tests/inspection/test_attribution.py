"""Attribution to tokens: by differences, by what integrated gradients add up to, and what is refused."""

from typing import Any

import pytest
import torch
from drawn_models import byte_model
from family_models import ours
from generation_models import decoder

import gossamer as gs
from gossamer.errors import InputError
from gossamer.inspection import Attribution, attribute
from gossamer.models import Model
from gossamer.patterns import Full

IDS = torch.tensor([[5, 6, 7, 8, 9]])


def classifier() -> Model:
    return ours("bert", "sequence-classification", dtype=torch.float64)


def models() -> dict[str, tuple[Model, dict[str, Any], str]]:
    """Of each kind of head: a model, options, and which result it is."""
    tagger = ours("bert", "token-classification", dtype=torch.float64)
    words = ours("bert", "masked-lm", dtype=torch.float64)
    names = list(classifier().architecture.head.labels)  # type: ignore[union-attr]
    return {
        "label": (classifier(), {"label": names[1]}, f"logit of {names[1]!r}"),
        "number": (classifier(), {"label": 0}, f"logit of {names[0]!r}"),
        "likeliest": (classifier(), {}, "logit of"),
        "tag": (tagger, {"token": 2, "label": 1}, "of token 2"),
        "masked": (words, {"token": 3}, "in place of token 3"),
        "next": (decoder([Full(causal=True)] * 2), {}, "behind token 4"),
        "state": (byte_model().double(), {"token": 1}, "state of token 1"),
        "mean": (byte_model().double(), {}, "mean state, along itself"),
    }


@pytest.mark.parametrize("kind", list(models()))
def test_integrated_gradients_add_up(kind: str) -> None:
    model, options, told = models()[kind]
    counts: list[tuple[int, int]] = []
    found = attribute(model, IDS, steps=400, progress=lambda *step: counts.append(step), **options)
    assert told in found.told
    assert len(counts) == 400
    assert found.baseline is not None
    assert found.scores.shape == (5,)
    assert float(found.scores.sum()) == pytest.approx(found.value - found.baseline, abs=2e-3)


@pytest.mark.parametrize("kind", list(models()))
def test_gradient_times_input_is_a_difference(kind: str) -> None:
    """How the result changes where the words of one token are made longer by a little."""
    model, options, _ = models()[kind]
    found = attribute(model, IDS, "gradient", **options)
    assert found.baseline is None
    words, step = model.embeddings.words(IDS).detach(), 1e-5

    def value(token: int, change: float) -> float:
        moved = words.clone()
        moved[0, token] *= 1 + change
        return _result(model, moved, found, options)

    for token in range(5):
        wanted = (value(token, step) - value(token, -step)) / (2 * step)
        assert float(found.scores[token]) == pytest.approx(wanted, abs=1e-6, rel=1e-5)


@torch.no_grad()
def _result(model: Model, words: torch.Tensor, found: Attribution, options: dict[str, Any]) -> float:
    whole, out = model(IDS), model(inputs_embeds=words)
    if whole.logits is None:
        old, new = (
            one.last_hidden_state[0, options["token"]] if "token" in options else one.last_hidden_state[0].mean(0)
            for one in (whole, out)
        )  # fmt: skip
        return float(new @ torch.nn.functional.normalize(old, dim=0))
    old, new = whole.logits[0], out.logits[0]
    if old.dim() == 2:
        at = options.get("token", 4)
        old, new = old[at], new[at]
    names = getattr(model.architecture.head, "labels", ())
    label = options.get("label", int(old.argmax()))
    return float(new[names.index(label) if isinstance(label, str) else label])


def test_global_tokens_stay_where_they_are() -> None:
    """Without ids nobody could tell a question's end, nor which token a lengthened model has as global."""
    model = gs.lengthen(byte_model(), to=64, window=4)[0]
    ids = torch.randint(3, 200, (1, 30))
    with torch.no_grad():
        whole = model(ids).last_hidden_state[0, 2]
    found = attribute(model, ids, "gradient", token=2)
    assert found.value == pytest.approx(float(whole.norm()), rel=1e-5)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"method": "shap"}, "method is 'shap'; it must be one of gradient, integrated"),
        ({"steps": 0}, "steps is 0"),
        ({"token": 5}, "token is 5; the text has 5, numbered from 0"),
        ({"label": "nobody"}, "label is 'nobody'; the model has"),
        ({"label": 99}, "label is 99; the model has"),
    ],
)
def test_what_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        attribute(classifier(), IDS, **options)


def test_what_has_no_result_to_explain_is_refused() -> None:
    with pytest.raises(InputError, match="the text has no mask"):
        attribute(ours("bert", "masked-lm"), IDS)
    with pytest.raises(InputError, match="'question-answering' reads more than one text"):
        attribute(ours("bert", "question-answering"), IDS)


def test_labels_are_of_models_that_have_them() -> None:
    with pytest.raises(InputError, match="has none: leave it out"):
        attribute(byte_model(), IDS, label=1)
