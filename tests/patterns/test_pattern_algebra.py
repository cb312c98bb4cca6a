"""The algebra of patterns, enumerated over tiny numbers against masks: covering, merging, counting, at every place."""

from collections.abc import Iterator
from itertools import product

import pytest
import torch
from torch import Tensor

from gossamer.errors import InputError
from gossamer.patterns import Chunks, Fixed, Full, Pattern, PerHead, Prefix, Sink, Strided, Union, Window

LONG = 24
PLACES = [(q, k, s) for q, k in product((0, 1, 2, 3, 7), (0, 1, 2, 3, 6, 9)) for s in (-8, -3, -1, 0, 1, 2, 5, 11)]
SIZES = [(1, 1), (1, 4), (2, 3), (3, 3), (4, 2)]


def windows() -> Iterator[Window]:
    yield from (Window(b, a, d) for b, a, d in product((0, 1, 2, 3, 4), (0, 1, 2), (1, 2, 3)))


def strided() -> Iterator[Strided]:
    yield from (Strided(stride, part) for stride in (1, 2, 3, 4) for part in ("both", "local", "column"))


def fixed() -> Iterator[Fixed]:
    for stride in (1, 2, 3, 4):
        for summary in range(1, stride + 1):
            for offset in range(stride - summary + 1):
                yield from (Fixed(stride, summary, part, offset) for part in ("both", "block", "summary"))


def others() -> Iterator[Pattern]:
    for n in (1, 2, 3, 4, 9):
        yield from (Sink(n), Prefix(n), Chunks(n), Chunks(n, causal=False))
        yield from (Chunks(n, before=1), Chunks(n, False, 2, 1), Chunks(n, False, after=1))


SINGLES: list[Pattern] = [Full(), Full(causal=True), *windows(), *strided(), *fixed(), *others()]
MASKS = {one: one.mask(LONG) for one in SINGLES}


@pytest.mark.parametrize("kind", [Full, Window, Strided, Fixed, Sink, Prefix, Chunks])
def test_covering_is_said_where_every_pair_is_seen_and_nowhere_else(kind: type[Pattern]) -> None:
    """Also at the sizes where one number more or less decides, with queries before, among and behind the keys."""
    for pattern in (one for one in SINGLES if isinstance(one, kind)):
        for queries, keys, start in PLACES:
            seen = bool(pattern.mask(queries, keys, start).all())
            assert pattern.covers(queries, keys, start) == seen, (pattern, queries, keys, start)


@pytest.mark.parametrize("kind", [Full, Window, Strided, Fixed, Sink, Prefix, Chunks])
def test_what_two_patterns_make_is_the_union_of_their_masks(kind: type[Pattern]) -> None:
    """Some 10^4 pairs: a merged pattern, which replaces both, sees exactly what either sees, in either order."""
    merged = 0
    for one in (single for single in SINGLES if isinstance(single, kind)):
        for other in SINGLES:
            both = one | other
            assert both == other | one
            assert torch.equal(both.mask(LONG), MASKS[one] | MASKS[other]), (one, other)
            merged += not isinstance(both, Union)
    assert merged > len(SINGLES) / 8


def test_containing_is_said_of_what_sees_no_more() -> None:
    """Both ways: what is contained at every length is merged, what is not is kept."""
    for one, other in product([*windows(), *strided()], repeat=2):
        contains = bool((MASKS[one] | ~MASKS[other]).all())
        if type(one) is type(other) or (isinstance(one, Strided) and isinstance(other, Window)):
            assert one.contains(other) == contains, (one, other)


@pytest.mark.parametrize("union", [False, True])
def test_pairs_are_counted_without_the_mask(union: bool) -> None:
    patterns = SINGLES
    if union:
        beside = [Window(1, 0), Window(2, 0, 2), Window(1, 2), Window(4, 0, 3), Window(9, 0)]
        patterns = [one | window for one in (*strided(), *fixed(), *others()) for window in beside]
    for i, pattern in enumerate(patterns):
        for queries, keys, start in PLACES[i % 11 :: 11]:
            mask = pattern.mask(queries, keys, start)
            assert pattern.pairs(queries, keys, start) == int(mask.sum()), (pattern, queries, keys, start)


