"""Models of two texts against `transformers`: outputs, loss, gradients, greedy continuations, files both ways."""

import tempfile
from dataclasses import replace
from typing import Any

import pytest
import torch
import transformers
from drawn_cases import TWO_TEXTS
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import distance
from torch import Tensor
from transformers import AutoConfig, AutoModelForSeq2SeqLM, PreTrainedConfig, PreTrainedModel

import gossamer as gs
from gossamer.models import Model

BOUNDS = {"bart": 1e-9, "led": 1e-5, "marian": 1e-6, "t5": 1e-5}
"""transformers' T5 takes its softmax and its norms in float32, LED its encoder's softmax, Marian its sinusoids."""
FAMILY = pytest.mark.parametrize("family", TWO_TEXTS)
FEW = settings(max_examples=max(3, settings.default.max_examples // 4))
IGNORED = -100


def bart(draw: st.DrawFn, longest: int) -> dict[str, Any]:
    heads, others = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    return {
        "max_position_embeddings": longest + draw(st.integers(0, 3)),
        "d_model": heads * others * draw(st.sampled_from([2, 4])),
        "encoder_layers": draw(st.integers(1, 3)),
        "decoder_layers": draw(st.integers(1, 3)),
        "encoder_attention_heads": heads,
        "decoder_attention_heads": others,
        "encoder_ffn_dim": draw(st.integers(1, 24)),
        "decoder_ffn_dim": draw(st.integers(1, 24)),
        "activation_function": draw(st.sampled_from(["gelu", "relu", "silu"])),
        "scale_embedding": draw(st.booleans()),
        "pad_token_id": draw(st.integers(0, 3)),
        "forced_eos_token_id": None,
    }


def led(draw: st.DrawFn, longest: int) -> dict[str, Any]:
    fields = bart(draw, longest)
    rows = fields.pop("max_position_embeddings")
    del fields["scale_embedding"], fields["forced_eos_token_id"]
    layers = fields["encoder_layers"]
    # transformers pads to the largest window and needs every other one to divide it; 2 it cannot compute.
    windows = draw(st.lists(st.sampled_from([4, 8, 16]), min_size=layers, max_size=layers))
    return {
        **fields, "max_encoder_position_embeddings": -(-rows // 16) * 16, "max_decoder_position_embeddings": rows,
        "attention_window": windows,
    }  # fmt: skip


def marian(draw: st.DrawFn, longest: int) -> dict[str, Any]:
    shared = draw(st.booleans())
    own = {} if shared else {"decoder_vocab_size": draw(st.integers(8, 60))}
    return bart(draw, longest) | {"share_encoder_decoder_embeddings": shared, **own}


def t5(draw: st.DrawFn, longest: int) -> dict[str, Any]:
    layers, farthest = draw(st.integers(1, 3)), draw(st.integers(9, 40))
    return {
        "d_model": draw(st.integers(2, 20)),
        "d_kv": draw(st.integers(1, 8)),
        "d_ff": draw(st.integers(1, 24)),
        "num_layers": layers,
        # transformers' own cache is made for as many layers as the encoder has, and breaks with more.
        "num_decoder_layers": draw(st.integers(1, layers)),
        "num_heads": draw(st.integers(1, 4)),
        "relative_attention_num_buckets": draw(st.sampled_from([4, 8, 16, 32])),
        "relative_attention_max_distance": farthest + 8,
        "feed_forward_proj": draw(st.sampled_from(["relu", "gated-gelu", "gated-silu", "gelu"])),
        "layer_norm_epsilon": draw(st.sampled_from([1e-6, 1e-3])),
        "tie_word_embeddings": draw(st.booleans()),
        "pad_token_id": 0,
    }


@st.composite
def models(draw: st.DrawFn, family: str, longest: int) -> PreTrainedModel:
    """A model with weights at which nothing is trivial."""
    fields = {"bart": bart, "led": led, "marian": marian, "t5": t5}[family](draw, longest)
    words = draw(st.integers(8, 60))
    start = draw(st.integers(0, 7)) if family != "t5" else 0
    config = AutoConfig.for_model(family, vocab_size=words, decoder_start_token_id=start, **fields)
    if family != "led":
        config._attn_implementation = "eager"
    torch.manual_seed(draw(st.integers(0, 2**31)))
    # In float64 the gradients of transformers' LED are NaN where a text is shorter than its window.
    dtype = torch.float32 if family == "led" else torch.float64
    model = AutoModelForSeq2SeqLM.from_config(config).to(dtype).eval()
    with torch.no_grad():
        sinusoids = [one for name, one in model.named_parameters() if family == "marian" and "positions" in name]
        for weight in (*model.parameters(), *(one for one in model.buffers() if one.is_floating_point())):
            if not any(weight is one for one in sinusoids):
                weight.add_(torch.randn_like(weight) * 0.2)
    return model


@st.composite
def batches(draw: st.DrawFn, config: PreTrainedConfig, read: int, written: int) -> dict[str, Tensor]:
    """Texts of drawn lengths, padded anywhere, and labels of which some are ignored, never all."""
    words = config.vocab_size
    others = getattr(config, "decoder_vocab_size", None) or words
    others = words if getattr(config, "share_encoder_decoder_embeddings", True) else others
    rows = draw(st.integers(1, 3))
    random = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    ids = torch.randint(words, (rows, read), generator=random)
    mask = (torch.rand(rows, read, generator=random) < draw(st.sampled_from([0.5, 1.0]))).long()
    mask[:, 0] = 1
    labels = torch.randint(others, (rows, written), generator=random)
    labels[torch.rand(rows, written, generator=random) < 0.3] = IGNORED
    labels[:, 0] = 1
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def loaded(theirs: PreTrainedModel) -> Model:
    with tempfile.TemporaryDirectory() as directory:
        theirs.save_pretrained(directory)
        return gs.load(directory)


@FAMILY
@FEW
@given(data=st.data(), read=st.integers(1, 40), written=st.integers(1, 30))
def test_outputs_loss_and_gradients(family: str, data: st.DataObject, read: int, written: int) -> None:
    theirs = data.draw(models(family, max(read, written)))
    ours = loaded(theirs)
    batch = data.draw(batches(theirs.config, read, written))
    given_ids = {name: one for name, one in batch.items() if name != "labels"}
    expected, found = theirs(**batch), ours(**batch)
    assert distance(found.loss, expected.loss) <= 1e-5  # in float32 with them
    shifted = theirs._shift_right(batch["labels"]) if family == "t5" else None
    if family != "t5":
        start, padding = theirs.config.decoder_start_token_id, theirs.config.pad_token_id
        shifted = torch.cat([torch.full_like(batch["labels"][:, :1], start), batch["labels"][:, :-1]], 1)
        shifted = shifted.masked_fill(shifted == IGNORED, padding)
    again = ours(**given_ids, decoder_input_ids=shifted, output_hidden_states=True)
    mirror = theirs(**given_ids, decoder_input_ids=shifted, output_hidden_states=True)
    bound = BOUNDS[family]
    assert distance(again.logits, expected.logits) <= bound
    assert distance(again.encoder_last_hidden_state, expected.encoder_last_hidden_state) <= bound
    for mine, reference in zip(again.hidden_states, mirror.decoder_hidden_states, strict=True):
        assert distance(mine, reference) <= bound
    random = torch.randn(expected.logits.shape, generator=torch.Generator().manual_seed(1)).to(expected.logits)
    (expected.logits * random).sum().backward()
    (again.logits * random).sum().backward()
    assert gradient_distance(ours, theirs) <= (1e-4 if family == "led" else max(bound, 1e-8))


def gradient_distance(ours: Model, theirs: PreTrainedModel) -> float:
    """Of all gradients as one vector, by the names in files; theirs of tied tensors stand under one name."""
    from gossamer.families import get_family

    form = get_family(ours.family).numbered_by(theirs.config.to_dict())
    mine = {name: one.grad for name, one in ours.named_parameters() if one.grad is not None}
    for name, one in ours.named_buffers():
        mine[name] = torch.zeros_like(one)
    places = form.stored(mine, ours.architecture)
    named = {form.file_name(name, ours.architecture): stored.join(mine) for name, stored in places.items()}
    expected = {name: one.grad for name, one in theirs.named_parameters() if one.grad is not None}
    assert set(expected) <= set(named)
    # Without global tokens transformers' LED leaves out what reads them, where ours learn nothing.
    others = {name for name in named if name.endswith("final_logits_bias") or "_global" in name}
    assert set(named) - set(expected) <= others
    assert all(not named[name].any() for name in set(named) - set(expected))
    order = sorted(expected)
    return distance(
        torch.cat([named[name].flatten() for name in order]), torch.cat([expected[name].flatten() for name in order])
    )


@FAMILY
@FEW
@given(data=st.data(), read=st.integers(1, 20))
def test_greedy_texts_are_the_same(family: str, data: st.DataObject, read: int) -> None:
    """Token for token; theirs without a cache, which gives the same and does not break."""
    steps = 8
    theirs = data.draw(models(family, max(read, steps + 1)))
    ours = loaded(theirs)
    batch = data.draw(batches(theirs.config, read, 2))
    ids, mask = batch["input_ids"], batch["attention_mask"].sort(descending=True).values
    expected = theirs.generate(
        ids, attention_mask=mask, max_new_tokens=steps, do_sample=False, eos_token_id=None, use_cache=False
    )[:, 1:].tolist()
    for use_cache in (True, False):
        found = gs.generate(
            ours, ids, attention_mask=mask, max_new_tokens=steps, temperature=0, ignore_end=True, use_cache=use_cache
        )
        assert found.ids == expected
        assert found.tokens == mask.sum(1).tolist()


@FAMILY
@FEW
@given(data=st.data())
def test_files_go_both_ways(family: str, data: st.DataObject) -> None:
    theirs = data.draw(models(family, 9))
    ours = loaded(theirs)
    batch = data.draw(batches(theirs.config, 9, 5))
    for form in (None, "gossamer"):
        with tempfile.TemporaryDirectory() as directory:
            gs.save(ours, directory, family=form)
            again = gs.load(directory)
            assert again.architecture == ours.architecture
            back, info = (again, None) if form else type(theirs).from_pretrained(directory, output_loading_info=True)
        if info is not None:
            assert not info["missing_keys"]
            assert not info["unexpected_keys"]
        with torch.no_grad():
            assert distance(again(**batch).loss, ours(**batch).loss) == 0
            assert distance(back.eval()(**batch).loss, theirs(**batch).loss) <= 1e-5


def test_text_by_text_with_a_cache() -> None:
    """The first text at the first call alone; each new token costs a step, and gives the scores of all at once."""
    torch.manual_seed(0)
    theirs = AutoModelForSeq2SeqLM.from_config(
        AutoConfig.for_model("t5", vocab_size=30, d_model=8, d_kv=4, d_ff=8, num_layers=2, num_heads=2)
    )
    ours = loaded(theirs).double()
    ids, mask = torch.randint(30, (2, 7)), torch.ones(2, 7, dtype=torch.long)
    mask[1, 4:] = 0
    written = torch.randint(30, (2, 6))
    with torch.no_grad():
        every = ours(ids, mask, decoder_input_ids=written).logits
        cache = gs.models.Cache(ours.architecture)
        first = ours(ids, mask, decoder_input_ids=written[:, :2], cache=cache).logits
        rest = [ours(decoder_input_ids=written[:, i : i + 1], cache=cache).logits for i in range(2, 6)]
    assert distance(torch.cat([first, *rest], 1), every) <= 1e-12
    with pytest.raises(gs.errors.InputError, match="a cache that holds the first text"):
        ours(ids, mask, decoder_input_ids=written[:, :1], cache=cache)


@FAMILY
@FEW
@given(data=st.data(), read=st.integers(1, 12), first=st.integers(1, 5))
def test_second_texts_padded_on_the_left_with_and_without_a_cache(
    family: str, data: st.DataObject, read: int, first: int
) -> None:
    """Their positions are places, padding included; rows of the cache may change theirs."""
    length = first + 4
    theirs = data.draw(models(family, max(read, length)))
    ours = loaded(theirs)
    batch = data.draw(batches(theirs.config, read, length))
    ids, mask = batch["input_ids"], batch["attention_mask"]
    written = batch["labels"].where(batch["labels"] != IGNORED, 3)
    rows = len(ids)
    padding = torch.tensor(data.draw(st.lists(st.integers(0, first - 1), min_size=rows, max_size=rows)))
    real = (torch.arange(length) >= padding[:, None]).long()
    with torch.no_grad():
        expected = theirs(ids, mask, decoder_input_ids=written, decoder_attention_mask=real).logits
        whole = ours(ids, mask, decoder_input_ids=written, decoder_attention_mask=real).logits
        cache = gs.models.Cache(ours.architecture)
        begun = {"decoder_input_ids": written[:, :first], "decoder_attention_mask": real[:, :first], "cache": cache}
        parts = [ours(ids, mask, **begun).logits]
        order = list(range(rows))[::-1]
        cache.select(order)
        rest = [ours(decoder_input_ids=written[order, i : i + 1], cache=cache).logits for i in (first, first + 1)]
        rest.append(ours(decoder_input_ids=written[order, first + 2 :], cache=cache).logits)
    parts.append(torch.cat(rest, 1)[order])
    seen = real.bool()
    assert distance(whole[seen], expected[seen]) <= BOUNDS[family]
    assert distance(torch.cat(parts, 1)[seen], whole[seen]) <= (1e-5 if family == "led" else 1e-9)


@pytest.mark.parametrize("head", ["SequenceClassification", "QuestionAnswering"])
@pytest.mark.parametrize("family", ["bart", "t5"])
@FEW
@given(data=st.data(), read=st.integers(2, 24))
def test_heads_that_read_the_decoder(family: str, head: str, data: st.DataObject, read: int) -> None:
    """The decoder reads the encoder's text once more; a label is told at its last end, an answer at every token."""
    template = data.draw(models(family, read))
    config = template.config
    config.eos_token_id = 2
    theirs = getattr(transformers, f"{template.__class__.__name__.removesuffix('ForConditionalGeneration')}For{head}")(
        config
    )
    theirs = theirs.double().eval()
    with torch.no_grad():
        for weight in theirs.parameters():
            weight.add_(torch.randn_like(weight) * 0.2)
    ours = loaded(theirs)
    batch = data.draw(batches(config, read, 1))
    ids, mask = batch["input_ids"], batch["attention_mask"]
    ids[ids == 2] = 3
    ids[:, -1] = 2
    with torch.no_grad():
        found, expected = ours(ids, mask), theirs(ids, attention_mask=mask)
    if head == "QuestionAnswering":
        wanted = torch.stack([expected.start_logits, expected.end_logits], dim=-1)
        assert distance(found.logits, wanted) <= BOUNDS[family]
        return
    assert distance(found.logits, expected.logits) <= BOUNDS[family]
    with pytest.raises(gs.errors.InputError, match="has no token 2, the end of a text"):
        ours(ids.clone().fill_(3), mask)


@FEW
@given(data=st.data(), read=st.integers(1, 40))
def test_led_with_global_tokens(data: st.DataObject, read: int) -> None:
    theirs = data.draw(models("led", max(read, 5)))
    ours = loaded(theirs)
    batch = data.draw(batches(theirs.config, read, 5))
    random = torch.Generator().manual_seed(data.draw(st.integers(0, 2**31)))
    chosen = (torch.rand(batch["input_ids"].shape, generator=random) < 0.2) & batch["attention_mask"].bool()
    with torch.no_grad():
        found = ours(**batch, global_mask=chosen).loss
        expected = theirs(**batch, global_attention_mask=chosen.long()).loss
    assert distance(found, expected) <= 1e-5


def test_padding_before_a_second_text_takes_places_of_the_table() -> None:
    config = AutoConfig.for_model(
        "bart", vocab_size=20, d_model=8, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=8, decoder_ffn_dim=8, max_position_embeddings=4,
    )  # fmt: skip
    ours = loaded(AutoModelForSeq2SeqLM.from_config(config))
    ids, cache = torch.tensor([[3, 4]]), gs.models.Cache(ours.architecture)
    ours(ids, decoder_input_ids=torch.ones(1, 3).long(), decoder_attention_mask=torch.tensor([[0, 0, 1]]), cache=cache)
    ours(decoder_input_ids=torch.ones(1, 1).long(), cache=cache)
    with pytest.raises(gs.errors.InputError, match="row 0 of the cache holds 4 tokens and 1 more were given"):
        ours(decoder_input_ids=torch.ones(1, 1).long(), cache=cache)


def test_what_cannot_be_is_refused_in_one_line() -> None:
    torch.manual_seed(0)
    config = AutoConfig.for_model("t5", vocab_size=30, d_model=8, d_kv=4, d_ff=8, num_layers=2, num_heads=2)
    ours = loaded(AutoModelForSeq2SeqLM.from_config(config))
    ids = torch.randint(30, (2, 7))
    refused = gs.errors.InputError
    with pytest.raises(refused, match=r"labels is int64 shaped \[2\]"):
        ours(ids, labels=torch.ones(2).long())
    with pytest.raises(refused, match=r"labels holds 50 at"):
        ours(ids, labels=torch.full((2, 3), 50))
    with pytest.raises(refused, match="labels is float32"):
        ours(ids, labels=torch.ones(2, 3))
    with pytest.raises(refused, match="there is no second text"):
        ours(ids)
    with pytest.raises(refused, match="decoder_input_ids has 1 rows and input_ids 2"):
        ours(ids, decoder_input_ids=ids[:1])
    cache = gs.models.Cache(ours.architecture)
    ours(ids, decoder_input_ids=ids[:, :1], cache=cache)
    for name, one in {
        "attention_mask": torch.ones_like(ids),
        "head_mask": torch.ones(2, 2),
        "position_ids": ids,
    }.items():
        with pytest.raises(refused, match=f"{name} was given with a cache that holds the first text: leave it out"):
            ours(decoder_input_ids=ids[:, :1], cache=cache, **{name: one})
    with pytest.raises(refused, match=r"final_dropout is 0.5; it must be 0 without a decoder"):
        replace(gs.load("sample:minilm").architecture, final_dropout=0.5)
    with pytest.raises(refused, match="layers is 3; it must be a tuple of Layers"):
        replace(ours.architecture.decoder, layers=3)


def test_a_second_text_with_words_of_its_own_ends_at_its_own_tokens() -> None:
    """Of Marian with two word tables, whose second is the longer one."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "marian", vocab_size=20, decoder_vocab_size=30, d_model=8, encoder_layers=1, decoder_layers=1,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=8, decoder_ffn_dim=8, pad_token_id=1,
        decoder_start_token_id=1, eos_token_id=25, share_encoder_decoder_embeddings=False, tie_word_embeddings=False,
    )  # fmt: skip
    ours = loaded(AutoModelForSeq2SeqLM.from_config(config))
    only = gs.generation.Rules(suppress_tokens=tuple(one for one in range(30) if one != 25))
    found = gs.generate(ours, [3, 4], rules=only, max_new_tokens=4)
    assert (found.ids, found.stopped, found.stop) == ([[25]], ["stop"], [25])
    assert gs.generate(ours, [3, 4], stop=[29], max_new_tokens=2).ids
