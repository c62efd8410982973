"""The options that select past tasks: times, ranges of blocks, and how they read."""

import re
from datetime import UTC, datetime

import typer

_AGO = re.compile(r"(\d{1,6})([smhdw])")
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_RANGE = re.compile(r"(\d{0,18})\.\.(\d{0,18})")


def moment_ms(text: str, now_ms: int) -> int:
    """Return a moment in milliseconds since 1970.

    Args:
        text: ISO 8601, in UTC unless it names an offset, or a time ago: 90s, 30m, 12h, 7d, 2w.
        now_ms: the present time.

    Raises:
        typer.BadParameter: it is neither.
    """
    if ago := _AGO.fullmatch(text):
        return now_ms - int(ago[1]) * _UNIT_S[ago[2]] * 1000
    try:
        moment = datetime.fromisoformat(text)
        return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            f"{text[:80]!r} is no time: write 2026-01-31, 2026-01-31T12:00Z, or how long ago: 12h, 7d"
        ) from None


def block_range(text: str) -> tuple[int | None, int | None]:
    """Return the first and the last block of `A..B`, None for an open side. Raises typer.BadParameter."""
    match = _RANGE.fullmatch(text)
    first, last = (int(side) if side else None for side in match.groups()) if match else (None, None)
    if match is None or (first is None and last is None) or (first is not None and last is not None and first > last):
        raise typer.BadParameter(f"{text[:80]!r} is no range of blocks: write 100..200, 100.. or ..200")
    return first, last
