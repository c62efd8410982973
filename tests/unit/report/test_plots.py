"""Plots: well-formed SVG whatever the values are, with texts escaped and every value within the frame."""

from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from watcher.report.plots import Series, Strip, lines, shares, stacked_bars, strips

_VALUE = st.one_of(st.none(), st.floats(0, 1e12, allow_nan=False), st.integers(0, 10**9))
_HOSTILE = '<script>"&'


def _numbers(svg: str, name: str) -> list[float]:
    root = ElementTree.fromstring(svg)
    return [float(item.attrib[name]) for item in root.iter() if name in item.attrib and item.tag.endswith("rect")]


@given(st.lists(st.tuples(_VALUE, _VALUE), min_size=1, max_size=20))
def test_bars_and_lines_stay_within_the_frame(values: list[tuple[float | None, float | None]]) -> None:
    labels = [_HOSTILE] * len(values)
    series = [Series(_HOSTILE, "red", [pair[place] for pair in values]) for place in range(2)]
    bars = stacked_bars(_HOSTILE, labels, series)
    assert all(0 <= y <= 220 for y in _numbers(bars, "y"))
    assert all(0 <= height <= 220 for height in _numbers(bars, "height"))
    ElementTree.fromstring(lines(_HOSTILE, labels, series, str))
    assert "<script>" not in bars


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 5)), max_size=20), st.integers(1, 10**6))
def test_curve_of_shares_never_falls(steps: list[tuple[int, int]], end: int) -> None:
    passed, counted = 0, []
    for value, count in sorted(dict(steps).items()):
        passed += count
        counted.append((value, passed))
    svg = shares("title", [("name", "red", counted)], end, str)
    curve = ElementTree.fromstring(svg).find(".//{*}polyline")
    assert curve is not None
    heights = [float(point.split(",")[1]) for point in curve.attrib["points"].split()]
    assert heights == sorted(heights, reverse=True)


def test_strips_take_hostile_names() -> None:
    svg = strips("t", [Strip(_HOSTILE, [(0, 5, "red", _HOSTILE)]), Strip("b", [])], 0, 10, ["a", "b", "c"])
    ElementTree.fromstring(svg)
    assert "<script>" not in svg
