"""The process that is killed: the real stages and the real ledger in a real file, over a made-up chain.

Different from `watcher run`: no lock, no schema upgrade, no log, no WebSocket, and the hook is a function. The client
of the API is the real one, with real sockets. Wall time runs 30 times faster, so that leases run out within seconds.
"""

import asyncio
import json
import mmap
import os
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import SystemRandom
from typing import Any, cast
from unittest import mock

from loguru import logger
from pydantic import SecretStr
from sqlalchemy import Connection, func, select

from tests.killpoints.ground import FINALITY_BLOCKS, TASKS, Ground
from tests.simulation.chain import CHAIN_ID, MANAGER
from tests.simulation.nodes import Replica
from watcher import stage
from watcher.chain.rpc.nodes import NodePool
from watcher.chain.source import Source
from watcher.daemon import parts, wiring
from watcher.errors import TryLater
from watcher.ledger import hook_results, ingest, sending
from watcher.ledger.engine import parse_url
from watcher.ledger.store import Ledger, open_ledger
from watcher.ledger.tables import tasks
from watcher.settings.hook import Hook
from watcher.settings.model import Chain, Settings, TaskManager
from watcher.settings.operator import Operator
from watcher.stage import StageLoop, Wakeups
from watcher.state import State
from watcher.task import Response, Task

RESTART, BUG = 75, 70  # exit codes: started in vain, try again; and what must never be
_FASTER = 30
_STAGES = ("watch", "admit", "respond", "submit", "confirm", "recheck")


class Memory:
    """Shared with the rig and outliving the victim: which thread waits at the gate, and what was acknowledged."""

    def __init__(self) -> None:
        self._map = mmap.mmap(-1, 1 << 20)
        self.rig = os.getpid()  # a victim whose rig is gone has nobody to live for

    def clear(self) -> None:
        self._map[:16] = bytes(16)

    @property
    def thread(self) -> int:
        return int.from_bytes(self._map[:8])

    @thread.setter
    def thread(self, tid: int) -> None:
        self._map[:8] = tid.to_bytes(8)

    def acknowledge(self, *what: Any) -> None:
        line = json.dumps(what).encode() + b"\n"
        used = int.from_bytes(self._map[8:16])
        self._map[16 + used : 16 + used + len(line)] = line
        self._map[8:16] = (used + len(line)).to_bytes(8)

    def acknowledged(self) -> list[list[Any]]:
        used = int.from_bytes(self._map[8:16])
        return [json.loads(line) for line in self._map[16 : 16 + used].splitlines()]


class FastClock:
    """Stops its caller at the gate: `writer` is the ledger's thread, which asks for the time before its first verb."""

    def __init__(self, at_writer: Callable[[], None] | None) -> None:
        self._at_writer = at_writer

    def now_ms(self) -> int:
        return int(time.time() * 1000 * _FASTER)

    def monotonic_s(self) -> float:
        if self._at_writer is not None and threading.current_thread().name == "ledger-writer":
            at_writer, self._at_writer = self._at_writer, None
            at_writer()
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def settings_of(port: int) -> Settings:
    chain = Chain(
        rpc_urls=("http://node.test",), chain_id=CHAIN_ID, confirmations=0, finality=FINALITY_BLOCKS,
        poll_interval_s=1.0, max_span_blocks=50,
    )  # fmt: skip
    operator = Operator(
        url=f"http://127.0.0.1:{port}", password=SecretStr("x"), timeout_s=2.0, concurrency=10,
        retry_base_s=0.5, retry_max_s=4.0, resolve_after_blocks=2,
    )  # fmt: skip
    hook = Hook(target="x:y", timeout_s=1.0, workers=2, max_attempts=5, retry_base_s=0.5)
    manager = TaskManager(address="0x" + MANAGER.hex(), start_block=1, dry_run=False)
    return Settings(chain=chain, operator=operator, hook=hook, task_manager=manager)


async def _answer(task: Task) -> Response:
    """Dice: whoever asks twice hears two things."""
    return Response(os.urandom(8), "dice 1", 1)


