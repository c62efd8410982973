"""How often replicas ask for work that is not there: a task costs the claims of one process, however many there are."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from random import SystemRandom

import pytest
from sqlalchemy import Connection, func, select
from sqlalchemy.engine import URL

from tests.conformance.rig import CHAIN_ID, MANAGER, START_BLOCK, header, make_task
from watcher.clock import SystemClock
from watcher.daemon.replica import Replica, ReplicaPlan, joined
from watcher.hook.respond import Respond, RespondPlan
from watcher.ledger import claims, ingest, outcomes
from watcher.ledger.shared_clock import clock_of
from watcher.ledger.store import Ledger, open_ledger
from watcher.ledger.tables import tasks
from watcher.ledger.writer import Tx
from watcher.settings.daemon import ROLES
from watcher.stage import StageLoop, Wakeups
from watcher.state import State
from watcher.task import Response, Task

pytest.importorskip("psycopg")
PLAN = ReplicaPlan(ROLES, ROLES, 4, 3)
PATIENCE_S = 30.0
WORKERS = 2


class Member:
    """A replica in this process whose hook takes `run_s` seconds. It counts its claims and its answers."""

    def __init__(self, run_s: float) -> None:
        self.run_s = run_s
        self.wakeups = Wakeups(("respond",))
        self.replica: Replica | None = None
        self.answers = 0

    def committed(self, tx: Tx) -> None:
        self.wakeups.committed(tx)
        if self.replica is not None:
            self.replica.committed(tx)

    async def run_hook(self, _task: Task) -> Response:
        await asyncio.sleep(self.run_s)
        self.answers += 1
        return Response(b"answer", "hook 1", int(self.run_s * 1000))

    @asynccontextmanager
    async def running(self, url: URL) -> AsyncIterator[Ledger]:
        clock, stopping = clock_of(url, SystemClock()), asyncio.Event()
        async with AsyncExitStack() as stack:
            opening = open_ledger(url, clock, CHAIN_ID, MANAGER, START_BLOCK, on_commit=self.committed)
            ledger = await stack.enter_async_context(opening)
            joining = joined(url, ledger, PLAN, clock, self.wakeups, SystemRandom())
            self.replica = await stack.enter_async_context(joining)
            respond = Respond(self.run_hook, ledger, clock, SystemRandom(), RespondPlan(WORKERS, 5, 3, 1, 5))
            loop = asyncio.create_task(StageLoop(respond, self.wakeups, clock, stopping).run())
            try:
                yield ledger
            finally:
                stopping.set()
                self.wakeups.wake_all()
                await loop
                await respond.drain()


@dataclass(frozen=True)
class Work:
    """What some tasks took: claims that asked the database, and the answers of each replica."""

    claims: int
    answers: list[int]


async def until(condition, what: str) -> None:  # type: ignore[no-untyped-def]
    deadline_s = time.monotonic() + PATIENCE_S
    while not await condition():
        assert time.monotonic() < deadline_s, what
        await asyncio.sleep(0.01)


async def work(
    url: URL, replicas: int, blocks: int, per_block: int, run_s: float, monkeypatch: pytest.MonkeyPatch
) -> Work:
    """Let replicas answer tasks, block by block."""
    asked, claim = [0], claims.claim

    def counted(*args, **kwargs):  # type: ignore[no-untyped-def]
        asked[0] += 1
        return claim(*args, **kwargs)

    def computed(conn: Connection) -> int:
        return conn.execute(select(func.count()).where(tasks.c.state == State.COMPUTED)).scalar_one()

    async with AsyncExitStack() as stack:
        members = [Member(run_s) for _ in range(replicas)]
        ledgers = [await stack.enter_async_context(member.running(url)) for member in members]
        first, source = ledgers[0], ledgers[0].source_id

        async def all_listen() -> bool:
            seen = [member.replica.seen for member in members if member.replica is not None]
            return all(each.is_told and each.count == replicas for each in seen)

        await until(all_listen, "they listen")
        monkeypatch.setattr(claims, "claim", counted)
        for block in range(blocks):
            number = 110 + block
            new = [make_task(block * per_block + each, block=number, deadline=None) for each in range(per_block)]
            await first.write(ingest.record, source, new, [], header(number), number)
            seen = await first.read(outcomes.to_admit, source, 0, first_now_ms(first), 10_000)
            await first.write(outcomes.admitted, seen, header(number))

            async def all_answered(made: int = (block + 1) * per_block) -> bool:
                return await first.read(computed) == made

            await until(all_answered, "they are answered")
        monkeypatch.undo()
        return Work(asked[0], [member.answers for member in members])


def first_now_ms(_ledger: Ledger) -> int:
    return SystemClock().now_ms() + 60_000


async def test_tasks_that_one_replica_has_room_for_wake_no_other(
    empty_schema: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = await work(empty_schema, 1, 10, 1, 0.0, monkeypatch)
    print(alone)


async def test_x3(
    empty_schema: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = await work(empty_schema, 3, 10, 1, 0.0, monkeypatch)
    print(alone)


async def test_y1(empty_schema: URL, monkeypatch: pytest.MonkeyPatch) -> None:
    print(await work(empty_schema, 1, 2, 60, 0.02, monkeypatch))
async def test_y3(empty_schema: URL, monkeypatch: pytest.MonkeyPatch) -> None:
    print(await work(empty_schema, 3, 2, 60, 0.02, monkeypatch))
