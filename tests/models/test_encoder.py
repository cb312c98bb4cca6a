"""The encoder as a whole: padding, packing, sharing, global tokens, compilation."""

from dataclasses import replace

import pytest
import torch
from model_inputs import architecture, model, texts

from gossamer.models import Architecture, MaskedLM, Model, SentenceEmbedding
from gossamer.models.heads import pool
from gossamer.patterns import Window

BOTH = pytest.mark.parametrize("long", [False, True], ids=["short", "long"])


def flags(rows: int, length: int) -> torch.Tensor:
    marked = torch.zeros(rows, length, dtype=torch.bool)
    marked[0, 0] = marked[0, 9] = marked[-1, 4] = True
    return marked


@BOTH
def test_padding_changes_nothing(long: bool) -> None:
    net, ids = model(architecture(long=long)), texts(1, 13)
    alone = net(ids, global_mask=flags(1, 13) if long else None).last_hidden_state
    padded = torch.nn.functional.pad(ids, (0, 7))
    mask = torch.arange(20)[None] < 13
    marked = torch.nn.functional.pad(flags(1, 13), (0, 7), value=True) if long else None
    together = net(padded, attention_mask=mask.int(), global_mask=marked).last_hidden_state
    torch.testing.assert_close(together[:, :13], alone)


@BOTH
def test_packed_documents_read_as_separate_ones(long: bool) -> None:
    net, ids = model(architecture(long=long)), texts(1, 21)
    marked = flags(1, 21) if long else None
    segments = torch.repeat_interleave(torch.tensor([7, 3, 5]), torch.tensor([8, 12, 1]))[None]
    packed = net(ids, segments=segments, global_mask=marked).last_hidden_state
    for part in (slice(0, 8), slice(8, 20), slice(20, 21)):
        alone = net(ids[:, part], global_mask=None if marked is None else marked[:, part]).last_hidden_state
        torch.testing.assert_close(packed[:, part], alone)


def test_packed_texts_may_together_be_longer_than_the_model() -> None:
    net, ids = model(architecture()), texts(1, 60)
    segments = (torch.arange(60) >= 30).long()[None]
    packed = net(ids, segments=segments).last_hidden_state
    torch.testing.assert_close(packed[:, 30:], net(ids[:, 30:]).last_hidden_state)


def test_global_tokens_see_and_are_seen() -> None:
    net, ids = model(architecture(long=True, sets=(0,))), texts(1, 21)
    changed = ids.clone()
    changed[0, 20] = ids[0, 20] % 29 + 1

    def reached(**masks: torch.Tensor) -> list[int]:
        before, after = (net(one, **masks).last_hidden_state for one in (ids, changed))
        return (before != after).any(-1)[0].nonzero().flatten().tolist()

    assert reached() == [17, 18, 19, 20]
    marked = torch.zeros(1, 21, dtype=torch.bool)
    marked[0, 2] = True
    assert reached(global_mask=marked) == [2, 17, 18, 19, 20]
    marked[0, 20] = True
    assert reached(global_mask=marked) == list(range(21))
    unreal = torch.ones(1, 21, dtype=torch.bool)
    unreal[0, 2] = False
    assert 2 not in reached(global_mask=marked & ~unreal, attention_mask=unreal)


def test_no_global_token_is_no_global_mask() -> None:
    net, ids = model(architecture(long=True)), texts()
    nobody = torch.zeros(2, 21, dtype=torch.bool)
    assert torch.equal(net(ids, global_mask=nobody).last_hidden_state, net(ids).last_hidden_state)


def test_layers_share_weight_sets() -> None:
    shared = model(architecture(sets=(0, 0)))
    apart = model(architecture(sets=(0, 1)))
    assert len(shared.attention) == len(shared.feed_forward) == 1
    apart.attention[1], apart.feed_forward[1] = shared.attention[0], shared.feed_forward[0]
    apart.attention[0], apart.feed_forward[0] = shared.attention[0], shared.feed_forward[0]
    apart.embeddings = shared.embeddings
    assert torch.equal(shared(texts()).last_hidden_state, apart(texts()).last_hidden_state)


def test_dropout_works_in_training_only() -> None:
    net = model(architecture())
    assert torch.equal(net(texts()).last_hidden_state, net(texts()).last_hidden_state)
    net.train()
    assert not torch.equal(net(texts()).last_hidden_state, net(texts()).last_hidden_state)


