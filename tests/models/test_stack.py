"""A stack of layers runs alone: it is a model's own, learns from another stack, and reads on with a cache."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from generation_models import decoder
from torch import Tensor, nn
from torch.nn import functional as F

from gossamer.errors import InputError
from gossamer.layers import OtherStates, TokenInfo
from gossamer.models import Architecture, Attention, FeedForward, Layer, Norm, Rotary
from gossamer.models.stack import Stack
from gossamer.patterns import Full, Pattern, Prefix, Window

HIDDEN, HEADS, SIZE, SOURCE = 16, 4, 4, 7
REAL = torch.arange(SOURCE) < torch.tensor([[7], [4], [6]])
PATTERNS = [Full(causal=True), Window(3, 0)]


def layers(patterns: Sequence[Pattern], crosses: bool, *, shared: bool = False, **bricks: Any) -> tuple[Layer, ...]:
    """One layer a pattern, without dropout; `bricks` are those of the layer."""
    still: dict[str, Any] = {"dropout": 0.0, "residual_dropout": 0.0, "heads": HEADS, "head_size": SIZE}
    rotary = Rotary(base=50.0) if crosses else None
    return tuple(
        Layer(
            attention=Attention(pattern=one, weights=i, rotary=rotary, **still),
            cross_attention=Attention(pattern=Full(), weights=0 if shared else i, **still) if crosses else None,
            feed_forward=FeedForward(width=24, weights=i, residual_dropout=0.0),
            **({"norm": Norm(eps=1e-6), "norm_place": "pre"} | bricks),
        )
        for i, one in enumerate(patterns)
    )


def stack(described: Sequence[Layer], seed: int = 0) -> Stack:
    torch.manual_seed(seed)
    made = Stack(HIDDEN, described, length=40, final_norm=Norm(eps=1e-6)).double()
    with torch.no_grad():
        for weight in made.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
    return made


def reader() -> Stack:
    return stack(layers([Full(), Window(2, 2)], crosses=False), seed=1)


def writer(shared: bool = False, **bricks: Any) -> Stack:
    return stack(layers(PATTERNS, crosses=True, shared=shared, **bricks), seed=2)


def states(length: int, seed: int, rows: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, length, HIDDEN, dtype=torch.float64, generator=generator)


def source(read: Stack | None = None) -> OtherStates:
    tokens = TokenInfo(key_mask=REAL)
    inside = states(SOURCE, 3)
    return OtherStates(states=inside if read is None else read(inside, tokens)[-1], tokens=tokens)


def by_hand(made: Stack, x: Tensor, other: Tensor, positions: Tensor) -> Tensor:
    """The definition of pre-norm layers with rotary positions and masked scores, part by part."""
    ahead = positions[:, None] - positions[None]  # how far a key lies before its query
    for layer in made.layers:
        attention, inner = made.attention[layer.attention.weights], made.feed_forward[layer.feed_forward.weights]
        cross = made.cross_attention[layer.cross_attention.weights]  # type: ignore[index,union-attr]
        seen = ahead >= 0 if layer.attention.pattern == Full(causal=True) else (ahead >= 0) & (ahead <= 3)
        x = x + heads(attention, attention.norm(x), None, seen, positions)  # type: ignore[arg-type,operator]
        x = x + heads(cross, cross.norm(x), other, REAL[:, None, None], None)  # type: ignore[arg-type,operator]
        x = x + inner.down(F.gelu(inner.up(inner.norm(x))))  # type: ignore[operator]
    return made.final_norm(x)  # type: ignore[misc]


def heads(attention: Any, x: Tensor, other: Tensor | None, seen: Tensor, positions: Tensor | None) -> Tensor:
    q, k, v = (
        one.unflatten(-1, (HEADS, SIZE)).transpose(1, 2)
        for one in (attention.query(x), *(to(x if other is None else other) for to in (attention.key, attention.value)))
    )
    if positions is not None:
        angles = positions[:, None].float() * (1.0 / 50.0 ** (torch.arange(0, SIZE, 2, dtype=torch.float32) / SIZE))
        cosine, sine = angles.cos().double(), angles.sin().double()
        q, k = (
            torch.cat([a * cosine - b * sine, b * cosine + a * sine], -1) for a, b in (q.chunk(2, -1), k.chunk(2, -1))
        )
    scores = (q @ k.transpose(2, 3) / SIZE**0.5).masked_fill(~seen, -torch.inf)
    return attention.output((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))


def test_a_stack_is_its_definition_and_so_are_its_gradients() -> None:
    read, write = reader(), writer()
    x = states(9, 4).requires_grad_()
    other = source(read)
    found, wanted = write(x, other=other)[-1], by_hand(write, x, other.states, torch.arange(9))
    torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-11)
    weights = [x, *read.parameters(), *write.parameters()]
    mine, theirs = (torch.autograd.grad(one.square().sum(), weights, retain_graph=True) for one in (found, wanted))
    for one, hand in zip(mine, theirs, strict=True):
        assert one.abs().sum() > 0
        torch.testing.assert_close(one, hand, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_it_is_what_a_model_runs(norm: str) -> None:
    model = decoder([Full(causal=True), Window(5, 0)], norm=norm, llama=norm == "pre")
    described = model.architecture
    alone = Stack(described.hidden_size, described.layers, length=described.length, final_norm=described.final_norm)
    shared = alone.state_dict().keys()
    alone.double().eval().load_state_dict({k: v for k, v in model.state_dict().items() if k in shared})
    ids = torch.arange(24).view(2, 12)
    mask = torch.linspace(0, 1, 8).view(2, 4)
    out = model(ids, head_mask=mask, output_hidden_states=True)
    found = alone(out.hidden_states[0], head_mask=mask, keep_all=True)
    for ours, models in zip(found, out.hidden_states, strict=True):
        torch.testing.assert_close(ours, models, rtol=1e-12, atol=1e-12)
    assert len(alone(out.hidden_states[0], head_mask=mask)) == 1


def test_two_stacks_learn_together() -> None:
    """The second says at each place which of 5 tokens the first one read there, backwards: it must attend to it."""
    torch.manual_seed(5)
    read, write = reader().float(), writer().float()
    words, places, head = nn.Embedding(5, HIDDEN), nn.Embedding(SOURCE, HIDDEN), nn.Linear(HIDDEN, 5)
    weights = [one for part in (read, write, words, places, head) for one in part.parameters()]
    optimizer = torch.optim.Adam(weights, lr=5e-3)
    losses = []
    for _ in range(60):
        ids = torch.randint(0, 5, (16, SOURCE))
        at = places(torch.arange(SOURCE)).expand(16, -1, -1)
        other = OtherStates(states=read(words(ids) + at)[-1])
        loss = F.cross_entropy(head(write(at, other=other)[-1]).flatten(0, 1), ids.flip(1).flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert min(losses[:5]) > 1.4
    assert max(losses[-5:]) < 0.8


@pytest.mark.parametrize("shared", [False, True])
def test_a_cache_gives_what_reading_everything_gives(shared: bool) -> None:
    write, other = writer(shared).eval(), source(reader())
    x = states(11, 6)
    wanted = write(x, other=other)[-1]
    cache = write.cache()
    parts = [write(x[:, :4], other=other, cache=cache)[-1]]
    parts += [write(x[:, i : i + 1], cache=cache)[-1] for i in range(4, 9)]
    parts.append(write(x[:, 9:], cache=cache)[-1])
    torch.testing.assert_close(torch.cat(parts, dim=1), wanted, rtol=1e-11, atol=1e-11)
    assert not parts[0].isnan().any()


def test_greedy_tokens_with_and_without_a_cache_are_the_same() -> None:
    write, other = writer().eval(), source(reader())
    torch.manual_seed(7)
    table = torch.randn(9, HIDDEN, dtype=torch.float64)

    def best(read: Tensor, last: Tensor) -> Tensor:
        """The next token, which is another than the last: else these weights say the same for ever."""
        return (read[:, -1:] @ table.T).scatter(-1, last[..., None], -torch.inf).argmax(-1)

    cache, new = write.cache(), torch.zeros(3, 1, dtype=torch.long)
    said = with_cache = new
    for i in range(12):
        new = best(write(table[new], other=None if i else other, cache=cache)[-1], new)
        with_cache = torch.cat([with_cache, new], dim=1)
        said = torch.cat([said, best(write(table[said], other=other)[-1], said[:, -1:])], dim=1)
        if i == 5:  # rows end, and one goes on twice: as in beam search
            rows = [2, 0, 2]
            cache.select(rows)
            said, with_cache, new = said[rows], with_cache[rows], new[rows]
            other = OtherStates(states=other.states[rows], tokens=TokenInfo(key_mask=REAL[rows]))
    assert torch.equal(said, with_cache)
    assert said.unique().numel() > 3


def test_keys_of_the_other_states_are_made_once_for_each_weight_set() -> None:
    write, other = writer(shared=True).eval(), source()
    calls: list[int] = []
    write.cross_attention[0].key.register_forward_hook(lambda *_: calls.append(1))  # type: ignore[index,union-attr,operator]
    cache = write.cache()
    for i in range(4):
        write(states(1, i), other=None if i else other, cache=cache)
    assert calls == [1]


@pytest.mark.parametrize("recompute", ["nothing", "attention", "feed_forward", "both"])
def test_recomputed_parts_give_the_same_bits(recompute: Any) -> None:
    write, other = writer(), source()
    ran: list[str] = []
    for name in ("attention", "cross_attention", "feed_forward"):
        getattr(write, name)[0].register_forward_pre_hook(lambda *_, name=name: ran.append(name))
    gradients = []
    for described in (write.layers, tuple(replace(one, recompute=recompute) for one in write.layers)):
        write.layers = described
        loss = write(states(9, 4), other=other)[-1].square().sum()
        gradients.append(torch.autograd.grad(loss, list(write.parameters())))
    assert all(torch.equal(one, two) for one, two in zip(*gradients, strict=True))
    attention, feed_forward = recompute in ("attention", "both"), recompute in ("feed_forward", "both")
    assert ran.count("attention") == ran.count("cross_attention") == 2 + attention
    assert ran.count("feed_forward") == 2 + feed_forward


def test_documents_read_apart() -> None:
    write = writer().eval()
    x, other = states(9, 4, rows=1), states(SOURCE, 3, rows=1)
    ours, theirs = torch.tensor([[0] * 4 + [1] * 5]), torch.tensor([[0] * 3 + [1] * 4])
    packed = OtherStates(states=other, tokens=TokenInfo(segments=theirs))
    together = write(x, TokenInfo(segments=ours), other=packed)[-1]
    apart = [
        write(x[:, :4], other=OtherStates(states=other[:, :3])),
        write(x[:, 4:], other=OtherStates(states=other[:, 3:])),
    ]
    torch.testing.assert_close(together, torch.cat([one[-1] for one in apart], dim=1), rtol=1e-11, atol=1e-11)


def test_compiles_whole() -> None:
    write, other, x = writer().float(), source(), states(9, 4).float()
    given = OtherStates(states=other.states.float(), tokens=other.tokens)
    torch.compiler.reset()
    compiled = torch.compile(write, fullgraph=True, backend="aot_eager", dynamic=True)
    torch.testing.assert_close(compiled(x, other=given)[-1], write(x, other=given)[-1], rtol=1e-5, atol=1e-5)


def test_other_states_too_many_or_too_few_are_refused() -> None:
    write, read, x, other = writer(), reader(), states(3, 1), source()
    with pytest.raises(InputError, match="no states for it to attend to: give other="):
        write(x)
    with pytest.raises(InputError, match="no layer has cross-attention: leave them out"):
        read(x, other=other)
    cache = write.cache()
    write(x, other=other, cache=cache)
    with pytest.raises(InputError, match="the cache holds those of its first call: leave them out"):
        write(x, other=other, cache=cache)


def test_a_cache_takes_no_documents_and_no_dropout() -> None:
    write, x = writer(), states(3, 1)
    with pytest.raises(InputError, match="segments were given with a cache"):
        write(x, TokenInfo(segments=torch.zeros(3, 3, dtype=torch.long)), other=source(), cache=write.cache())
    crossing = replace(write.layers[0].cross_attention, dropout=0.1)  # type: ignore[type-var]
    dropping = stack((replace(write.layers[0], cross_attention=crossing),))
    with pytest.raises(InputError, match=r"call stack\.eval\(\)"):
        dropping(x, other=source(), cache=dropping.cache())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"pattern": Window(3, 3)}, "cross_attention.pattern is"),
        ({"pattern": Full(causal=True)}, "cross_attention.pattern is"),
        ({"rotary": Rotary()}, "cross_attention.rotary is"),
        ({"global_projections": True}, "cross_attention.global_projections is True; it must be False"),
    ],
    ids=["window", "causal", "rotary", "global projections"],
)
def test_what_cross_attention_cannot_have_is_refused(settings: dict[str, Any], said: str) -> None:
    good = layers(PATTERNS, crosses=True)[0]
    with pytest.raises(InputError, match=re.escape(said)):
        replace(good, cross_attention=replace(good.cross_attention, **settings))  # type: ignore[type-var]


def test_a_weight_set_of_two_shapes_is_refused() -> None:
    one, two = layers(PATTERNS, crosses=True, shared=True)
    wider = replace(two, cross_attention=replace(two.cross_attention, heads=2))  # type: ignore[type-var]
    with pytest.raises(InputError, match=r"layers\[1\]\.cross_attention shares weight set 0"):
        Stack(HIDDEN, (one, wider), length=40)
    skipped = replace(two, cross_attention=replace(two.cross_attention, weights=2))  # type: ignore[type-var]
    with pytest.raises(InputError, match=r"layers\.cross_attention\.weights is \[0, 2\]; it must be numbered"):
        Stack(HIDDEN, (one, skipped), length=40)


def test_a_model_of_one_text_refuses_cross_attention_and_a_file_can_say_it() -> None:
    architecture = decoder([Full(causal=True)]).architecture
    crossing = layers(PATTERNS, crosses=True)[0].cross_attention
    said = r"layers\[0\]\.cross_attention is .* it must be None: a model of one text has no other states to attend to"
    with pytest.raises(InputError, match=said):
        replace(architecture, layers=(replace(architecture.layers[0], cross_attention=crossing),))
    described = architecture.to_dict()
    described["layers"][0]["cross_attention"] = {"pattern": Full().to_dict(), "heads": 2, "head_size": 4, "weights": 0}
    with pytest.raises(InputError, match=said):
        Architecture.from_dict(described)
    described["layers"][0]["cross_attention"]["headz"] = 2
    with pytest.raises(InputError, match=r"layers\[0\]\.cross_attention has unknown fields \['headz'\]"):
        Architecture.from_dict(described)


def test_a_prefix_counts_in_the_cache_of_a_stack() -> None:
    made = stack(layers([Prefix(3)], crosses=False)).eval()
    with pytest.raises(InputError, match="prefix of 3 that see one another: give at least as many at once"):
        made(states(2, 1), cache=made.cache())
