"""Masked weights against the papers' formulas, in float64: outputs, gradients of weights and scores, gates."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gossamer as gs
from gossamer.errors import InputError
from gossamer.families import get_family
from gossamer.inspection.cost import cost
from gossamer.layers import Linear, Masked, storage_from_dict
from gossamer.layers.masks import expected_l0, hard_concrete, spread, summed
from gossamer.models import Model
from gossamer.surgery.storages import merge, store
from gossamer.training.estimate.memory import peak_memory
from gossamer.training.estimate.saved import Pass
from gossamer.training.optimization.optimizers import OptimizerSettings

BLOCKS = [(1, 1), (2, 3), (6, 1), (1, 9), (4, 5), (6, 9), (50, 50)]
IDS = torch.arange(30).view(2, 15)


def masked(gate: Any, block: tuple[int, int] = (1, 1), **options: Any) -> Linear:
    """A map of 9 to 6 in float64, half masked."""
    torch.manual_seed(0)
    one = Linear(9, 6, dtype=torch.float64, **options)
    one.store(Masked(gate=gate, block=block))
    with torch.no_grad():
        if gate != "hard-concrete":
            one.get_parameter("mask").copy_(torch.rand_like(one.get_parameter("mask")) > 0.5)
        if gate != "fixed":
            one.get_parameter("mask_scores").normal_()
    return one


def by_hand(units: Tensor, block: tuple[int, int]) -> Tensor:
    """Each number of [down, beside] over its block of a [6, 9] matrix."""
    rows = [[float(units[i // block[0], j // block[1]].detach()) for j in range(9)] for i in range(6)]
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize("block", BLOCKS, ids=str)
@pytest.mark.parametrize("gate", ["fixed", "straight-through"])
def test_products_and_gradients_are_the_papers(gate: str, block: tuple[int, int]) -> None:
    """W' = M * W; dL/dW = M * dL/dW'; dL/dS the sum over the block of dL/dW' * W, of what is masked too."""
    one = masked(gate, block)
    x = torch.randn(4, 9, dtype=torch.float64, requires_grad=True)
    residual = torch.randn(4, 6, dtype=torch.float64)
    out = one(x, "gelu", residual)
    mask = by_hand(one.get_parameter("mask"), block)
    whole = (mask * one.weight.detach()).requires_grad_()
    mine = x.detach().clone().requires_grad_()
    expected = nn.functional.gelu(mine @ whole.T + one.bias.detach()) + residual
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(one.whole_weight(), whole, rtol=0, atol=0)
    grad = torch.randn_like(out)
    out.backward(grad)
    expected.backward(grad)
    assert whole.grad is not None
    torch.testing.assert_close(one.weight.grad, mask * whole.grad, rtol=0, atol=1e-12)
    torch.testing.assert_close(x.grad, mine.grad, rtol=0, atol=1e-12)
    assert one.get_parameter("mask").grad is None
    if gate == "straight-through":
        wanted = summed(whole.grad * one.weight.detach(), (min(block[0], 6), min(block[1], 9)))
        torch.testing.assert_close(one.get_parameter("mask_scores").grad, wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_numbers_spread_over_blocks_and_are_summed_up(block: tuple[int, int]) -> None:
    one = masked("fixed", block)
    units = torch.randn_like(one.get_parameter("mask"))
    torch.testing.assert_close(spread(units, block, (6, 9)).expand(6, 9), by_hand(units, block), rtol=0, atol=0)
    values = torch.randn(6, 9, dtype=torch.float64)
    rows, columns = units.shape
    wanted = torch.zeros(rows, columns, dtype=torch.float64)
    for i in range(6):
        for j in range(9):
            wanted[i // block[0], j // block[1]] += values[i, j]
    torch.testing.assert_close(summed(values, block), wanted, rtol=0, atol=1e-12)


def test_gates_of_the_hard_concrete_are_louizos() -> None:
    """s = sigmoid((log u - log(1 - u) + log_alpha) / beta), stretched to (-0.1, 1.1) and cut; beta 2/3."""
    log_alpha = torch.linspace(-6, 6, 25, dtype=torch.float64, requires_grad=True)
    torch.manual_seed(3)
    found = hard_concrete(log_alpha, drawn=True)
    torch.manual_seed(3)
    u = torch.rand(25, dtype=torch.float64)
    s = 1 / (1 + torch.exp(-(torch.log(u / (1 - u)) + log_alpha) * 3 / 2))
    torch.testing.assert_close(found, (1.2 * s - 0.1).clamp(0, 1), rtol=0, atol=1e-12)
    assert bool((found == 0).any())
    assert bool((found == 1).any())
    (gradient,) = torch.autograd.grad(found.sum(), log_alpha)
    wanted = 1.2 * 3 / 2 * s * (1 - s) * ((found > 0) & (found < 1))
    torch.testing.assert_close(gradient, wanted, rtol=0, atol=1e-12)
    still = (1.2 / (1 + torch.exp(-log_alpha)) - 0.1).clamp(0, 1)
    torch.testing.assert_close(hard_concrete(log_alpha, drawn=False), still, rtol=0, atol=1e-12)


def test_what_is_masked_is_0_of_no_sign() -> None:
    """-0 is another number on disk, of which a compressed map stores all."""
    one = masked("fixed")
    with torch.no_grad():
        one.get_parameter("mask").zero_()
        one.merge()
    assert not torch.signbit(one.weight).any()


def test_the_expected_l0_is_the_share_of_drawn_gates_that_are_open() -> None:
    log_alpha = torch.tensor([-3.0, -1.0, 0.0, 2.0], dtype=torch.float64)
    wanted = 1 / (1 + torch.exp(-(log_alpha - 2 / 3 * math.log(0.1 / 1.1))))
    torch.testing.assert_close(expected_l0(log_alpha), wanted, rtol=0, atol=1e-12)
    torch.manual_seed(0)
    drawn = hard_concrete(log_alpha.expand(40_000, 4), drawn=True)
    torch.testing.assert_close((drawn > 0).double().mean(0), wanted, rtol=0, atol=0.01)


def test_gates_are_drawn_while_training_alone() -> None:
    one = masked("hard-concrete", (2, 3))
    x = torch.randn(4, 9, dtype=torch.float64)
    assert not torch.equal(one.train()(x), one(x))
    gates = by_hand(hard_concrete(one.get_parameter("mask_scores"), drawn=False), (2, 3))
    still = x @ (gates * one.weight).T + one.bias
    torch.testing.assert_close(one.eval()(x), still, rtol=0, atol=1e-12)
    torch.testing.assert_close(one.train().whole_weight(), gates * one.weight, rtol=0, atol=1e-12)


def small(head: str | None = "masked-lm") -> Model:
    torch.manual_seed(0)
    sizes = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2}
    read = get_family("bert").read({**sizes, "num_hidden_layers": 2, "max_position_embeddings": 40}, head=head)
    return Model(read, family="bert").eval()


MAPS = ("attention.0.query", "attention.1.output", "feed_forward.0.up", "feed_forward.1.down")


@pytest.mark.parametrize("gate", ["fixed", "straight-through", "hard-concrete"])
def test_masks_with_nothing_removed_change_nothing(gate: Any, tmp_path: Path) -> None:
    model = small()
    new = store(model, MAPS, Masked(gate=gate, block=(4, 3)))
    torch.testing.assert_close(new(IDS).logits, model(IDS).logits, rtol=0, atol=1e-6)
    again = gs.load(gs.save(new, tmp_path / "masked"))
    assert again.architecture == new.architecture
    torch.testing.assert_close(again(IDS).logits, model(IDS).logits, rtol=0, atol=1e-6)
    frozen = {name for name, one in again.named_parameters() if not one.requires_grad}
    assert frozen == ({f"{name}.mask" for name in MAPS} if gate != "hard-concrete" else set())
    merged = merge(new)
    assert (merged.family, merged.architecture) == ("bert", model.architecture)
    torch.testing.assert_close(merged(IDS).logits, model(IDS).logits, rtol=0, atol=1e-6)


@pytest.mark.parametrize("gate", ["fixed", "straight-through", "hard-concrete"])
@pytest.mark.parametrize("block", [(1, 1), (4, 3)], ids=str)
def test_parameters_and_memory_of_training_are_counted(gate: Any, block: tuple[int, int]) -> None:
    new = store(small(), MAPS, Masked(gate=gate, block=block))
    assert cost(new.architecture, 15).parameters == sum(one.numel() for one in new.parameters())
    learnt = sum(one.numel() for one in new.parameters() if one.requires_grad)
    memory = peak_memory(new.architecture, Pass(rows=2, length=15), OptimizerSettings())
    assert memory.optimizer == 2 * 4 * learnt


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"gate": "open"}, r"^gate is 'open'; it must be one of 'fixed', 'straight-through', 'hard-concrete'$"),
    ({"block": [3]}, r"^block is \[3\]; it must be rows and columns"),
    ({"block": [0, 1]}, r"^block is \[0, 1\]; it must be rows and columns"),
    ({"rank": 3}, r"has unknown fields \['rank'\]; known are \['gate', 'block'\]$"),
]


@pytest.mark.parametrize(("fields", "message"), WRONG, ids=str)
def test_impossible_masks_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        storage_from_dict({"kind": "masked", **fields})


def test_it_reads_back() -> None:
    storage = Masked(gate="straight-through", block=(2, 3))
    assert storage.to_dict() == {"kind": "masked", "gate": "straight-through", "block": [2, 3]}
    assert storage_from_dict(storage.to_dict()) == storage
