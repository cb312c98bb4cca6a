"""What the page's map and heads show, as a picture for a paper."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from gossamer.atomic_files import check_writable, write_whole
from gossamer.errors import InputError, quote
from gossamer.inspection.svg import figure_svg
from gossamer.inspection.viewer.kinds import KINDS, NEAR
from gossamer.inspection.viewer.look import LayerLook, Look, PartLook

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["PICTURES", "heads_figure", "map_figure", "save_figure"]

PICTURES = (".svg", ".png")

COLOURS = ("#cc79a7", "#e69f00", "#f0e442", "#009e73", "#56b4e9", "#0072b2", "#9aa0a6")
"""Of `KINDS`: Okabe and Ito's, which colour-blind readers tell apart."""

LABELLED = 48
"""Tokens up to which each is written beside the map."""


def map_figure(look: Look, part: PartLook, layer: LayerLook, head: int | None) -> Figure:
    """Weights of all tokens of a short text, or shares from blocks to blocks, of one head or averaged over all."""
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    source = layer.blocks if layer.whole is None else layer.whole
    weights = (source.mean(0) if head is None else source[head]).clamp(min=1e-12)
    rows, columns = (look.texts[which] for which in (part.queries, part.keys))
    figure = Figure(figsize=(5.2, 4.8), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(
        weights.numpy(), cmap="cividis", norm=LogNorm(vmin=1e-3, vmax=1), interpolation="nearest", aspect="auto",
        extent=(0, len(columns), len(rows), 0),
    )  # fmt: skip
    which = "mean of all heads" if head is None else f"head {head}"
    axes.set_title(f"{part.title}, layer {layer.number}, {which}", fontsize=10)
    axes.set_xlabel("attended to" if layer.whole is not None else "attended to (token)")
    axes.set_ylabel("token")
    if max(len(rows), len(columns)) <= LABELLED:
        axes.set_xticks([i + 0.5 for i in range(len(columns))], _names(columns.tokens), rotation=90, fontsize=7)
        axes.set_yticks([i + 0.5 for i in range(len(rows))], _names(rows.tokens), fontsize=7)
    figure.colorbar(image, label="weight" if layer.whole is not None else "share of attention", extend="min")
    return figure


def heads_figure(part: PartLook) -> Figure:
    """For every layer and head, which share of its attention goes where."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    most = max(len(one.kinds) for one in part.layers)
    figure = Figure(figsize=(1.6 + 0.5 * most, 1.4 + 0.32 * len(part.layers)), layout="constrained")
    axes = figure.add_subplot()
    for row, layer in enumerate(part.layers):
        left = torch.arange(len(layer.kinds), dtype=torch.float32)
        for kind, colour in enumerate(COLOURS):
            shares = layer.kinds[:, kind] * 0.92
            axes.barh([row] * len(shares), shares.tolist(), left=left.tolist(), height=0.84, color=colour)
            left = left + shares
    axes.set_yticks(range(len(part.layers)), [str(one.number) for one in part.layers])
    axes.set_xticks([h + 0.46 for h in range(most)], [str(h) for h in range(most)])
    axes.set_xlim(-0.05, most)
    axes.invert_yaxis()
    axes.set_xlabel("head")
    axes.set_ylabel("layer")
    axes.set_title(f"{part.title}: where heads look", fontsize=10)
    names = [f"within {NEAR}" if kind == "near" else kind for kind in KINDS]
    patches = [Patch(color=colour, label=name) for name, colour in zip(names, COLOURS, strict=True)]
    figure.legend(handles=patches, loc="outside lower center", ncols=len(patches), fontsize=7, frameon=False)
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """As its name ends, .svg or .png (200 dots an inch). Raises InputError for other names, and for what may not be
    written."""
    if path.suffix.lower() not in PICTURES:
        raise InputError(f"{quote(str(path))} is no picture's name; it must end in {' or '.join(PICTURES)}")
    check_writable(path)
    if path.suffix.lower() == ".svg":
        data = figure_svg(figure).encode()
    else:
        stream = io.BytesIO()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing from")
            figure.savefig(stream, format="png", dpi=200, metadata={"Software": None})
        data = stream.getvalue()
    write_whole(path, lambda stream: stream.write(data))


def _names(tokens: tuple[str, ...]) -> list[str]:
    # "$" would begin a formula.
    return [one.replace("$", r"\$") for one in tokens]
