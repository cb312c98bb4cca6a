"""gossamer.generate: with and without a cache, alone and in batches, drawn and greedy; where texts end."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from generation_models import decoder, decoders, tokens
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.generation.logits_process import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

import gossamer as gs
from gossamer.errors import GossamerError, InputError
from gossamer.generation import Generated, Piece, loop
from gossamer.generation.sampling import Sampling, choose, filtered
from gossamer.models import Model
from gossamer.patterns import Fixed, Full, PerHead, Prefix, Strided, Window
from gossamer.text import byte_tokenizer

FULL = Full(causal=True)
MIXED = [Window(5, 0), PerHead((Fixed(6, 2), 2), (Strided(5), 2)), FULL]
BYTES = byte_tokenizer()
END = 256


def of_bytes(length: int = 64) -> Model:
    return decoder(MIXED, length=length, tokenizer=BYTES, vocabulary=257)


@given(decoders(), st.data())
@settings(max_examples=30)
def test_with_and_without_a_cache_the_tokens_are_the_same(model: Model, data: st.DataObject) -> None:
    lengths = data.draw(st.lists(st.integers(1, 30), min_size=1, max_size=4))
    prompts = [tokens(length, seed=i).tolist() for i, length in enumerate(lengths)]
    options: dict[str, Any] = {
        "temperature": data.draw(st.sampled_from([0, 0.7, 1.5])),
        "top_k": data.draw(st.sampled_from([None, 5])),
        "top_p": data.draw(st.sampled_from([1.0, 0.8])),
        "stop": data.draw(st.sampled_from([None, [3, 5, 7, 11, 13]])),
        "seed": data.draw(st.integers(0, 9)),
    }
    cached, uncached = (
        gs.generate(model, prompts, max_new_tokens=20, use_cache=one, **options) for one in (True, False)
    )
    assert cached.ids == uncached.ids
    assert (cached.stopped, cached.stop) == (uncached.stopped, uncached.stop)


def test_greedy_takes_the_likeliest_token_each_time() -> None:
    model, prompt = decoder(MIXED), tokens(1, 9)
    found = gs.generate(model, prompt, max_new_tokens=20, temperature=0).ids[0]
    text = prompt
    with torch.no_grad():
        for token in found:
            assert token == int(model(text).logits[0, -1].argmax())
            text = torch.cat([text, torch.tensor([[token]])], 1)
    assert len(found) == 20


@pytest.mark.parametrize("use_cache", [True, False])
def test_a_prompt_is_continued_as_it_is_alone(use_cache: bool) -> None:
    model = decoder(MIXED)
    prompts = [tokens(length, seed=length).tolist() for length in (3, 14, 1, 14, 8)]
    options: dict[str, Any] = {"max_new_tokens": 30, "stop": [0, 1, 2], "use_cache": use_cache}
    together = gs.generate(model, prompts, seed=5, **options)
    assert len({len(one) for one in together.ids}) > 1
    for i, prompt in enumerate(prompts):
        alone = gs.generate(model, prompt, seed=5 + i, **options)
        assert alone.ids == [together.ids[i]]
        assert alone.stopped == [together.stopped[i]]
    assert gs.generate(model, prompts, seed=[5, 6, 7, 8, 9], batch_size=2, **options).ids == together.ids
    assert together.seeds == [5, 6, 7, 8, 9]
    assert gs.generate(model, prompts, seed=6, **options).ids != together.ids


def test_a_drawn_seed_is_told_and_gives_the_same_again() -> None:
    model, prompts = decoder(MIXED), [[1, 2], [3]]
    torch.manual_seed(0)
    first, second = (gs.generate(model, prompts, max_new_tokens=20) for _ in range(2))
    assert first.ids != second.ids
    assert gs.generate(model, prompts, max_new_tokens=20, seed=second.seeds).ids == second.ids
    assert gs.generate(model, prompts, max_new_tokens=20, seed=second.seeds[0]).ids == second.ids
    torch.manual_seed(0)
    assert gs.generate(model, prompts, max_new_tokens=20).ids == first.ids


@pytest.mark.parametrize("left", [True, False])
def test_padded_tensors_are_lists_of_several_lengths(left: bool) -> None:
    model, lengths = decoder(MIXED), (3, 11, 7)
    lists = [tokens(length, seed=length).tolist() for length in lengths]
    ids, mask = torch.full((3, 13), 9), torch.zeros(3, 13, dtype=torch.int64)
    for i, one in enumerate(lists):
        where = slice(13 - len(one), 13) if left else slice(0, len(one))
        ids[i, where], mask[i, where] = torch.tensor(one), 1
    found = gs.generate(model, ids, attention_mask=mask, max_new_tokens=9, seed=0)
    assert found.ids == gs.generate(model, lists, max_new_tokens=9, seed=0).ids
    assert found.tokens == [3, 11, 7]
    assert found.texts is None


def test_one_prompt_in_any_form() -> None:
    model, one = decoder(MIXED), [4, 5, 6]
    expected = gs.generate(model, one, max_new_tokens=5, seed=0).ids
    for form in ([one], torch.tensor(one), torch.tensor([one]), (4, 5, 6), torch.tensor(one, dtype=torch.int32)):
        assert gs.generate(model, form, max_new_tokens=5, seed=0).ids == expected


@given(
    st.integers(0, 99),
    st.sampled_from([0.3, 1.0, 2.0]),
    st.sampled_from([None, 1, 4, 50, 1000]),
    st.sampled_from([0.05, 0.5, 0.9, 0.99, 1.0]),
    st.booleans(),
)
def test_filters_are_those_of_transformers_in_their_order(
    seed: int, temperature: float, top_k: int | None, top_p: float, ties: bool
) -> None:
    logits = torch.randn(3, 200, generator=torch.Generator().manual_seed(seed)) * 3
    logits = logits.round() if ties else logits
    expected = TemperatureLogitsWarper(temperature)(None, logits)
    if top_k is not None:
        expected = TopKLogitsWarper(top_k)(None, expected)
    if top_p < 1:
        expected = TopPLogitsWarper(top_p)(None, expected)
    found = filtered(logits, Sampling(temperature=temperature, top_k=top_k, top_p=top_p))
    assert torch.equal(found == -torch.inf, expected == -torch.inf)
    torch.testing.assert_close(found.softmax(-1), expected.softmax(-1))


@pytest.mark.parametrize(
    ("alike", "top_p", "left"), [(2, 0.5, 1), (4, 0.25, 1), (4, 0.5, 2), (4, 0.51, 3), (4, 0.75, 3), (8, 0.875, 7)]
)
def test_tokens_whose_sum_is_just_top_p_are_enough(alike: int, top_p: float, left: int) -> None:
    """Equal scores of 2, 4 or 8 tokens have probabilities that every processor adds up exactly."""
    logits = torch.full((1, 9), -torch.inf)
    logits[0, 1 : 1 + alike] = 3.0
    found = filtered(logits, Sampling(top_p=top_p))
    assert int((found > -torch.inf).sum()) == left
    assert torch.equal(found == -torch.inf, TopPLogitsWarper(top_p)(None, logits) == -torch.inf)


def test_tokens_are_drawn_as_often_as_they_are_likely() -> None:
    logits = torch.randn(1, 12, generator=torch.Generator().manual_seed(3)) * 2
    sampling = Sampling(temperature=0.8, top_k=7)
    draws = (torch.arange(10_000, dtype=torch.float64) + 0.5) / 10_000
    found = choose(logits.expand(10_000, -1), sampling, draws)
    shares = torch.bincount(found, minlength=12) / 10_000
    torch.testing.assert_close(shares, filtered(logits, sampling)[0].softmax(-1), atol=1.01e-4, rtol=0)


def test_the_ends_of_the_range_of_draws_give_tokens_that_are_left() -> None:
    logits = torch.tensor([[0.0, 5.0, 4.0, 0.0]])
    sampling = Sampling(top_k=2)
    least, most = torch.tensor([0.0], dtype=torch.float64), torch.tensor([1 - 2**-53], dtype=torch.float64)
    assert (choose(logits, sampling, least).item(), choose(logits, sampling, most).item()) == (1, 2)
    for temperature in (1e-30, torch.finfo(torch.float32).tiny):
        assert choose(logits, Sampling(temperature=temperature), most).item() == 1


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=0), Sampling(top_k=2, top_p=0.5)])
@pytest.mark.parametrize("bad", [[torch.inf, 1.0], [torch.inf, torch.inf], [torch.nan, 1.0], [-torch.inf, -torch.inf]])
def test_scores_that_are_not_finite_are_refused(sampling: Sampling, bad: list[float]) -> None:
    draws = torch.tensor([0.5, 0.5], dtype=torch.float64)
    with pytest.raises(GossamerError, match=r"^the model's scores are NaN or infinite: its weights are damaged"):
        choose(torch.tensor([[0.0, 1.0], bad]), sampling, draws)
    one_left = torch.tensor([[0.0, -torch.inf], [-torch.inf, 2.0]])
    assert choose(one_left, sampling, draws).tolist() == [0, 1]


def test_nan_is_no_token() -> None:
    model = decoder(MIXED)
    with torch.no_grad():
        model.final_norm.weight[0] = float("nan")
    with pytest.raises(
        GossamerError, match=r"the model's scores are NaN or infinite: its weights are damaged, or float16 overflows"
    ):
        gs.generate(model, [1, 2])


class Script:
    """Stands in for `choose`: row i gets the tokens of text i, one after the other."""

    def __init__(self, *texts: bytes | Sequence[int]) -> None:
        self.tokens = [iter(one) for one in texts]
        self.rows = list(range(len(texts)))

    def __call__(self, logits: torch.Tensor, *rest: Any) -> torch.Tensor:
        assert len(logits) == len(self.rows)
        found = {row: next(self.tokens[row]) for row in self.rows}
        self.rows = [row for row in self.rows if found[row] != END]
        return torch.tensor(list(found.values()))


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make models say these bytes."""
    return lambda *texts: monkeypatch.setattr(loop, "choose", Script(*texts))


