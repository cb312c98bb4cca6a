"""A weight that is kept in another way: the same numbers, gradients as float64 has them, counted, saved and read."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import gossamer as gs
from gossamer.errors import InputError
from gossamer.families import get_family
from gossamer.inspection import Node, cost, summary
from gossamer.kernels import ACTIVATIONS
from gossamer.layers import DENSE, Linear, LowRank, Storage, storage_from_dict
from gossamer.models import Architecture, Model
from gossamer.surgery.storages import merge, store
from gossamer.training.estimate.memory import peak_memory
from gossamer.training.estimate.saved import Pass
from gossamer.training.optimization.optimizers import OptimizerSettings

SETTINGS = {
    "vocab_size": 50,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "max_position_embeddings": 40,
}
MAPS = ("attention.0.query", "attention.1.output", "feed_forward.0.up", "feed_forward.1.down")
IDS = torch.arange(30).view(2, 15)


def small(head: str | None = None, **fields: Any) -> Model:
    torch.manual_seed(0)
    return Model(get_family("bert").read({**SETTINGS, **fields}, head=head)).eval()


def leaves(node: Node) -> int:
    return sum(map(leaves, node.children)) if node.children else node.parameters


def adapted(model: Model, maps: tuple[str, ...] = MAPS, **fields: Any) -> Model:
    """With additions that are not 0."""
    new = store(model, maps, LowRank(**{"rank": 3, "scale": 1.5, **fields}))
    with torch.no_grad():
        for name, one in new.named_parameters():
            if name.endswith("low_rank_b"):
                one.normal_(0, 0.1)
    return new


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("activation", [None, "gelu", "relu"])
@pytest.mark.parametrize("has_residual", [True, False])
def test_products_and_gradients_are_those_of_the_whole_weight_in_float64(
    activation: str | None, bias: bool, has_residual: bool
) -> None:
    torch.manual_seed(0)
    stored = Linear(12, 20, bias=bias)
    stored.store(LowRank(rank=4, scale=0.7))
    a, b = stored.get_parameter("low_rank_a"), stored.get_parameter("low_rank_b")
    torch.nn.init.normal_(b)
    x = torch.randn(2, 90, 12, requires_grad=True)
    residual = torch.randn(2, 90, 20, requires_grad=True) if has_residual else None
    out = stored(x, activation, residual)
    inputs = [x, a, b, *([] if residual is None else [residual])]
    wide = [one.detach().double().requires_grad_() for one in inputs]
    whole = stored.weight.double() + 0.7 * wide[2] @ wide[1]
    expected = wide[0] @ whole.T + (stored.bias.double() if bias else 0)
    expected = expected if activation is None else ACTIVATIONS[activation](expected)
    expected = expected if residual is None else expected + wide[3]
    grad = torch.randn_like(out)
    gradients = torch.autograd.grad(out, inputs, grad)
    wanted = torch.autograd.grad(expected, wide, grad.double())
    torch.testing.assert_close(out.double(), expected, atol=1e-5, rtol=1e-5)
    for mine, theirs in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(mine.double(), theirs, atol=1e-4, rtol=1e-4)
    assert not stored.weight.requires_grad
    torch.testing.assert_close(stored.whole_weight().double(), whole, atol=1e-6, rtol=1e-6)


def test_dropout_is_of_what_the_addition_reads() -> None:
    """W x + scale B A dropout(x): the weight reads everything, and in evaluation the addition too."""
    torch.manual_seed(0)
    stored = Linear(12, 20)
    stored.store(LowRank(rank=4, scale=0.7, dropout=0.5))
    a, b = stored.get_parameter("low_rank_a"), stored.get_parameter("low_rank_b")
    torch.nn.init.normal_(b)
    x = torch.randn(3, 12)
    torch.manual_seed(1)
    out = stored.train()(x)
    torch.manual_seed(1)
    kept = torch.nn.functional.dropout(x, 0.5)
    own = torch.nn.functional.linear(x, stored.weight, stored.bias)
    assert bool((kept == 0).any())
    torch.testing.assert_close(out, own + 0.7 * kept @ a.T @ b.T)
    torch.testing.assert_close(stored.eval()(x), own + 0.7 * x @ a.T @ b.T)
    assert LowRank(rank=4).to_dict() == {"kind": "low-rank", "rank": 4, "scale": 1.0}
    assert storage_from_dict(LowRank(rank=4, dropout=0.5).to_dict()) == LowRank(rank=4, dropout=0.5)
    for rate in (-0.1, 1.0, "a", True):
        with pytest.raises(InputError, match=r"^dropout is .*; it must be a rate from 0 up to, but not, 1$"):
            LowRank(rank=4, dropout=rate)  # type: ignore[arg-type]


def test_a_new_storage_changes_no_output_and_freezes_what_it_stands_beside() -> None:
    model = small()
    new = store(model, MAPS, LowRank(rank=2))
    assert torch.equal(new(IDS).last_hidden_state, model(IDS).last_hidden_state)
    frozen = {name for name, one in new.named_parameters() if not one.requires_grad}
    assert frozen == {f"{name}.{part}" for name in MAPS for part in ("weight", "bias")}
    assert model.architecture.storages == ()


def test_a_step_moves_the_addition_alone() -> None:
    new = store(small("masked-lm"), MAPS, LowRank(rank=2)).train()
    before = {name: one.clone() for name, one in new.named_parameters()}
    learning = [one for name, one in new.named_parameters() if "low_rank" in name]
    optimizer = torch.optim.AdamW(learning, lr=0.1)
    for _ in range(2):  # in the first one the second factor is 0, and the first gets no gradient
        new(IDS, labels=IDS).loss.backward()
        optimizer.step()
    for name, one in new.named_parameters():
        assert torch.equal(one, before[name]) != ("low_rank" in name), name


def test_merged_it_is_the_dense_model_with_the_same_outputs() -> None:
    model = small()
    new = adapted(model)
    assert not torch.allclose(new(IDS).last_hidden_state, model(IDS).last_hidden_state, atol=1e-3)
    merged = merge(new)
    assert merged.architecture == model.architecture
    assert all(one.requires_grad for one in merged.parameters())
    assert merged.state_dict().keys() == model.state_dict().keys()
    torch.testing.assert_close(merged(IDS).last_hidden_state, new(IDS).last_hidden_state, atol=1e-5, rtol=1e-5)
    assert get_family("bert").obstacles(merged.architecture) == []


@pytest.mark.parametrize("name", ["bert", "camembert", "gossamer"])
def test_merged_it_has_the_format_that_it_had_also_when_it_was_saved_between(tmp_path: Path, name: str) -> None:
    """CamemBERT's files differ from RoBERTa's in the name alone, so that it has to be remembered."""
    settings = SETTINGS if name == "bert" else {**SETTINGS, "pad_token_id": 1, "type_vocab_size": 1}
    torch.manual_seed(0)
    model = Model(get_family("bert" if name == "bert" else "camembert").read(settings), family=name).eval()
    new = store(adapted(model), MAPS[:1], LowRank(rank=1))
    assert new.family == "gossamer"
    merged = merge(gs.load(gs.save(new, tmp_path / "stored")))
    assert (merged.family, merged.architecture, merged.extra_config) == (name, model.architecture, {})
    again = gs.load(gs.save(merged, tmp_path / "merged"))
    assert again.family == name
    torch.testing.assert_close(again(IDS).last_hidden_state, new(IDS).last_hidden_state, atol=1e-5, rtol=1e-5)


def test_another_storage_in_place_of_the_first_keeps_the_outputs() -> None:
    new = adapted(small())
    again = store(new, MAPS[:1], LowRank(rank=1))
    assert [one.storage for one in again.architecture.storages] == [LowRank(rank=3, scale=1.5), LowRank(rank=1)]
    assert again.architecture.storages[0].maps == MAPS[1:]
    torch.testing.assert_close(again(IDS).last_hidden_state, new(IDS).last_hidden_state, atol=1e-5, rtol=1e-5)


def test_a_head_of_its_own_table_scores_with_the_whole_weight() -> None:
    for head, family in (("masked-lm", "bert"), ("causal-lm", "gpt2")):
        torch.manual_seed(0)
        settings = {"vocab_size": 50, "n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 40}
        read = get_family(family).read(SETTINGS if family == "bert" else settings, head=head)
        assert read.head is not None
        model = Model(dataclasses.replace(read, head=dataclasses.replace(read.head, tied=False))).eval()  # type: ignore[call-arg]
        new = adapted(model, ("head.decoder",))
        assert not torch.allclose(new(IDS).logits, model(IDS).logits, atol=1e-3)
        torch.testing.assert_close(merge(new)(IDS).logits, new(IDS).logits, atol=1e-5, rtol=1e-5)
        new.train()(IDS, labels=IDS).loss.backward()
        assert new.get_parameter("head.decoder.low_rank_a").grad is not None


def test_it_is_saved_and_read_with_its_description(tmp_path: Path) -> None:
    new = adapted(small())
    gs.save(new, tmp_path / "adapted")
    description = json.loads((tmp_path / "adapted" / "config.json").read_text())["architecture"]
    storage = {"kind": "low-rank", "rank": 3, "scale": 1.5}
    assert description["storages"] == [{"maps": sorted(MAPS), "storage": storage}]
    assert Architecture.from_dict(description) == new.architecture
    read = gs.load(tmp_path / "adapted")
    assert torch.equal(read.eval()(IDS).last_hidden_state, new(IDS).last_hidden_state)
    learns = {name: one.requires_grad for name, one in read.named_parameters()}
    assert learns == {name: one.requires_grad for name, one in new.named_parameters()}


def test_parameters_flops_and_the_page_count_it() -> None:
    model = small("masked-lm")
    new = adapted(model)
    dense, added = (cost(one.architecture, 15) for one in (model, new))
    sizes = [(16, 16), (16, 16), (16, 24), (24, 16)]
    assert added.parameters - dense.parameters == sum(3 * (inputs + outputs) for inputs, outputs in sizes)
    page = summary(new)
    assert leaves(page.root) == page.parameters == added.parameters == sum(one.numel() for one in new.parameters())
    assert str(page).count("frozen, with an addition of rank 3") == len(MAPS)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        new(IDS[:1])
    assert counter.get_total_flops() == added.flops > dense.flops


def test_memory_of_training_is_that_of_what_is_trained() -> None:
    model = small("masked-lm")
    new = adapted(model)
    step = Pass(rows=2, length=15)
    learning = [name for name, _ in new.named_parameters() if "low_rank" in name]
    memory = peak_memory(new.architecture, step, OptimizerSettings(), trainable=learning)
    numbers = sum(one.numel() for name, one in new.named_parameters() if "low_rank" in name)
    assert memory.optimizer == 2 * 4 * numbers
    frozen = sum(one.numel() for one in new.parameters() if not one.requires_grad)
    whole = peak_memory(new.architecture, step, OptimizerSettings())
    assert whole.optimizer == 2 * 4 * (sum(one.numel() for one in new.parameters()) - frozen)


@pytest.mark.parametrize("family", ["bert", "roberta", "longformer"])
def test_public_formats_refuse_it_in_a_line(family: str) -> None:
    (line,) = get_family(family).obstacles(adapted(small()).architecture)
    assert line == f"storages: the format {family!r} keeps weights whole, not low-rank; merge them first"


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"kind": "low-rank", "rank": 0}, r"^rank is 0; it must be a whole number, 1 or more$"),
    ({"kind": "low-rank", "rank": True}, r"^rank is True; it must be a whole number"),
    ({"kind": "low-rank", "rank": 2, "scale": float("nan")}, r"^scale is nan; it must be a finite number$"),
    ({"kind": "low-rank"}, r"'low-rank' needs rank, scale, dropout$"),
    (
        {"kind": "low-rank", "rank": 2, "alpha": 1},
        r"has unknown fields \['alpha'\]; known are \['rank', 'scale', 'dropout'\]$",
    ),
    ({"kind": "int9"}, r"its kind must be one of dense, low-rank, masked"),
    ({"kind": ["low-rank"]}, r"its kind must be one of dense, low-rank, masked"),
    ([], r"its kind must be one of dense, low-rank, masked"),  # type: ignore[list-item]
]


@pytest.mark.parametrize(("data", "message"), REFUSED, ids=str)
def test_impossible_storages_are_refused(data: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        storage_from_dict(data)


def test_storages_read_back() -> None:
    for storage in (DENSE, LowRank(rank=2, scale=0.5)):
        assert storage_from_dict(json.loads(json.dumps(storage.to_dict()))) == storage
        assert Storage.kinds[storage.kind] is type(storage)


@pytest.mark.parametrize(
    ("storages", "message"),
    [
        ([{"maps": ["attention.7.query"], "storage": {"kind": "low-rank", "rank": 2}}], "no linear map of that name"),
        ([{"maps": ["embeddings.word"], "storage": {"kind": "low-rank", "rank": 2}}], "no linear map of that name"),
        ([{"maps": ["attention.0.key"] * 2, "storage": {"kind": "low-rank", "rank": 2}}], "name it once"),
        ([{"maps": ["attention.0.key"], "storage": {"kind": "low-rank", "rank": 17}}], "a map of 16 to 16 has 16"),
        ([{"maps": [], "storage": {"kind": "low-rank", "rank": 2}}], r"maps is \(\); it must be a tuple of names"),
        ([{"maps": [3], "storage": {"kind": "low-rank", "rank": 2}}], r"maps is \(3,\); it must be a tuple of names"),
        ([{"maps": "attention.0.key", "storage": {"kind": "low-rank", "rank": 2}}], "must be a tuple of names"),
        ({}, r"storages is \{\}; it must be a list"),
    ],
)
def test_impossible_descriptions_are_refused(storages: Any, message: str) -> None:
    description = small().architecture.to_dict() | {"storages": storages}
    with pytest.raises(InputError, match=message):
        Model(Architecture.from_dict(description))


def test_maps_that_are_not_there_are_refused() -> None:
    with pytest.raises(InputError, match=r"^maps has 'pooler\.dense'; the model has no linear map of that name$"):
        store(small(), ("pooler.dense",), LowRank(rank=2))


def test_a_fresh_model_with_a_storage_is_drawn_as_one_without() -> None:
    def weights(storages: Any) -> dict[str, Tensor]:
        description = small().architecture.to_dict() | {"storages": storages}
        torch.manual_seed(1)
        return Model(Architecture.from_dict(description)).state_dict()

    plain = weights([])
    added = weights([{"maps": list(MAPS), "storage": {"kind": "low-rank", "rank": 2}}])
    assert all(torch.equal(plain[name], added[name]) for name in plain)
    assert added.keys() - plain.keys() == {f"{name}.low_rank_{part}" for name in MAPS for part in "ab"}
