"""The masks are the definitions of DESIGN.md, spelled out pair by pair in plain Python."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pattern_strategies import flat, groups, patterns, places, singles, windows

from gossamer.patterns import Chunks, Fixed, Full, Global, Pattern, PerHead, Prefix, Sink, Strided, Union, Window


def sees(pattern: Pattern, i: int, j: int, flagged: set[int]) -> bool:
    match pattern:
        case Full(causal):
            return not causal or j <= i
        case Window(before, after, dilation):
            return any(j - i == dilation * m for m in range(-before, after + 1))
        case Global():
            return i in flagged or j in flagged
        case Strided(stride, part):
            local = set(range(max(0, i - stride), i + 1))
            column = {j for j in range(i + 1) if (i - j) % stride == 0}
            return j in {"local": local, "column": column, "both": local | column}[part]
        case Fixed(stride, summary, part, offset):
            cells = [stride - offset - n for n in range(1, summary + 1)]
            block = {j for j in range(i + 1) if j // stride == i // stride}
            cell = {j for j in range(i + 1) if j % stride in cells}
            return j in {"block": block, "summary": cell, "both": block | cell}[part]
        case Sink(n):
            return j < n and j <= i
        case Prefix(n):
            return j < n or j <= i
        case Chunks(size, causal, before, after):
            return -before <= j // size - i // size <= after and (j <= i or not causal)
        case Union(parts):
            return any(sees(part, i, j, flagged) for part in parts)
    raise AssertionError(pattern)


def naive(pattern: Pattern, queries: int, keys: int, start: int, flagged: set[int]) -> list[list[bool]]:
    return [[sees(pattern, i + start, j, flagged) for j in range(keys)] for i in range(queries)]


@given(flat, places(lead=False))
def test_the_mask_is_the_definition(pattern, place):
    queries, start, flags = place["queries"], place["query_start"], place["flags"]
    keys = max(0, start + queries) if place["keys"] is None else place["keys"]
    flagged = set() if flags is None else set(flags.nonzero()[:, 0].tolist())
    expected = torch.tensor(naive(pattern, queries, keys, start, flagged), dtype=torch.bool).reshape(queries, keys)
    mask = pattern.mask(**place)
    assert mask.dtype == torch.bool
    assert torch.equal(mask, expected)


def test_masks_by_hand():
    assert Window(1, 0).mask(3).tolist() == [[True, False, False], [True, True, False], [False, True, True]]
    assert Window(1, 1, dilation=2).mask(1, keys=5, query_start=2).tolist() == [[True, False, True, False, True]]
    assert Window(2, 0).mask(2, query_start=2).tolist() == [[True, True, True, False], [False, True, True, True]]
    assert Full(causal=True).mask(2).tolist() == [[True, False], [True, True]]
    assert Strided(2).mask(1, keys=7, query_start=5).long().tolist() == [[0, 1, 0, 1, 1, 1, 0]]
    assert Strided(2, "column").mask(1, query_start=4).long().tolist() == [[1, 0, 1, 0, 1]]
    assert Fixed(4, 1).mask(1, keys=12, query_start=9).long().tolist() == [[0, 0, 0, 1, 0, 0, 0, 1, 1, 1, 0, 0]]
    assert Fixed(4, 2, "summary", 1).mask(1, query_start=9).long().tolist() == [[0, 1, 1, 0, 0, 1, 1, 0, 0, 1]]
    flags = torch.tensor([False, True, False])
    assert Global().mask(3, flags=flags).tolist() == [[False, True, False], [True, True, True], [False, True, False]]


def test_a_query_beyond_the_keys_is_never_flagged():
    assert not Global().mask(2, keys=2, query_start=2, flags=torch.tensor([False, False])).any()
    assert Global().mask(2, keys=2, query_start=1, flags=torch.tensor([False, True])).tolist() == [
        [True, True],
        [False, True],
    ]


@given(patterns, places())
def test_leading_dimensions_of_the_flags_lead_the_mask(pattern, place):
    mask, flags = pattern.mask(**place), place["flags"]
    lead = () if flags is None else flags.shape[:-1]
    heads = (pattern.heads,) if isinstance(pattern, PerHead) else ()
    assert mask.shape[: -2 if mask.dim() > 1 else None] == (*lead, *heads)
    if lead == (2,):
        each = [pattern.mask(**{**place, "flags": flags[text]}) for text in range(2)]
        assert torch.equal(mask, torch.stack(each))


@given(groups, places(lead=False))
def test_heads_have_their_own_masks(drawn, place):
    each = [pattern.mask(**place) for pattern, heads in drawn for _ in range(heads)]
    assert torch.equal(PerHead(*drawn).mask(**place), torch.stack(each))


@given(singles, singles, st.integers(0, 12))
def test_allowed_takes_any_positions(one, other, seed):
    """Positions of gathered tokens: the mask of the whole, gathered; batches of positions broadcast with flags."""
    generator = torch.Generator().manual_seed(seed)
    queries, keys = torch.randint(0, 16, (2, 5), generator=generator), torch.randint(0, 16, (2, 7), generator=generator)
    flags = torch.rand(16, generator=generator) < 0.3
    pattern = PerHead((one, 1), (other, 2))
    whole = pattern.mask(16, flags=flags)
    found = pattern.allowed(queries, keys, flags[queries], flags[keys])
    for text in range(2):
        assert torch.equal(found[text], whole[:, queries[text]][:, :, keys[text]])


@given(patterns, st.integers(0, 6), st.integers(0, 6), st.sampled_from([0, 1, 4]))
def test_causal_means_no_later_key(pattern, queries, keys, start):
    if pattern.causal:
        distance = torch.arange(keys) - torch.arange(start, start + queries)[:, None]
        assert not pattern.mask(queries, keys, start, torch.ones(keys, dtype=torch.bool))[..., distance > 0].any()
    if isinstance(pattern, Full | Window | Global) and not pattern.causal:
        flags = torch.zeros(50, dtype=torch.bool).index_fill(0, torch.tensor([0]), True)
        assert pattern.mask(50, flags=flags).triu(1).any()


@settings(max_examples=200)
@given(patterns, st.integers(0, 6), st.integers(0, 6), st.sampled_from([0, 1, 5, 14, 40]))
def test_covers_means_a_full_mask(pattern, queries, keys, start):
    """Exact, except that parts of a union may cover together without either covering alone."""
    everything = bool(pattern.mask(queries, keys, start).all())
    members = [part for part, _ in pattern.groups] if isinstance(pattern, PerHead) else [pattern]
    if all(not isinstance(member, Union) or (Global() in member.parts and member.exact) for member in members):
        assert pattern.covers(queries, keys, start) == everything
    assert everything or not pattern.covers(queries, keys, start)


@given(windows)
def test_a_window_wider_than_the_text_is_full(window):
    wide = Window(window.before + 20, window.after + 20)
    assert wide.covers(20, 20)
    assert torch.equal(wide.mask(20), Full().mask(20))


@pytest.mark.parametrize(
    "pattern",
    [
        Full(causal=True),
        Window(2, 1, dilation=2) | Global(),
        PerHead((Window(1, 1), 2), (Window(2, 2) | Global(), 1)),
        PerHead((Strided(3) | Window(1, 1), 1), (Fixed(4, 1, "summary", 2), 1)),
    ],
    ids=str,
)
def test_allowed_is_traced_without_a_break(pattern):
    flags = torch.tensor([[True, False, False, False, True, False]])
    positions = torch.arange(6)
    compiled = torch.compile(pattern.allowed, backend="eager", fullgraph=True)
    mask = pattern.mask(6, flags=flags)
    assert torch.equal(compiled(positions, positions, flags, flags).expand_as(mask), mask)


def test_allowed_is_exported_with_a_dynamic_length():
    class Mask(torch.nn.Module):
        def forward(self, positions: torch.Tensor, flags: torch.Tensor) -> torch.Tensor:
            return (Window(2, 1) | Global()).allowed(positions, positions, flags, flags)

    length = torch.export.Dim("length", min=2, max=4096)
    example = (torch.arange(6), torch.zeros(6, dtype=torch.bool))
    program = torch.export.export(Mask(), example, dynamic_shapes=({0: length}, {0: length}))
    flags = torch.arange(11) == 7
    assert torch.equal(program.module()(torch.arange(11), flags), (Window(2, 1) | Global()).mask(11, flags=flags))