def test_pieces_are_whole_characters(say: Any) -> None:
    said = "naïve 日本 👍🏽 ok"
    say([*said.encode(), END])
    pieces: list[Piece] = []
    found = gs.generate(of_bytes(), "a", stream=pieces.append)
    assert found.texts == [said]
    assert "".join(one.text for one in pieces) == said
    assert [token for one in pieces for token in one.ids] == found.ids[0] == [*said.encode(), END]
    assert not any("\ufffd" in one.text for one in pieces)
    assert [one.text for one in pieces[:3]] == ["n", "a", "ï"]
    assert (found.stopped, found.stop) == (["stop"], [END])


def test_bytes_that_are_no_text_are_told_in_the_end(say: Any) -> None:
    say([*b"ab\xff\xe2\x82", END])
    assert gs.generate(of_bytes(), "a").texts == [b"ab\xff\xe2\x82".decode(errors="replace")]


def test_a_stop_string_ends_a_text_before_it(say: Any) -> None:
    say(b"one\ntwo\n\nthree")
    pieces: list[str] = []
    found = gs.generate(of_bytes(), "a", stop=["\n\n", "never"], stream=lambda one: pieces.append(one.text))
    assert found.texts == ["one\ntwo"]
    assert (found.stopped, found.stop) == (["stop"], ["\n\n"])
    assert bytes(found.ids[0]) == b"one\ntwo\n\n"
    assert "".join(pieces) == "one\ntwo"


