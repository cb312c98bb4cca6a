"""How labels of tokens say where an entity begins and ends, found out from all labels of a model together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Literal, get_args

__all__ = ["LabelScheme", "TokenLabel", "find_scheme"]

Side = Literal["prefix", "suffix"]


@dataclass(frozen=True)
class TokenLabel:
    """What a label says: the kind of entity, and whether one begins with the token and whether it ends with it."""

    kind: str
    begins: bool = False
    ends: bool = False


@dataclass(frozen=True)
class LabelScheme:
    """What all labels of a model say. `name`: "BIO", "BIOES, suffix, small letters" ...; "plain" where none is marked.

    outside: what the scheme writes where no entity is, "O" in capitals or small.
    """

    name: str
    labels: dict[str, TokenLabel] = field(default_factory=dict)
    outside: str = "O"

    def read(self, label: str) -> TokenLabel:
        """A label's parts; one that is not of the scheme is a kind of entity itself."""
        return self.labels.get(label, TokenLabel(label))

    def entities(self, labels: Sequence[str]) -> set[tuple[int, int, str]]:
        """Where entities begin and end among labels in a row, and their kinds; "O" is none.

        An entity ends where another kind, or one that begins anew, comes, as conlleval has it (Tjong Kim Sang and De
        Meulder 2003).
        """
        entities: set[tuple[int, int, str]] = set()
        begin, last = 0, TokenLabel(self.outside)
        for place, label in enumerate([*map(self.read, labels), TokenLabel(self.outside)]):
            if label.begins or last.ends or label.kind != last.kind:
                if last.kind != self.outside:
                    entities.add((begin, place, last.kind))
                begin = place
            last = label
        return entities


@dataclass(frozen=True)
class _Scheme:
    """The letters for the first token of an entity, one inside, the last, and one that is first and last; "": none."""

    name: str
    first: str
    inside: str
    last: str = ""
    single: str = ""

    def allows(self, marks: set[str]) -> bool:
        """Whether a kind of entity can come with these marks and no others."""
        if not marks <= {self.first, self.inside, self.last, self.single}:
            return False
        if not self.single:
            return marks != {self.last}
        return marks == {self.single} or (self.first in marks and bool(marks & {self.inside, self.last}))

    def is_shown_by(self, marks: set[str]) -> bool:
        """Whether a kind with these marks says that labels are of this scheme."""
        telling = {self.last, self.single} if self.last else {self.inside}
        return len(marks) > 1 and self.allows(marks) and bool(marks & telling)


_SCHEMES = (
    _Scheme("BIO", "B", "I"),
    _Scheme("IOE", "", "I", "E"),
    _Scheme("BIOES", "B", "I", "E", "S"),
    _Scheme("BILOU", "B", "I", "L", "U"),
    _Scheme("BMES", "B", "M", "E", "S"),
    _Scheme("BMEWO", "B", "M", "E", "W"),
)


@dataclass(frozen=True)
class _Form:
    """How a label is written: where its mark stands, what is between mark and kind, and in which letters."""

    side: Side
    separator: str
    capitals: bool

    def split(self, label: str) -> tuple[str, str] | None:
        """The kind of entity and the mark, as a capital; None for a label that is not written so."""
        mark, _, kind = label.partition(self.separator)
        if self.side == "suffix":
            kind, _, mark = label.rpartition(self.separator)
        of_form = len(mark) == 1 and mark.isalpha() and mark.isupper() == self.capitals
        # "I-95" is a road.
        return (kind, mark.upper()) if of_form and any(char.isalpha() for char in kind) else None

    def describe(self, scheme: str) -> str:
        """The scheme's name, and what is unusual in how it is written."""
        unusual = {"suffix": self.side == "suffix", "small letters": not self.capitals, "_": self.separator == "_"}
        return ", ".join([scheme, *(word for word, is_so in unusual.items() if is_so)])


def find_scheme(labels: Sequence[str]) -> LabelScheme:
    """The scheme in which a model's labels are written, by all of them: "E-MAIL" ends nothing where nothing begins.

    A label is a mark and a kind of entity, the mark in front or behind, joined by "-" or "_", in capitals or small. A
    scheme is taken where some kind comes with two of its marks, or where "B" or "I" is in front of every label but one
    ("O"). A label stays what it is where its kind comes with a letter that is no mark as well ("A-CLASS" beside
    "S-CLASS"), or without one that its mark needs ("E-MAIL"). Of several ways to read the labels, the one that reads
    most of them is taken. IOB1 (Ramshaw and Marcus 1995), IOB2 and IO are one: an entity begins with "B" or where
    another kind ends. "BILOU" is Ratinov and Roth's (2009).
    """
    forms = [_Form(*parts) for parts in product(get_args(Side), "-_", (True, False))]
    readings = [_read(labels, form, scheme) for form in forms for scheme in _SCHEMES]
    return max([LabelScheme("plain"), *readings], key=lambda reading: len(reading.labels))


def _read(labels: Sequence[str], form: _Form, scheme: _Scheme) -> LabelScheme:
    """The labels as this scheme reads them; none of them where they do not say that they are of it."""
    split = {label: parts for label in labels if (parts := form.split(label)) is not None}
    marks: dict[str, set[str]] = {}
    for kind, mark in split.values():
        marks.setdefault(kind, set()).add(mark)
    all_marked = (
        form.side == "prefix" and len(_unmarked(labels, split)) <= 1 and all(map(scheme.allows, marks.values()))
    )
    is_shown = any(map(scheme.is_shown_by, marks.values())) or (scheme.name == "BIO" and all_marked)
    if not is_shown:
        return LabelScheme("plain")
    first, last = {scheme.first, scheme.single}, {scheme.last, scheme.single}
    read = {
        label: TokenLabel(kind, begins=mark in first, ends=mark in last)
        for label, (kind, mark) in split.items()
        if scheme.allows(marks[kind])
    }
    return LabelScheme(form.describe(scheme.name), read, "O" if form.capitals else "o")


def _unmarked(labels: Sequence[str], split: dict[str, tuple[str, str]]) -> list[str]:
    """The labels without mark, but for those of special tokens ("[CLS]", "<pad>")."""
    return [label for label in labels if label not in split and not label.startswith(("[", "<"))]
