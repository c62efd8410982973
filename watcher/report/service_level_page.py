"""The service level as one HTML page without anything from outside: no script, no font, no picture. It prints well.

Every text goes through the escaping of jinja2; the plots escape their own.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from watcher.errors import FixUsage
from watcher.report import plots
from watcher.report.availability import Availability, Interval
from watcher.report.distribution import Distribution
from watcher.report.plots import Series, Strip
from watcher.report.service_level import FAILED, IN_TIME, Level, Result, ServiceLevel, percent
from watcher.text import duration_text

_DAY_MS = 86_400_000
_GOOD, _OTHER, _BAD, _IDLE, _UNKNOWN = "#2e7d32", "#1565c0", "#b71c1c", "#9e9e9e", "#e0e0e0"
_COLOURS = {"p50": "#1565c0", "p95": "#ef6c00", "p99": "#b71c1c"}
_FIRST_LINE = b"<!doctype html>"
_SHOWN_SHARE = 99  # of the values in a plot of shares; the rest is in the table
_TIME_LABELS = 5


def write_page(path: Path, document: Mapping[str, Any], level: ServiceLevel, parts: Availability) -> None:
    """Write the page to a file, over an older page. Raises FixUsage if another file is there, or it fails."""
    text = page(document, level, parts)
    try:
        if path.is_file() and not _is_page(path):
            raise FixUsage(f"{path} exists and is no such report; name another file")
        path.write_text(text, encoding="utf-8")
    except (OSError, ValueError) as problem:
        raise FixUsage(f"{path} cannot be written ({getattr(problem, 'strerror', None) or problem})") from None


def _is_page(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_FIRST_LINE)) == _FIRST_LINE


def page(document: Mapping[str, Any], level: ServiceLevel, parts: Availability) -> str:
    """Return the page.

    Args:
        document: the JSON fields of the report.
        level: the service level, for its plots.
        parts: the availability, likewise.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"duration": _duration, "percent": percent}
    template = environment.get_template("service_level.html")
    return template.render(report=document, plots=plots_of(level, parts), colours=_COLOURS)


def _duration(seconds: float | None) -> str:
    return "" if seconds is None else duration_text(seconds * 1000)


def plots_of(level: ServiceLevel, parts: Availability) -> dict[str, Markup]:
    """Return the plots as SVG, by name."""
    labels = [_label(step.begin_ms, level.step_ms) for step in level.steps]
    return {
        name: Markup(svg)  # noqa: S704 - the plots escape their texts
        for name, svg in {
            "results": plots.stacked_bars("Tasks by result", labels, _results(level.steps)),
            "seconds": plots.lines(
                "Seconds from creation to the chain", labels, _percentiles(level.steps, "to_chain_ms"), duration_text
            ),
            "blocks": plots.lines(
                "Blocks from creation to the chain", labels, _percentiles(level.steps, "to_chain_blocks"), _whole
            ),
            "shares": _time_shares(level.total),
            "block_shares": _block_shares(level),
            "availability": _availability(level, parts),
        }.items()
    }


def _results(steps: Sequence[Level]) -> list[Series]:
    def of(name: str, colour: str, *results: Result) -> Series:
        return Series(name, colour, [sum(step.results[result] for result in results) for step in steps])

    return [
        of("answered in time by us", _GOOD, Result.OURS, Result.DELIVERED),
        of("answered in time by another", _OTHER, *sorted(IN_TIME - {Result.OURS, Result.DELIVERED})),
        of("not answered in time", _BAD, *sorted(FAILED)),
        of("open or skipped", _IDLE, Result.OPEN, Result.SKIPPED),
    ]


def _percentiles(steps: Sequence[Level], name: str) -> list[Series]:
    return [
        Series(share, colour, [getattr(step, name).at(int(share[1:])) for step in steps])
        for share, colour in _COLOURS.items()
    ]


def _time_shares(total: Level) -> str:
    curves = [("to the POST", _OTHER, total.to_post_ms), ("to the chain", _GOOD, total.to_chain_ms)]
    return plots.shares(
        "Share of tasks by the time since their creation",
        [(name, colour, list(values.cumulated())) for name, colour, values in curves],
        _end(*(values for _, _, values in curves)),
        duration_text,
    )


def _block_shares(level: ServiceLevel) -> str:
    values = level.total.to_chain_blocks
    curve = ("to the chain", _GOOD, list(values.cumulated()))
    return plots.shares("Share of tasks by the blocks since their creation", [curve], _end(values), _whole)


def _end(*distributions: Distribution) -> float:
    return max((item.at(_SHOWN_SHARE) or 0 for item in distributions), default=0) or 1


def _availability(level: ServiceLevel, parts: Availability) -> str:
    begin, end = level.since_ms, level.until_ms
    base = [(begin, end, _UNKNOWN, "unknown"), *_known(parts.known)]
    rows = [Strip("watcher", base)]
    for part in parts.parts:
        down = [
            (outage.began_ms, outage.ended_ms, _BAD, f"{part.key}: {outage.reason}")
            for outage in parts.outages
            if outage.key == part.key
        ]
        rows.append(Strip(part.key, [*base, *down]))
    labels = [
        _label(begin + (end - begin) * place // (_TIME_LABELS - 1), level.step_ms) for place in range(_TIME_LABELS)
    ]
    return plots.strips("Availability over time", rows, begin, end, labels)


def _known(intervals: Sequence[Interval]) -> list[tuple[float, float, str, str]]:
    return [(begin, end, _GOOD, "available") for begin, end in intervals]


def _label(at_ms: int, step_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d" if step_ms >= _DAY_MS else "%m-%d %H:%M")


def _whole(value: float) -> str:
    return f"{value:.0f}" if value == int(value) else f"{value:.1f}"
