"""A verb asks PostgreSQL as often for sixty tasks as for one, and waits only where it reads a reply."""

from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from tests.conformance.rig import ANSWER, DIGEST, LEASE_MS, LedgerRig, digest, header, make_task, sent
from watcher.ledger import claims, hook_results, ingest, sending
from watcher.ledger.claims import RetryAt
from watcher.ledger.hook_results import Answered
from watcher.ledger.postgres import take_snapshot
from watcher.ledger.sending import Settlement
from watcher.ledger.tables import blocks
from watcher.ledger.transaction import Tx
from watcher.state import State
from watcher.task import Accepted, Response

MANY = 60
# The commit included. Each verb ends with the audit chain's reading of the rows that it has written.
LIMITS = {"record": 10, "claim": 2, "keep_answers": 9, "begin": 9, "settle": 8}


@pytest.fixture
def ledger(ledger: LedgerRig) -> LedgerRig:
    if ledger.is_sqlite:
        pytest.skip("a file is not asked over a wire")
    return ledger


@contextmanager
def counted() -> Iterator[list[str]]:
    """Count how often a connection waits for replies."""
    base = pytest.importorskip("psycopg._pipeline_base").BasePipeline
    waits: list[str] = []
    original = base._enqueue_sync

    def enqueue(self: Any) -> None:
        waits.append("")
        original(self)

    base._enqueue_sync = enqueue
    try:
        yield waits
    finally:
        base._enqueue_sync = original


async def trips_of(ledger: LedgerRig, first: int, count: int) -> dict[str, int]:
    """Bring tasks from their logs to an accepted answer. Return how often each verb waited for the server."""
    trips: dict[str, int] = {}

    async def of(name: str, verb: Awaitable[Any]) -> Any:
        with counted() as waits:
            result = await verb
        trips[name] = len(waits)
        return result

    store, block = ledger.store, 110 + first
    new = [make_task(first + place) for place in range(count)]
    await of("record", store.write(ingest.record, ledger.source, new, [], header(block), block, None, new))
    ready = await of("claim", store.write(claims.claim, ledger.source, [State.READY], count, LEASE_MS))
    answers = [Answered(task, Response(ANSWER, "hook 1", 5)) for task in ready]
    await of("keep_answers", store.write(hook_results.keep_answers, answers))
    computed = await ledger.claim(State.COMPUTED)
    digests = {task.row_id: DIGEST for task in computed}
    attempts = await of("begin", store.write(sending.begin, computed, "proxy", digests, LEASE_MS))
    reply = sent(Accepted(digest("claimed"), digest("sig")))
    items = [Settlement(attempt, reply, RetryAt()) for attempt in attempts]
    await of("settle", store.write(sending.settle, items))
    return trips


async def test_verbs_ask_as_often_for_many_tasks_as_for_one(ledger: LedgerRig) -> None:
    single, many = await trips_of(ledger, 0, 1), await trips_of(ledger, 1, MANY)
    assert {name: many[name] - single[name] for name in many} == dict.fromkeys(many, 0)
    assert {name: count for name, count in many.items() if count > LIMITS[name]} == {}


async def test_question_takes_one_round_trip(ledger: LedgerRig) -> None:
    """A session that only reads begins no transaction: the server is asked once."""
    await ledger.read(lambda conn: conn.execute(text("SELECT 1")).scalar())  # the connection exists

    def ask(conn: Any) -> tuple[str, str]:
        first = conn.execute(text("SELECT transaction_timestamp()::text")).scalar()
        return first, conn.execute(text("SELECT transaction_timestamp()::text")).scalar()

    times = await ledger.read(ask)
    assert times[0] != times[1]

    def ask_of_one_commit(conn: Any) -> tuple[str, str]:
        take_snapshot(conn)
        return ask(conn)

    times = await ledger.read(ask_of_one_commit)
    assert times[0] == times[1]
    times = await ledger.read(ask)
    assert times[0] != times[1]
    with pytest.raises(Exception, match="read-only"):
        await ledger.read(lambda conn: conn.execute(text("DELETE FROM blocks")))


async def test_error_of_statement_nobody_waited_for_fails_its_verb(ledger: LedgerRig) -> None:
    """It comes with a later reply, or with that of the commit, and leaves the connection in order."""
    row = {"source_id": ledger.source, "number": 1, "hash": b"\1" * 32}

    def twice(tx: Tx, then_ask: bool) -> None:
        tx.conn.execute(blocks.insert(), row)
        tx.conn.execute(blocks.insert(), row)
        if then_ask:
            tx.conn.execute(text("SELECT 1"))

    for then_ask in (True, False):
        with pytest.raises(Exception, match="could not be written") as caught:
            await ledger.store.write(twice, then_ask)
        assert IntegrityError.__name__ in str(caught.value)
    await ledger.record(make_task(0))
    with ledger.engine.connect() as conn:
        assert conn.execute(blocks.select().where(blocks.c.number == 1)).all() == []


async def test_verb_that_raises_leaves_nothing_of_what_is_under_way(ledger: LedgerRig) -> None:
    def fail(tx: Tx) -> None:
        tx.conn.execute(blocks.insert(), {"source_id": ledger.source, "number": 1, "hash": b"\1" * 32})
        tx.conn.execute(blocks.insert(), {"source_id": -1, "number": 2, "hash": b"\1" * 32})
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await ledger.store.write(fail)
    with ledger.engine.connect() as conn:
        assert conn.execute(blocks.select().where(blocks.c.number < 3)).all() == []
    await ledger.record(make_task(0))
