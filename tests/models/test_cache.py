"""Reading on with a cache gives what reading everything at once gives, and keeps no more than it must."""

import dataclasses
from typing import Any

import pytest
import torch
from generation_models import HEADS, SIZE, decoder, decoders, flat, patterns, tokens
from hypothesis import given, settings
from hypothesis import strategies as st
from own_patterns import KnownPowersOfTwo, PowersOfTwo

import gossamer as gs
from gossamer.errors import InputError
from gossamer.layers import TokenInfo
from gossamer.models import Cache, Model
from gossamer.models.cache import one_query
from gossamer.models.cache.layout import layouts
from gossamer.models.cache.memory import LayerMemory
from gossamer.models.cache.plan import State, begin
from gossamer.patterns import Chunks, Fixed, Full, Pattern, PerHead, Prefix, Sink, Strided, Window

FULL = Full(causal=True)
EACH = [
    FULL,
    Window(5, 0),
    Window(3, 0, dilation=4),
    Strided(5),
    Strided(5, "local"),
    Strided(5, "column"),
    Fixed(6, 2),
    Fixed(6, 2, "both", 3),
    Fixed(6, 2, "block"),
    Fixed(6, 2, "summary", 1),
    Window(9, 0) | Fixed(6, 1),
    Window(2, 0, dilation=5) | Window(3, 0),
    Fixed(6, 1) | Fixed(4, 1, "summary", 2),
    Window(8, 0) | Strided(5),
    Window(5, 0) | Sink(3),
    Window(4, 0, dilation=2) | Sink(2),
    Sink(4),
    Chunks(6),
    Chunks(5) | Window(3, 0),
    PowersOfTwo(),
    KnownPowersOfTwo(),
    PerHead((Sink(2) | Window(3, 0), 1), (Chunks(7), 3)),
    PerHead((Window(4, 0), 1), (Fixed(6, 2), 2), (Strided(5), 1)),
]
"""A pattern of every kind."""


@given(flat, st.integers(0, 70))
@settings(max_examples=200)
def test_layouts_keep_each_token_that_a_query_sees_in_one_slot(pattern: Pattern, position: int) -> None:
    expected = pattern.mask(1, position + 1, query_start=position)[0].nonzero()[:, 0]
    found = pattern.sees(position)
    assert torch.equal(found, expected)
    for layout in layouts(pattern):
        kept = layout.kept(0, position + 1)
        slots = layout.slots(kept)
        assert len(set(slots.tolist())) == len(kept)
        assert not len(slots) or 0 <= int(slots.min()) <= int(slots.max()) < layout.room(position + 1)
        found = found[~layout.holds(found, position + 1)]
    assert not len(found)


@given(flat, st.integers(0, 40), st.integers(1, 20))
def test_layouts_drop_nothing_that_a_later_query_sees(pattern: Pattern, tokens_read: int, more: int) -> None:
    """What is seen later and was read by now is kept by now."""
    later = pattern.sees(tokens_read + more)
    old = later[later < tokens_read]
    kept = torch.zeros(len(old), dtype=torch.bool)
    for layout in layouts(pattern):
        kept |= layout.holds(old, tokens_read)
    assert kept.all()


def read_in_chunks(model: Model, rows: list[torch.Tensor], cuts: list[int], sides: list[bool]) -> list[torch.Tensor]:
    """The states of each row's tokens; chunk i takes up to cuts[i] + row tokens of each row, padded at one side."""
    cache, states = Cache(model.architecture), [[] for _ in rows]
    for cut, left in zip(cuts, sides, strict=True):
        parts = [
            row[held : held + cut + i]
            for i, (row, held) in enumerate(zip(rows, cache.lengths or [0] * len(rows), strict=True))
        ]
        width = max(map(len, parts))
        if not width:
            continue
        ids, mask = torch.zeros(len(rows), width, dtype=torch.int64), torch.zeros(len(rows), width, dtype=torch.bool)
        for i, part in enumerate(parts):
            where = slice(width - len(part), width) if left else slice(0, len(part))
            ids[i, where], mask[i, where] = part, True
        out = model(ids, attention_mask=mask, cache=cache)
        for own, state, real in zip(states, out.last_hidden_state, mask, strict=True):
            own.append(state[real])
    return [torch.cat(one) for one in states]


