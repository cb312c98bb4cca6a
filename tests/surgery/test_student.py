"""Students made from their teachers by a layer map: their weights, their outputs, and what `transformers` reads."""

import dataclasses
from pathlib import Path

import pytest
import torch
from family_models import ours
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModel, AutoModelForMaskedLM, AutoModelForTokenClassification

import gossamer as gs
from gossamer.errors import InputError
from gossamer.families import get_family
from gossamer.layers import LowRank, TokenInfo
from gossamer.models import Model
from gossamer.surgery.storages import merge, store
from gossamer.surgery.students.student import make_student, student_layers

SIZES = {"vocab_size": 30, "hidden_size": 8, "num_hidden_layers": 5, "num_attention_heads": 2, "intermediate_size": 12}


def drawn(family: str = "bert", head: str | None = None, **sizes: object) -> Model:
    torch.manual_seed(0)
    model = Model(get_family(family).read({**SIZES, **sizes}, head=head), family=family).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.2)
    return model


def ids(seed: int = 0) -> torch.Tensor:
    return torch.randint(4, 30, (2, 9), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("count", "chosen"),
    [(12, (0, 2, 4, 7, 9, 11)), (6, (0, 2, 5)), (5, (0, 2, 4)), (4, (0, 3)), (3, (0, 2)), (2, (0,)), (1, (0,))],
)
def test_every_other_layer(count: int, chosen: tuple[int, ...]) -> None:
    """Of 12 those of DistilBERT's released script."""
    assert student_layers("every-other", count) == chosen


@given(st.integers(1, 5), st.data())
def test_a_student_runs_the_layers_that_it_was_given(count: int, data: st.DataObject) -> None:
    teacher = drawn(num_hidden_layers=count)
    chosen = data.draw(st.lists(st.integers(0, count - 1), min_size=1, unique=True))
    student = make_student(teacher, chosen)
    states = teacher.embeddings(ids(), None, torch.arange(9)[None], None)
    modules = [(teacher.attention[i], teacher.feed_forward[i]) for i in chosen]
    for attention, feed_forward in modules:
        heads = attention(states, teacher.architecture.layers[0].attention.pattern, TokenInfo(), 0.0)
        states = attention.norm(states + heads)
        states = feed_forward.norm(states + feed_forward(states, 0.0))
    torch.testing.assert_close(student(ids()).last_hidden_state, states)
    assert student.family == "bert"


