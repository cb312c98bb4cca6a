"""Beam search and the rules of what comes next against `transformers`, token for token and score for score."""

from typing import Any

import pytest
import torch
from drawn_cases import cases
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from oracle import build, through_disk
from test_seq2seq import loaded, models
from transformers import PreTrainedModel

import gossamer as gs
from gossamer.generation import Beams, Rules
from gossamer.models import Model

FEW = settings(max_examples=max(4, settings.default.max_examples // 3))
KINDS = ["bart", "t5", "gpt2", "llama"]
END = 2


@st.composite
def searched(draw: st.DrawFn, kind: str) -> tuple[PreTrainedModel, Model, torch.Tensor]:
    """A model on both sides and prompts for it, in float64, where no two scores are nearly equal."""
    if kind in ("bart", "t5"):
        theirs = draw(models(kind, 20))
        # Two columns that are normalised are 1 and -1: such a decoder forgets what it wrote, and orders of words tie.
        assume(theirs.config.d_model >= 8)
        words, read = theirs.config.vocab_size, draw(st.integers(1, 9))
        ours = loaded(theirs)
    else:
        case = draw(cases(kind, "causal-lm"))
        case.config.max_position_embeddings = 64
        theirs = build(case, torch.float64)
        words, read = case.config.vocab_size, draw(st.integers(1, 9))
        ours = through_disk(theirs)
    random = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    return theirs, ours, torch.randint(words, (draw(st.integers(1, 3)), read), generator=random)


@st.composite
def rules(draw: st.DrawFn, words: int, most: int) -> dict[str, Any]:
    """Settings under their common names; each is mostly left out."""
    ids = st.integers(3, words - 1)
    settings_of = {
        "repetition_penalty": st.sampled_from([0.5, 1.3, 2.0]),
        "no_repeat_ngram_size": st.integers(1, 3),
        "min_new_tokens": st.integers(1, most),
        "forced_bos_token_id": st.just(0),
        "forced_eos_token_id": st.just(END),
        "suppress_tokens": st.lists(ids, min_size=1, max_size=2),
        "begin_suppress_tokens": st.lists(ids, min_size=1, max_size=2),
        "bad_words_ids": st.lists(st.lists(ids, min_size=1, max_size=2), min_size=1, max_size=6),
    }
    named = draw(st.sets(st.sampled_from(sorted(settings_of)), max_size=3))
    return {name: draw(settings_of[name]) for name in named}


def theirs_generates(theirs: PreTrainedModel, ids: torch.Tensor, **asked: Any) -> tuple[list[list[int]], Any]:
    out = theirs.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, eos_token_id=END, pad_token_id=END, use_cache=False,
        return_dict_in_generate=True, output_scores=True, **asked,
    )  # fmt: skip
    start = 1 if theirs.config.is_encoder_decoder else ids.shape[1]
    return [until_end(row) for row in out.sequences[:, start:].tolist()], getattr(out, "sequences_scores", out.scores)


def until_end(ids: list[int]) -> list[int]:
    return ids[: ids.index(END) + 1] if END in ids else ids


def own_rules(asked: dict[str, Any]) -> Rules:
    return Rules(**{name: tuple(one) if isinstance(one, list) else one for name, one in asked.items()})


@pytest.mark.parametrize("kind", KINDS)
@FEW
@given(data=st.data(), most=st.integers(1, 8))
def test_beams(kind: str, data: st.DataObject, most: int) -> None:
    theirs, ours, ids = data.draw(searched(kind))
    words = theirs.config.vocab_size
    count = data.draw(st.integers(2, max(2, words // 3)))
    asked = {
        "num_beams": count,
        "length_penalty": data.draw(st.sampled_from([-1.0, 0.0, 0.7, 1.0, 2.0])),
        "early_stopping": data.draw(st.sampled_from([True, False, "never"])),
        "num_return_sequences": data.draw(st.integers(1, count)),
    }
    more = data.draw(rules(words, most))
    expected, scores = theirs_generates(theirs, ids, max_new_tokens=most, **asked, **more)
    # Theirs fills up with what may not come, far below any score.
    real = [i for i, one in enumerate(scores.tolist()) if one > -1e7]
    returned = asked["num_return_sequences"]
    has_none = {i // returned for i in real} != set(range(len(ids)))
    for use_cache in (True, False):
        if has_none:
            with pytest.raises(gs.errors.InputError, match="the rules leave no token"):
                gs.generate(ours, ids, max_new_tokens=most, stop=END, ignore_end=True, beams=Beams(**asked),
                            rules=own_rules(more), use_cache=use_cache)  # fmt: skip
            continue
        found = gs.generate(
            ours,
            ids,
            max_new_tokens=most,
            stop=END,
            ignore_end=True,
            beams=Beams(**asked),
            rules=own_rules(more),
            use_cache=use_cache,
        )
        assert found.ids == [expected[i] for i in real]
        assert found.scores is not None
        for mine, i in zip(found.scores, real, strict=True):
            assert abs(mine - float(scores[i])) <= 1e-4 * max(1.0, abs(float(scores[i])))


@pytest.mark.parametrize("kind", KINDS)
@FEW
@given(data=st.data(), most=st.integers(1, 8))
def test_rules_of_greedy_texts(kind: str, data: st.DataObject, most: int) -> None:
    theirs, ours, ids = data.draw(searched(kind))
    more = data.draw(rules(theirs.config.vocab_size, most))
    expected, steps = theirs_generates(theirs, ids, max_new_tokens=most, **more)
    # A row that has ended is filled up, whatever its scores.
    going = [[i < len(row) for row in expected] for i in range(len(steps))]
    if any(bool((one[on] == -torch.inf).all(-1).any()) for one, on in zip(steps, going, strict=True)):
        with pytest.raises(gs.errors.InputError, match="the rules leave no token"):
            gs.generate(ours, ids, max_new_tokens=most, stop=END, ignore_end=True, temperature=0, rules=own_rules(more))
        return
    found = gs.generate(ours, ids, max_new_tokens=most, stop=END, ignore_end=True, temperature=0, rules=own_rules(more))
    assert found.ids == expected
