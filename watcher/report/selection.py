"""How a person names times, blocks and responders: on the command line, and in the filters of pages."""

import re
from datetime import UTC, datetime, timedelta

from watcher.ledger.finding import Responder

_AGO = re.compile(r"(\d{1,6})([smhdw])")
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DAYS_AGO = {"today": 0, "yesterday": 1}
_RANGE = re.compile(r"(\d{0,18})\.\.(\d{0,18})")
_ADDRESS = re.compile(r"0[xX][0-9a-fA-F]{40}")


def moment_ms(text: str, now_ms: int) -> int:
    """Return a moment in milliseconds since 1970.

    Args:
        text: ISO 8601, in UTC unless it names an offset, or a time ago: 90s, 30m, 12h, 7d, 2w. A date, "today" and
            "yesterday" are the beginning of that day in UTC.
        now_ms: the present time.

    Raises:
        ValueError: it is neither.
    """
    if ago := _AGO.fullmatch(text):
        return now_ms - int(ago[1]) * _UNIT_S[ago[2]] * 1000
    if text in _DAYS_AGO:
        today = datetime.fromtimestamp(now_ms / 1000, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        return int((today - timedelta(days=_DAYS_AGO[text])).timestamp() * 1000)
    try:
        moment = datetime.fromisoformat(text)
        return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        raise ValueError(
            f"{text[:80]!r} is no time: write 2026-01-31, 2026-01-31T12:00Z, yesterday, or how long ago: 12h, 7d"
        ) from None


def block_range(text: str) -> tuple[int | None, int | None]:
    """Return the first and the last block of `A..B`, None for an open side. Raises ValueError."""
    match = _RANGE.fullmatch(text)
    first, last = (int(side) if side else None for side in match.groups()) if match else (None, None)
    if match is None or (first is None and last is None) or (first is not None and last is not None and first > last):
        raise ValueError(f"{text[:80]!r} is no range of blocks: write 100..200, 100.. or ..200")
    return first, last


def responder_of(text: str) -> Responder | bytes:
    """Return who answered: ours, other, or an address of 20 bytes. Raises ValueError."""
    if text in (Responder.OURS, Responder.OTHER):
        return Responder(text)
    if _ADDRESS.fullmatch(text):
        return bytes.fromhex(text[2:])
    raise ValueError(f"{text[:80]!r} is nobody: write ours, other, or an address (0x and 40 hex digits)")
