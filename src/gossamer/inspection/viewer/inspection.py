"""`gossamer.inspect`: one reading of a text, to be looked at in a page, a notebook or a picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from html import escape
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from gossamer.atomic_files import check_writable, write_whole
from gossamer.checks import require_whole
from gossamer.errors import InputError, clean_line, plural, quote
from gossamer.generation import generate
from gossamer.inspection.attention import Part, attention_settings, parts_of
from gossamer.inspection.attribution import Attribution, Method, attribute, check_method
from gossamer.inspection.importance import HeadImportance, head_importance
from gossamer.inspection.viewer.look import LayerLook, Look, PartLook, look
from gossamer.inspection.viewer.page import viewer_page
from gossamer.inspection.viewer.payload import pack
from gossamer.inspection.viewer.shown_text import MOST_TOKENS, ShownText, read_text, written_text
from gossamer.models import Model
from gossamer.models.model_argument import check_model, check_one_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Inspection", "inspect"]

Progress = Callable[[str, int, int], object]
"""Called with what is being done, how much of it is done, and how much there is."""


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What was seen. It shows itself in a notebook; `save` writes a page of HTML or a picture.

    look: the numbers, torch tensors. importance, attribution: where they were asked for.
    """

    title: str
    facts: str
    look: Look
    importance: HeadImportance | None = None
    attribution: Attribution | None = None
    notes: list[str] = field(default_factory=list)

    def page(self) -> str:
        """One page of HTML with everything in it, which loads nothing from anywhere."""
        return viewer_page(self.title, self.facts, pack(self.look, self._more()), self.notes)

    def save(
        self, path: str | PathLike[str], *, layer: int = -1, head: int | None = None, of: str | None = None
    ) -> None:
        """Write the page, or a picture where the name ends in .svg or .png; as a whole or not at all.

        A picture shows what `figure` gives. Raises InputError for another ending and for what may not be written.
        """
        where = Path(path)
        if where.suffix.lower() in (".html", ".htm"):
            check_writable(where)
            data = self.page().encode("utf-8", "surrogatepass")
            write_whole(where, lambda stream: stream.write(data))
            return
        from gossamer.inspection.viewer.figure import PICTURES, save_figure

        if where.suffix.lower() not in PICTURES:
            raise InputError(f"{quote(str(where))} must end in .html, {' or '.join(PICTURES)}")
        save_figure(self.figure(layer=layer, head=head, of=of), where)

    def figure(self, *, layer: int = -1, head: int | None = None, of: str | None = None) -> Figure:
        """A figure of matplotlib: the map of one layer and head (None: the mean of all).

        of: "main", "decoder" or "cross", the part of the model, its first one unless given; or "heads", where all heads
        of the first part look. Raises InputError for what was not looked at.
        """
        from gossamer.inspection.viewer.figure import heads_figure, map_figure

        parts = {part.part: part for part in self.look.parts}
        if of == "heads":
            return heads_figure(self.look.parts[0])
        if of is not None and of not in parts:
            raise InputError(f"of is {quote(of)}; there are {', '.join([*parts, 'heads'])}")
        part = self.look.parts[0] if of is None else next(one for one in self.look.parts if one.part == of)
        return map_figure(self.look, part, *_found(part, layer, head))

    def _more(self) -> dict[str, Any]:
        more: dict[str, Any] = {}
        if self.importance is not None:
            rows = [[one for one in row if one == one] for row in self.importance.values.tolist()]
            more["importance"] = {"told": self.importance.told, "main": rows}
        if self.attribution is not None:
            scores = [float(f"{one:.4g}") for one in self.attribution.scores.tolist()]
            more["attribution"] = {"told": self.attribution.told, "scores": scores, "text": 0}
        return more

    def _repr_html_(self) -> str:
        style = "width: 100%; height: 46em; border: 1px solid #d5d9df"
        return f'<iframe title="{escape(self.title)}" style="{style}" srcdoc="{escape(self.page())}"></iframe>'

    def __repr__(self) -> str:
        return f"Inspection({self.title!r}: {self.facts}; save it as .html, .svg or .png)"


def inspect(
    model: Model,
    text: str,
    *,
    second_text: str | None = None,
    new_tokens: int = 0,
    layers: Sequence[int] | None = None,
    top: int = 3,
    importance: bool | Sequence[str] = False,
    attribution: Method | None = None,
    label: str | int | None = None,
    token: int | None = None,
    progress: Progress | None = None,
) -> Inspection:
    """Read a text once, and look at what every token attends to in every layer and head.

    The weights are those that the model computes, of the pattern that each layer has; no matrix of all tokens is made
    but for texts of at most 512. At most 65,536 tokens are shown, and no more than the model reads.

    Args:
        model: any that has attention weights to show. It is left in the mode that it was in.
        text: what is read; for a model of two texts, the first one.
        second_text: of a model of two texts; else it writes one.
        new_tokens: a decoder writes so many tokens behind the text, greedily, which are then read with it; a model of
            two texts so many at most, 128 unless given.
        layers: which of them, all unless given; negative numbers count from the last one of each part.
        top: keys of most weight that are kept of each token, layer and head.
        importance: True switches each head off on this text (its first tokens, as many as the model reads), texts do
            it on those: see `gossamer.inspection.head_importance`.
        attribution: "gradient" or "integrated": which tokens a result comes from, that of `label` and `token`: see
            `gossamer.inspection.attribute`.
        progress: called with a word for what is being done, how much is done, and how much there is.

    Raises:
        InputError: no text, one that is too long, a model or layers without attention weights to show, options that do
            not fit the model.
    """
    check_model(model)
    if not isinstance(text, str):
        raise InputError(f"text is {quote(text)}; give one string")
    require_whole("top", top, of="keys")
    require_whole("new_tokens", new_tokens, 0, of="tokens")
    if model.tokenizer is None:
        raise InputError("the model has no tokenizer: put tokenizer.json into its directory to read texts")
    _check_asked(model, importance, attribution, label, token)
    chosen, told = _layers(model, layers), _telling(progress)
    texts, notes = _texts(model, text, second_text, new_tokens)
    seen = look(model, texts, chosen, top=top, progress=told("looking"))
    found = None
    if attribution is not None:
        ids = torch.tensor([texts[0].ids], device=next(model.parameters()).device)
        found = attribute(model, ids, attribution, label=label, token=token, progress=told("attributing"))
    matters = None
    if importance is not False:
        matters = head_importance(model, [text] if importance is True else importance, progress=told("switching off"))
    return Inspection(
        title=_title(model, text), facts=_facts(model, texts), look=seen, importance=matters, attribution=found,
        notes=notes,
    )  # fmt: skip


