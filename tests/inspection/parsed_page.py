"""A page of HTML as a browser would read it, strictly: every element closed, no attribute that could run anything."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "br", "line", "rect", "circle", "polyline", "path", "use", "link", "img", "input"}


@dataclass
class Element:
    tag: str
    attributes: dict[str, str | None]
    children: list[Element | str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """All of it in one line."""
        shown = [one for one in self.children if isinstance(one, str) or one.tag != "style"]
        return " ".join(" ".join(one if isinstance(one, str) else one.text for one in shown).split())

    def all(self, tag: str, **attributes: str) -> list[Element]:
        """Elements inside, in order; `class_`: one of the classes."""
        wanted = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
        found = []
        for one in self.children:
            if isinstance(one, Element):
                if one.tag == tag and all(one.has(name, value) for name, value in wanted.items()):
                    found.append(one)
                found += one.all(tag, **attributes)
        return found

    def one(self, tag: str, **attributes: str) -> Element:
        (found,) = self.all(tag, **attributes)
        return found

    def has(self, name: str, value: str) -> bool:
        given = self.attributes.get(name) or ""
        return value in given.split() if name == "class" else given == value

    def rows(self) -> list[list[str]]:
        """The texts of a table's cells."""
        cells = [[cell for cell in row.children if isinstance(cell, Element)] for row in self.all("tr")]
        return [[cell.text for cell in row] for row in cells]


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open = [Element("page", {})]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        new = Element(tag, dict(attrs))
        self.open[-1].children.append(new)
        if tag not in VOID:
            self.open.append(new)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[-1].children.append(Element(tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        assert self.open[-1].tag == tag, f"</{tag}> closes <{self.open[-1].tag}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


def parsed(page: str) -> Element:
    """The page; AssertionError for one that is not well formed, that runs anything or asks for anything."""
    reader = _Reader()
    reader.feed(page)
    reader.close()
    (root,) = reader.open
    _check(root)
    return root


def _check(element: Element) -> None:
    for name, value in element.attributes.items():
        assert not name.startswith("on"), (element.tag, name)
        if name in ("href", "src", "srcset", "action", "data"):
            assert (value or "").startswith("#"), (element.tag, name, value)
    assert element.tag not in {"script", "img", "iframe", "object", "embed", "link", "form", "base"}, element.tag
    for one in element.children:
        if isinstance(one, Element):
            _check(one)
