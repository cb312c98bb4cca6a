"""What a pattern of one's own may answer, and in which words wrong answers are refused."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from gossamer import Full, InputError, PerHead, Window, attend
from gossamer.kernels import attention_rows, explain
from gossamer.models import Architecture, Attention, Cache, Embeddings, FeedForward, Layer, Positions
from gossamer.models.cache.plan import begin
from gossamer.patterns import Band, Cells, Kept, Pattern, Pieces, pattern_from_dict


class Earlier:
    """All that a pattern must say: every query sees itself and what comes before."""

    causal = True

    def allowed(self, query_positions: Any, key_positions: Any, *flags: Any) -> Any:
        return key_positions[..., None, :] <= query_positions[..., :, None]

    def covers(self, queries: int, keys: int, query_start: int = 0) -> bool:
        return False

    def __str__(self) -> str:
        return "earlier"


def own(**answers: Any) -> Pattern:
    """One that answers so; a value stands for the function that gives it."""
    functions = {
        name: value if callable(value) else lambda *rest, value=value: value for name, value in answers.items()
    }
    made = type("Own", (Earlier, Pattern), functions, kind="own, of a test")
    return dataclass(frozen=True)(made)()


Q = torch.randn(1, 2, 9, 4)


def test_dataclasses_with_slots_are_patterns() -> None:
    for _ in range(2):  # and so is the same definition run again

        @dataclass(frozen=True, slots=True)
        class Slotted(Earlier, Pattern, kind="slotted, of a test"):
            far: int = 1

        assert Pattern.kinds["slotted, of a test"] is Slotted
        assert pattern_from_dict(Slotted(3).to_dict()) == Slotted(3)
        assert torch.equal(attend(Q, Q, Q, Slotted()), attend(Q, Q, Q, Full(causal=True), backend="reference"))


@pytest.mark.parametrize("kind", [None, 3, ""])
def test_a_class_without_a_kind_is_refused(kind: Any) -> None:
    options = {} if kind is None else {"kind": kind}
    with pytest.raises(InputError, match=rf"Own: its kind is {kind!r}; give it a name of its own, as in class Own"):
        type("Own", (Earlier, Pattern), {}, **options)
    with pytest.raises(InputError, match="the type is 'nothing'; it must be one of chunks, "):
        pattern_from_dict({"pattern": "nothing"})


def test_the_attribute_kind_is_held_to_the_same() -> None:
    with pytest.raises(InputError, match=r"Own: the kind 'window' is gossamer.patterns.window.Window's"):
        type("Own", (Earlier, Pattern), {"kind": "window"})


@pytest.mark.parametrize("decorated", [lambda cls: cls, dataclass, dataclass(frozen=False, eq=True)])
def test_what_is_no_frozen_dataclass_is_refused(decorated: Any) -> None:
    made = decorated(type("Own", (Earlier, Pattern), {}, kind="own, of a test"))
    with pytest.raises(InputError, match=r"Own: it is no frozen dataclass, .* put @dataclass\(frozen=True\) above"):
        made()


@pytest.mark.parametrize(
    ("name", "value", "remedy"),
    [
        ("causal", lambda self: False, "a value or a property, no method"),
        ("period", lambda self: 1, "a value or a property, no method"),
        ("sees_flags", lambda self: False, "a value or a property, no method"),
        ("pieces", Pieces(), "it must be a method"),
        ("keeps", None, "it must be a method"),
        ("mask", 3, "it must be a method"),
    ],
)
def test_a_method_in_place_of_a_value_is_refused(name: str, value: Any, remedy: str) -> None:
    """A bound method counts as true: `causal` would be."""
    with pytest.raises(InputError, match=rf"Own: {name} is .*{remedy}"):
        type("Own", (Earlier, Pattern), {name: value}, kind="own, of a test")


def test_tuples_and_patterns_in_fields_come_back_from_json() -> None:
    @dataclass(frozen=True)
    class Nested(Earlier, Pattern, kind="nested, of a test"):
        sizes: tuple[Any, ...]
        inner: Pattern

    pattern = Nested((1, (2, Window(1, 0))), Window(2, 0) | Full(causal=True))
    assert pattern_from_dict(json.loads(json.dumps(pattern.to_dict()))) == pattern


def test_a_list_in_a_field_is_refused() -> None:
    @dataclass(frozen=True)
    class Listed(Earlier, Pattern, kind="listed, of a test"):
        sizes: list[int]

    for call in (attend, explain):
        with pytest.raises(InputError, match=r"pattern 'earlier' has a field that is no fixed value \(unhashable"):
            call(Q, Q, Q, Listed([1]))


SOUND = Band(low=None, high=0)


@pytest.mark.parametrize("wrong", [(SOUND,), SOUND, 3])
def test_pieces_of_another_type_are_refused(wrong: Any) -> None:
    with pytest.raises(InputError, match=r"pieces of 'earlier' gave .*; it must be gossamer.patterns.Pieces, or None"):
        attend(Q, Q, Q, own(pieces=wrong))


BACK = Window(1, 0)


@pytest.mark.parametrize(
    "wrong",
    [
        None, 2, (BACK, 2), ((BACK,),), ((BACK, 2.0),), ((BACK, True),), ((BACK, -1),), ((BACK, 2, 3),), [(BACK, 2)],
        (("window", 2),), ((PerHead((BACK, 2)), 2),),
    ],
    ids=str,
)  # fmt: skip
def test_groups_of_heads_of_another_form_are_refused(wrong: Any) -> None:
    pattern = own(by_head=lambda self, heads: wrong)
    words = (
        r"^by_head of 'earlier' gave .*; it must be a tuple of pairs \(pattern, heads\), each pattern one for all its"
    )
    for call in (attend, explain):
        with pytest.raises(InputError, match=words):
            call(Q, Q, Q, pattern)
    with pytest.raises(InputError, match=words):
        Attention(weights=0, heads=2, head_size=4, pattern=pattern)


def test_own_groups_of_heads_are_those_of_per_head() -> None:
    groups = PerHead((Window(2, 0), 1), (Full(causal=True), 1))

    @dataclass(frozen=True)
    class Grouped(Earlier, Pattern, kind="grouped, of a test"):
        differs_by_head = True

        def by_head(self, heads: int) -> tuple[tuple[Pattern, int], ...]:
            return groups.groups

        def allowed(self, *seen: Any) -> Any:
            return groups.allowed(*seen)

    assert torch.equal(attend(Q, Q, Q, Grouped()), attend(Q, Q, Q, groups))


@pytest.mark.parametrize(
    "numbers",
    [
        {"low": -2.0}, {"high": 1.5}, {"dilation": 0}, {"dilation": 2.0}, {"apart": -3}, {"stride": 4},
        {"stride": 4, "stop": 5}, {"stride": 4, "first": 2, "stop": 2}, {"stride": 4, "first": -1, "stop": 2},
        {"stride": 4, "stop": 2, "dilation": 2}, {"stop": 2}, {"own_block": True},
        {"own_block": True, "stride": 4, "low": None}, {"own_block": True, "stride": 4, "first": 3, "stop": 9},
    ],
    ids=str,
)  # fmt: skip
def test_bands_that_say_nothing_are_refused(numbers: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"^Band\(low=.*: low and high must be whole numbers or None, dilation 1"):
        Band(**{"low": -3, "high": 0, **numbers})


@pytest.mark.parametrize(("bands", "flagged"), [([SOUND], False), (SOUND, False), ((3,), False), ((SOUND,) * 2, True)])
def test_pieces_of_no_bands_or_too_many_are_refused(bands: Any, flagged: bool) -> None:
    with pytest.raises(InputError, match=r"Pieces: bands is .*; it must be a tuple of bands, of one at most where fl"):
        Pieces(bands, flagged=flagged)


@pytest.mark.parametrize("wrong", [Kept, (3,), None])
def test_what_a_cache_is_to_keep_is_checked(wrong: Any) -> None:
    with pytest.raises(InputError, match=r"keeps of 'earlier' gave .*; it must be gossamer.patterns.Kept"):
        cache(own(keeps=lambda self: wrong))


@pytest.mark.parametrize("numbers", [{"recent": -1}, {"recent": 2.0}, {"cells": [Cells(4, 0, 1)]}, {"cells": (3,)}])
def test_numbers_of_what_is_kept_are_checked(numbers: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"Kept\(.*: recent must be None or 0 or more, cells a tuple of Cells"):
        Kept(**numbers)


@pytest.mark.parametrize("numbers", [(4, 3, 2), (4, -1, 2), (4, 0, 5), (4.0, 0, 1)])
def test_cells_outside_of_their_block_are_refused(numbers: tuple[Any, ...]) -> None:
    with pytest.raises(InputError, match=r"Cells\(.*: these must be whole numbers, 0 <= first <= stop <= stride"):
        Cells(*numbers)


def cache(pattern: Pattern) -> Cache:
    layer = Layer(
        attention=Attention(pattern=pattern, heads=2, head_size=4, weights=0),
        feed_forward=FeedForward(width=8, weights=0),
    )
    embeddings = Embeddings(vocabulary_size=50, size=8, positions=Positions(length=40))
    return Cache(Architecture(hidden_size=8, embeddings=embeddings, layers=(layer,)))


def test_a_cache_that_keeps_less_than_is_seen_is_refused() -> None:
    """It would answer as if the query saw less."""
    forgetful = own(keeps=Kept(recent=3))
    chunk, _ = begin((7,), 1, None)
    with pytest.raises(InputError, match="'earlier' says that position 7 sees position 0, which its keeps does not"):
        chunk.plan(forgetful, torch.device("cpu"))
    begin((2,), 1, None)[0].plan(forgetful, torch.device("cpu"))


@pytest.mark.parametrize(
    "allowed", [lambda mask: mask.long(), lambda mask: mask[..., :-1], lambda mask: mask.numpy(), lambda mask: None]
)
@pytest.mark.parametrize(
    "inside", [lambda own: own, lambda own: PerHead((own, 1), (Full(), 1))], ids=["alone", "heads"]
)
def test_what_is_no_mask_is_refused_wherever_it_is_asked_for(allowed: Any, inside: Any) -> None:
    pattern = inside(own(allowed=lambda self, q, k, *rest: allowed(Earlier().allowed(q, k))))
    calls = (
        lambda: attend(Q, Q, Q, pattern), lambda: attention_rows(Q, Q, pattern, [1, 2]), lambda: pattern.mask(4, 6),
        lambda: pattern.pairs(4, 6),
    )  # fmt: skip
    for call in calls:
        with pytest.raises(InputError, match=r"^allowed of 'earlier' gave .*; it must be boolean, \[.*, \d, \d\]: \["):
            call()


@pytest.mark.parametrize("wrong", [torch.ones(3, dtype=torch.bool), torch.ones(9, dtype=torch.int64)])
def test_keys_that_are_near_are_a_mask_of_all_keys(wrong: torch.Tensor) -> None:
    """One of another length would leave keys out, and the weights of a row would still sum to 1."""
    with pytest.raises(InputError, match=r"near of 'earlier' gave .*; it must be boolean, \[9\]: \[keys\]"):
        attention_rows(Q, Q, own(near=wrong), [1, 2])
