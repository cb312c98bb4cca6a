"""Patterns are values: checked, equal, hashable, printed, saved and read back."""

import contextlib
import copy
import json
import pickle
from dataclasses import FrozenInstanceError

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pattern_strategies import patterns

from gossamer.errors import InputError
from gossamer.patterns import Fixed, Full, Global, Pattern, PerHead, Strided, Union, Window, pattern_from_dict


@given(patterns)
def test_a_pattern_survives_json_pickle_and_copy(pattern):
    again = pattern_from_dict(json.loads(json.dumps(pattern.to_dict())))
    assert again == pattern
    assert hash(again) == hash(pattern)
    assert pickle.loads(pickle.dumps(pattern)) == copy.deepcopy(pattern) == pattern


@pytest.mark.parametrize(
    "pattern",
    [
        Full(),
        Window(1, 2, dilation=3),
        Global() | Window(1, 1),
        PerHead((Full(), 2), (Window(1, 1), 1)),
        Strided(4, "local") | Window(1, 1),
        Fixed(4, 2, "summary", 1),
    ],
    ids=str,
)
def test_a_pattern_prints_its_own_source(pattern):
    names = {one.__name__: one for one in (Fixed, Full, Global, PerHead, Strided, Union, Window)}
    assert eval(repr(pattern), names) == pattern


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (Full(), "full"),
        (Full(causal=True), "causal full"),
        (Window(256, 256), "window 256+256"),
        (Window(256, 0, dilation=2), "window 256+0, every 2nd"),
        (Window(1, 1, dilation=11), "window 1+1, every 11th"),
        (Window(1, 1, dilation=23), "window 1+1, every 23rd"),
        (Global() | Window(256, 256), "window 256+256 | global"),
        (Strided(128), "strided 128"),
        (Strided(128, "column"), "strided 128 (column)"),
        (Fixed(128, 8), "fixed 128, 8 in summary"),
        (Fixed(128, 8, "summary", 16), "fixed 128, 8 in summary 16 before the end (summary)"),
        (Fixed(128, 8, "block") | Window(4, 0), "fixed 128, 8 in summary (block) | window 4+0"),
        (PerHead((Window(32, 32), 4), (Full(), 8)), "per head: 4 x window 32+32, 8 x full"),
    ],
)
def test_patterns_print_in_a_few_words(pattern, text):
    assert str(pattern) == text


def test_patterns_are_frozen():
    with pytest.raises(FrozenInstanceError):
        Window(1, 1).before = 2
    with pytest.raises(FrozenInstanceError):
        PerHead((Full(), 1)).groups = ()


def test_longformer_attention_windows():
    assert Window.from_attention_window(512) == Window(256, 256)
    for wrong in (511, 0, -2, 512.0, True):
        with pytest.raises(InputError, match=f"attention_window is {wrong}"):
            Window.from_attention_window(wrong)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Window(-1, 2), r"Window: before is -1; it must be an integer from 0"),
        (lambda: Window(1, 2.0), r"Window: after is 2\.0"),
        (lambda: Window(1, True), r"Window: after is True"),
        (lambda: Window("3", 2), r"Window: before is '3'"),
        (lambda: Window(1, 2, dilation=0), r"Window: dilation is 0; it must be an integer from 1"),
        (lambda: Window(10**30, 2), r"Window: before is 10*; .* to 2147483647"),
        (lambda: Window(10**5000, 2), r"before is of type int, too large to show"),
        (lambda: Full(causal=1), r"Full: causal is 1; it must be True or False"),
        (lambda: Strided(0), r"Strided: stride is 0; it must be an integer from 1"),
        (lambda: Strided(4, "rows"), r"Strided: part is 'rows'; it must be one of 'both', 'local', 'column'"),
        (lambda: Strided(4, None), r"Strided: part is None"),
        (lambda: Fixed(4, 0), r"Fixed: summary is 0; it must be an integer from 1"),
        (lambda: Fixed(4, 1, "column"), r"Fixed: part is 'column'; it must be one of 'both', 'block', 'summary'"),
        (lambda: Fixed(4, 1, offset=-1), r"Fixed: offset is -1; it must be an integer from 0"),
        (lambda: Fixed(4, 3, offset=2), r"summary is 3 and offset 2; together they must fit into the block of 4"),
        (lambda: PerHead(), r"no groups"),
        (lambda: PerHead(Window(1, 1)), r"a group is Window.*must be \(pattern, heads\)"),
        (lambda: PerHead((Window(1, 1), 0)), r"PerHead: heads is 0"),
        (lambda: PerHead((PerHead((Full(), 1)), 2)), r"inside another PerHead"),
        (lambda: Full().mask(-1), r"queries is -1"),
        (lambda: Full().mask(2.5), r"queries is 2\.5"),
        (lambda: Full().pairs(3, keys=-2), r"keys is -2"),
        (
            lambda: Full().mask(3, query_start=-(2**31)),
            r"query_start is -2147483648; it must be an integer",
        ),
        (lambda: Full().mask(3, flags=torch.ones(3)), r"flags are torch.float32; .*boolean"),
        (lambda: Full().mask(3, flags=[True] * 3), r"flags are list"),
        (lambda: Global().pairs(3, flags=torch.ones(2, 4, dtype=torch.bool)), r"shape \[2, 4\].*the 3 keys"),
        (lambda: Full().mask(3, buckets=torch.zeros(3)), r"buckets were given to 'full', which is not hashed"),
        (lambda: Full().text(3, width=0), r"picture: width is 0"),
        (lambda: Full().svg(0), r"0 queries and 0 keys"),
        (lambda: Global().svg(3, flags=torch.ones(2, 3, dtype=torch.bool)), r"shape \[2, 3\].*one text"),
    ],
)
def test_wrong_values_are_named_and_quoted(build, message):
    with pytest.raises(InputError, match=message) as caught:
        build()
    assert "\n" not in str(caught.value)


