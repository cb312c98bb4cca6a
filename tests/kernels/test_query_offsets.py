"""Where queries stand among the keys: before them, behind them, and at another place in each text."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kernel_cases import Call, random_call, relative_error, run

from gossamer import Fixed, Full, Global, InputError, PerHead, Strided, Window, attend, explain
from gossamer.kernels import attention_rows
from gossamer.patterns import Pattern

PATTERNS = [
    Full(),
    Full(causal=True),
    Window(3, 2),
    Window(2, 3, 2),
    Window(3, 2) | Global(),
    Strided(4),
    Fixed(4, 1),
    Fixed(4, 2) | Window(5, 0),
    PerHead((Window(2, 2), 1), (Fixed(4, 1), 1)),
]


def masked(call: Call, masks: torch.Tensor) -> Call:
    """The same call by its definition: full attention under the masks [batch, heads or 1, queries, keys]."""
    kept = {name: one for name, one in call.options.items() if name in ("key_mask", "segments")}
    return replace(call, pattern=Full(), options={**kept, "bias": masks})


def mask_of(pattern: Pattern, queries: int, keys: int, start: int, flags: torch.Tensor | None) -> torch.Tensor:
    mask = pattern.mask(queries, keys, start, flags)
    return mask if isinstance(pattern, PerHead) else mask[None]


@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
@pytest.mark.parametrize(("queries", "keys"), [(9, 4), (9, 8), (70, 66), (1, 3), (6, 0), (130, 40)])
def test_queries_may_exceed_keys_at_the_bottom_right(pattern: Pattern, queries: int, keys: int) -> None:
    """query_start = keys - queries: the last query is the last key, as in flash-attention; on every backend."""
    flags = torch.arange(keys).expand(2, -1) == 2
    options = {"global_mask": flags} if "global" in str(pattern) else {}
    call = random_call(pattern, queries, keys, query_start=keys - queries, **options)
    masks = torch.stack([mask_of(pattern, queries, keys, keys - queries, one) for one in flags])
    wanted = run(masked(call, masks), "reference")
    for backend in ("reference", "dense", "blocked", "cpu", "auto"):
        one = call.to(torch.float32) if backend == "cpu" else call
        bound = 1e-5 if backend == "cpu" else 1e-12
        found = run(one, backend, return_lse=backend != "dense")
        exact = wanted if backend != "dense" else run(masked(call, masks), "reference", return_lse=False)
        torch.testing.assert_close(found.out.double(), exact.out, rtol=0, atol=bound)
        assert (found.gradient - exact.gradient).norm() <= bound * max(1, exact.gradient.norm())


@given(
    st.sampled_from(PATTERNS), st.integers(1, 12), st.integers(1, 12),
    st.lists(st.integers(-14, 14), min_size=3, max_size=3), st.booleans(),
)  # fmt: skip
def test_each_text_has_an_offset_of_its_own(
    pattern: Pattern, queries: int, keys: int, starts: list[int], padded: bool
) -> None:
    flags = torch.arange(keys).expand(3, -1) % 4 == 1
    options = {"global_mask": flags} if "global" in str(pattern) else {}
    if padded:
        options["key_mask"] = torch.arange(keys) < torch.tensor([[keys], [keys // 2], [1]])
        flags = flags & options["key_mask"]
    call = random_call(pattern, queries, keys, batch=3, query_start=torch.tensor(starts), **options)
    masks = torch.stack([mask_of(pattern, queries, keys, start, one) for start, one in zip(starts, flags, strict=True)])
    wanted = run(masked(call, masks), "reference")
    for backend in ("reference", "auto", "cpu"):
        one = call.to(torch.float32) if backend == "cpu" else call
        found = run(one, backend)
        bound = 1e-5 if backend == "cpu" else 1e-12
        torch.testing.assert_close(found.out.double(), wanted.out, rtol=0, atol=bound)
        assert (found.gradient - wanted.gradient).norm() <= bound * max(1, wanted.gradient.norm())
    rows = attention_rows(call.q, call.k, pattern, range(queries), **call.options)
    assert relative_error(rows @ call.v, wanted.out) < 1e-12


@pytest.mark.parametrize("pattern", PATTERNS[:-1], ids=str)
def test_offsets_in_packed_documents_are_those_of_separate_calls(pattern: Pattern) -> None:
    """Each text holds two documents of keys, and some later queries of them, at another place in each text."""
    keys = 24
    segments = (torch.arange(keys)[None] >= torch.tensor([[10], [7]])).long()
    starts = torch.tensor([5, 2])
    flags = {"global_mask": torch.arange(keys).expand(2, -1) == 8} if "global" in str(pattern) else {}
    call = random_call(pattern, 12, keys, segments=segments, query_start=starts, **flags)
    found = run(call, "auto")
    for i, start in enumerate(starts.tolist()):
        more = {name: one[i : i + 1] for name, one in flags.items()}
        alone = replace(
            call, q=call.q[i : i + 1], k=call.k[i : i + 1], v=call.v[i : i + 1], grad_out=None,
            options={"segments": segments[i : i + 1], "query_start": start, **more},
        )  # fmt: skip
        torch.testing.assert_close(found.out[i : i + 1], run(alone, "reference").out, rtol=0, atol=1e-12)


def test_one_offset_for_all_is_a_number() -> None:
    call = random_call(Window(3, 0), 600, 900).to(torch.float32)
    tensor = explain(call.q, call.k, call.v, call.pattern, query_start=torch.tensor([300, 300]), backend="blocked")
    assert tensor.backend == "blocked"
    a, b = (attend(call.q, call.k, call.v, call.pattern, query_start=one) for one in (300, torch.tensor([300, 300])))
    assert torch.equal(a, b)


def test_offsets_that_differ_are_no_band_of_indices() -> None:
    call = random_call(Window(3, 0), 6, 9).to(torch.float32)
    with pytest.raises(InputError, match="'blocked' cannot compute this call: positions differ between"):
        attend(call.q, call.k, call.v, call.pattern, query_start=torch.tensor([0, 3]), backend="blocked")


def test_queries_that_are_no_keys_have_no_segment() -> None:
    call = random_call(Full(), 6, 9)
    segments = torch.zeros(2, 9, dtype=torch.long)
    for start in (-1, 4, torch.tensor([0, 4]), torch.tensor([-1, 0])):
        with pytest.raises(InputError, match=r"segments is one tensor of 9 keys, but the queries, 6 from .* on"):
            attend(call.q, call.k, call.v, call.pattern, segments=segments, query_start=start)
