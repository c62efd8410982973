"""Why tasks of a list are in their states, as `watcher explain` tells it for one: a page of tasks at a time."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.engine import Row

from watcher.cli.options import readyz_path
from watcher.clock import SystemClock
from watcher.health.cause.cause import cause_of
from watcher.health.cause.ended import final
from watcher.health.cause.evidence import Evidence
from watcher.health.readyz import NOT_ASKED, Daemon, read_daemon
from watcher.ledger.engine import parse_url
from watcher.ledger.finding import attempts_of, journals, listed_rows
from watcher.ledger.lock import is_locked
from watcher.ledger.reader import Reader
from watcher.ledger.story import SourceRecord, TaskRecord, source_record
from watcher.report.story import Cause
from watcher.settings.model import Settings
from watcher.state import ENDED, State

COLUMNS = ("state", "responded_block", "error")
"""The columns that `Reasons.of_columns` needs."""
_GONE = Cause("has left the ledger since this list began")


class Reasons:
    """The causes of tasks of one source. The daemon is asked once, when the first open task is met."""

    def __init__(self, reader: Reader, source_id: int, settings: Settings | None) -> None:
        """`settings`: None for a ledger file alone, beside which no daemon is looked for."""
        self._reader = reader
        self._source_id = source_id
        self._settings = settings
        self._now_ms = SystemClock().now_ms()
        self._source: SourceRecord | None = None
        self._daemon: tuple[Daemon, bool | None] | None = None

    def of_columns(self, listed: Mapping[str, Sequence[Any]]) -> list[Cause]:
        """Return the cause of each task of a page, as `of` does, from the columns `COLUMNS`.

        Final tasks are most of a ledger, and their cause is in these columns. The others are read again.
        """
        ids, states = listed["id"], listed["state"]
        others = [id_ for id_, state in zip(ids, states, strict=True) if state != State.FINAL]
        rows = self._reader.read_now(listed_rows, others) if others else []
        causes = dict(zip((row.id for row in rows), self.of(rows), strict=True))
        page, last, of_last = [], None, _GONE  # the tasks of one block lie together and share their cause
        for id_, state, *key in zip(ids, states, listed["responded_block"], listed["error"], strict=True):
            if state != State.FINAL:
                page.append(causes.get(id_, _GONE))
                continue
            if key != last:
                last, of_last = key, final(*key)
            page.append(of_last)
        return page

    def of(self, rows: Sequence[Row[Any]]) -> list[Cause]:
        """Return the cause of each task of a page. Raises TryLater if the ledger cannot be read."""
        open_ids = [row.id for row in rows if row.state not in ENDED]
        lines = self._reader.read_now(journals, [row.id for row in rows]) if rows else {}
        tries = self._reader.read_now(attempts_of, open_ids) if open_ids else {}
        shared = self._ask_daemon() if open_ids else (NOT_ASKED, None)
        records = [TaskRecord(row, lines.get(row.id, ()), tries.get(row.id, ()), ()) for row in rows]
        return [cause_of(self._evidence(record, *shared)) for record in records]

    def _evidence(self, record: TaskRecord, daemon: Daemon, is_running: bool | None) -> Evidence:
        confirmations = 0 if self._settings is None else self._settings.chain.confirmations
        max_attempts = 1 if self._settings is None else self._settings.hook.max_attempts
        source = self._source_record()
        return Evidence(record, source, self._now_ms, confirmations, max_attempts, daemon, is_running)

    @property
    def daemon(self) -> Daemon:
        """The daemon beside the ledger, asked once."""
        return self._ask_daemon()[0]

    def _source_record(self) -> SourceRecord:
        if self._source is None:
            self._source = self._reader.read_now(source_record, self._source_id)
        return self._source

    def _ask_daemon(self) -> tuple[Daemon, bool | None]:
        if self._daemon is None:
            self._daemon = self._read_daemon()
        return self._daemon

    def _read_daemon(self) -> tuple[Daemon, bool | None]:
        if self._settings is None:
            return NOT_ASKED, None
        address, section = self._settings.http.address, self._settings.task_manager
        token = self._settings.http.token
        secret = "" if token is None else token.get_secret_value()
        daemon = read_daemon(address, self._settings.chain.chain_id, section.address, secret, readyz_path())
        return daemon, is_locked(parse_url(self._settings.ledger.url)) if daemon.missing else True
