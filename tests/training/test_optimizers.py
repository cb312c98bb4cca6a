"""Optimizers: their updates against the papers' formulas, what decays, what is stored, and that nothing is random."""

import copy
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from gossamer import InputError
from gossamer.training.optimization.optimizers import Lamb, OptimizerSettings, build_optimizer

NAMES = ("adamw", "adafactor", "lamb")


class Small(nn.Module):
    """A table, a map with a bias, and a norm."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.table = nn.Embedding(7, 5)
        self.map = nn.Linear(5, 3)
        self.norm = nn.LayerNorm(3)


def give_gradients(model: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for one in model.parameters():
        one.grad = torch.randn(one.shape, generator=generator)


def run(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> list[Tensor]:
    for step in steps:
        give_gradients(model, step)
        for group in optimizer.param_groups:
            group["lr"] = 0.01 / (1 + step)
        optimizer.step()
    return [one.detach().clone() for one in model.parameters()]


def lamb_of_the_paper(
    x: np.ndarray, gradients: list[np.ndarray], rate: float, betas: tuple[float, float], eps: float, decay: float
) -> np.ndarray:
    """Algorithm 2 of You et al. 2020 (v5) line by line, in float64, with phi(z) = z."""
    m, v = np.zeros_like(x), np.zeros_like(x)
    for t, g in enumerate(gradients, start=1):
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        m_hat, v_hat = m / (1 - betas[0] ** t), v / (1 - betas[1] ** t)
        r = m_hat / (np.sqrt(v_hat) + eps)
        x = x - rate * np.linalg.norm(x) / np.linalg.norm(r + decay * x) * (r + decay * x)
    return x


@given(
    seed=st.integers(0, 2**20),
    steps=st.integers(1, 5),
    decay=st.floats(0, 0.5),
    betas=st.tuples(st.floats(0, 0.99), st.floats(0, 0.999)),
)
def test_lamb_is_the_papers_algorithm(seed: int, steps: int, decay: float, betas: tuple[float, float]) -> None:
    rng = np.random.default_rng(seed)
    start, gradients = rng.normal(size=(4, 3)), [rng.normal(size=(4, 3)) for _ in range(steps)]
    x = nn.Parameter(torch.tensor(start))
    optimizer = Lamb([x], lr=0.02, betas=betas, eps=1e-6, weight_decay=decay)
    for gradient in gradients:
        x.grad = torch.tensor(gradient)
        optimizer.step()
    expected = lamb_of_the_paper(start, gradients, 0.02, betas, 1e-6, decay)
    np.testing.assert_allclose(x.detach().numpy(), expected, rtol=1e-9, atol=1e-12)


def test_lamb_moves_tensors_of_zeros_and_those_without_a_norm_to_adapt_to_as_adam_does() -> None:
    for start, adapt in ((torch.zeros(3), True), (torch.ones(3), False)):
        x = nn.Parameter(start.double())
        optimizer = Lamb([{"params": [x], "adapt": adapt}], lr=0.1, eps=1e-6)
        x.grad = torch.tensor([1.0, -2.0, 3.0]).double()
        optimizer.step()
        moved = start.double() - 0.1 * torch.tensor([1.0, -1.0, 1.0]).double()
        torch.testing.assert_close(x.detach(), moved, rtol=1e-5, atol=1e-6)


def test_adamw_is_the_papers_algorithm() -> None:
    rng = np.random.default_rng(3)
    start, gradients = rng.normal(size=(4, 3)), [rng.normal(size=(4, 3)) for _ in range(4)]
    x = nn.Parameter(torch.tensor(start))
    settings = OptimizerSettings(learning_rate=0.02, betas=(0.8, 0.95), eps=1e-7, weight_decay=0.3)
    optimizer = build_optimizer(settings, [("x", x)])
    m, v, expected = np.zeros_like(start), np.zeros_like(start), start
    for t, g in enumerate(gradients, start=1):
        x.grad = torch.tensor(g)
        optimizer.step()
        m, v = 0.8 * m + 0.2 * g, 0.95 * v + 0.05 * g**2
        move = (m / (1 - 0.8**t)) / (np.sqrt(v / (1 - 0.95**t)) + 1e-7)
        expected = expected - 0.02 * (move + 0.3 * expected)
    np.testing.assert_allclose(x.detach().numpy(), expected, rtol=1e-9)


def test_adafactor_keeps_rows_and_columns_and_follows_its_paper() -> None:
    """Algorithms 4 and 5 of Shazeer and Stern 2018, without momentum, its rate capped by ours."""
    rng = np.random.default_rng(5)
    start, gradients = rng.normal(size=(4, 3)), [rng.normal(size=(4, 3)) for _ in range(4)]
    x = nn.Parameter(torch.tensor(start))
    optimizer = build_optimizer(OptimizerSettings(name="adafactor", learning_rate=0.02, weight_decay=0.0), [("x", x)])
    rows, columns, expected = np.zeros((4, 1)), np.zeros((1, 3)), start
    for t, g in enumerate(gradients, start=1):
        x.grad = torch.tensor(g)
        optimizer.step()
        beta = 1 - t**-0.8
        rows = beta * rows + (1 - beta) * (g**2).mean(1, keepdims=True)
        columns = beta * columns + (1 - beta) * (g**2).mean(0, keepdims=True)
        u = g / np.sqrt(rows * columns / rows.mean())
        u = u / max(1.0, np.sqrt((u**2).mean()))
        size = max(1e-3, np.sqrt((expected**2).mean()))
        expected = expected - min(0.02, t**-0.5) * size * u
    np.testing.assert_allclose(x.detach().numpy(), expected, rtol=1e-6)
    shapes = {name: tuple(one.shape) for name, one in optimizer.state[x].items()}
    assert shapes == {"step": (), "row_var": (4, 1), "col_var": (1, 3)}


@pytest.mark.parametrize("name", NAMES)
def test_matrices_decay_and_biases_and_norms_do_not(name: Any) -> None:
    model = Small()
    settings = OptimizerSettings(name=name, weight_decay=0.25)
    optimizer = build_optimizer(settings, model.named_parameters())
    decayed, rest = optimizer.param_groups
    assert (decayed["weight_decay"], rest["weight_decay"]) == (0.25, 0.0)
    if name == "lamb":
        assert (decayed["adapt"], rest["adapt"]) == (True, False)
    assert [id(one) for one in decayed["params"]] == [id(model.table.weight), id(model.map.weight)]
    assert [id(one) for one in rest["params"]] == [
        id(model.map.bias), id(model.norm.weight), id(model.norm.bias)
    ]  # fmt: skip
    before = [one.detach().clone() for one in model.parameters()]
    for one in model.parameters():
        one.grad = torch.zeros_like(one)
    optimizer.step()
    moved = [not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)]
    assert moved == [True, True, False, False, False]


@pytest.mark.parametrize("name", NAMES)
def test_frozen_parameters_are_left_out(name: Any) -> None:
    model = Small()
    model.map.requires_grad_(False)
    model.norm.requires_grad_(False)
    optimizer = build_optimizer(OptimizerSettings(name=name), model.named_parameters())
    assert [[id(one) for one in group["params"]] for group in optimizer.param_groups] == [[id(model.table.weight)]]
    model.table.requires_grad_(False)
    with pytest.raises(InputError, match="no parameter takes gradients; train at least one part"):
        build_optimizer(OptimizerSettings(name=name), model.named_parameters())


def test_adafactor_is_refused_where_weights_are_cut() -> None:
    """torch's has no rule for the norms of pieces; the others do (tried with two processes)."""
    model = Small()
    model.map.weight.full_tensor = lambda: model.map.weight  # type: ignore[assignment]  # as torch's DTensor has it
    with pytest.raises(InputError, match="'adafactor', which cannot update weights cut by FSDP2: take 'ddp'"):
        build_optimizer(OptimizerSettings(name="adafactor"), model.named_parameters())
    for name in ("adamw", "lamb"):
        build_optimizer(OptimizerSettings(name=name), model.named_parameters())  # type: ignore[arg-type]


