"""The native form: one field, the architecture; our own tensor names."""

import dataclasses
from collections.abc import Iterable
from typing import Any

from gossamer.errors import InputError
from gossamer.families.base import Config, Family
from gossamer.families.stored import Stored
from gossamer.models.architecture import Architecture
from gossamer.models.head_settings import Head, SentenceEmbedding

__all__ = ["FAMILY", "NativeFamily"]


class NativeFamily(Family):
    """Reads and writes `{"model_type": "gossamer", "architecture": {...}}`; names are what `state_dict` says."""

    def read(self, config: Config, *, head: str | Head | None = None, pooler: bool = False) -> Architecture:
        """The architecture in the file; `head` replaces a head of another kind, `pooler` is read from the file."""
        architecture = Architecture.from_dict(config.get("architecture"))
        if head is None:
            return architecture
        if isinstance(head, str) and (architecture.head is None or architecture.head.kind != head):
            raise InputError(f"head is {head!r}; this checkpoint was saved without one: leave head out")
        is_asked_kind = head == SentenceEmbedding() and isinstance(architecture.head, SentenceEmbedding)
        if isinstance(head, str) or is_asked_kind:
            return architecture
        return dataclasses.replace(architecture, head=head)

    def write(self, architecture: Architecture) -> dict[str, Any]:
        """The one field."""
        return {"architecture": architecture.to_dict()}

    def has_head(self, head: Head) -> bool:
        """Every head."""
        return True

    def places(self, ours: Iterable[str], architecture: Architecture) -> dict[str, tuple[Stored, ...]]:
        """Every tensor under its own name, as it is."""
        return {name: (Stored(name=name),) for name in ours}

    def is_ignored(self, canonical: str, architecture: Architecture) -> bool:
        """Whether the tensor belongs to a head or pooler that was left out on purpose."""
        left_out = [
            part for part, there in (("head.", architecture.head), ("pooler.", architecture.pooler)) if not there
        ]
        return canonical.startswith(tuple(left_out))


FAMILY = NativeFamily(
    model_type="gossamer",
    prefix="",
    bare="GossamerModel",
    fields=(),
    keys={},
    public=False,
)