@pytest.mark.parametrize("stop", [["o", 120], ("o", 120), {"o", 120}, frozenset(("o", 120))])
def test_stops_in_any_form(stop: Any, say: Any) -> None:
    say(b"abcone")
    assert gs.generate(of_bytes(), "a", stop=stop).stop == ["o"]
    say(b"abxone")
    assert gs.generate(of_bytes(), "a", stop=stop).stop == [120]


def test_rows_that_ended_keep_still(say: Any) -> None:
    say([*b"abc", END], [*b"a", END], [*b"abcdef", END])
    pieces: dict[int, str] = {0: "", 1: "", 2: ""}
    for piece in gs.generate(of_bytes(), ["x", "y", "z"], stream=True):
        pieces[piece.prompt] += piece.text
    assert pieces == {0: "abc", 1: "a", 2: "abcdef"}


def test_the_end_is_that_of_the_config_or_the_tokenizer() -> None:
    model = of_bytes()
    every = gs.generate(model, "abc", max_new_tokens=40, seed=0, top_p=1.0, ignore_end=True, stop=None).ids[0]
    model.extra_config["eos_token_id"] = every[7]
    place = every.index(every[7])
    ended = gs.generate(model, "abc", max_new_tokens=40, seed=0, top_p=1.0)
    assert ended.ids[0] == every[: place + 1]
    assert (ended.stopped, ended.stop) == (["stop"], [every[7]])
    model.extra_config["eos_token_id"] = [END, every[7]]
    assert gs.generate(model, "abc", max_new_tokens=40, seed=0, top_p=1.0).ids == ended.ids
    assert gs.generate(model, "abc", max_new_tokens=40, seed=0, top_p=1.0, ignore_end=True).ids[0] == every
    del model.extra_config["eos_token_id"]
    stopped = gs.generate(model, "abc", max_new_tokens=40, seed=0, top_p=1.0, ignore_end=True, stop=every[7])
    assert stopped.ids == ended.ids
    assert gs.generate(model, "", max_new_tokens=1, seed=0).tokens == [1]