@pytest.mark.parametrize("name", NAMES)
def test_state_survives_tensors_and_json_and_goes_on_bit_for_bit(name: Any, tmp_path: Path) -> None:
    settings = OptimizerSettings(name=name, learning_rate=0.01, weight_decay=0.1)
    model = Small()
    optimizer = build_optimizer(settings, model.named_parameters())
    run(model, optimizer, range(3))
    halfway = copy.deepcopy(model)
    state = optimizer.state_dict()
    tensors = {f"{i}.{key}": one for i, entry in state["state"].items() for key, one in entry.items()}
    assert all(isinstance(one, Tensor) for one in tensors.values())
    save_file(tensors, tmp_path / "state.safetensors")
    groups = json.loads(json.dumps(state["param_groups"], allow_nan=False))
    expected = run(model, optimizer, range(3, 6))

    restored: dict[int, dict[str, Tensor]] = {}
    for key, one in load_file(tmp_path / "state.safetensors").items():
        index, _, field = key.partition(".")
        restored.setdefault(int(index), {})[field] = one
    again = build_optimizer(settings, halfway.named_parameters())
    again.load_state_dict({"state": restored, "param_groups": groups})
    for found, wanted in zip(run(halfway, again, range(3, 6)), expected, strict=True):
        assert torch.equal(found, wanted)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_run_gives_the_same_bits(name: Any) -> None:
    settings = OptimizerSettings(name=name, learning_rate=0.01)
    ends = []
    for _ in range(2):
        model = nn.Sequential(nn.Linear(301, 257), nn.LayerNorm(257))
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for one in model.parameters():
                one.copy_(torch.randn(one.shape, generator=generator))
        ends.append(run(model, build_optimizer(settings, model.named_parameters()), range(4)))
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_each_of_them_learns(name: Any) -> None:
    torch.manual_seed(0)
    wanted, x = torch.randn(6, 4), torch.randn(64, 4)
    model = nn.Linear(4, 6)
    rate = {"adamw": 0.05, "adafactor": 0.1, "lamb": 0.05}[name]
    settings = OptimizerSettings(name=name, learning_rate=rate, weight_decay=0.0)
    optimizer = build_optimizer(settings, model.named_parameters())
    losses = []
    for _ in range(200):
        optimizer.zero_grad()
        loss = (model(x) - x @ wanted.T).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] / 20


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"name": "sgd"}, "name is 'sgd'; it must be one of 'adamw', 'adafactor', 'lamb'"),
        ({"learning_rate": 0}, "learning_rate is 0; it must be a finite number above 0"),
        ({"learning_rate": math.inf}, "learning_rate is inf; it must be"),
        ({"betas": (0.9,)}, "betas is (0.9,); it must be two numbers from 0"),
        ({"betas": (0.9, 1.0)}, "betas is (0.9, 1.0); it must be two numbers from 0"),
        ({"name": "adafactor", "betas": (0.9, 0.99)}, "betas is (0.9, 0.99); it must be left out: adafactor has none"),
        ({"eps": 0.0}, "eps is 0.0; it must be a finite number above 0"),
        ({"weight_decay": -0.1}, "weight_decay is -0.1; it must be a finite number, 0 or more"),
    ],
)
def test_impossible_settings_are_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as problem:
        OptimizerSettings(**fields)
    assert str(problem.value).startswith(said)


def test_lists_as_yaml_has_them_are_taken() -> None:
    assert OptimizerSettings(betas=[0.9, 0.95]).betas == (0.9, 0.95)  # type: ignore[arg-type]