def _telling(progress: Progress | None) -> Callable[[str], Callable[[int, int], object] | None]:
    """For a word: what is called with how much of it is done, and how much there is."""
    if progress is None:
        return lambda what: None
    return lambda what: partial(progress, what)


def _check_asked(model: Model, importance: object, attribution: str | None, label: object, token: object) -> None:
    """InputError for what would be refused behind a long reading."""
    head = model.architecture.head
    if head is not None and head.kind == "multiple-choice":
        raise InputError("the model reads a text for each choice, and a page shows one: load it with head='none'")
    if attribution is not None:
        check_method(attribution)
        check_one_text(model, "attribution")
    elif label is not None or token is not None:
        raise InputError("label and token say which result attribution is of: give attribution too")
    if importance is not False:
        check_one_text(model, "the importance of heads")
        if isinstance(importance, str) or not importance:
            raise InputError(f"importance is {quote(importance)}; give True, or a list of texts")


def _layers(model: Model, layers: object) -> dict[Part, list[int]] | None:
    """Their numbers in each part, once each. InputError for layers that no part has, and where none has heads."""
    counts = {part: len(attention_settings(model, part)) for part in parts_of(model)}
    if layers is not None and (isinstance(layers, str) or not isinstance(layers, Sequence) or not layers):
        raise InputError(f"layers is {quote(layers)}; give a list of numbers, or None for all")
    chosen: dict[Part, list[int]] = {part: list(range(count)) for part, count in counts.items()}
    if layers is not None:
        most = max(counts.values())
        for one in layers:
            if type(one) is not int or not -most <= one < most:
                raise InputError(f"layers has {quote(one)}; the model has {most}, numbered from 0 to {most - 1}")
        for part, count in counts.items():
            chosen[part] = sorted({one % count for one in layers if -count <= one < count})
    if not any(attention_settings(model, part)[i].heads for part, some in chosen.items() for i in some):
        raise InputError("these layers have no heads, so there is no attention to look at")
    return None if layers is None else chosen


def _texts(model: Model, text: str, second: str | None, new: int) -> tuple[list[ShownText], list[str]]:
    tokenizer = model.tokenizer
    assert tokenizer is not None
    first = read_text(tokenizer, text)
    longest = model.architecture.length
    if longest and len(first) > longest:
        remedy = "shorten it, or lengthen the model (gossamer lengthen)"
        raise InputError(f"the text has {plural(len(first), 'token')}; the model reads {longest:,}: {remedy}")
    if not first.ids:
        raise InputError("the text has no tokens: there is nothing to look at")
    decoder = model.architecture.decoder
    if decoder is None:
        if second is not None:
            raise InputError("second_text was given; the model reads one text: leave it out")
        if not new:
            return [first], []
        written = generate(model, [list(first.ids)], max_new_tokens=new, temperature=0.0)
        return [written_text(tokenizer, first, written.ids[0])], written.notes
    notes: list[str] = []
    if second is None:
        written = generate(model, [text], max_new_tokens=new or 128)
        ids, notes = written.ids[0], written.notes
    elif new:
        raise InputError("second_text and new_tokens were both given; the model reads a second text or writes one")
    else:
        ids = tokenizer.encode_target(second)
    most = decoder.length or MOST_TOKENS
    if second is not None and len(ids) >= most:
        raise InputError(f"the second text has {plural(len(ids), 'token')}; the model reads {most - 1:,}: shorten it")
    # What the decoder reads: its start, then each token before the one that it writes.
    read = [decoder.start_id, *ids][:most]
    return [first, written_text(tokenizer, None, read, given=1 if second is None else len(read))], notes


def _title(model: Model, text: str) -> str:
    name = Path(str(model.source)).name if model.source else "a new model"
    words = clean_line(text[:200])
    return f"{clean_line(name)}: {words[:60]}{' ...' if len(words) > 60 else ''}"


def _facts(model: Model, texts: Sequence[ShownText]) -> str:
    counts = " and ".join(plural(len(one), "token") for one in texts)
    layers = len(model.architecture.layers)
    decoder = model.architecture.decoder
    more = "" if decoder is None else f" + {len(decoder.layers)}"
    return f"{model.family}, {layers}{more} layers, {counts}"


def _found(part: PartLook, layer: int, head: int | None) -> tuple[LayerLook, int | None]:
    if layer < 0 and -len(part.layers) <= layer:
        found = part.layers[layer]
    else:
        known: Mapping[int, LayerLook] = {one.number: one for one in part.layers}
        if layer not in known:
            raise InputError(f"layer is {quote(layer)}; looked at were {', '.join(map(str, known))}")
        found = known[layer]
    heads = found.blocks.shape[0]
    if head is not None and not (type(head) is int and 0 <= head < heads):
        raise InputError(f"head is {quote(head)}; the layer has {heads}, numbered from 0 to {heads - 1}")
    return found, head