def test_the_models_length_ends_a_text_and_is_told() -> None:
    model = decoder(MIXED, length=20)
    prompts = [tokens(12).tolist(), tokens(20).tolist(), tokens(3).tolist()]
    for use_cache in (True, False):
        found = gs.generate(model, prompts, max_new_tokens=10, seed=0, use_cache=use_cache)
        assert [len(one) for one in found.ids] == [9, 1, 10]
        assert found.stopped == ["length", "length", "max_new_tokens"]
        assert found.notes == [
            "prompt 0 of 12 tokens: stopped after 9 new ones, because the model reads 20",
            "prompt 1 of 20 tokens: stopped after 1 new one, because the model reads 20",
        ]


def test_an_iterator_has_the_result_when_it_is_through() -> None:
    model = of_bytes()
    running = gs.generate(model, ["ab", "c"], max_new_tokens=8, seed=1, stream=True)
    first = next(running)
    with pytest.raises(InputError, match=r"the texts are still being generated: take all pieces"):
        _ = running.result
    rest = list(running)
    found, whole = running.result, gs.generate(model, ["ab", "c"], max_new_tokens=8, seed=1)
    assert isinstance(found, Generated)
    assert (found.texts, found.ids) == (whole.texts, whole.ids)
    for i in (0, 1):
        assert "".join(one.text for one in [first, *rest] if one.prompt == i) == found.texts[i]
    assert found.tokens_per_second == 16 / found.seconds
    assert found.to_dict()["stopped"] == ["max_new_tokens"] * 2


def test_the_model_stays_in_its_mode_and_makes_no_gradient() -> None:
    expected = gs.generate(of_bytes(), "ab", max_new_tokens=20, seed=0).ids
    model = of_bytes().train()
    assert gs.generate(model, "ab", max_new_tokens=20, seed=0).ids == expected  # without dropout
    model.head.eval()
    for _ in gs.generate(model, "ab", max_new_tokens=3, stream=True):
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()
    assert model.training
    assert not model.head.training
    left = gs.generate(model, "ab", max_new_tokens=3, stream=True)
    next(left)
    del left
    assert model.training
    assert all(one.grad is None for one in model.parameters())


