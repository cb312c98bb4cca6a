"""Models in ALBERT's form: what is shared, how the tables are factorised, and what `transformers` reads."""

import dataclasses
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    AlbertForMaskedLM,
    AlbertForPreTraining,
    AlbertForSequenceClassification,
    AlbertForTokenClassification,
    AlbertModel,
    AutoTokenizer,
)

import gossamer as gs
from gossamer.errors import InputError
from gossamer.families import get_family
from gossamer.layers import LowRank
from gossamer.models import Model
from gossamer.models.architecture import Architecture, Norm
from gossamer.models.decoders import decoder
from gossamer.recipes.sharing.factorise import factorise
from gossamer.recipes.sharing.groups import group_numbers
from gossamer.surgery.storages import store
from gossamer.surgery.students import make_student

SIZES = {"vocab_size": 30, "hidden_size": 8, "num_hidden_layers": 5, "num_attention_heads": 2, "intermediate_size": 12}
THEIRS = {
    None: AlbertModel,
    "masked-lm": AlbertForMaskedLM,
    "pre-training": AlbertForPreTraining,
    "sequence-classification": AlbertForSequenceClassification,
    "token-classification": AlbertForTokenClassification,
}


def drawn(architecture: Architecture, family: str) -> Model:
    torch.manual_seed(0)
    model = Model(architecture, family=family).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.2)
    return model


def encoder(family: str = "bert", head: str | None = None, **sizes: Any) -> Model:
    return drawn(get_family(family).read({**SIZES, **sizes}, head=head), family)


def ids() -> torch.Tensor:
    return torch.randint(4, 30, (2, 9), generator=torch.Generator().manual_seed(0))


def same(one: Model, other: Model, **tolerance: float) -> None:
    ours, theirs = one(ids()), other(ids())
    torch.testing.assert_close(ours.last_hidden_state, theirs.last_hidden_state, **tolerance)
    if ours.logits is not None:
        torch.testing.assert_close(ours.logits, theirs.logits, **tolerance)


@pytest.mark.parametrize("head", [None, "masked-lm", "pre-training", "sequence-classification"])
@pytest.mark.parametrize("family", ["bert", "albert"])
def test_nothing_shared_and_nothing_narrower_changes_nothing(family: str, head: str | None) -> None:
    """To the bit, and a BERT is an ALBERT by then, whose map is that of nothing."""
    model = encoder(family, head)
    size = model.architecture.embeddings.size
    new, receipt = gs.share(model, groups=5, embedding_size=size)
    same(new, model)
    assert (new.family, receipt.after["family"]) == ("albert", "albert")
    assert set(receipt.measured.values()) == {0.0}
    extra = 8 * 8 + 8 if family == "bert" else 4 * count_of_layer(model)
    assert receipt.after["parameters"] == receipt.before["parameters"] + extra


def count_of_layer(model: Model) -> int:
    return sum(one.numel() for one in [*model.attention[0].parameters(), *model.feed_forward[0].parameters()])


@given(st.sampled_from(["both", "attention", "feed-forward", "none"]), st.integers(1, 5), st.data())
def test_groups_share_the_mean_or_one_of_their_layers(parts: Any, groups: int, data: st.DataObject) -> None:
    model = encoder()
    start = data.draw(st.sampled_from(["average", 0]))
    new, _ = gs.share(model, parts=parts, groups=groups, start=start)
    numbers = [int(i / (5 / groups)) for i in range(5)]
    for name, is_shared in (
        ("attention", parts in ("both", "attention")),
        ("feed_forward", parts in ("both", "feed-forward")),
    ):
        named = [getattr(layer, name).weights for layer in new.architecture.layers]
        assert named == (numbers if is_shared else list(range(5)))
        for number, module in enumerate(getattr(new, name)):
            members = [i for i, one in enumerate(named) if one == number]
            members = members if start == "average" else members[:1]
            for tensor, weight in module.named_parameters():
                olds = [getattr(model, name)[i].get_parameter(tensor) for i in members]
                torch.testing.assert_close(weight, torch.stack(olds).mean(0))


@pytest.mark.parametrize("layers", range(1, 30))
def test_groups_are_those_of_transformers(layers: int) -> None:
    for groups in range(1, layers + 1):
        config = {**SIZES, "num_hidden_layers": layers, "num_hidden_groups": groups}
        read = get_family("albert").read(config)
        assert group_numbers(layers, groups) == [layer.attention.weights for layer in read.layers]


