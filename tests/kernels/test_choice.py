"""Which backend is taken, what is said about it, and what bad input is told."""

import re
from contextlib import suppress
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kernel_cases import random_call

from gossamer import Full, Global, PerHead, Window, attend, explain
from gossamer.errors import InputError
from gossamer.kernels import BACKENDS, backends
from gossamer.kernels.backends.blocked.tiles import band_area, band_tiles
from gossamer.kernels.backends.cpu import backend as cpu_backend
from gossamer.kernels.inputs import make_inputs

x = torch.zeros(1, 2, 10, 4)
long = torch.zeros(1, 2, 5000, 4)
INEXACT = Window(2, 2) | Window(3, 3, 2)


@pytest.fixture
def without_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_backend, "why_no_library", lambda: "it was not compiled")


def test_auto_takes_the_compiled_kernel_unless_the_call_is_tiny() -> None:
    assert explain(x, x, x, Window(2, 2)).backend == "cpu"  # nobody watches: it starts at once
    watched = x.clone().requires_grad_()
    tiny = explain(watched, x, x, Window(2, 2))
    assert (tiny.backend, tiny.others["cpu"]) == ("dense", "slower to start")
    found = explain(long, long, long, Window(2, 2))
    assert (found.backend, found.reason) == ("cpu", "compiled for this processor")
    assert found.others["blocked"] == "slower than the compiled kernel"
    assert explain(x, x, x, Full(), dropout=0.5).backend == "cpu"


@pytest.mark.usefixtures("without_kernel")
def test_auto_takes_dense_for_short_texts_and_blocked_for_long_ones() -> None:
    short = explain(x, x, x, Window(2, 2))
    assert (short.backend, short.others["blocked"]) == ("dense", "slower on so short an input")
    found = explain(long, long, long, Window(2, 2))
    assert (found.backend, found.others["dense"]) == ("blocked", "slower: it computes every pair")
    assert "pairs in tiles" in found.reason
    assert str(found).splitlines()[0] == f"blocked: {found.reason}"
    lines = {line.split(":")[0] for line in str(found).splitlines()[1:]}
    assert lines == {"not reference", "not dense", "not cpu"}


@pytest.mark.usefixtures("without_kernel")
@pytest.mark.parametrize("pattern", [Full(), Full(causal=True), Window(5000, 5000)])
def test_auto_takes_dense_where_hardly_a_pair_is_left_out(pattern: Any) -> None:
    assert explain(long, long, long, pattern).backend == "dense"


@given(st.sampled_from(BACKENDS), st.sampled_from([Full(), Window(2, 2), INEXACT]), st.booleans(), st.booleans())
def test_every_backend_is_accounted_for(backend: str, pattern: Any, dropout: bool, return_lse: bool) -> None:
    options = {"dropout": 0.5 if dropout else 0.0, "return_lse": return_lse}
    for name in ("auto", backend):
        with suppress(InputError):
            found = explain(x, x, x, pattern, backend=name, **options)
            assert {found.backend, *found.others} == set(BACKENDS)
            assert all(found.others.values())


@pytest.mark.parametrize(
    ("backend", "pattern", "options", "why"),
    [
        ("dense", Full(), {"dropout": 0.1}, "torch's dropout is not the counter-based one"),
        ("dense", Full(), {"return_lse": True}, "it gives no log-sum-exp"),
        ("blocked", Full(), {"bias": torch.zeros(1, 1, 10, 10)}, "it takes no bias"),
        ("blocked", Window(1, 1, 2), {"positions": torch.arange(10)[None]}, "a dilated window over positions"),
        ("blocked", Window(1, 1), {"positions": torch.zeros(1, 10, dtype=torch.long)}, "positions do not rise"),
        ("blocked", INEXACT, {}, "the union of «window 2+2» and «window 3+3, every 2nd» has no exact pieces"),
        ("dense", PerHead((INEXACT, 2)), {}, "the union of «window 2+2» and «window 3+3, every 2nd»"),
    ],
)
def test_an_impossible_backend_is_an_error(backend: str, pattern: Any, options: dict[str, Any], why: str) -> None:
    with pytest.raises(InputError, match=re.escape(f"backend '{backend}' cannot compute this call: {why}")):
        attend(x, x, x, pattern, backend=backend, **options)