@pytest.mark.parametrize(
    "family", ["bert", "roberta", "distilbert", "albert", "electra", "gpt2", "llama", "modernbert"]
)
def test_a_student_of_every_family_is_saved_in_its_format(family: str, tmp_path: Path) -> None:
    sizes = {"distilbert": {"dim": 8, "n_layers": 5, "n_heads": 2, "hidden_dim": 12}, "albert": {"embedding_size": 8}}
    sizes |= {"gpt2": {"n_embd": 8, "n_layer": 5, "n_head": 2}, "modernbert": {"global_attn_every_n_layers": 1}}
    if family in ("distilbert", "gpt2"):
        torch.manual_seed(0)
        teacher = Model(get_family(family).read({"vocab_size": 30, **sizes[family]}), family=family).eval()
    else:
        extra = {"pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 2, "cls_token_id": 2, "sep_token_id": 2}
        teacher = drawn(family, **{**sizes.get(family, {}), **extra})
    student = make_student(teacher)
    assert len(student.architecture.layers) == 3
    assert student.family == family
    gs.save(student, tmp_path / "student")
    theirs = AutoModel.from_pretrained(tmp_path / "student").eval()
    with torch.no_grad():
        expected, found = theirs(ids()).last_hidden_state, student(ids()).last_hidden_state
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_shared_weights_stay_shared() -> None:
    teacher = drawn("albert", embedding_size=8)
    student = make_student(teacher, [0, 3])
    assert [one.attention.weights for one in student.architecture.layers] == [0, 0]
    names = student.state_dict().keys()
    assert names == teacher.state_dict().keys()
    groups = drawn("albert", embedding_size=8, num_hidden_layers=4, num_hidden_groups=2)
    last = make_student(groups, [2, 3])
    assert [one.attention.weights for one in last.architecture.layers] == [0, 0]
    expected = groups.state_dict()["attention.1.query.weight"]
    assert torch.equal(last.state_dict()["attention.0.query.weight"], expected)


def test_what_a_map_is_stored_in_goes_along() -> None:
    teacher = store(drawn(), ["attention.2.query", "feed_forward.1.up"], LowRank(rank=2))
    student = make_student(teacher, [2, 4])
    assert [one.maps for one in student.architecture.storages] == [("attention.0.query",)]
    expected = make_student(merge(teacher), [2, 4])(ids()).last_hidden_state
    torch.testing.assert_close(student(ids()).last_hidden_state, expected)


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        ("none", AutoModel),
        ("masked-lm", AutoModelForMaskedLM),
        ("token-classification", AutoModelForTokenClassification),
    ],
)
def test_distilberts_shape_reads_as_before(head: str, kind: type, tmp_path: Path) -> None:
    """All layers in DistilBERT's shape give the teacher's outputs, and `transformers` gives them too."""
    teacher = ours("bert", head)
    student = make_student(teacher, [0, 1], shape="distilbert")
    assert not any("token_type" in name or "pooler" in name for name in student.state_dict())
    found, before = student(ids()), teacher(ids())
    torch.testing.assert_close(found.last_hidden_state, before.last_hidden_state)
    gs.save(student, tmp_path / "student")
    assert gs.load(tmp_path / "student").family == "distilbert"
    theirs = kind.from_pretrained(tmp_path / "student").eval()
    assert type(theirs).__name__.startswith("DistilBert")
    with torch.no_grad():
        out = theirs(ids())
    expected = out.last_hidden_state if head == "none" else out.logits
    torch.testing.assert_close(found.last_hidden_state if head == "none" else found.logits, expected)


def test_a_classifier_in_distilberts_shape_has_its_activation(tmp_path: Path) -> None:
    student = make_student(ours("bert", "sequence-classification"), [1], shape="distilbert")
    gs.save(student, tmp_path / "student")
    again = gs.load(tmp_path / "student")
    assert again.family == "distilbert"
    assert again.architecture.head == student.architecture.head
    assert student.architecture.head.pooler_activation == "relu"  # type: ignore[union-attr]


def test_the_teacher_is_left_alone() -> None:
    teacher = drawn()
    before = {name: one.clone() for name, one in teacher.state_dict().items()}
    student = make_student(teacher, shape="distilbert")
    with torch.no_grad():
        for weight in student.parameters():
            weight.zero_()
    assert all(torch.equal(before[name], one) for name, one in teacher.state_dict().items())


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ("all", r"^layers is 'all'; it must be 'every-other' or a list"),
        ([], r"^layers is \[\]; it must be"),
        (3, r"^layers is 3; it must be"),
        ([0, 5], r"^layers has 5; the teacher's layers go from 0 to 4$"),
        ([-1], r"^layers has -1; the teacher's"),
        ([True], r"^layers has True; the teacher's"),
        ([1, 1], r"^layers has 1 twice"),
    ],
)
def test_a_wrong_map_is_one_line(layers: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_student(drawn(), layers)  # type: ignore[arg-type]


def test_a_wrong_shape_is_one_line() -> None:
    with pytest.raises(InputError, match=r"^shape is 'small'; it must be 'teacher' or 'distilbert'"):
        make_student(drawn(), shape="small")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"^shape is 'distilbert', whose format cannot hold the student \("):
        make_student(drawn("roberta", pad_token_id=1), shape="distilbert")
    eps = drawn()
    layers = tuple(
        dataclasses.replace(one, norm=dataclasses.replace(one.norm, eps=1e-3)) for one in eps.architecture.layers
    )
    eps.architecture = dataclasses.replace(eps.architecture, layers=layers)
    with pytest.raises(InputError, match=r"norm\.eps"):
        make_student(eps, shape="distilbert")
