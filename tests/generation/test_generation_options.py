"""What calls and generation_config.json ask for: which wins, what is refused, how beams end and are streamed."""

from typing import Any

import pytest
import torch
from generation_models import decoder

import gossamer as gs
from gossamer.errors import InputError
from gossamer.generation import Beams, Rules
from gossamer.models import Model
from gossamer.patterns import Full
from gossamer.text import byte_tokenizer

FULL = Full(causal=True)


def model(**config: Any) -> Model:
    found = decoder([FULL], length=64, tokenizer=byte_tokenizer(), vocabulary=257)
    found.generation_config = config
    return found


def test_the_file_is_followed_where_the_call_is_silent() -> None:
    asked = {"num_beams": 3, "num_return_sequences": 2, "length_penalty": 0.0, "no_repeat_ngram_size": 2}
    said = gs.generate(model(**asked, max_new_tokens=6, suppress_tokens=[97]), "ab", ignore_end=True)
    beams = Beams(num_beams=3, num_return_sequences=2, length_penalty=0.0)
    rules = Rules(no_repeat_ngram_size=2, suppress_tokens=(97,))
    told = gs.generate(model(), "ab", max_new_tokens=6, beams=beams, rules=rules, ignore_end=True)
    assert (said.ids, said.scores, said.texts) == (told.ids, told.scores, told.texts)
    assert said.notes == []
    assert said.prompts == [0, 0]
    assert not said.drawn
    assert said.scores == sorted(said.scores, reverse=True)


def test_the_call_wins_and_what_is_not_done_is_told() -> None:
    asked = {"num_beams": 3, "do_sample": True, "temperature": 0.5, "repetition_penalty": 1.5, "epsilon_cutoff": 0.1}
    found = gs.generate(model(**asked), "ab", max_new_tokens=3, beams=1, temperature=0.7, rules=Rules(), seed=0)
    (note,) = found.notes
    for name in ("num_beams 3", "temperature 0.5", "repetition_penalty 1.5", "epsilon_cutoff 0.1"):
        assert name in note
    assert found.drawn


def test_bad_words_and_stop_strings_of_the_file() -> None:
    greedy: dict[str, Any] = {"max_new_tokens": 8, "temperature": 0}
    free = gs.generate(model(), "ab", **greedy)
    first, second = free.ids[0][:2]
    banned = gs.generate(model(bad_words_ids=[[first]]), "ab", **greedy)
    assert banned.ids == gs.generate(model(), "ab", rules={"bad_words_ids": [[first]]}, **greedy).ids
    assert first not in banned.ids[0]
    assert banned.notes == []
    pair = gs.generate(model(), "ab", rules=Rules(bad_words_ids=((first, second),)), **greedy)
    assert pair.ids[0][0] == first
    assert pair.ids[0][1] != second
    # A token that ends texts may come, whatever the file says.
    end = Rules(bad_words_ids=((256,),), suppress_tokens=tuple(range(256)))
    assert gs.generate(model(), "ab", rules=end).ids == [[256]]
    stop = next(one for one in free.texts[0] if one.isprintable())
    ended = gs.generate(model(stop_strings=[stop]), "ab", **greedy)
    assert (ended.stop, ended.notes) == ([stop], [])
    assert ended.texts[0] == free.texts[0].split(stop)[0]
    for options in ({"stop": 5}, {"ignore_end": True}):
        other = gs.generate(model(stop_strings=[stop]), "ab", **greedy, **options)
        assert other.stop != [stop]
        assert "stop_strings" in other.notes[0]
    with pytest.raises(InputError, match=r"generation_config.json: stop_strings is \[3\]; it must be a text"):
        gs.generate(model(stop_strings=[3]), "ab")


def test_drawing_of_beams_is_told_not_to_be_done() -> None:
    found = gs.generate(model(do_sample=True, num_beams=2), "ab", max_new_tokens=2)
    assert found.notes == ["generation_config.json says do_sample True: not followed, the options of the call decide"]
    assert found.scores is not None


