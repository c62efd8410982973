"""The mark inside a ledger that takes part in a move: it was left for another one, or it is an unfinished copy.

Its table is no part of the schema: a ledger that never moved does not have it. Invariants: at each moment at most one
side of a move may be opened by a daemon; a ledger that is opened again after it was left holds back the tasks that the
other one may have answered.
"""

import time
from dataclasses import dataclass

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    delete,
    insert,
    inspect,
    select,
)
from sqlalchemy.engine import URL
from sqlalchemy.exc import DatabaseError

from watcher.errors import FixConfiguration, TryLater
from watcher.ledger.engine import database_reason, open_engine, sqlite_path
from watcher.ledger.restore import Loss

LEFT, COPYING, REOPENED = "left", "copying", "reopened"
_MARK = Table(
    "ledger_move",
    MetaData(),
    Column("role", String(16), primary_key=True),
    Column("peer", Text, nullable=False),
    # Of an unfinished copy: what its source was like when it began.
    Column("digest", LargeBinary(32), nullable=False),
    Column("at_ms", BigInteger, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Move:
    """The mark of a ledger. `peer` names the other side without user or password; `at_ms` is milliseconds since 1970.

    `role`: LEFT, the peer has taken over; COPYING, an unfinished copy of the peer; REOPENED, left, and opened again.
    """

    role: str
    peer: str
    digest: bytes
    at_ms: int


def name_of(url: URL) -> str:
    """Return the name of a ledger for people and marks: without user, password and options."""
    path = sqlite_path(url)
    if path is not None:
        return f"sqlite:///{path}"
    host = url.host or url.query.get("host") or "localhost"
    hosts = host if isinstance(host, str) else ",".join(host)
    return f"postgresql://{hosts}{f':{url.port}' if url.port else ''}/{url.database or ''}"


def mark_in(conn: Connection) -> Move | None:
    """Return the mark of the ledger, None if it takes part in no move."""
    if not inspect(conn).has_table(_MARK.name):
        return None
    row = conn.execute(select(_MARK)).first()
    return None if row is None else Move(row.role, row.peer, bytes(row.digest), row.at_ms)


def set_mark(conn: Connection, role: str, peer: str, digest: bytes = b"") -> None:
    """Mark the ledger, in place of its mark so far."""
    _MARK.create(conn, checkfirst=True)
    conn.execute(delete(_MARK))
    at_ms = time.time_ns() // 1_000_000
    conn.execute(insert(_MARK).values(role=role, peer=peer, digest=digest, at_ms=at_ms))


def remove_mark(conn: Connection) -> None:
    """Remove the mark and its table."""
    _MARK.drop(conn, checkfirst=True)


def refuse_moved(conn: Connection) -> Move | None:
    """Return the mark of a ledger that may be written, None without one.

    Raises FixConfiguration if it was left for another one, or is an unfinished copy.
    """
    mark = mark_in(conn)
    if mark is None or mark.role == REOPENED:
        return mark
    if mark.role == COPYING:
        raise FixConfiguration(
            f"ledger.url: this ledger is an unfinished copy of {mark.peer}; finish it with the same `watcher db copy`, "
            "or remove it"
        )
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(mark.at_ms // 1000))
    raise FixConfiguration(
        f"ledger.url: this ledger was left at {when}: it goes on at {mark.peer}. Name that one; or copy it back with "
        "`watcher db copy`; or, if it is lost, see Moving a ledger in docs/ledger.md"
    )


def loss_of_reopened(url: URL) -> Loss | None:
    """Return what a ledger that was left and opened again has lost, None if it was not.

    Raises:
        FixConfiguration: the ledger was left, or is an unfinished copy.
        TryLater: it cannot be read.
    """
    path = sqlite_path(url)
    if path is not None and not (path.exists() and path.stat().st_size):
        return None
    engine = open_engine(url, read_only=True)
    try:
        with engine.connect() as conn:
            mark = refuse_moved(conn)
    except DatabaseError as error:
        raise TryLater(f"the ledger cannot be read: {database_reason(error)}") from None
    finally:
        engine.dispose()
    if mark is None:
        return None
    return Loss(f"the ledger was left for {mark.peer} and opened again", None)


def reopen(url: URL) -> str:
    """Let a daemon open a ledger again that was left. Return the name of the one that it was left for.

    The caller holds the ledger. Raises FixConfiguration if it was not left, TryLater if it cannot be written.
    """
    engine = open_engine(url)
    try:
        with engine.begin() as conn:
            mark = mark_in(conn)
            if mark is None or mark.role != LEFT:
                raise FixConfiguration("ledger.url: this ledger was not left for another one; there is nothing to open")
            set_mark(conn, REOPENED, mark.peer)
            return mark.peer
    except DatabaseError as error:
        raise TryLater(f"the ledger cannot be written: {database_reason(error)}") from None
    finally:
        engine.dispose()


def forget_reopened(url: URL) -> None:
    """Remove the mark of a ledger that was opened again, once the hold is in it. Raises TryLater."""
    engine = open_engine(url)
    try:
        with engine.begin() as conn:
            if (mark := mark_in(conn)) is not None and mark.role == REOPENED:
                remove_mark(conn)
    except DatabaseError as error:
        raise TryLater(f"the ledger cannot be written: {database_reason(error)}") from None
    finally:
        engine.dispose()
