"""The decoder: causality, the next token's loss in tiles, packing, recomputation, positions, initial weights."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from gossamer.errors import InputError
from gossamer.models import Architecture, CausalLM, Model, Positions, count_labels
from gossamer.models import next_token as tiles
from gossamer.models.decoders import decoder, sparse_transformer
from gossamer.models.next_token import next_token_loss, next_tokens
from gossamer.patterns import Chunks, Fixed, Full, PerHead, Prefix, Sink, Strided, Window

PATTERNS = {
    "full": Full(causal=True),
    "window": Window(5, 0),
    "dilated": Window(4, 0, dilation=3),
    "strided": Strided(4),
    "fixed": Fixed(4, 1),
    "sink": Window(4, 0) | Sink(2),
    "chunks": Chunks(7),
    "heads": PerHead((Window(3, 0), 1), (Strided(5, part="column"), 1)),
}


def small(**changes: Any) -> Architecture:
    return decoder(**{"vocabulary_size": 23, "length": 48, "layers": 3, "hidden_size": 16, "heads": 2, **changes})


def made(architecture: Architecture, seed: int = 0) -> Model:
    torch.manual_seed(seed)
    model = Model(architecture).double()
    with torch.no_grad():
        for one in model.parameters():
            one.add_(torch.randn_like(one) * 0.05)
    return model.eval()


def ids(rows: int = 2, length: int = 48, seed: int = 1) -> torch.Tensor:
    return torch.randint(0, 23, (rows, length), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", PATTERNS)
def test_no_state_depends_on_later_tokens(name: str) -> None:
    model, given = made(small(patterns=PATTERNS[name])), ids(1)
    changed = given.clone()
    changed[0, 30:] = (given[0, 30:] + 1) % 23
    before, after = (model(one).logits for one in (given, changed))
    assert torch.equal(before[:, :30], after[:, :30])
    assert not torch.equal(before[:, 30], after[:, 30])


@pytest.mark.parametrize("tied", [True, False])
def test_the_loss_is_that_of_all_logits(tied: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "TILE_SCORES", 60)
    monkeypatch.setattr(tiles, "TILE_COLUMNS", 7)
    model, given = made(small(tied=tied)), ids()
    labels = given.clone()
    labels[0, 5:9] = -100
    found = model(given, labels=labels)
    assert found.logits is None
    mine = torch.autograd.grad(found.loss, list(model.parameters()))
    logits = model(given).logits
    wanted = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
    theirs = torch.autograd.grad(wanted, list(model.parameters()))
    torch.testing.assert_close(found.loss, wanted, rtol=1e-12, atol=0)
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-14)
    assert count_labels(model.architecture, labels) == int((labels[:, 1:] != -100).sum())


@settings(max_examples=30)
@given(
    rows=st.integers(1, 40), words=st.integers(1, 50), tile=st.integers(1, 300), columns=st.integers(1, 60),
    ignored=st.integers(0, 40), seed=st.integers(0, 1000),
)  # fmt: skip
def test_tiles_of_any_size(rows: int, words: int, tile: int, columns: int, ignored: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(1, rows, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    table = (3 * torch.randn(words, 6, generator=generator, dtype=torch.float64)).requires_grad_()
    targets = torch.randint(0, words, (1, rows), generator=generator)
    targets[0, : min(ignored, rows - 1)] = -100
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "TILE_SCORES", tile)
        patch.setattr(tiles, "TILE_COLUMNS", columns)
        found = next_token_loss(hidden, table, targets)
        mine = torch.autograd.grad(found, (hidden, table))
    wanted = F.cross_entropy((hidden @ table.T).flatten(0, 1), targets.flatten())
    theirs = torch.autograd.grad(wanted, (hidden, table))
    torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-12)
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_nothing_to_learn_is_nan_and_no_full_logits_are_made() -> None:
    hidden, table = torch.randn(1, 5, 4), torch.randn(9, 4)
    assert next_token_loss(hidden, table, torch.full((1, 5), -100)).isnan()
    assert next_tokens(ids(), None)[:, -1].eq(-100).all()


def test_the_loss_under_autocast_is_close_and_keeps_the_weights_type() -> None:
    model, given = made(small()).float(), ids()
    wanted = model(given, labels=given).loss
    with torch.autocast("cpu", torch.bfloat16):
        found = model(given, labels=given).loss
    assert abs(found - wanted) < 0.02 * wanted
    grads = torch.autograd.grad(found, list(model.parameters()))
    assert {one.dtype for one in grads} == {torch.float32}


@pytest.mark.parametrize("name", PATTERNS)
def test_packed_documents_read_and_learn_as_separate_ones(name: str) -> None:
    model, given = made(small(patterns=PATTERNS[name])), ids(1)
    segments = (torch.arange(48) >= 19).long()[None]
    packed = model(given, segments=segments).logits
    parts = [model(given[:, part]).logits for part in (slice(0, 19), slice(19, 48))]
    torch.testing.assert_close(packed, torch.cat(parts, dim=1), rtol=1e-9, atol=1e-11)
    loss = model(given, segments=segments, labels=given).loss
    apart = [model(given[:, part], labels=given[:, part]).loss for part in (slice(0, 19), slice(19, 48))]
    torch.testing.assert_close(loss, (apart[0] * 18 + apart[1] * 28) / 46, rtol=1e-9, atol=0)
    assert count_labels(model.architecture, given, segments) == 46


def test_a_prefix_is_given_and_never_told() -> None:
    """Its tokens see one another, later ones look back; nothing in it is learnt, in each packed document."""
    model, given = made(small(patterns=[Prefix(6), Window(9, 0)])), ids(1)
    assert model.architecture.prefix == 6
    before = model(given).logits
    for at in (4, 30):
        changed = given.clone()
        changed[0, at] = (given[0, at] + 1) % 23
        moved = (model(changed).logits != before).any(-1)[0]
        assert bool(moved[at])
        assert bool(moved[:at].any()) == (at < 6)
        assert not moved[:at].any() or bool(moved[0])
    wanted = F.cross_entropy(before[0, 5:-1], given[0, 6:])
    torch.testing.assert_close(model(given, labels=given).loss, wanted, rtol=1e-12, atol=0)
    assert count_labels(model.architecture, given) == 42
    segments = (torch.arange(48) >= 19).long()[None] + (torch.arange(48) >= 44)
    parts = given.split([19, 25, 4], dim=1)
    packed = model(given, segments=segments)
    torch.testing.assert_close(packed.logits, torch.cat([model(one).logits for one in parts], 1), rtol=1e-9, atol=1e-11)
    apart = [model(one, labels=one).loss for one in parts[:2]]  # the third is shorter than the prefix
    loss = model(given, segments=segments, labels=given).loss
    torch.testing.assert_close(loss, (apart[0] * 13 + apart[1] * 19) / 32, rtol=1e-9, atol=0)
    assert count_labels(model.architecture, given, segments) == 32


@pytest.mark.parametrize("part", ["attention", "feed_forward", "both"])
@pytest.mark.parametrize("norm", ["pre", "post"])
def test_recomputing_changes_nothing_and_keeps_less(part: Any, norm: Any) -> None:
    stored = small(dropout=0.1, hidden_size=32, patterns=Window(9, 0))
    stored = replace(stored, layers=tuple(replace(one, norm_place=norm) for one in stored.layers))
    found, saved = {}, {}
    for name in ("nothing", part):
        model = made(replace(stored, layers=tuple(replace(one, recompute=name) for one in stored.layers))).float()
        kept: list[int] = []
        torch.manual_seed(3)
        with torch.autograd.graph.saved_tensors_hooks(lambda x, kept=kept: kept.append(x.numel()) or x, lambda x: x):
            loss = model.train()(ids(), labels=ids()).loss
        saved[name] = sum(kept)
        found[name] = (loss, *torch.autograd.grad(loss, list(model.parameters())))
    assert all(torch.equal(one, other) for one, other in zip(found["nothing"], found[part], strict=True))
    assert saved[part] < saved["nothing"]


def test_positions_by_axes_are_sums_of_rows() -> None:
    model = made(small(length=24, axes=(2, 4, 3)))
    table = model.embeddings.position
    assert [one.num_embeddings for one in table] == [2, 4, 3]
    wanted = [table[0].weight[p // 12] + table[1].weight[p // 3 % 4] + table[2].weight[p % 3] for p in range(24)]
    torch.testing.assert_close(table(torch.arange(24)[None])[0], torch.stack(wanted))
    assert model(ids(1, 24)).logits.shape == (1, 24, 23)
    assert model(ids(1, 7)).logits.shape == (1, 7, 23)


def test_the_architecture_survives_json() -> None:
    for one in (small(length=24, axes=(2, 4, 3), recompute="both"), sparse_transformer(
        vocabulary_size=9, length=64, layers=4, hidden_size=32, heads=4, stride=8, kind="fixed", summary=2,
        integrated="separate",
    )):  # fmt: skip
        assert Architecture.from_dict(one.to_dict()) == one


def test_initial_weights_of_gpt2() -> None:
    torch.manual_seed(0)
    model = Model(small(hidden_size=256, layers=8))
    assert model.attention[3].query.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert model.attention[3].output.weight.std().item() == pytest.approx(0.02 / 4, rel=0.02)
    assert model.feed_forward[7].down.weight.std().item() == pytest.approx(0.02 / 4, rel=0.02)
    assert not model.feed_forward[7].down.bias.any()


def test_initial_weights_of_the_sparse_transformer() -> None:
    torch.manual_seed(0)
    architecture = sparse_transformer(vocabulary_size=256, length=1024, layers=8, hidden_size=256, heads=4, stride=32)
    model = Model(architecture)
    assert architecture.embeddings.positions.axes == (32, 32)
    for weight, width in (
        (model.attention[0].query.weight, 0.125 / 16),
        (model.attention[0].output.weight, 0.125 / 16 / 4),
        (model.feed_forward[0].up.weight, 0.125 / 16),
        (model.feed_forward[0].down.weight, 0.125 / 32 / 4),
        (model.embeddings.word.weight, 0.125 / 16),
        (model.embeddings.position[0].weight, 0.125 / math.sqrt(512)),
    ):
        assert weight.std().item() == pytest.approx(width, rel=0.03)
    assert not model.head.decoder.weight.any()
    given = torch.randint(0, 256, (1, 64))
    assert model(given, labels=given).loss.item() == pytest.approx(math.log(256), rel=1e-5)


def share_of_near_tokens(initializer: Any, distance: int = 4) -> float:
    """Of the first layer's attention, all heads, in a causal model with fresh weights; 200 tokens."""
    torch.manual_seed(0)
    model = Model(small(hidden_size=128, heads=4, length=200, initializer=initializer))
    attention, places = model.attention[0], torch.arange(200)
    states = attention.norm(model.embeddings(ids(1, 200), None, places[None], None))
    q, k = (one(states).unflatten(-1, (4, 32)).transpose(1, 2) for one in (attention.query, attention.key))
    away = places[:, None] - places
    weights = (q @ k.mT / math.sqrt(32)).masked_fill(away < 0, -math.inf).softmax(-1)
    return (weights * (away <= distance)).sum(-1)[..., 20:].mean().item()


