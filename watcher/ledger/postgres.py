"""The connections to PostgreSQL: their limits and settings, poolers in between, and how statements travel.

A session does without what costs a round trip and gives nothing. A server gets its settings once, and prepares the
statements that come again; behind a pooler both belong to the transaction. A writer sends its statements one after the
other and waits only where it reads a result (`use_pipeline`, https://www.postgresql.org/docs/current/libpq-pipeline-mode.html).
"""

import select
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import DisconnectionError, OperationalError

from watcher.errors import FixConfiguration
from watcher.ledger.arrays import use_arrays

# Limits for a server that vanishes, in libpq's terms (seconds; the last in ms): connecting, a silent connection,
# unacknowledged data. The URL may set others. See https://www.postgresql.org/docs/current/libpq-connect.html
SERVER_LIMITS = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 4,
    "tcp_user_timeout": 30_000,
}
LOCK_TIMEOUT_MS = 30_000
# A statement is prepared when it comes for so many times; each connection keeps so many.
_PREPARE_FROM, _PREPARED_LIMIT = 3, 300
# An error that a new connection does not have: a prepared statement that a change of the schema has outdated, or that
# the session does not know (SQLSTATE, https://www.postgresql.org/docs/current/errcodes-appendix.html).
_OUTDATED = frozenset({"0A000", "26000", "42P05"})

AWAITED = "awaited"
"""Execution option of a statement: whether its result is read. Without it an INSERT, UPDATE or DELETE without RETURNING
is not, so that it has no `rowcount`, and any other statement is."""


def open_postgres(url: URL, schema: str = "", *, read_only: bool) -> Engine:
    """Return an engine for a ledger on PostgreSQL, in a schema of its own unless that is empty."""
    engine = create_engine(
        url,
        hide_parameters=True,
        pool_reset_on_return=None,  # `_reset` asks the driver first: a ROLLBACK costs a round trip
        connect_args={**server_limits(url), "prepare_threshold": None},
    )
    event.listen(
        engine, "connect", _Settling(schema, read_only), insert=True
    )  # before SQLAlchemy's own first statement
    event.listen(engine, "checkout", _refuse_dead)
    event.listen(engine, "reset", _reset)
    event.listen(engine, "close", _leave_pipeline)
    event.listen(engine, "begin", _begin)
    event.listen(engine, "rollback", _drain)
    event.listen(engine, "do_execute", _send)
    event.listen(engine, "handle_error", _notice_outdated)
    use_arrays(engine)
    return engine


def server_limits(url: URL) -> dict[str, int]:
    """Return the limits that the URL does not set."""
    return {name: value for name, value in SERVER_LIMITS.items() if name not in url.query}


# A lock of another session is waited for within limits. A commit that returned is on the disk, whatever the server or
# the role sets; a stronger setting stays.
_SETTLE = (
    "SELECT set_config('lock_timeout', '{lock_timeout_ms}ms', {local}), "
    "set_config('synchronous_commit', CASE current_setting('synchronous_commit') "
    "WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, {local})"
)
_ONLY_READ = ", set_config('default_transaction_read_only', 'on', false)"
# Nothing outside of its schema is seen: the tables of another ledger have the same names.
_SEARCH = "SELECT set_config('search_path', quote_ident(%s), %s)"
_PID_AND_TIME = "SELECT pg_backend_pid(), transaction_timestamp()"
_STATEMENT_MODE = (
    "ledger.url: the pooler gives each statement a transaction of its own (statement mode), and the ledger would lose"
    " or double work; set pool_mode = transaction or session in the pooler, or name the server itself"
)


class _Settling:
    """Sets up each new connection; behind a pooler, each transaction does that itself."""

    def __init__(self, schema: str, read_only: bool) -> None:
        self._schema = schema
        self._read_only = read_only

    def __call__(self, connection: Any, record: Any) -> None:
        """Raises FixConfiguration where two statements do not share a transaction."""
        settle_session(connection, record, self._schema, read_only=self._read_only)
        _choose_forms(connection)


def settle_session(connection: Any, record: Any, schema: str = "", *, read_only: bool = False) -> None:
    """Set a session up, unless there is a pooler, which gives each transaction another one.

    Raises FixConfiguration where two statements do not share a transaction.
    """
    info = record.info
    try:
        pid, began = connection.execute(_PID_AND_TIME).fetchone()
        info["pooled"] = pid != connection.info.backend_pid  # a pooler shows no process id of the server
        # The time of a transaction is that of its first statement, whatever a pooler says of itself.
        is_split = info["pooled"] and connection.execute(_PID_AND_TIME).fetchone()[1] != began
    except Exception as error:
        if "statement pooling" not in str(error):  # as PgBouncer refuses BEGIN
            raise
        is_split = True
    if is_split:
        raise FixConfiguration(_STATEMENT_MODE)
    info["read_only"], info["schema"] = read_only, schema
    if not info["pooled"]:
        settle = _settings("false")
        connection.execute(settle + _ONLY_READ if read_only else settle)
        if schema:
            connection.execute(_SEARCH, (schema, False))
        connection.prepare_threshold, connection.prepared_max = _PREPARE_FROM, _PREPARED_LIMIT
    connection.commit()
    connection.autocommit = True  # `_begin` begins, because the driver would wait for the reply to its own BEGIN


