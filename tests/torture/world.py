"""The world of a torture run: devnet, proxy, and the watcher as real processes; who did what to them, and when."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import watcher
from tests.system.daemon_rig import Daemon, Rig
from tests.torture.hook import HOOK, Manner
from tests.torture.rpc_proxy import RpcProxy
from watcher.devnet.anvil_binary import find_anvil
from watcher.devnet.contract import NEW_TASK_CREATED, TASK_RESPONDED, decode_response, decode_task
from watcher.devnet.world import Devnet, DevnetOptions

SLOTS = 13  # the final block is the head minus 26: no reorg of depth 20 reaches it
FINAL_DEPTH = 2 * SLOTS
STATES_KEPT = 300
PAGE_BLOCKS = 2_000
KEY = "canarykey0a1b2c3d4e5f"
SETTINGS = {
    "WATCHER_CHAIN__REQUEST_TIMEOUT_S": "4",
    "WATCHER_CHAIN__BODY_LIMIT_BYTES": str(4 * 1024 * 1024),
    "WATCHER_OPERATOR__TIMEOUT_S": "2",
    "WATCHER_OPERATOR__CONCURRENCY": "16",
    "WATCHER_OPERATOR__BODY_LIMIT_BYTES": str(256 * 1024),
    "WATCHER_HOOK__MAX_ATTEMPTS": "3",
}
MANNERS = (Manner.RAISE_FIRST, Manner.LATER_FIRST, Manner.CRASH_FIRST, Manner.WRONG_TYPE_FIRST)


@dataclass(frozen=True, slots=True)
class ChainTask:
    """A task as a `NewTaskCreated` log of the node itself shows it. Bytes are 0x hex."""

    index: int
    task_hash: str
    created_block: int
    message: str
    block_hash: str

    @property
    def key(self) -> tuple[int, int, str]:
        """How a request to the API names it."""
        return self.index, self.created_block, self.message


@dataclass(slots=True)
class Past:
    """What was on the chain at some time: each task, and when it was last taken off it (None: still there)."""

    died_ms: dict[ChainTask, int | None] = field(default_factory=dict)
    heads: list[tuple[int, int]] = field(default_factory=list)  # (at_ms, number)
    pauses: list[tuple[int, int]] = field(default_factory=list)  # when a daemon was stopped (SIGSTOP)
    done: Counter[str] = field(default_factory=Counter)
    deaths: list[str] = field(default_factory=list)  # ends of the daemon that nobody had ordered


class World:
    """`lock` is held by whoever changes the chain. `daemons` has None where one is down."""

    def __init__(self, net: Devnet, rig: Rig, proxy: RpcProxy, chance: random.Random, replicas: int = 1) -> None:
        self.net, self.rig, self.proxy, self.chance = net, rig, proxy, chance
        self.lock = asyncio.Lock()
        self.past = Past()
        self.daemons: list[Daemon | None] = [None] * replicas
        self._starting = asyncio.Lock()
        self.secrets: tuple[str, ...] = (net.options.password, KEY)  # stand in nothing that the program writes
        self._number = 0
        self.count = 0
        self.max_head = 0

    # -- the chain ---------------------------------------------------------------------------------------------------

    def messages(self, count: int) -> list[bytes]:
        """Messages nobody has had; the first byte is the hook's manner."""
        return [self.message() for _ in range(count)]

    def message(self, manner: Manner | None = None) -> bytes:
        self._number += 1
        if manner is None:
            draw = self.chance.random()
            manner = Manner.PLAIN if draw > 0.04 else self.chance.choice(MANNERS) if draw > 0.006 else Manner.SKIP
        return bytes([manner]) + self._number.to_bytes(31, "big")

    async def create(self, messages: list[bytes], threshold: int = 66) -> None:
        async with self.lock:
            await self.net.create_tasks(messages, threshold)
            self.past.done["tasks made"] += len(messages)
            await self._saw_head()

    async def mine(self, blocks: int = 1) -> int:
        async with self.lock:
            await self.net.mine(blocks)
            return await self._saw_head()

    async def _saw_head(self) -> int:
        head = await self.net.chain.head()
        self.past.heads.append((now_ms(), head))
        self.max_head = max(self.max_head, head)
        self.count = await self.net.manager.count()
        return head

    async def chain_tasks(self, first: int = 0) -> list[ChainTask]:
        """What the node itself shows, past proxy and watcher."""
        return [
            ChainTask(
                int(log["topics"][1], 16), hexed(task.hash()), task.created_block, hexed(task.message), log["blockHash"]
            )
            for log in await self._logs(NEW_TASK_CREATED, first)
            for task in (decode_task(bytes.fromhex(log["data"][2:])),)
        ]

    async def chain_responses(self) -> list[tuple[int, str]]:
        """(index, answer) of every response on the chain."""
        responses = [decode_response(bytes.fromhex(log["data"][2:])) for log in await self._logs(TASK_RESPONDED, 0)]
        return [(index, hexed(message)) for index, message in responses]

    async def _logs(self, topic: bytes, first: int) -> list[dict[str, Any]]:
        """In pages: a long run has more logs than one answer should hold."""
        end = await self.net.chain.head()
        where = {"address": self.net.task_manager, "topics": [hexed(topic)]}
        logs: list[dict[str, Any]] = []
        for begin in range(first, end + 1, PAGE_BLOCKS):
            span = {"fromBlock": hex(begin), "toBlock": hex(min(begin + PAGE_BLOCKS - 1, end))}
            logs += await self.net.chain.rpc.call("eth_getLogs", where | span)
        return logs

    @asynccontextmanager
    async def rewriting(self, first: int) -> AsyncIterator[None]:
        """Around a change of the blocks from `first` on: notes which tasks it took off the chain."""
        before = {replace_block(task) for task in await self.chain_tasks(first)}
        yield
        after = {replace_block(task) for task in await self.chain_tasks(first)}
        self.past.died_ms.update(dict.fromkeys(before - after, now_ms()))
        self.past.died_ms.update(dict.fromkeys(after))
        await self._saw_head()

    # -- the daemons -------------------------------------------------------------------------------------------------

    async def start(self, number: int) -> Daemon:
        daemon = self.daemons[number] = await self.rig.start(ready=False)
        self.past.done["starts"] += 1
        return daemon

    async def ensure_up(self, number: int) -> Daemon:
        """The daemon, started if it is down."""
        async with self._starting:
            self.check_alive(number)
            return self.daemons[number] or await self.start(number)

    def check_alive(self, number: int) -> None:
        """Notes how it ended when nobody had ordered it to end."""
        daemon = self.daemons[number]
        if daemon is not None and not daemon.running:
            self.daemons[number] = None
            self.note_end(daemon)

    def note_end(self, daemon: Daemon) -> None:
        self.past.deaths.append(f"exit code {daemon.process.returncode}: {daemon.log.strip()[-1500:]}")

    async def kill(self, number: int) -> None:
        self.check_alive(number)
        if (daemon := self.daemons[number]) is not None:
            self.daemons[number] = None
            await daemon.kill()
            self.past.done["SIGKILL"] += 1
            await daemon.reap()

    async def stop_all(self) -> None:
        """SIGTERM for those that run, one after the other."""
        for number, daemon in enumerate(self.daemons):
            self.daemons[number] = None
            if daemon is not None and (code := await daemon.stop()) != 0:
                self.past.deaths.append(f"exit code {code} after SIGTERM: {daemon.log.strip()[-1500:]}")

    async def pause(self, seconds: float, number: int = 0) -> None:
        """SIGSTOP, and SIGCONT after a while."""
        if (daemon := self.daemons[number]) is None or not daemon.running:
            return
        begin = now_ms()
        daemon.send(19)
        try:
            await asyncio.sleep(seconds)
        finally:
            if daemon.running:
                daemon.send(18)
            self.past.pauses.append((begin, now_ms()))
        self.past.done["SIGSTOP"] += 1


