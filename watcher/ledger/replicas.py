"""The replicas of a ledger on PostgreSQL: who lives, who leads, and how many requests each may send.

A replica renews its row every `BEAT_S` seconds; a row that was not renewed for `LEASE_MS` belongs to a replica that is
gone, and leaves. The row of `leaders` is the lock of all this: each beat takes it first. Both times are the database's
own, so that the clocks of the hosts do not matter, and a leased row, unlike a lock of a session, works behind a pooler.

Invariants: a term has one leader, and no commit of an earlier term moves the marks (`require_lead`); the slots of the
live replicas are never more than the budget, and a replica never uses more than its own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from watcher.errors import NotLeading
from watcher.ledger.database_clock import database_now_ms
from watcher.ledger.engine import insert_into
from watcher.ledger.side_tables import leaders, replicas
from watcher.ledger.stalled import end_stalled
from watcher.ledger.tables import sources
from watcher.ledger.transaction import Tx

BEAT_S = 1.5
# Three beats may fail, as while a server restarts. A leader that is gone is replaced within this and one beat.
LEASE_MS = 6000
SUBMIT, WATCH = "submit", "watch"


@dataclass(frozen=True, slots=True)
class Identity:
    """A daemon as its row shows it. `process` names the process on its host, so that its end can be seen there."""

    host: str
    process: str
    version: str
    roles: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Replica:
    """A live replica. `slots`: the requests it may have on their way; `started_at_ms` by the database's clock."""

    id: int
    host: str
    version: str
    roles: tuple[str, ...]
    slots: int
    started_at_ms: int


@dataclass(frozen=True, slots=True)
class Roll:
    """What a beat has found.

    `leader_id` leads in `term`; None: nobody does. `live` are the live replicas, oldest first, this one among them;
    `gone` are those that this beat found dead. `target` is the fair share of the budget, `kept` what the row keeps from
    the others, which is more while requests above the share are on their way. `marks` change when cursor, head or
    final block do. `stalled` counts the sessions that were ended, because their process stands still.
    """

    leader_id: int | None
    term: int
    live: tuple[Replica, ...]
    gone: tuple[int, ...]
    target: int
    kept: int
    marks: tuple[Any, ...]
    stalled: int = 0

    @property
    def slots(self) -> int:
        """Return how many requests this replica may have on their way."""
        return min(self.target, self.kept)


def join(conn: Connection, source_id: int, identity: Identity, is_gone: Callable[[str], bool]) -> tuple[int, list[int]]:
    """Add a replica without slots. Return its id, and those of the replicas that are known to be gone.

    Args:
        conn: a connection in a transaction.
        source_id: the task manager.
        identity: the replica.
        is_gone: tells from `Identity.process` that a process of this host has ended.
    """
    end_stalled(conn)  # no other replica may be there to do it
    _lock(conn, source_id)
    rows = conn.execute(select(replicas.c.id, replicas.c.process).where(replicas.c.source_id == source_id)).all()
    gone = [row.id for row in rows if is_gone(row.process)]
    _remove(conn, source_id, gone)
    columns = _columns(source_id, identity) | {"started_at_ms": database_now_ms(), "seen_at_ms": database_now_ms()}
    joined = conn.execute(insert(replicas).values(**columns, slots=0).returning(replicas.c.id))
    return joined.scalar_one(), gone


def beat(
    conn: Connection, source_id: int, replica_id: int, identity: Identity, used: int, budget: int, *, may_lead: bool
) -> Roll:
    """Renew a replica and its lead, take the lead if nobody has it, and divide the budget.

    A process that is frozen within a transaction, and holds the leader's row, is ended first.

    Args:
        conn: a connection in a transaction.
        source_id: the task manager.
        replica_id: the replica.
        identity: the same.
        used: the most requests that it may have on their way until the next beat, as it stands now.
        budget: operator.concurrency.
        may_lead: False while the replica stops.
    """
    stalled = end_stalled(conn)
    lead, now_ms = _lock(conn, source_id)
    expired = replicas.c.seen_at_ms < now_ms - LEASE_MS
    dead = delete(replicas).where(replicas.c.source_id == source_id, replicas.c.id != replica_id, expired)
    gone = list(conn.execute(dead.returning(replicas.c.id)).scalars())
    live = _live(conn, source_id)
    target, kept = _share(live, replica_id, identity, used, budget)
    columns = {"seen_at_ms": now_ms, "slots": kept}
    if any(replica.id == replica_id for replica in live):
        conn.execute(update(replicas).where(replicas.c.id == replica_id).values(**columns))
    else:  # it was held up for longer than its lease, and others removed it
        rejoined = _columns(source_id, identity) | columns
        conn.execute(insert(replicas).values(id=replica_id, started_at_ms=now_ms, **rejoined))
        live = _live(conn, source_id)
    leader_id, term = lead.replica_id, lead.term
    if may_lead and WATCH in identity.roles and (leader_id == replica_id or lead.until_ms <= now_ms):
        term += leader_id != replica_id
        leader_id = replica_id
        lease = {"replica_id": replica_id, "term": term, "until_ms": now_ms + LEASE_MS}
        conn.execute(update(leaders).where(leaders.c.source_id == source_id).values(**lease))
    elif lead.until_ms <= now_ms:
        leader_id = None
    marks = select(sources.c.cursor_block, sources.c.cursor_hash, sources.c.head_block, sources.c.final_block)
    moved = tuple(conn.execute(marks.where(sources.c.id == source_id)).one())
    return Roll(leader_id, term, live, tuple(gone), target, kept, moved, stalled)


