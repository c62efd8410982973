"""The whole daemon over PostgreSQL, alone and with a second one beside it. Skipped where there is no server."""

import os
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy.engine import URL

from tests.conformance.postgres import NoServer, Server, server_folder
from tests.system.daemon_rig import Daemon, running_rig

pytest.importorskip("psycopg")
from tests.system.postgres_rig import PostgresRig, postgres_rig

pytestmark = pytest.mark.timeout(180)
SEED = int(os.environ.get("WATCHER_TEST_SEED", "0")) or random.SystemRandom().randrange(1, 2**32)


@pytest.fixture
async def rig(server: URL, tmp_path: Path) -> AsyncIterator[PostgresRig]:
    async with postgres_rig(server, tmp_path) as made:
        yield made


async def test_a_kill_loses_nothing_and_a_stop_leaves_a_whole_ledger(rig: PostgresRig) -> None:
    daemon = await rig.start()
    await rig.create(10)
    await rig.net.mine()
    await rig.until(lambda: rig.all_in("computed", "sending", "accepted", "responded"), "they are worked on")
    await daemon.kill()
    await daemon.reap()
    await rig.create(5)
    daemon = await rig.start()
    await rig.settle()
    assert await daemon.stop() == 0
    await rig.verify()
    done = await rig.command("db", "check")
    assert done.code == 0, done.out + done.err


async def test_two_daemons_share_the_work_and_answer_each_task_once(rig: PostgresRig) -> None:
    """The one is killed now and then; nothing tells them apart but leases and fences."""
    dice = random.Random(SEED)
    print(f"WATCHER_TEST_SEED={SEED}")
    daemons: list[Daemon] = [await rig.start(), await rig.start()]
    async with rig.mining(0.2):
        for _ in range(6):
            await rig.create(8)
            made = await rig.net.manager.count()
            await rig.until(lambda made=made: len(rig.states()) >= made, "they are read")  # type: ignore[misc]
            victim = daemons.pop(dice.randrange(2))
            await victim.kill()
            await victim.reap()
            daemons.append(await rig.start())
    await rig.settle()
    assert [await daemon.stop() for daemon in daemons] == [0, 0]
    await rig.verify()


async def test_start_waits_for_a_server_that_is_away(tmp_path: Path) -> None:
    """It comes back while the daemon waits, and the daemon goes on where it was."""
    with server_folder() as folder:
        try:
            server = Server(folder, fsync="off")
        except NoServer as why:
            pytest.skip(str(why))
        async with running_rig(
            tmp_path, toml={"ledger_url": server.url.set(drivername="postgresql").render_as_string()}
        ) as rig:
            daemon = await rig.start(ready=False)
            await rig.until(lambda: "daemon.waiting" in daemon.log or not daemon.running, "it waits")
            server.start()
            try:
                await rig.until(lambda: "READY=1" in daemon.notices() or not daemon.running, "it is ready")
                assert await daemon.stop() == 0, daemon.log
            finally:
                server.stop()
