"""Whole numbers: Python's and NumPy's, not true, false or 1.0; what is refused is quoted with what is allowed."""

import numpy as np
import pytest

from gossamer.checks import as_python, is_whole, require_whole
from gossamer.errors import InputError


@pytest.mark.parametrize("value", [0, 7, np.int64(3), np.uint8(1), 10**400], ids=repr)
def test_whole_numbers(value: object) -> None:
    assert is_whole(value)


@pytest.mark.parametrize("value", [True, False, np.True_, -1, 1.0, np.float32(1), "1", None, float("nan")], ids=repr)
def test_others_are_none(value: object) -> None:
    assert not is_whole(value)


def test_the_range_holds_both_ends() -> None:
    assert [is_whole(value, 2, 4) for value in (1, 2, 4, 5)] == [False, True, True, False]


def test_what_is_refused_is_told_with_what_is_allowed() -> None:
    require_whole("top_k", 1)
    with pytest.raises(InputError, match=r"^top_k is 0; it must be a whole number of tokens, 1 or more, or None$"):
        require_whole("top_k", 0, of="tokens", instead="None")
    with pytest.raises(InputError, match=r"^step is -1; it must be a whole number, 0 or more$"):
        require_whole("step", -1, 0)


def test_what_numpy_made_is_pythons() -> None:
    given = {np.int64(1): np.array([2, 3]), "a": (np.float32(0.5), {4}), "b": range(2), "c": [np.True_, "x", None]}
    made = as_python(given)
    assert made == {1: [2, 3], "a": (0.5, [4]), "b": [0, 1], "c": [True, "x", None]}
    assert [type(one) for one in (*made, made["a"][0], made["c"][0])] == [int, str, str, str, float, bool]