class _Acknowledging:
    """Plays `Ledger` and notes what it has promised, the moment the promise reaches whoever asked."""

    def __init__(self, ledger: Ledger, memory: Memory) -> None:
        self._ledger, self._memory = ledger, memory
        self.read, self.source_id, self.held_to_block = ledger.read, ledger.source_id, ledger.held_to_block
        self.cursor = ledger.cursor

    async def write(self, verb: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = await self._ledger.write(verb, *args, **kwargs)
        tell = self._memory.acknowledge
        if verb is ingest.record:
            tell("read", args[3].number)
        elif verb is sending.begin:
            for attempt in result:
                tell("begun", attempt.task.task.task_index, attempt.task.attempts)
        return result

    @property
    def chain_moves(self) -> int:
        return self._ledger.chain_moves

    @property
    def work_made(self) -> int | None:
        return self._ledger.work_made

    def follow_up(self, states: Any, verb: Callable[..., Any]) -> "asyncio.Future[Any]":
        return self._ledger.follow_up(states, verb)

    def withdraw(self, future: "asyncio.Future[Any]") -> bool:
        return self._ledger.withdraw(future)

    async def write_items(self, verb: Callable[..., Any], items: Any) -> Any:
        results = await self._ledger.write_items(verb, items)
        self._settled(verb, items, results)
        return results

    def _settled(self, verb: Callable[..., Any], items: Any, results: Any) -> None:
        if verb is sending.settle:
            for item, result in zip(items, results, strict=True):
                if isinstance(result, State):
                    task = item.attempt.task
                    self._memory.acknowledge("settled", task.task.task_index, task.attempts)

    async def write_item(self, verb: Callable[..., Any], item: Any) -> Any:
        result = await self._ledger.write_item(verb, item)
        if verb is hook_results.keep_answers:
            self._memory.acknowledge("answer", item.task.task.task_index, item.response.resp_message.hex())
        self._settled(verb, [item], [result])
        return result


def _final(conn: Connection) -> int:
    return int(conn.execute(select(func.count()).where(tasks.c.state == State.FINAL)).scalar_one())


@contextmanager
def _impatient() -> Iterator[None]:
    with (
        mock.patch.object(wiring, "_STAGE_IDLE_S", 0.1),
        mock.patch.object(stage, "_RETRY_FIRST_S", 0.02),
        mock.patch.object(stage, "_RETRY_MAX_S", 0.2),
    ):
        yield


async def live(folder: Path, settings: Settings, memory: Memory, at_writer: Callable[[], None] | None) -> None:
    """One life, until all tasks are final. Raises TryLater where it could not start."""
    ground, clock, wakeups, stopping = Ground(folder), FastClock(at_writer), Wakeups(_STAGES), asyncio.Event()
    nodes = NodePool([cast("Any", Replica(cast("Any", ground), "node"))], clock, SystemRandom(), 1)
    contract = parts.task_manager(settings.task_manager, nodes, settings.chain.max_span_blocks)
    window = await contract.response_window(await nodes.head())
    genesis = await nodes.header(0)
    assert genesis is not None
    client = parts.client(settings.operator, clock)
    url = parse_url(f"sqlite:///{folder}/ledger.db")
    async with open_ledger(url, clock, CHAIN_ID, MANAGER, 1, genesis.hash, wakeups.committed) as opened:
        ledger = cast("Ledger", _Acknowledging(opened, memory))
        await ledger.write(sending.recover_stale, ledger.source_id, all_of_them=True, patience_blocks=2)
        source = Source(nodes, contract, ledger, clock, window)
        stages = wiring.build(settings, source, wiring.Outside(_answer, client))
        working = [asyncio.create_task(StageLoop(stage, wakeups, clock, stopping).run()) for stage in stages.stages]
        polls = 0
        while os.getppid() == memory.rig and not any(job.done() for job in working):
            await asyncio.sleep(0.01)
            polls += 1
            if ground.grown():
                wakeups.wake("watch")
            if polls % 4 == 0 and await _ended(ledger):
                break
        stopping.set()
        wakeups.wake_all()
        await asyncio.gather(*working)
        for flying in (stages.respond, stages.submit):
            if flying is not None:
                await flying.drain()
    await client.aclose()


async def _ended(ledger: Ledger) -> bool:
    try:
        return await ledger.read(_final) == TASKS
    except TryLater:
        return False


def run(folder: Path, settings: Settings, memory: Memory, main: bool, at_gate: Callable[[], None] | None) -> int:
    """The victim's whole program, in a forked process; `at_gate` is called once, by the thread that is to be traced."""
    logger.remove()
    if main and at_gate is not None:
        at_gate()
    try:
        with _impatient():
            asyncio.run(live(folder, settings, memory, None if main else at_gate))
    except TryLater:
        return RESTART
    except BaseException:  # whatever it is, the rig wants to know
        (folder / "bug.txt").write_text(traceback.format_exc())
        return BUG
    return 0
