"""A student made from its teacher: some of its layers, in their order or another, of all or some of its width."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, get_args

from torch import Tensor

from gossamer.errors import InputError, plural, quote
from gossamer.families import get_family
from gossamer.models.architecture import Architecture, Layer, StoredMaps
from gossamer.models.heads import MultipleChoice, SequenceClassification
from gossamer.models.model import Model
from gossamer.surgery.rebuild import rebuild
from gossamer.surgery.students.narrow import Widths, describe_widths, narrow

__all__ = ["Shape", "describe_student", "make_student", "student_layers"]

Shape = Literal["teacher", "distilbert"]

ALL = Widths()
"""As wide as the teacher."""
_POSITIONS = "embeddings.position.weight"
_SETS = ("attention", "feed_forward", "distance_bias")
"""The modules of a model of which layers name one each."""


def student_layers(layers: str | Sequence[int], count: int) -> tuple[int, ...]:
    """Which of `count` layers, from 0, a student has: "every-other", or a list of them.

    "every-other" are half of them, rounded up, evenly from the first to the last: of 12 layers 0, 2, 4, 7, 9 and 11, as
    in DistilBERT's released `extract_distilbert.py`. Raises InputError for any other word, for layers that there are
    not, and for one that is named twice.
    """
    if isinstance(layers, str):
        if layers != "every-other":
            raise InputError(f"layers is {quote(layers)}; it must be 'every-other' or a list of layers, such as [0, 2]")
        half = (count + 1) // 2
        return tuple(round(i * (count - 1) / max(half - 1, 1)) for i in range(half))
    if not isinstance(layers, list | tuple | range) or not layers:
        raise InputError(f"layers is {quote(layers)}; it must be 'every-other' or a list of layers, such as [0, 2]")
    for layer in layers:
        if type(layer) is not int or not 0 <= layer < count:
            raise InputError(f"layers has {quote(layer)}; the teacher's layers go from 0 to {count - 1}")
        if list(layers).count(layer) > 1:
            raise InputError(f"layers has {layer} twice; name each layer once")
    return tuple(layers)


def make_student(
    teacher: Model, layers: str | Sequence[int] = "every-other", *, shape: Shape = "teacher", widths: Widths = ALL
) -> Model:
    """A student that has these layers of its teacher, as `student_layers` reads them, and copies of all other weights.

    widths: of which hidden dimensions, heads and neurons, as `gossamer.surgery.students.narrow.narrow` takes them.
    Layers that share weights (ALBERT) go on sharing them, so that such a student has fewer layers and as many weights.
    shape: "distilbert" leaves out token types and pooler, as DistilBERT does (Sanh et al. 2019, section 3): the row of
    type 0 is added to each position, so that a text of one segment is read as before, and a classifier's activation is
    DistilBERT's ReLU. The teacher is left as it was.

    Raises InputError as `student_layers` and `narrow` do, and for a teacher that DistilBERT's format cannot hold in its
    shape.
    Source: Sanh et al. 2019 (arXiv 1910.01108), section 3.
    """
    if shape not in get_args(Shape):
        raise InputError(f"shape is {quote(shape)}; it must be 'teacher' or 'distilbert'")
    chosen = student_layers(layers, len(teacher.architecture.layers))
    if widths.narrower:
        teacher = narrow(teacher, widths)
    old = teacher.architecture
    sets = {name: _sets_of(old, chosen, name) for name in _SETS}
    architecture = replace(
        old,
        layers=tuple(_renumbered(old.layers[i], sets) for i in chosen),
        storages=_stored(old.storages, sets),
    )
    weights = _layer_weights(teacher, sets)
    if shape == "distilbert":
        architecture = _as_distilbert(architecture)
        weights |= _folded(teacher)
    student = rebuild(teacher, architecture, weights, source=str)
    if shape == "distilbert":
        student.family = "distilbert"
    return student


def describe_student(
    teacher: Model, student: Model, layers: str | Sequence[int], shape: Shape, widths: Widths = ALL
) -> tuple[str, ...]:
    """What became of the teacher, a line each, for a receipt."""
    chosen = student_layers(layers, len(teacher.architecture.layers))
    changes = [f"{plural(len(chosen), 'layer')} of the teacher's: {', '.join(map(str, chosen))}"]
    if widths.narrower:
        changes.append(describe_widths(teacher.architecture, student.architecture, widths))
    if shape == "distilbert":
        changes.append("DistilBERT's shape: no token types, no pooler")
    if student.family != teacher.family:
        changes.append(f"format {student.family}")
    return tuple(changes)


def _sets_of(architecture: Architecture, chosen: Sequence[int], name: str) -> dict[int, int]:
    """Of the weight sets that these layers name, the old number and the new one, in the order in which they come."""
    numbers = (_set_number(architecture.layers[i], name) for i in chosen)
    return {old: new for new, old in enumerate(dict.fromkeys(one for one in numbers if one is not None))}


def _set_number(layer: Layer, name: str) -> int | None:
    if name == "distance_bias":
        table = layer.attention.distance_bias
        return None if table is None else table.weights
    return layer.attention.weights if name == "attention" else layer.feed_forward.weights


def _renumbered(layer: Layer, sets: dict[str, dict[int, int]]) -> Layer:
    attention, table = layer.attention, layer.attention.distance_bias
    if table is not None:
        table = replace(table, weights=sets["distance_bias"][table.weights])
    return replace(
        layer,
        attention=replace(attention, weights=sets["attention"][attention.weights], distance_bias=table),
        feed_forward=replace(layer.feed_forward, weights=sets["feed_forward"][layer.feed_forward.weights]),
    )


def _layer_weights(teacher: Model, sets: dict[str, dict[int, int]]) -> dict[str, Tensor]:
    """The tensors of the chosen weight sets under their new names."""
    weights = {}
    for name, tensor in teacher.state_dict().items():
        moved = _moved(name, sets)
        if moved is not None and moved.partition(".")[0] in _SETS:
            weights[moved] = tensor.detach().clone()
    return weights


def _moved(name: str, sets: dict[str, dict[int, int]]) -> str | None:
    """The student's name of a module or tensor; None for what it has not."""
    part, _, rest = name.partition(".")
    if part not in _SETS:
        return name
    number, _, rest = rest.partition(".")
    new = sets[part].get(int(number))
    return None if new is None else f"{part}.{new}.{rest}"


