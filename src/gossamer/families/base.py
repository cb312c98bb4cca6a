"""A family is one form: a field table and a key table, each of which both reads and writes a public format."""

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cache
from typing import Any, Self, cast

from gossamer.errors import InputError, quote
from gossamer.families.kinds import Kind
from gossamer.families.places import OMITTED, assemble, pick, values_under
from gossamer.families.stored import Stored, StoredTensor
from gossamer.models.architecture import (
    Architecture,
    differences,
)
from gossamer.models.heads import Head, SentenceEmbedding

__all__ = ["OMITTED", "Config", "Family", "Field", "HeadForm", "Key"]

Config = Mapping[str, Any]
Key = str | Stored | tuple[str | Stored, ...]
"""Where a module of ours is in a file: its name there, or how it is stored; several are copies of one tensor."""

_OF_VECTORS: Mapping[str, Key] = {"head.dense": "head.dense"}
"""An embedding's maps, which lie in files of their own whatever the format (`gossamer.checkpoints.dense`)."""

OLD_NORMS = ((".LayerNorm.gamma", ".LayerNorm.weight"), (".LayerNorm.beta", ".LayerNorm.bias"))
"""What TensorFlow called the two tensors of a norm, and so do files converted from it."""


@dataclass(frozen=True)
class Field:
    """One line of config.json and the places in an `Architecture` that it sets; the first of them is written back.

    A place under `layers.` is the same in every layer or, with `per_layer`, a list in the file; `layers` itself is
    their number. `head.NAME` is a field of any head that has it, `head.KIND.NAME` of one kind of head; a line none of
    whose places the architecture has is not written. `read(value, config)` and `write(value, architecture)` convert
    where the kind's own are not enough; with `whole`, the values of all layers at once, as a list, in both directions.
    null_is_usual: null in a file says as much as leaving it out.
    """

    name: str
    kind: Kind
    default: Any
    to: tuple[str, ...]
    per_layer: bool = False
    read: Callable[[Any, Config], Any] | None = None
    write: Callable[[Any, Architecture], Any] | None = None
    whole: bool = False
    null_is_usual: bool = False

    def check(self, value: Any) -> None:
        """Raise InputError, quoting field and value, for a value that the kind does not allow."""
        if self.per_layer and isinstance(value, list):
            for i, entry in enumerate(value):
                self.kind.check(f"{self.name}[{i}]", entry)
        else:
            self.kind.check(self.name, value)

    def value(self, config: Config, layers: int | None) -> Any:
        """The architecture's value of a checked config; a list where it differs between layers."""
        value = config[self.name]
        if self.per_layer and isinstance(value, list):
            if len(value) != layers:
                raise InputError(
                    f"{self.name} is a list of {len(value)}; it must have one entry for each layer, {layers}"
                )
            return [self._read(entry, config) for entry in value]
        return self._read(value, config)

    def _read(self, value: Any, config: Config) -> Any:
        return self.kind.read(value) if self.read is None else self.read(value, config)

    def written(self, architecture: Architecture) -> Any:
        """The file's value for this architecture; OMITTED where the architecture has no such place."""
        values = (pick(architecture, place) for place in self.to)
        value = next((value for value in values if value is not OMITTED), OMITTED)
        if value is OMITTED:
            return OMITTED
        if self.whole or not isinstance(value, list):
            return self._write(value, architecture)
        of_layers = [self._write(entry, architecture) for entry in value]
        return of_layers[0] if all(entry == of_layers[0] for entry in of_layers) else of_layers

    def _write(self, value: Any, architecture: Architecture) -> Any:
        return self.kind.write(value) if self.write is None else self.write(value, architecture)