def test_mimetic_attention_begins_near_the_token_that_asks() -> None:
    assert share_of_near_tokens("gpt2") < 0.08
    assert share_of_near_tokens("mimetic") > 0.5


def test_initial_weights_that_are_mimetic() -> None:
    torch.manual_seed(0)
    model = Model(small(hidden_size=256, heads=4, layers=8, initializer="mimetic"))
    for one in model.attention:
        assert torch.equal(one.query.weight, one.key.weight)
        assert one.query.weight.data_ptr() != one.key.weight.data_ptr()
        assert one.query.weight.square().mean().item() == pytest.approx(12 / 8 / 256, rel=0.03)
    assert model.embeddings.position.weight.norm(dim=1).tolist() == pytest.approx([8**0.5] * 48)
    assert model.feed_forward[7].down.weight.std().item() == pytest.approx(1 / 32 / 4, rel=0.02)


def test_mimetic_positions_of_several_axes_do_not_look_alike() -> None:
    model = Model(small(length=24, axes=(2, 4, 3), initializer="mimetic"))
    rows = model.embeddings.position(torch.arange(24)[None])[0]
    assert (torch.cdist(rows, rows) + 9 * torch.eye(24)).min() > 0.1


@pytest.mark.parametrize("initializer", ["normal", "gpt2", "sparse-transformer", "mimetic"])
def test_the_row_of_padding_begins_at_zero(initializer: Any) -> None:
    stored = small(initializer=initializer)
    stored = replace(stored, embeddings=replace(stored.embeddings, padding_id=5))
    word = Model(stored).embeddings.word.weight
    assert word.abs().sum(1).eq(0).nonzero().tolist() == [[5]]


