"""A small writer of line charts as SVG (https://www.w3.org/TR/SVG11/): axes, ticks, lines, a legend."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from bench.measure import Point

_WIDTH, _HEIGHT = 720, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 80, 210, 40, 56
_COLOURS = ("#0b5fff", "#d9480f", "#2b8a3e", "#862e9c", "#5c677d", "#c2255c", "#087f5b", "#664d03")
_TICKS = 5


@dataclass(frozen=True, slots=True)
class Chart:
    """Titles of a chart, and which axes are logarithmic."""

    title: str
    x_label: str
    y_label: str
    log_x: bool = False
    log_y: bool = False


class _Axis:
    """The map of values to pixels along one axis."""

    def __init__(self, numbers: Sequence[float], first: float, last: float, *, log: bool) -> None:
        self._log, self._first, self._last = log, first, last
        low, high = min(numbers), max(numbers)
        if log:
            self._low, self._high = math.log10(low), math.log10(high)
        else:
            self._low, self._high = min(0.0, low), high
        if self._high - self._low < 1e-9:
            self._high = self._low + 1

    def pixel(self, number: float) -> float:
        value = math.log10(number) if self._log else number
        return self._first + (value - self._low) / (self._high - self._low) * (self._last - self._first)

    def ticks(self) -> list[float]:
        """Return round values within the axis."""
        if self._log:
            powers = range(math.floor(self._low), math.ceil(self._high) + 1)
            ticks = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
            inside = [tick for tick in ticks if self._low - 1e-9 <= math.log10(tick) <= self._high + 1e-9]
            return inside if len(inside) <= 2 * _TICKS else [t for t in inside if str(t).strip("0.")[0] == "1"]
        step = _round_step((self._high - self._low) / _TICKS)
        count = int((self._high - self._low) / step + 1e-9)
        return [self._low + step * number for number in range(count + 1)]


def draw(chart: Chart, lines: Mapping[str, Sequence[Point]]) -> str:
    """Return a chart of lines by name. A line with one point is drawn as a level across; empty lines are left out."""
    lines = {name: _usable(points, chart) for name, points in lines.items()}
    lines = {name: points for name, points in lines.items() if points}
    xs = [x for points in lines.values() if len(points) > 1 for x, _ in points] or [
        0.0 + chart.log_x,
        1.0 + chart.log_x,
    ]
    ys = [y for points in lines.values() for _, y in points] or [1.0]
    x_axis = _Axis(xs, _LEFT, _WIDTH - _RIGHT, log=chart.log_x)
    y_axis = _Axis(ys, _HEIGHT - _BOTTOM, _TOP, log=chart.log_y)
    places = sorted(set(xs))
    x_ticks = places if chart.log_x and len(places) <= _TICKS else x_axis.ticks()
    parts = [*_border(chart), *_x_ticks(x_axis, x_ticks), *_y_ticks(y_axis)]
    for number, (name, points) in enumerate(lines.items()):
        if len(points) == 1:
            points = [(min(xs), points[0][1]), (max(xs), points[0][1])]
            parts += _line(number, name, [(x_axis.pixel(x), y_axis.pixel(y)) for x, y in points], level=True)
        else:
            parts += _line(number, name, [(x_axis.pixel(x), y_axis.pixel(y)) for x, y in points], level=False)
    return "\n".join([*parts, "</svg>", ""])


def _usable(points: Sequence[Point], chart: Chart) -> list[Point]:
    """Return the points that can be drawn: finite, and above zero on a logarithmic axis. A level has no place on x."""
    finite = [(x, y) for x, y in sorted(points) if math.isfinite(y) and (y > 0 or not chart.log_y)]
    return finite if len(finite) == 1 else [(x, y) for x, y in finite if x > 0 or not chart.log_x]


def _border(chart: Chart) -> list[str]:
    right, bottom, middle = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM, (_LEFT + _WIDTH - _RIGHT) / 2
    turned = f'transform="rotate(-90 18 {(_TOP + bottom) / 2:g})"'
    font = 'font-family="sans-serif" font-size="12"'
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" {font}>',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        f'<text x="{_LEFT}" y="24" font-size="15" font-weight="bold">{escape(chart.title)}</text>',
        f'<path d="M{_LEFT} {_TOP}V{bottom}H{right}" fill="none" stroke="#333"/>',
        f'<text x="{middle:g}" y="{_HEIGHT - 12}" text-anchor="middle">{escape(chart.x_label)}</text>',
        f'<text x="18" y="{(_TOP + bottom) / 2:g}" text-anchor="middle" {turned}>{escape(chart.y_label)}</text>',
    ]


def _x_ticks(axis: _Axis, ticks: Sequence[float]) -> list[str]:
    y = _HEIGHT - _BOTTOM
    return [f'<text x="{axis.pixel(t):.1f}" y="{y + 18}" text-anchor="middle">{_label(t)}</text>' for t in ticks]


def _y_ticks(axis: _Axis) -> list[str]:
    parts = []
    for tick in axis.ticks():
        y = axis.pixel(tick)
        parts.append(f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}" stroke="#ddd"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{_label(tick)}</text>')
    return parts


def _line(number: int, name: str, pixels: Sequence[Point], *, level: bool) -> list[str]:
    """Return a line with its entry in the legend. `level`: dashed, without points."""
    colour = _COLOURS[number % len(_COLOURS)]
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in pixels)
    dashed = ' stroke-dasharray="6 4"' if level else ""
    place = _TOP + 12 + 20 * number
    parts = [f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="2"{dashed}/>']
    if not level and len(pixels) <= 30:
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colour}"/>' for x, y in pixels]
    x = _WIDTH - _RIGHT + 16
    parts.append(f'<path d="M{x} {place}h20" stroke="{colour}" stroke-width="2"{dashed}/>')
    parts.append(f'<text x="{x + 26}" y="{place + 4}">{escape(name)}</text>')
    return parts


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough - 1e-12)


def _label(number: float) -> str:
    for limit, unit in ((1e6, "M"), (1e3, "k")):
        if abs(number) >= limit:
            return f"{number / limit:g}{unit}"
    return f"{number:.3g}"
