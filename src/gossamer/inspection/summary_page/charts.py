"""Costs as small pictures: lines over lengths, bars over layers. The page's style colours them, letters tell models."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["Line", "bar_chart", "line_chart"]

Said = Callable[[float], str]
_WIDTH, _HEIGHT = 420, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 86, 64, 14, 34


@dataclass(frozen=True, kw_only=True)
class Line:
    """What is drawn over lengths; `label` stands at its end, `look` names its colour, dashes and markers."""

    label: str
    look: str
    values: tuple[float, ...]


def line_chart(title: str, lengths: Sequence[int], lines: Sequence[Line], said: Said) -> str:
    """The `<svg>` element, both axes logarithmic."""
    values = [one for line in lines for one in line.values if one > 0]
    low, high = min(values, default=1), max(values, default=1)
    across = _scale(min(lengths), max(lengths), _LEFT, _WIDTH - _RIGHT)
    up = _scale(low, high, _HEIGHT - _BOTTOM, _TOP)
    drawn = [*_ticks(sorted(set(lengths)), across), *_levels(low, high, up, said)]
    ends: dict[int, list[str]] = {}
    for line in lines:
        points = [(across(n), up(one)) for n, one in sorted(zip(lengths, line.values, strict=True)) if one > 0]
        if not points:
            continue
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        drawn.append(f'<polyline class="line {line.look}" points="{path}"/>')
        drawn += [_marker(line.look, x, y) for x, y in points]
        ends.setdefault(round(points[-1][1]), []).append(line.label)
    drawn += [_end(y, labels) for y, labels in _apart(ends)]
    return _svg(title, _WIDTH, drawn)


def bar_chart(title: str, columns: Sequence[Sequence[tuple[float, float] | None]], said: Said) -> str:
    """The `<svg>` element: for each layer a bar for each model, None where it has no such layer.

    A bar is a whole and what of it is hatched. Models stand from left to right.
    """
    count, wide = len(columns), max((len(bars) for bars in columns), default=1)
    step = max(6.0 * wide, min(30.0, (_WIDTH - _LEFT - 8) / max(count, 1)))
    width = _LEFT + step * count + 8
    most = max((bar[0] for bars in columns for bar in bars if bar is not None), default=0) or 1
    floor, height = _HEIGHT - _BOTTOM, _HEIGHT - _BOTTOM - _TOP
    drawn = [_level(floor - height * share, width, said(most * share)) for share in (0, 0.5, 1)]
    bar_width = step * 0.8 / wide
    for i, bars in enumerate(columns):
        for j, bar in enumerate(bars):
            if bar is not None:
                x = _LEFT + step * (i + 0.1) + bar_width * j
                drawn.append(_bar("AB"[j], x, bar_width - 0.6, floor, height * bar[0] / most, height * bar[1] / most))
    every = max(1, math.ceil(24 / step))
    drawn += [
        f'<text x="{_LEFT + step * (i + 0.5):.1f}" y="{floor + 15}" text-anchor="middle">{i}</text>'
        for i in range(0, count, every)
    ]
    middle = _LEFT + step * count / 2
    drawn.append(f'<text x="{middle:.1f}" y="{_HEIGHT - 5}" text-anchor="middle" class="faint">layer</text>')
    return _svg(title, width, drawn)


def _bar(letter: str, x: float, width: float, floor: float, height: float, hatched: float) -> str:
    look = letter.lower()
    whole = f'<rect class="bar {look}" x="{x:.1f}" y="{floor - height:.1f}" width="{width:.1f}" height="{height:.1f}"/>'
    if hatched <= 0:
        return whole
    return whole + (
        f'<rect class="hatch" x="{x:.1f}" y="{floor - height:.1f}" width="{width:.1f}" height="{hatched:.1f}"/>'
    )


def _svg(title: str, width: float, drawn: Sequence[str]) -> str:
    said = escape(title)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="chart" role="img" aria-label="{said}" '
        f'viewBox="0 0 {width:.0f} {_HEIGHT}" width="{width:.0f}" height="{_HEIGHT}"><title>{said}</title>'
        f"{''.join(drawn)}</svg>"
    )


def _end(y: float, labels: Sequence[str]) -> str:
    """What lines are called that end at one height."""
    said, x = escape(", ".join(sorted(labels))), _WIDTH - _RIGHT + 9
    return f'<text x="{x}" y="{y:.1f}" class="end" dominant-baseline="middle">{said}</text>'


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    """Where a number stands between two ends, by its logarithm; in the middle where there is one alone."""
    if low == high:
        return lambda value: (start + end) / 2
    way = (end - start) / math.log(high / low)
    return lambda value: start + way * math.log(value / low)


def _ticks(lengths: Sequence[int], across: Callable[[float], float]) -> list[str]:
    floor, last, drawn = _HEIGHT - _BOTTOM, -math.inf, []
    for n in lengths:
        x, text = across(n), f"{n:,}"
        drawn.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{floor}"/>')
        if x - last >= 7 * len(text) + 4:
            drawn.append(f'<text x="{x:.1f}" y="{floor + 15}" text-anchor="middle">{text}</text>')
            last = x
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    return [*drawn, f'<text x="{middle}" y="{_HEIGHT - 5}" text-anchor="middle" class="faint">tokens</text>']


def _levels(low: float, high: float, up: Callable[[float], float], said: Said) -> list[str]:
    """Lines at powers of ten, or at the ends where fewer than two of those lie between them."""
    powers = [10.0**i for i in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)]
    shown = powers if len(powers) > 1 else sorted({low, high})
    return [_level(up(value), _WIDTH - _RIGHT, said(value)) for value in shown]


def _level(y: float, end: float, said: str) -> str:
    """A line across, and beside it what it stands for."""
    return (
        f'<line class="grid" x1="{_LEFT}" x2="{end:.0f}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text x="{_LEFT - 8}" y="{y:.1f}" text-anchor="end" dominant-baseline="middle">{escape(said)}</text>'
    )


def _marker(look: str, x: float, y: float) -> str:
    """A disc for A, a square for B, rings for what is beside them."""
    if look == "b":
        return f'<rect class="marker b" x="{x - 3.5:.1f}" y="{y - 3.5:.1f}" width="7" height="7"/>'
    return f'<circle class="marker {look}" cx="{x:.1f}" cy="{y:.1f}" r="{4 if look == "a" else 3}"/>'


def _apart(ends: dict[int, list[str]]) -> list[tuple[float, list[str]]]:
    """Labels from above to below, moved down where they would cover one another."""
    placed: list[tuple[float, list[str]]] = []
    for y in sorted(ends):
        placed.append((max(float(y), placed[-1][0] + 12 if placed else y), ends[y]))
    return placed
