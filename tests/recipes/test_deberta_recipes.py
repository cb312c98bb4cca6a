"""Recipes on models that compare content with states of distances: each works, or refuses in a line."""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor
from trim_models import texts, tiny

import gossamer as gs
from gossamer.models import Model
from gossamer.recipes.removal.remove import remove
from gossamer.surgery.students import make_student
from gossamer.training.objectives.teachers.matches import Match

MASK = (torch.arange(30) < torch.tensor([[30], [20]])).long()
OWN = pytest.mark.parametrize("own", [False, True], ids=["shared maps", "maps of their own"])
ROWS = [{"text": text, "label": i % 2} for i, text in enumerate(texts()[:16])]


def model(own: bool, head: str = "sequence-classification", **more: Any) -> Model:
    return tiny("deberta-v2", head, num_attention_heads=4, share_att_key=not own, **more)


def logits(of: Model, **more: Any) -> Tensor:
    random = torch.Generator().manual_seed(0)
    ids = torch.randint(1, of.architecture.embeddings.vocabulary_size, (2, 30), generator=random)
    with torch.no_grad():
        return of(ids, attention_mask=MASK, **more).logits


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@OWN
def test_heads_go_with_their_maps_of_states(own: bool, tmp_path: Path) -> None:
    old = model(own)
    new = remove(old, heads={0: [1], 1: [0, 3]})
    switched = torch.ones(2, 4)
    switched[0, 1] = switched[1, 0] = switched[1, 3] = 0
    close(logits(new), logits(old, head_mask=switched))
    gs.save(new, tmp_path / "new")
    assert gs.load(tmp_path / "new").architecture == new.architecture
    assert new.family == "gossamer"
    assert [tuple(one.states.shape) for one in new.distance_bias] == [(16, 16)]


@OWN
def test_a_layer_loses_all_heads_and_another_goes(own: bool) -> None:
    old = model(own, num_hidden_layers=3)
    switched = torch.ones(3, 4)
    switched[1] = 0
    new = remove(old, heads={1: range(4)})
    assert new.architecture.layers[1].attention.distance_bias is None
    close(logits(new), logits(old, head_mask=switched))
    shorter = remove(old, layers=[0])
    assert len(shorter.architecture.layers) == 2
    assert shorter.family == "deberta-v2"
    assert torch.equal(shorter.distance_bias[0].states, old.distance_bias[0].states)


@torch.no_grad()
def with_zeros(of: Model) -> Model:
    """A head without outputs, one without values, a column of each that does nothing, a layer of feed-forward alone."""
    of = copy.deepcopy(of)
    of.attention[0].output.weight[:, 4:8] = 0
    for tensor in (of.attention[1].value.weight, of.attention[1].value.bias):
        tensor[:4] = 0
    for tensor in (of.attention[1].query.weight, of.attention[1].query.bias):
        tensor[1::4] = 0
    of.attention[1].output.weight[:, 1::4] = 0
    of.attention[2].output.weight[:] = 0
    return of


@OWN
def test_zeros_go_and_padding_gives_the_public_format_back(own: bool, tmp_path: Path) -> None:
    old = with_zeros(model(own, num_hidden_layers=3))
    new, _ = gs.compact(old)
    assert [one.attention.heads for one in new.architecture.layers] == [3, 3, 0]
    # With maps of their own the states meet keys whose queries are 0.
    assert new.architecture.layers[1].attention.head_size == (4 if own else 3)
    close(logits(new), logits(old))
    even, _ = gs.compact(old, padded=True)
    close(logits(even), logits(old))
    gs.save(even, tmp_path / "even")
    assert json.loads((tmp_path / "even" / "config.json").read_text())["model_type"] == "deberta-v2"
    again = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "even").eval()
    ids = torch.arange(1, 31)[None]
    with torch.no_grad():
        close(again(ids).logits, old(ids).logits)


def test_lengthen_says_why_not() -> None:
    with pytest.raises(gs.InputError) as caught:
        gs.lengthen(model(False), to=128, window=16)
    assert str(caught.value).startswith(
        "the model compares content with states of distances (RelativePositions), which"
    )
    assert "\n" not in str(caught.value)


