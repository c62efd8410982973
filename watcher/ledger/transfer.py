"""The move of a ledger into another database: locked, checked, copied, compared, and the old one marked as left.

Invariant: each step can be cut short anywhere, and the same move begun again finishes it. Between the mark in the
source and the end no daemon opens either side.
"""

import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from random import Random

from sqlalchemy import Connection, Engine, func, select, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from watcher.errors import FixConfiguration, FixUsage, TryLater
from watcher.ledger import copying, restore, schema
from watcher.ledger.audit.check import Check, Checker
from watcher.ledger.audit.roots import Root, roots
from watcher.ledger.copying import Copied, Follow, SourceChanged
from watcher.ledger.engine import database_reason, generation_of, open_engine, sqlite_path
from watcher.ledger.lock import create_file, open_mark, sole_writer
from watcher.ledger.move import COPYING, LEFT, mark_in, name_of, set_mark
from watcher.ledger.periods import RUNNING
from watcher.ledger.reader import Reader
from watcher.ledger.side_tables import periods
from watcher.ledger.tables import sources
from watcher.text import escape

_ADVISORY_KEY = 0x6C65646765720001  # "ledger": one copy into a database at a time
# A daemon writes that it runs once a minute.
_RUNNING_MS = 150_000
# A session that was just closed, as that of a daemon or a killed copy, is there for a moment.
_LOOKS, _LOOK_EVERY_S = 20, 0.1
_OTHER_SESSIONS = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
    "AND backend_type = 'client backend'"
)


@dataclass(frozen=True, slots=True)
class SourceAudit:
    """What the audit chain says of one task manager: the check of its rows, and the root of its newest day."""

    chain_id: int
    task_manager: bytes
    check: Check
    root: Root | None


@dataclass(frozen=True, slots=True)
class Transfer:
    """A finished move: the rows of each table, how many an earlier run had copied, and the audit of both sides."""

    rows: Mapping[str, int]
    resumed: int
    before: list[SourceAudit]
    after: list[SourceAudit]


def transfer(source: URL, target: URL, random: Random, follow: Follow) -> Transfer:
    """Move a ledger, or finish a move that was cut short.

    Args:
        source: the ledger. It is marked as left.
        target: an empty database, or one that was left for the source, and has not changed since.
        random: gives the number of the new line of a SQLite ledger.
        follow: called with the progress, see `Follow`.

    Raises:
        FixConfiguration: a schema is not that of this program, the target holds something else, or the source must be
            opened by a daemon first.
        FixUsage: both are one.
        TryLater: a daemon runs on one of them, or a database cannot be read or written.
    """
    if name_of(source) == name_of(target) and source.query == target.query:
        raise FixUsage("source and target are the same ledger")
    path, other = sqlite_path(source), sqlite_path(target)
    if path is not None and not path.exists():  # else its lock would create it
        raise FixConfiguration(f"there is no ledger at {path}")
    if path is not None and other is not None and other.exists() and path.samefile(other):
        raise FixUsage("source and target are the same file")
    try:
        with sole_writer(source):
            _refuse_source(source)
            with sole_writer(target), _engine(source) as from_engine, _engine(target) as to_engine:
                return _move(source, target, from_engine, to_engine, random, follow)
    except SQLAlchemyError as error:
        raise TryLater(f"the ledger was not copied: {database_reason(error)}; the same command goes on") from None


def _refuse_source(url: URL) -> None:
    state = schema.check(url)
    if not state.is_current:
        raise FixConfiguration(
            f"{name_of(url)} has schema {state.current or 'none'}, this program's is {state.expected}; "
            "run `watcher db upgrade` on it first"
        )
    path = sqlite_path(url)
    if path is not None and (loss := restore.loss_of(path)) is not None:
        raise FixConfiguration(
            f"{name_of(url)}: {loss.reason}; start `watcher run` on it once before it moves, which holds back its tasks"
        )


def _refuse_target(url: URL) -> None:
    path = sqlite_path(url)
    if path is not None:
        create_file(path)
    state = schema.check(url)
    if state.current is None:
        schema.upgrade(url)
    elif not state.is_current:
        raise FixConfiguration(
            f"{name_of(url)} has schema {state.current}, and the source {state.expected}; name an empty target, or run "
            "`watcher db upgrade` on it"
        )


def _move(source: URL, target: URL, from_engine: Engine, to_engine: Engine, random: Random, follow: Follow) -> Transfer:
    names = name_of(source), name_of(target)
    with from_engine.begin() as reading:
        _hold_still(reading, names[0])
        mark = mark_in(reading)
        if mark is not None and mark.role != LEFT:
            raise FixConfiguration(
                f"{names[0]} is an unfinished copy of {mark.peer}"
                if mark.role == COPYING
                else f"{names[0]} was opened again after it was left; start `watcher run` on it once before it moves"
            )
        if mark is not None and mark.peer != names[1]:
            raise FixConfiguration(f"{names[0]} was left for {mark.peer}; copy that one")
        _refuse_target(target)
        with _alone(to_engine, names[1]):
            if mark is not None:
                _refuse_finished(to_engine, names)
            before = _audits(source)
            copying.prepare(reading, to_engine, *names)
            copied = _copy(reading, to_engine, names, follow)
            after = _audits(target)
            if _heads(before) != _heads(after):
                raise TryLater("the audit chains of both sides differ, although their rows do not; try again")
            last = copying.last_ids(reading)
            set_mark(reading, LEFT, names[1])
            head_block = reading.execute(select(func.max(sources.c.head_block))).scalar() or 0
            reading.commit()
            _open(target, to_engine, last, random, head_block)
    return Transfer(copied.rows, copied.resumed, before, after)


