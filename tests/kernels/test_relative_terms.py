"""States of distances beside the scores: against a product of each pair, with gradients; who takes them, who not."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kernel_cases import Call, calls, random_call, relative_error
from test_distance_bias import positions_of
from torch import Tensor

from gossamer import Full, Window, attend, explain
from gossamer.errors import InputError
from gossamer.kernels import attention_rows, top_keys
from gossamer.kernels.distance_bias import RelativeTerms

BOUNDS = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2e-2}


def terms_for(call: Call, before: int, after: int, states: int, seed: int, which: str = "both") -> RelativeTerms:
    random = torch.Generator().manual_seed(seed)
    shape = (call.q.shape[1], states, call.q.shape[3])
    keys, queries = (torch.randn(shape, generator=random, dtype=torch.float64).to(call.q.dtype) for _ in range(2))
    rows = torch.randint(states, (before + 1 + after,), generator=random)
    return RelativeTerms(
        keys=keys if which != "queries" else None,
        queries=queries if which != "keys" else None,
        rows=rows,
        before=before,
    )


def by_pairs(call: Call, q: Tensor, k: Tensor, terms: RelativeTerms) -> Tensor:
    """[batch, heads, queries, keys] by definition: a state of each pair, which meets its query and its key."""
    k = k.repeat_interleave(q.shape[1] // k.shape[1], 1)
    real = call.options.get("key_mask")
    k = k if real is None else k.masked_fill(~real[:, None, :, None], 0)
    q_at, k_at = positions_of(call)
    apart = (k_at[:, None, :] - q_at[:, :, None]).clamp(-terms.before, len(terms.rows) - 1 - terms.before)
    rows = terms.rows[apart + terms.before]
    total = torch.zeros((), dtype=q.dtype)
    if terms.keys is not None:
        total = total + torch.einsum("bhqd,hbqkd->bhqk", q, terms.keys[:, rows])
    if terms.queries is not None:
        total = total + torch.einsum("bhkd,hbqkd->bhqk", k, terms.queries[:, rows])
    return total * call.options.get("scale", q.shape[3] ** -0.5)


def gradients(call: Call, terms: RelativeTerms, total_of: Any) -> tuple[Tensor, list[Tensor]]:
    """The output, and the gradients of q, k, v and of the states."""
    leaves = [x.detach().clone().requires_grad_() for x in (call.q, call.k, call.v, *terms.tensors)]
    states = iter(leaves[3:])
    learned = replace(terms, **{name: next(states) for name in ("keys", "queries") if getattr(terms, name) is not None})
    out = total_of(*leaves[:3], learned)
    return out.detach(), list(torch.autograd.grad((out * call.grad_out).sum(), leaves))


def compare(call: Call, terms: RelativeTerms, backend: str, bound: float) -> None:
    exact, wide = call.to(torch.float64), replace(terms, **{
        name: None if getattr(terms, name) is None else getattr(terms, name).double() for name in ("keys", "queries")
    })  # fmt: skip
    options = dict(exact.options)
    other = options.pop("bias", 0)
    wanted, wanted_grads = gradients(exact, wide, lambda q, k, v, t: attend(
        q, k, v, call.pattern, backend="reference", bias=by_pairs(exact, q, k, t) + other, **options
    ))  # fmt: skip
    found, grads = gradients(call, terms, lambda q, k, v, t: attend(
        q, k, v, call.pattern, backend=backend, distance_bias=t, **call.options
    ))  # fmt: skip
    assert found.dtype == call.q.dtype
    assert relative_error(found, wanted) <= bound
    for grad, right in zip(grads, wanted_grads, strict=True):
        assert (grad.double() - right).norm() <= bound * max(1.0, right.norm().item())


@given(call=calls(dropout=False, bias=True), data=st.data())
@pytest.mark.parametrize("backend", ["reference", "dense"])
def test_drawn_calls_are_products_of_pairs(backend: str, call: Call, data: st.DataObject) -> None:
    before, after = data.draw(st.integers(0, 6)), data.draw(st.integers(0, 6))
    which = data.draw(st.sampled_from(["both", "keys", "queries"]))
    compare(call, terms_for(call, before, after, data.draw(st.integers(1, 5)), 3, which), backend, 1e-11)


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("backend", ["reference", "dense"])
def test_every_dtype(backend: str, dtype: torch.dtype) -> None:
    mask = torch.ones(2, 37, dtype=torch.bool)
    mask[1, 20:] = False
    call = random_call(Full(), 37, key_mask=mask).to(dtype)
    compare(call, terms_for(call, 9, 12, 8, 5), backend, BOUNDS[dtype])


def test_nothing_else_takes_them_and_says_so() -> None:
    call = random_call(Window(4, 4), 600)
    terms = terms_for(call, 9, 9, 4, 1)
    said = explain(call.q, call.k, call.v, call.pattern, distance_bias=terms)
    assert said.backend == "dense"
    for name in ("blocked", "cpu"):
        assert said.others[name] == "it takes no states of distances"
        with pytest.raises(InputError, match=f"backend '{name}' cannot compute this call: it takes no states of dist"):
            attend(call.q, call.k, call.v, call.pattern, distance_bias=terms, backend=name)
    assert explain(call.q, call.k, call.v, call.pattern, distance_bias=terms, dropout=0.1).backend == "reference"


@pytest.mark.parametrize("backend", ["reference", "dense"])
def test_nan_of_padding_reaches_no_output_and_no_gradient(backend: str) -> None:
    call = random_call(Full(), 9)
    mask = torch.ones(2, 9, dtype=torch.bool)
    mask[:, 6:] = False
    damaged = replace(call, **{name: getattr(call, name).clone() for name in ("k", "v")})
    damaged.k[:, :, 6:], damaged.v[:, :, 6:] = torch.nan, torch.nan
    terms = terms_for(call, 4, 4, 5, 2)
    (clean, clean_grads), (found, grads) = (
        gradients(one, terms, lambda q, k, v, t: attend(
            q, k, v, Full(), key_mask=mask, distance_bias=t, backend=backend
        )) for one in (call, damaged)
    )  # fmt: skip
    torch.testing.assert_close(found, clean)
    for mine, right in zip(grads, clean_grads, strict=True):
        torch.testing.assert_close(mine, right)


def test_packed_documents_are_as_separate_ones() -> None:
    call = random_call(Full(), 13, batch=1)
    terms = terms_for(call, 7, 5, 6, 4)
    segments = torch.tensor([[0] * 8 + [1] * 5])
    together = attend(call.q, call.k, call.v, Full(), segments=segments, distance_bias=terms)
    apart = [
        attend(*(x[:, :, part] for x in (call.q, call.k, call.v)), Full(), distance_bias=terms)
        for part in (slice(0, 8), slice(8, 13))
    ]
    torch.testing.assert_close(together, torch.cat(apart, dim=2), rtol=1e-12, atol=1e-12)


def test_weights_are_shown_and_learn() -> None:
    mask = torch.ones(2, 11, dtype=torch.bool)
    mask[1, 7:] = False
    call = random_call(Window(5, 5), 11, key_mask=mask)
    terms = terms_for(call, 3, 6, 4, 9)
    seen = Window(5, 5).mask(11) & mask[:, None, None]

    def defined(q: Tensor, k: Tensor, v: Tensor, t: RelativeTerms) -> Tensor:
        scores = q @ k.mT * q.shape[3] ** -0.5 + by_pairs(call, q, k, t)
        return scores.masked_fill(~seen, -torch.inf).softmax(-1)

    def shown(q: Tensor, k: Tensor, v: Tensor, t: RelativeTerms) -> Tensor:
        return attention_rows(q, k, call.pattern, range(11), distance_bias=t, key_mask=mask)

    call = replace(call, grad_out=torch.randn(2, 2, 11, 11, generator=torch.Generator().manual_seed(1)).double())
    (wanted, wanted_grads), (found, grads) = (
        gradients(call, terms, lambda q, k, v, t, of=of: of(q, k, v, t) + 0 * v.sum()) for of in (defined, shown)
    )
    torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-12)
    for mine, right in zip(grads, wanted_grads, strict=True):
        torch.testing.assert_close(mine, right, rtol=1e-10, atol=1e-12)
    with torch.no_grad():
        plain = attention_rows(call.q, call.k, call.pattern, [4, 2], distance_bias=terms, key_mask=mask)
    torch.testing.assert_close(plain, wanted[:, :, [4, 2]], rtol=1e-11, atol=1e-12)


def test_the_largest_weights_learn_too() -> None:
    call = random_call(Full(), 11)
    terms = terms_for(call, 3, 6, 4, 9)
    q = call.q.detach().requires_grad_()
    every = attention_rows(q, call.k, Full(), range(11), distance_bias=terms)
    best = top_keys(q, call.k, Full(), 3, distance_bias=terms)
    assert torch.equal(best.keys, every.topk(3).indices)
    (mine,), (right,) = (torch.autograd.grad(one.square().sum(), q) for one in (best.weights, every.topk(3).values))
    torch.testing.assert_close(mine, right, rtol=1e-11, atol=1e-12)
