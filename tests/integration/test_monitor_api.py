"""An API nobody has anything to send to: that it goes away and is back is found out all the same, and gently."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random

from tests.integration.operator_rig import Api, Behaviour, Seen, answers, client_of, failure
from tests.kit.clocks import HandClock
from watcher.chain.rpc.node import Node
from watcher.chain.rpc.nodes import NodePool
from watcher.health.conditions import (
    API,
)
from watcher.health.metrics import Metrics
from watcher.health.monitor import Monitor
from watcher.health.observers import Observer
from watcher.health.readings import (
    Limits,
)
from watcher.health.surroundings import Surroundings
from watcher.operator.client import Client

GOOD = answers(404, failure("got unsupported method name: watcher_probe", 1, "1"))
UNAUTHORISED = answers(401, b"no")


@dataclass
class Watched:
    """A monitor with one API, and how often it said that the API is back."""

    monitor: Monitor
    clock: HandClock
    backs: list[None] = field(default_factory=list)

    async def after(self, seconds: float) -> str:
        """What is true of the API so much later, once what was to be asked has been answered."""
        self.clock.now_s += seconds
        self.monitor.step()
        await asyncio.gather(*(task for task in asyncio.all_tasks() if task.get_name() == "monitor probe"))
        service = self.monitor.step().service(API)
        assert service is not None
        return f"{service.status}: {service.message}"


@asynccontextmanager
async def watched(client: Client) -> AsyncIterator[Watched]:
    clock = HandClock()
    metrics = Metrics("an avs")
    nodes = NodePool([Node("http://127.0.0.1:9", 1, clock)], clock, Random(1))
    around = Surroundings(apis={"": client}, on_back=lambda: seen.backs.append(None))
    monitor = Monitor(Observer(clock, metrics), metrics, clock, Limits(), nodes, around)
    seen = Watched(monitor, clock)
    yield seen
    await nodes.close()


class Door:
    """What the API does now; may be changed."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour

    async def __call__(self, api: Api, seen: Seen, writer: asyncio.StreamWriter) -> None:
        await self.behaviour(api, seen, writer)


async def test_idle_api_is_down_within_half_a_minute_and_up_when_it_is_back() -> None:
    async with Api(GOOD) as api:
        url = api.url
        async with client_of(url) as client, watched(client) as seen:
            assert await seen.after(11) == "Up: nothing was to be sent yet"
            await api.__aexit__(None, None, None)
            await seen.after(11)
            health = await seen.after(11)
            assert health.startswith("Down: 2 requests in a row failed (http://127.0.0.1:")
            assert "the connection was refused" in health
            assert not seen.backs
            async with Api(GOOD, port=int(url.rpartition(":")[2])) as restarted:
                assert await seen.after(11) == "Up: takes our requests"
                assert (len(restarted.seen), len(seen.backs)) == (1, 1)


async def test_idle_api_gets_no_request_for_minutes_while_it_is_well() -> None:
    async with Api(GOOD) as api, client_of(api.url) as client, watched(client) as seen:
        for _ in range(25):
            assert (await seen.after(11)).startswith("Up")
        assert not api.seen
        assert api.connections >= 25
        for _ in range(4):
            await seen.after(11)
        assert len(api.seen) == 1
        assert not seen.backs


async def test_api_is_probed_again_after_it_refused_us() -> None:
    door = Door(UNAUTHORISED)
    async with Api(door) as api, client_of(api.url) as client, watched(client) as seen:
        while "refuses us" not in await seen.after(60):
            assert len(api.seen) < 10
        asked = len(api.seen)
        await seen.after(11)
        assert len(api.seen) == asked, "a wrong password is not tried all the time"
        assert "refuses us" in await seen.after(11)
        door.behaviour = GOOD
        assert await seen.after(21) == "Up: takes our requests"
        assert len(seen.backs) == 1


async def test_idle_api_is_down_when_connections_work_and_requests_fail() -> None:
    """A gateway in place of the API: only a request shows, and one is made while there is doubt."""
    door = Door(answers(502, b"<html>"))
    async with Api(door) as api, client_of(api.url) as client, watched(client) as seen:
        await seen.after(301)
        assert "2 requests in a row failed" in await seen.after(11)
        door.behaviour = GOOD
        assert await seen.after(11) == "Up: takes our requests"
