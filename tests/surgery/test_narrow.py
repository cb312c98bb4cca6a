"""Narrower students: what is left out, what it leaves as it was, and what `transformers` reads of it."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from family_models import NAMES, ours
from torch import Tensor
from transformers import AutoModel, AutoModelForMaskedLM

import gossamer as gs
from gossamer.errors import InputError
from gossamer.families import get_family
from gossamer.layers import LowRank
from gossamer.models import Architecture, Model, SentenceEmbedding
from gossamer.models.decoders import decoder
from gossamer.patterns import Full, PerHead, Window
from gossamer.surgery.storages import store
from gossamer.surgery.students.narrow import Widths, narrow
from gossamer.surgery.students.narrow_maps import hidden_map
from gossamer.surgery.students.student import make_student
from gossamer.text import byte_tokenizer

SIZES = {"vocab_size": 30, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 24}
OF = {
    "distilbert": {"vocab_size": 30, "dim": 16, "n_layers": 3, "n_heads": 4, "hidden_dim": 24},
    "gpt2": {"vocab_size": 30, "n_embd": 16, "n_layer": 3, "n_head": 4},
    "albert": {**SIZES, "embedding_size": 6},
    "electra": {**SIZES, "embedding_size": 6},
    "llama": {**SIZES, "num_key_value_heads": 2},
    "modernbert": {**SIZES, "global_attn_every_n_layers": 2, "local_attention": 4},
    "longformer": {**SIZES, "attention_window": 4},
}
TOKENS = {"pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 2, "cls_token_id": 2, "sep_token_id": 2}


def drawn(family: str, head: str | None = None, **changes: Any) -> Model:
    torch.manual_seed(0)
    sizes = {**OF.get(family, SIZES), **(TOKENS if family not in ("distilbert", "gpt2", "bert") else {}), **changes}
    model = Model(get_family(family).read(sizes, head=head), family=family).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.2)
    return model


def ids(rows: int = 2, length: int = 8) -> Tensor:
    return torch.randint(4, 30, (rows, length), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("by", ["neurons", "linear"])
@pytest.mark.parametrize(
    "family",
    ["bert", "roberta", "distilbert", "albert", "electra", "gpt2", "llama", "modernbert", "longformer"],
)
def test_a_narrower_student_of_every_family_is_saved_in_its_format(family: str, by: Any, tmp_path: Path) -> None:
    """Heads go with the states, their size kept, and so do neurons."""
    student = make_student(drawn(family), [0, 2], widths=Widths(hidden_size=8, by=by))
    described = student.architecture
    assert (described.hidden_size, len(described.layers), student.family) == (8, 2, family)
    assert [(one.attention.heads, one.attention.head_size) for one in described.layers] == [(2, 4)] * 2
    gs.save(student, tmp_path / "student")
    theirs = AutoModel.from_pretrained(tmp_path / "student").eval()
    with torch.no_grad():
        expected, found = theirs(ids()).last_hidden_state, student(ids()).last_hidden_state
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("by", ["neurons", "linear"])
@pytest.mark.parametrize(
    ("family", "head"),
    [
        *(("bert", head) for head in ("masked-lm", "sequence-classification", "token-classification")),
        *(("bert", head) for head in ("question-answering", "multiple-choice", "pre-training", "next-sentence")),
        *(("electra", head) for head in ("masked-lm", "replaced-token", "sequence-classification")),
        *(("albert", head) for head in ("pre-training", "sequence-classification")),
        *(("distilbert", head) for head in ("masked-lm", "sequence-classification")),
        ("roberta", "masked-lm"),
        *(("modernbert", head) for head in ("masked-lm", "sequence-classification")),
        *(("llama", head) for head in ("causal-lm", "sequence-classification")),
        ("gpt2", "causal-lm"),
        ("longformer", "sequence-classification"),
    ],
)
def test_every_head_goes_along(family: str, head: str, by: Any, tmp_path: Path) -> None:
    teacher = ours(family, head) if family in NAMES else drawn(family, head)
    student = narrow(teacher, Widths(hidden_size=teacher.architecture.hidden_size // 2, by=by))
    gs.save(student, tmp_path / "student")
    again = gs.load(tmp_path / "student", head=head)
    assert again.family == student.family == family
    read = ids()[:, None].expand(-1, 3, -1) if head == "multiple-choice" else ids()
    found, expected = again(read), student(read)
    assert found.logits is not None
    torch.testing.assert_close(found.logits, expected.logits)
    assert found.logits.shape == teacher(read).logits.shape


def test_transformers_reads_a_masked_lm_too(tmp_path: Path) -> None:
    student = narrow(drawn("bert", "masked-lm"), Widths(hidden_size=8, heads=2, feedforward_size=5, by="linear"))
    gs.save(student, tmp_path / "student")
    theirs = AutoModelForMaskedLM.from_pretrained(tmp_path / "student").eval()
    assert theirs.config.intermediate_size == 5
    with torch.no_grad():
        torch.testing.assert_close(student(ids()).logits, theirs(ids()).logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama", "albert"])
def test_the_whole_width_is_the_teacher(family: str) -> None:
    """Every dimension, head and neuron, in another order of dimensions."""
    teacher = drawn(family).double()
    order = [*range(8, 16), *range(8)]
    neurons = list(range(teacher.architecture.layers[0].feed_forward.width))[::-1]
    student = narrow(teacher, Widths(hidden_size=order, heads=4, feedforward_size=neurons))
    found, expected = student(ids()).last_hidden_state, teacher(ids()).last_hidden_state
    torch.testing.assert_close(found, expected[..., order], atol=1e-6, rtol=1e-6)


def test_heads_and_neurons_that_say_nothing_are_left_out() -> None:
    """Then nothing changes: they are chosen by their output weights."""
    teacher = drawn("llama").double()
    with torch.no_grad():
        for attention, feed_forward in zip(teacher.attention, teacher.feed_forward, strict=True):
            attention.output.weight[:, :8] = 0  # type: ignore[union-attr, index, operator]
            feed_forward.down.weight[:, ::2] = 0  # type: ignore[union-attr, index, operator]
    student = narrow(teacher, Widths(heads=2, feedforward_size=12))
    first = student.architecture.layers[0]
    assert (first.attention.heads, first.attention.key_heads, first.feed_forward.width) == (2, 1, 12)
    torch.testing.assert_close(student(ids()).last_hidden_state, teacher(ids()).last_hidden_state)


def test_states_in_few_directions_are_found_by_a_linear_map() -> None:
    """A wide model that computes in 8 directions of its 16 what a narrow one does: narrowed, it says the same."""
    sizes = {"hidden_size": 8, "num_attention_heads": 4, "head_dim": 4, "num_key_value_heads": 2}
    small = drawn("llama", "causal-lm", **sizes, tie_word_embeddings=True).double()
    wide = drawn("llama", "causal-lm", **{**sizes, "hidden_size": 16}, tie_word_embeddings=True).double()
    with torch.no_grad():
        for name, weight in small.named_parameters():
            if name.endswith("norm.weight"):
                weight.fill_(1)
    basis = torch.linalg.qr(torch.randn(16, 8, dtype=torch.float64))[0]
    weights = {}
    for name, tensor in small.state_dict().items():
        if name.endswith("norm.weight"):
            weights[name] = torch.ones(16).double()
        elif name.endswith(("output.weight", "down.weight")):
            weights[name] = basis @ tensor
        else:
            # A root mean square over twice as many numbers is smaller by the root of 2.
            weights[name] = tensor @ basis.T * (1 if name.startswith("embeddings") else 0.5**0.5)
    wide.load_state_dict(weights)
    with torch.no_grad():
        wide.final_norm.weight.mul_(0.5**0.5)  # type: ignore[union-attr, operator]
    torch.testing.assert_close(wide(ids()).logits, small(ids()).logits, atol=1e-4, rtol=1e-4)
    student = narrow(wide, Widths(hidden_size=8, heads=4, feedforward_size=24, by="linear"))
    torch.testing.assert_close(student(ids()).logits, small(ids()).logits, atol=1e-3, rtol=1e-3)


def test_a_map_takes_the_mean_to_the_mean() -> None:
    """Orthonormal, and centring commutes with it; without that it is of the leading directions alone."""
    torch.manual_seed(0)
    states = torch.randn(50, 12).double() @ torch.randn(12, 12).double()
    gram = states.T @ states
    found = hidden_map(gram, 5, chooses=False, centred=True)
    torch.testing.assert_close(found.T @ found, torch.eye(5).double())
    centre, new = (torch.eye(size).double() - 1 / size for size in (12, 5))
    torch.testing.assert_close(found.T @ centre, new @ found.T)
    leading = hidden_map(gram, 5, chooses=False, centred=False)
    torch.testing.assert_close((leading.T @ gram @ leading).trace(), torch.linalg.eigvalsh(gram)[-5:].sum())
    chosen = hidden_map(gram, 5, chooses=True, centred=True)
    assert set(chosen.tolist()) == set(gram.diagonal().topk(5).indices.tolist())


@pytest.mark.parametrize("by", ["neurons", "linear"])
def test_it_begins_nearer_than_a_drawn_one(by: Any, minilm: Path) -> None:
    """MiniLM at half its width: states of every layer, on texts that were not read to choose."""
    teacher = gs.load(minilm)
    texts = ["The spider spins its web in the far garden.", "Markets fell sharply as investors worried about rates."]
    student = narrow(teacher, Widths(hidden_size=192, by=by)).eval()
    torch.manual_seed(0)
    other = Model(student.architecture).eval()
    back = student.state_dict()["head.dense.0.weight"]
    batch = teacher.tokenizer(texts)
    real = batch["attention_mask"].bool()
    with torch.no_grad():
        wanted, found, random = (
            [one[real] for one in model(**batch, output_hidden_states=True).hidden_states]
            for model in (teacher, student, other)
        )
    for x, near, far in zip(wanted, found, random, strict=True):
        errors = [float((states @ back.T - x).norm() / x.norm()) for states in (near, far)]
        assert errors[0] < 0.85 * errors[1]


def test_the_texts_that_are_read_choose() -> None:
    """One dimension of a byte is by far the largest, another of another byte; no padding token is needed."""
    sizes = {"layers": 1, "hidden_size": 16, "heads": 4, "length": 32, "vocabulary_size": 257}
    torch.manual_seed(0)
    teacher = Model(decoder(**sizes, patterns=[Full(causal=True)]), tokenizer=byte_tokenizer()).double().eval()
    with torch.no_grad():
        teacher.embeddings.word.weight[ord("a"), 3] = 50
        teacher.embeddings.word.weight[ord("b"), 12] = 50
    chosen = {}
    for text in "ab":
        widths = Widths(hidden_size=1, heads=1, texts=[text * 5, text * 9])
        table = narrow(teacher, widths).embeddings.word.weight[:, 0]
        chosen[text] = [i for i in range(16) if torch.equal(teacher.embeddings.word.weight[:, i], table)]
    assert chosen == {"a": [3], "b": [12]}
    with pytest.raises(InputError, match=r"^texts is \[\]; it must be a list of texts"):
        narrow(teacher, Widths(hidden_size=4, texts=[]))
    with pytest.raises(InputError, match=r"^texts is 'ab'; it must be a list of texts"):
        narrow(teacher, Widths(hidden_size=4, texts="ab"))
    teacher.tokenizer = None
    with pytest.raises(InputError, match=r"^texts is \['a'\]; it must be left out: the teacher has no tokenizer"):
        narrow(teacher, Widths(hidden_size=4, texts=["a"]))


def test_what_one_token_says_nothing_of_stays() -> None:
    """Of one token alone no dimension's spread is known: the gains are the teacher's."""
    teacher = drawn("bert")
    teacher.tokenizer = byte_tokenizer()
    student = narrow(teacher, Widths(hidden_size=list(range(8)), texts=["\x04"]))
    before, after = teacher.state_dict(), student.state_dict()
    assert torch.equal(after["attention.0.norm.weight"], before["attention.0.norm.weight"][:8])
    with torch.no_grad():
        teacher.embeddings.word.weight[4] = torch.nan
    with pytest.raises(InputError, match=r"^the teacher's states hold NaN or infinity; go back to sound weights"):
        narrow(teacher, Widths(hidden_size=8, texts=["\x04"]))


@pytest.mark.parametrize("tied", [True, False])
def test_decoders_of_other_positions(tied: bool) -> None:
    sizes = {"layers": 2, "hidden_size": 16, "heads": 4, "length": 32, "vocabulary_size": 40}
    sinusoids, nothing = (
        Model(decoder(**sizes, patterns=[Full(causal=True)], positions=scheme, tied=tied))
        for scheme in ("sinusoidal", "none")
    )
    assert narrow(nothing, Widths(hidden_size=8))(ids()).logits.shape == (2, 8, 40)
    with pytest.raises(InputError, match=r"^hidden_size is 8; it must be left out: the teacher adds sinusoids"):
        narrow(sinusoids, Widths(hidden_size=8))


def test_vectors_keep_their_width_and_are_saved(tmp_path: Path) -> None:
    teacher = drawn("bert")
    teacher.architecture = dataclasses.replace(teacher.architecture, head=SentenceEmbedding(normalized=True))
    student = narrow(teacher, Widths(hidden_size=8, by="linear"))
    assert student(ids()).pooled.shape == teacher(ids()).pooled.shape
    gs.save(student, tmp_path / "student")
    again = gs.load(tmp_path / "student", head="embed")
    torch.testing.assert_close(again(ids()).pooled, student(ids()).pooled)


def test_distilberts_shape_may_be_narrower(tmp_path: Path) -> None:
    teacher = ours("bert", "sequence-classification")
    student = make_student(teacher, [1], shape="distilbert", widths=Widths(hidden_size=4))
    gs.save(student, tmp_path / "student")
    assert gs.load(tmp_path / "student").family == "distilbert"


def test_the_teacher_is_left_as_it_was() -> None:
    teacher = drawn("bert", "masked-lm").train()
    before = {name: one.clone() for name, one in teacher.state_dict().items()}
    narrow(teacher, Widths(hidden_size=8, by="linear"))
    assert teacher.training
    assert teacher.head is not None
    assert all(torch.equal(before[name], one) for name, one in teacher.state_dict().items())
    assert not any(one._forward_hooks for one in teacher.modules())


@pytest.mark.parametrize(
    ("widths", "message"),
    [
        ({"hidden_size": 17}, r"^hidden_size is 17; the teacher has 16: give a number from 1 to that"),
        ({"hidden_size": True}, r"^hidden_size is True; the teacher has 16"),
        ({"hidden_size": 6}, r"^hidden_size is 6; heads are 4 wide: give a multiple"),
        ({"hidden_size": [0, 0]}, r"^hidden_size is \[0, 0\]; the teacher has 16"),
        ({"hidden_size": list(range(8)), "by": "linear"}, r"^hidden_size lists dimensions and narrow is 'linear'"),
        ({"hidden_size": 8, "by": "pca"}, r"^narrow is 'pca'; it must be 'neurons' or 'linear'"),
        ({"by": "pca"}, r"^narrow is 'pca'; it must be 'neurons' or 'linear'"),
        ({"heads": 2, "by": "linear"}, r"^narrow is 'linear', which maps hidden dimensions; give hidden_size"),
        ({"heads": 5}, r"^heads is 5; the teacher has 4"),
        ({"heads": "all"}, r"^heads is 'all'; the teacher has 4"),
        ({"heads": 3}, r"^heads is 3; 2 of the teacher's share their keys: take whole groups"),
        ({"heads": [0, 2]}, r"^heads is \[0, 2\]; 2 of the teacher's share"),
        ({"feedforward_size": 0}, r"^feedforward_size is 0; the teacher has 24"),
    ],
)
def test_what_there_is_not_is_one_line(widths: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        narrow(drawn("llama"), Widths(**widths))


def test_what_cannot_be_left_out_is_one_line() -> None:
    with pytest.raises(InputError, match=r"^the teacher keeps some weights in parts \(storages\); merge them"):
        narrow(store(drawn("bert"), ["attention.0.query"], LowRank(rank=2)), Widths(heads=2))
    described = drawn("bert").architecture
    first = described.layers[0]
    pattern = PerHead((Window(2, 2), 2), (Full(), 2))
    layers = (dataclasses.replace(first, attention=dataclasses.replace(first.attention, pattern=pattern)),)
    model = Model(Architecture(hidden_size=16, embeddings=described.embeddings, layers=layers))
    with pytest.raises(InputError, match=r"^heads is 2; the teacher's heads have patterns of their own"):
        narrow(model, Widths(heads=2))
    with pytest.raises(InputError, match=r"^hidden_size is 8; the teacher's heads have patterns .*: give heads=4, all"):
        narrow(model, Widths(hidden_size=8))
    with pytest.raises(InputError, match=r"^heads is 2; the teacher's heads have patterns .*: give heads=4, all of"):
        narrow(model, Widths(hidden_size=8, heads=2))
    attention = narrow(model, Widths(hidden_size=8, heads=4)).architecture.layers[0].attention
    assert (attention.heads, attention.pattern) == (4, pattern)
