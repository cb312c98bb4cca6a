"""F1 from counts, against precision and recall of sets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossamer.errors import InputError
from gossamer.metrics.labels import f1

SETS = st.sets(st.integers(0, 12))


@given(found=SETS, wanted=SETS)
def test_it_is_the_harmonic_mean_of_precision_and_recall(found: set[int], wanted: set[int]) -> None:
    right = len(found & wanted)
    value = f1(right, len(found), len(wanted))
    if right:
        precision, recall = right / len(found), right / len(wanted)
        assert value == pytest.approx(2 * precision * recall / (precision + recall))
    else:
        assert value == (0 if found or wanted else None)


@pytest.mark.parametrize(("right", "found", "wanted"), [(3, 2, 4), (3, 4, 2), (-1, 2, 2)])
def test_counts_that_cannot_be(right: int, found: int, wanted: int) -> None:
    with pytest.raises(InputError, match=f"right is {right}; it must be from 0 to what was found, {found}, and wanted"):
        f1(right, found, wanted)
