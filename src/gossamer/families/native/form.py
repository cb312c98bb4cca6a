"""The native form: the number of the format, the architecture, and names of its own for tensors.

What changes here gets the next number, and a step in `_UPGRADES` and `_KEYS` that reads what was written before.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Self

from gossamer.errors import InputError, quote
from gossamer.families.base import Config, Family, Key
from gossamer.models.architecture import Architecture
from gossamer.models.heads import Head, SentenceEmbedding
from gossamer.models.old_descriptions import with_length, with_norms

__all__ = ["FAMILY", "FORMAT", "NativeFamily"]

FORMAT = 4
"""The number that is written. Files without a number are of format 0."""


def _with_norms(fields: dict[str, Any]) -> dict[str, Any]:
    described = fields.get("architecture")
    return {**fields, "architecture": with_norms(described)} if isinstance(described, dict) else fields


def _with_length(fields: dict[str, Any]) -> dict[str, Any]:
    described = fields.get("architecture")
    return {**fields, "architecture": with_length(described)} if isinstance(described, dict) else fields


_UPGRADES: tuple[Callable[[dict[str, Any]], dict[str, Any]], ...] = (
    lambda fields: fields,
    _with_norms,
    _with_length,
    # Widths of 0, and weights that are compressed in their file.
    lambda fields: fields,
)
"""The fields of format n as those of format n + 1, by n."""

_OF_STACK = (
    *(f"embeddings.{part}" for part in ("word", "position", "token_type", "norm", "projection")),
    *(f"attention.{{layer}}.{part}" for part in ("query", "key", "value", "output", "norm", "output_norm")),
    *(f"attention.{{layer}}.{part}_global" for part in ("query", "key", "value")),
    *(f"attention.{{layer}}.relative_{part}" for part in ("query", "key")),
    *(f"attention.{{layer}}.{part}_norm" for part in ("query", "key")),
    *(f"cross_attention.{{layer}}.{part}" for part in ("query", "key", "value", "output", "norm", "output_norm")),
    *(f"cross_attention.{{layer}}.{part}_norm" for part in ("query", "key")),
    "distance_bias.{layer}",
    *(f"feed_forward.{{layer}}.{part}" for part in ("gate", "up", "down", "norm", "output_norm")),
    "final_norm",
)

_NAMES: Mapping[str, Key] = {
    ours: ours
    for ours in (
        *_OF_STACK,
        *(f"decoder.{part}" for part in _OF_STACK),
        *(f"head.{part}" for part in ("dense", "norm", "decoder", "bias", "output", "pair.dense", "pair.output")),
        "pooler",
    )
}
"""Our modules and tensors to their names in files: a module that is renamed keeps its name there."""

_KEYS: tuple[Mapping[str, Key], ...] = (_NAMES, _NAMES, _NAMES, _NAMES, _NAMES)
"""By the number of the format."""


class NativeFamily(Family):
    """Reads and writes `{"model_type": "gossamer", "format": 4, "architecture": {...}}`."""

    def read(self, config: Config, *, head: str | Head | None = None, pooler: bool = False) -> Architecture:
        """The architecture in the file; `head` replaces a head of another kind, `pooler` is read from the file."""
        architecture = Architecture.from_dict(_upgraded(config).get("architecture"))
        if head is None:
            return architecture
        if isinstance(head, str) and (architecture.head is None or architecture.head.kind != head):
            saved = "without one" if architecture.head is None else f"with {architecture.head.kind!r}"
            raise InputError(f"head is {head!r}; this checkpoint was saved {saved}: leave head out")
        is_asked_kind = head == SentenceEmbedding() and isinstance(architecture.head, SentenceEmbedding)
        if isinstance(head, str) or is_asked_kind:
            return architecture
        return dataclasses.replace(architecture, head=head)

    def write(self, architecture: Architecture) -> dict[str, Any]:
        """Both fields."""
        return {"format": FORMAT, "architecture": architecture.to_dict()}

    def usual_head(self, config: Config, kind: type[Head]) -> Head:
        """The model's own where it is of this kind."""
        architecture = self.read(config)
        return architecture.head if isinstance(architecture.head, kind) else kind.drawn_on(architecture)

    def has_head(self, head: Head) -> bool:
        """Every head."""
        return True

    def numbered_by(self, config: Config) -> Self:
        """With the names of the file's own format."""
        return dataclasses.replace(self, keys=_KEYS[_format_of(config)])

    def is_ignored(self, canonical: str, architecture: Architecture) -> bool:
        """Whether the tensor belongs to a head or pooler that was left out on purpose."""
        left_out = [
            part for part, there in (("head.", architecture.head), ("pooler.", architecture.pooler)) if not there
        ]
        return canonical.startswith(tuple(left_out))


def _format_of(config: Config) -> int:
    number = config.get("format", 0)
    if type(number) is not int or number < 0:
        raise InputError(f"format is {quote(number)}; it must be a whole number, 0 to {FORMAT}")
    if number > FORMAT:
        raise InputError(
            f"format is {quote(number)}; this version of Gossamer reads formats up to {FORMAT}: update it "
            "(pip install --upgrade gossamer)"
        )
    return number


def _upgraded(config: Config) -> dict[str, Any]:
    """The fields as the newest format has them."""
    fields = dict(config)
    for upgrade in _UPGRADES[_format_of(config) :]:
        fields = upgrade(fields)
    return fields


FAMILY = NativeFamily(
    model_type="gossamer",
    prefix="",
    bare="GossamerModel",
    fields=(),
    keys=_KEYS[FORMAT],
    public=False,
)
