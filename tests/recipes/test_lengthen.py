"""A longer model against the original where a window covers the text, and against `transformers` beyond."""

import dataclasses
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from drawn_models import HEADS, batches, bert, distance, in_transformers, models
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModel, AutoTokenizer

import gossamer as gs
from gossamer.errors import InputError, quote
from gossamer.kernels import backends
from gossamer.kernels.backend import Cost
from gossamer.models import Model
from gossamer.patterns import Full, Global, Window
from gossamer.text import speeches

BOUNDS = {torch.float32: 1e-5, torch.float64: 1e-10}
FEWER = settings.default.max_examples // 2 + 1
CONFIG = {
    "vocab_size": 30,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 16,
}


def evens(least: int, most: int) -> st.SearchStrategy[int]:
    return st.integers(least // 2, most // 2).map(lambda half: 2 * half)


def windows_for(model: Model, least: int, most: int) -> st.SearchStrategy[int | list[int]]:
    layers = len(model.architecture.layers)
    return evens(least, most) | st.lists(evens(least, most), min_size=layers, max_size=layers)


@contextmanager
def forced_blocked() -> Iterator[None]:
    """`auto` takes `blocked` wherever it can, as if dense attention were never faster; at least one call must do so."""
    calls = []

    def free(inputs: object) -> Cost:
        calls.append(inputs)
        return Cost(pairs=0, if_less=("forced by this test", "slower"))

    blocked = dataclasses.replace(backends.BLOCKED, cost=free)
    cpu = dataclasses.replace(backends.CPU, why_not=lambda inputs: "left out by this test")
    with patch.object(backends, "_OPERATORS", (backends.REFERENCE, backends.DENSE, blocked, cpu)):
        yield
    assert calls


def outputs(out: Any, real: torch.Tensor) -> dict[str, torch.Tensor]:
    """What a model gives, at real tokens."""
    found = {"states": out.last_hidden_state[real]}
    found |= {} if out.logits is None else {"logits": out.logits[real]}
    return found | ({} if out.pooled is None else {"pooled": out.pooled})


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("backend", ["auto", "blocked"])
@given(data=st.data())
def test_texts_that_the_window_covers_read_as_before(dtype: torch.dtype, backend: str, data: st.DataObject) -> None:
    model = data.draw(models(dtype=dtype))
    length = model.architecture.length
    window = data.draw(windows_for(model, 4, 2 * length))
    to, which = length + data.draw(st.integers(0, 50)), data.draw(st.sampled_from(["first", "none"]))
    new, _ = gs.lengthen(model, to=to, window=window, global_tokens=which, force=True)
    smallest = min([window] if isinstance(window, int) else window)
    batch = data.draw(batches(model, 1, min(length, smallest // 2 + 1)))
    before = outputs(batch.read(model), batch.real)
    with forced_blocked() if backend == "blocked" else nullcontext():
        after = outputs(batch.read(new), batch.real)
    assert before.keys() == after.keys()
    for name, expected in before.items():
        assert distance(after[name], expected) <= BOUNDS[dtype], name


def test_one_token_further_they_do_not() -> None:
    """The bound of the test above is right: the ends no longer see one another; a global first token still sees all."""
    model = bert(CONFIG, None)
    text = torch.randint(1, 30, (1, 7), generator=torch.Generator().manual_seed(0))
    for which, most in (("none", 5), ("first", 6)):
        new, _ = gs.lengthen(model, to=40, window=8, global_tokens=which)
        covered, longer = text[:, :most], text[:, : most + 1]
        assert distance(new(covered).last_hidden_state, model(covered).last_hidden_state) <= 1e-5
        assert distance(new(longer).last_hidden_state, model(longer).last_hidden_state) > 1e-3


def test_a_text_padded_on_the_left_reads_as_if_it_were_not() -> None:
    model = bert(CONFIG, None)
    new, _ = gs.lengthen(model, to=40, window=20)
    text = torch.tensor([[5, 9, 3, 7]])
    padded = torch.tensor([[0, 0, 5, 9, 3, 7]])
    states = new(padded, attention_mask=padded != 0).last_hidden_state[:, 2:]
    assert distance(states, model(text).last_hidden_state) <= 1e-5


@given(data=st.data())
def test_long_texts_read_as_in_transformers(data: st.DataObject) -> None:
    model = data.draw(models(activations=("gelu",)))
    layers, old = len(model.architecture.layers), model.architecture.length
    to = old + data.draw(st.integers(1, 90))
    # transformers pads to the largest window and needs every other one to divide it; 2 it cannot compute.
    window = data.draw(st.lists(st.sampled_from([4, 8, 16]), min_size=layers, max_size=layers))
    new, _ = gs.lengthen(model, to=to, window=window, force=True)
    batch = data.draw(batches(new, old, to))
    random = torch.Generator().manual_seed(data.draw(st.integers(0, 2**31)))
    share = data.draw(st.sampled_from([0.0, 0.05, 0.4]))
    flags = (torch.rand(batch.ids.shape, generator=random) < share) & batch.real
    with tempfile.TemporaryDirectory() as directory:
        gs.save(new, directory)
        theirs = in_transformers(Path(directory), new)
    types = torch.zeros_like(batch.ids) if batch.types is None else batch.types
    expected = theirs(
        batch.ids,
        attention_mask=batch.real.long(),
        token_type_ids=types,
        global_attention_mask=flags.long(),
        output_hidden_states=True,
    )
    found = batch.read(new, global_mask=flags)
    assert new.family == "longformer"
    assert distance(found.last_hidden_state[batch.real], expected.hidden_states[-1][batch.real]) <= 1e-5
    if found.logits is not None:
        assert distance(found.logits[batch.real], expected.logits[batch.real]) <= 1e-5
    if model.architecture.pooler:
        assert distance(found.pooled, expected.pooler_output) <= 1e-5


@given(data=st.data())
@settings(max_examples=FEWER)
def test_saved_and_loaded_it_is_the_same_bit_for_bit(data: st.DataObject) -> None:
    model = data.draw(models())
    to = model.architecture.length + 7
    window = data.draw(windows_for(model, 2, min(40, 2 * to)))
    which = data.draw(st.sampled_from(["first", "none"]))
    new, receipt = gs.lengthen(model, to=to, window=window, global_tokens=which, force=True)
    with tempfile.TemporaryDirectory() as directory:
        gs.save(new, directory)
        again = gs.load(directory)
        card = (Path(directory) / "README.md").read_text()
    assert again.architecture == new.architecture
    assert again.family == new.family
    ours, theirs = new.state_dict(), again.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert receipt.to_markdown() in card


def test_what_longformer_cannot_hold_is_saved_natively(tmp_path: Path) -> None:
    relu = bert({**CONFIG, "hidden_act": "relu"}, "masked-lm")
    unpadded = bert({**CONFIG, "pad_token_id": None}, None)
    for model, window in ((relu, 8), (unpadded, 8)):
        new, _ = gs.lengthen(model, to=40, window=window)
        assert new.family == "gossamer"
        gs.save(new, tmp_path / "model")
        again = gs.load(tmp_path / "model")
        text = torch.tensor([[4, 1, 2, 9, 0, 3, 0, 7] * 5])
        assert torch.equal(again(text).last_hidden_state, new(text).last_hidden_state)


def test_without_a_padding_token_every_token_counts() -> None:
    model = bert({**CONFIG, "pad_token_id": None}, None)
    new, _ = gs.lengthen(model, to=40, window=20)
    text = torch.tensor([[0, 4, 0, 0, 9, 1]])
    assert distance(new(text).last_hidden_state, model(text).last_hidden_state) <= 1e-5


@given(data=st.data())
def test_weights_are_copies(data: st.DataObject) -> None:
    model = data.draw(models())
    before = {name: one.clone() for name, one in model.state_dict().items()}
    length, padding = model.architecture.length, model.architecture.embeddings.padding_id
    to = length + data.draw(st.integers(0, 150))
    new, _ = gs.lengthen(model, to=to, window=8)
    table, old = new.embeddings.position.weight, before["embeddings.position.weight"]
    assert table.shape == (padding + 1 + to, old.shape[1])
    assert not table[: padding + 1].any()
    assert all(torch.equal(table[padding + 1 + i], old[i % length]) for i in range(to))
    for name, one in new.state_dict().items():
        if name != "embeddings.position.weight":
            assert torch.equal(one, before[name.replace("_global.", ".")]), name
    with torch.no_grad():
        for weight in new.parameters():
            assert weight.requires_grad
            weight.fill_(7)
    assert all(torch.equal(one, before[name]) for name, one in model.state_dict().items())
    storages = {one.untyped_storage().data_ptr() for one in new.parameters()}
    assert storages.isdisjoint(one.untyped_storage().data_ptr() for one in model.parameters())


def test_rows_before_position_zero_keep_their_place() -> None:
    """A RoBERTa-like original: padding reads the row just before position 0, here and there."""
    model = bert(CONFIG, None)
    old = model.architecture
    positions = dataclasses.replace(old.embeddings.positions, offset=3, from_padding=True)
    shifted = dataclasses.replace(old, embeddings=dataclasses.replace(old.embeddings, positions=positions))
    model = Model(shifted).eval()
    new, _ = gs.lengthen(model, to=40, window=20)
    text = torch.tensor([[5, 9, 0, 7, 0]])
    assert distance(new(text).last_hidden_state, model(text).last_hidden_state) <= 1e-5


@pytest.mark.parametrize("head", HEADS)
def test_receipt_says_what_is_true(head: str | None) -> None:
    model = bert({**CONFIG, "pad_token_id": 2}, head)
    model.source = "my/encoder"
    new, receipt = gs.lengthen(model, to=50, window=[4, 6])
    assert new.receipt is receipt
    found = json.loads(json.dumps(receipt.to_dict(), allow_nan=False))
    assert found["settings"] == {"to": 50, "window": [4, 6], "global_tokens": "first"}
    assert found["notes"] == []
    for side, one in (("before", model), ("after", new)):
        weights = list(one.parameters())
        assert found[side]["length"] == one.architecture.length
        assert found[side]["family"] == one.family
        assert found[side]["parameters"] == sum(weight.numel() for weight in weights)
        assert found[side]["bytes"] == sum(weight.numel() * 4 for weight in weights)
    ids = torch.randint(0, 30, (1, 16), generator=torch.Generator().manual_seed(0))
    ids[ids == 2] = 3
    assert list(found["measured"]) == ["relative_difference_at_3_tokens", "relative_difference_at_16_tokens"]
    with torch.no_grad():
        expected = distance(new(ids).last_hidden_state, model(ids).last_hidden_state)
    assert found["measured"]["relative_difference_at_3_tokens"] <= 1e-5
    assert found["measured"]["relative_difference_at_16_tokens"] == pytest.approx(expected, rel=1e-6)
    assert found["conditions"]["threads"] == torch.get_num_threads()
    assert (found["conditions"]["dtype"], found["conditions"]["device"]) == ("float32", "cpu")
    changes = " / ".join(found["changes"])
    assert "full became window 2+2 | global, window 3+3 | global" in changes
    assert "16 learned rows, repeated 3.125 times to fill 50" in changes
    assert "before position 0, for padding: 0 became 3" in changes


def test_receipt_in_print_and_on_the_card() -> None:
    model = bert(CONFIG, None)
    model.source = "my/encoder"
    _, receipt = gs.lengthen(model, to=4096, window=8)
    text, card = str(receipt), receipt.to_markdown()
    assert text.splitlines()[0] == "lengthen(to=4096, window=8, global_tokens=first) of my/encoder"
    assert "  length      16 -> 4,096" in text
    assert "measured: relative difference at 5 tokens" in text
    assert max(map(len, text.splitlines())) <= 100
    table = [line for line in card.splitlines() if line.startswith("|")]
    assert "| length | 16 | 4,096 |" in table
    assert {line.replace("\\|", "").count("|") for line in table} == {4}


def test_the_original_is_left_as_it_was() -> None:
    model = bert(CONFIG, "embed")
    model.extra_config = {"id2label": {"0": "a"}}
    model.train()
    model.feed_forward[0].eval()
    modes = [part.training for part in model.modules()]
    architecture, config = model.architecture, json.dumps(model.extra_config)
    new, _ = gs.lengthen(model, to=40, window=8)
    assert [part.training for part in model.modules()] == modes
    assert new.training
    assert (model.architecture, model.receipt, model.family) == (architecture, None, "bert")
    new.extra_config["id2label"]["0"] = "b"
    assert json.dumps(model.extra_config) == config


def test_gradients_reach_all_weights_that_were_read() -> None:
    new, _ = gs.lengthen(bert(CONFIG, "masked-lm").train(), to=40, window=8)
    ids = torch.randint(1, 30, (2, 40), generator=torch.Generator().manual_seed(1))
    new(ids, labels=ids, global_mask=torch.zeros(2, 40, dtype=torch.bool)).loss.backward()
    absent = [name for name, weight in new.named_parameters() if weight.grad is None]
    assert absent
    assert all("_global." in name for name in absent)
    new(ids, labels=ids).loss.backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in new.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_dtype_is_kept(dtype: torch.dtype) -> None:
    new, receipt = gs.lengthen(bert(CONFIG, None, dtype=dtype), to=40, window=8)
    assert {weight.dtype for weight in new.parameters()} == {dtype}
    assert new(torch.ones(1, 40, dtype=torch.long)).last_hidden_state.dtype == dtype
    assert receipt.conditions["dtype"] == str(dtype).removeprefix("torch.")
    assert all(value < 2 for value in receipt.measured.values())


@pytest.mark.parametrize("vocabulary", [2, 5])
def test_the_last_id_may_be_the_padding(vocabulary: int) -> None:
    config = {**CONFIG, "vocab_size": vocabulary, "pad_token_id": vocabulary - 1}
    _, receipt = gs.lengthen(bert(config, None), to=40, window=8)
    assert receipt.measured["relative_difference_at_5_tokens"] <= 1e-5


@pytest.mark.parametrize("layers", [1, 2])
def test_one_window_for_all_or_one_for_each(layers: int) -> None:
    model = bert({**CONFIG, "num_hidden_layers": layers}, None)
    windows = [4, 10][:layers]
    new, _ = gs.lengthen(model, to=40, window=tuple(windows))
    patterns = [layer.attention.pattern for layer in new.architecture.layers]
    assert patterns == [Window(one // 2, one // 2) | Global() for one in windows]


@pytest.mark.parametrize(
    "to", [15, 0, -1, True, 40.0, "40", None, 10**12, 2**31, 2**31 - 1, 10**5000], ids=lambda value: quote(value)
)
def test_lengths_that_cannot_be(to: Any) -> None:
    with pytest.raises(InputError, match=r"^to is .*from 16, what the model reads now, to \d+$") as caught:
        gs.lengthen(bert(CONFIG, None), to=to, window=8)
    assert str(caught.value).startswith(f"to is {quote(to)};")


def test_a_table_that_memory_cannot_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> torch.Tensor:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    model = bert(CONFIG, None)
    monkeypatch.setattr(torch.Tensor, "new_zeros", refuse)
    with pytest.raises(InputError, match=r"^to is 2000000000; its position table of 64 GB does not fit into memory"):
        gs.lengthen(model, to=2_000_000_000, window=8)


@pytest.mark.parametrize(
    ("window", "said"),
    [
        (7, "window is 7; it must be even"),
        (1, "window is 1; it must be an even whole number from 2"),
        (0, "window is 0; it must be an even whole number from 2"),
        (-4, "window is -4; it must be an even whole number from 2"),
        (True, "window is True; it must be an even whole number"),
        (8.0, "window is 8.0; it must be an even whole number"),
        ("8", "window is '8'; it must be an even whole number"),
        (2**31, "window is 2147483648; it must be an even whole number from 2 to 2147483646"),
        (514, "window is 514; it must be at most 512"),
        ([8, 514], "window is 514; it must be at most 512"),
        ([8, 9], r"window\[1\] is 9; it must be even"),
        ([8, None], r"window\[1\] is None; it must be"),
        ([8], "window has 1 entry; the model has 2 layers: give one number or 2"),
        ([], "window has 0 entries"),
        ([8, 8, 8], "window has 3 entries"),
    ],
)
def test_windows_that_cannot_be(window: Any, said: str) -> None:
    with pytest.raises(InputError, match=f"^{said}") as caught:
        gs.lengthen(bert(CONFIG, None), to=40, window=window)
    assert "\n" not in str(caught.value)


def test_the_widest_window() -> None:
    new, _ = gs.lengthen(bert(CONFIG, None), to=40, window=80, force=True)
    assert new.architecture.layers[0].attention.pattern == Window(40, 40) | Global()


def test_a_model_is_lengthened_once() -> None:
    new, _ = gs.lengthen(bert(CONFIG, None), to=40, window=8)
    with pytest.raises(InputError, match=r"layer 0 attends by 'window 4\+4 \| global'.*give it the original model"):
        gs.lengthen(new, to=80, window=8)
    causal = dataclasses.replace(
        new.architecture.layers[0],
        attention=dataclasses.replace(new.architecture.layers[0].attention, pattern=Full(causal=True)),
    )
    decoder = Model(dataclasses.replace(new.architecture, layers=(causal,)))
    with pytest.raises(InputError, match=r"layer 0 attends by .*lengthen replaces full attention only"):
        gs.lengthen(decoder, to=80, window=8)


def test_spoilt_weights_give_no_receipt() -> None:
    model = bert(CONFIG, None)
    with torch.no_grad():
        model.embeddings.word.weight.fill_(float("nan"))
    with pytest.raises(InputError, match="NaN or infinity"):
        gs.lengthen(model, to=40, window=8)


@pytest.fixture(scope="module")
def long_minilm(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    new, _ = gs.lengthen(gs.load(minilm), to=2048, window=512)
    return gs.save(new, tmp_path_factory.mktemp("models") / "long")


def test_minilm_reads_short_texts_as_before(minilm: Path, long_minilm: Path) -> None:
    short, long = gs.load(minilm), gs.load(long_minilm)
    texts = ["A thread so light that it floats.", "naïve 東京 🙂 " * 20, speeches()[3].text[:1000], ""]
    with torch.no_grad():
        assert distance(long(**long.tokenizer(texts)).pooled, short(**short.tokenizer(texts)).pooled) <= 1e-5


def test_minilm_reads_long_texts_as_in_transformers(long_minilm: Path) -> None:
    text = " ".join(speeches()[5].text.split()[:1250])
    ours, theirs = gs.load(long_minilm), AutoModel.from_pretrained(long_minilm).eval()
    tokens = AutoTokenizer.from_pretrained(long_minilm)(text, truncation=True, return_tensors="pt")
    assert type(theirs).__name__ == "LongformerModel"
    assert 1400 < tokens["input_ids"].shape[1] < 2048
    with torch.no_grad():
        batch = ours.tokenizer(text)
        assert torch.equal(batch["input_ids"], tokens["input_ids"])
        of_first = (torch.arange(tokens["input_ids"].shape[1]) == 0).long()[None]
        expected = theirs(**tokens, global_attention_mask=of_first).last_hidden_state
        assert distance(ours(**batch).last_hidden_state, expected) <= 1e-5
        # By itself transformers has no global token here, which is why the card says what to give.
        assert distance(theirs(**tokens).last_hidden_state, expected) > 1e-3


def test_files_beside_the_weights_know_the_new_length(long_minilm: Path) -> None:
    assert json.loads((long_minilm / "tokenizer_config.json").read_text())["model_max_length"] == 2048
    assert json.loads((long_minilm / "sentence_bert_config.json").read_text())["max_seq_length"] == 2048
    assert json.loads((long_minilm / "config.json").read_text())["max_position_embeddings"] == 2049
    assert "relative difference at 257 tokens" in (long_minilm / "README.md").read_text()


def test_a_window_smaller_than_the_special_tokens(minilm: Path) -> None:
    _, receipt = gs.lengthen(gs.load(minilm), to=512, window=2)
    assert receipt.measured["relative_difference_at_2_tokens"] <= 1e-5
    assert "repeated" not in " ".join(receipt.changes)
