"""What replicas tell each other over PostgreSQL, and that they do without it: a lost connection, a pooler."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from random import SystemRandom

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL

from tests.conformance.rig import opened
from tests.conformance.test_poolers import pooler
from watcher.clock import SystemClock
from watcher.daemon.replica import Replica, ReplicaPlan, joined
from watcher.ledger.engine import open_engine, server_arguments
from watcher.ledger.transaction import Tx
from watcher.settings.daemon import ROLES
from watcher.stage import Wakeups
from watcher.state import State

psycopg = pytest.importorskip("psycopg")
PLAN = ReplicaPlan(ROLES, ROLES, 4, 3)
PATIENCE_S = 20.0


@asynccontextmanager
async def replicas(url: URL, count: int) -> AsyncIterator[list[tuple[Replica, Wakeups]]]:
    """So many replicas of one ledger in this process, each with connections of its own."""
    engine = open_engine(url)
    async with AsyncExitStack() as stack:
        made = []
        for _ in range(count):
            ledger = await stack.enter_async_context(opened(url, engine))
            wakeups = Wakeups(("respond", "submit"))
            joining = joined(url, ledger.store, PLAN, SystemClock(), wakeups, SystemRandom())
            made.append((await stack.enter_async_context(joining), wakeups))
        yield made
    engine.dispose()


async def until(condition, what: str) -> None:  # type: ignore[no-untyped-def]
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, what
        await asyncio.sleep(0.02)


async def woken(wakeups: Wakeups, stage: str) -> float:
    began_s = time.monotonic()
    await wakeups.wait(stage, PATIENCE_S)
    return time.monotonic() - began_s


def commit() -> Tx:
    return Tx(None, 0, entered={State.READY}, blocks_read=True)  # type: ignore[arg-type]


async def test_a_commit_wakes_another_replica_also_after_a_lost_connection(
    empty_schema: URL,
) -> None:
    async with replicas(empty_schema, 2) as ((first, _), (second, wakeups)):
        assert [first.leads, second.leads] == [True, False]
        await until(lambda: first.seen.is_told and second.seen.is_told and first.seen.count == 2, "they listen")
        count = second._ledger.chain_moves
        wakeups._events["respond"].clear()
        first.committed(commit())
        hinted_s = await woken(wakeups, "respond")
        print(f"hinted after {hinted_s * 1000:.0f} ms")
        assert hinted_s < 2.0
        assert second._ledger.chain_moves > count, "a verdict read before is of the past"
        # The server ends every connection that listens: they are opened again, and work may have been missed.
        with psycopg.connect(autocommit=True, **server_arguments(empty_schema)) as admin:
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'")
        await until(lambda: not second.seen.is_told, "the loss is seen")
        wakeups._events["respond"].clear()
        await woken(wakeups, "respond")
        await until(lambda: second.seen.is_told and wakeups._events["submit"].is_set(), "it listens again")


async def test_replicas_poll_and_lead_behind_a_pooler_in_transaction_mode(empty_schema: URL, postgres: URL) -> None:
    name = str(empty_schema.query["options"]).removeprefix("-csearch_path=")
    admin = create_engine(postgres)
    with admin.begin() as connection:
        connection.execute(text(f"ALTER ROLE CURRENT_USER SET search_path = {name}"))
    try:
        with pooler(postgres, "transaction") as pooled:
            async with replicas(pooled, 2) as ((first, _), (second, wakeups)):
                await until(lambda: first.seen.count == 2, "they see each other")
                assert [first.leads, second.leads] == [True, False]
                assert [first.share, second.share] in ([4, 0], [2, 0], [2, 2])
                await until(lambda: second.share == 2 and wakeups.longest_rest_s == 1.0, "they share, and poll")
                await first.resign()
                await until(lambda: second.leads, "the lead is taken over")
    finally:
        with admin.begin() as connection:
            connection.execute(text("ALTER ROLE CURRENT_USER RESET ALL"))
        admin.dispose()


async def test_a_replica_without_a_beat_neither_leads_nor_sends(empty_schema: URL) -> None:
    class Late(SystemClock):
        behind_s = 0.0

        def monotonic_s(self) -> float:
            return super().monotonic_s() + self.behind_s

    engine, clock = open_engine(empty_schema), Late()
    async with opened(empty_schema, engine) as ledger:
        replica = Replica(empty_schema, ledger.store, PLAN, clock, Wakeups(()))
        await replica.join()
        assert (replica.leads, replica.share) == (True, 4)
        clock.behind_s = 6.1
        assert (replica.leads, replica.share) == (False, 0)
        await replica.leave()
    engine.dispose()
