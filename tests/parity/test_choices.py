"""Texts that are one of some choices against `transformers`' `prefix_allowed_tokens_fn`: greedy, beams and draws."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_beams import END, FEW, KINDS, searched, theirs_generates

import gossamer as gs
from gossamer.generation import Beams

Lists = list[list[int]]


def allowed(choices: Lists, start: int) -> Any:
    """The oracle's function of (row, ids): what may come next behind so many given ids."""

    def following(_: int, ids: torch.Tensor) -> list[int]:
        new = ids[start:].tolist()
        return sorted({one[len(new)] for one in choices if one[: len(new)] == new and len(one) > len(new)}) or [END]

    return following


def drawn_choices(words: int) -> st.SearchStrategy[Lists]:
    """Lists that begin like one another, of which one may begin another."""
    tokens = st.lists(st.sampled_from([0, 3, 4, words - 1]), min_size=1, max_size=4)
    return st.lists(tokens.map(lambda one: [*one, END]), min_size=1, max_size=5, unique_by=tuple)


@pytest.mark.parametrize("kind", KINDS)
@FEW
@given(data=st.data())
def test_greedy_and_beams(kind: str, data: st.DataObject) -> None:
    theirs, ours, ids = data.draw(searched(kind))
    choices = data.draw(drawn_choices(theirs.config.vocab_size))
    start = 1 if theirs.config.is_encoder_decoder else ids.shape[1]
    following = allowed(choices, start)
    expected, _ = theirs_generates(theirs, ids, max_new_tokens=6, prefix_allowed_tokens_fn=following)
    bare = [one[:-1] for one in choices]
    options = {"max_new_tokens": 6, "stop": END, "ignore_end": True}
    assert gs.generate(ours, ids, temperature=0, choices=bare, **options).ids == expected
    count = data.draw(st.integers(2, 5))
    asked = {
        "num_beams": count,
        "num_return_sequences": count,
        "length_penalty": data.draw(st.sampled_from([0.0, 1.0])),
        "early_stopping": data.draw(st.booleans()),
    }
    expected, scores = theirs_generates(theirs, ids, max_new_tokens=6, prefix_allowed_tokens_fn=following, **asked)
    told = list(zip(expected, scores.tolist(), strict=True))
    for use_cache in (True, False):
        found = gs.generate(ours, ids, beams=Beams(**asked), choices=bare, use_cache=use_cache, **options)
        assert all(one in choices for one in found.ids)
        mine = list(zip(found.prompts, found.ids, found.scores or (), strict=True))
        for i in range(len(ids)):
            own = [(text, score) for prompt, text, score in mine if prompt == i]
            real = [one for one in told[i * count : (i + 1) * count] if one[1] > -1e7]
            if asked["early_stopping"] and len(real) < count:
                # Theirs fills up with what may not come, which counts as ended: its search is over too soon.
                own_ids = [text for text, _ in own]
                assert all(text in own_ids for text, _ in real)
            else:
                assert [text for text, _ in own] == [text for text, _ in real]
                assert [score for _, score in own] == pytest.approx([s for _, s in real], rel=1e-4, abs=1e-4)
            note = f"prompt {i}: {len(own)} text{'s' * (len(own) != 1)} of {count}, no more may be written"
            assert (note in found.notes) == (len(own) < count)


@pytest.mark.parametrize("kind", KINDS)
@settings(FEW, max_examples=3)
@given(data=st.data())
def test_draws_are_of_what_is_allowed_as_likely_as_it_is_beside_the_rest(kind: str, data: st.DataObject) -> None:
    theirs, ours, ids = data.draw(searched(kind))
    ids = ids[:1]
    choices = [[3], [4], [0, 4]]
    with torch.no_grad():
        start = getattr(theirs.config, "decoder_start_token_id", None)
        written = {} if start is None else {"decoder_input_ids": torch.tensor([[start]])}
        logits = theirs(ids, **written).logits[0, -1]
    likely = logits[[3, 4, 0]].softmax(-1)
    drawn = gs.generate(
        ours, ids.repeat(2000, 1), seed=0, temperature=1.0, top_p=1.0, choices=choices, stop=END, ignore_end=True,
        batch_size=2000,
    )  # fmt: skip
    assert all(one[:-1] in choices and one[-1] == END for one in drawn.ids)
    for first, expected in zip((3, 4, 0), likely.tolist(), strict=True):
        share = sum(one[0] == first for one in drawn.ids) / 2000
        assert abs(share - expected) <= 4.5 * (expected * (1 - expected) / 2000) ** 0.5 + 1e-9
