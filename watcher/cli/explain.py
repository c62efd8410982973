"""`watcher explain`: the story of one task, why it is where it is, and what to do."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from watcher.cli.bare_ledger import LedgerFile, OpenLedger, SourceName, open_to_read
from watcher.cli.options import DEFAULT_CONFIG, Config, Index, Json, print_json, readyz_path
from watcher.clock import SystemClock
from watcher.ledger.engine import parse_url, sqlite_path
from watcher.ledger.lock import is_locked
from watcher.ledger.story import source_record, task_records
from watcher.report.payload import Decoder, Payload
from watcher.report.story import Story, tell
from watcher.state import ENDED
from watcher.text import duration_text, escape, one_line

if TYPE_CHECKING:
    from rich.table import Table

    from watcher.cli.console import PlainConsole
    from watcher.health.cause.evidence import Evidence

_VALUE_LIMIT_CHARS = 200
_REASON_LIMIT_CHARS = 120
_ENDS = 8  # lines from each end of a long list
# With less room SQLite cannot write its log.
_NO_SPACE_BYTES = 1024 * 1024

T = TypeVar("T")


def explain(
    index: Index,
    config: Config = DEFAULT_CONFIG,
    ledger_file: LedgerFile = None,
    source: SourceName = None,
    as_json: Json = False,
) -> None:
    """Tell the story of one task: its state, why it is there now, what to do, and every step and attempt so far.

    Reads the ledger, and asks the daemon on http.listen for the conditions that it alone knows. Works without a daemon.
    Of a file alone (--ledger) no daemon is asked, and message and answer stay bytes.
    """
    from watcher.cli.console import PlainConsole

    with open_to_read(config, ledger_file, source) as ledger:
        stories = tell_stories(ledger, index)
        if as_json:
            print_json([story.as_json() for story in stories])
            return
        console = PlainConsole()
        for story in stories:
            _print(story, console)


def tell_stories(ledger: OpenLedger, index: int) -> list[Story]:
    """Return the story of each task the ledger knows at an index, the canonical one first.

    Raises:
        FixUsage: there is none.
    """
    from watcher.daemon.decoder import decoder_of
    from watcher.health.cause.cause import cause_of

    decoder = Decoder() if ledger.settings is None else decoder_of(ledger.settings)
    return [
        tell(
            evidence.record,
            evidence.cursor,
            cause_of(evidence),
            decoder,
            evidence.now_ms,
            unknown="" if evidence.row.state in ENDED else escape(evidence.daemon.missing),
        )
        for evidence in _evidence(ledger, index)
    ]


def _evidence(ledger: OpenLedger, index: int) -> "list[Evidence]":
    from watcher.health.cause.evidence import Evidence
    from watcher.health.readyz import NOT_ASKED, read_daemon

    records = ledger.reader.read_now(task_records, ledger.source_id, index)
    source = ledger.reader.read_now(source_record, ledger.source_id)
    now_ms, settings = SystemClock().now_ms(), ledger.settings
    if settings is None:
        return [Evidence(record, source, now_ms) for record in records]
    url = parse_url(settings.ledger.url)
    chain_id, address = settings.chain.chain_id, settings.task_manager.address
    is_open = any(record.task.state not in ENDED for record in records)
    token = "" if settings.http.token is None else settings.http.token.get_secret_value()
    daemon = read_daemon(settings.http.address, chain_id, address, token, readyz_path()) if is_open else NOT_ASKED
    return [
        Evidence(
            record,
            source,
            now_ms,
            settings.chain.confirmations,
            settings.hook.max_attempts,
            daemon,
            is_locked(url) if daemon.missing else True,
            _storage(sqlite_path(url)) if daemon.missing else "",
        )
        for record in records
    ]


def _storage(path: Path | None) -> str:
    """Return why nothing can be written beside a SQLite ledger, "" where it can."""
    if path is None:
        return ""
    free_bytes = shutil.disk_usage(path.absolute().parent).free
    return f"the disk of {path} is full" if free_bytes < _NO_SPACE_BYTES else ""


def _print(story: Story, console: "PlainConsole") -> None:
    from rich.table import Column, Table

    console.print(f"task {story.task_index} is {story.state}" + ("" if story.canonical else ", and off the chain"))
    console.print(f"it {story.summary}", soft_wrap=True)
    grid = Table.grid(Column(justify="right"), Column(overflow="fold"), padding=(0, 1))
    for label, value in _lines(story):
        grid.add_row(label, value)
    console.print(grid)
    console.print("", _timeline(story), sep="\n")
    if story.attempts:
        console.print("", _attempts(story), sep="\n")


def _lines(story: Story) -> Iterator[tuple[str, str]]:
    yield "why", f"it {story.reason}"
    if story.since is not None:
        yield "since", story.since
    if (left := _left(story)) is not None:
        yield "left", left
    if (next_try := _next(story)) is not None:
        yield "next", next_try
    if story.advice:
        yield "do", story.advice
    if story.unknown:
        yield "unknown", story.unknown
    at = f" ({story.block_at})" if story.block_at else ""
    yield "created", f"block {story.block_number}{at}, transaction {story.created_tx_hash}"
    yield "message", _value(story.message)
    if event := " ".join(_named(story.fields, story.message.hex)):
        yield "event", one_line(event, 2 * _VALUE_LIMIT_CHARS)
    if story.answer is not None:
        yield "answer", f"{_value(story.answer)}, by {story.hook_version}"
    for answer in story.chain_answers:
        at = f" ({answer.at})" if answer.at else ""
        sender = f", sent by {answer.sender}" if answer.sender else ""
        whose = f"by {answer.by}, block {answer.block_number}{at}, transaction {answer.tx_hash}{sender}"
        yield "on chain", f"{_value(answer.answer)}, {whose}" + ("" if answer.counts else " (not the task's answer)")


def _left(story: Story) -> str | None:
    deadline = f"block {story.deadline_block}" if story.deadline_block is not None else story.deadline_at
    left = [] if story.blocks_left is None else [f"{story.blocks_left} blocks"]
    if story.seconds_left is not None:
        left.append(f"{story.seconds_left:.0f} s")
    head = f"; the head is {story.head_block}" if story.blocks_left is not None else ""
    return f"{', '.join(left)} to the deadline ({deadline}{head})" if left else None


def _next(story: Story) -> str | None:
    when = [] if story.next_at is None else [f"{story.next_at} (in {story.next_s:.0f} s)"]
    if story.next_block is not None:
        when.append(f"block {story.next_block} (the head is {story.head_block})")
    return " and ".join(when) or None


def _named(values: Mapping[str, Any], message: str, path: str = "") -> Iterator[str]:
    """Yield the named values of an event as `path=value`, without the message, which has its own line."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _named(value, message, f"{path}{name}.")
        elif value != message:
            yield f"{path}{name}={value}"


