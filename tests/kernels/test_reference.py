"""The definition itself, against a softmax written out in loops."""

import math

import pytest
import torch
from kernel_cases import Call, random_call

from gossamer import Full, Global, PerHead, Window, attend

CASES = {
    "everything": random_call(
        PerHead((Window(2, 1) | Global(), 2), (Window(1, 0, 2), 2)), 4, 7, heads=4, key_heads=2, size=3, query_start=2,
        key_mask=torch.tensor([[1, 1, 1, 0, 1, 1, 0], [0] * 7]).bool(),
        global_mask=torch.tensor([[1, 0, 0, 1, 0, 0, 0]] * 2).bool(),
        segments=torch.tensor([[0, 0, 0, 0, 0, 1, 1]] * 2), scale=0.4,
    ),
    "positions and bias": random_call(
        Window(3, 2), 3, 5, batch=1, size=2, bias=torch.linspace(-1, 1, 15, dtype=torch.float64).view(1, 1, 3, 5),
        positions=(torch.tensor([[4, 0, 9]]), torch.tensor([[5, 1, 1, 7, 30]])),
    ),
    "causal": random_call(Full(causal=True), 5),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_reference_is_a_softmax(name: str) -> None:
    call = CASES[name]
    out, lse = attend(call.q, call.k, call.v, call.pattern, backend="reference", return_lse=True, **call.options)
    for b in range(out.shape[0]):
        for h in range(out.shape[1]):
            for i in range(out.shape[2]):
                wanted, wanted_lse = literal_softmax(call, b, h, i)
                assert out[b, h, i].tolist() == pytest.approx(wanted, abs=1e-14)
                assert lse[b, h, i].item() == pytest.approx(wanted_lse, abs=1e-14)


def literal_softmax(call: Call, b: int, h: int, i: int) -> tuple[list[float], float]:
    """One row, in plain Python numbers."""
    key_head = h * call.k.shape[1] // call.q.shape[1]
    k, v, q = call.k[b, key_head].tolist(), call.v[b, key_head].tolist(), call.q[b, h, i].tolist()
    scale = call.options.get("scale", len(q) ** -0.5)
    seen = [j for j in range(len(k)) if sees(call, b, h, i, j)]
    scores = [sum(x * y for x, y in zip(q, k[j], strict=True)) * scale for j in seen]
    if "bias" in call.options:
        bias = call.options["bias"].expand(*call.q.shape[:3], len(k))[b, h, i].tolist()
        scores = [score + bias[j] for score, j in zip(scores, seen, strict=True)]
    total = sum(math.exp(score) for score in scores)
    weights = [math.exp(score) / total for score in scores]
    out = [sum(w * v[j][d] for w, j in zip(weights, seen, strict=True)) for d in range(len(q))]
    return out, math.log(total) if seen else -math.inf


def sees(call: Call, b: int, h: int, i: int, j: int) -> bool:
    options, start = call.options, call.options.get("query_start", 0)
    if "key_mask" in options and not options["key_mask"][b, j]:
        return False
    if "segments" in options and options["segments"][b, start + i] != options["segments"][b, j]:
        return False
    distance = j - i - start
    if "positions" in options:
        distance = int(options["positions"][1][b, j] - options["positions"][0][b, i])
    pattern = call.pattern
    if isinstance(pattern, PerHead):
        flags = options["global_mask"][b] & options["key_mask"][b]
        if h < 2:
            return bool(-2 <= distance <= 1 or flags[start + i] or flags[j])
        return distance in (-2, 0)
    if isinstance(pattern, Window):
        return -3 <= distance <= 2
    return distance <= 0
