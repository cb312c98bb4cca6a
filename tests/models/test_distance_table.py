"""Tables by distance in a model: their definition, gradients, packing, the cache, captured, counted, and saved."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from generation_models import decoder
from torch import Tensor

import gossamer as gs
from gossamer.errors import InputError
from gossamer.generation import generate
from gossamer.inspection import capture, summary
from gossamer.layers import TokenInfo
from gossamer.models import Architecture, Cache, DistanceTable, Model, decoders
from gossamer.models.stack import Stack
from gossamer.patterns import Fixed, Full, Pattern, PerHead, Sink, Strided, Window

CAUSAL = Full(causal=True)


def with_tables(architecture: Architecture, tables: Sequence[DistanceTable | None], **fields: Any) -> Architecture:
    layers = tuple(
        replace(one, attention=replace(one.attention, distance_bias=table, **fields))
        for one, table in zip(architecture.layers, tables, strict=True)
    )
    return replace(architecture, layers=layers)


def biased(patterns: Sequence[Pattern], *, shared: bool = False, head: bool = True, **options: Any) -> Model:
    """A decoder in float64 whose layers have tables of their own, or share one; they count for much."""
    tables = [DistanceTable(before=5, after=2, weights=0 if shared else i) for i in range(len(patterns))]
    plain = decoder(patterns, **options).architecture if head else options["architecture"]
    torch.manual_seed(3)
    model = Model(with_tables(plain, tables)).double().eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.4)
        for table in model.distance_bias:
            table.weight.copy_(torch.randn_like(table.weight) * 2)
    return model


def by_hand(model: Model, ids: Tensor, positions: Tensor, seen: Tensor) -> Tensor:
    """The last states of pre-norm layers by the definition: a number for each clamped distance beside the scores."""
    x = model.embeddings(ids, None, positions, None)
    for layer in model.architecture.layers:
        one, inner = model.attention[layer.attention.weights], model.feed_forward[layer.feed_forward.weights]
        described = layer.attention.distance_bias
        table = model.distance_bias[described.weights].weight
        read = one.norm(x)
        q, k, v = (
            to(read).unflatten(-1, (-1, one.head_size)).transpose(1, 2) for to in (one.query, one.key, one.value)
        )
        apart = (positions[:, None, :] - positions[:, :, None]).clamp(-described.before, described.after)
        bias = table[:, apart + described.before].transpose(0, 1)
        scores = (q @ k.mT / one.head_size**0.5 + bias).masked_fill(~seen, -torch.inf)
        x = x + one.output((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))
        x = x + inner.down(torch.nn.functional.gelu(inner.up(inner.norm(x))))
    return model.final_norm(x)


@pytest.mark.parametrize("shared", [True, False], ids=["one table", "a table each"])
@pytest.mark.parametrize("recompute", ["nothing", "attention"])
def test_the_definition_and_its_gradients(shared: bool, recompute: str) -> None:
    model = biased([CAUSAL, CAUSAL], shared=shared)
    layers = tuple(replace(one, recompute=recompute) for one in model.architecture.layers)
    model.architecture = replace(model.architecture, layers=layers)
    ids = torch.arange(22).view(2, 11) % 37
    positions = torch.arange(11).expand(2, -1)
    wanted = by_hand(model, ids, positions, torch.ones(11, 11).tril().bool())
    # Dropout is 0 only in evaluation mode, and the second pass of recomputing is made in either.
    found = model(ids).last_hidden_state
    torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-11)
    weights = list(model.parameters())
    mine, theirs = (
        torch.autograd.grad(one.square().sin().sum(), weights, allow_unused=True) for one in (found, wanted)
    )
    for (name, _), one, hand in zip(model.named_parameters(), mine, theirs, strict=True):
        assert (one is None) == (hand is None), name
        if one is not None and hand is not None:
            torch.testing.assert_close(one, hand, rtol=1e-8, atol=1e-9)
    tables = [one for (name, _), one in zip(model.named_parameters(), mine, strict=True) if "distance" in name]
    assert len(tables) == (1 if shared else 2)
    assert all(bool((one[:, :6] != 0).all()) and not one[:, 6:].any() for one in tables)  # nothing lies ahead


def test_slopes_of_alibi_as_a_table() -> None:
    """Press et al. 2022 (arXiv 2108.12409), section 3: -slope * distance, for all distances that there are."""
    model = biased([CAUSAL], shared=True)
    length, slopes = 11, 0.5 ** torch.arange(1, 5)
    model = Model(with_tables(model.architecture, [DistanceTable(before=length - 1, after=0, weights=0)]))
    model = model.double().eval()
    apart = torch.arange(length) - (length - 1)
    with torch.no_grad():
        model.distance_bias[0].weight.copy_(slopes[:, None] * apart)
    ids = torch.arange(length)[None]
    layer, one = model.architecture.layers[0], model.attention[0]
    x = model.embeddings(ids, None, ids, None)
    q, k, v = (to(one.norm(x)).unflatten(-1, (4, -1)).transpose(1, 2) for to in (one.query, one.key, one.value))
    scores = q @ k.mT / one.head_size**0.5 - slopes[:, None, None] * (ids.mT - ids).double()
    scores = scores.masked_fill(~torch.ones(length, length).tril().bool(), -torch.inf)
    wanted = x + one.output((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))
    found = x + one(one.norm(x), layer.attention.pattern, TokenInfo(), distance_bias=model.distance_bias[0]())
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    inner = model.feed_forward[0]
    wanted = model.final_norm(wanted + inner.down(torch.nn.functional.gelu(inner.up(inner.norm(wanted)))))
    torch.testing.assert_close(model(ids).last_hidden_state, wanted, rtol=1e-12, atol=1e-12)


def test_packed_documents_are_as_separate_ones() -> None:
    model = biased([CAUSAL, Window(4, 0)])
    ids = torch.arange(13)[None]
    segments = torch.tensor([[0] * 8 + [1] * 5])
    together = model(ids, segments=segments).last_hidden_state
    apart = [model(one).last_hidden_state for one in ids.split([8, 5], dim=1)]
    torch.testing.assert_close(together, torch.cat(apart, dim=1), rtol=1e-11, atol=1e-11)


def test_distances_are_those_of_position_ids() -> None:
    model = biased([CAUSAL])
    ids, places = torch.arange(6)[None], torch.tensor([[0, 3, 4, 9, 20, 21]])
    wanted = by_hand(model, ids, places, torch.ones(6, 6).tril().bool())
    torch.testing.assert_close(model(ids, position_ids=places).last_hidden_state, wanted, rtol=1e-11, atol=1e-11)


KEPT = {
    "everything": [CAUSAL, CAUSAL],
    "window": [Window(3, 0), CAUSAL],
    "dilated": [Window(2, 0, 3)],
    "strided": [Strided(3)],
    "blocks": [Fixed(4, 1), Fixed(4, 2)],
    "sink": [Sink(2) | Window(3, 0)],
    "heads": [PerHead((CAUSAL, 1), (Window(3, 0), 2), (Fixed(4, 1), 1))],
}


@pytest.mark.parametrize("name", KEPT)
@pytest.mark.parametrize("llama", [False, True], ids=["plain", "fewer key heads, rotary"])
def test_the_cache_knows_the_distances(name: str, llama: bool) -> None:
    """Rows of several lengths, padding on the left, in pieces of one token and of several."""
    model = biased(KEPT[name], llama=llama)
    ids = torch.randint(37, (3, 24), generator=torch.Generator().manual_seed(1))
    counts = [[7, 1, 1, 5, 1, 1, 6, 1], [3, 1, 1, 2, 1, 1, 6, 1], [1, 1, 1, 1, 1, 1, 1, 1]]
    cache = Cache(model.architecture)
    found: list[list[Tensor]] = [[], [], []]
    with torch.no_grad():
        for piece in zip(*counts, strict=True):
            new, taken = max(piece), [sum(one.shape[0] for one in row) for row in found]
            rows, mask = torch.zeros(3, new, dtype=torch.int64), torch.zeros(3, new, dtype=torch.int64)
            for i, count in enumerate(piece):
                rows[i, new - count :], mask[i, new - count :] = ids[i, taken[i] : taken[i] + count], 1
            out = model(rows, attention_mask=mask, cache=cache).last_hidden_state
            for i, count in enumerate(piece):
                found[i].append(out[i, new - count :])
        for i, states in enumerate(found):
            wanted = model(ids[i : i + 1, : sum(counts[i])]).last_hidden_state[0]
            torch.testing.assert_close(torch.cat(states), wanted, rtol=1e-10, atol=1e-10)


def test_generate_gives_the_tokens_that_the_whole_text_gives() -> None:
    model = biased([CAUSAL, Window(3, 0)], shared=True)
    ids = torch.arange(5)[None]
    made = generate(model, ids, max_new_tokens=9, temperature=0, ignore_end=True).ids[0]
    text = ids
    for token in made:
        wanted = int(model(text).logits[0, -1].argmax())
        assert token == wanted
        text = torch.cat([text, torch.tensor([[wanted]])], dim=1)


def test_positions_of_a_callers_own_with_a_cache_are_refused() -> None:
    model = biased([CAUSAL])
    ids = torch.arange(4)[None]
    with pytest.raises(InputError, match=r"^position_ids were given with a cache, and distance_bias reads"):
        model(ids, position_ids=ids, cache=Cache(model.architecture))
    alone = Stack(8, model.architecture.layers, length=20).double().eval()
    with pytest.raises(InputError, match=r"^positions were given with a cache"):
        alone(torch.zeros(1, 4, 8).double(), TokenInfo(positions=ids), cache=alone.cache())


def test_a_stack_is_what_the_model_runs() -> None:
    model = biased([CAUSAL, Window(3, 0)], shared=True)
    described = model.architecture
    alone = Stack(8, described.layers, length=64, final_norm=described.final_norm).double().eval()
    alone.load_state_dict({name: one for name, one in model.state_dict().items() if name in alone.state_dict()})
    out = model(torch.arange(9)[None], output_hidden_states=True)
    torch.testing.assert_close(alone(out.hidden_states[0])[-1], out.last_hidden_state, rtol=1e-12, atol=1e-12)
    cache = alone.cache()
    pieces = [alone(one, cache=cache)[-1] for one in out.hidden_states[0].split([4, 1, 4], dim=1)]
    torch.testing.assert_close(torch.cat(pieces, 1), out.last_hidden_state, rtol=1e-11, atol=1e-11)


def test_captured_weights_have_the_table_as_it_was() -> None:
    model = biased([CAUSAL, CAUSAL])
    ids = torch.arange(9)[None]
    plain = model(ids).last_hidden_state
    with capture(model) as seen:
        assert torch.equal(model(ids).last_hidden_state, plain)
    x, one = model.embeddings(ids, None, ids, None), model.attention[0]
    q, k = (to(one.norm(x)).unflatten(-1, (4, -1)).transpose(1, 2) for to in (one.query, one.key))
    bias = model.distance_bias[0].weight[:, (ids - ids.mT).clamp(-5, 2) + 5]
    scores = (q @ k.mT / 2 + bias).masked_fill(~torch.ones(9, 9).tril().bool(), -torch.inf)
    wanted = scores.softmax(-1).detach()
    with torch.no_grad():
        model.distance_bias[0].weight.zero_()
    torch.testing.assert_close(seen.rows(0, range(9)), wanted, rtol=1e-11, atol=1e-11)


def test_heads_are_switched_off() -> None:
    model, ids = biased([CAUSAL]), torch.arange(9)[None]
    off = model(ids, head_mask=torch.tensor([1.0, 0.0, 1.0, 1.0])).last_hidden_state
    with torch.no_grad():
        model.attention[0].output.weight[:, 4:8] = 0
    torch.testing.assert_close(off, model(ids).last_hidden_state, rtol=1e-12, atol=1e-12)


def test_saved_and_loaded(tmp_path: Path) -> None:
    model = biased([CAUSAL, CAUSAL], shared=True).float()
    gs.save(model, tmp_path / "model")
    again = gs.load(tmp_path / "model")
    assert again.architecture == model.architecture
    ids = torch.arange(9)[None]
    assert torch.equal(again.distance_bias[0].weight, model.distance_bias[0].weight)
    torch.testing.assert_close(again(ids).logits, model(ids).logits)
    llama = decoders.decoder(form="llama", vocabulary_size=9, length=8, layers=1, hidden_size=8, heads=2)
    other = Model(with_tables(llama, [DistanceTable(before=1, after=0, weights=0)]))
    with pytest.raises(InputError, match=r"layers\.0\.attention\.distance_bias\.before: 1 != "):
        gs.save(other, tmp_path / "other", family="llama")


def test_fresh_tables_are_narrow_and_models_without_have_none() -> None:
    plain = decoder([CAUSAL, CAUSAL]).architecture
    for initializer in ("normal", "gpt2", "sparse-transformer", "mimetic"):
        described = replace(plain, initializer=initializer, initializer_range=0.02)
        table = DistanceTable(before=2000, after=0, weights=0)
        fresh = Model(with_tables(described, [table, table])).distance_bias[0].weight
        assert fresh.std().item() == pytest.approx(0.02, rel=0.05)
        assert abs(fresh.mean().item()) < 0.002
    assert not [name for name in Model(plain).state_dict() if "distance" in name]


def test_the_summary_names_and_counts_tables() -> None:
    own, shared = (biased([CAUSAL, CAUSAL], shared=one).architecture for one in (False, True))
    plain = with_tables(own, [None, None])
    numbers = {
        name: summary(one, [16]).parameters for name, one in (("own", own), ("shared", shared), ("plain", plain))
    }
    assert numbers["own"] - numbers["plain"] == 2 * 4 * 8
    assert numbers["shared"] - numbers["plain"] == 4 * 8
    assert numbers["own"] == sum(one.numel() for one in Model(own).parameters())
    layers = summary(shared, [16]).root.children[1]
    (node,) = [one for one in layers.children if one.name == "distance bias"]
    assert (node.text, node.parameters) == ("4 heads × (5 before + 1 + 2 after)", 32)
    assert "distance bias: 1 weight set for 2 layers" in [one.text for one in layers.children]
    assert summary(own, [16]).root.children[1].parameters == layers.parameters + 32


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"distance_bias": 5}, "distance_bias is 5; it must be a DistanceTable, such as"),
        ({"distance_bias": DistanceTable(before=1, after=1, weights=1)}, r"layers.distance_bias.weights is \[1\]"),
        (
            {"distance_bias": DistanceTable(before=1, after=1, weights=0), "global_projections": True},
            "global_projections is True; it must be false with distance_bias",
        ),
    ],
)
def test_what_cannot_be_is_refused(fields: dict[str, Any], said: str) -> None:
    plain = replace(decoder([CAUSAL]).architecture, head=None)
    layer = plain.layers[0]
    with pytest.raises(InputError, match=said):
        replace(plain, layers=(replace(layer, attention=replace(layer.attention, **fields)),))


def test_tables_of_one_set_are_alike_and_sizes_are_counts() -> None:
    plain = decoder([CAUSAL, CAUSAL]).architecture
    one, other = (DistanceTable(before=n, after=0, weights=0) for n in (3, 4))
    with pytest.raises(
        InputError, match=r"layers\[1\].distance_bias shares weight set 0 but is shaped \(4, 4, 0, None\)"
    ):
        with_tables(plain, [one, other])
    with pytest.raises(InputError, match="before is -1"):
        DistanceTable(before=-1, after=0, weights=0)
    assert with_tables(plain, [None, one]).layers[0].attention.distance_bias is None


def test_descriptions_without_the_field_are_read() -> None:
    described = biased([CAUSAL]).architecture
    assert Architecture.from_dict(described.to_dict()) == described
    fields = described.to_dict()
    del fields["layers"][0]["attention"]["distance_bias"]
    assert Architecture.from_dict(fields) == with_tables(described, [None])
    fields["layers"][0]["attention"]["distance_bias"] = {"before": 1}
    with pytest.raises(InputError, match=r"layers\[0\].attention.distance_bias has unknown fields"):
        Architecture.from_dict(fields)


def test_traced_with_any_length() -> None:
    model = biased([CAUSAL, Window(3, 0)], shared=True)
    traced = torch.compile(model, backend="eager", fullgraph=True, dynamic=True)
    for length in (7, 12):
        ids = torch.arange(length)[None]
        torch.testing.assert_close(traced(ids).logits, model(ids).logits, rtol=1e-11, atol=1e-11)


def test_half_precision_reads_on_where_it_stopped() -> None:
    model = biased([CAUSAL, Window(3, 0)]).float()
    ids, cache = torch.arange(9)[None], Cache(model.architecture)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        pieces = [model(one, cache=cache).last_hidden_state for one in ids.split([4, 1, 1, 3], dim=1)]
        wanted = model(ids).last_hidden_state
    torch.testing.assert_close(torch.cat(pieces, dim=1), wanted, rtol=0.05, atol=0.1)


def test_lengthen_refuses_a_table() -> None:
    causal = replace(decoder([CAUSAL]).architecture, head=None)
    table = DistanceTable(before=1, after=1, weights=0)
    model = Model(with_tables(causal, [table], pattern=Full()))
    with pytest.raises(InputError, match=r"^the model's attention has a table by distance"):
        gs.lengthen(model, to=128)