def test_hidden_states_loss_and_embeddings_given() -> None:
    net = model(architecture(head=MaskedLM()))
    ids, labels = texts(), texts().masked_fill(torch.arange(21) % 3 > 0, -100)
    out = net(ids, labels=labels, output_hidden_states=True)
    assert len(out.hidden_states) == 3
    assert out.hidden_states[-1] is out.last_hidden_state
    chosen = out.logits.log_softmax(-1)[labels != -100].gather(1, labels[labels != -100][:, None])
    torch.testing.assert_close(out.loss, -chosen.mean())
    given = net(inputs_embeds=net.embeddings.word(ids))
    torch.testing.assert_close(given.logits, out.logits)
    assert net(ids).hidden_states is None


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
def test_pooling_reads_real_tokens_wherever_the_padding_is(pooling: str) -> None:
    head = SentenceEmbedding(pooling=pooling)  # type: ignore[arg-type]
    states = torch.randn(4, 6, 8, generator=torch.Generator().manual_seed(0))
    real = [[2, 3, 4, 5], [0, 1, 2], [1, 4], []]
    mask = torch.tensor([[column in row for column in range(6)] for row in real])
    states[~mask] = torch.tensor(float("nan"))
    rule = {"mean": lambda x: x.mean(0), "cls": lambda x: x[0], "max": lambda x: x.amax(0)}[pooling]
    expected = torch.stack([rule(one[row]) if row else torch.zeros(8) for one, row in zip(states, real, strict=True)])
    torch.testing.assert_close(pool(head, states, mask), expected)
    assert torch.equal(pool(head, states[:, 2:][:1], mask[:, 2:][:1]), pool(head, states[:, 2:][:1], None))


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
def test_pooling_reads_real_tokens(pooling: str) -> None:
    net = model(architecture(head=SentenceEmbedding(pooling=pooling)))  # type: ignore[arg-type]
    ids, mask = texts(), torch.ones(2, 21, dtype=torch.bool)
    mask[1, 5:] = False
    out = net(ids, attention_mask=mask)
    rule = {"mean": lambda x: x.mean(0), "cls": lambda x: x[0], "max": lambda x: x.amax(0)}[pooling]
    for row, kept in enumerate((21, 5)):
        torch.testing.assert_close(out.pooled[row], rule(out.last_hidden_state[row, :kept]))
    nobody = net(ids, attention_mask=mask & torch.tensor([[True], [False]])).pooled[1]
    assert nobody.abs().sum() == 0
    assert net(ids, segments=torch.zeros_like(ids)).pooled is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@BOTH
def test_lower_precision_stays_close(dtype: torch.dtype, long: bool) -> None:
    description, marked = architecture(long=long), flags(2, 21) if long else None
    exact = model(description)(texts(), global_mask=marked).last_hidden_state
    rough = model(description).to(dtype)(texts(), global_mask=marked).last_hidden_state
    assert rough.dtype == dtype
    assert (rough - exact).norm() / exact.norm() < (1e-5 if dtype == torch.float32 else 5e-2)


def runs(net: Model, long: bool) -> dict[str, torch.Tensor]:
    inputs = {"input_ids": texts(), "attention_mask": torch.ones(2, 21, dtype=torch.bool)}
    inputs["attention_mask"][1, 15:] = False
    return inputs | ({"global_mask": flags(2, 21)} if long else {})


@pytest.mark.parametrize("long", [pytest.param(False, marks=pytest.mark.slow), True], ids=["short", "long"])
def test_compiles_whole(long: bool) -> None:
    net = model(architecture(long=long, head=MaskedLM()), torch.float32)
    inputs = runs(net, long)
    torch.compiler.reset()
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager", dynamic=True)
    real = inputs["attention_mask"]
    torch.testing.assert_close(compiled(**inputs).logits[real], net(**inputs).logits[real], rtol=1e-4, atol=1e-5)


@BOTH
def test_exports_with_a_dynamic_length(long: bool) -> None:
    net = model(architecture(long=long, head=MaskedLM()), torch.float32)
    inputs = runs(net, long)
    length = torch.export.Dim("length", min=2, max=40)
    with torch.no_grad():
        program = torch.export.export(net, (), inputs, dynamic_shapes={name: {1: length} for name in inputs}).module()
    longer = {name: torch.nn.functional.pad(one, (0, 16), value=1) for name, one in inputs.items()}
    longer["global_mask"] = longer["global_mask"] & (torch.arange(37) % 5 == 0) if long else torch.zeros(0)
    longer = {name: longer[name] for name in inputs}
    real = longer["attention_mask"]
    torch.testing.assert_close(program(**longer).logits[real], net(**longer).logits[real], rtol=1e-4, atol=1e-5)


def test_pattern_is_a_layers_own_even_with_shared_weights() -> None:
    one = architecture(sets=(0, 0))
    layers = (one.layers[0], replace(one.layers[1], attention=replace(one.layers[1].attention, pattern=Window(1, 1))))
    mixed: Architecture = replace(one, layers=layers)
    full, narrow = model(one)(texts()), model(mixed)(texts())
    assert not torch.equal(full.last_hidden_state, narrow.last_hidden_state)
