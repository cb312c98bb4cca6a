"""NaN and infinity in one packed document reach no other: outputs, log-sum-exp and gradients."""

from dataclasses import replace

import pytest
import torch
from kernel_cases import random_call, run

from gossamer import Fixed, Full, Global, PerHead, Strided, Window, attend
from gossamer.kernels import documents
from gossamer.patterns import Pattern

PATTERNS = [
    Full(),
    Full(causal=True),
    Window(3, 2),
    Window(3, 2) | Global(),
    Strided(4),
    Fixed(4, 1),
    PerHead((Window(2, 2), 1), (Fixed(4, 1), 1)),
]
LENGTH = 41
SEGMENTS = torch.stack([torch.arange(LENGTH) // 9, torch.arange(LENGTH) % 3])
"""Documents in one piece, and documents that take turns."""


@pytest.mark.parametrize("backend", ["reference", "dense", "blocked", "cpu"])
@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
@pytest.mark.parametrize("where", ["q", "k", "v", "kv"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_no_number_leaves_its_document(backend: str, pattern: Pattern, where: str, value: float) -> None:
    options = {"global_mask": torch.arange(LENGTH).expand(2, -1) == 20} if "global" in str(pattern) else {}
    call = random_call(pattern, LENGTH, segments=SEGMENTS, **options)
    if backend == "cpu":
        call = call.to(torch.float32)
    bad_documents = torch.stack([SEGMENTS[0] == 1, SEGMENTS[1] == 2]) | torch.stack(
        [SEGMENTS[0] == 3, torch.zeros(LENGTH, dtype=torch.bool)]
    )
    bad = torch.zeros(2, LENGTH, dtype=torch.bool)
    bad[0, [9, 14, 30]] = bad[1, [2, 20]] = True
    assert (bad <= bad_documents).all()
    hurt = replace(call, **{
        name: getattr(call, name).masked_fill(bad[:, None, :, None], value) for name in where
    })  # fmt: skip
    # What comes back to a damaged document is not finite either; here others' gradients are looked at.
    quiet = call.grad_out.masked_fill(bad_documents[:, None, :, None], 0)
    lse = backend != "dense"
    wanted = run(replace(call, grad_out=quiet, grad_lse=None), backend, return_lse=lse)
    found = run(replace(hurt, grad_out=quiet, grad_lse=None), backend, return_lse=lse)
    good = ~bad_documents[:, None].expand(2, 2, LENGTH)
    with torch.no_grad():  # where less stands in the way
        alone = run(replace(hurt, grad_out=None), backend, return_lse=lse).out
    torch.testing.assert_close(alone[good], wanted.out[good], rtol=0, atol=1e-6)
    assert torch.equal(found.out[good], wanted.out[good]) or torch.allclose(
        found.out[good], wanted.out[good], atol=1e-6
    )
    if lse:
        torch.testing.assert_close(found.lse[good], wanted.lse[good], rtol=0, atol=1e-6)
    for one, other in zip(found.grads, wanted.grads, strict=True):
        torch.testing.assert_close(one[good], other[good], rtol=0, atol=1e-6)
    # And it is not hidden where it is: the rows that look at it show it.
    if where == "v" and pattern == Full():
        assert not found.out[0, :, 9].isfinite().any()


@pytest.mark.parametrize("backend", ["reference", "dense", "blocked"])
def test_damaged_documents_keep_what_does_not_see_the_damage(backend: str) -> None:
    """In blocks of keys far from it a window's rows are right, also where several documents are damaged."""
    segments = torch.zeros(1, 600, dtype=torch.long)
    segments[0, 300:] = 1
    call = replace(random_call(Window(4, 4), 600, batch=1, segments=segments), grad_out=None)
    v = call.v.clone()
    v[:, :, [0, 599]] = float("nan")
    wanted, found = (run(one, backend, return_lse=False).out for one in (call, replace(call, v=v)))
    assert not found[:, :, [0, 4, 595, 599]].isfinite().any()
    if backend == "blocked":
        assert torch.equal(found[:, :, 200:400], wanted[:, :, 200:400])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("pattern", [Full(), Window(64, 64), Strided(8)], ids=str)
def test_values_do_not_leave_their_document_through_a_tile(pattern: Pattern, dtype: torch.dtype) -> None:
    """Without gradients, on every instruction set that is here; documents end within tiles of queries."""
    segments = (torch.arange(1200) // 100)[None]
    call = random_call(pattern, 1200, batch=1, size=16, segments=segments).to(dtype)
    v = call.v.clone()
    v[:, :, 100:200] = float("nan")
    out = attend(call.q, call.k, v, pattern, segments=segments)
    assert out[0, 0].isnan().any(-1).nonzero().flatten().tolist() == list(range(100, 200))


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # torch has no rule for its own fused attention
def test_transforms_of_torch_func_take_documents() -> None:
    call = random_call(Window(2, 2), 12, batch=1, segments=torch.arange(12)[None] // 5).to(torch.float32)
    several = torch.stack([call.q, 2 * call.q])
    for backend in ("auto", "dense", "reference"):
        found = torch.func.vmap(lambda x, b=backend: attend(x, x, x, call.pattern, backend=b, **call.options))(several)
        each = [attend(x, x, x, call.pattern, **call.options) for x in several]
        torch.testing.assert_close(found, torch.stack(each), rtol=0, atol=1e-5)


def test_finite_numbers_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums that overflow are no damage."""
    calls = []
    original = documents._damaged
    monkeypatch.setattr(documents, "_damaged", lambda inputs: calls.append(1) or original(inputs))
    call = replace(random_call(Full(), LENGTH, segments=SEGMENTS), grad_out=None).to(torch.float32)
    run(call, "reference")
    assert calls == []
    huge = replace(call, v=torch.full_like(call.v, 3e38))
    out = run(huge, "reference").out
    assert calls == [1]
    assert out.isfinite().all()
