"""Patterns, sizes and flags for hypothesis to draw."""

import functools
import operator

import torch
from hypothesis import strategies as st

from gossamer.errors import InputError
from gossamer.patterns import Chunks, Fixed, Full, Global, Pattern, PerHead, Prefix, Sink, Strided, Window

windows = st.builds(Window, st.integers(0, 6), st.integers(0, 6), st.sampled_from([1, 1, 2, 3, 7, 40]))
strided = st.builds(Strided, st.integers(1, 9), st.sampled_from(["both", "local", "column"]))


@st.composite
def fixed(draw: st.DrawFn) -> Fixed:
    stride = draw(st.integers(1, 9))
    summary = draw(st.integers(1, stride))
    part = draw(st.sampled_from(["both", "block", "summary"]))
    return Fixed(stride, summary, part, draw(st.integers(0, stride - summary)))


chunks = st.one_of(
    st.builds(Chunks, st.integers(1, 9), st.booleans(), st.just(0) | st.integers(0, 3)),
    st.builds(Chunks, st.integers(1, 9), st.just(False), st.integers(0, 2), st.integers(0, 3)),
)
firsts = st.one_of(st.builds(Sink, st.integers(1, 9)), st.builds(Prefix, st.integers(1, 9)))
singles = st.one_of(
    st.builds(Full, st.booleans()), windows, windows, st.just(Global()), strided, fixed(), chunks, firsts
)


@st.composite
def unions(draw: st.DrawFn) -> Pattern:
    """What two to four patterns make together; a refused combination is drawn without its global tokens."""
    parts = draw(st.lists(singles, min_size=2, max_size=4))
    try:
        return functools.reduce(operator.or_, parts)
    except InputError:
        return functools.reduce(operator.or_, [part for part in parts if part != Global()])


beside_a_window = st.builds(
    operator.or_, windows, st.one_of(strided, fixed(), st.builds(Sink, st.integers(1, 9)), chunks)
)
with_global = st.builds(lambda window: window | Global(), windows.filter(lambda w: w.after))
flat = st.one_of(singles, unions(), with_global, beside_a_window)
groups = st.lists(st.tuples(flat, st.integers(1, 3)), min_size=1, max_size=3)
patterns = st.one_of(flat, flat, groups.map(lambda drawn: PerHead(*drawn)))


@st.composite
def places(draw: st.DrawFn, lead: bool = True) -> dict[str, object]:
    """Arguments of `mask` and `pairs`: queries, keys, query_start, flags."""
    queries, start = draw(st.integers(0, 20)), draw(st.sampled_from([0, 0, 1, 5, 30, -1, -4, -30]))
    keys = draw(st.none() | st.integers(0, 24))
    known = max(0, queries + start) if keys is None else keys
    shape = (*draw(st.sampled_from([(), (), (2,), (2, 3)]) if lead else st.just(())), known)
    flags = None
    if draw(st.booleans()):
        generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
        flags = torch.rand(shape, generator=generator) < draw(st.sampled_from([0.0, 0.15, 0.6]))
    return {"queries": queries, "keys": keys, "query_start": start, "flags": flags}
