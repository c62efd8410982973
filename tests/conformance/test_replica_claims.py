"""How often replicas ask for work that is not there: a task costs the claims of one process, however many there are."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from random import SystemRandom
from typing import Any

import pytest
from sqlalchemy import Connection, func, select
from sqlalchemy.engine import URL

from tests.conformance.rig import CHAIN_ID, MANAGER, START_BLOCK, header, make_task
from watcher.clock import SystemClock
from watcher.daemon.replica import Replica, ReplicaPlan, joined
from watcher.hook.respond import Respond, RespondPlan
from watcher.ledger import claims, ingest, outcomes
from watcher.ledger.database_clock import clock_of
from watcher.ledger.store import Ledger, open_ledger
from watcher.ledger.tables import tasks
from watcher.ledger.transaction import Tx
from watcher.settings.daemon import ROLES
from watcher.stage import StageLoop, Wakeups
from watcher.state import State
from watcher.task import OpenTask, Response, Task

pytest.importorskip("psycopg")
PLAN = ReplicaPlan(ROLES, ROLES, 4, 3)
PATIENCE_S = 30.0
WORKERS = 2
RESPOND_PLAN = RespondPlan(WORKERS, timeout_s=60, max_attempts=3, retry_base_s=1, idle_s=60)
_DRAIN_S = 5.0
_AHEAD_MS = 60_000  # the database's clock is not this one's


Hook = Callable[[], Awaitable[object]]


async def instantly() -> None:
    """A hook that takes no time."""


class Member:
    """A replica in this process with a hook."""

    def __init__(self, hook: Hook) -> None:
        self._hook = hook
        self._wakeups = Wakeups(("respond",))
        self.replica: Replica | None = None
        self.answers = 0

    def committed(self, tx: Tx) -> None:
        self._wakeups.committed(tx)
        if self.replica is not None:
            self.replica.committed(tx)

    async def run_hook(self, _task: Task) -> Response:
        self.answers += 1
        await self._hook()
        return Response(b"answer", "hook 1", 1)

    @asynccontextmanager
    async def running(self, url: URL) -> AsyncIterator[Ledger]:
        clock, stopping = clock_of(url, SystemClock()), asyncio.Event()
        async with AsyncExitStack() as stack:
            opening = open_ledger(url, clock, CHAIN_ID, MANAGER, START_BLOCK, on_commit=self.committed)
            ledger = await stack.enter_async_context(opening)
            joining = joined(url, ledger, PLAN, clock, self._wakeups, SystemRandom())
            self.replica = await stack.enter_async_context(joining)
            respond = Respond(self.run_hook, ledger, clock, SystemRandom(), RESPOND_PLAN)
            loop = asyncio.create_task(StageLoop(respond, self._wakeups, clock, stopping).run())
            try:
                yield ledger
            finally:
                stopping.set()
                self._wakeups.wake_all()
                await loop
                with suppress(TimeoutError):  # a failed test leaves hooks that never end
                    async with asyncio.timeout(_DRAIN_S):
                        await respond.drain()


@dataclass(frozen=True)
class Work:
    """What some tasks took: the claims of all replicas, and the answers of each."""

    claims: int
    answers: list[int]


async def until(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not await condition():
        assert time.monotonic() < deadline_s, what
        await asyncio.sleep(0.01)


def computed(conn: Connection) -> int:
    return conn.execute(select(func.count()).where(tasks.c.state == State.COMPUTED)).scalar_one()


async def work(
    url: URL, replicas: int, blocks: int, per_block: int, monkeypatch: pytest.MonkeyPatch, hook: Hook = instantly
) -> Work:
    """Let replicas answer tasks, block by block. The first one leads."""
    claimed, claim = [0], claims.claim

    def counted(*args: Any, **kwargs: Any) -> list[OpenTask]:
        claimed[0] += 1
        return claim(*args, **kwargs)

    async with AsyncExitStack() as stack:
        members = [Member(hook) for _ in range(replicas)]
        ledgers = [await stack.enter_async_context(member.running(url)) for member in members]
        first, source = ledgers[0], ledgers[0].source_id

        async def all_listen() -> bool:
            seen = [member.replica.seen for member in members if member.replica is not None]
            return all(each.is_told and each.count == replicas for each in seen)

        async def all_answered() -> bool:
            return await first.read(computed) == made

        await until(all_listen, "they listen")
        monkeypatch.setattr(claims, "claim", counted)
        made = 0
        for number in range(110, 110 + blocks):
            new = [make_task(made + each, block=number, deadline=None) for each in range(per_block)]
            made += per_block
            await first.write(ingest.record, source, new, [], header(number), number)
            seen = await first.read(outcomes.to_admit, source, 0, SystemClock().now_ms() + _AHEAD_MS, per_block)
            await first.write(outcomes.admitted, seen, header(number))
            await until(all_answered, "they are answered")
        return Work(claimed[0], [member.answers for member in members])


@pytest.mark.parametrize("replicas", [1, 3])
async def test_a_task_that_one_replica_has_room_for_costs_one_claim(
    replicas: int, empty_schema: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit that makes it ready claims it; the others are not woken. It was 21 claims with one, 40 with three."""
    done = await work(empty_schema, replicas, 10, 1, monkeypatch)
    print(done)
    assert done.answers[0] == 10, "whoever makes the work has it in hand"
    assert done.claims <= 10 + 2 * replicas + 2  # a few at the start


async def test_a_replica_leaves_to_the_others_what_it_cannot_begin(
    empty_schema: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No hook ends before all have begun: a replica that took more than its workers can run would stop them all."""
    all_run = asyncio.Barrier(3 * WORKERS)
    done = await work(empty_schema, 3, 1, 3 * WORKERS, monkeypatch, all_run.wait)
    print(done)
    assert done.answers == [WORKERS] * 3
