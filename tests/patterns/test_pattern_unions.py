"""The algebra of `|`."""

import pytest
import torch
from hypothesis import given
from pattern_strategies import flat, places, windows

from gossamer.errors import InputError
from gossamer.patterns import Fixed, Full, Global, PerHead, Strided, Union, Window


def joined(one, other):
    try:
        return one | other
    except InputError:
        return None


@given(flat, flat, places())
def test_a_union_sees_what_either_sees(one, other, place):
    both = joined(one, other)
    if both is not None:
        assert torch.equal(both.mask(**place), one.mask(**place) | other.mask(**place))


@given(flat, flat)
def test_the_order_does_not_matter(one, other):
    assert joined(one, other) == joined(other, one)
    assert one | one == one
    assert hash(joined(one, other)) == hash(joined(other, one))


@given(windows, windows, windows)
def test_grouping_does_not_matter(one, other, third):
    left, right = (one | other) | third, one | (other | third)
    assert torch.equal(left.mask(30), right.mask(30))
    assert Full() | left == Full()


def test_windows_merge():
    assert Window(3, 1) | Window(2, 5) == Window(3, 5)
    assert Window(3, 1, 4) | Window(2, 5, 4) == Window(3, 5, 4)
    assert Window(4, 4) | Window(2, 2, dilation=2) == Window(4, 4)
    assert Window(0, 0, dilation=5) | Window(1, 1, dilation=2) == Window(1, 1, dilation=2)
    assert Full(causal=True) | Window(9, 0, dilation=3) == Full(causal=True)
    assert Full() | Global() == Global() | Full() == Full(causal=True) | Full() == Full()


def test_strided_patterns_merge():
    assert Strided(4, "column") | Strided(4, "local") == Strided(4)
    assert Strided(4) | Window(4, 0) | Window(3, 0, dilation=8) | Window(2, 0, dilation=2) == Strided(4)
    assert Strided(4, "local") | Window(9, 1) == Window(9, 1)
    assert Strided(4) | Strided(8, "column") | Strided(3, "local") == Strided(4)
    assert Strided(4) | Full(causal=True) == Full(causal=True)
    for one, other in ((Window(5, 0), Strided(4)), (Window(1, 1), Strided(4)), (Strided(4), Strided(6, "column"))):
        assert isinstance(one | other, Union)


def test_fixed_patterns_merge():
    assert Fixed(8, 2, "block") | Fixed(8, 2, "summary") == Fixed(8, 2)
    assert Fixed(8, 2) | Fixed(8, 3, "summary", 2) == Fixed(8, 5)
    assert Fixed(8, 4, "summary") | Fixed(8, 1, "summary", 1) == Fixed(8, 4, "summary")
    assert Fixed(8, 2) | Window(0, 0) == Fixed(8, 2)
    assert Fixed(8, 2, "block") | Window(7, 2) == Window(7, 2)
    assert Fixed(8, 2, "block") | Strided(7) == Strided(7)
    assert Fixed(8, 2) | Full(causal=True) == Full(causal=True)
    for one, other in ((Fixed(8, 1), Fixed(8, 1, offset=2)), (Fixed(8, 1), Fixed(4, 1)), (Fixed(8, 1), Window(0, 1))):
        assert isinstance(one | other, Union)


def test_unions_flatten_in_a_fixed_order():
    union = Global() | (Window(2, 2, dilation=2) | Window(1, 1))
    assert union.parts == (Window(1, 1), Window(2, 2, dilation=2), Global())
    assert union == (Window(1, 1) | Global()) | Window(2, 2, dilation=2)


def test_exact_unions():
    assert (Window(2, 2) | Global()).exact
    assert (Global() | Window(2, 2, dilation=3)).exact
    assert (Window(2, 2, dilation=3) | Strided(8)).exact
    assert (Fixed(8, 2, offset=1) | Window(2, 0)).exact
    assert not (Fixed(8, 2) | Strided(4)).exact
    assert not (Fixed(8, 2) | Fixed(6, 2)).exact
    assert not (Strided(4) | Window(2, 1) | Window(2, 2, dilation=2)).exact
    assert not (Window(2, 2) | Window(2, 2, dilation=2)).exact
    assert not (Window(2, 2) | Window(2, 2, dilation=2) | Global()).exact
    assert not (Full(causal=True) | Window(0, 1)).exact


@pytest.mark.parametrize(
    "causal",
    [Full(causal=True), Window(4, 0), Window(4, 0) | Window(4, 0, dilation=2), Strided(4), Fixed(4, 1)],
    ids=str,
)
def test_global_tokens_are_refused_with_a_causal_pattern(causal):
    for union in (lambda: causal | Global(), lambda: Global() | causal):
        with pytest.raises(InputError, match=r"cannot be joined with the causal '.*sees later tokens"):
            union()


def test_heads_are_refused_in_a_union():
    heads = PerHead((Window(1, 1), 2))
    assert heads | heads == heads
    for union in (lambda: heads | Global(), lambda: Full() | heads, lambda: Union((Window(1, 1), heads))):
        with pytest.raises(InputError, match="put the union inside each group"):
            union()


def test_a_union_is_written_with_a_bar():
    assert Union((Window(1, 1), Global())) == Window(1, 1) | Global()
    with pytest.raises(InputError, match=r"write Global\(\) \| Window\(.*\) instead"):
        Union((Global(), Window(1, 1)))
    with pytest.raises(InputError, match="can be merged"):
        Union((Window(1, 1), Window(2, 2)))
    with pytest.raises(InputError, match="two patterns or more"):
        Union((Window(1, 1),))
    with pytest.raises(InputError, match="each must be a single pattern"):
        Union((Window(1, 1), "global"))
    with pytest.raises(TypeError):
        Window(1, 1) | "global"
