"""Replicas of one ledger as real processes: roles apart, a leader that is killed, stopped or stops, a shared budget.

Skipped where there is no server.
"""

import asyncio
import json
import signal
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from aiohttp import web
from sqlalchemy.engine import URL

from watcher.devnet.delivery import deliver
from watcher.devnet.faults import Answer
from watcher.operator.request import PROBE_METHOD

pytest.importorskip("psycopg")
from tests.system.postgres_rig import PostgresRig, postgres_rig

pytestmark = pytest.mark.timeout(240)
TAKEOVER_S = 10.0
# The promise goes by the database's clock, from the last beat of one leader to the lead of the next. The test sees the
# end of it later, beside other tests.
_WAIT_S = 4 * TAKEOVER_S
_NAP_S = 0.1
LIMIT = 4  # operator.concurrency of the rig


class Stalls:
    """How long a thread that sleeps has overslept: a machine that runs nothing for seconds keeps no promise."""

    def __init__(self) -> None:
        self.longest_s = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def __str__(self) -> str:
        return f"the machine stood still for up to {self.longest_s:.2f} s"

    def _run(self) -> None:
        before_s = time.monotonic()
        while not self._over.wait(_NAP_S):
            now_s = time.monotonic()
            self.longest_s = max(self.longest_s, now_s - before_s - _NAP_S)
            before_s = now_s

    def close(self) -> None:
        self._over.set()
        self._thread.join()


@pytest.fixture
def stalls() -> Iterator[Stalls]:
    with closing(Stalls()) as made:
        yield made


@pytest.fixture
async def rig(server: URL, tmp_path: Path) -> AsyncIterator[PostgresRig]:
    async with postgres_rig(server, tmp_path) as made:
        yield made


async def test_roles_in_processes_of_their_own_answer_every_task(rig: PostgresRig) -> None:
    """The process of the hook has no password, and that of the API no hook."""
    password = rig.environment.pop("WATCHER_OPERATOR__PASSWORD")
    rig.write_config(target="rig_hook:dice", changes={'target = "rig_hook:dice"\n': ""}, ledger_url=rig.url)
    apart = [
        await rig.start("--role", "watch"),
        await rig.start("--role", "respond", WATCHER_HOOK__TARGET="rig_hook:dice"),
        await rig.start("--role", "submit", WATCHER_OPERATOR__PASSWORD=password),
        await rig.start("--role", "confirm"),
    ]
    assert list(rig.replicas().values()) == ["watch", "respond", "submit", "confirm"]
    await rig.create(6)
    await rig.settle()
    assert [await daemon.stop() for daemon in apart] == [0, 0, 0, 0]
    assert rig.replicas() == {}
    await rig.verify()


async def test_another_leads_when_the_leader_stops_or_is_stopped_or_killed(rig: PostgresRig, stalls: Stalls) -> None:
    first, second = await rig.start(), await rig.start()
    a, b = rig.replicas()
    assert rig.leader() == a
    rig.keep_terms()

    # A clean stop gives the lead back.
    first.send(signal.SIGTERM)
    await rig.until(lambda: rig.leader() == b, "the lead is taken over from a clean stop", timeout_s=_WAIT_S)
    assert await first.wait() == 0
    first = await rig.start()
    (c,) = set(rig.replicas()) - {b}

    # A leader that is frozen loses the lead, although it holds the lock of its row, and follows when it goes on.
    await rig.freeze(second)
    await rig.create(3)
    await rig.net.mine(2)
    await rig.until(lambda: rig.leader() == c, "the lead is taken over from a frozen process", timeout_s=_WAIT_S)
    frozen_s = rig.takeover_s(c)
    await rig.until(lambda: len(rig.states()) == 4, "the new leader reads the chain")
    second.send(signal.SIGCONT)
    await rig.until(lambda: set(rig.replicas()) == {b, c}, "the frozen process joins again")
    assert rig.leader() == c
    assert "replica.stalled" in first.log

    # A killed one is replaced, too.
    await first.kill()
    await rig.create(3)
    await rig.until(lambda: rig.leader() == b, "the lead is taken over from a killed process", timeout_s=_WAIT_S)
    killed_s = rig.takeover_s(b)
    print(f"taken over from a frozen leader in {frozen_s:.2f} s, from a killed one in {killed_s:.2f} s; {stalls}")
    assert max(frozen_s, killed_s) <= TAKEOVER_S + stalls.longest_s
    await first.reap()
    await rig.settle()
    assert await second.stop() == 0
    await rig.verify()


async def test_three_submitters_share_one_budget(rig: PostgresRig, monkeypatch: pytest.MonkeyPatch) -> None:
    running, most = 0, 0

    async def slow(request: web.Request, answer: Answer) -> web.StreamResponse:
        nonlocal running, most
        if json.loads(await request.read()).get("method") != PROBE_METHOD:
            running += 1
            most = max(most, running)
            try:
                await asyncio.sleep(0.2)
            finally:
                running -= 1
        return await deliver(request, answer)

    monkeypatch.setattr("watcher.devnet.hosted.deliver", slow)
    daemons = [await rig.start()]
    await rig.create(20)
    await rig.net.mine(2)
    await rig.until(lambda: most > 0, "the first one sends")
    daemons += [await rig.start(), await rig.start()]
    await rig.until(lambda: sorted(row[0] for row in rig.query("SELECT slots FROM replicas")) == [1, 1, 2], "shares")
    await rig.create(20)
    await rig.settle()
    assert [await daemon.stop() for daemon in daemons] == [0, 0, 0]
    assert 2 <= most <= LIMIT, f"{most} requests at a time"
    await rig.verify()