def test_drawing_as_the_file_says() -> None:
    drawn = gs.generate(model(do_sample=True, temperature=0.5, top_k=7), "ab", max_new_tokens=8, seed=3)
    told = gs.generate(model(), "ab", max_new_tokens=8, seed=3, temperature=0.5, top_k=7, top_p=1.0)
    assert drawn.ids == told.ids


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"beams": 258}, "num_beams is 258; it must be at most the vocabulary's 257 words"),
        ({"beams": 0}, "num_beams is 0"),
        ({"beams": True}, "beams is True"),
        ({"beams": 2, "temperature": 1.0}, "temperature is 1.0; it must be 0 or left out: beams draw nothing"),
        ({"beams": {"length_penalty": 2.0}}, "length_penalty is 2.0; it is for beams: give their number, too"),
        ({"beams": {"beams": 2, "num_beams": 2}}, "there is no option 'beams' of Beams; it has early_stopping"),
        ({"rules": 3}, "rules is 3; give Rules"),
        ({"rules": {"penalty": 3}}, "there is no option 'penalty' of Rules; it has bad_words_ids, begin_"),
        ({"beams": Beams(num_beams=2), "top_k": 5}, "top_k is 5; it must be 0 or left out: beams draw nothing"),
        ({"rules": {"suppress_tokens": "a"}}, "suppress_tokens is 'a'; give a token id"),
        ({"rules": Rules(min_new_tokens=9), "max_new_tokens": 8}, "min_new_tokens is 9; it must be at most max_new"),
        ({"rules": Rules(suppress_tokens=(257,))}, r"suppress_tokens is \[257\]; it must be token ids from 0 to 256"),
        ({"rules": Rules(forced_eos_token_id=300)}, r"forced_eos_token_id is \[300\]"),
        ({"rules": {"bad_words_ids": [5]}}, r"bad_words_ids is \[5\]; give a list of lists of token ids"),
        ({"rules": {"bad_words_ids": [[]]}}, r"bad_words_ids is \[\[\]\]; give a list of lists of token ids"),
        ({"rules": {"bad_words_ids": [[257, 1]]}}, r"bad_words_ids is \[257\]; it must be token ids from 0 to 256"),
        ({"rules": Rules(suppress_tokens=tuple(range(257)))}, "number of suppress_tokens is 257"),
    ],
)
def test_what_cannot_be_is_refused_before_any_compute(options: dict[str, Any], said: str) -> None:
    one = model()
    one.forward = None  # type: ignore[assignment]
    with pytest.raises(InputError, match=said):
        gs.generate(one, "ab", **options)


def test_a_forced_token_that_is_suppressed_is_refused() -> None:
    with pytest.raises(InputError, match="forced_bos_token_id is 3; it must be a token that is not suppressed"):
        Rules(forced_bos_token_id=3, suppress_tokens=(3,))
    with pytest.raises(InputError, match="forced_eos_token_id"):
        Rules(forced_eos_token_id=[2, 3], suppress_tokens=(3,))
    with pytest.raises(InputError, match=r"generation_config.json: repetition_penalty is -1"):
        gs.generate(model(repetition_penalty=-1), "ab")


def test_beams_end_at_strings_and_are_streamed_when_they_are_known() -> None:
    one = model()
    free = gs.generate(one, ["ab", "c"], max_new_tokens=12, beams=3, ignore_end=True)
    stop = free.texts[0][2:4]
    assert len(stop) == 2
    cut = gs.generate(one, ["ab", "c"], max_new_tokens=12, beams=3, ignore_end=True, stop=stop)
    for text, why, which in zip(cut.texts, cut.stopped, cut.stop, strict=True):
        assert stop not in text
        assert (why == "stop") == (which == stop)
    under_way = gs.generate(one, ["ab", "c"], max_new_tokens=12, beams=3, ignore_end=True, stream=True)
    with pytest.raises(InputError, match="still being generated"):
        _ = under_way.result
    pieces = list(under_way)
    assert [one.text for one in pieces] == free.texts
    assert under_way.result.ids == free.ids