def test_streams_that_take_turns_leave_the_mode_alone() -> None:
    expected = [gs.generate(of_bytes(), text, max_new_tokens=20, seed=0).ids for text in ("ab", "cd")]
    model = of_bytes().train()
    streams = [gs.generate(model, text, max_new_tokens=20, seed=0, stream=True) for text in ("ab", "cd")]
    next(streams[0])
    assert model.training
    for first, second in itertools.zip_longest(*streams):
        assert model.training, (first, second)
    assert [one.result.ids for one in streams] == expected
    assert all(part.training for part in model.modules())


def test_a_callback_that_raises_leaves_the_mode_alone() -> None:
    model = of_bytes().train()
    with pytest.raises(ZeroDivisionError) as kept:
        gs.generate(model, "ab", max_new_tokens=20, stream=lambda _: 1 / 0)
    assert kept.value.__traceback__ is not None  # and with it the generator, where it stopped
    assert all(part.training for part in model.modules())


def test_only_the_last_token_of_a_prompt_is_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    model, shapes = decoder(MIXED), []
    forward = type(model.head).forward
    monkeypatch.setattr(
        type(model.head),
        "forward",
        lambda self, hidden, table: shapes.append(tuple(hidden.shape)) or forward(self, hidden, table),
    )
    gs.generate(model, [tokens(30).tolist()] * 2, max_new_tokens=3)
    assert shapes == [(2, 8)] * 3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_other_types(dtype: torch.dtype) -> None:
    """Rounding may decide between near ties, and nothing else: each token is nearly the likeliest in float64."""
    model, prompts = decoder(MIXED, dtype=dtype), [[1, 2, 3], [4]]
    exact, near = decoder(MIXED, dtype=dtype).double(), 60 * torch.finfo(dtype).eps
    found = [gs.generate(model, prompts, max_new_tokens=12, temperature=0, use_cache=one).ids for one in (True, False)]
    for ids in found:
        for prompt, new in zip(prompts, ids, strict=True):
            with torch.no_grad():
                scores = exact(torch.tensor([prompt + new])).logits[0, len(prompt) - 1 : -1]
            chosen = scores.gather(1, torch.tensor(new)[:, None])[:, 0]
            assert len(new) == 12
            assert (scores.amax(1) - chosen).max() <= near
    if dtype == torch.float32:
        assert found[0] == found[1]
        cached, uncached = (
            gs.generate(model, prompts, max_new_tokens=40, seed=0, use_cache=one).ids for one in (True, False)
        )
        assert cached == uncached


