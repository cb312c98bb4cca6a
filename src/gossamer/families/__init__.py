"""Public checkpoint formats, one folder each; adding one is filling in a form (docs/families.md)."""

from collections.abc import Iterable

from gossamer.errors import InputError, quote
from gossamer.families import (
    albert,
    bart,
    bert,
    deberta_v2,
    distilbert,
    electra,
    gpt2,
    led,
    llama,
    longformer,
    marian,
    modernbert,
    mpnet,
    native,
    reformer,
    roberta,
    t5,
)
from gossamer.families.base import Config, Family, Field, HeadForm
from gossamer.models.architecture import Architecture

__all__ = ["FAMILIES", "NATIVE", "Config", "Family", "Field", "HeadForm", "family_for", "get_family"]

NATIVE = native.FAMILY
_ALL = (
    bert.FAMILY,
    roberta.FAMILY,
    roberta.XLM_ROBERTA,
    roberta.CAMEMBERT,
    distilbert.FAMILY,
    albert.FAMILY,
    electra.FAMILY,
    longformer.FAMILY,
    gpt2.FAMILY,
    llama.FAMILY,
    modernbert.FAMILY,
    mpnet.FAMILY,
    deberta_v2.FAMILY,
    reformer.FAMILY,
    bart.FAMILY,
    led.FAMILY,
    marian.FAMILY,
    t5.FAMILY,
    NATIVE,
)
FAMILIES: dict[str, Family] = {one.model_type: one for one in _ALL}


def get_family(name: object, architectures: Iterable[str] = ()) -> Family:
    """The family of a model_type; InputError lists the known ones, and what to write where there is no model_type.

    architectures: the classes that the same config.json names, from which a missing model_type can be told.
    """
    if name is None:
        told = next((one.model_type for one in FAMILIES.values() if _names_any(one, architectures)), None)
        remedy = f"one of {', '.join(sorted(FAMILIES))}" if told is None else f'"{told}", as its architectures say'
        raise InputError(f'model_type is missing; add "model_type": {remedy}')
    if not isinstance(name, str) or name not in FAMILIES:
        raise InputError(f"model_type is {quote(name)}; Gossamer reads {', '.join(sorted(FAMILIES))}")
    return FAMILIES[name]


def _names_any(family: Family, architectures: Iterable[str]) -> bool:
    classes = {family.bare, *(name for form in family.heads.values() for name in form.architectures)}
    return not classes.isdisjoint(architectures)


def family_for(architecture: Architecture, preferred: str) -> Family:
    """The format to save in: the model's own if that can hold it, else any public one that can, else the native one."""
    candidates = [FAMILIES[preferred]] if preferred in FAMILIES else []
    candidates += [one for one in FAMILIES.values() if one.public]
    return next((one for one in candidates if one.expresses(architecture)), NATIVE)
