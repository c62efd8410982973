"""Sessions on PostgreSQL that hold locks of the ledger while their process stands still, and how they are ended.

A process that is frozen within a transaction (SIGSTOP, a suspended machine) keeps its locks: its connection lives, so
that the server waits for it without limit. One that holds the leader's row lets nobody else lead; one that holds the
head of the audit chain lets nobody commit. `idle_in_transaction_session_timeout` would not see all of them: within a
pipeline a session is not idle to the server. The session is ended, its transaction is rolled back, and its process
finds a lost connection when it goes on.
"""

from sqlalchemy import Connection, DateTime, Integer, Text, bindparam, column, extract, func, select, table

# A session that waited so long for its process within a transaction is ended. A process under load is late by less.
STALLED_MS = 3000
# The wait of a beat for a lock of another replica.
_LOCK_TIMEOUT_MS = 1500
_WRITING = ("RowShareLock", "RowExclusiveLock")
_WAITING = ("ClientRead", "ClientWrite")

# https://www.postgresql.org/docs/current/monitoring-stats.html, view-pg-locks.html, catalogs.html
_activity = table(
    "pg_stat_activity",
    column("pid", Integer),
    column("datname", Text),
    column("usename", Text),
    column("wait_event", Text),
    column("state_change", DateTime),
    column("query_start", DateTime),
    schema="pg_catalog",
).c
_locks = table(
    "pg_locks", column("pid", Integer), column("relation", Integer), column("mode", Text), schema="pg_catalog"
).c
_classes = table("pg_class", column("oid", Integer), column("relnamespace", Integer), schema="pg_catalog").c
_namespaces = table("pg_namespace", column("oid", Integer), column("nspname", Text), schema="pg_catalog").c

_SCHEMA = select(_namespaces.oid).where(_namespaces.nspname == func.current_schema()).scalar_subquery()
_TABLES = select(_classes.oid).where(_classes.relnamespace == _SCHEMA)
_WRITERS = select(_locks.pid).where(_locks.mode.in_(_WRITING), _locks.relation.in_(_TABLES))
_SINCE = func.greatest(_activity.state_change, _activity.query_start)
_WAITS_S = extract("epoch", func.clock_timestamp()) - extract("epoch", _SINCE)
_END = select(func.pg_terminate_backend(_activity.pid)).where(
    _activity.datname == func.current_database(),
    _activity.usename == func.current_user(),
    _activity.wait_event.in_(_WAITING),
    bindparam("stalled_ms") < _WAITS_S * 1000,
    _activity.pid.in_(_WRITERS),
)


def end_stalled(conn: Connection) -> int:
    """End the stalled sessions that write this ledger, as the same user, and bound the transaction's wait for locks.

    Returns:
        The number of sessions that were ended. Their locks are free within moments.
    """
    if conn.dialect.name == "sqlite":  # one process writes it
        return 0
    conn.execute(select(func.set_config("lock_timeout", str(_LOCK_TIMEOUT_MS), True)))
    return sum(conn.execute(_END, {"stalled_ms": STALLED_MS}).scalars())