def _copy(reading: Connection, engine: Engine, names: tuple[str, str], follow: Follow) -> Copied:
    """Copy and compare. A target of an earlier run that does not fit any more is emptied once."""
    for is_second in (False, True):
        try:
            try:
                copied = copying.copy_rows(reading, engine, follow)
            except (ValueError, TypeError, OverflowError) as error:  # a file that was edited can hold anything
                reason = f"{names[0]} holds a value that its column cannot have ({escape(str(error))[:200]})"
                raise FixConfiguration(f"{reason}; see `watcher audit verify`") from None
            with engine.connect() as conn:
                copying.compare(reading, conn, follow)
        except SourceChanged as difference:
            if is_second:
                raise TryLater(f"the rows of both sides differ after the copy ({difference}); try again") from None
            with engine.begin() as conn:
                copying.empty(conn)
                set_mark(conn, COPYING, names[0], copying.digest_of(reading))
            continue
        return copied
    raise AssertionError("the second round returns or raises")


def _refuse_finished(engine: Engine, names: tuple[str, str]) -> None:
    with engine.connect() as conn:
        mark = mark_in(conn)
    if mark is None or mark.role != COPYING or mark.peer != names[0]:
        raise FixConfiguration(f"{names[0]} was left for {names[1]} already; nothing is to be copied")


def _open(target: URL, engine: Engine, last: dict[str, int], random: Random, head_block: int) -> None:
    """Let a daemon open the target, in which nothing is lost."""
    path = sqlite_path(target)
    if path is not None:
        with engine.begin() as conn:
            copying.set_last_ids(conn, last)
            conn.exec_driver_sql("PRAGMA user_version = 0")  # of the line that was left
        assert generation_of(path) is not None, "the copy has tables"
        with open_mark(target) as mark:
            assert mark is not None, "a SQLite ledger has a mark"
            number = random.randint(1, restore.GENERATION_LIMIT)
            restore.start_generation(path, mark, None, number, head_block)
    with engine.begin() as conn:
        copying.open_target(conn, last)


def _hold_still(conn: Connection, name: str) -> None:
    """Keep every other writer out until this transaction ends. Raises TryLater if a daemon runs on the ledger."""
    if conn.dialect.name == "postgresql":  # on SQLite this transaction is the only one that writes
        every = ", ".join(table.name for table in copying.tables())
        conn.execute(text("LOCK TABLE " + every + " IN SHARE MODE"))
    _refuse_daemon(conn, name)


@contextmanager
def _alone(engine: Engine, name: str) -> Iterator[None]:
    """Hold a PostgreSQL target against another copy into it; SQLite has its lock. Raises TryLater."""
    if engine.dialect.name != "postgresql":
        yield
        return
    with engine.begin() as conn:
        looks = 0
        while not conn.execute(select(func.pg_try_advisory_xact_lock(_ADVISORY_KEY))).scalar():
            looks += 1
            if looks == _LOOKS:
                raise TryLater(f"another copy into {name} is running")
            time.sleep(_LOOK_EVERY_S)
        _refuse_daemon(conn, name)
        yield


def _refuse_daemon(conn: Connection, name: str) -> None:
    """Raise TryLater if a daemon seems to run on a PostgreSQL ledger: it wrote so, and its session is still there."""
    if conn.dialect.name != "postgresql":
        return
    last_ms = conn.execute(select(func.max(periods.c.last_at_ms)).where(periods.c.key == RUNNING)).scalar() or 0
    for _ in range(_LOOKS):
        since_ms = time.time_ns() // 1_000_000 - last_ms
        if since_ms >= _RUNNING_MS or not conn.exec_driver_sql(_OTHER_SESSIONS).scalar_one():
            return
        time.sleep(_LOOK_EVERY_S)
    raise TryLater(
        f"a watcher ran on {name} {max(0, since_ms) // 1000} seconds ago, and the database has other sessions; stop "
        f"it, and try again once they are closed or {_RUNNING_MS // 1000} seconds have passed"
    )


def _audits(url: URL) -> list[SourceAudit]:
    with closing(Reader(url)) as reader:
        rows = reader.read_now(lambda conn: conn.execute(select(sources).order_by(sources.c.id)).all())
        return [reader.read_now(_audit, row.id, row.chain_id, row.task_manager) for row in rows]


def _audit(conn: Connection, source_id: int, chain_id: int, task_manager: bytes) -> SourceAudit:
    check = Checker(conn, source_id).run()
    newest = deque(roots(conn, source_id, time.time_ns() // 1_000_000), maxlen=1)
    return SourceAudit(chain_id, task_manager, check, newest[0] if newest else None)


def _heads(audits: list[SourceAudit]) -> list[tuple[object, ...]]:
    return [
        (each.chain_id, each.task_manager, each.check.last_seq, each.check.last_hash, each.check.rows, each.check.ok)
        for each in audits
    ]


@contextmanager
def _engine(url: URL) -> Iterator[Engine]:
    engine = open_engine(url)
    try:
        yield engine
    finally:
        engine.dispose()
