"""The log-likelihood of given continuations: against transformers, at borders of tokens, and what is refused."""

from typing import Any

import pytest
import tokenizers
import torch
import transformers
from generation_models import decoder
from tokenizers import models as kinds

import gossamer as gs
from gossamer.errors import InputError
from gossamer.generation import ContinuationScore, score_continuations
from gossamer.models import Model
from gossamer.patterns import Full, Prefix, Window
from gossamer.text import Tokenizer, byte_tokenizer

FULL = Full(causal=True)
PROMPTS = [[3, 4, 5, 6, 7], [9], [1, 2, 3]]
MORE = [[[8, 9], [8], [2, 2, 2, 2]], [[5, 6, 7]], [[1], [2]]]


def through_disk(theirs: transformers.PreTrainedModel, folder: Any) -> Model:
    theirs.double().eval().save_pretrained(folder)
    return gs.load(folder)


def drawn(kind: str) -> transformers.PreTrainedModel:
    torch.manual_seed(3)
    sizes: dict[str, Any] = {
        "gpt2": {"n_embd": 8, "n_layer": 2, "n_head": 2, "n_positions": 16},
        "llama": {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 12},
        "t5": {"d_model": 8, "d_kv": 4, "d_ff": 12, "num_layers": 2, "num_heads": 2},
        "bart": {
            "d_model": 8, "encoder_layers": 1, "decoder_layers": 2, "encoder_attention_heads": 2,
            "decoder_attention_heads": 2, "encoder_ffn_dim": 12, "decoder_ffn_dim": 12, "max_position_embeddings": 16,
        },
    }[kind]  # fmt: skip
    config = transformers.AutoConfig.for_model(kind, vocab_size=20, pad_token_id=0, decoder_start_token_id=2, **sizes)
    auto = transformers.AutoModelForSeq2SeqLM if kind in ("t5", "bart") else transformers.AutoModelForCausalLM
    theirs = auto.from_config(config)
    with torch.no_grad():
        for weight in theirs.parameters():
            weight.add_(torch.randn_like(weight) * 0.3)
    return theirs.double().eval()


def reference(theirs: transformers.PreTrainedModel, prompt: list[int], ids: list[int]) -> torch.Tensor:
    """Log-probabilities [tokens, vocabulary] by transformers, one continuation alone."""
    with torch.no_grad():
        if theirs.config.is_encoder_decoder:
            written = torch.tensor([[2, *ids[:-1]]])
            logits = theirs(torch.tensor([prompt]), decoder_input_ids=written).logits[0]
        else:
            logits = theirs(torch.tensor([[*prompt, *ids[:-1]]])).logits[0, len(prompt) - 1 :]
    return logits.log_softmax(-1)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "t5", "bart"])
@pytest.mark.parametrize("batch_tokens", [1, 20, 4096])
@pytest.mark.parametrize("use_cache", [True, False])
def test_the_numbers_are_those_of_transformers(kind: str, batch_tokens: int, use_cache: bool, tmp_path: Any) -> None:
    theirs = drawn(kind)
    ours = through_disk(theirs, tmp_path)
    likeliest = reference(theirs, PROMPTS[0], [8, 9]).argmax(-1)[:1].tolist()
    more = [[*MORE[0], likeliest], *MORE[1:]]
    told: list[tuple[int, int]] = []
    found = score_continuations(
        ours, PROMPTS, more, batch_tokens=batch_tokens, use_cache=use_cache,
        progress=lambda done, total: told.append((done, total)),
    )  # fmt: skip
    assert [[one.ids for one in those] for those in found] == more
    assert told[-1] == (13, 13)
    assert len(told) == {1: 7, 20: 3, 4096: 1}[batch_tokens]
    for i, those in enumerate(found):
        for one in those:
            expected = reference(theirs, PROMPTS[i], one.ids)
            numbers = expected[torch.arange(len(one.ids)), one.ids]
            # transformers' T5 and Llama take softmax and norms in float32.
            assert torch.allclose(torch.tensor(one.log_probs).double(), numbers, atol=1e-5 if kind != "gpt2" else 1e-9)
            assert one.log_likelihood == pytest.approx(sum(one.log_probs))
            assert one.mean_log_prob == pytest.approx(float(numbers.mean()), abs=1e-5)
            assert one.is_greedy == (expected.argmax(-1).tolist() == one.ids)
            assert (one.prompt, one.given) == (i, len(PROMPTS[i]))
    assert found[0][-1].is_greedy


def merging() -> Tokenizer:
    """Letters, and "ab", "bc" and "abc" as tokens of their own."""
    ids = {one: i for i, one in enumerate(["a", "b", "c", "d", "ab", "bc", "abc", "|"])}
    backend = tokenizers.Tokenizer(kinds.BPE(ids, [("b", "c"), ("a", "bc"), ("a", "b")]))
    return Tokenizer(backend)


