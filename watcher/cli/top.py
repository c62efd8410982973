"""`watcher top`: what goes on now, live in a terminal: states, lag, nearest deadlines, conditions, rates."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import typer

from watcher.cli.bare_ledger import LedgerFile, OpenLedger, SourceName, open_to_read
from watcher.cli.live_screen import is_live, run_live
from watcher.cli.options import DEFAULT_CONFIG, Config, Json, print_json
from watcher.cli.reasons import Reasons
from watcher.cli.table import lines as table_lines
from watcher.clock import SystemClock
from watcher.ledger import known_sources, overview, queries
from watcher.ledger.finding import created_since
from watcher.ledger.replicas import Replica, list_replicas
from watcher.report.listing import time_of
from watcher.report.story import blocks_left
from watcher.state import ENDED, State
from watcher.text import escape

_URGENT_LIMIT = 12
_RATE_OVER_S = 600
_REASON_LIMIT_CHARS = 100
Every = Annotated[float, typer.Option("--every", min=0.2, max=3600, help="Seconds between two frames.")]


@dataclass(frozen=True, slots=True)
class UrgentTask:
    """An unanswered task with a near deadline. `blocks_left` or `seconds_left` count to it, by the kind of it."""

    task_index: int
    state: str
    blocks_left: int | None
    seconds_left: float | None
    reason: str
    next_at: str | None


@dataclass(frozen=True, slots=True)
class Moment:
    """The overview at one moment, as `watcher top --json` prints it.

    `daemon` says why the daemon cannot be asked, "" where it replied. `conditions` are what it reports.
    `tasks_per_minute` is the rate of new tasks over ten minutes, by the times of their blocks; `ended_per_minute` that
    of tasks that ended since the frame before, None in the first one. `replicas` are the live processes that share the
    ledger.
    """

    at: str | None
    chain_id: int
    task_manager: str
    head_block: int
    cursor_block: int
    final_block: int
    lag_blocks: int
    open_tasks: int
    all_tasks: int
    states: dict[str, int]
    tasks_per_minute: float
    ended_per_minute: float | None
    daemon: str
    conditions: list[dict[str, Any]]
    urgent: list[UrgentTask]
    replicas: list[dict[str, Any]]


def top(
    config: Config = DEFAULT_CONFIG,
    ledger_file: LedgerFile = None,
    source: SourceName = None,
    every_s: Every = 2.0,
    as_json: Json = False,
) -> None:
    """Show what goes on now, drawn anew every few seconds: states, lag, deadlines, conditions. Ctrl-C ends it.

    Without a terminal it prints one frame, and with --json one object.
    """
    with open_to_read(config, ledger_file, source) as ledger:
        if as_json:
            print_json(asdict(moment_of(ledger)))
        elif is_live():
            run_live(_Moments(ledger).lines, every_s)
        else:
            for line in moment_lines(moment_of(ledger)):
                typer.echo(line)


class _Moments:
    """Frames one after the other, each with the rate since the one before."""

    def __init__(self, ledger: OpenLedger) -> None:
        self._ledger = ledger
        self._before: tuple[int, int] | None = None

    def lines(self, _width: int, _height: int) -> list[str]:
        """Return the lines of the next moment."""
        moment = moment_of(self._ledger, self._before)
        self._before = (SystemClock().now_ms(), moment.all_tasks - moment.open_tasks)
        return moment_lines(moment)


def moment_of(ledger: OpenLedger, before: tuple[int, int] | None = None) -> Moment:
    """Return the present frame; `before`: time (ms) and number of ended tasks of the frame before.

    Raises TryLater if the ledger cannot be read.
    """
    read, source_id, now_ms = ledger.reader.read_now, ledger.source_id, SystemClock().now_ms()
    cursor = read(queries.cursor, source_id)
    counts = read(queries.count_by_state, source_id)
    contract = next(each for each in read(known_sources.all_sources) if each.id == source_id)
    reasons = Reasons(ledger.reader, source_id, ledger.settings)
    rows = read(overview.nearest, source_id, cursor.head_closed_block, now_ms / 1000, _URGENT_LIMIT)
    urgent = [
        UrgentTask(
            row.task_index,
            row.state,
            blocks_left(row, cursor),
            None if row.deadline_s is None else row.deadline_s - now_ms / 1000,
            cause.reason,
            time_of(cause.next_ms),
        )
        for row, cause in zip(rows, reasons.of(rows) if rows else (), strict=True)
    ]
    daemon = reasons.daemon
    open_tasks = sum(count for state, count in counts.items() if state not in ENDED)
    ended = sum(counts.values()) - open_tasks
    new = read(created_since, source_id, now_ms // 1000 - _RATE_OVER_S)
    minutes = 0.0 if before is None else (now_ms - before[0]) / 60_000
    return Moment(
        at=time_of(now_ms),
        chain_id=contract.chain_id,
        task_manager="0x" + contract.task_manager.hex(),
        head_block=cursor.head_block,
        cursor_block=cursor.block,
        final_block=cursor.final_block,
        lag_blocks=max(0, cursor.head_block - cursor.block),
        open_tasks=open_tasks,
        all_tasks=sum(counts.values()),
        states={state.value: counts.get(state, 0) for state in State},
        tasks_per_minute=round(new / (_RATE_OVER_S / 60), 1),
        ended_per_minute=round((ended - before[1]) / minutes, 1) if before is not None and minutes > 0 else None,
        daemon=daemon.missing,
        conditions=[
            {"key": each.key, "message": each.message, "since": time_of(each.since_ms)} for each in daemon.conditions
        ],
        urgent=urgent,
        replicas=_replicas(*read(list_replicas, source_id)),
    )


def _replicas(leader_id: int | None, live: Sequence[Replica]) -> list[dict[str, Any]]:
    return [
        {
            "id": each.id,
            "host": each.host,
            "version": each.version,
            "roles": list(each.roles),
            "leads": each.id == leader_id,
            "slots": each.slots,
            "started_at": time_of(each.started_at_ms),
        }
        for each in live
    ]


def moment_lines(moment: Moment) -> list[str]:
    """Return a frame as lines of text without control characters."""
    return [escape(line) for line in _lines(moment)]


def _lines(moment: Moment) -> Iterator[str]:
    yield f"watcher of {moment.task_manager} on chain {moment.chain_id}, {moment.at}"
    lag = f"{moment.lag_blocks} behind" if moment.lag_blocks else "read to the head"
    yield f"head {moment.head_block}, read {moment.cursor_block} ({lag}), final {moment.final_block}"
    ended = "" if moment.ended_per_minute is None else f", {moment.ended_per_minute:g} ended a minute"
    yield f"{moment.all_tasks} tasks, {moment.open_tasks} open; {moment.tasks_per_minute:g} new a minute{ended}"
    yield ""
    counted = [f"{state} {count}" for state, count in moment.states.items() if count]
    yield "states: " + (", ".join(counted) or "no task yet")
    if moment.daemon:
        yield f"conditions: unknown, {moment.daemon}"
    elif not moment.conditions:
        yield "conditions: none"
    for condition in moment.conditions:
        yield f"condition {condition['key']} since {condition['since']}: {condition['message']}"
    for each in moment.replicas:
        lead = ", leads" if each["leads"] else ""
        yield f"replica {each['id']} on {each['host']}: {', '.join(each['roles'])}{lead}"
    yield ""
    rows = [
        (
            str(task.task_index),
            task.state,
            f"{task.blocks_left} blocks" if task.blocks_left is not None else f"{task.seconds_left or 0:.0f} s",
            task.reason[:_REASON_LIMIT_CHARS],
        )
        for task in moment.urgent
    ]
    if rows:
        yield from table_lines(("nearest deadline", "state", "left", "it"), rows, "|")
    else:
        yield "no unanswered task has a deadline ahead"
