"""gossamer inspect: a page that shows what every token of a text attends to."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from gossamer.checks import require_whole
from gossamer.cli.options import AsJson, Loading, OptionGroup, Source, check_count, grouped
from gossamer.cli.output import check_target, note, print_json, progress
from gossamer.cli.task_pages import named
from gossamer.cli.texts import TakesFiles
from gossamer.errors import InputError, quote

if TYPE_CHECKING:
    from gossamer.inspection import Inspection

__all__ = ["COMMAND", "inspect"]

COMMAND = TakesFiles


class Method(StrEnum):
    """How a result is shared out among tokens."""

    gradient = "gradient"
    integrated = "integrated"


class Shown(StrEnum):
    """What a picture shows."""

    main = "main"
    decoder = "decoder"
    cross = "cross"
    heads = "heads"


@dataclass(frozen=True, kw_only=True)
class Looking(OptionGroup):
    """What is looked at."""

    second_text: Annotated[
        str | None, Option(metavar="TEXT", help="The second text of a model of two; it writes one unless given.")
    ] = None
    new_tokens: Annotated[
        int, Option(metavar="N", help="Tokens that a decoder writes behind the text, and that are read with it.")
    ] = 0
    layers: Annotated[str | None, Option(metavar="N,N,...", help="Layers from 0, or -1 for the last; all.")] = None
    top: Annotated[int, Option(metavar="N", help="Keys of most weight that are kept of each token and head.")] = 3
    importance: Annotated[bool, Option("--importance", help="Switch each head off on this text.")] = False
    attribution: Annotated[
        Method | None, Option(metavar="HOW", help="Which tokens the result comes from: gradient or integrated.")
    ] = None
    label: Annotated[str | None, Option(metavar="NAME", help="The label that attribution is of; the likeliest.")] = None
    token: Annotated[int | None, Option(metavar="N", help="The token whose result attribution is of.")] = None

    def arguments(self) -> dict[str, Any]:
        """What `gossamer.inspect` is called with."""
        check_count("--top", self.top)
        require_whole("--new-tokens", self.new_tokens, 0, of="tokens")
        layers = None if self.layers is None else _numbers(self.layers)
        method = None if self.attribution is None else self.attribution.value
        return {
            "second_text": self.second_text, "new_tokens": self.new_tokens, "layers": layers, "top": self.top,
            "importance": self.importance, "attribution": method, "label": self.label, "token": self.token,
        }  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Picture(OptionGroup):
    """What a picture shows, where one is written in place of a page."""

    picture: Annotated[
        Shown | None, Option(metavar="WHAT", help="Of a picture: main, decoder, cross, or heads: where all look.")
    ] = None
    map_layer: Annotated[int, Option(metavar="N", help="Of a picture: the layer; the last.")] = -1
    map_head: Annotated[int | None, Option(metavar="N", help="Of a picture: the head; the mean of all.")] = None

    def check(self, out: Path) -> None:
        """Refuse what is said of a picture where a page is written."""
        if out.suffix == ".html" and (self.picture is not None or self.map_head is not None or self.map_layer != -1):
            asked = "--picture, --map-layer and --map-head are of pictures"
            raise InputError(f"{asked}, and {out} is a page: name a .svg or .png")

    def save(self, seen: Inspection, out: Path) -> None:
        """Write the file, a page or a picture."""
        if out.suffix == ".html":
            seen.save(out)
        else:
            of = None if self.picture is None else self.picture.value
            seen.save(out, layer=self.map_layer, head=self.map_head, of=of)


@grouped
def inspect(
    source: Source,
    *,
    out: Annotated[
        Path, Option(metavar="FILE", help="The page, .html, or a picture of one head, .svg or .png.")
    ] = Path("attention.html"),
    looking: Looking,
    picture: Picture,
    loading: Loading,
    as_json: AsJson = False,
) -> None:
    """A page with a text and what each of its tokens attends to, in every layer and head: one file, opened anywhere."""
    asked = looking.arguments()
    check_target(out, (".html", ".svg", ".png"), source.inputs())
    picture.check(out)
    texts = source.read()
    if len(texts) > 1:
        raise InputError(f"there are {len(texts)} texts; give one at a time")
    loaded = loading.load(source.model)
    from gossamer.inspection import inspect as look_at

    told = _Told()
    try:
        with told:
            seen = look_at(loaded, texts[0].text, **asked, progress=told.report)
            picture.save(seen, out)
    except InputError as problem:
        raise InputError(named([str(problem)], texts)[0]) from problem
    for said in seen.notes:
        note(said)
    if as_json:
        tokens = [len(one) for one in seen.look.texts]
        print_json({"file": str(out), "bytes": out.stat().st_size, "tokens": tokens, "notes": seen.notes})
    else:
        note(f"{out}: {seen.facts}, {out.stat().st_size / 1e6:.1f} MB")


class _Told(ExitStack):
    """A bar for each thing that is being done, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self._what: str | None = None
        self._report: Any = None

    def report(self, what: str, done: int, total: int) -> None:
        """Called with what is being done, how much of it is done, and how much there is."""
        if what != self._what:
            self.close()
            self._what, self._report = what, self.enter_context(progress(what, "steps"))
        self._report(done, total)


def _numbers(layers: str) -> list[int]:
    try:
        return [int(one) for one in layers.split(",")]
    except ValueError:
        raise InputError(f"--layers is {quote(layers)}; give numbers such as 0,3,-1") from None