CELLS = "fixed 8, 2 in summary"
PUT_TOGETHER = {
    ("strided", "merged"): ("strided 8",) * 2,
    ("strided", "interleaved"): ("strided 8 (local)", "strided 8 (column)"),
    ("strided", "separate"): ("per head: 2 x strided 8 (local), 2 x strided 8 (column)",) * 2,
    ("fixed", "merged"): (
        f"per head: 1 x {CELLS}, 1 x {CELLS} 2 before the end, 1 x {CELLS} 4 before the end, "
        f"1 x {CELLS} 6 before the end",
    ) * 2,
    ("fixed", "interleaved"): (
        f"{CELLS} (block)",
        f"per head: 1 x {CELLS} (summary), 1 x {CELLS} 2 before the end (summary), "
        f"1 x {CELLS} 4 before the end (summary), 1 x {CELLS} 6 before the end (summary)",
    ),
    ("fixed", "separate"): (
        f"per head: 2 x {CELLS} (block), 1 x {CELLS} (summary), 1 x {CELLS} 2 before the end (summary)",
    ) * 2,
}  # fmt: skip


@pytest.mark.parametrize("integrated", ["merged", "interleaved", "separate"])
@pytest.mark.parametrize("kind", ["strided", "fixed"])
def test_every_way_of_putting_the_parts_together(kind: Any, integrated: Any) -> None:
    made_of = sparse_transformer(
        vocabulary_size=23, length=48, layers=2, hidden_size=32, heads=4, stride=8, kind=kind, summary=2,
        integrated=integrated,
    )  # fmt: skip
    patterns = [str(one.attention.pattern) for one in made_of.layers]
    assert (patterns[0] == patterns[1]) == (integrated != "interleaved")
    assert (patterns[0], patterns[1]) == PUT_TOGETHER[kind, integrated]
    for i, layer in enumerate(made_of.layers):
        assert (layer.attention.heads, layer.attention.head_size, layer.attention.weights) == (4, 8, i)
        assert (layer.feed_forward.width, layer.norm_place, layer.recompute) == (128, "pre", "both")
    assert made_of.embeddings.positions.axes == (6, 8)
    model = made(made_of)
    assert model(ids(), labels=ids()).loss.isfinite()