def test_ones_own_rule_comes_last_and_must_give_scores() -> None:
    def only_a(ids: list[list[int]], scores: torch.Tensor) -> torch.Tensor:
        assert all(one[:2] == [97, 98] for one in ids)
        out = torch.full_like(scores, -torch.inf)
        out[:, 97] = 0
        return out

    rules = Rules(processors=(only_a,))
    assert gs.generate(model(), "ab", max_new_tokens=4, rules=rules, seed=0).texts == ["aaaa"]
    assert gs.generate(model(), "ab", max_new_tokens=4, rules=rules, beams=2).texts == ["aaaa"]
    with pytest.raises(InputError, match="a processor gave None"):
        gs.generate(model(), "ab", rules=Rules(processors=(lambda ids, scores: None,)))


def test_a_call_may_change_a_part_of_what_the_file_asks_for() -> None:
    asked = {"num_beams": 4, "length_penalty": 0.0, "suppress_tokens": [97], "no_repeat_ngram_size": 2}
    found = gs.generate(model(**asked), "ab", max_new_tokens=6, beams=3, rules={"no_repeat_ngram_size": 1})
    beams, rules = Beams(num_beams=3, length_penalty=0.0), Rules(suppress_tokens=(97,), no_repeat_ngram_size=1)
    assert found.ids == gs.generate(model(), "ab", max_new_tokens=6, beams=beams, rules=rules).ids
    # Who asks for drawing does not ask for the file's beams, and is told so.
    drawn = gs.generate(model(num_beams=4), "ab", max_new_tokens=3, temperature=0.8, seed=0)
    assert drawn.drawn
    assert "num_beams 4" in drawn.notes[0]
    off = gs.generate(model(do_sample=True, top_k=0), "ab", max_new_tokens=3, seed=0)
    assert off.ids == gs.generate(model(), "ab", max_new_tokens=3, seed=0, temperature=1.0, top_p=1.0).ids


@pytest.mark.parametrize("penalty", [21, -1e9, float("inf"), float("nan"), "1", True])
def test_penalties_that_no_number_holds_are_refused(penalty: Any) -> None:
    with pytest.raises(InputError, match=r"length_penalty is .*; it must be a number from -20 to 20"):
        Beams(length_penalty=penalty)
    for most in (-20, 20):
        assert len(gs.generate(model(), "ab", max_new_tokens=3, beams=Beams(length_penalty=most)).ids) == 1


def test_rules_that_leave_nothing_are_named() -> None:
    rules = Rules(begin_suppress_tokens=tuple(range(257)))
    for beams in (1, 2):
        with pytest.raises(InputError, match="the rules leave no token that may come next"):
            gs.generate(model(), "ab", beams=beams, rules=rules)
    not_a_number = Rules(processors=(lambda ids, scores: scores * float("nan"),))
    with pytest.raises(InputError, match="a processor gave NaN"):
        gs.generate(model(), "ab", rules=not_a_number)
    # Tokens that may not come are no texts, however many are asked for.
    forced = Rules(forced_eos_token_id=5)
    found = gs.generate(model(), "ab", max_new_tokens=1, beams=Beams(num_beams=3, num_return_sequences=3), rules=forced)
    assert (found.ids, found.scores) == ([[5]], [0.0])


def test_texts_of_beams_follow_on_their_prompt_as_others_do() -> None:
    one = gs.load("sample:minilm").tokenizer
    found = decoder([FULL], length=64, tokenizer=one, vocabulary=one.vocabulary_size)
    greedy = gs.generate(found, "hello world", max_new_tokens=4, temperature=0)
    asked = Rules(processors=(lambda ids, scores: _only(scores, greedy.ids[0][len(ids[0]) - len(prompt)]),))
    prompt = one.encode_plain("hello world")[0]
    beams = gs.generate(found, "hello world", max_new_tokens=4, beams=2, rules=asked)
    assert beams.texts == greedy.texts


def _only(scores: torch.Tensor, token: int) -> torch.Tensor:
    out = torch.full_like(scores, -torch.inf)
    out[:, token] = 0
    return out


def test_beams_that_the_length_ends_say_so_and_are_counted() -> None:
    one = model()
    under_way = gs.generate(
        one, "a" * 60, beams=Beams(num_beams=2, num_return_sequences=2), ignore_end=True, stream=True
    )
    assert sum(len(piece.ids) for piece in under_way) <= under_way.most
    assert "because the model reads 64" in under_way.result.notes[-1]
