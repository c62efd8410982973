"""The daemon's memory over many tasks: `python -m bench.memory`. Prints one line for each number of tasks.

All stages run as in the daemon, over a real ledger. Chain, hook and API are in this process; they reply at once and
keep a few bytes per task, which the figures include. Each block creates tasks and contains the responses to the last
ones; every task reaches `final`.
"""

import asyncio
import hashlib
import json
import os
import sys
import tempfile
import time
from array import array
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import SystemRandom
from typing import Annotated, Any, cast

import typer
from eth_utils.crypto import keccak

from watcher.chain.convention.abi import Codec
from watcher.chain.convention.convention import convention
from watcher.chain.rpc.calls import LogQuery
from watcher.chain.rpc.nodes import NodePool
from watcher.chain.rpc.replies import Log, LogPage, Reverted
from watcher.chain.rpc.transaction_reply import Receipt
from watcher.chain.source import Source
from watcher.clock import SystemClock
from watcher.daemon import log, parts, wiring
from watcher.daemon.avs_run import STAGES
from watcher.ledger import queries, schema
from watcher.ledger.engine import parse_url
from watcher.ledger.store import Ledger, open_ledger
from watcher.operator.request import Request
from watcher.settings.model import Settings
from watcher.stage import StageLoop, Wakeups
from watcher.state import State
from watcher.task import Accepted, Header, Response, Sent, Task

CHAIN_ID = 31337
MANAGER = b"\x5a" * 20
WIZARD = convention("wizard")
LIMIT = 1.5
_FINALITY = 2
_WINDOW = 100
_STEP_TIMEOUT_S = 120
_TASK = Codec("(uint32,uint32,bytes,bytes)")
_RESPONDED = Codec("(uint32,bytes)", "(uint32,bytes32)")
_NAMES = {
    view.call()[:4]: view.signature.partition("(")[0]
    for view in (WIZARD.latest_task_num, WIZARD.all_task_hashes, WIZARD.all_task_responses, WIZARD.response_window)
    if view is not None
}


class World:
    """A chain, its node and the hosted API in one. All values follow from block numbers and indices."""

    name = "memory"

    def __init__(self, per_block: int) -> None:
        self._per_block = per_block
        self._creates = bytearray(1)  # whether a block creates tasks
        self._answers = [array("L")]  # the tasks with a response in each block
        self._answered_in = array("L")  # the block of each task's response; 0: none
        self._first_of = array("L", [0])  # the first index of each block
        self._posted: list[int] = []
        self.sent = 0

    @property
    def count(self) -> int:
        return len(self._answered_in)

    @property
    def number(self) -> int:
        return len(self._creates) - 1

    def mine(self, *, create: bool) -> None:
        """Add a block with the posted responses, and with new tasks if `create`."""
        posted, self._posted = self._posted, []
        self._first_of.append(self.count)
        self._creates.append(create)
        self._answers.append(array("L", posted))
        for index in posted:
            self._answered_in[index] = self.number
        self._answered_in.extend([0] * (self._per_block if create else 0))

    async def send(self, request: Request) -> Sent:
        """Accept a request, as the API does."""
        params = json.loads(request.body)["params"][0]
        self._posted.append(params["task_index"])
        self.sent += 1
        return Sent(Accepted(), 200, b"{}", 1)

    async def close(self) -> None:
        return

    async def chain_id(self) -> int:
        return CHAIN_ID

    async def head(self) -> Header:
        return _header(self.number)

    async def header(self, which: int | str) -> Header | None:
        if isinstance(which, str):
            return _header(max(0, self.number - _FINALITY))
        return _header(which) if which <= self.number else None

    async def page(self, query: LogQuery) -> LogPage:
        logs = [log for number in range(max(query.first, 1), query.last + 1) for log in self._logs(number)]
        return LogPage(tuple(logs), _header(query.last), True, 0)

    async def find(self, _address: bytes, topic0: bytes, index: bytes, first: int, last: int) -> tuple[Log, ...]:
        return tuple(
            log for number in range(first, last + 1) for log in self._logs(number) if log.topics[:2] == (topic0, index)
        )

    async def views(self, calls: Sequence[bytes], _to: bytes, at: Header) -> list[bytes | Reverted]:
        return [self._view(call, at.number) for call in calls]

    async def transaction_receipt(self, _tx_hash: bytes) -> Receipt | None:
        return None

    async def client_version(self) -> str:
        return "memory"

    def _view(self, call: bytes, at: int) -> bytes:
        name = _NAMES[call[:4]]
        if name == "latestTaskNum":
            return (self._first_of[at] + self._per_block * self._creates[at]).to_bytes(32)
        if name == "TASK_RESPONSE_WINDOW_BLOCK":
            return _WINDOW.to_bytes(32)
        index = int.from_bytes(call[4:36])
        if name == "allTaskHashes":
            return keccak(self._task_data(index)) if index < self.count else bytes(32)
        block = self._answered_in[index] if index < self.count else 0
        return keccak(_answer_data(index, block)) if 0 < block <= at else bytes(32)

    def _task_data(self, index: int) -> bytes:
        return _TASK.encode([(self._created_block(index), 66, index.to_bytes(32), b"\0")])

    def _created_block(self, index: int) -> int:
        return bisect_right(self._first_of, index) - 1

    def _logs(self, number: int) -> list[Log]:
        first = self._first_of[number]
        logs: list[tuple[tuple[bytes, ...], bytes]] = [
            ((WIZARD.created_topic, index.to_bytes(32)), self._task_data(index))
            for index in range(first, first + self._per_block * self._creates[number])
        ]
        logs += [((WIZARD.topics0[-1],), _answer_data(index, number)) for index in self._answers[number]]
        hash_ = _header(number).hash
        return [
            Log(MANAGER, topics, data, number, hash_, _digest("tx", number, place), place)
            for place, (topics, data) in enumerate(logs)
        ]