def test_summary_cells_start_over_where_a_block_has_room_for_no_more() -> None:
    options = {"vocabulary_size": 23, "length": 48, "layers": 1, "hidden_size": 32, "heads": 4}
    found = sparse_transformer(**options, stride=8, kind="fixed", summary=3)
    assert str(found.layers[0].attention.pattern) == (
        "per head: 1 x fixed 8, 3 in summary, 1 x fixed 8, 3 in summary 3 before the end, "
        "1 x fixed 8, 3 in summary, 1 x fixed 8, 3 in summary 3 before the end"
    )
    odd = sparse_transformer(**{**options, "heads": 5, "hidden_size": 40}, stride=8, integrated="separate")
    assert str(odd.layers[0].attention.pattern) == "per head: 2 x strided 8 (local), 3 x strided 8 (column)"


def test_half_the_size() -> None:
    made_of = sparse_transformer(
        vocabulary_size=23, length=48, layers=2, hidden_size=32, heads=4, stride=8, half_size=True
    )
    for layer in made_of.layers:
        assert (layer.attention.heads, layer.attention.head_size, layer.feed_forward.width) == (4, 4, 64)
    model = made(made_of)
    assert model.attention[0].query.weight.shape == (16, 32)
    assert model.attention[0].output.weight.shape == (32, 16)
    assert model.feed_forward[1].up.weight.shape == (64, 32)
    assert model(ids(), labels=ids()).loss.isfinite()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"patterns": Window(3, 3)}, "with the head 'causal-lm' it must be causal"),
        ({"patterns": []}, "patterns is []"),
        ({"patterns": Prefix(48)}, "prefix is 48; it must be shorter than the model, 48 tokens"),
        ({"patterns": Prefix(4) | Window(2, 2)}, "with the head 'causal-lm' it must be causal"),
        ({"heads": 3}, "heads is 3; it must be a divisor of 16"),
        ({"heads": 0}, "heads is 0; it must be a whole number from 1"),
        ({"heads": 2.0}, "heads is 2.0; it must be a whole number from 1"),
        ({"layers": "2"}, "layers is '2'; it must be a whole number from 1 to 1024"),
        ({"layers": 0}, "layers is 0; it must be a whole number from 1 to 1024"),
        ({"hidden_size": None}, "hidden_size is None; it must be a whole number"),
        ({"vocabulary_size": True}, "vocabulary_size is True; it must be a whole number"),
        ({"axes": (2, 3)}, "axes is (2, 3); it must be sizes whose product is 48"),
        ({"recompute": "all"}, "recompute is 'all'; it must be one of 'nothing', 'attention'"),
        ({"initializer": "xavier"}, "initializer is 'xavier'"),
    ],
)
def test_impossible_decoders_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as refused:
        small(**change)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "fixed", "summary": 0}, "summary is 0; it must be a whole number from 1"),
        ({"summary": "2"}, "summary is '2'; it must be a whole number from 1"),
        ({"stride": 0}, "stride is 0; it must be a whole number from 1"),
        ({"heads": 0}, "heads is 0; it must be a whole number from 1"),
        ({"heads": 3}, "heads is 3; it must be a divisor of the hidden_size, 16"),
        ({"heads": 1, "integrated": "separate"}, "heads is 1; it must be 2 or more for separate heads"),
        ({"layers": "2"}, "layers is '2'; it must be a whole number from 1 to 1024"),
        ({"length": 9.5}, "length is 9.5; it must be a whole number from 1"),
        ({"kind": "dense"}, "kind is 'dense'; it must be one of strided, fixed"),
    ],
)
def test_impossible_sparse_transformers_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as refused:
        sparse_transformer(
            **{"vocabulary_size": 23, "length": 48, "layers": 3, "hidden_size": 16, "heads": 2, "stride": 8, **change}
        )
    assert message in str(refused.value)