def _value(payload: Payload) -> str:
    return one_line(payload.text, _VALUE_LIMIT_CHARS)


def _timeline(story: Story) -> "Table":
    table = _table("state", "at", "for", "block", "why")
    for step in _ends(story.timeline):
        spent = "" if step.duration_ms is None else duration_text(step.duration_ms)
        block = "" if step.block is None else str(step.block)
        table.add_row(step.state, step.at, spent, block, one_line(step.why, _REASON_LIMIT_CHARS))
    return _titled(table, "timeline", len(story.timeline))


def _attempts(story: Story) -> "Table":
    table = _table("attempt", "at", "for", "outcome", "reply")
    for attempt in _ends(story.attempts):
        outcome = (attempt.outcome or "none") + (f" {attempt.http_status}" if attempt.http_status else "")
        digest = f", request {attempt.request_digest[:10]}" if attempt.request_digest else ""
        table.add_row(
            f"{attempt.api or attempt.kind} {attempt.number}",
            attempt.began_at,
            "" if attempt.duration_ms is None else duration_text(attempt.duration_ms),
            outcome,
            one_line(attempt.reason or attempt.reply, _REASON_LIMIT_CHARS) + digest,
        )
    return _titled(table, "attempts", len(story.attempts))


def _table(*names: str) -> "Table":
    """Return a table without lines, whose last column takes the room that is left."""
    from rich.table import Column, Table

    columns = [Column(name, no_wrap=True) for name in names[:-1]]
    return Table(*columns, Column(names[-1], overflow="fold"), box=None, title_justify="left", pad_edge=False)


def _titled(table: "Table", name: str, count: int) -> "Table":
    hidden = count - 2 * _ENDS
    table.title = name + (f" ({hidden} between are left out; --json has them)" if hidden > 0 else "")
    return table


def _ends(lines: Sequence[T]) -> Sequence[T]:
    """Return the first and the last lines of a long list: one screen, however often a task was tried."""
    return lines if len(lines) <= 2 * _ENDS else [*lines[:_ENDS], *lines[-_ENDS:]]
