"""Patterns of one's own: right answers from the reference, said; with pieces of their own from every backend."""

from dataclasses import replace

import pytest
import torch
from kernel_cases import random_call, relative_error, run
from own_patterns import KnownPowersOfTwo, Multiples, PowersOfTwo
from torch import Tensor

from gossamer import InputError, PerHead, Window, attend, explain
from gossamer.kernels import attention_rows
from gossamer.models import Architecture, Attention, Embeddings, FeedForward, Layer, Model, Positions
from gossamer.patterns import Pattern

OWN = [
    PowersOfTwo(),
    PerHead((PowersOfTwo(), 1), (Window(2, 0), 1)),
    PowersOfTwo() | Window(2, 0),
]


@pytest.mark.parametrize("pattern", OWN, ids=str)
@pytest.mark.parametrize("length", [1, 9, 70])
def test_it_runs_on_the_reference_and_explain_says_so(pattern: Pattern, length: int) -> None:
    segments = torch.arange(length).expand(2, -1) // 40
    call = random_call(pattern, length, segments=segments)
    found = explain(call.q, call.k, call.v, pattern, segments=segments)
    assert found.backend == "reference"
    assert "«powers of two», a PowersOfTwo, no pieces are known" in str(found)
    ours, wanted = run(call, "auto"), run(call, "reference")
    assert torch.equal(ours.out, wanted.out)
    seen = pattern.mask(length) & (segments[0][:, None] == segments[0])
    scores = (call.q @ call.k.mT / 8**0.5).masked_fill(~seen, float("-inf"))
    assert relative_error(ours.out, scores.softmax(-1) @ call.v) < 1e-12
    rows = attention_rows(call.q, call.k, pattern, range(length), segments=segments)
    assert relative_error(rows @ call.v, ours.out) < 1e-12


@pytest.mark.parametrize("backend", ["cpu", "blocked", "dense"])
@pytest.mark.parametrize("pattern", OWN, ids=str)
def test_another_backend_is_refused(pattern: Pattern, backend: str) -> None:
    call = random_call(pattern, 12).to(torch.float32)
    with pytest.raises(InputError, match=rf"'{backend}' cannot compute this call: of «powers of two», a Pow"):
        attend(call.q, call.k, call.v, pattern, backend=backend)


def test_a_model_of_it_sees_what_it_says() -> None:
    """The last token's state moves with those that it sees, and with no other."""
    torch.manual_seed(0)
    layer = Layer(
        attention=Attention(pattern=PowersOfTwo(), heads=2, head_size=4, weights=0),
        feed_forward=FeedForward(width=8, weights=0),
    )
    embeddings = Embeddings(vocabulary_size=50, size=8, positions=Positions(length=40))
    model = Model(Architecture(hidden_size=8, embeddings=embeddings, layers=(layer,))).eval()
    ids = torch.randint(50, (1, 30))
    before = model(ids).last_hidden_state[0, -1]
    for i in range(29):
        other = ids.clone()
        other[0, i] = (other[0, i] + 1) % 50
        moved = not torch.equal(model(other).last_hidden_state[0, -1], before)
        assert moved == bool(PowersOfTwo().mask(30)[-1, i]), i


KNOWN = [KnownPowersOfTwo(), PerHead((KnownPowersOfTwo(), 1), (Window(2, 0), 1))]


@pytest.mark.parametrize("backend", ["cpu", "blocked", "dense"])
@pytest.mark.parametrize("pattern", KNOWN, ids=str)
def test_one_that_tells_its_pieces_runs_on_every_backend(pattern: Pattern, backend: str) -> None:
    """With gradients, documents, padding and positions; `auto` takes the compiled kernel for it."""
    for length, options in (
        (1, {}), (70, {}),
        (130, {"segments": torch.arange(130).expand(2, -1) // 50, "key_mask": torch.arange(130).expand(2, -1) < 120}),
        (90, {"positions": (3 * torch.arange(90)).expand(2, -1)}),
    ):  # fmt: skip
        call = replace(random_call(pattern, length, **options), grad_lse=None)
        given = call.to(torch.float32) if backend == "cpu" else call
        ours, wanted = run(given, backend, return_lse=False), run(call, "reference", return_lse=False)
        within = 1e-12 if backend != "cpu" else 1e-5
        assert relative_error(ours.out, wanted.out) < within
        assert relative_error(ours.gradient, wanted.gradient) < within
    q = torch.randn(1, 2, 600, 8)
    assert explain(q, q, q, pattern).backend == "cpu"


def test_gradients_and_half_precision() -> None:
    call = random_call(PowersOfTwo(), 33)
    assert run(call, "auto").gradient.norm() > 0
    half = replace(call.to(torch.bfloat16), grad_out=None)
    assert relative_error(run(half, "auto").out, run(replace(call, grad_out=None), "reference").out) < 2e-2


@pytest.mark.parametrize("pattern", [Multiples(), PerHead((Multiples(), 1), (Window(2, 0), 1))], ids=str)
def test_packed_documents_are_as_read_one_by_one(pattern: Pattern) -> None:
    lengths = (7, 11, 2)
    segments = torch.arange(3).repeat_interleave(torch.tensor(lengths)).expand(2, -1)
    call = random_call(pattern, sum(lengths), segments=segments)
    alone = [
        attend(*parts, pattern) for parts in zip(*(x.split(lengths, 2) for x in (call.q, call.k, call.v)), strict=True)
    ]
    assert relative_error(run(call, "auto").out, torch.cat(alone, 2)) < 1e-12
    rows = attention_rows(call.q, call.k, pattern, range(sum(lengths)), segments=segments)
    assert relative_error(rows @ call.v, torch.cat(alone, 2)) < 1e-12


@pytest.mark.parametrize(
    "wrong", [torch.ones(6, 6, dtype=torch.bool), torch.ones(1, 6, 6), torch.ones(3, 6, 6, dtype=torch.bool)]
)
def test_masks_of_another_shape_are_refused(monkeypatch: pytest.MonkeyPatch, wrong: Tensor) -> None:
    monkeypatch.setattr(Multiples, "allowed", lambda *rest: wrong)
    call = random_call(Multiples(), 6)
    with pytest.raises(InputError, match=r"allowed of 'multiples' gave .* it must be boolean, \[2 or 1, 6, 6\]"):
        attend(call.q, call.k, call.v, Multiples())
