"""One call of the kernel as C describes it, native/gossamer_attention.h, and whether a library means the same by it."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from ctypes import c_char_p, c_float, c_int32, c_int64, c_uint32, c_void_p
from itertools import zip_longest

__all__ = ["BY_HEAD", "SHARED", "CDistances", "CField", "CRows", "CTensor", "Call", "why_another_call"]

KINDS: dict[object, str] = {c_int32: "i", c_int64: "i", c_uint32: "u", c_float: "f", c_void_p: "p"}
"""What gs_field calls them: signed, unsigned, floating-point, pointer."""

SHARED, BY_HEAD = 1, 2
"""One list of rows for all texts, or one for each head of each text."""

Field = tuple[str, str, int, int]
"""Name, kind, offset and size."""


class CTensor(ctypes.Structure):
    """gs_tensor: strides in elements."""

    _fields_ = (
        ("data", c_void_p),
        ("batch_stride", c_int64),
        ("head_stride", c_int64),
        ("row_stride", c_int64),
    )


class CRows(ctypes.Structure):
    """gs_rows: some rows of each text and their coordinates."""

    _fields_ = (
        ("index", c_void_p),
        ("band", c_void_p),
        ("second", c_void_p),
        ("offsets", c_void_p),
        ("rows", c_int64),
        ("start", c_int64),
        ("lists", c_int32),
        ("met", c_void_p),
        ("met_count", c_int64),
        ("met_stride", c_int64),
    )


class CDistances(ctypes.Structure):
    """gs_distances: numbers added to the scores by how far apart query and key stand."""

    _fields_ = (
        ("numbers", c_void_p),
        ("columns", c_int64),
        ("before", c_int64),
        ("queries", c_void_p),
        ("keys", c_void_p),
        ("queries_stride", c_int64),
        ("keys_stride", c_int64),
        ("query_start", c_int64),
        ("gradient", c_void_p),
    )


class Call(ctypes.Structure):
    """gs_attention: one piece of a pattern."""

    _fields_ = (
        ("type", c_int32),
        ("out_type", c_int32),
        ("threads", c_int32),
        ("resume", c_int32),
        ("batch", c_int64),
        ("heads", c_int64),
        ("key_heads", c_int64),
        ("size", c_int64),
        ("value_size", c_int64),
        ("first_head", c_int64),
        ("q", CTensor),
        ("k", CTensor),
        ("v", CTensor),
        ("out", CTensor),
        ("lse", c_void_p),
        ("most", c_void_p),
        ("sum", c_void_p),
        ("lse_batch_stride", c_int64),
        ("lse_head_stride", c_int64),
        ("queries", CRows),
        ("keys", CRows),
        ("distances", CDistances),
        ("band_low", c_int64),
        ("band_high", c_int64),
        ("second_low", c_int64),
        ("second_high", c_int64),
        ("scale", c_float),
        ("dropout_threshold", c_uint32),
        ("dropout_factor", c_float),
        ("seed", c_uint32),
        ("dout", CTensor),
        ("dq", CTensor),
        ("dk", CTensor),
        ("dv", CTensor),
        ("dlse", c_void_p),
    )


class CField(ctypes.Structure):
    """gs_field: one number or pointer of the call; "i", "u", "f" or "p", place and size in bytes."""

    _fields_ = (
        ("name", c_char_p),
        ("kind", c_int64),
        ("offset", c_int64),
        ("size", c_int64),
    )


def why_another_call(opened: ctypes.CDLL) -> str | None:
    """How the library describes a call otherwise than `Call` does, or None where both are the same."""
    theirs, whole = _fields_of(opened)
    for ours, other in zip_longest(_fields(Call), theirs):
        if ours != other:
            return f"{_in_words(other)} in place of {_in_words(ours)}"
    ours_whole = ctypes.sizeof(Call)
    return None if whole == ours_whole else f"a call has {whole} bytes in place of {ours_whole}"


def _in_words(field: Field | None) -> str:
    if field is None:
        return "no field"
    name, kind, offset, size = field
    return f"{name} ({kind}{8 * size} at {offset})"


def _fields(structure: type[ctypes.Structure], prefix: str = "", start: int = 0) -> Iterator[Field]:
    """The numbers and pointers of a structure and of those in it, in their order."""
    for name, kind, *_ in structure._fields_:
        place = getattr(structure, name)
        if isinstance(kind, type) and issubclass(kind, ctypes.Structure):
            yield from _fields(kind, f"{prefix}{name}.", start + place.offset)
        else:
            yield f"{prefix}{name}", KINDS[kind], start + place.offset, place.size


def _fields_of(opened: ctypes.CDLL) -> tuple[list[Field], int]:
    """What the library says of its fields, and the size of the whole."""
    listed, fields = opened.gs_fields(), []
    for field in listed:
        if field.name is None:
            break
        fields.append((field.name.decode(), chr(field.kind), field.offset, field.size))
    return fields, field.offset
