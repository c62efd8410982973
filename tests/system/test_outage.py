"""Nodes and sockets that go away and come back: everything is caught up with, nothing is lost or taken for a reorg."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.system.daemon_rig import Rig, running_rig
from watcher.devnet.chain import keep


def rewinds(rig: Rig) -> int:
    return int(rig.query("SELECT count(*) FROM events WHERE kind = 'rewind'")[0][0])


def watch_lines(log: str, event: str) -> list[str]:
    """Return the lines of an event of the stage `watch`."""
    return [line for line in log.splitlines() if event in line and "stage=watch" in line]


async def test_a_node_that_goes_away_and_comes_back_is_caught_up_with(tmp_path: Path) -> None:
    async with running_rig(tmp_path, persist=True) as rig:
        daemon = await rig.start()
        await rig.create(2)
        await rig.net.mine()
        await rig.until(lambda: rig.in_pool() == 2, "both responses are in the pool")
        await rig.create(2)  # mines the responses; these two wait for their confirmation
        await rig.net.anvil.stop()  # and this forgets the pool
        await rig.until(lambda: bool(watch_lines(daemon.log, "stage.retrying")), "the outage is noticed")
        await rig.net.restart_chain()
        await rig.create(3)
        await rig.settle()
        assert len(await rig.verify()) == 7
        for event in ("stage.retrying", "stage.recovered"):
            assert len(watch_lines(daemon.log, event)) == 1, "logged once, not each time"
        assert await daemon.stop() == 0


async def test_without_a_websocket_what_the_node_forgot_to_mine_is_sent_again(tmp_path: Path) -> None:
    async with running_rig(tmp_path, persist=True) as rig:
        rig.write_config(target="rig_hook:dice", changes={f', "{rig.net.ws_url}"': ""})
        daemon = await rig.start()
        await rig.create()
        await rig.net.mine()
        await rig.until(lambda: rig.in_pool() == 1 and rig.all_in("accepted"), "the response is in the pool")
        await rig.net.restart_chain()  # the pool is not kept
        await rig.settle()
        (task,) = await rig.verify()
        assert task["attempts"] == 2
        assert "wake-up" not in daemon.log
        assert await daemon.stop() == 0


async def test_unreachable_api_is_logged_once_for_all_tasks_and_attempts(tmp_path: Path) -> None:
    async with running_rig(tmp_path) as rig:
        daemon = await rig.start()
        await rig.net.hosted.stop()
        await rig.create(8)
        await rig.net.mine(2)
        tried = "SELECT count(*) FROM tasks WHERE attempts > 3"
        await rig.until(lambda: rig.query(tried)[0][0] == 8, "each was tried a few times")
        await rig.net.hosted.start()
        await rig.until(lambda: rig.all_in("accepted"), "all are accepted")
        log = daemon.log.splitlines()
        assert len([line for line in log if "task.not_accepted" in line]) <= 2, daemon.log
        assert len([line for line in log if "operator.unreachable" in line]) == 1
        assert len([line for line in log if "operator.reachable" in line]) == 1
        await rig.settle()
        await rig.verify()
        assert await daemon.stop() == 0


async def test_tasks_of_a_downtime_are_answered_when_the_node_is_down_at_start(tmp_path: Path) -> None:
    async with running_rig(tmp_path, persist=True) as rig:
        first = await rig.start()
        await rig.create()
        await rig.settle()
        assert await first.stop() == 0
        await rig.create(3)
        await rig.net.mine(3)
        await rig.create(2)
        await rig.net.anvil.stop()
        impatient = await rig.start(ready=False)
        await rig.until(lambda: "STATUS=waiting for the chain" in impatient.notices(), "it waits for the node")
        assert await impatient.stop() == 0, impatient.log
        patient = await rig.start(ready=False)
        await rig.until(lambda: "STATUS=waiting for the chain" in patient.notices(), "it waits for the node")
        assert "READY=1" not in patient.log_once
        await rig.net.restart_chain()
        await rig.until(lambda: "READY=1" in patient.notices(), "it has begun")
        await rig.settle()
        assert len(await rig.verify()) == 6
        assert await patient.stop() == 0


async def test_a_head_that_goes_backwards_is_a_lagging_node_and_not_a_reorg(tmp_path: Path) -> None:
    async with running_rig(tmp_path, slots_in_epoch=4) as rig:
        daemon = await rig.start()
        await rig.create()
        await rig.net.mine()
        await rig.until(lambda: rig.in_pool() == 1, "the response is in the pool")
        await rig.net.mine(4)
        await rig.until(lambda: rig.all_in("responded"), "the response is on the chain")
        await rig.caught_up()
        before = rig.states(), rig.steps(), rig.cursor()
        await rig.net.chain.rollback(3)
        await asyncio.sleep(1)  # ten polls: that nothing happens has no event to wait for
        assert (rig.states(), rig.steps(), rig.cursor()) == before
        assert rewinds(rig) == 0
        await rig.net.mine(2)
        await rig.create()  # the old height again: only now it shows that the blocks are others
        await rig.until(lambda: rewinds(rig) == 1, "the new blocks are noticed")
        await rig.settle()
        assert len(await rig.verify()) == 2
        assert len(rig.received()) == 2
        assert await daemon.stop() == 0


async def test_until_idle_waits_when_the_node_is_down(tmp_path: Path) -> None:
    async with running_rig(tmp_path, persist=True) as rig:
        first = await rig.start()
        await rig.create()
        await rig.settle()
        assert await first.stop() == 0
        daemon = await rig.start("--until-idle")
        await rig.net.anvil.stop()
        await rig.until(lambda: "job=reconcile" in daemon.log, "it wants to be sure")
        await asyncio.sleep(2.5)  # some more of its looks: that it stays has no event to wait for
        assert daemon.running
        assert daemon.log.count("job=reconcile") == 1
        await rig.net.restart_chain()
        assert await daemon.wait() == 0
        await rig.verify()


async def test_a_watcher_that_was_suspended_goes_on_where_the_chain_is_now(tmp_path: Path) -> None:
    async with running_rig(tmp_path, slots_in_epoch=4) as rig:
        daemon = await rig.start()
        await rig.create(2)
        await rig.net.mine()
        await rig.until(lambda: rig.in_pool() == 2, "the responses are in the pool")
        daemon.send(signal.SIGSTOP)
        await rig.net.mine()
        await rig.create()
        await rig.net.chain.reorg(2, keep)
        await rig.net.mine(30)
        await rig.create(2)
        daemon.send(signal.SIGCONT)
        await rig.settle()
        assert len(await rig.verify()) == 5
        assert await daemon.stop() == 0


class Wire:
    """A TCP relay to the node's WebSocket. `silent` swallows what the node says, `cut` breaks and refuses."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._writers: set[asyncio.StreamWriter] = set()
        self.refuses = self.silent = False
        self.connections = 0
        self.url = ""

    def cut(self) -> None:
        self.refuses = True
        for writer in self._writers:
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refuses:
            writer.transport.abort()
            return
        self.connections += 1
        there, back = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers |= {writer, back}
        await asyncio.gather(self._pump(reader, back, quiet=False), self._pump(there, writer, quiet=True))

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, quiet: bool) -> None:
        try:
            while data := await source.read(65536):
                if not (quiet and self.silent):
                    sink.write(data)
                    await sink.drain()
        except ConnectionError:
            pass
        finally:
            self._writers.discard(sink)
            sink.close()