def test_inexact_unions_run_on_the_reference_and_say_so() -> None:
    found = explain(x, x, x, INEXACT)
    assert (found.backend, found.reason) == ("reference", "the only one that can")
    assert "«window 2+2» and «window 3+3, every 2nd»" in str(found)
    assert attend(x, x, x, INEXACT).shape == x.shape


def test_plain_operations_have_neither_dropout_nor_positions() -> None:
    """On a device that only knows plain operations, dropout must not be dropped in silence."""
    y = torch.zeros(1, 1, 10, 4, device="meta")
    assert explain(y, y, y, Window(2, 2), backend="blocked").backend == "blocked"
    for options in ({"dropout": 0.5}, {"positions": torch.arange(10, device="meta")[None]}):
        with pytest.raises(InputError, match="neither dropout nor positions"):
            explain(y, y, y, Window(2, 2), backend="blocked", **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pattern": "window"}, "pattern is 'window'; it must be a pattern such as"),
        ({"q": x[0]}, "q has shape [2, 10, 4]; it must be [batch, heads, length, head_size]"),
        ({"v": x[..., :0]}, "v has shape [1, 2, 10, 0]; it must have one head or more, of size 1 or more"),
        ({"k": x[:, :0]}, "k has shape [1, 0, 10, 4]; it must have one head or more"),
        ({"k": x.double()}, "k is torch.float64 on cpu and q torch.float32 on cpu; they must share"),
        ({"v": x.to("meta")}, "v is torch.float32 on meta and q torch.float32 on cpu"),
        ({name: x.long() for name in "qkv"}, "q is torch.int64 on cpu and q torch.int64"),
        ({"k": x[:, :, :9]}, "k has shape [1, 2, 9, 4] and v [1, 2, 10, 4]; all but the head size must be equal"),
        ({"q": torch.cat([x, x])}, "q has shape [2, 2, 10, 4] and k [1, 2, 10, 4]; batch and head_size"),
        ({"q": torch.cat([x, x], 1)[:, :3]}, "q has 3 heads and k 2; the first must be a multiple"),
        ({"pattern": PerHead((Full(), 3))}, "the pattern is for 3 heads and q has 2"),
        ({"query_start": -(2**31)}, "query_start is -2147483648; it must be from -1073741824 to 1073741824"),
        ({"query_start": 1.5}, "query_start is 1.5; it must be a whole number, where the first query stands"),
        (
            {"query_start": torch.zeros(3, dtype=torch.int64)},
            "query_start is torch.int64 of shape [3]; it",
        ),
        (
            {"query_start": torch.zeros(1)},
            "query_start is torch.float32 of shape [1]; it must",
        ),
        ({"dropout": 1.0}, "dropout is 1.0; it must be from 0 up to, not including, 1"),
        ({"dropout": float("nan")}, "dropout is nan"),
        ({"scale": float("inf")}, "scale is inf; it must be a finite number"),
        ({"dropout": 0.1, "seed": 1.5}, "seed is 1.5; it must be an integer"),
        ({"dropout": 0.1, "seed": torch.zeros(2)}, "seed is torch.float32 of shape [2]; it must be one integer"),
        ({"key_mask": torch.ones(1, 10)}, "key_mask is torch.float32; it must be boolean"),
        ({"key_mask": torch.ones(1, 9).bool()}, "key_mask has shape [1, 9]; it must be [batch, length], here [1, 10]"),
        ({"global_mask": torch.ones(1, 10).long()}, "global_mask is torch.int64; it must be boolean"),
        ({"global_mask": torch.ones(1, 10, device="meta").bool()}, "global_mask is on meta and q on cpu"),
        ({"segments": torch.ones(1, 10)}, "segments is torch.float32; it must be an integer tensor"),
        (
            {"segments": torch.ones(1, 10).long(), "query_start": 5},
            "segments is one tensor of 10 keys, but the queries",
        ),
        ({"positions": (torch.ones(1, 10).long(),)}, "positions is a tuple; it must be one tensor or a (query, key)"),
        ({"positions": (torch.ones(1, 9).long(),) * 2}, "positions has shape [1, 9]"),
        ({"bias": torch.zeros(10)}, "bias has shape [10]; it must broadcast to [1, 2, 10, 10]"),
        ({"bias": torch.zeros(3, 10, 10)}, "bias has shape [3, 10, 10]; it must broadcast to [1, 2, 10, 10]"),
        ({"bias": torch.zeros(1, 1, 9, 10)}, "bias has shape [1, 1, 9, 10]; it must broadcast"),
        (
            {"bias": torch.zeros(1, 1, 10, 10).long()},
            "bias is torch.int64 on cpu; on cpu it must be floating-point, added to",
        ),
        ({"backend": "fast"}, "backend is 'fast'; it must be one of auto, reference, dense, blocked"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_bad_input_is_told_what_was_wrong(options: dict[str, Any], message: str) -> None:
    for function in (attend, explain):
        with pytest.raises(InputError, match=re.escape(message)) as error:
            function(**({"q": x, "k": x, "v": x, "pattern": Full()} | options))
        assert "\n" not in str(error.value)


@given(
    st.integers(0, 400), st.integers(0, 400), st.none() | st.integers(-200, 50), st.integers(0, 200) | st.none(),
    st.integers(0, 500), st.sampled_from([1, 32, 64]),
)  # fmt: skip
def test_tiles_hold_every_pair_of_the_band_once(
    queries: int, keys: int, low: int | None, width: int | None, start: int, rows: int
) -> None:
    high = None if width is None else width if low is None else low + width
    seen = torch.zeros(queries, keys, dtype=torch.long)
    tiles = list(band_tiles(queries, keys, low, high, start, rows))
    for group in tiles:
        for b in range(group.blocks):
            i, j = group.query_start + b * group.rows, group.key_start + b * group.rows
            assert i + group.rows <= queries
            assert j + group.keys <= keys
            seen[i : i + group.rows, j : j + group.keys] += 1
    distance = torch.arange(keys) - torch.arange(queries)[:, None] - start
    inside = (distance >= (low if low is not None else -9999)) & (distance <= (high if high is not None else 9999))
    assert (seen <= 1).all()
    assert seen[inside].all()
    groups, pairs = band_area(queries, keys, low, high, start, rows)
    assert groups == len(tiles)
    assert pairs >= sum(group.blocks * group.rows * group.keys for group in tiles)
    assert queries % rows or pairs == sum(group.blocks * rows * group.keys for group in tiles)


def test_global_tokens_follow_the_query_start() -> None:
    """Queries further on are flagged by their own place; beyond the keys nobody is."""
    flags = torch.zeros(1, 12, dtype=torch.bool)
    flags[0, 11] = True
    call = random_call(Window(1, 1) | Global(), 6, 12, batch=1, global_mask=flags, query_start=9)
    found = explain(call.q, call.k, call.v, call.pattern, **call.options)
    assert found.backend == "dense"
    dense, reference = (
        attend(call.q, call.k, call.v, call.pattern, backend=one, **call.options) for one in ("dense", "reference")
    )
    assert torch.allclose(dense, reference)


def test_plain_operations_stand_in_for_blocked_under_its_name() -> None:
    """Where operators of our own cannot be used; of both, one is in the table."""
    plain = torch.zeros(1, 1, 10, 4, device="meta")
    for tensor, wanted in ((x, backends.BLOCKED), (plain, backends.PORTABLE)):
        table = backends.backends_for(make_inputs(tensor, tensor, tensor, Window(2, 2)))
        assert tuple(one.name for one in table) == BACKENDS
        assert table[BACKENDS.index("blocked")] is wanted
    with pytest.raises(InputError, match="backend is 'portable'; it must be one of"):
        explain(plain, plain, plain, Window(2, 2), backend="portable")


def test_a_call_compiles_its_pattern_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    pieces = Window.pieces
    monkeypatch.setattr(Window, "pieces", lambda pattern: asked.append(pattern) or pieces(pattern))
    y = torch.zeros(1, 2, 100, 4, requires_grad=True)
    for backend in (*BACKENDS, "auto"):
        asked.clear()
        attend(y, y, y, Window(2, 2), backend=backend)
        assert len(asked) == 1
