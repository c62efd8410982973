"""Templates as HTML. Loaded with the first page: a daemon that nobody looks at pays nothing for it.

Invariants: every value is escaped for HTML, and every character in it that could hide or reorder text is spelled out;
a template that names a missing value is an error and no gap.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from watcher.dashboard.static import address_of
from watcher.report.listing import hexed
from watcher.report.service_level import percent
from watcher.state import State
from watcher.text import duration_text, escape, one_line

_TEMPLATES = Path(__file__).with_name("templates")
_GOOD = frozenset({State.FINAL, State.DELIVERED, State.RESPONDED})
_BAD = frozenset({State.EXPIRED, State.FAILED, State.BLOCKED})
_DOUBTFUL = frozenset(
    {State.UNKNOWN, State.WAITING, State.RESPONDED_OTHER, State.FINAL_OTHER, State.QUARANTINED, State.ORPHANED}
)


def render(template: str, values: Mapping[str, Any]) -> str:
    """Return a page as HTML."""
    return _environment().get_template(template).render(values)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.globals["static"] = address_of
    environment.filters.update(
        seconds=lambda s: "" if s is None else duration_text(s * 1000),
        percent=percent,
        duration=lambda ms: "" if ms is None else duration_text(max(0, ms)),
        clock=clock,
        tone=tone,
        number=number,
        short=short,
        cut=one_line,
        ago=lambda ms, now_ms: f"{duration_text(max(0, now_ms - ms))} ago",
        title=sentence,
        hex=hexed,
        ticks=ticks,
    )
    return environment


def _visible(value: Any) -> Any:
    """Return a value as the page shows it: nothing for None, and no character that hides or reorders others."""
    if value is None:
        return ""
    return escape(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def tone(state: str) -> str:
    """Return the tone of a state: good, bad, doubtful or plain."""
    if state in _GOOD:
        return "good"
    return "bad" if state in _BAD else "doubtful" if state in _DOUBTFUL else "plain"


def number(value: float | None) -> str:
    """Return a number with its thousands apart."""
    return "" if value is None else f"{value:,}"


def short(text: str | None) -> str:
    """Return the begin and the end of a long hash."""
    return "" if text is None else text if len(text) <= 20 else f"{text[:10]}…{text[-6:]}"


def clock(value: int | str | None) -> Markup:
    """Return a time (milliseconds since 1970, or ISO 8601) as an HTML element, in UTC and without its fractions."""
    if value is None:
        return Markup("")
    at = datetime.fromtimestamp(value / 1000, UTC) if isinstance(value, int) else datetime.fromisoformat(value)
    iso = at.isoformat(timespec="milliseconds")
    return Markup('<time datetime="{}" title="{}">{:%Y-%m-%d %H:%M:%S}</time>').format(iso, iso, at)


def ticks(text: str) -> Markup:
    """Return text with what stands between backticks as code."""
    parts = text.split("`")
    escaped = [
        Markup("<code>{}</code>").format(_visible(part)) if place % 2 else Markup.escape(_visible(part))
        for place, part in enumerate(parts)
    ]
    return Markup("").join(escaped) if len(parts) % 2 else Markup.escape(_visible(text))


def sentence(text: str) -> str:
    """Return text with a capital first letter."""
    return text[:1].upper() + text[1:]