@asynccontextmanager
async def wired(rig: Rig) -> AsyncIterator[Wire]:
    """The daemon's WebSocket goes through a wire, its HTTP does not."""
    wire = Wire(rig.net.anvil.port)
    server = await asyncio.start_server(wire.serve, "127.0.0.1", 0)
    wire.url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    rig.write_config(target="rig_hook:dice", changes={rig.net.ws_url: wire.url})
    try:
        yield wire
    finally:
        server.close()
        wire.cut()


async def _one_more(rig: Rig) -> None:
    await rig.create()
    await rig.settle()


async def test_silent_or_dead_websocket_costs_only_latency(tmp_path: Path) -> None:
    async with running_rig(tmp_path) as rig, wired(rig) as wire:
        daemon = await rig.start()
        await rig.until(lambda: "rpc.subscription_up" in daemon.log, "the socket is up")
        await _one_more(rig)
        wire.silent = True
        await _one_more(rig)
        wire.cut()
        await rig.until(lambda: "polling goes on" in daemon.log, "the loss is told")
        await _one_more(rig)
        wire.refuses = wire.silent = False
        await rig.until(lambda: daemon.log.count("is up") == 2, "the socket is up again")
        await _one_more(rig)
        assert len(await rig.verify()) == 4
        assert wire.connections == 2
        assert await daemon.stop() == 0


async def test_the_websocket_wakes_the_watcher_long_before_it_would_poll(tmp_path: Path) -> None:
    async with running_rig(tmp_path) as rig:
        daemon = await rig.start(WATCHER_CHAIN__POLL_INTERVAL_S="60")
        await rig.until(lambda: "is up" in daemon.log, "the socket is up")
        await rig.create()
        await rig.until(lambda: rig.all_in("seen"), "it was woken", timeout_s=10)
        assert await daemon.stop() == 0