@pytest.mark.parametrize("head", THEIRS)
@pytest.mark.parametrize("groups", [1, 2, 5])
def test_transformers_reads_it_as_an_albert(head: Any, groups: int, tmp_path: Path) -> None:
    model = encoder(head=head, type_vocab_size=3)
    new, receipt = gs.share(model, groups=groups, embedding_size=5)
    gs.save(new, tmp_path)
    reloaded = gs.load(tmp_path)
    same(reloaded, new)
    assert reloaded.architecture == new.architecture
    theirs = THEIRS[head].from_pretrained(tmp_path).eval()
    out = theirs(ids(), output_hidden_states=True)
    torch.testing.assert_close(out.hidden_states[-1], new(ids()).last_hidden_state, rtol=1e-4, atol=1e-5)
    if head is not None:
        logits = out.prediction_logits if head == "pre-training" else out.logits
        torch.testing.assert_close(logits, new(ids()).logits, rtol=1e-4, atol=1e-5)
    assert sum(one.numel() for one in theirs.parameters()) >= receipt.after["parameters"]


def test_what_no_albert_is_says_why() -> None:
    model = encoder()
    new, receipt = gs.share(model, parts="attention", embedding_size=4)
    assert new.family == "gossamer"
    assert "format gossamer; ALBERT's cannot hold this model: " in receipt.changes[-1]
    _, receipt = gs.share(model)
    assert "embeddings.projection" in receipt.changes[-1]


def test_a_model_without_token_types_gets_rows_of_zeros(tmp_path: Path) -> None:
    model = encoder("distilbert", dim=8, n_layers=5, n_heads=2, hidden_dim=12)
    new, receipt = gs.share(model, groups=5, embedding_size=8)
    same(new, model)
    assert "two token types, rows of zeros: ALBERT's format has such a table" in receipt.changes
    narrow, _ = gs.share(model, embedding_size=4)
    assert not narrow.embeddings.token_type.weight.any()


def of_low_rank(model: Model, rank: int) -> None:
    """Its tables span so many directions, and that of the mean."""
    embeddings = model.embeddings
    directions = torch.randn(rank, embeddings.word.weight.shape[1])
    with torch.no_grad():
        for table in (embeddings.word, embeddings.position, embeddings.token_type):
            table.weight.copy_(torch.randn(len(table.weight), rank) @ directions + torch.randn(len(table.weight), 1))


@pytest.mark.parametrize("norm", [Norm(), Norm(bias=False), Norm(kind="rms", bias=False, offset=1.0, eps=1e-3), None])
@pytest.mark.parametrize("family", ["bert", "albert"])
def test_tables_of_low_rank_are_read_as_before(family: str, norm: Norm | None) -> None:
    settings = get_family(family).read(SIZES | ({"embedding_size": 8} if family == "albert" else {}))
    model = drawn(replace(settings, embeddings=replace(settings.embeddings, norm=norm)), "gossamer")
    of_low_rank(model, 3)
    new, _ = gs.share(model, parts="none", embedding_size=4)
    assert new.embeddings.word.weight.shape == (30, 4)
    same(new, model, rtol=1e-3, atol=1e-4)
    less, _ = gs.share(model, parts="none", embedding_size=3)
    assert (less(ids()).last_hidden_state - model(ids()).last_hidden_state).norm() > 1e-2


def test_the_basis_is_that_of_the_singular_vectors_of_all_sums() -> None:
    model = encoder(max_position_embeddings=7)
    shares = torch.arange(1, 31).double() / 465
    made = factorise(model.architecture, model.state_dict(), 4, shares)
    tables = [
        one.weight.double() for one in (model.embeddings.word, model.embeddings.position, model.embeddings.token_type)
    ]
    sums = (tables[0][:, None, None] + tables[1][None, :, None] + tables[2]).detach()
    weighted = (sums - sums.mean(-1, keepdim=True)) * shares.sqrt()[:, None, None, None]
    values = torch.linalg.svdvals(weighted.flatten(0, 2)).square()
    assert made.kept == pytest.approx(float(values[:3].sum() / values.sum()))
    assert made.basis is not None
    torch.testing.assert_close(made.basis.T @ made.basis, torch.eye(4).double())


def test_an_untied_head_goes_through_its_own_table(tmp_path: Path) -> None:
    model = encoder(head="masked-lm", tie_word_embeddings=False)
    with torch.no_grad():
        model.head.decoder.weight.copy_(torch.randn(30, 4) @ torch.randn(4, 8))
    new, _ = gs.share(model, parts="none", embedding_size=4)
    gs.save(new, tmp_path)
    same(gs.load(tmp_path), new)
    table = new.head.decoder.weight.detach()
    old = model.head.decoder.weight.detach()
    torch.testing.assert_close(table @ table.T, old @ old.T)


