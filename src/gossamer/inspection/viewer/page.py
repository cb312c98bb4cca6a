"""The page: one file of HTML that needs no other, and loads nothing from anywhere."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files

from gossamer.inspection.viewer.payload import Payload

__all__ = ["viewer_page"]


def viewer_page(title: str, facts: str, payload: Payload, notes: Sequence[str] = ()) -> str:
    """The page. Whatever texts, tokens and names hold is shown as text, markup and closing script tags too."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    assets = files("gossamer.inspection.viewer").joinpath("assets")
    read = {name: assets.joinpath(name).read_text(encoding="utf-8") for name in _ASSETS}
    # In a script nothing is escaped but "</script" and "<!--": without any "<" there is neither.
    described = json.dumps(payload.described, separators=(",", ":")).replace("<", "\\u003c")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(read["page.html.j2"]).render(
        title=title, facts=facts, notes=notes, described=Markup(described), blobs=payload.blobs,
        style=Markup(read["viewer.css"]), library=Markup(read["d3.min.js"]), script=Markup(read["viewer.js"]),
    )  # fmt: skip


_ASSETS = ("page.html.j2", "viewer.css", "viewer.js", "d3.min.js")