MakeRig = Callable[[Devnet, Path, AsyncExitStack, str], Rig]
MakeWorld = Callable[[Devnet, Rig, RpcProxy, random.Random], World]


@asynccontextmanager
async def running_world(
    folder: Path,
    seed: int,
    *,
    window_blocks: int,
    quorum: int,
    make_rig: MakeRig = Rig,
    make_world: MakeWorld = World,
) -> AsyncIterator[World]:
    options = DevnetOptions(
        anvil=_lasting(await find_anvil(), folder),
        directory=folder / "devnet",
        mining="manual",
        slots_in_epoch=SLOTS,
        confirmations=2,
        persist=False,
        window_blocks=window_blocks,
        seed=seed,
    )
    async with AsyncExitStack() as stack:
        net = await stack.enter_async_context(Devnet(options))
        chance = random.Random(f"{seed} proxy")
        proxy = RpcProxy(net.anvil.http_url, folder / "rpc-faults.jsonl", chance, slots=SLOTS, key=KEY)
        stack.callback(proxy.faults.close)
        await proxy.start()
        stack.push_async_callback(proxy.stop)
        rig = make_rig(net, folder, stack, "dice")
        # The daemon is the very program that is imported here, wherever else one is installed.
        rig.environment["PYTHONPATH"] = str(Path(watcher.__file__).parents[1])
        rig.environment.update(SETTINGS | {"WATCHER_CHAIN__QUORUM": str(quorum)})
        (rig.hook_folder / "torture_hook.py").write_text(HOOK)
        urls = f'"{proxy.url("a")}", "{proxy.url("b")}", "{proxy.ws_url("a")}"'
        rig.write_config(
            target="torture_hook:answer",
            hook_timeout_s=2,
            changes={f'"{net.rpc_url}", "{net.ws_url}"': urls},
        )
        world = make_world(net, rig, proxy, random.Random(f"{seed} tasks"))
        await world.mine(FINAL_DEPTH + 2)
        yield world


def _lasting(binary: Path, folder: Path) -> Path:
    """anvil, told to keep the states of its last blocks in memory.

    By default it keeps ever fewer of them as the chain grows, ten at last, and a reorg deeper than that leaves it with
    an empty state: no contract, no accounts (seen with 1.7.1 from block 1,000 on).
    """
    script = folder / "anvil"
    script.write_text(f'#!/bin/sh\nexec "{binary}" "$@" --prune-history {STATES_KEPT}\n')
    script.chmod(0o700)
    return script


def replace_block(task: ChainTask) -> ChainTask:
    """The same task, wherever it is mined."""
    return ChainTask(task.index, task.task_hash, task.created_block, task.message, "")


def hexed(data: bytes) -> str:
    return "0x" + data.hex()


def now_ms() -> int:
    return time.time_ns() // 1_000_000
