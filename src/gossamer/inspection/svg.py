"""A figure of matplotlib as SVG that stands in a page: the same bytes for the same figure, text as text."""

from __future__ import annotations

import io
import warnings

import matplotlib
from matplotlib.figure import Figure

__all__ = ["figure_svg"]


def figure_svg(figure: Figure) -> str:
    """The `<svg>` element."""
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#e6e8eb", linewidth=0.6)
        axes.set_axisbelow(True)
    stream = io.StringIO()
    with warnings.catch_warnings():
        # The reader's fonts draw the text, not those that are here.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        with matplotlib.rc_context({"svg.hashsalt": "gossamer", "svg.fonttype": "none", "font.family": "sans-serif"}):
            figure.savefig(stream, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = stream.getvalue()
    return text[text.index("<svg") :]