def test_longer_texts_are_read_as_they_are(tmp_path: Path) -> None:
    """By what docs/families.md says: a greater length, the same farthest distance."""
    old = model(False)
    gs.save(old, tmp_path / "long")
    path = tmp_path / "long" / "config.json"
    config = json.loads(path.read_text())
    assert config["max_relative_positions"] == -1  # its length
    path.write_text(json.dumps(config | {"max_position_embeddings": 500, "max_relative_positions": 64}))
    (tmp_path / "long" / "gossamer.json").unlink()
    new = gs.load(tmp_path / "long")
    assert new.architecture.length == 500
    close(logits(new), logits(old))
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "long").eval()
    ids = torch.randint(1, 900, (1, 400), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        close(new(ids).logits, theirs(ids).logits)


@pytest.mark.parametrize(
    "options",
    [
        {"layers": "every-other"},
        {"hidden_size": 8},
        {"hidden_size": 8, "narrow": "linear"},
        {"heads": 2},
        {"matches": [Match(teacher=1, student=0, of="attention", loss="kl")]},
    ],
    ids=["layers", "neurons", "linear", "heads", "attention"],
)
def test_students(options: dict[str, Any], tmp_path: Path) -> None:
    student, _ = gs.distill(model(True), ROWS, epochs=1, **options)
    assert student.family == ("gossamer" if "heads" in options else "deberta-v2")
    gs.save(student, tmp_path / "student")
    close(logits(gs.load(tmp_path / "student")), logits(student))


def test_a_student_of_some_layers_has_the_same_states() -> None:
    teacher = model(True, num_hidden_layers=3)
    student = make_student(teacher, [0, 2])
    assert torch.equal(student.attention[1].relative_key.weight, teacher.attention[2].relative_key.weight)
    assert torch.equal(student.distance_bias[0].states, teacher.distance_bias[0].states)


@OWN
@pytest.mark.parametrize(
    "prune",
    [
        lambda of: gs.prune(of, score="magnitude", structure="heads", keep=0.5),
        lambda of: gs.prune(of, ROWS, score="wanda", keep=0.5, samples=8),
        lambda of: gs.prune(of, ROWS, structure="heads", keep=0.5, epochs=1, length=32),
    ],
    ids=["magnitude", "wanda", "movement"],
)
def test_pruned_models_are_as_compact_ones(prune: Callable[[Model], tuple[Model, Any]], own: bool) -> None:
    pruned, _ = prune(model(own))
    new, _ = gs.compact(pruned)
    close(logits(new), logits(pruned))
    assert pruned.family == "deberta-v2"


@OWN
def test_shared_layers_share_their_maps_of_states(own: bool, tmp_path: Path) -> None:
    new, _ = gs.share(model(own))
    assert len(new.attention) == 1
    assert new.family == "gossamer"
    gs.save(new, tmp_path / "shared")
    close(logits(gs.load(tmp_path / "shared")), logits(new))


def test_recomputed_layers_drop_the_same_states() -> None:
    rates = {"hidden_dropout_prob": 0.2, "attention_probs_dropout_prob": 0.1}
    plain = model(True, **rates).train()
    gradients = []
    for recompute in ("nothing", "both"):
        described = plain.architecture.with_layers(lambda one, again=recompute: replace(one, recompute=again))
        new = Model(described).train()
        new.load_state_dict(plain.state_dict())
        torch.manual_seed(5)
        new(torch.arange(1, 31)[None], labels=torch.tensor([1])).loss.backward()
        gradients.append(torch.cat([one.grad.flatten() for one in new.parameters()]))
    assert float(gradients[0].norm()) > 0
    assert torch.equal(*gradients)


def test_embeddings_with_a_norm_behind_their_map_are_not_narrowed() -> None:
    old = model(False, embedding_size=8)
    assert old.architecture.embeddings.norms_states
    with pytest.raises(gs.InputError, match=r"embedding_size is 4; the model norms what the map of its tables gives"):
        gs.share(old, embedding_size=4)
    with pytest.raises(gs.InputError, match=r"hidden_size is 8; it must be left out: the teacher's embeddings are"):
        gs.distill(old, ROWS, hidden_size=8, epochs=1)
    shared, _ = gs.share(old)
    assert shared.architecture.embeddings == old.architecture.embeddings