def test_a_continuation_has_the_tokens_of_the_joined_text() -> None:
    one = decoder([FULL, Window(3, 0)], length=16, tokenizer=merging(), vocabulary=8)
    one.generation_config = {"eos_token_id": 7}
    ((apart, merged),) = score_continuations(one, "dab", ["d", "cd"])
    assert (apart.ids, apart.given) == ([3], 2)
    assert (merged.ids, merged.given) == ([6, 3], 1)
    same = score_continuations(one, [[3, 4], [3]], [[[3]], [[6, 3]]])
    for (alone,), joined in zip(same, (apart, merged), strict=True):
        assert alone.log_probs == pytest.approx(joined.log_probs, abs=1e-12)
    # All of the prompt is within the first token: what stands before is what does before an empty prompt.
    ((whole,), (empty,)) = score_continuations(one, ["a", ""], ["bc", "abc"])
    assert (whole.ids, whole.given, empty.ids) == ([6], 0, [6])
    ((behind,),) = score_continuations(one, [7], [[6]])
    assert behind.log_probs == pytest.approx(whole.log_probs, abs=1e-12)
    assert behind.log_probs == pytest.approx(empty.log_probs, abs=1e-12)
    one.generation_config = {}
    with pytest.raises(InputError, match="prompt 0 and its continuation 'bc' begin with one token"):
        score_continuations(one, "a", "bc")


def test_each_is_what_generate_would_have_drawn_from() -> None:
    """The greedy text has the highest score at each of its tokens, and is told to be greedy."""
    one = decoder([FULL], length=64, tokenizer=byte_tokenizer(), vocabulary=257)
    written = gs.generate(one, "ab", max_new_tokens=8, temperature=0, ignore_end=True)
    ((greedy, other),) = score_continuations(one, [97, 98], [written.ids[0], [*written.ids[0][:-1], 5]])
    assert greedy.is_greedy
    assert not other.is_greedy
    assert greedy.log_probs[:-1] == pytest.approx(other.log_probs[:-1])
    assert greedy.log_probs[-1] > other.log_probs[-1]
    assert isinstance(greedy, ContinuationScore)
    assert greedy.to_dict()["log_likelihood"] == greedy.log_likelihood
    one.train()
    score_continuations(one, "ab", "c")
    assert one.training


def test_the_last_token_may_stand_beyond_what_is_read() -> None:
    one = decoder([FULL], length=6, tokenizer=byte_tokenizer(), vocabulary=257)
    for use_cache in (True, False):
        assert len(score_continuations(one, "abc", "defg", use_cache=use_cache)[0][0].ids) == 4
    said = "prompt 0 of 3 tokens and its continuation of 5 tokens are longer than the 6 that the model reads: shorten"
    with pytest.raises(InputError, match=said):
        score_continuations(one, "abc", ["d", "defgh"])


@pytest.mark.parametrize(
    ("prompts", "more", "said"),
    [
        ("ab", "", "a continuation of prompt 0 is '', which has no tokens"),
        ("ab", [], r"continuations of prompt 0 is \[\]; give a list of texts"),
        ("ab", [1.5], "a continuation of prompt 0 is 1.5"),
        (["ab", "c"], ["x"], "continuations has 1 list for 2 prompts"),
        (["ab", "c"], "x", "continuations is 'x'; give for each prompt a list"),
        ("ab", [[257]], "a continuation of prompt 0 holds the token id 257; the vocabulary's ids go from 0 to 256"),
        ([], [], "there are no prompts"),
    ],
)
def test_what_cannot_be_scored_is_refused_in_one_line(prompts: Any, more: Any, said: str) -> None:
    one = decoder([FULL], length=16, tokenizer=byte_tokenizer(), vocabulary=257)
    one.forward = None  # type: ignore[assignment]
    with pytest.raises(InputError, match=said):
        score_continuations(one, prompts, more)


def test_models_and_options_that_will_not_do() -> None:
    with pytest.raises(InputError, match="'embed', so it cannot score continuations"):
        score_continuations(gs.load("sample:minilm"), "a", "b")
    one = decoder([Prefix(3)], length=16, tokenizer=byte_tokenizer(), vocabulary=257)
    with pytest.raises(InputError, match="prompt 0 has 2 tokens; the model's pattern has a prefix of 3"):
        score_continuations(one, "ab", "c")
    with pytest.raises(InputError, match="batch_tokens is 0"):
        score_continuations(one, "abc", "c", batch_tokens=0)
    with pytest.raises(InputError, match="progress is True"):
        score_continuations(one, "abc", "c", progress=True)  # type: ignore[arg-type]