def _stored(storages: Sequence[StoredMaps], sets: dict[str, dict[int, int]]) -> tuple[StoredMaps, ...]:
    moved = [(one, tuple(name for name in (_moved(old, sets) for old in one.maps) if name)) for one in storages]
    return tuple(replace(one, maps=maps) for one, maps in moved if maps)


def _as_distilbert(architecture: Architecture) -> Architecture:
    """The same in DistilBERT's shape; InputError where its format cannot hold that."""
    head = architecture.head
    if isinstance(head, SequenceClassification):
        rate = architecture.embeddings.dropout
        head = replace(head, pooler_activation="relu", input_dropout=0.0, dropout=max(head.dropout, rate))
    if isinstance(head, MultipleChoice):
        head = replace(head, pooler_activation="relu")
    small = replace(
        architecture,
        embeddings=replace(architecture.embeddings, token_types=0),
        layers=tuple(
            replace(one, attention=replace(one.attention, residual_dropout=0.0)) for one in architecture.layers
        ),
        pooler=False,
        head=head,
    )
    obstacles = get_family("distilbert").obstacles(small)
    if obstacles:
        raise InputError(
            f"shape is 'distilbert', whose format cannot hold the student ({obstacles[0]}); take shape='teacher'"
        )
    return small


def _folded(teacher: Model) -> dict[str, Tensor]:
    """The table of positions with the row of token type 0 in each of its own."""
    tables = teacher.state_dict()
    types = tables.get("embeddings.token_type.weight")
    return {} if types is None else {_POSITIONS: tables[_POSITIONS] + types[0]}
