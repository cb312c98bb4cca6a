"""Shapes and types of the calls inside `kernels`, `layers`, `models` and `generation`, checked while tests run."""

import functools
import re
from collections.abc import Callable
from types import FunctionType
from typing import Any

import jaxtyping
import torch
from beartype import BeartypeConf, beartype

__all__ = ["check_after_call", "check_if_shaped", "check_shapes"]

PARTS = ["gossamer.kernels", "gossamer.layers", "gossamer.models", "gossamer.generation"]
KINDS = ("Float[", "Int[", "Bool[")
JAXTYPED = jaxtyping.jaxtyped
BEARTYPE = beartype(conf=BeartypeConf(is_pep484_tower=True))  # a whole number is a float, as for mypy


def check_shapes() -> None:
    """Check the functions of what is imported from here on."""
    jaxtyping.install_import_hook(PARTS, f"{__name__}.check_after_call")
    jaxtyping.jaxtyped = jaxtyped_outside


def jaxtyped_outside(*, typechecker: Any) -> Callable[[Any], Any]:
    """`jaxtyped` for functions that say a shape: all other types are mypy's, and checks take longer than small calls.

    Classes stay as they are, since torch.compile cannot trace an `__init__` that is wrapped, and functions inside of
    others, which would be prepared anew at each call.
    """
    return functools.partial(check_if_shaped, typechecker)


def check_if_shaped(typechecker: Any, made: Any) -> Any:
    """`made` with its calls checked, if it is a function of a module or class with a shape in its annotations."""
    is_function = isinstance(made, FunctionType) and "<locals>" not in made.__qualname__
    if not (is_function and _says_a_shape(made)):
        return made
    checked = JAXTYPED(made, typechecker=typechecker)

    @functools.wraps(made)
    def call(*args: Any, **kwargs: Any) -> Any:
        # Where torch reads along nothing is checked: it can trace neither the checks nor what they hold on to.
        return (made if torch.compiler.is_compiling() else checked)(*args, **kwargs)

    return call


def _says_a_shape(function: FunctionType) -> bool:
    """Whether an annotation is `Float[...]` or a name that stands for one."""
    hints = " ".join(map(str, function.__annotations__.values()))
    named = (str(function.__globals__.get(name, "")) for name in re.findall(r"\w+", hints))
    return any(kind in text for text in (hints, *named) for kind in KINDS)


def check_after_call(function: Callable[..., Any]) -> Callable[..., Any]:
    """`beartype`, but only for what jaxtyping calls when a call has come back, with its arguments and its result.

    What it calls beforehand, with the arguments alone, returns `Any`. So whoever is handed something that its
    annotations do not allow may refuse it in its own words; what must not happen is that it goes through.
    """
    return function if function.__annotations__.get("return") is Any else BEARTYPE(function)
