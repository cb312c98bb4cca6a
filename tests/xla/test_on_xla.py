"""Under torch_xla, on its CPU: attention forward and backward, a model, and training, as on torch's own CPU."""

from typing import Any

import pytest
import torch

import gossamer as gs
from gossamer.devices import find_device
from gossamer.models import Architecture, Attention, Embeddings, FeedForward, Layer, MaskedLM, Model, Positions
from gossamer.patterns import Chunks, Full, Global, Pattern, Sink, Strided, Window

pytestmark = pytest.mark.xla
PATTERNS: list[Pattern] = [
    Full(), Full(causal=True), Window(16, 16), Window(16, 0), Window(8, 8, 3), Window(8, 0) | Sink(4), Chunks(32),
    Strided(16), Window(8, 8) | Global(),
]  # fmt: skip


@pytest.fixture(scope="module")
def xla() -> torch.device:
    found = find_device("xla")
    assert found is not None
    assert found.type == "xla"
    return found


def run(pattern: Pattern, device: torch.device, backend: str) -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    q, k, v, grad = (torch.randn(2, 4, 300, 16, generator=random) for _ in range(4))
    mask = torch.arange(300) < torch.tensor([[300], [270]])
    flags = torch.arange(300)[None].expand(2, -1) % 97 == 0
    inputs = [one.to(device).requires_grad_() for one in (q, k, v)]
    options: dict[str, Any] = {"global_mask": flags.to(device)} if "global" in str(pattern) else {}
    out = gs.attend(*inputs, pattern, key_mask=mask.to(device), backend=backend, **options)
    out.backward(grad.to(device))
    return [one.cpu() for one in (out.detach(), *(x.grad for x in inputs if x.grad is not None))]


@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_attention_and_its_gradients(pattern: Pattern, xla: torch.device) -> None:
    for mine, wanted in zip(run(pattern, xla, "blocked"), run(pattern, torch.device("cpu"), "reference"), strict=True):
        torch.testing.assert_close(mine, wanted, rtol=1e-4, atol=1e-4)


def test_what_is_not_for_it_is_told(xla: torch.device) -> None:
    q = torch.randn(1, 2, 4096, 16, device=xla)
    said = str(gs.explain(q, q, q, Window(64, 64)))
    assert said.startswith("blocked")
    assert "not cpu: it is for the CPU" in said


def small() -> Model:
    torch.manual_seed(0)
    layers = tuple(
        Layer(
            attention=Attention(pattern=Window(8, 8), heads=4, head_size=8, weights=i),
            feed_forward=FeedForward(width=64, weights=i),
        )
        for i in range(2)
    )
    embeddings = Embeddings(vocabulary_size=100, size=32, positions=Positions(length=256))
    return Model(Architecture(hidden_size=32, embeddings=embeddings, layers=layers, head=MaskedLM()))


def test_training_steps_are_those_of_the_cpu(xla: torch.device) -> None:
    ids = torch.randint(3, 100, (2, 200), generator=torch.Generator().manual_seed(1))
    losses = []
    for device in (torch.device("cpu"), xla):
        model = small().to(device).eval()  # without dropout: each device draws its own
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        found = []
        for _ in range(6):
            optimizer.zero_grad()
            loss = model(ids.to(device), labels=ids.to(device)).loss
            loss.backward()
            optimizer.step()
            found.append(float(loss.detach().cpu()))
        losses.append(found)
    assert losses[0][-1] < 0.9 * losses[0][0]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