WINDOW = {"pattern": "window", "before": 1, "after": 1, "dilation": 1}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "description is None"),
        ([WINDOW], "description is \\["),
        ("window", "description is 'window'"),
        ({}, "type is None; it must be one of chunks, fixed, full, global"),
        ({"pattern": "windw"}, "type is 'windw'"),
        ({"pattern": ["window"]}, "type is \\["),
        ({"pattern": "window", "before": 1}, "missing field 'after', missing field 'dilation'"),
        ({**WINDOW, "heads": 2}, "unknown field 'heads'; the fields are: before, after, dilation"),
        ({"pattern": "global", "x" * 5000: 2}, "unknown field 'xxx"),
        ({**WINDOW, 7: 2}, "unknown field 7"),
        ({**WINDOW, "before": True}, "before is True"),
        ({**WINDOW, "after": 1.0}, "after is 1.0"),
        ({**WINDOW, "dilation": -1}, "dilation is -1"),
        ({**WINDOW, "before": "1"}, "before is '1'"),
        ({**WINDOW, "before": "1" * 100_000}, "before is '1"),
        ({**WINDOW, "before": None}, "before is None"),
        ({"pattern": "full", "causal": 0}, "causal is 0"),
        ({"pattern": "strided", "stride": 4, "part": "rows"}, "part is 'rows'"),
        ({"pattern": "strided", "stride": 4, "part": ["both"]}, "part is \\["),
        ({"pattern": "fixed", "stride": 4, "summary": 5, "part": "both", "offset": 0}, "fit into the block of 4"),
        ({"pattern": "union", "parts": [WINDOW]}, "two patterns or more"),
        ({"pattern": "union", "parts": {"0": WINDOW}}, "parts is"),
        ({"pattern": "union", "parts": [WINDOW, 3]}, "description is 3"),
        ({"pattern": "per_head", "groups": []}, "no groups"),
        ({"pattern": "per_head", "groups": [WINDOW]}, r"list of \[pattern, heads\]"),
        ({"pattern": "per_head", "groups": [[WINDOW, "4"]]}, "heads is '4'"),
    ],
)
def test_wrong_descriptions_are_refused(data, message):
    with pytest.raises(InputError, match=message) as caught:
        pattern_from_dict(data)
    assert len(str(caught.value)) < 400


def test_endless_nesting_is_refused():
    data = WINDOW
    for _ in range(5000):
        data = {"pattern": "union", "parts": [data, WINDOW]}
    with pytest.raises(InputError, match="more than 8 patterns deep"):
        pattern_from_dict(data)


junk = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.sampled_from(sorted(Pattern.kinds)),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["pattern", "parts", "groups", "before", "after", "dilation", "stride", "part"]), inner
        )
    ),
)


@given(junk)
def test_junk_is_refused_or_read_never_worse(data):
    with contextlib.suppress(InputError):
        assert isinstance(pattern_from_dict(data), Pattern)
