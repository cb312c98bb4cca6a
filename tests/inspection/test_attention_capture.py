"""Capturing attention: the right calls, nothing changed, nothing left behind."""

import copy
import pickle
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import gossamer as gs
from gossamer.errors import InputError
from gossamer.inspection import CapturedAttention, capture
from gossamer.kernels.select import choose
from gossamer.layers import SelfAttention, TokenInfo
from gossamer.models import (
    Architecture,
    Attention,
    Embeddings,
    FeedForward,
    Layer,
    Model,
    Positions,
)
from gossamer.patterns import Full, Global, Pattern, PerHead, Window
from gossamer.text.speeches import speeches

LONG = Window(3, 3) | Global()


def new_model(
    pattern: Pattern, *, projections: bool = False, sets: tuple[int, ...] = (0, 1), dtype: torch.dtype = torch.float64
) -> Model:
    """Layers of 2 heads x 4 with weights at which nothing is trivial."""
    layers = tuple(
        Layer(
            attention=Attention(pattern=pattern, heads=2, head_size=4, weights=i, global_projections=projections),
            feed_forward=FeedForward(width=12, weights=i),
        )
        for i in sets
    )
    embeddings = Embeddings(vocabulary_size=30, size=8, positions=Positions(length=80))
    torch.manual_seed(1)
    model = Model(Architecture(hidden_size=8, embeddings=embeddings, layers=layers)).to(dtype).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.3)
    return model


