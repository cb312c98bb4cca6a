"""The model of a training: a checkpoint, an architecture written out, or a decoder in a few numbers."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import re
from dataclasses import dataclass
from typing import Any, Literal

from gossamer.errors import InputError, quote
from gossamer.families import NATIVE, get_family
from gossamer.models.architecture import Architecture, Initializer, Recompute
from gossamer.models.checks import require
from gossamer.models.decoders import Form, Heads, decoder, sparse_transformer
from gossamer.models.settings import Activation, Reversible
from gossamer.patterns import Pattern, pattern_from_dict
from gossamer.training.config.student import StudentSettings
from gossamer.training.optimization.adapters import AdapterSettings

__all__ = ["DecoderSettings", "ModelSettings", "SparseTransformerSettings", "read_pattern", "with_recompute"]

_WAYS = ("checkpoint", "architecture", "decoder", "sparse_transformer", "config", "student")
_NAMING = ("model_type", "architectures")
"""What a config.json says beside the fields of a family."""
_SHORT = re.compile(r"\s*([a-z]+)\s*(?:\(\s*(\d+(?:\s*,\s*\d+)*)\s*\))?\s*")


def read_pattern(value: object, path: str = "pattern") -> Pattern:
    """A causal pattern from its short form, such as "window(256)" (a token and the 256 before it), or a dictionary."""
    if isinstance(value, Pattern):
        return value
    try:
        if isinstance(value, dict):
            return pattern_from_dict(value)
        found = _SHORT.fullmatch(value) if isinstance(value, str) else None
        numbers = [int(one) for one in (found[2] or "").split(",") if one.strip()] if found else []
        kind = Pattern.kinds.get(found[1]) if found else None
        if kind is not None and kind.short and _fits(kind, numbers):
            return kind.from_numbers(*numbers)
    except InputError as problem:
        raise InputError(f"{path} is {quote(value)}: {problem}") from None
    forms = ", ".join(kind.short for kind in Pattern.kinds.values() if kind.short)
    raise InputError(f"{path} is {quote(value)}; it must be one of {forms}, or a dictionary such as {{pattern: ...}}")


def _fits(kind: type[Pattern], numbers: list[int]) -> bool:
    try:
        inspect.signature(kind.from_numbers).bind(*numbers)
    except TypeError:
        return False
    return True


def _described(value: object) -> object:
    return value.to_dict() if isinstance(value, Pattern) else value


@dataclass(frozen=True, kw_only=True)
class DecoderSettings:
    """A decoder of pre-norm layers: what `gossamer.models.decoder` takes. `form`: "llama" has Llama's parts.

    `pattern`: a short form ("full", "window(256)", "strided(128)", "fixed(128, 8)"), a pattern, its
    dictionary, or a list of these that the layers take in turn; patterns are kept as their dictionaries. `positions`:
    "learned", "sinusoidal", "none", or the sizes of the dimensions that they are counted in; left out, "learned", or
    with the form "llama" "none", since its attention knows them.
    """

    layers: int
    hidden_size: int
    heads: int
    length: int
    pattern: Any = "full"
    positions: Literal["learned", "sinusoidal", "none"] | tuple[int, ...] | None = None
    head_size: int | None = None
    width: int | None = None
    activation: Activation | None = None
    dropout: float = 0.0
    tied: bool = True
    initializer: Initializer = "gpt2"
    norm_eps: float = 1e-5
    form: Form = "gpt2"
    key_heads: int | None = None
    rotary_base: float | None = None
    reversible: Reversible = "no"
    feed_forward_chunk: int | None = None
    shared_query_key: bool = False
    slice_length: int | None = None
    vocabulary_size: int | None = None

    def __post_init__(self) -> None:
        # As it would be read from a file, so that a config that was written and read back is equal.
        given = self.pattern
        kept = [_described(one) for one in given] if isinstance(given, list | tuple) else _described(given)
        object.__setattr__(self, "pattern", kept)

    def build(self, vocabulary_size: int) -> Architecture:
        """The architecture for so many tokens."""
        several = self.pattern if isinstance(self.pattern, list | tuple) else [self.pattern]
        require(len(several) > 0, "pattern", self.pattern, "one pattern or more")
        patterns = [
            read_pattern(one, f"pattern[{i}]" if len(several) > 1 else "pattern") for i, one in enumerate(several)
        ]
        given = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        if isinstance(self.positions, tuple):
            given |= {"positions": "axes", "axes": self.positions}
        del given["pattern"]
        return decoder(**{**given, "patterns": patterns, "vocabulary_size": vocabulary_size})


@dataclass(frozen=True, kw_only=True)
class SparseTransformerSettings:
    """The paper's decoder: what `gossamer.models.sparse_transformer` takes."""

    layers: int
    hidden_size: int
    heads: int
    length: int
    stride: int
    kind: Literal["strided", "fixed"] = "strided"
    summary: int = 8
    integrated: Heads = "merged"
    axes: tuple[int, ...] = ()
    half_size: bool = False
    dropout: float = 0.0
    vocabulary_size: int | None = None

    def build(self, vocabulary_size: int) -> Architecture:
        """The architecture for so many tokens."""
        given = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return sparse_transformer(**{**given, "vocabulary_size": vocabulary_size})


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """One of: a checkpoint (a directory or an id on the hub), a student of one, or fresh weights for a description.

    config: what config.json of a public family says: `model_type`, `architectures` with the class of the head, and any
    of its fields, the others as usual there; `vocab_size` is the tokenizer's unless given. It is saved in that format.
    `new_head`: the checkpoint's head, or what it has of it, is taken where it is there and drawn where it is not.
    `adapters`: what learns in place of the model's own weights; alone they are those of a model that is handed over.
    """

    checkpoint: str | None = None
    student: StudentSettings | None = None
    architecture: dict[str, Any] | None = None
    config: dict[str, Any] | None = None
    decoder: DecoderSettings | None = None
    sparse_transformer: SparseTransformerSettings | None = None
    new_head: bool = False
    adapters: AdapterSettings | None = None

    def __post_init__(self) -> None:
        given = [name for name in _WAYS if getattr(self, name) is not None]
        if not given and self.adapters is not None and not self.new_head:
            return
        if len(given) != 1:
            what = f"holds {' and '.join(given)}" if given else "is empty"
            raise InputError(f"{what}; give one of {', '.join(_WAYS)}")
        require(
            not self.new_head or self.checkpoint is not None, "new_head", self.new_head, "false without a checkpoint"
        )
        if self.checkpoint is None and self.student is None:
            self.describe(2**16)

    @property
    def is_described(self) -> bool:
        """Whether it says which model; adapters alone do not."""
        return any(getattr(self, name) is not None for name in _WAYS)

    @property
    def family(self) -> str:
        """The format that fresh weights are saved in."""
        return NATIVE.model_type if self.config is None else str(self.config["model_type"])

    @property
    def vocabulary_size(self) -> int | None:
        """The tokens that the description itself names, if it does."""
        if self.architecture is not None:
            return self.describe(0).embeddings.vocabulary_size
        if self.config is not None:
            return self.config.get("vocab_size")
        short = self.decoder or self.sparse_transformer
        return None if short is None else short.vocabulary_size

    def describe(self, vocabulary_size: int) -> Architecture:
        """The architecture of fresh weights, for so many tokens where it names no number itself."""
        if self.architecture is not None:
            return Architecture.from_dict(self.architecture)
        if self.config is not None:
            return _of_family(self.config, vocabulary_size)
        name, short = ("decoder", self.decoder) if self.decoder else ("sparse_transformer", self.sparse_transformer)
        assert short is not None
        try:
            named = short.vocabulary_size
            return short.build(vocabulary_size if named is None else named)
        except InputError as problem:
            raise InputError(f"{name}.{problem}") from None


def _of_family(config: dict[str, Any], vocabulary_size: int) -> Architecture:
    """What a config.json says. InputError, too, for a field that its family has not."""
    try:
        family = get_family(config.get("model_type"))
        known = [*_NAMING, *(field.name for field in family.fields)]
        for name in config:
            if family.public and name not in known:
                near = difflib.get_close_matches(str(name), known, n=1, cutoff=0)[0]
                raise InputError(f"{name} is no field of {family.model_type!r}; the nearest is {near!r}")
        names = config.get("architectures", [])
        is_list = isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)
        require(is_list, "architectures", names, "a list of class names, such as [AlbertForPreTraining]")
        head = family.head_of(names)
        return family.read({"vocab_size": vocabulary_size, **config}, head=head)
    except InputError as problem:
        raise InputError(f"config.{problem}") from None


def with_recompute(architecture: Architecture, recompute: Recompute | None) -> Architecture:
    """The same model with these parts computed again in the backward pass; None leaves it as it is."""
    if recompute is None:
        return architecture
    return architecture.with_layers(lambda layer: dataclasses.replace(layer, recompute=recompute))