@dataclass(frozen=True, kw_only=True)
class HeadForm:
    """A head that the format has: its class here, its names there (the first is written) and its keys.

    `tied` names tensors that, in a tied model, must equal one of ours where the file has them at all. `required` is the
    family's, for this head alone. `prefix`: of the encoder beside this head, if not the family's. `idle`: tensors of
    one number a word that the original has and reads nowhere: written as zeros. `optional`: tensors of ours that a
    file need not have, which are then a copy of another, or 0 (None).
    """

    head: type
    architectures: tuple[str, ...]
    keys: Mapping[str, Key]
    tied: Mapping[str, str] = field(default_factory=dict)
    required: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    prefix: str | None = None
    idle: tuple[str, ...] = ()
    optional: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Family:
    """The translation between `Architecture` and one public format, in both directions.

    `given`: architecture values that no field holds, constants or functions of the config. `required`: fields that
    change the mathematics, with the values that can be read. `keys`: our module or tensor name to theirs, or to how it
    is stored there (`Stored`); several are copies of one tensor, the first that is there is read, all are written.
    `braces`: what else stands in keys, by the config. `copies` names tensors of a file that, where it has them, must
    equal one of ours, whatever the head, if a decoder shares its words.
    `slots` turns the number of a weight set into what the keys' braces hold. `aliases`: other names that a field may
    have in a file, to its own. `unread`: settings of the original code that nobody follows, with what tells the values
    that say nothing. `end_id`: the token that ends texts where neither files nor the tokenizer name one, as in
    `transformers`. `partial`: classes whose files hold a part of the model alone, to what is missing.
    `renamed`: endings of old files' names; `ignored`: names known to be harmless.
    """

    model_type: str
    prefix: str
    bare: str
    fields: tuple[Field, ...]
    keys: Mapping[str, Key]
    heads: Mapping[str, HeadForm] = field(default_factory=dict)
    given: Mapping[str, Any] = field(default_factory=dict)
    required: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    slots: Callable[[int, Config], Mapping[str, int | str]] = lambda number, config: {"layer": number}
    aliases: Mapping[str, str] = field(default_factory=dict)
    unread: Mapping[str, Callable[[Any], bool]] = field(default_factory=dict)
    renamed: tuple[tuple[str, str], ...] = OLD_NORMS
    ignored: tuple[str, ...] = ()
    copies: Mapping[str, str] = field(default_factory=dict)
    braces: Callable[[Config], Mapping[str, str]] = lambda config: {}
    public: bool = True
    end_id: int | None = None
    partial: Mapping[str, str] = field(default_factory=dict)

    def read(self, config: Config, *, head: str | Head | None = None, pooler: bool = False) -> Architecture:
        """The architecture that a config.json describes, with a head by its kind or as it is.

        Raises InputError, naming the field, its value and what is allowed.
        """
        self._check_required(config, self.model_type, self.required)
        form = self.heads.get(head.kind if isinstance(head, Head) else head or "none")
        if form is not None:
            self._check_required(config, form.architectures[0], form.required)
        if pooler and "pooler" not in self.keys:
            raise InputError(f"the format {self.model_type!r} has no pooler")
        full = self._full(config)
        for line in self.fields:
            line.check(full[line.name])
        values: dict[str, Any] = {}
        for line in sorted(self.fields, key=lambda line: "layers" not in line.to):
            value = line.value(full, values.get("layers"))
            values |= dict.fromkeys(line.to, value)
        for path, value in self.given.items():
            values[path] = value(full) if callable(value) else value
        return assemble(values, self._head(values, head), pooler)

    def write(self, architecture: Architecture) -> dict[str, Any]:
        """The fields of config.json for an architecture; `obstacles` says whether they hold all of it."""
        values = {line.name: line.written(architecture) for line in self.fields}
        return {name: value for name, value in values.items() if value is not OMITTED}

    def held(self, architecture: Architecture) -> set[str]:
        """The names of all lines whose meaning this architecture holds, under whichever name."""
        names = {line.name for line in self.fields if any(pick(architecture, to) is not OMITTED for to in line.to)}
        return names | {alias for alias, name in self.aliases.items() if name in names}

    def obstacles(self, architecture: Architecture) -> list[str]:
        """What this format cannot hold: [] where writing and reading back gives an equal architecture."""
        if self.public:
            # What is computed twice in training, or in chunks, changes no output; public formats have no word for it.
            architecture = architecture.with_layers(
                lambda layer: replace(layer, recompute="nothing", feed_forward=replace(layer.feed_forward, chunk=None))
            )
            if architecture.storages:
                kept = architecture.storages[0].storage.kind
                return [f"storages: the format {self.model_type!r} keeps weights whole, not {kept}; merge them first"]
        head = architecture.head
        if head is not None and not self.has_head(head):
            return [f"head: the format {self.model_type!r} has no {head.kind}"]
        try:
            config = self.write(architecture)
            kind = head.kind if head is not None and head.kind in self.heads else head
            back = self.read(config, head=kind, pooler=architecture.pooler)
            if self.public:
                # How fresh weights are drawn says nothing about the weights that are stored.
                back = replace(back, initializer=architecture.initializer)
            return differences(architecture, back)
        except InputError as problem:
            return [str(problem)]

    def usual_head(self, config: Config, kind: type[Head]) -> Head:
        """The head of this kind that is new on the model of a config.json: as the format has it, if it has one."""
        if kind.kind in self.heads:
            return cast(Head, self.read(config, head=kind.kind).head)
        return kind.drawn_on(self.read(config))

    def has_head(self, head: Head) -> bool:
        """Whether the format has such a head: an embedding, whose weights lie in files of their own, goes with any."""
        return head.kind in self.heads or isinstance(head, SentenceEmbedding)

    def expresses(self, architecture: Architecture) -> bool:
        """Whether this format holds the whole architecture."""
        return not self.obstacles(architecture)

    def head_of(self, architectures: Iterable[str]) -> str | None:
        """The kind of head that config.json's `architectures` names. InputError for a head that is not known here."""
        for name in architectures:
            for kind, form in self.heads.items():
                if name in form.architectures:
                    return kind
            if name != self.bare:
                known = [self.bare, *(name for form in self.heads.values() for name in form.architectures)]
                raise InputError(
                    f"architectures is {quote(name)}, a head that Gossamer does not read for {self.model_type!r} "
                    f"(it reads {', '.join(known)}): load the encoder alone with head='none'"
                )
        return None

    def check_whole(self, architectures: Iterable[str]) -> None:
        """Raise InputError for config.json's `architectures` of files that hold a part of the model alone."""
        for name in architectures:
            if name in self.partial:
                raise InputError(
                    f"architectures is {quote(name)}, whose files have no {self.partial[name]}, and without it "
                    f"{self.model_type!r} is not read: take the checkpoint that it was cut from, or another encoder"
                )

    def architecture_name(self, architecture: Architecture) -> str:
        """What `architectures` in config.json says."""
        form = self._form(architecture)
        return self.bare if form is None else form.architectures[0]

    def places(self, ours: Iterable[str], architecture: Architecture) -> dict[str, tuple[Stored, ...]]:
        """Where a file holds each of our tensors, names without prefix; the key table applied."""
        form, config = self._form(architecture), self.write(architecture)
        of_head = form.keys if form is not None else _OF_VECTORS
        table = {**self.keys, **of_head}
        return {name: self._translate(name, table, config) for name in ours}

    def names(self, ours: Iterable[str], architecture: Architecture) -> dict[str, tuple[str, ...]]:
        """Their names, without prefix, for each of our tensors."""
        return {own: tuple(place.name for place in places) for own, places in self.places(ours, architecture).items()}

    def stored(self, ours: Iterable[str], architecture: Architecture) -> dict[str, StoredTensor]:
        """The same the other way round: what each tensor of a file, by its name without prefix, holds of ours."""
        held: dict[str, dict[int, str]] = {}
        how: dict[str, Stored] = {}
        for own, places in self.places(ours, architecture).items():
            for place in places:
                held.setdefault(place.name, {})[place.part] = own
                how[place.name] = place
        return {
            theirs: StoredTensor(
                ours=tuple(own for _, own in sorted(parts.items())), transposed=how[theirs].transposed,
                single=how[theirs].single,
            )
            for theirs, parts in held.items()
        }  # fmt: skip

    def file_name(self, theirs: str, architecture: Architecture, prefixed: bool | None = None) -> str:
        """A name as it is written: models with a head keep the encoder under the family's prefix.

        `prefixed` says whether a file does so, whatever its head.
        """
        form = self._form(architecture)
        prefix = self.prefix if form is None else form.prefix or self.prefix
        if not prefix or not (form is not None if prefixed is None else prefixed):
            return theirs
        is_head = form is not None and _is_in(theirs, form.keys) and not _is_in(theirs, self.keys)
        return theirs if is_head else f"{prefix}.{theirs}"

    def is_prefixed(self, name: str) -> bool:
        """Whether a file's name for a tensor lies under one of the prefixes of the encoder."""
        return self._without_prefix(name) != name

    def canonical(self, name: str) -> str:
        """A file's name for a tensor without prefix and with old endings replaced."""
        name = self._without_prefix(name)
        for old, new in self.renamed:
            if name.endswith(old):
                return name.removesuffix(old) + new
        return name

    def _without_prefix(self, name: str) -> str:
        prefixes = {self.prefix, *(form.prefix for form in self.heads.values())} - {"", None}
        first, _, rest = name.partition(".")
        return rest if first in prefixes and rest else name

    def is_ignored(self, canonical: str, architecture: Architecture) -> bool:
        """Whether a tensor the model does not need is known to be harmless: buffers, pooler, heads not asked for."""
        form = self._form(architecture)
        others = [other for other in self.heads.values() if other is not form]
        tensors = [f"{name}*" for other in others for key in other.keys.values() for name in _names(key)]
        tied = [name for any_form in self.heads.values() for name in any_form.tied]
        poolers = [] if architecture.pooler else [f"{name}.*" for name in _names(self.keys.get("pooler", ()))]
        idle = [name for any_form in self.heads.values() for name in any_form.idle]
        return any(fnmatchcase(canonical, mask) for mask in (*self.ignored, *tensors, *tied, *poolers, *idle))

    def tied_names(self, architecture: Architecture) -> Mapping[str, str]:
        """Their copies of our tensors in a tied model: where a file has one it must be equal."""
        form = self._form(architecture)
        of_head = form.tied if form is not None and getattr(architecture.head, "tied", False) else {}
        decoder = architecture.decoder
        if decoder is None or decoder.shared_words:
            return {**self.copies, **of_head}
        return {theirs: f"decoder.{ours}" for theirs, ours in of_head.items()}

    def optional_names(self, architecture: Architecture) -> Mapping[str, str | None]:
        """Tensors of ours that a file with this head need not have, and which they are copies of; None: they are 0."""
        form = self._form(architecture)
        return {} if form is None else form.optional

    def idle_names(self, architecture: Architecture) -> tuple[str, ...]:
        """Tensors of a file with this head that nobody reads."""
        form = self._form(architecture)
        return () if form is None else form.idle

    def numbered_by(self, config: Config) -> Self:
        """This format with weight sets numbered as in one file, where several files say the same (ALBERT's groups)."""
        full, slots = self._full(config), self.slots
        return replace(self, slots=lambda number, _: slots(number, full))

    def _full(self, config: Config) -> Config:
        known = {line.name: line.default for line in self.fields}
        usual = {line.name for line in self.fields if line.null_is_usual}
        values = {
            name: value for name, value in config.items() if name in known and not (value is None and name in usual)
        }
        for alias, name in self.aliases.items():
            value = config.get(alias, values.get(name))
            if values.get(name, value) != value:
                raise InputError(
                    f"{alias} is {quote(value)}, but {name}, the same setting, is {quote(values[name])}; keep one"
                )
            values |= {name: value} if alias in config else {}
        return known | values

    def _check_required(self, config: Config, what: str, required: Mapping[str, tuple[Any, ...]]) -> None:
        for name, allowed in required.items():
            if name in config and not any(config[name] is value or config[name] == value for value in allowed):
                values = " or ".join(quote(value) for value in allowed)
                raise InputError(f"{name} is {quote(config[name])}; Gossamer reads {what!r} only with {values}")

    def _form(self, architecture: Architecture) -> HeadForm | None:
        return None if architecture.head is None else self.heads.get(architecture.head.kind)

    def _head(self, values: Mapping[str, Any], head: str | Head | None) -> Head | None:
        if not isinstance(head, str):
            return head
        if head not in self.heads:
            raise InputError(f"head is {head!r}; {self.model_type!r} has {', '.join(self.heads) or 'none'}")
        form = self.heads[head].head
        names = {field.name for field in dataclasses.fields(form)}
        settings = values_under(values, "head") | values_under(values, f"head.{head}")
        return form(**{name: value for name, value in settings.items() if name in names})

    def _translate(self, name: str, table: Mapping[str, Key], config: Config) -> tuple[Stored, ...]:
        for ours, theirs in table.items():
            match = _matcher(ours).fullmatch(name)
            if match:
                number, rest = match.groupdict().get("layer"), match["rest"] or ""
                slots = {**self.braces(config), **({} if number is None else self.slots(int(number), config))}
                return tuple(replace(place, name=place.name.format(**slots) + rest) for place in _as_stored(theirs))
        raise InputError(f"the format {self.model_type!r} has no place for the tensor {name!r}")


def _is_in(theirs: str, keys: Mapping[str, Key]) -> bool:
    names = [name for key in keys.values() for name in _names(key)]
    return any(theirs == name or theirs.startswith(f"{name}.") for name in names)


def _as_stored(key: Key) -> tuple[Stored, ...]:
    several = key if isinstance(key, tuple) else (key,)
    return tuple(Stored(name=name) if isinstance(name, str) else name for name in several)


def _names(key: Key) -> list[str]:
    return [stored.name for stored in _as_stored(key)]


@cache
def _matcher(ours: str) -> re.Pattern[str]:
    return re.compile(re.escape(ours).replace(r"\{layer\}", r"(?P<layer>\d+)") + r"(?P<rest>\..+)?")
