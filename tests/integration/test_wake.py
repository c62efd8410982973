"""The subscription wakes when the chain moves, comes back whatever happens to its socket, and says so once."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest
from loguru import logger
from websockets.asyncio.server import ServerConnection, serve

from tests.integration.node_rig import CHAIN_ID, SECRET, running_chain
from tests.kit.clocks import QuickClock
from tests.wizard import TOPICS0
from watcher.chain.rpc.poll import Pushed
from watcher.chain.rpc.subscription import Subscription
from watcher.clock import SystemClock


class WakeCounter:
    """Counts the wake-ups, and lets a test wait until there were so many."""

    def __init__(self) -> None:
        self.count = 0
        self.blocks: list[Pushed | None] = []
        self._woken = asyncio.Event()

    def __call__(self, block: Pushed | None = None) -> None:
        self.count += 1
        self.blocks.append(block)
        self._woken.set()

    async def reach(self, count: int) -> None:
        async with asyncio.timeout(20):
            while self.count < count:
                self._woken.clear()
                await self._woken.wait()


class ObservedClock(QuickClock):
    """Waits are noted and take a moment only; `slept` counts them."""

    def __init__(self) -> None:
        self.slept = WakeCounter()
        super().__init__(self.slept)


@pytest.fixture
def lines() -> Iterator[list[str]]:
    records: list[str] = []
    # Ours alone: the fake node on the other side logs as well, where a test before this one has bridged the libraries.
    sink = logger.add(
        lambda message: records.append(str(message)),
        format="{level} {message} {extra}",
        level="TRACE",
        filter="watcher.chain",
    )
    yield records
    logger.remove(sink)


@asynccontextmanager
async def waking(
    url: str, wakes: WakeCounter, clock: SystemClock | None = None, silence_s: float = 30
) -> AsyncIterator[None]:
    wake = Subscription(
        url, CHAIN_ID, b"\x11" * 20, TOPICS0, wakes, clock or ObservedClock(), Random(1), silence_s=silence_s
    )
    task = asyncio.create_task(wake.run())
    try:
        yield
    finally:
        task.cancel()
        async with asyncio.timeout(5):
            with pytest.raises(asyncio.CancelledError):
                await task


Talk = Callable[[ServerConnection], Awaitable[None]]


@asynccontextmanager
async def fake_node(after: Talk, chain_id: int = CHAIN_ID, refuse: str = "") -> AsyncIterator[tuple[str, list[str]]]:
    """Answers the handshake of a subscriber, then does `after`. Yields its URL and what was asked for so far."""
    asked: list[str] = []

    async def talk(socket: ServerConnection) -> None:
        for _ in range(3):
            request = json.loads(await socket.recv())
            what = request["method"] if not request["params"] else request["params"][0]
            asked.append(what)
            # A notification may overtake an answer.
            await socket.send(json.dumps({"jsonrpc": "2.0", "method": "eth_subscription", "params": {}}))
            answer = {"jsonrpc": "2.0", "id": request["id"]}
            if what == refuse:
                await socket.send(json.dumps(answer | {"error": {"code": -32601, "message": "no"}}))
                continue
            await socket.send(json.dumps(answer | {"result": hex(chain_id) if what == "eth_chainId" else "0x1"}))
        await after(socket)

    async with serve(talk, "127.0.0.1", 0, close_timeout=0.1) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        yield f"ws://127.0.0.1:{port}/ws/{SECRET}", asked


async def hold(socket: ServerConnection) -> None:
    await socket.wait_closed()


async def test_new_blocks_of_a_real_chain_wake_up_also_after_an_outage(tmp_path: Path, lines: list[str]) -> None:
    wakes, clock = WakeCounter(), ObservedClock()
    options = {"state_file": tmp_path / "state.json"}
    async with running_chain(tmp_path, **options) as (chain, anvil), waking(anvil.ws_url, wakes, clock):
        await wakes.reach(1)
        await chain.mine(1)
        await wakes.reach(2)
        await anvil.stop(kill=True)
        await clock.slept.reach(1)
        count = wakes.count
        await anvil.start()
        await wakes.reach(count + 1)
        await chain.mine(1)
        await wakes.reach(count + 2)
    ups = [line for line in lines if "rpc.subscription_up" in line]
    downs = [line for line in lines if "rpc.subscription_down" in line]
    assert (len(ups), len(downs), len(lines)) == (2, 1, 3)


async def _closes(socket: ServerConnection) -> None:
    await socket.close(1000, "bye")


async def _breaks(socket: ServerConnection) -> None:
    socket.transport.abort()


async def _shouts(socket: ServerConnection) -> None:
    await socket.send("x" * (2 << 20))
    await socket.wait_closed()


@pytest.mark.parametrize("after", [_closes, _breaks, _shouts])
async def test_any_end_of_the_connection_leads_to_a_new_subscription(after: Talk) -> None:
    wakes = WakeCounter()
    async with fake_node(after) as (url, asked), waking(url, wakes):
        await wakes.reach(3)
    assert asked[:6] == ["eth_chainId", "newHeads", "logs"] * 2


async def test_silence_forces_a_reconnect(lines: list[str]) -> None:
    wakes = WakeCounter()
    async with fake_node(hold) as (url, asked), waking(url, wakes, silence_s=0.2):
        await wakes.reach(2)
    assert asked[:6] == ["eth_chainId", "newHeads", "logs"] * 2
    assert any("silent for too long" in line for line in lines)


async def test_a_socket_that_closes_at_once_in_a_loop_is_tried_ever_more_rarely(lines: list[str]) -> None:
    clock = ObservedClock()
    async with fake_node(_closes) as (url, _), waking(url, WakeCounter(), clock):
        await clock.slept.reach(12)
    assert clock.waits_s[0] <= 0.5
    assert 30 <= clock.waits_s[-1] <= 60
    assert SECRET not in "".join(lines)


async def test_another_chain_never_wakes_and_is_reported_once(lines: list[str]) -> None:
    wakes, clock = WakeCounter(), ObservedClock()
    async with fake_node(hold, chain_id=1) as (url, asked), waking(url, wakes, clock):
        await clock.slept.reach(3)
    assert wakes.count == 0
    assert "newHeads" not in asked
    assert len(lines) == 1 and f"does not serve chain {CHAIN_ID}" in lines[0]


async def test_a_notification_names_its_block_or_wakes_without_one() -> None:
    log = {"blockNumber": "0x7", "blockHash": "0x" + "07" * 32}
    results = [{"number": "0x8", "hash": "0x" + "08" * 32}, log, log | {"removed": True}, {"number": 7}, [], "0x"]
    hostile = ["no JSON", "[" * 5000, json.dumps({"params": None}), json.dumps({"params": {"result": {"hash": "0x"}}})]

    async def push(socket: ServerConnection) -> None:
        for result in results:
            await socket.send(json.dumps({"method": "eth_subscription", "params": {"result": result}}))
        for message in hostile:
            await socket.send(message)
        await socket.wait_closed()

    wakes = WakeCounter()
    async with fake_node(push) as (url, _), waking(url, wakes):
        await wakes.reach(1 + len(results) + len(hostile))
    named = [Pushed(8, b"\x08" * 32), Pushed(7, b"\x07" * 32)]
    assert wakes.blocks == [None, *named, *[None] * (len(results) - 2 + len(hostile))]


async def test_a_trial_names_the_fault_and_wakes_nothing() -> None:
    def wake(url: str, chain_id: int = CHAIN_ID) -> Subscription:
        return Subscription(url, chain_id, bytes(20), TOPICS0, wakes, SystemClock(), Random(1))

    wakes = WakeCounter()
    async with fake_node(hold) as (url, _):
        assert await wake(url).trial() is None
        assert await wake(url, CHAIN_ID + 1).trial() == f"it does not serve chain {CHAIN_ID + 1}"
        assert SECRET not in wake(url).name
    async with fake_node(hold, refuse="logs") as (url, _):
        assert await wake(url).trial() == "it refuses the subscription to logs"
    assert SECRET not in (await wake(url).trial() or SECRET)
    assert wakes.count == 0


async def test_a_refused_subscription_is_a_loss(lines: list[str]) -> None:
    wakes, clock = WakeCounter(), ObservedClock()
    async with fake_node(hold, refuse="newHeads") as (url, _), waking(url, wakes, clock):
        await clock.slept.reach(1)
    assert wakes.count == 0 and "refuses the subscription to newHeads" in lines[0]


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 302 Found\r\nLocation: ws://127.0.0.1:1/other\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 429 Too Many\r\nContent-Length: 0\r\n\r\n",
        b"<html>" * 10_000,
        b"\x00\xff" * 100,
        b"",
    ],
)
async def test_what_is_no_websocket_is_a_loss_with_words(raw: bytes, lines: list[str]) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(raw)
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    clock = ObservedClock()
    async with server, waking(f"ws://127.0.0.1:{port}/ws/{SECRET}", WakeCounter(), clock):
        await clock.slept.reach(2)
    assert len(lines) == 1 and "rpc.subscription_down" in lines[0]
    assert SECRET not in lines[0]


async def test_nesting_that_would_overflow_the_stack_is_a_loss(lines: list[str]) -> None:
    async def talk(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send("[" * 900_000)
        await socket.wait_closed()

    clock = ObservedClock()
    async with serve(talk, "127.0.0.1", 0, close_timeout=0.1) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with waking(f"ws://127.0.0.1:{port}", WakeCounter(), clock):
            await clock.slept.reach(1)
    assert "does not speak JSON" in lines[0]