@pytest.mark.parametrize(
    ("pattern", "pairs"),
    [
        (Fixed(128, 8), 10**9 * 129 // 2 + 128 * 8 * (7812500 * 7812499 // 2)),
        (Fixed(2**31 - 1, 2**31 - 1), 10**9 * (10**9 + 1) // 2),
        (Fixed(128, 8) | Window(127, 0), None),
        (Strided(128) | Window(300, 7, 5), None),
        (PerHead((Fixed(128, 8), 3), (Strided(7), 2)), None),
        (Sink(4) | Window(1000, 0), 1001 * 10**9 - 500 * 1001 + 4 * (10**9 - 1004) + 6),
        (Prefix(5), 10**9 * (10**9 + 1) // 2 + 10),
        (PerHead((Chunks(10**4), 1), (Chunks(10**4, causal=False), 1)), 10**9 * 10_001 // 2 + 10**13),
        (Chunks(1000) | Window(7, 3), None),
    ],
    ids=str,
)
def test_a_billion_tokens_are_counted_in_no_memory(pattern: Pattern, pairs: int | None) -> None:
    found = pattern.pairs(10**9)
    assert pairs is None or found == pairs
    # Counts of some queries and of the others add up.
    last = 10**9 - 1000
    assert found == pattern.pairs(last, 10**9) + pattern.pairs(1000, 10**9, last)


def test_queries_before_the_keys_see_what_reaches_them() -> None:
    assert Window(1, 2).mask(4, 3, -3).int().tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 1]]
    assert Full(causal=True).mask(4, 3, -1).int().tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 1]]
    assert Full().mask(2, -0, -2).shape == (2, 0)
    assert Window(1, 1).mask(3, query_start=-2).shape == (3, 1)


def own(name: str, kind: str) -> type[Pattern]:
    """A class of one's own, made in a place of that name."""

    class Own(Pattern, kind=kind):
        causal = True

        def allowed(self, query_positions: Tensor, key_positions: Tensor, *flags: Tensor | None) -> Tensor:
            return key_positions[..., None, :] <= query_positions[..., :, None]

        def covers(self, queries: int, keys: int, query_start: int = 0) -> bool:
            return False

        def __str__(self) -> str:
            return name

    return Own


def test_two_classes_of_one_kind_are_refused() -> None:
    """The descriptions of one would be read as the other's; the same definition run again is no second class."""
    first = own("a", "own of a test")
    assert own("a", "own of a test") is not first
    with pytest.raises(InputError, match=r"pattern .*Second: the kind 'own of a test' is .*Own's; declare it with"):
        type("Second", (Pattern,), {"__module__": "elsewhere"}, kind="own of a test")
    with pytest.raises(InputError, match=r"the kind 'window' is gossamer\.patterns\.window\.Window's"):
        type("Window", (Pattern,), {"__module__": "elsewhere"}, kind="window")
    assert Pattern.kinds["window"] is Window


@pytest.mark.parametrize("base", [Window, Full, Fixed, Strided, PerHead, Union, Sink, Prefix, Chunks])
def test_a_finished_pattern_is_not_derived_from(base: type[Pattern]) -> None:
    """Its pieces and its merging would be taken for those of the new class, whatever that means."""
    with pytest.raises(InputError, match=f"derived from {base.__name__}, whose pieces .*; derive it from Pattern"):
        type("Mine", (base,), {}, kind="mine of a test")
    assert "mine of a test" not in Pattern.kinds


@pytest.mark.parametrize("stride", range(1, 6))
def test_blocks_merge_into_what_reaches_as_far_back(stride: int) -> None:
    for offset, reach in product(range(stride), range(7)):
        block = Fixed(stride, 1, "block", offset)
        for near in (Window(reach, 0), Window(reach, 2), Strided(reach, "local"), Strided(reach)) if reach else ():
            assert (block | near == near) == (reach >= stride - 1), (block, near)