def test_the_loss_has_no_second_derivative() -> None:
    hidden, table = torch.randn(1, 5, 4, requires_grad=True), torch.randn(9, 4)
    loss = next_token_loss(hidden, table, torch.randint(0, 9, (1, 5)))
    (grad,) = torch.autograd.grad(loss.square(), hidden, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


def test_impossible_uses_are_refused() -> None:
    model, given = made(small()), ids()
    for call, message in (
        (lambda: model(given, labels=given[:, :5]), "labels is int64 shaped [2, 5]"),
        (lambda: model(given.clone().fill_(23)), "input_ids holds 23"),
        (lambda: model(ids(1, 49)), "49 tokens long, the model reads 48"),
        (lambda: model(given, decoder_input_ids=given), "give input_ids"),
        (lambda: Positions(length=6, axes=(2, 3)), "it must be () with learned positions"),
        (lambda: Model(replace(small(), head=None)).scores(torch.zeros(1, 16)), "the model's head is missing"),
    ):
        with pytest.raises(InputError) as refused:
            call()
        assert message in str(refused.value)


def test_scores_are_the_logits_of_states() -> None:
    model, given = made(small(tied=False)), ids()
    out = model(given, output_hidden_states=True)
    torch.testing.assert_close(model.scores(out.last_hidden_state[:, -1]), out.logits[:, -1], rtol=1e-12, atol=1e-14)
    assert len(out.hidden_states) == 4
    assert torch.equal(out.hidden_states[-1], out.last_hidden_state)
    assert isinstance(model.architecture.head, CausalLM)