def failing() -> Iterator[tuple[dict[str, Any], str]]:
    yield {"prompts": []}, r"^there are no prompts: give at least one$"
    yield {"prompts": 5}, r"^prompts is 5; give a text, token ids, or a list or tensor of them$"
    yield {"prompts": ["a", 3]}, r"^prompts is \['a', 3\]; give a text"
    yield {"prompts": [[1], []]}, r"^prompt 1 has no tokens; give at least one$"
    yield {"prompts": torch.zeros(0, 3, dtype=torch.int64)}, r"^there are no prompts"
    yield {"prompts": torch.zeros(1, 0, dtype=torch.int64)}, r"^prompt 0 has no tokens"
    yield {"prompts": torch.zeros(2)}, r"^prompts is float32 shaped \[2\]; token ids are whole numbers"
    yield {"prompts": [[1], [999]]}, r"^prompt 1 holds the token id 999; the vocabulary's ids go from 0 to 256$"
    yield {"prompts": "a" * 65}, r"^prompt 0 is 65 tokens long, the model reads 64: shorten it$"
    yield {"prompts": "\ud83d"}, r"^prompt 0 holds half a surrogate pair at character 0"
    yield {"attention_mask": torch.ones(1, 1)}, r"^attention_mask is for a tensor of prompts"
    yield (
        {"prompts": torch.zeros(1, 3, dtype=torch.int64), "attention_mask": torch.ones(1, 2)},
        r"^attention_mask is float32 shaped \[1, 2\]; it must be shaped \[1, 3\]$",
    )
    yield {"max_new_tokens": 0}, r"^max_new_tokens is 0; it must be a whole number, 1 or more$"
    yield {"batch_size": True}, r"^batch_size is True; it must be"
    yield {"temperature": -1}, r"^temperature is -1; it must be a finite number, 0 \(the likeliest token\) or more$"
    yield {"temperature": float("nan")}, r"^temperature is nan"
    yield {"temperature": 1e-46}, r"^temperature is 1e-46; it must be 0 \(the likeliest token\) or from 1.2e-38 to 3.4e"
    yield {"temperature": 10**400}, r"^temperature is 1000+...; it must be 0 \(the likeliest token\) or from"
    yield {"use_cache": "no"}, r"^use_cache is 'no'; it must be True or False$"
    yield {"top_k": 0}, r"^top_k is 0; it must be a whole number of tokens, 1 or more, or None for all$"
    yield {"top_p": 0}, r"^top_p is 0; it must be above 0 and at most 1"
    yield {"top_p": 1.5}, r"^top_p is 1.5; it must be above 0"
    yield {"stop": [""]}, r"^stop holds ''; give token ids and strings of one character or more$"
    yield {"stop": 257}, r"^stop holds 257; token ids go from 0 to 256$"
    yield {"stop": [1.5]}, r"^stop holds 1.5; give token ids"
    yield {"stop": 3.5}, r"^stop is 3.5; give token ids and strings, one or a list of them, or None$"
    yield {"stop": b"x"}, r"^stop is b'x'; give token ids"
    yield {"stop": {"x": 1}}, r"^stop is \{'x': 1\}; give token ids"
    yield {"stop": True}, r"^stop holds True; give token ids"
    yield {"ignore_end": 1}, r"^ignore_end is 1; it must be True or False$"
    yield {"seed": -1}, r"^seed is -1; it must be a whole number from 0 to"
    yield {"seed": [1, 2]}, r"^seed holds 2 numbers for 1 prompt; give one for each, or one number$"
    yield {"stream": 3}, r"^stream is 3; it must be a function of one Piece, True, or None$"


@pytest.mark.parametrize(("options", "said"), list(failing()), ids=lambda one: str(one)[:40])
def test_refusals(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said) as refusal:
        gs.generate(of_bytes(), **{"prompts": "a", **options})
    assert "\n" not in str(refusal.value)


def test_models_that_cannot() -> None:
    with pytest.raises(
        InputError, match=r"^the model has no tokenizer: put tokenizer.json into its directory, or give"
    ):
        gs.generate(decoder(MIXED), "text")
    with pytest.raises(
        InputError, match=r"^stop holds the string 'a', but the model has no tokenizer; give token ids$"
    ):
        gs.generate(decoder(MIXED), [1], stop="a")
    from model_inputs import architecture, model

    from gossamer.models import MaskedLM

    with pytest.raises(
        InputError, match=r"^the model's head is 'masked-lm', so it cannot generate text: take a model with"
    ):
        gs.generate(model(architecture(head=MaskedLM())), [1])
    with pytest.raises(InputError, match=r"^the model has no head, so it cannot generate text"):
        gs.generate(model(architecture()), [1])
    with pytest.raises(InputError, match=r"^model is 'gpt2', which names one; load it first: gossamer.load\('gpt2'\)$"):
        gs.generate("gpt2", [1])  # type: ignore[arg-type]


@pytest.mark.parametrize("use_cache", [True, False])
def test_a_prompt_shorter_than_the_prefix_is_refused(use_cache: bool) -> None:
    model = decoder([Prefix(6), FULL])
    prompts = [list(range(6)), [1, 2, 3]]
    with pytest.raises(InputError, match="prompt 1 has 3 tokens; the model's pattern has a prefix of 6 that see one"):
        gs.generate(model, prompts, use_cache=use_cache)
    assert len(gs.generate(model, prompts[:1], max_new_tokens=2, use_cache=use_cache).ids[0]) == 2
