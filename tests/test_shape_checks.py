"""What checks shapes while tests run: it finds what goes through, and lets refusals be heard."""

import importlib
import os
from pathlib import Path

import pytest
import torch
from jaxtyping import Float, TypeCheckError
from shape_checks import PARTS, check_after_call, check_if_shaped
from torch import Tensor

from gossamer.errors import InputError
from gossamer.layers import count_positions

Row = Float[Tensor, "columns"]


def weigh(table: Float[Tensor, "rows columns"], row: Row) -> Float[Tensor, " rows"]:
    if row.dtype == torch.float16:
        raise InputError("row is half; take float")
    return (table * row).sum(dim=1)


def weigh_wrongly(table: Float[Tensor, "rows columns"], row: "Row") -> Row:
    return (table * row).sum(dim=1)


def add(a: int, b: int) -> int:
    return a + b


def checked(function):
    return check_if_shaped(check_after_call, function)


def test_right_shapes_pass() -> None:
    assert torch.equal(checked(weigh)(torch.ones(2, 3), torch.ones(3)), torch.full((2,), 3.0))


@pytest.mark.parametrize("row", [torch.ones(1), torch.ones(3, dtype=torch.int64), torch.ones(2, 3)], ids=str)
def test_a_wrong_argument_that_goes_through_is_found(row: Tensor) -> None:
    weigh(torch.ones(2, 3), row)
    with pytest.raises(TypeCheckError):
        checked(weigh)(torch.ones(2, 3), row)


def test_a_wrong_result_is_found() -> None:
    with pytest.raises(TypeCheckError):
        checked(weigh_wrongly)(torch.ones(2, 3), torch.ones(3))


def test_a_refusal_is_heard_before_the_check() -> None:
    with pytest.raises(InputError, match="row is half"):
        checked(weigh)(torch.ones(2, 3), torch.ones(1, dtype=torch.float16))


def test_what_says_no_shape_and_what_lies_inside_of_a_call_stays_as_it_is() -> None:
    def inner(x: Row) -> Row:
        return x

    assert checked(add) is add
    assert checked(inner) is inner
    assert checked(Tensor) is Tensor


@pytest.mark.parametrize("part", PARTS)
def test_protocols_can_be_checked_at_a_call(part: str) -> None:
    """Where one can not, nothing of the package can be imported with the checks on."""
    folder = Path(importlib.import_module(part).__path__[0])
    files = [file.relative_to(folder.parent.parent).with_suffix("") for file in sorted(folder.rglob("*.py"))]
    modules = [importlib.import_module(".".join(file.parts)) for file in files]
    classes = {value for module in modules for value in vars(module).values() if isinstance(value, type)}
    protocols = {one for one in classes if vars(one).get("_is_protocol") and one.__module__.startswith("gossamer")}
    assert [one for one in protocols if not getattr(one, "_is_runtime_protocol", False)] == []


@pytest.mark.skipif(os.environ.get("GOSSAMER_CHECK_SHAPES") != "1", reason="shapes are checked if it is set")
def test_the_package_is_checked() -> None:
    with pytest.raises(TypeCheckError):
        count_positions(torch.ones(2, 3, dtype=torch.bool), torch.zeros(1, 3, dtype=torch.int64))