def resign(conn: Connection, source_id: int, replica_id: int) -> None:
    """Give the lead back, if this replica has it, so that another takes it at once."""
    mine = (leaders.c.source_id == source_id, leaders.c.replica_id == replica_id)
    conn.execute(update(leaders).where(*mine).values(replica_id=None, until_ms=0))


def leave(conn: Connection, source_id: int, replica_id: int) -> None:
    """Remove a replica that stops: it sends nothing more, and holds no task."""
    _lock(conn, source_id)
    _remove(conn, source_id, [replica_id])


def require_lead(tx: Tx, source_id: int, replica_id: int, term: int | None) -> None:
    """Raise NotLeading unless the replica leads in this term until the end of the transaction.

    A leader that was stopped for longer than its lease learns here that another leads; its commit changes nothing.
    """
    if term is not None:
        mine = (leaders.c.source_id == source_id, leaders.c.replica_id == replica_id, leaders.c.term == term)
        if tx.conn.execute(select(leaders.c.term).where(*mine).with_for_update(read=True)).first() is not None:
            return
    raise NotLeading("another replica watches the chain now")


def list_replicas(conn: Connection, source_id: int) -> tuple[int | None, tuple[Replica, ...]]:
    """Return the id of the leader (None: nobody leads), and the live replicas, oldest first; none on SQLite."""
    if conn.dialect.name == "sqlite":
        return None, ()
    lead = select(leaders.c.replica_id).where(leaders.c.source_id == source_id, leaders.c.until_ms > database_now_ms())
    live = _live(conn, source_id, replicas.c.seen_at_ms >= database_now_ms() - LEASE_MS)
    return conn.execute(lead).scalar(), live


def notify(conn: Connection, channel: str, payload: str) -> None:
    """Send a notification to the listeners of a channel (https://www.postgresql.org/docs/current/sql-notify.html)."""
    conn.execute(select(func.pg_notify(channel, payload)))


def schema_name(conn: Connection) -> str:
    """Return the schema of the ledger: two ledgers in one database differ by it."""
    return str(conn.execute(select(func.current_schema())).scalar_one())


def fair_share(budget: int, ids: Sequence[int], replica_id: int) -> int:
    """Return the part of the budget of one of these replicas; the oldest get one more where it does not divide."""
    if replica_id not in ids:
        return 0
    least, more = divmod(budget, len(ids))
    return least + (sorted(ids).index(replica_id) < more)


def _share(live: Sequence[Replica], replica_id: int, identity: Identity, used: int, budget: int) -> tuple[int, int]:
    """Return the fair share, and the slots that the replica holds from now on.

    A share that falls is used at once, but its slots are given back by a later beat, when that many requests at most
    are on their way (`used`); a share that rises takes what the others have not got.
    """
    if SUBMIT not in identity.roles:
        return 0, 0
    senders = [replica for replica in live if SUBMIT in replica.roles and replica.id != replica_id]
    target = fair_share(budget, [replica_id, *(replica.id for replica in senders)], replica_id)
    free = budget - sum(replica.slots for replica in senders)
    return target, max(used, min(target, free), 0)


def _lock(conn: Connection, source_id: int) -> tuple[Row[Any], int]:
    """Lock the row of the leader, made if it is missing. Return it, and the database's time (ms)."""
    query = select(leaders).where(leaders.c.source_id == source_id).with_for_update()
    row = conn.execute(query).one_or_none()
    if row is None:
        new = insert_into(leaders, conn.dialect.name).values(source_id=source_id, term=0, until_ms=0)
        conn.execute(new.on_conflict_do_nothing(index_elements=["source_id"]))
        row = conn.execute(query).one()
    return row, conn.execute(select(database_now_ms())).scalar_one()


def _live(conn: Connection, source_id: int, *where: Any) -> tuple[Replica, ...]:
    rows = conn.execute(select(replicas).where(replicas.c.source_id == source_id, *where).order_by(replicas.c.id))
    return tuple(
        Replica(row.id, row.host, row.version, tuple(row.roles.split(",")), row.slots, row.started_at_ms)
        for row in rows
    )


def _remove(conn: Connection, source_id: int, ids: Sequence[int]) -> None:
    for replica_id in ids:
        resign(conn, source_id, replica_id)
    conn.execute(delete(replicas).where(replicas.c.id.in_(ids)))


def _columns(source_id: int, identity: Identity) -> dict[str, Any]:
    return {
        "source_id": source_id,
        "host": identity.host,
        "process": identity.process,
        "version": identity.version,
        "roles": ",".join(identity.roles),
    }
