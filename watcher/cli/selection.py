"""The options that select tasks: times, ranges of blocks, who answered, and how they read."""

from collections.abc import Callable
from typing import Annotated, ParamSpec, TypeVar

import typer

from watcher.clock import SystemClock
from watcher.ledger.finding import TaskFilter
from watcher.report import selection
from watcher.state import State

P = ParamSpec("P")
T = TypeVar("T")


def moment_ms(text: str, now_ms: int) -> int:
    """Return a moment as `selection.moment_ms` does. Raises typer.BadParameter."""
    return _option(selection.moment_ms, text, now_ms)


def block_range(text: str) -> tuple[int | None, int | None]:
    """Return the first and the last block as `selection.block_range` does. Raises typer.BadParameter."""
    return _option(selection.block_range, text)


def _option(read: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    try:
        return read(*args, **kwargs)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


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
    responder = None if answered_by is None else _option(selection.responder_of, answered_by)
    return TaskFilter(state, since_ms, until_ms, first, last, responder, reason)