def _digest(*parts: object) -> bytes:
    return hashlib.sha256(repr(parts).encode()).digest()


def _header(number: int) -> Header:
    return Header(number, _digest("block", number), _digest("block", number - 1))


def _answer(index: int) -> bytes:
    return (index * index).to_bytes(32)


def _answer_data(index: int, block: int) -> bytes:
    return _RESPONDED.encode([(index, _answer(index)), (block, bytes(32))])


async def _hook(task: Task) -> Response:
    return Response(_answer(task.task_index), "memory", 0)


@dataclass(frozen=True, slots=True)
class Point:
    """The resident memory once so many tasks are final."""

    tasks: int
    resident_bytes: int
    seconds: float


def resident_bytes() -> int:
    """Return the resident memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Run:
    """All stages of a daemon, driven block by block."""

    def __init__(self, folder: Path, per_block: int) -> None:
        self._folder = folder
        self._world = World(per_block)
        self._wakeups = Wakeups(STAGES)
        self._began_s = time.monotonic()

    async def points(self, counts: Sequence[int]) -> list[Point]:
        """Return a measurement for each number of tasks, in rising order."""
        settings = _settings(self._folder)
        log.set_up("error")
        url, clock = parse_url(settings.ledger.url), SystemClock()
        schema.upgrade(url)
        nodes = NodePool(cast("Any", [self._world]), clock, SystemRandom(), 1)
        async with open_ledger(url, clock, CHAIN_ID, MANAGER, 1, on_commit=self._wakeups.committed) as ledger:
            contract = parts.task_manager(settings.task_manager, nodes, settings.chain.max_span_blocks)
            source = Source(nodes, contract, ledger, clock, _WINDOW)
            stages = wiring.build(settings, source, wiring.Outside(_hook, self._world))
            stopping = asyncio.Event()
            loops = [StageLoop(stage, self._wakeups, clock, stopping) for stage in stages.stages]
            running = [asyncio.create_task(loop.run()) for loop in loops]
            try:
                return [await self._reach(tasks, ledger) for tasks in counts]
            finally:
                stopping.set()
                self._wakeups.wake_all()
                await asyncio.gather(*running)

    async def _reach(self, tasks: int, ledger: Ledger) -> Point:
        world = self._world
        while world.count < tasks:
            await self._block(create=True)
        while (await ledger.read(queries.count_by_state, ledger.source_id)).get(State.FINAL, 0) < world.count:
            await self._block(create=False)
            await asyncio.sleep(0.05)
        return Point(world.count, resident_bytes(), time.monotonic() - self._began_s)

    async def _block(self, *, create: bool) -> None:
        """Add a block, and wait until all of its tasks have been sent."""
        self._world.mine(create=create)
        self._wakeups.wake("watch")
        async with asyncio.timeout(_STEP_TIMEOUT_S):
            while self._world.sent < self._world.count:  # noqa: ASYNC110 - there is no event for it
                await asyncio.sleep(0.002)


def _settings(folder: Path) -> Settings:
    tables: dict[str, object] = {
        "chain": {
            "rpc_urls": ("http://127.0.0.1:1",),
            "chain_id": CHAIN_ID,
            "confirmations": 0,
            "poll_interval_s": 0.1,
        },
        "task_manager": {"address": "0x" + MANAGER.hex(), "start_block": 1, "dry_run": False},
        "hook": {"target": "in:process", "workers": 8},
        "operator": {"url": "http://127.0.0.1:2", "password": "not a secret", "concurrency": 256},
        "ledger": {"url": f"sqlite:///{folder / 'memory.db'}"},
        "http": {"listen": ""},
    }
    return Settings(**tables)  # type: ignore[arg-type]


def main(
    few: Annotated[int, typer.Option(min=100, help="Tasks before the first measurement.")] = 1_000,
    many: Annotated[int, typer.Option(min=200, help="Tasks before the last measurement.")] = 100_000,
    per_block: Annotated[int, typer.Option(min=1, help="New tasks in each block.")] = 500,
) -> None:
    """Compare the resident memory after many tasks with that after few. Exit with 1 if it grows by more than half."""
    with tempfile.TemporaryDirectory(prefix="bench-memory-") as folder:
        points = asyncio.run(Run(Path(folder), per_block).points([few, many // 10, many // 2, many]))
    for point in points:
        print(f"{point.tasks:>8} tasks  {point.resident_bytes / 2**20:7.1f} MiB  after {point.seconds:6.0f} s")
    ratio = points[-1].resident_bytes / points[0].resident_bytes
    print(f"ratio {ratio:.2f}, allowed {LIMIT}")
    if ratio > LIMIT:
        sys.exit(1)


if __name__ == "__main__":
    typer.run(main)