@pytest.mark.parametrize("family", ["roberta", "electra", "longformer", "modernbert"])
def test_other_encoders_take_it(family: str, tmp_path: Path) -> None:
    tokens = {"pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 2, "cls_token_id": 2, "sep_token_id": 2}
    model = encoder(family, **tokens)
    layers = len(model.architecture.layers)
    asked = {"parts": "feed-forward"} if family == "modernbert" else {}
    new, receipt = gs.share(model, groups=2, embedding_size=4, **asked)
    assert len(new.feed_forward) == 2 < layers
    assert receipt.after["parameters"] < receipt.before["parameters"]
    gs.save(new, tmp_path)
    same(gs.load(tmp_path), new)


def test_decoders_share_layers(tmp_path: Path) -> None:
    sizes = {"layers": 4, "hidden_size": 8, "heads": 2, "length": 16, "vocabulary_size": 30}
    model = drawn(decoder(**sizes, patterns=[gs.Full(causal=True)]), "gpt2")
    new, _ = gs.share(model, groups=2, start=1)
    gs.save(new, tmp_path)
    same(gs.load(tmp_path), new)
    generated = gs.generate(new, ids()[:1], max_new_tokens=4, temperature=0).ids
    plain = gs.generate(new, ids()[:1], max_new_tokens=4, temperature=0, use_cache=False).ids
    assert torch.equal(torch.as_tensor(generated), torch.as_tensor(plain))
    with pytest.raises(InputError, match=r"^embedding_size is 4; the decoder's head is tied to the word table"):
        gs.share(model, embedding_size=4)


def test_further_recipes_take_what_was_shared_and_the_other_way_round(tmp_path: Path) -> None:
    """Every model on the way is saved and reloaded with the same outputs."""
    shared, _ = gs.share(encoder(max_position_embeddings=16), groups=2, embedding_size=4)
    longer, _ = gs.lengthen(shared, to=40, window=8)
    again, _ = gs.share(longer, parts="attention")
    student = make_student(again, [0, 4])
    for number, model in enumerate((shared, longer, again, student)):
        gs.save(model, tmp_path / str(number))
        same(gs.load(tmp_path / str(number)), model)
    assert (len(again.attention), len(again.feed_forward)) == (1, 2)
    assert (len(student.attention), len(student.feed_forward)) == (1, 2)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"parts": "all"}, r"^parts is 'all'; it must be one of 'both', 'attention', 'feed-forward', 'none'$"),
        ({"groups": 0}, r"^groups is 0; it must be from 1 to 5, the model's layers$"),
        ({"groups": 6}, r"^groups is 6; it must be from 1 to 5"),
        ({"groups": True}, r"^groups is True"),
        ({"groups": 2, "start": 2}, r"^start is 2; it must be 'average', or a layer of each group, from 0 to 1$"),
        ({"start": "first"}, r"^start is 'first'"),
        (
            {"embedding_size": 9},
            r"^embedding_size is 9; it must be a whole number from 2 to 8, the width of the model's",
        ),
        ({"embedding_size": 4.0}, r"^embedding_size is 4\.0"),
        (
            {"epochs": 1, "output": "out"},
            r"^epochs is 1; it must be left out: nothing learns without train",
        ),
        ({"settings": {"steps": 1}}, r"^settings is .*; it must be left out: nothing learns without train"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(asked: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        gs.share(encoder(), **asked)


def test_numbers_of_numpy_are_numbers() -> None:
    asked: Any = {"groups": 2, "embedding_size": 4, "start": 1}
    wanted, told = gs.share(encoder(), **asked)
    new, receipt = gs.share(encoder(), **{name: np.int64(value) for name, value in asked.items()})
    assert (new.architecture, receipt.settings) == (wanted.architecture, told.settings)


def test_layers_of_other_shapes_do_not_share() -> None:
    settings = encoder().architecture
    wide = replace(settings.layers[1], feed_forward=replace(settings.layers[1].feed_forward, width=16))
    model = drawn(replace(settings, layers=(settings.layers[0], wide, *settings.layers[2:])), "gossamer")
    gs.share(model, parts="attention")
    said = (
        r"shaped differently \(layers\[1\]\.feed_forward is not as one before it\): take more groups, or other parts$"
    )
    with pytest.raises(InputError, match=rf"^groups is 2, but layers of a group are {said}"):
        gs.share(model, groups=2)


def test_weights_in_parts_are_refused() -> None:
    model = store(encoder(), {"attention.0.query"}, LowRank(rank=2))
    with pytest.raises(InputError, match=r"keeps some weights in parts \(storages\); merge them"):
        gs.share(model)


def test_the_sample_encoder_keeps_its_tokenizer(minilm: Path, tmp_path: Path) -> None:
    model = gs.load(minilm)
    before = {name: one.clone() for name, one in model.state_dict().items()}
    new, receipt = gs.share(model, parts="none", embedding_size=128)
    assert (new.family, new.architecture.head) == ("albert", model.architecture.head)
    assert receipt.measured["relative_difference_at_128_tokens"] < 0.7
    gs.save(new, tmp_path)
    text = "What holds a web together?"
    assert AutoTokenizer.from_pretrained(tmp_path)(text)["input_ids"] == model.tokenizer(text)["input_ids"][0].tolist()
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    assert dataclasses.asdict(receipt)["settings"] == {"parts": "none", "groups": 1, "embedding_size": 128}