@given(decoders(), st.data())
@settings(max_examples=60)
def test_chunks_of_padded_rows_give_what_each_row_gives_alone(model: Model, data: st.DataObject) -> None:
    lengths = data.draw(st.lists(st.integers(1, 40), min_size=1, max_size=3))
    cuts = data.draw(st.lists(st.sampled_from([1, 1, 1, 2, 5, 13]), min_size=4, max_size=8)) + [1] * 4 + [40]
    sides = data.draw(st.lists(st.booleans(), min_size=len(cuts), max_size=len(cuts)))
    rows = [tokens(length, seed=i) for i, length in enumerate(lengths)]
    with torch.no_grad():
        found = read_in_chunks(model, rows, cuts, sides)
        for row, states in zip(rows, found, strict=True):
            torch.testing.assert_close(states, model(row[None]).last_hidden_state[0], atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("pattern", EACH, ids=str)
@pytest.mark.parametrize("prompt", [1, 23])
def test_every_step_gives_what_everything_at_once_gives(pattern: Pattern, dtype: torch.dtype, prompt: int) -> None:
    model, ids = decoder([pattern, FULL, pattern], dtype=dtype), tokens(2, 60)
    cache = Cache(model.architecture)
    within = 1e-5 if dtype == torch.float32 else 1e-9
    with torch.no_grad():
        whole = model(ids)
        read = [ids[:, :prompt], *ids[:, prompt:].split(1, dim=1)]
        parts = [model(one, cache=cache) for one in read]
    assert cache.lengths == (60, 60)
    torch.testing.assert_close(
        torch.cat([one.last_hidden_state for one in parts], 1), whole.last_hidden_state, atol=within, rtol=within
    )
    torch.testing.assert_close(torch.cat([one.logits for one in parts], 1), whole.logits, atol=within * 10, rtol=within)


@pytest.mark.parametrize("pattern", EACH, ids=str)
def test_large_chunks_run_on_the_fast_kernels(pattern: Pattern) -> None:
    model, ids = decoder([pattern] * 2, length=700, dtype=torch.float32), tokens(2, 700)
    cache = Cache(model.architecture)
    with torch.no_grad():
        parts = torch.cat([model(one, cache=cache).last_hidden_state for one in ids.split([301, 1, 250, 148], 1)], 1)
        torch.testing.assert_close(parts, model(ids).last_hidden_state, atol=2e-5, rtol=1e-5)


@given(patterns, st.sampled_from([1, 2]), st.lists(st.sampled_from([1, 1, 4, 9]), min_size=3, max_size=7))
def test_fewer_key_heads(pattern: Pattern, key_heads: int, cuts: list[int]) -> None:
    total, size = sum(cuts), 3
    generator = torch.Generator().manual_seed(0)
    q, k, v = (
        torch.randn(2, heads, total, size, dtype=torch.float64, generator=generator)
        for heads in (HEADS, key_heads, key_heads)
    )
    state, before, parts = State(), 0, []
    memory = LayerMemory(pattern, HEADS, total, state)
    for cut in cuts:
        state.chunk, _ = begin((before, before), cut, None)
        own = (one[:, :, before : before + cut] for one in (q, k, v))
        parts.append(memory.attend(*own, pattern, TokenInfo(), 0.3))
        before += cut
    torch.testing.assert_close(torch.cat(parts, 2), gs.attend(q, k, v, pattern, scale=0.3), atol=1e-12, rtol=1e-12)


KEY = 2 * HEADS * SIZE * 8
"""Bytes of one token's key and value in float64."""


@pytest.mark.parametrize(
    ("pattern", "tokens_kept", "length"),
    [
        (Window(5, 0), 6, 10_000),
        (Window(3, 0, dilation=4), 13, 10_000),
        (Strided(9, "local"), 10, 10_000),
        (Fixed(6, 2, "block"), 6, 10_000),
        (Window(5, 0, dilation=3) | Window(9, 0), 16, 1_000),
    ],
    ids=str,
)
def test_what_looks_back_so_far_keeps_so_much(pattern: Pattern, tokens_kept: int, length: int) -> None:
    model, ids = decoder([pattern], length=length), tokens(1, length)
    cache = Cache(model.architecture)
    with torch.no_grad():
        model(ids[:, :3], cache=cache)
        for one in ids[:, 3:200].split(1, dim=1):
            model(one, cache=cache)
        model(ids[:, 200:-50], cache=cache)
        for one in ids[:, -50:].split(1, dim=1):
            model(one, cache=cache)
    assert cache.lengths == (length,)
    assert cache.bytes == tokens_kept * KEY


def test_summary_cells_and_the_current_block_are_kept() -> None:
    model, ids = decoder([Fixed(64, 4)], length=5_000), tokens(1, 5_000)
    cache = Cache(model.architecture)
    with torch.no_grad():
        model(ids, cache=cache)
    assert cache.bytes == (64 - 4 + 5_000 // 64 * 4) * KEY


@pytest.mark.parametrize(
    "pattern",
    [
        Fixed(2**20, 8),
        Fixed(2**31 - 1, 2**31 - 1),
        Fixed(2**31 - 1, 2**30, "summary", 2**30 - 1),
        Fixed(60, 8),
        Fixed(61, 8, "block"),
        Window(2**31 - 1, 0, 2**31 - 1),
        Strided(2**31 - 1),
        Strided(2**31 - 1, "column") | Window(2**31 - 1, 0),
        Fixed(2**31 - 1, 2**31 - 1, "summary") | Window(3, 0),
        PerHead((Fixed(2**20, 8), 2), (Strided(2**20), 2)),
        Sink(2**31 - 1) | Window(2**31 - 1, 0),
        Chunks(2**31 - 1),
        Chunks(2**31 - 1) | Sink(5),
    ],
    ids=str,
)
def test_a_cache_is_never_larger_than_the_model_reads(pattern: Pattern) -> None:
    """However large the numbers of its pattern: nothing is as long as a block or a window that no text can fill."""
    model, ids = decoder([pattern], length=60), tokens(1, 60)
    cache = Cache(model.architecture)
    with torch.no_grad():
        states = [model(one, cache=cache).last_hidden_state for one in ids.split([1, 1, 20, 1, 37], dim=1)]
        whole = model(ids).last_hidden_state
    torch.testing.assert_close(torch.cat(states, dim=1), whole, rtol=0, atol=1e-10)
    assert cache.bytes <= 2 * 60 * KEY


def test_what_grows_is_seldom_moved() -> None:
    model, ids = decoder([FULL, Strided(7), Fixed(8, 2)], length=2_000), tokens(1, 700)
    cache = Cache(model.architecture)
    places = [set(), set(), set()]
    with torch.no_grad():
        for one in ids.split(1, dim=1):
            model(one, cache=cache)
            for place, memory in zip(places, cache.memories, strict=True):
                place.add(memory._groups[0].buffers[0].keys.shape[2])
    assert all(len(place) <= 10 for place in places)
    assert all(memory.bytes <= 1.5 * 700 * KEY for memory in cache.memories)


@pytest.mark.parametrize("pattern", EACH, ids=str)
def test_a_step_reads_only_what_its_query_sees(pattern: Pattern) -> None:
    """All other slots are NaN."""
    model, ids = decoder([pattern]), tokens(1, 60)
    for length in (1, 30, 59):
        cache = Cache(model.architecture)
        with torch.no_grad():
            model(ids[:, :length], cache=cache)
            for group in cache.memories[0]._groups:
                visible = group.pattern.sees(length)
                for buffer in group.buffers:
                    here = visible[buffer.layout.holds(visible, length + 1)]
                    hidden = torch.ones(buffer.keys.shape[2], dtype=torch.bool)
                    hidden[buffer.layout.slots(here[here < length])] = False
                    buffer.keys[:, :, hidden] = buffer.values[:, :, hidden] = float("nan")
                    visible = visible[~buffer.layout.holds(visible, length + 1)]
            state = model(ids[:, length : length + 1], cache=cache).last_hidden_state
            torch.testing.assert_close(state, model(ids[:, : length + 1]).last_hidden_state[:, -1:])


def test_a_strided_step_gathers_its_window_and_its_column() -> None:
    chunk, _ = begin((9_999,), 1, None)
    (span,) = chunk.plan(Strided(100), torch.device("cpu")).reads.spans
    assert span.index is not None
    assert span.count == len(span.index) == 101 + 9_999 // 100 - 1


@pytest.mark.parametrize("pattern", [FULL, Window(5, 0), Fixed(6, 2), Strided(5, "local")], ids=str)
def test_what_lies_in_one_run_is_read_in_place(pattern: Pattern) -> None:
    for held in (0, 1, 5, 17, 40):
        chunk, _ = begin((held,), 1, None)
        reads = chunk.plan(pattern, torch.device("cpu")).reads
        assert [one.index for one in reads.spans] == [None]
        assert reads.mask is None


@pytest.mark.parametrize("pattern", EACH, ids=str)
def test_rows_without_new_tokens_keep_still(pattern: Pattern) -> None:
    model, ids = decoder([pattern]), tokens(2, 40)
    cache, alone = Cache(model.architecture), Cache(model.architecture)
    with torch.no_grad():
        model(ids[:, :20], cache=cache)
        for i in range(20, 30):
            model(ids[:, i : i + 1], attention_mask=torch.tensor([[1], [0]]), cache=cache)
        assert cache.lengths == (30, 20)
        model(ids[:, 20:25], attention_mask=torch.tensor([[0] * 5, [1] * 5]), cache=cache)
        assert cache.lengths == (30, 25)
        both = model(torch.stack([ids[0, 30:31], ids[1, 25:26]]), cache=cache).last_hidden_state
        model(ids[:1, :30], cache=alone)
        torch.testing.assert_close(both[:1], model(ids[:1, 30:31], cache=alone).last_hidden_state)
        torch.testing.assert_close(both[1:], model(ids[1:, :26]).last_hidden_state[:, -1:])


@pytest.mark.parametrize("pattern", EACH, ids=str)
def test_select_keeps_rows_in_any_order(pattern: Pattern) -> None:
    model, ids = decoder([pattern]), tokens(3, 40)
    cache = Cache(model.architecture)
    mask = torch.arange(30) < torch.tensor([[30], [11], [24]])
    with torch.no_grad():
        model(ids[:, :30], attention_mask=mask, cache=cache)
        cache.select([2, 1, 2])
        assert cache.lengths == (24, 11, 24)
        new = model(ids[[2, 1, 2], 35:36], cache=cache).last_hidden_state
        for i, row in enumerate((2, 1, 2)):
            text = torch.cat([ids[row, : cache.lengths[i] - 1], ids[row, 35:36]])
            torch.testing.assert_close(new[i], model(text[None]).last_hidden_state[0, -1:])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("pattern", EACH, ids=str)
def test_half_precision(pattern: Pattern, dtype: torch.dtype) -> None:
    model, ids = decoder([pattern], dtype=dtype), tokens(2, 40)
    cache = Cache(model.architecture)
    with torch.no_grad():
        parts = [model(one, cache=cache).last_hidden_state for one in ids.split([20, 1, 1, 8, 10], 1)]
        whole = decoder([pattern], dtype=torch.float32)(ids).last_hidden_state
    assert cache.memories[0]._groups[0].buffers[0].keys.dtype == dtype
    torch.testing.assert_close(torch.cat(parts, 1).float(), whole, atol=0.15, rtol=0.1)


def test_modes_of_torch_may_change_and_no_gradient_is_kept() -> None:
    model, ids = decoder([FULL, Window(5, 0)]), tokens(1, 40)
    cache = Cache(model.architecture)
    with torch.inference_mode():
        model(ids[:, :10], cache=cache)
        model(ids[:, 10:11], cache=cache)
    model(ids[:, 11:15], cache=cache)
    out = model(ids[:, 15:16], cache=cache)
    with torch.inference_mode():
        cache.select([0, 0])
        model(ids[:, 16:17].repeat(2, 1), cache=cache)
    cache.select([0])
    last = model(ids[:, 17:18], cache=cache)
    assert not any(one.keys.requires_grad for memory in cache.memories for one in memory._groups[0].buffers)
    assert out.cache is cache
    torch.testing.assert_close(last.logits, model(ids[:, :18]).logits[:, -1:])


def test_rows_that_see_nothing_get_zeros_whatever_torch_makes_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def plain(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, attn_mask: torch.Tensor, scale: float) -> torch.Tensor:
        return (q @ k.mT * scale).masked_fill(~attn_mask, -torch.inf).softmax(-1) @ v

    monkeypatch.setattr(one_query, "scaled_dot_product_attention", plain)
    model, ids = decoder([Fixed(8, 1, "summary")], scale=0.5), tokens(2, 20)
    cache = Cache(model.architecture)
    with torch.no_grad():
        model(ids[:, :15], attention_mask=torch.arange(15) < torch.tensor([[15], [4]]), cache=cache)
        last = model(ids[:, 15:16], cache=cache).last_hidden_state
        text = torch.cat([ids[1, :4], ids[1, 15:16]])
        torch.testing.assert_close(last[1], model(text[None]).last_hidden_state[0, -1:])


def test_positions_that_are_given_are_those_of_the_table_alone() -> None:
    model, ids = decoder([Fixed(6, 2)]), tokens(1, 20)
    cache = Cache(model.architecture)
    places = torch.arange(20)[None] + 30
    with torch.no_grad():
        model(ids[:, :9], position_ids=places[:, :9], cache=cache)
        last = model(ids[:, 9:], position_ids=places[:, 9:], cache=cache)
        torch.testing.assert_close(last.logits, model(ids, position_ids=places).logits[:, 9:])


def test_refusals() -> None:
    model, ids = decoder([Window(5, 0)], length=20), tokens(2, 10)
    cache = Cache(model.architecture)
    with pytest.raises(InputError, match=r"segments were given with a cache"):
        model(ids, segments=torch.zeros_like(ids), cache=cache)
    with pytest.raises(InputError, match=r"labels were given with a cache"):
        model(ids, labels=ids, cache=cache)
    model(ids, cache=cache)
    with pytest.raises(InputError, match=r"the cache holds 2 rows and the batch has 1"):
        model(ids[:1], cache=cache)
    with pytest.raises(
        InputError, match=r"row 0 of the cache holds 10 tokens and 11 more were given; the model reads 20"
    ):
        model(tokens(2, 11), cache=cache)
    with pytest.raises(InputError, match=r"rows is \[2\]; it must be a list of rows from 0 to 1"):
        cache.select([2])
    assert model(ids, cache=cache).cache.lengths == (20, 20)
    with pytest.raises(InputError, match=r"the cache was made for another model"):
        decoder([FULL])(ids, cache=cache)


def test_encoders_and_patterns_that_look_ahead_are_refused() -> None:
    from model_inputs import architecture, texts
    from model_inputs import model as encoder

    from gossamer.models import MaskedLM

    one = encoder(architecture(Full(), head=MaskedLM()))
    with pytest.raises(InputError, match=r"a cache cannot continue 'full'; it is for causal patterns") as refusal:
        Cache(one.architecture)
    assert "\n" not in str(refusal.value)
    with pytest.raises(InputError, match=r"a cache is for decoders; this model's head is 'masked-lm'"):
        one(texts(), cache=Cache(decoder([FULL]).architecture))


def test_what_is_no_architecture_is_refused_in_one_line() -> None:
    with pytest.raises(InputError, match=r"^a cache was made of a Model; it is made of a description: Cache\(model.ar"):
        Cache(decoder([FULL]))  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"^the cache is empty: read something with it before some rows"):
        Cache(decoder([FULL]).architecture).select([0])


@pytest.mark.parametrize("recompute", ["attention", "feed_forward", "both"])
def test_nothing_is_recomputed_with_a_cache(recompute: Any) -> None:
    plain, ids = decoder([FULL, Window(5, 0)]), tokens(1, 12)
    layers = tuple(dataclasses.replace(one, recompute=recompute) for one in plain.architecture.layers)
    model = Model(dataclasses.replace(plain.architecture, layers=layers)).double().eval()
    model.load_state_dict(plain.state_dict())
    cache = Cache(model.architecture)
    model(ids[:, :8], cache=cache)
    out = model(ids[:, 8:], cache=cache)
    out.logits.sum().backward()
    assert cache.lengths == (12,)
    torch.testing.assert_close(out.logits, plain(ids).logits[:, 8:])


def test_dropout_is_refused_with_a_cache() -> None:
    model, ids = decoder([FULL]).train(), tokens(1, 10)
    cache = Cache(model.architecture)
    with pytest.raises(
        InputError, match=r"^the model is in training mode, and reading with a cache has no dropout: ca"
    ):
        model(ids, cache=cache)
    assert model.eval()(ids, cache=cache).cache.lengths == (10,)


def test_a_call_that_broke_off_is_not_continued(monkeypatch: pytest.MonkeyPatch) -> None:
    model, ids = decoder([FULL, FULL]), tokens(1, 10)
    cache = Cache(model.architecture)
    with monkeypatch.context() as patched:
        patched.setattr(cache.memories[1], "attend", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            model(ids, cache=cache)
    with pytest.raises(InputError, match=r"was broken off, so what it holds is incomplete: make a new one"):
        model(ids, cache=cache)


def test_a_sink_beside_a_window_is_kept_in_bounded_memory() -> None:
    model, ids = decoder([Sink(4) | Window(9, 0)], length=5000), tokens(1, 3000)
    cache = Cache(model.architecture)
    with torch.no_grad():
        states = [model(one, cache=cache).last_hidden_state for one in ids.split([2000, *[1] * 1000], dim=1)]
        whole = model(ids).last_hidden_state
    torch.testing.assert_close(torch.cat(states, dim=1), whole, rtol=0, atol=1e-9)
    assert cache.bytes <= (32 + 4) * 2 * KEY


@pytest.mark.parametrize(
    "pattern", [Prefix(7), PerHead((Prefix(7), 2), (Window(4, 0), 2)), Prefix(3) | Prefix(7)], ids=str
)
def test_a_prefix_is_read_at_once_and_then_gone_on_from(pattern: Pattern) -> None:
    model, ids = decoder([pattern, FULL, pattern]), tokens(2, 40)
    for sizes in ([7, *[1] * 33], [9, 1, 1, 20, 9], [40]):
        cache = Cache(model.architecture)
        with torch.no_grad():
            states = [model(one, cache=cache).last_hidden_state for one in ids.split(sizes, dim=1)]
            torch.testing.assert_close(torch.cat(states, dim=1), model(ids).last_hidden_state, rtol=0, atol=1e-9)
    for sizes in ([6, 34], [1] * 40):
        cache = Cache(model.architecture)
        with pytest.raises(InputError, match=r"row 0 begins with \d tokens?; .* prefix of 7 .* give at least"):
            model(ids[:, : sizes[0]], cache=cache)