def _begin(connection: Connection) -> None:
    """Begin a transaction. Raises OperationalError if the server has gone since the connection was taken."""
    import psycopg  # late: the driver is an extra
    from psycopg import sql

    session = session_of(connection)
    try:
        for statement in _opening(connection.info, has_pipeline=session in _pipelines):
            session.execute(statement)
        if connection.info["pooled"] and connection.info["schema"]:
            # SET, as below: a SELECT would take the snapshot.
            search = sql.SQL("SET LOCAL search_path = {}").format(sql.Identifier(connection.info["schema"]))
            session.execute(search)
    except psycopg.Error as error:
        # SQLAlchemy gives its own form to errors of its statements alone: to the writer this one would be a bug.
        connection.invalidate(error)
        raise OperationalError("BEGIN", None, error, hide_parameters=True) from None


def _opening(info: Mapping[str, Any], *, has_pipeline: bool) -> Sequence[str]:
    """Return what begins a transaction. A session that only reads needs none: each statement sees the last commit."""
    if info["read_only"]:  # SET, not SELECT, which would take the snapshot
        return (f"BEGIN READ ONLY; SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}",) if info["pooled"] else ()
    if not info["pooled"]:
        return ("BEGIN",)
    # In a pipeline a message has one statement, and none is waited for.
    return ("BEGIN", _settings("true")) if has_pipeline else (f"BEGIN; {_settings('true')}",)


def _settings(is_local: str) -> str:
    return _SETTLE.format(lock_timeout_ms=LOCK_TIMEOUT_MS, local=is_local)


def take_snapshot(connection: Connection) -> None:
    """Let all that this connection asks before it is closed be answered from one commit. Call it first."""
    if connection.dialect.name != "postgresql":  # a transaction of SQLite reads one commit
        return
    if connection.info["read_only"] and not connection.info["pooled"]:
        session_of(connection).execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    else:
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")


def session_of(connection: Connection) -> Any:
    """Return the driver's own connection."""
    return connection.connection.driver_connection


def _refuse_dead(session: Any, _record: Any, _proxy: Any) -> None:
    """Raise DisconnectionError, so that the pool opens a new connection, if the server has closed this one.

    What it said is there to be read, so that no question to the server is needed.
    """
    poll = select.poll()
    with suppress(session.OperationalError):
        poll.register(session.fileno(), select.POLLIN)
        while not session.closed and poll.poll(0):
            session.pgconn.consume_input()
    if session.closed:
        raise DisconnectionError


def _reset(session: Any, _record: Any, _state: Any) -> None:
    """End a transaction that a returned connection still has, as one does whose COMMIT has failed."""
    if not session.closed and session.info.transaction_status.name != "IDLE":
        session.rollback()


def _notice_outdated(context: Any) -> None:
    """Let the pool drop a connection whose prepared statements are outdated."""
    if getattr(context.original_exception, "sqlstate", None) in _OUTDATED:
        context.is_disconnect = True


# By the driver's connection, as long as that is open.
_pipelines: "WeakKeyDictionary[Any, tuple[AbstractContextManager[Any], Any]]" = WeakKeyDictionary()


def use_pipeline(connection: Connection) -> None:
    """Send the statements of this connection without waiting, from its next transaction on, as long as it is open."""
    session = session_of(connection)
    if session not in _pipelines:
        manager: AbstractContextManager[Any] = session.pipeline()
        _pipelines[session] = manager, manager.__enter__()


def _leave_pipeline(session: Any, _record: Any) -> None:
    manager, _ = _pipelines.pop(session, (None, None))
    if manager is not None:
        with suppress(Exception):  # the connection may be broken
            manager.__exit__(None, None, None)


def _send(cursor: Any, statement: str, parameters: Any, context: Any) -> bool:
    """Run a statement; in a pipeline wait for its result only if that is read. Return True if it has been run."""
    _, pipeline = _pipelines.get(cursor.connection, (None, None))
    if pipeline is None:
        return False
    try:
        cursor.execute(statement, parameters)
        if context.execution_options.get(AWAITED, not _is_unread(context)):
            pipeline.sync()
    except Exception:
        _empty(pipeline)
        raise
    return True


def _is_unread(context: Any) -> bool:
    is_change = context.isinsert or context.isupdate or context.isdelete
    return bool(is_change and context.compiled is not None and not context.compiled.effective_returning)


def _drain(connection: Connection) -> None:
    """Read what is under way, before a ROLLBACK: the errors of statements that nobody waits for any more."""
    if connection.invalidated:  # it is broken
        return
    _, pipeline = _pipelines.get(session_of(connection), (None, None))
    if pipeline is not None:
        _empty(pipeline)


def _empty(pipeline: Any) -> None:
    with suppress(Exception):  # the first error is the one that counts
        pipeline.sync()


def _choose_forms(connection: Any) -> None:
    """Let the driver send lists in binary form, for a third of the CPU time, and small integers as INTEGER.

    It chooses the smallest type for each value, and would prepare a statement again for each mix of types.
    """
    from psycopg.types.array import ListBinaryDumper  # late: the driver is an extra
    from psycopg.types.numeric import IntBinaryDumper, IntDumper

    for dumper in (IntBinaryDumper, IntDumper):
        wider = type(f"Wider{dumper.__name__}", (dumper,), {"_int2_dumper": dumper._int4_dumper})
        connection.adapters.register_dumper(int, wider)
    connection.adapters.register_dumper(list, ListBinaryDumper)
