"""Our side, made of the daemon's own parts: the stages that `watcher.daemon.wiring` builds, over a real ledger."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from bench.run_spec import Measured, RunSpec, cpu_s, measuring
from watcher.chain.rpc.nodes import NodePool
from watcher.chain.rpc.replies import LogPage
from watcher.chain.source import Source
from watcher.clock import SystemClock
from watcher.daemon import log, wiring
from watcher.daemon.parts import client as api_client
from watcher.daemon.parts import hook_runner, node_pool, task_manager
from watcher.hook.pool import WorkerPool
from watcher.ledger import ingest as ledger_ingest
from watcher.ledger import queries, schema
from watcher.ledger.engine import parse_url
from watcher.ledger.store import Ledger, open_ledger
from watcher.ledger.writer import Tx
from watcher.operator.client import Client
from watcher.operator.request import Request
from watcher.settings.model import Settings
from watcher.stage import StageLoop, Wakeups
from watcher.state import State
from watcher.task import Sent
from watcher.text import Redactor

_STAGES = ("watch", "admit", "respond", "submit", "confirm")
_FINISH_TIMEOUT_S = 300


async def ingest(spec: RunSpec) -> Measured:
    """Run the watch stage from the first block to the head."""
    wakeups, settings = Wakeups(_STAGES), _settings(spec)
    async with _nodes(settings) as nodes, _ledger(settings, wakeups) as ledger:
        contract = task_manager(settings.task_manager, nodes, settings.chain.max_span_blocks)
        head = await nodes.head()
        window = await contract.response_window(head)
        stages = wiring.build(settings, Source(nodes, contract, ledger, SystemClock(), window))
        with measuring(spec.task_chain.tasks) as measured:
            while (await ledger.read(queries.cursor, ledger.source_id)).block < head.number:
                await stages.watch.step()
        await _verify(ledger, spec, State.SEEN)
    return measured


async def parts(spec: RunSpec) -> Measured:
    """Do the work of `ingest` part by part: read and check the logs, decode them, write them to the ledger."""
    wakeups, settings = Wakeups(_STAGES), _settings(spec)
    async with _nodes(settings) as nodes, _ledger(settings, wakeups) as ledger:
        contract = task_manager(settings.task_manager, nodes, settings.chain.max_span_blocks)
        head = await nodes.head()
        window = await contract.response_window(head)
        watch = wiring.build(settings, Source(nodes, contract, ledger, SystemClock(), window)).watch
        spent_s = {"read": 0.0, "decode": 0.0, "ledger": 0.0}
        with measuring(spec.task_chain.tasks) as measured:
            for first in range(spec.task_chain.start_block, head.number + 1, spec.span_blocks):
                last = min(head.number, first + spec.span_blocks - 1)
                marks = [cpu_s()]
                page = await _page(nodes, contract.address, contract.convention.topics0, first, last)
                marks.append(cpu_s())
                tasks, responses, _ = watch.reader.decode(page.logs)
                marks.append(cpu_s())
                await ledger.write(ledger_ingest.record, ledger.source_id, tasks, responses, page.last, head.number)
                marks.append(cpu_s())
                for name, began_s, ended_s in zip(spent_s, marks, marks[1:], strict=False):
                    spent_s[name] += ended_s - began_s
        await _verify(ledger, spec, State.SEEN)
    measured.parts = {name: seconds / spec.task_chain.tasks * 1e6 for name, seconds in spent_s.items()}
    return measured


async def burst(spec: RunSpec) -> Measured:
    """Run all stages, from the first poll of the chain to the commit of the last outcome."""
    wakeups, settings, clock = Wakeups(_STAGES), _settings(spec), SystemClock()
    finish = _Finish(wakeups)
    async with AsyncExitStack() as stack:
        nodes = await stack.enter_async_context(_nodes(settings))
        pool = await stack.enter_async_context(hook_runner(settings.hook, ()))
        assert isinstance(pool, WorkerPool)
        while pool.alive < spec.workers:  # noqa: ASYNC110 - there is no event for it; outside of the measurement
            await asyncio.sleep(0.01)
        client = await stack.enter_async_context(api_client(settings.operator, clock))
        finish.sender = client
        ledger = await stack.enter_async_context(_ledger(settings, wakeups, finish))
        contract = task_manager(settings.task_manager, nodes, settings.chain.max_span_blocks)
        window = await contract.response_window(await nodes.head())
        source = Source(nodes, contract, ledger, clock, window)
        stages = wiring.build(settings, source, wiring.Outside(pool.run, finish))
        stopping = asyncio.Event()
        running = [
            stage for stage in (stages.watch, stages.admit, stages.respond, stages.submit, stages.confirm) if stage
        ]
        began_s, began_cpu_s = time.perf_counter(), cpu_s()
        loops = [asyncio.create_task(StageLoop(stage, wakeups, clock, stopping).run()) for stage in running]
        async with asyncio.timeout(_FINISH_TIMEOUT_S):
            await finish.all_settled(ledger, spec.task_chain.tasks)
        measured = Measured(spec.task_chain.tasks, finish.last_commit_s - began_s, cpu_s() - began_cpu_s)
        stopping.set()
        wakeups.wake_all()
        await asyncio.gather(*loops)
    return measured


class _Finish:
    """The end of a burst: counts requests, and keeps the time of the last commit of an outcome."""

    def __init__(self, wakeups: Wakeups) -> None:
        self._wakeups = wakeups
        self._committed = asyncio.Event()
        self._sent = 0
        self.sender: Client | None = None
        self.last_commit_s = 0.0

    async def send(self, request: Request) -> Sent:
        assert self.sender is not None
        sent = await self.sender.send(request)
        self._sent += 1
        return sent

    def committed(self, tx: Tx) -> None:
        self._wakeups.committed(tx)
        if State.ACCEPTED in tx.entered:
            self.last_commit_s = time.perf_counter()
            self._committed.set()

    async def all_settled(self, ledger: Ledger, tasks: int) -> None:
        while True:
            await self._committed.wait()
            self._committed.clear()
            if self._sent < tasks:
                continue
            counts = await ledger.read(queries.count_by_state, ledger.source_id)
            if counts == {State.ACCEPTED: tasks} and self._sent == tasks:
                return


def _settings(spec: RunSpec) -> Settings:
    task_chain = spec.task_chain
    operator = {"api": "none"}
    if spec.api_url:
        operator = {
            "api": "proxy",
            "url": spec.api_url,
            "username": spec.username,
            "password": spec.password,
            "concurrency": spec.concurrency,  # type: ignore[dict-item]
        }
    tables: dict[str, object] = {
        "chain": {
            "rpc_urls": (task_chain.rpc_url,),
            "chain_id": task_chain.chain_id,
            "max_span_blocks": spec.span_blocks,
        },
        "task_manager": {"address": task_chain.task_manager, "start_block": task_chain.start_block},
        "hook": {"target": "trivial:respond", "app_dir": str(Path(__file__).parent), "workers": spec.workers},
        "operator": operator,
        "ledger": {"url": f"sqlite:///{spec.folder / 'ours.db'}"},
        "http": {"listen": ""},
    }
    settings = Settings(**tables)  # type: ignore[arg-type]
    # Logging is part of the cost of a task.
    log.set_up(settings.log.level, settings.log.format, Redactor(settings.secrets()))
    return settings


@asynccontextmanager
async def _nodes(settings: Settings) -> AsyncIterator[NodePool]:
    nodes = node_pool(settings.chain, SystemClock())
    try:
        yield nodes
    finally:
        await nodes.close()


@asynccontextmanager
async def _ledger(settings: Settings, wakeups: Wakeups, finish: _Finish | None = None) -> AsyncIterator[Ledger]:
    url = parse_url(settings.ledger.url)
    schema.upgrade(url)
    section = settings.task_manager
    assert isinstance(section.start_block, int)
    on_commit = finish.committed if finish else wakeups.committed
    async with open_ledger(
        url, SystemClock(), settings.chain.chain_id, section.address_bytes, section.start_block, on_commit=on_commit
    ) as ledger:
        yield ledger


async def _page(nodes: NodePool, address: bytes, topics0: Sequence[bytes], first: int, last: int) -> LogPage:
    return await nodes.page(address, topics0, first, last, None)


async def _verify(ledger: Ledger, spec: RunSpec, state: State) -> None:
    counts = await ledger.read(queries.count_by_state, ledger.source_id)
    if counts != {state: spec.task_chain.tasks}:
        raise RuntimeError(f"our side has {counts}, not {spec.task_chain.tasks} tasks in state {state}")
