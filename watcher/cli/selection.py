"""The options that select tasks: times, ranges of blocks, who answered, and how they read."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from watcher.clock import SystemClock
from watcher.ledger.finding import Responder, TaskFilter
from watcher.state import State

_AGO = re.compile(r"(\d{1,6})([smhdw])")
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DAYS_AGO = {"today": 0, "yesterday": 1}
_RANGE = re.compile(r"(\d{0,18})\.\.(\d{0,18})")


def moment_ms(text: str, now_ms: int) -> int:
    """Return a moment in milliseconds since 1970.

    Args:
        text: ISO 8601, in UTC unless it names an offset, or a time ago: 90s, 30m, 12h, 7d, 2w. A date, "today" and
            "yesterday" are the beginning of that day in UTC.
        now_ms: the present time.

    Raises:
        typer.BadParameter: it is neither.
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
        raise typer.BadParameter(
            f"{text[:80]!r} is no time: write 2026-01-31, 2026-01-31T12:00Z, yesterday, or how long ago: 12h, 7d"
        ) from None


def block_range(text: str) -> tuple[int | None, int | None]:
    """Return the first and the last block of `A..B`, None for an open side. Raises typer.BadParameter."""
    match = _RANGE.fullmatch(text)
    first, last = (int(side) if side else None for side in match.groups()) if match else (None, None)
    if match is None or (first is None and last is None) or (first is not None and last is not None and first > last):
        raise typer.BadParameter(f"{text[:80]!r} is no range of blocks: write 100..200, 100.. or ..200")
    return first, last


_ADDRESS = re.compile(r"0[xX][0-9a-fA-F]{40}")
_REASON_LIMIT_CHARS = 200

Since = Annotated[
    str | None,
    typer.Option(help="From this time of their blocks on: 2026-01-31, an ISO time with zone, 7d, 2h, yesterday."),
]
Until = Annotated[str | None, typer.Option(help="Before this time; a date is its beginning, 00:00 UTC.")]
Blocks = Annotated[str | None, typer.Option(help="With their log in these blocks: A..B, A.., ..B.")]
InState = Annotated[State | None, typer.Option(help="Only tasks in this state.")]
AnsweredBy = Annotated[
    str | None, typer.Option(help="Answered by ours, other, or the address that sent the response (0x...).")
]
Reason = Annotated[str | None, typer.Option(help="With this text in their error or reason; case does not count.")]


def task_filter(
    state: State | None,
    since: str | None,
    until: str | None,
    blocks: str | None,
    answered_by: str | None,
    reason: str | None,
) -> TaskFilter:
    """Return the tasks that these options name. Raises typer.BadParameter for a value that does not read."""
    now_ms = SystemClock().now_ms()
    since_ms = None if since is None else moment_ms(since, now_ms)
    until_ms = None if until is None else moment_ms(until, now_ms)
    if since_ms is not None and until_ms is not None and since_ms >= until_ms:
        raise typer.BadParameter(f"no time is from {since!r} on and before {until!r}: --since is not before --until")
    first, last = (None, None) if blocks is None else block_range(blocks)
    if reason is not None and not 0 < len(reason) <= _REASON_LIMIT_CHARS:
        raise typer.BadParameter(f"--reason takes 1 to {_REASON_LIMIT_CHARS} characters")
    responder = None if answered_by is None else responder_of(answered_by)
    return TaskFilter(state, since_ms, until_ms, first, last, responder, reason)


def responder_of(text: str) -> Responder | bytes:
    """Return who answered: ours, other, or an address of 20 bytes. Raises typer.BadParameter."""
    if text in (Responder.OURS, Responder.OTHER):
        return Responder(text)
    if _ADDRESS.fullmatch(text):
        return bytes.fromhex(text[2:])
    raise typer.BadParameter(f"{text[:80]!r} is nobody: write ours, other, or an address (0x and 40 hex digits)")
