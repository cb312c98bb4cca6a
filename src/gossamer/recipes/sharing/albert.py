"""A model as ALBERT's format has it, where that can hold it."""

from __future__ import annotations

from dataclasses import replace

from gossamer.errors import InputError
from gossamer.families import get_family
from gossamer.models.architecture import Architecture, differences

__all__ = ["as_albert"]


def as_albert(architecture: Architecture) -> tuple[Architecture, list[str]]:
    """The same model with what does not change its outputs as the format has it, if then that can hold it.

    That is a table of token types, and dropout where it has a rate. Else the architecture as it is, and what stands in
    the way.
    """
    family, head = get_family("albert"), architecture.head
    # A tokenizer gives the second of two texts type 1, whether or not the model had types to read.
    embeddings = replace(architecture.embeddings, token_types=architecture.embeddings.token_types or 2)
    fitted = replace(architecture, embeddings=embeddings)
    try:
        kind = head.kind if head is not None and head.kind in family.heads else head
        back = family.read(family.write(fitted), head=kind, pooler=architecture.pooler)
    except InputError as problem:
        return architecture, [str(problem)]
    back = replace(back, initializer=architecture.initializer)
    if all(line.partition(":")[0].endswith("dropout") for line in differences(fitted, back)):
        fitted = back
    obstacles = family.obstacles(fitted)
    return (architecture if obstacles else fitted), obstacles
