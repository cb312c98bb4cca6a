"""Calls of attention for hypothesis to draw, and how two ways of computing one are compared."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from unittest.mock import patch

import torch
from hypothesis import strategies as st
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from gossamer import Chunks, Fixed, Full, Global, PerHead, Prefix, Sink, Strided, Window, attend
from gossamer.kernels.backends.portable import portable
from gossamer.kernels.inputs import make_inputs
from gossamer.patterns import Pattern, Union

# Float64: the order of summation is all that differs. Float32: a sum of n products of size s is off by about
# sqrt(n s) * 6e-8 of its norm, and exp passes a score's error on; gradients pass through two such sums more.
OUTPUT_ERROR = {torch.float64: 1e-12, torch.float32: 3e-6}
GRADIENT_ERROR = {torch.float64: 1e-12, torch.float32: 1e-5}


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "tokens first": lambda x: x.transpose(1, 2).contiguous().transpose(1, 2),
    "every second": lambda x: x.repeat_interleave(2, 2)[:, :, ::2],
    "expanded": lambda x: x[:1, :1].expand(x.shape),
    "transposed size": lambda x: x.mT.contiguous().mT,
}


@dataclass(frozen=True)
class Call:
    """One call of `attend`, in float64, with the gradients that come back to it."""

    q: Tensor
    k: Tensor
    v: Tensor
    pattern: Pattern
    options: dict[str, Any] = field(default_factory=dict)
    grad_out: Tensor | None = None
    grad_lse: Tensor | None = None

    def to(self, dtype: torch.dtype) -> Call:
        """Rounded to a dtype; layouts stay as they are."""
        rounded = {name: getattr(self, name) for name in ("q", "k", "v", "grad_out")}
        rounded = {name: None if x is None else x.to(dtype) for name, x in rounded.items()}
        return replace(self, **rounded)

    def laid_out(self, layout: str) -> Call:
        """The same numbers, lying in memory in another way; "expanded" repeats those of the first head."""
        change = LAYOUTS[layout]
        return replace(self, **{name: change(getattr(self, name)) for name in ("q", "k", "v", "grad_out")})

    def with_options(self, **options: Any) -> Call:
        return replace(self, options={**self.options, **options})


@dataclass(frozen=True)
class Outcome:
    out: Tensor
    lse: Tensor | None
    grads: tuple[Tensor, ...]

    @property
    def gradient(self) -> Tensor:
        return torch.cat([x.double().flatten() for x in self.grads])


def random_call(
    pattern: Pattern,
    queries: int,
    keys: int | None = None,
    *,
    batch: int = 2,
    heads: int = 2,
    key_heads: int | None = None,
    size: int = 8,
    seed: int = 0,
    **options: Any,
) -> Call:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    keys = queries if keys is None else keys
    q = normal(batch, heads, queries, size)
    k, v = (normal(batch, key_heads or heads, keys, size) for _ in range(2))
    grad_out, grad_lse = normal(batch, heads, queries, size), normal(batch, heads, queries)
    return Call(q, k, v, pattern, options, grad_out, grad_lse)


def run(call: Call, backend: str, return_lse: bool = True) -> Outcome:
    """Compute a call and its gradients on a backend; "portable" means the formulation that is exported."""
    q, k, v = (x.detach().requires_grad_() for x in (call.q, call.k, call.v))
    if backend == "portable":
        out, lse = portable(make_inputs(q, k, v, call.pattern, **call.options))
    elif return_lse:
        out, lse = attend(q, k, v, call.pattern, backend=backend, return_lse=True, **call.options)
    else:
        out, lse = attend(q, k, v, call.pattern, backend=backend, **call.options), None
    if call.grad_out is None:
        return Outcome(out.detach(), None if lse is None else lse.detach(), ())
    total = (out * call.grad_out).sum()
    if lse is not None and call.grad_lse is not None:
        seen = lse.detach().isfinite()
        total = total + (lse.masked_fill(~seen, 0) * call.grad_lse).sum()
    grads = torch.autograd.grad(total, (q, k, v))
    return Outcome(out.detach(), None if lse is None else lse.detach(), grads)


def relative_error(found: Tensor, wanted: Tensor) -> float:
    """||found - wanted|| / ||wanted||, and ||found|| where nothing is wanted."""
    found, wanted = found.double(), wanted.double()
    scale = wanted.norm().item()
    return (found - wanted).norm().item() / (scale or 1.0)


def assert_same(found: Outcome, wanted: Outcome, output_error: float, gradient_error: float) -> None:
    assert relative_error(found.out, wanted.out) <= output_error
    assert not found.out.isnan().any()
    if found.lse is not None and wanted.lse is not None:
        assert torch.equal(found.lse.isneginf(), wanted.lse.isneginf()), "other rows see nothing"
        seen = wanted.lse.isfinite()
        assert (found.lse[seen] - wanted.lse[seen]).abs().sum() <= output_error * wanted.lse[seen].abs().add(1).sum()
    assert relative_error(found.gradient, wanted.gradient) <= gradient_error


def check(call: Call, backend: str, dtype: torch.dtype, return_lse: bool = True) -> None:
    """A backend agrees with the float64 reference on the same rounded inputs: output, log-sum-exp and gradients."""
    call = call.to(dtype)
    call = call if return_lse else replace(call, grad_lse=None)
    wanted = run(call.to(torch.float64), "reference")
    with poisoned():
        found = run(call, backend, return_lse)
    assert_same(found, wanted, OUTPUT_ERROR[dtype], GRADIENT_ERROR[dtype])


@contextmanager
def poisoned() -> Iterator[None]:
    """Memory that torch hands out uninitialised holds NaN, so that whoever reads it is found out."""
    new_empty, empty, empty_like = torch.Tensor.new_empty, torch.empty, torch.empty_like

    def poison(x: Tensor) -> Tensor:
        return x.fill_(float("nan")) if x.is_floating_point() else x

    with ExitStack() as stack:
        for owner, name, original in (
            (torch.Tensor, "new_empty", new_empty),
            (torch, "empty", empty),
            (torch, "empty_like", empty_like),
        ):
            poisoning = lambda *args, _make=original, **kwargs: poison(_make(*args, **kwargs))  # noqa: E731
            stack.enter_context(patch.object(owner, name, poisoning))
        yield


def peak_bytes(work: Callable[[], None]) -> int:
    """The most that torch's allocator held at once beyond what was there before, from its own record."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        work()
    held = peak = 0
    for event in sorted(record.profiler.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak


def windows(dilation: bool = True) -> st.SearchStrategy[Window]:
    reach = st.one_of(st.integers(0, 20), st.sampled_from([31, 32, 64, 100, 150]))
    return st.builds(Window, reach, reach, st.sampled_from([1, 1, 1, 2, 3, 7]) if dilation else st.just(1))


def strided() -> st.SearchStrategy[Strided]:
    return st.builds(Strided, st.integers(1, 20) | st.just(64), st.sampled_from(["both", "local", "column"]))


@st.composite
def fixed(draw: st.DrawFn) -> Fixed:
    stride = draw(st.integers(1, 20) | st.sampled_from([64, 100]))
    summary = draw(st.integers(1, min(stride, 5)) | st.just(stride))
    part = draw(st.sampled_from(["both", "both", "block", "summary"]))
    return Fixed(stride, summary, part, draw(st.integers(0, stride - summary)))


def chunks() -> st.SearchStrategy[Chunks]:
    alone = st.builds(Chunks, st.integers(1, 20) | st.sampled_from([64, 2**31 - 1]), st.booleans())
    near = st.builds(Chunks, st.integers(1, 20) | st.just(64), st.booleans(), st.integers(1, 3))
    return alone | near | st.builds(Chunks, st.integers(1, 30), st.just(False), st.integers(0, 2), st.integers(1, 3))


def exact_patterns(dilation: bool = True) -> st.SearchStrategy[Pattern]:
    """Patterns that every backend can compute; without `dilation`: with positions, too."""
    window = windows(dilation)
    unions = window.filter(lambda w: not w.causal).map(lambda w: w | Global())
    sinks = st.builds(Sink, st.integers(1, 9) | st.just(90))
    causal = st.one_of(fixed(), strided(), sinks) if dilation else st.one_of(fixed(), sinks)
    beside = st.builds(operator.or_, window, st.one_of(causal, st.builds(Chunks, st.integers(1, 40))))
    prefixes = st.builds(Prefix, st.integers(1, 20) | st.just(90))
    plain = st.one_of(st.builds(Full, st.booleans()), window, unions, unions, st.just(Global()))
    return st.one_of(plain, plain, causal, causal, beside, prefixes, chunks())


@st.composite
def calls(
    draw: st.DrawFn, positions: bool = True, dropout: bool = True, bias: bool = False, patterns: Any = None
) -> Call:
    """Any call that `blocked` takes (with `bias`: that `dense` takes); lengths lie around tiles and windows."""
    placed = positions and draw(st.sampled_from([False, False, True]))
    single = exact_patterns(dilation=not placed) if patterns is None else patterns
    groups = draw(st.lists(st.tuples(single, st.integers(1, 2)), min_size=1, max_size=3))
    pattern: Pattern = groups[0][0] if len(groups) == 1 else PerHead(*groups)
    heads = sum(count for _, count in groups)
    queries, keys, start = draw(_lengths(pattern))
    if placed:
        queries, keys, start = keys, keys, 0
    batch = draw(st.integers(1, 2))
    call = random_call(
        pattern, queries, keys, batch=batch, heads=heads, seed=draw(st.integers(0, 10**6)),
        key_heads=draw(st.sampled_from([n for n in range(1, heads + 1) if heads % n == 0])),
        size=draw(st.sampled_from([1, 4, 8, 16, 24])),
    )  # fmt: skip
    options: dict[str, Any] = {"query_start": start, "scale": draw(st.sampled_from([None, None, 0.2]))}
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    options["key_mask"] = draw(st.sampled_from([None, "prefix", "suffix", "random", "nothing"]))
    if options["key_mask"] is not None:
        options["key_mask"] = key_masks(options["key_mask"], batch, keys, generator)
    if draw(st.sampled_from([False, False, True])):
        options["segments"] = _segments(batch, queries, keys, start, generator)
    if placed:
        options["positions"] = _rising(batch, keys, options.get("segments"), generator)
    if uses_flags(pattern):
        rate = draw(st.sampled_from([0.0, 0.05, 0.5]))
        options["global_mask"] = torch.rand(batch, keys, generator=generator) < rate
    if dropout and draw(st.sampled_from([False, False, True])):
        options.update(dropout=0.3, seed=draw(st.integers(-(2**40), 2**40)))
    if bias and draw(st.booleans()):
        shape = [draw(st.sampled_from([1, n])) for n in (batch, heads, queries, keys)]
        options["bias"] = torch.randn(shape, generator=generator, dtype=torch.float64)
    if draw(st.booleans()):
        q, k, v = (x.transpose(1, 2).contiguous().transpose(1, 2) for x in (call.q, call.k, call.v))
        call = replace(call, q=q, k=k, v=v)
    if draw(st.booleans()):
        call = replace(call, grad_lse=None)
    return call.with_options(**{name: value for name, value in options.items() if value is not None})


def uses_flags(pattern: Pattern) -> bool:
    parts = [part for part, _ in pattern.groups] if isinstance(pattern, PerHead) else [pattern]
    return any(part == Global() or (isinstance(part, Union) and Global() in part.parts) for part in parts)


def key_masks(kind: str, batch: int, keys: int, generator: torch.Generator) -> Tensor:
    """True for real tokens: padding behind, in front, anywhere, or one text of nothing but padding."""
    real = torch.randint(0, keys + 1, (batch, 1), generator=generator)
    if kind == "prefix":
        return torch.arange(keys) < real
    if kind == "suffix":
        return torch.arange(keys) >= real
    mask = torch.rand(batch, keys, generator=generator) < 0.7
    if kind == "nothing":
        mask[0] = False
    return mask


@st.composite
def _lengths(draw: st.DrawFn, pattern: Pattern) -> tuple[int, int, int]:
    """Queries, keys and query_start: the same text, a cache before it, or another text."""
    part = pattern.groups[0][0] if isinstance(pattern, PerHead) else pattern
    part = part.parts[0] if isinstance(part, Union) else part
    around = 32
    if isinstance(part, Window):
        around = part.before + part.after + 1
    elif isinstance(part, Fixed | Strided):
        around = part.stride
    length = st.sampled_from([1, max(1, around - 1), around, around + 1, 63, 111, 300]) | st.integers(1, 200)
    queries = draw(length)
    kind = draw(st.sampled_from(["same", "same", "cache", "other"]))
    if kind == "same":
        return queries, queries, 0
    start = draw(st.integers(0, 150))
    return queries, start + queries if kind == "cache" else draw(length), start


def _segments(batch: int, queries: int, keys: int, start: int, generator: torch.Generator) -> Any:
    documents = (torch.rand(batch, keys, generator=generator) < 0.05).cumsum(1)
    if start + queries <= keys:
        return documents
    return torch.randint(0, 3, (batch, queries), generator=generator), documents


def _rising(batch: int, keys: int, segments: Any, generator: torch.Generator) -> Tensor:
    """Positions that rise by 1 to 3 from token to token and start anew with each document."""
    positions = torch.randint(1, 4, (batch, keys), generator=generator).cumsum(1)
    if segments is None:
        return positions
    starts = torch.cat([torch.ones(batch, 1, dtype=torch.bool), segments.diff(dim=1) != 0], 1)
    return positions - torch.where(starts, positions, 0).cummax(1).values
