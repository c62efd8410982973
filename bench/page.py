"""The published results: the block of docs/dev/benchmarks.md and its drawings, all written from one file of results."""

import re
from collections.abc import Iterator, Mapping, Sequence

from bench import results as result_file
from bench.errors import Failed
from bench.machine import ROOT
from bench.measure import Curve, Point
from bench.results import MeasureResult, Results, SideResult
from bench.summary import values
from bench.svg import Chart, draw
from bench.tables import rows_of

PAGE = ROOT / "docs" / "dev" / "benchmarks.md"
PUBLISHED = ROOT / "docs" / "dev" / "benchmarks.json"
DRAWINGS = ROOT / "docs" / "dev" / "benchmarks"
_BEGIN, _END = "<!-- results: written by `python -m bench --publish` -->", "<!-- end of results -->"


def publish(results: Results) -> None:
    """Write the results, the page's block and the drawings into docs/. Raises Failed without results or a block."""
    if not results.measures:
        raise Failed("there are no results to publish: run `make bench` first")
    result_file.write(results, PUBLISHED)
    PAGE.write_text(with_block(PAGE.read_text(encoding="utf-8"), results), encoding="utf-8")
    DRAWINGS.mkdir(exist_ok=True)
    drawings = dict(charts(results))
    for stale in DRAWINGS.glob("*.svg"):
        if stale.name not in drawings:
            stale.unlink()
    for name, text in drawings.items():
        (DRAWINGS / name).write_text(text, encoding="utf-8")


def with_block(page: str, results: Results) -> str:
    """Return the page with the results in its block. Raises Failed if it has no block."""
    sections = (_section(result) for result in results.measures.values())
    return with_text(page, _BEGIN, "\n\n".join(sections), _END)


def with_text(page: str, begin: str, text: str, end: str) -> str:
    """Return the page with a text between two lines. Raises Failed if it does not have them."""
    block = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    if not block.search(page):
        raise Failed(f"the page has no block {begin} ... {end}")
    return block.sub(lambda _: "\n\n".join([begin, text, end]), page)


def charts(results: Results) -> Iterator[tuple[str, str]]:
    """Yield each drawing: its file name and its text."""
    for result in results.measures.values():
        for curve in result.curves:
            if lines := _lines(result, curve):
                chart = Chart(curve.title, curve.x_label, curve.y_label, curve.log_x, curve.log_y)
                yield f"{curve.file}.svg", draw(chart, lines)


def _section(result: MeasureResult) -> str:
    rows = rows_of(result)
    parts = [f"### {result.title[0].upper()}{result.title[1:]}"]
    if rows.rows:
        aligned = ["---", *("---:" for _ in rows.header[1:])]
        parts.append("\n".join(f"| {' | '.join(row)} |" for row in [rows.header, aligned, *rows.rows]))
    parts.append("\n".join(f"- {note}" for note in rows.notes))
    parts += [f"![{c.title}](benchmarks/{c.file}.svg)" for c in result.curves if _lines(result, c)]
    return "\n\n".join(parts)


def _lines(result: MeasureResult, curve: Curve) -> Mapping[str, Sequence[Point]]:
    """Return the lines of a drawing by name; without a line of two points it is left out."""
    lines: dict[str, list[Point]] = {}
    for side in result.sides:
        points = _series(side, curve.series) if curve.series else _figure(side, curve.figure)
        if points:
            lines.setdefault(side.line, []).extend(points)
    return lines if any(len(points) > 1 for points in lines.values()) else {}


def _series(side: SideResult, name: str) -> Sequence[Point]:
    """Return the series of the median run: the one in the middle by the mean of its values."""
    runs = [sample.series[name] for sample in side.samples if sample.series.get(name)]
    runs.sort(key=lambda points: sum(y for _, y in points) / len(points))
    return runs[len(runs) // 2] if runs else []


def _figure(side: SideResult, key: str) -> Sequence[Point]:
    spread = values(side, key)
    return [(side.x, spread.median)] if spread else []
