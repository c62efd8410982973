"""Plots as SVG text: stacked bars, lines, shares and strips over time. Pure; each stands alone, without script or font.

Every plot has a title for screen readers, and shades that stay apart in print and for the colour-blind.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

_WIDTH, _HEIGHT = 720, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 80, 12, 10, 26
_INNER_WIDTH, _INNER_HEIGHT = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
_STRIP_HEIGHT = 22
_NAME_WIDTH = 150
_TICKS = 4
_LABELS = 6


@dataclass(frozen=True, slots=True)
class Series:
    """Values of one name, in one colour of CSS; None leaves a gap."""

    name: str
    colour: str
    values: Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Strip:
    """A row of a plot over time: intervals as (begin, end, colour, text), in the unit of the plot."""

    name: str
    intervals: Sequence[tuple[float, float, str, str]]


def stacked_bars(title: str, labels: Sequence[str], series: Sequence[Series]) -> str:
    """Return bars, one for each label, in which the values of all series are stacked in their order."""
    sums = [sum(item.values[place] or 0 for item in series) for place in range(len(labels))]
    top = _rounded_up(max(sums, default=0))
    width = _INNER_WIDTH / max(1, len(labels))
    parts = [*_y_axis(top, _count), *_x_labels(labels, width)]
    for place, label in enumerate(labels):
        base = 0.0
        for item in series:
            value = item.values[place] or 0
            if value:
                y, height = _y(base + value, top), value / top * _INNER_HEIGHT
                tip = escape(f"{label}: {item.name} {_count(value)}")
                parts.append(
                    f'<rect x="{_LEFT + place * width + width * 0.1:.1f}" y="{y:.1f}" width="{width * 0.8:.1f}" '
                    f'height="{height:.1f}" fill="{item.colour}"><title>{tip}</title></rect>'
                )
            base += value
    return _svg(title, _HEIGHT, parts)


def lines(title: str, labels: Sequence[str], series: Sequence[Series], show: Callable[[float], str]) -> str:
    """Return a line for each series, with a point for each label. `show` writes a value."""
    top = _rounded_up(max((value for item in series for value in item.values if value is not None), default=0))
    width = _INNER_WIDTH / max(1, len(labels))
    parts = [*_y_axis(top, show), *_x_labels(labels, width)]
    for item in series:
        points = [
            None if value is None else (_LEFT + (place + 0.5) * width, _y(value, top))
            for place, value in enumerate(item.values)
        ]
        parts += _polyline(points, item.colour)
        for label, point, value in zip(labels, points, item.values, strict=True):
            if point is not None and value is not None:
                tip = escape(f"{label}: {item.name} {show(value)}")
                dot = f'<circle cx="{point[0]:.1f}" cy="{point[1]:.1f}" r="2.5" fill="{item.colour}">'
                parts.append(f"{dot}<title>{tip}</title></circle>")
    return _svg(title, _HEIGHT, parts)


def shares(
    title: str, curves: Sequence[tuple[str, str, Sequence[tuple[int, int]]]], end: float, show: Callable[[float], str]
) -> str:
    """Return the share of values up to each value, as a step line for each curve.

    Args:
        title: the title.
        curves: name, colour, and (value, number of values up to it), smallest first.
        end: the value at the right edge.
        show: writes a value.
    """
    right = _rounded_up(end)
    parts = list(_y_axis(100, lambda value: f"{value:.0f} %"))
    for number in range(_TICKS + 1):
        x = _LEFT + number / _TICKS * _INNER_WIDTH
        parts.append(_text(x, _HEIGHT - 8, show(right * number / _TICKS), "middle" if number < _TICKS else "end"))
    for _name, colour, counted in curves:
        total = counted[-1][1] if counted else 0
        points: list[tuple[float, float] | None] = [(_LEFT, _y(0, 100))]
        share = 0.0
        for value, passed in counted:
            if value > right:
                break
            x = _LEFT + value / right * _INNER_WIDTH
            points.append((x, _y(share, 100)))
            share = 100 * passed / total
            points.append((x, _y(share, 100)))
        points.append((_LEFT + _INNER_WIDTH, _y(share, 100)))
        parts += _polyline(points, colour)
    return _svg(title, _HEIGHT, parts)


def strips(title: str, rows: Sequence[Strip], begin: float, end: float, labels: Sequence[str]) -> str:
    """Return a row for each strip over the time from `begin` to `end`; `labels` stand below at equal distances."""
    inner = _WIDTH - _NAME_WIDTH - _RIGHT
    height = _TOP + len(rows) * _STRIP_HEIGHT + _BOTTOM
    scale = inner / max(end - begin, 1)
    parts = []
    for place, row in enumerate(rows):
        y = _TOP + place * _STRIP_HEIGHT
        parts.append(_text(_NAME_WIDTH - 6, y + 14, row.name[:24], "end"))
        for first, last, colour, tip in row.intervals:
            x, width = _NAME_WIDTH + (first - begin) * scale, max(0.7, (last - first) * scale)
            bar = f'<rect x="{x:.1f}" y="{y + 3}" width="{width:.1f}" height="{_STRIP_HEIGHT - 6}" fill="{colour}">'
            parts.append(f"{bar}<title>{escape(tip)}</title></rect>")
    for place, label in enumerate(labels):
        x = _NAME_WIDTH + inner * place / max(1, len(labels) - 1)
        anchor = "start" if not place else "end" if place == len(labels) - 1 else "middle"
        parts.append(_text(x, height - 8, label, anchor))
    return _svg(title, height, parts)


def _svg(title: str, height: float, parts: Sequence[str]) -> str:
    head = f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" xmlns="http://www.w3.org/2000/svg">'
    return f"{head}<title>{escape(title)}</title>{''.join(parts)}</svg>"


def _y(value: float, top: float) -> float:
    return _TOP + _INNER_HEIGHT * (1 - value / top)


def _y_axis(top: float, show: Callable[[float], str]) -> list[str]:
    parts = []
    for number in range(_TICKS + 1):
        y = _TOP + _INNER_HEIGHT * (1 - number / _TICKS)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text(_LEFT - 6, y + 4, show(top * number / _TICKS), "end"))
    return parts


def _x_labels(labels: Sequence[str], width: float) -> list[str]:
    every = max(1, -(-len(labels) // _LABELS))
    return [
        _text(_LEFT + (place + 0.5) * width, _HEIGHT - 8, label, "middle")
        for place, label in enumerate(labels)
        if place % every == 0
    ]


def _polyline(points: Sequence[tuple[float, float] | None], colour: str) -> list[str]:
    """Return the line through the points, interrupted where one is None."""
    runs: list[list[str]] = [[]]
    for point in points:
        if point is None:
            runs.append([])
        else:
            runs[-1].append(f"{point[0]:.1f},{point[1]:.1f}")
    return [f'<polyline class="curve" stroke="{colour}" points="{" ".join(run)}"/>' for run in runs if len(run) > 1]


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _count(value: float) -> str:
    return f"{value:.0f}" if value == int(value) else f"{value:.1f}"


def _rounded_up(value: float) -> float:
    """Return the next of 4, 8, 20, 40, 80, 200 and so on: a quarter of it is whole."""
    unit = 1
    while True:
        for step in (2, 4, 8):
            if unit * step >= max(value, 4):
                return unit * step
        unit *= 10