def new_batch(rows: int = 2, length: int = 40) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(2)
    real = torch.arange(length) < torch.tensor([[length], [length // 2]])[:rows]
    return {
        "input_ids": torch.randint(1, 30, (rows, length), generator=random),
        "attention_mask": real,
        "global_mask": torch.rand(rows, length, generator=random) < 0.1,
    }


@contextmanager
def forced(backend: str) -> Iterator[None]:
    """`auto` means this backend."""

    def only(inputs: Any, asked: str = "auto", return_lse: bool = False) -> Any:
        return choose(inputs, backend if asked == "auto" else asked, return_lse)

    with patch.object(sys.modules["gossamer.kernels.attend"], "choose", only):
        yield


def defined(model: Model, layer: int, hidden: Tensor, masks: TokenInfo) -> Tensor:
    """Every weight of one layer, from the states before it, [batch, heads, length, length]."""
    settings = model.architecture.layers[layer].attention
    module = model.attention[settings.weights]
    assert isinstance(module, SelfAttention)
    length = hidden.shape[1]
    flags = None if masks.global_mask is None else masks.global_mask

    def weights(kind: str, allowed: Tensor) -> Tensor:
        q, k = (
            getattr(module, name + kind)(hidden).unflatten(-1, (settings.heads, -1)).transpose(1, 2)
            for name in ("query", "key")
        )
        if masks.key_mask is not None:
            allowed = allowed & masks.key_mask[:, None, None, :]
        if masks.segments is not None:
            allowed = allowed & (masks.segments[:, None, :, None] == masks.segments[:, None, None, :])
        scores = (q @ k.mT * settings.head_size**-0.5).masked_fill(~allowed, float("-inf"))
        return scores.softmax(-1).nan_to_num(0)

    mask = settings.pattern.mask(length, flags=flags)
    mask = mask if isinstance(settings.pattern, PerHead) else mask.unsqueeze(-3)
    found = weights("", mask)
    if settings.global_projections:
        if flags is not None:
            found = torch.where(flags[:, None, :, None], weights("_global", torch.ones_like(mask)), found)
        if masks.key_mask is not None:
            found = found.masked_fill(~masks.key_mask[:, None, :, None], 0)
    return found


def check(
    attention: CapturedAttention, model: Model, states: tuple[Tensor, ...], masks: TokenInfo, bound: float
) -> None:
    length = states[0].shape[1]
    for layer in attention.layers:
        wanted = defined(model, layer, states[layer], masks)
        torch.testing.assert_close(attention.rows(layer, range(length)).double(), wanted, rtol=0, atol=bound)
        for rows in (None, [5, 0, 5]):
            some = wanted if rows is None else wanted[:, :, rows]
            found = attention.top_keys(layer, 3, rows)
            best = some.topk(3).values
            torch.testing.assert_close(found.weights.double(), best, rtol=0, atol=bound)
            at = some.gather(-1, found.keys.clamp(min=0)).masked_fill(found.keys < 0, 0)
            torch.testing.assert_close(at, best, rtol=0, atol=bound)
            mean = attention.mean_top_keys(layer, 3, rows)
            best = some.mean(1, keepdim=True).topk(3).values
            torch.testing.assert_close(mean.weights.double(), best, rtol=0, atol=bound)


@given(
    pattern=st.sampled_from([Full(), Window(4, 0), LONG, PerHead((LONG, 1), (Window(2, 2, 3), 1))]),
    projections=st.booleans(),
    parts=st.sets(st.sampled_from(["attention_mask", "global_mask", "segments"])),
    sets=st.sampled_from([(0, 1), (0, 0, 1, 0)]),
)
def test_weights_are_those_of_the_layers(
    pattern: Pattern, projections: bool, parts: set[str], sets: tuple[int, ...]
) -> None:
    model, batch = new_model(pattern, projections=projections, sets=sets), new_batch()
    batch["segments"] = torch.arange(40).expand(2, -1) // 13
    batch = {name: one for name, one in batch.items() if name == "input_ids" or name in parts}
    real, flags = batch.get("attention_mask"), batch.get("global_mask")
    flags = flags if flags is None or real is None else flags & real
    with torch.no_grad(), capture(model) as attention:
        out = model(**batch, output_hidden_states=True)
    assert attention.layers == tuple(range(len(sets)))
    masks = TokenInfo(key_mask=real, segments=batch.get("segments"), global_mask=flags)
    check(attention, model, out.hidden_states, masks, 1e-12)


@pytest.mark.parametrize("training", [False, True], ids=["", "training"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("backend", ["auto", "reference", "dense", "blocked", "cpu"])
def test_outputs_and_gradients_are_the_same_to_the_last_bit(backend: str, dtype: torch.dtype, training: bool) -> None:
    if (backend == "cpu" and dtype == torch.float64) or (backend == "dense" and training):
        with pytest.raises(InputError, match="cannot compute this call"):
            check_same(backend, dtype, training)
        return
    check_same(backend, dtype, training)


def check_same(backend: str, dtype: torch.dtype, training: bool) -> None:
    model, batch = new_model(LONG, projections=True, dtype=dtype).train(training), new_batch()

    def outcome() -> list[Tensor]:
        torch.manual_seed(3)
        states = model(**batch, output_hidden_states=True).hidden_states
        grads = torch.autograd.grad(states[-1].square().sum(), list(model.attention[0].parameters()))
        return [*states, *grads, torch.rand(1)]

    with forced(backend):
        plain = outcome()
        with capture(model) as attention:
            watched = outcome()
    assert all(torch.equal(a, b) for a, b in zip(watched, plain, strict=True))
    if backend != "auto":
        assert attention.backends == {0: (backend, backend), 1: (backend, backend)}
    if training:
        return
    masks = TokenInfo(key_mask=batch["attention_mask"], global_mask=batch["global_mask"] & batch["attention_mask"])
    exact = copy.deepcopy(model).double()
    bound = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2e-2}[dtype]
    check(attention, exact, tuple(one.detach().double() for one in watched[:3]), masks, bound)


def is_untouched(model: Model) -> bool:
    return all("hook" not in vars(one) and one.hook is None for one in model.attention)  # type: ignore[arg-type]


def test_nothing_is_left_behind() -> None:
    model, other, batch = new_model(Full()), new_model(Full()), new_batch()
    assert is_untouched(model)
    with capture(model) as attention:
        other(**batch)
        assert attention.layers == ()
        assert is_untouched(other)
        twin, reread = copy.deepcopy(model), pickle.loads(pickle.dumps(model))
        twin(**batch)
        reread(**batch)
        assert attention.layers == ()
        model(**batch)
    assert is_untouched(model)
    kept = attention.rows(0, [1])
    model(**{name: one[:1] for name, one in batch.items()})
    assert torch.equal(attention.rows(0, [1]), kept)
    with pytest.raises(RuntimeError, match="on purpose"), capture(model):
        raise RuntimeError("on purpose")
    assert is_untouched(model)
    with pytest.raises(InputError), capture(model) as attention:
        model(input_ids=torch.full((1, 3), 99))
    assert is_untouched(model)


def test_a_pass_that_failed_halfway_is_forgotten() -> None:
    model, batch = new_model(Full()), new_batch()
    with torch.no_grad():
        states = model(**batch, output_hidden_states=True).hidden_states
    with torch.no_grad(), capture(model) as attention:
        model(**{name: one[:1] for name, one in batch.items()})
        failing = patch.object(model.feed_forward[0], "forward", side_effect=RuntimeError("on purpose"))
        with failing, pytest.raises(RuntimeError, match="on purpose"):
            model(**batch)
        assert attention.layers == (0,)
        model(**batch)
    check(attention, model, states, TokenInfo(key_mask=batch["attention_mask"]), 1e-12)


def test_only_the_last_batch_of_this_thread_is_kept() -> None:
    model, batch = new_model(LONG), new_batch()
    first = {name: one[:1, :9] for name, one in batch.items()}
    with torch.no_grad(), capture(model) as attention:
        model(**first)
        assert attention.rows(1, [0]).shape == (1, 2, 1, 9)
        model(**batch)
        thread = threading.Thread(target=lambda: model(**first))
        thread.start()
        thread.join()
    assert attention.rows(1, [0]).shape == (2, 2, 1, 40)


def test_only_chosen_layers_are_kept() -> None:
    model, batch = new_model(LONG, projections=True, sets=(0, 0, 1)), new_batch()
    with torch.no_grad(), capture(model) as every:
        model(**batch)
    with torch.no_grad(), capture(model, [-1, 1]) as attention:
        model(**batch)
    assert attention.layers == (1, 2)
    for layer in (1, 2, -1):
        assert torch.equal(attention.rows(layer, [3, 7]), every.rows(layer, [3, 7]))
    flagged = int((batch["global_mask"] & batch["attention_mask"]).sum(1).max())
    size = 2 * 2 * 4 * 8  # texts, heads, head size, bytes of float64
    lse = sum(2 * 2 * n * 8 for n in (40, flagged))
    with torch.no_grad(), forced("reference"), capture(model, [1]) as attention:
        model(**batch)
    assert attention.bytes == 3 * 40 * size + flagged * size + lse
    with pytest.raises(InputError, match=r"layer 0 was not captured \(captured: 1\); name it in layers"):
        attention.rows(0, [0])


def test_under_autocast_the_numbers_are_those_of_attention() -> None:
    model, batch = new_model(Full(), dtype=torch.float32), new_batch()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16), forced("cpu"), capture(model) as attention:
        model(**batch)
    sums = attention.rows(0, range(40)).sum(-1)
    torch.testing.assert_close(sums, torch.ones_like(sums))


def test_mistakes_are_told() -> None:
    model = new_model(Full())
    with pytest.raises(InputError, match="layer is 2; the model has 2, numbered from 0 to 1"), capture(model, [2]):
        pass
    with pytest.raises(InputError, match="layer is True"), capture(model, [True]):
        pass
    with pytest.raises(InputError, match="model is a Linear; give a gossamer model"), capture(torch.nn.Linear(2, 2)):  # type: ignore[arg-type]
        pass
    with capture(model) as attention:
        with pytest.raises(InputError, match="is being captured already"), capture(model):
            pass
        with pytest.raises(InputError, match="captured: none: the model has read nothing since"):
            attention.rows(0, [0])
        model(**new_batch())
    with pytest.raises(InputError, match="rows holds 40"):
        attention.rows(0, [40])
    with pytest.raises(InputError, match="rows is 3; it must list"):
        attention.top_keys(0, rows=3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="rows is 3; it must list"):
        attention.mean_top_keys(0, rows=3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="rows is float32"):
        attention.mean_top_keys(0, rows=[0.5])  # type: ignore[list-item]
    with pytest.raises(InputError, match="count is 0"):
        attention.mean_top_keys(0, 0)
    with pytest.raises(InputError, match="layer is 'x'"):
        attention.rows("x", [0])  # type: ignore[arg-type]
    with pytest.raises(InputError, match="the model has no tokenizer"):
        attention.in_words(attention.top_keys(0), new_batch()["input_ids"])


def test_compiled_models_are_refused_or_pass_unseen() -> None:
    model, batch = new_model(LONG, projections=True), new_batch()
    compiled = torch.compile(model, backend="eager")
    with pytest.raises(InputError, match=r"as it was before torch\.compile"), capture(compiled):
        pass
    with torch.no_grad(), capture(model) as attention:
        expected = model(**batch).last_hidden_state
        torch.testing.assert_close(compiled(**batch).last_hidden_state, expected)
    with torch.no_grad(), capture(model) as attention:
        compiled(**batch)
        assert attention.layers == ()
    model.compile(backend="eager")
    with pytest.raises(InputError, match=r"compiled by model\.compile\(\)"), capture(model):
        pass


def test_a_long_text_in_words(minilm: Path) -> None:
    """MiniLM, lengthened, over a speech of more tokens than it was made for."""
    long, _ = gs.lengthen(gs.load(minilm), to=2048, window=64)
    batch = long.tokenizer(speeches()[0].text[:6000])
    flags = torch.zeros_like(batch["input_ids"], dtype=torch.bool)
    flags[0, 0] = True
    with torch.no_grad():
        plain = long(**batch, global_mask=flags).pooled
        with capture(long, [0, -1]) as attention:
            assert torch.equal(long(**batch, global_mask=flags).pooled, plain)
    length = batch["input_ids"].shape[1]
    assert length > 1000
    rows = attention.rows(5, [0, 700])
    torch.testing.assert_close(rows.sum(-1), torch.ones(1, 12, 2))
    assert ((rows > 0).sum(-1) == torch.tensor([length, 66])).all(), "64 around it, itself and the flagged one"
    found = attention.top_keys(5, 2, [0, 700])
    torch.testing.assert_close(found.weights, rows.topk(2).values)
    ((first, second),) = attention.in_words(found, batch["input_ids"], [0, 700])
    assert (first["row"], first["token"], second["row"]) == (0, "[CLS]", 700)
    assert len(second["heads"]) == 12
    ((row,),) = attention.in_words(attention.top_keys(5, 70, [700]), batch["input_ids"], [700])
    assert {len(head) for head in row["heads"]} == {66}, "as many as are seen"
    tokens = long.tokenizer.tokens(batch["input_ids"][0].tolist())
    for head, weights in zip(second["heads"], rows[0, :, 1], strict=True):
        assert [one["token"] for one in head] == [tokens[one["key"]] for one in head]
        assert head[0]["weight"] == pytest.approx(float(weights.max()), abs=1e-6)
