"""Our side, made of the daemon's own parts: the stages that `watcher.daemon.wiring` builds, over a real ledger."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from bench.order import Measured, Order, cpu_s, measuring
from watcher.chain.rpc.nodes import Endpoints
from watcher.chain.rpc.replies import LogPage
from watcher.clock import SystemClock
from watcher.daemon import log, wiring
from watcher.ledger import ingest as ledger_ingest
from watcher.ledger import queries, schema
from watcher.ledger.engine import parse_url
from watcher.ledger.store import Book, open_book
from watcher.ledger.writer import Tx
from watcher.operator.client import Client
from watcher.operator.request import Request
from watcher.settings.model import Settings
from watcher.stage import Bells, StageLoop
from watcher.state import State
from watcher.task import Sent

_STAGES = ("watch", "admit", "respond", "submit", "confirm")
_FINISH_TIMEOUT_S = 300


async def ingest(order: Order) -> Measured:
    """The watch stage, from the first block to the head."""
    bells, settings = Bells(_STAGES), _settings(order)
    async with _nodes(settings) as nodes, _book(settings, bells) as book:
        contract = wiring.task_manager(settings, nodes)
        head = await nodes.head()
        window = await contract.response_window(head)
        rooms = wiring.build(settings, nodes, contract, book, SystemClock(), window, None, None, lambda *_: None)
        with measuring(order.ground.tasks) as measured:
            while (await book.ask(queries.cursor, book.source_id)).block < head.number:
                await rooms.watch.step()
        await _verify(book, order, State.SEEN)
    return measured


async def parts(order: Order) -> Measured:
    """The same work with each part on its own: reading and checking the logs, decoding them, writing them down."""
    bells, settings = Bells(_STAGES), _settings(order)
    async with _nodes(settings) as nodes, _book(settings, bells) as book:
        contract = wiring.task_manager(settings, nodes)
        head = await nodes.head()
        window = await contract.response_window(head)
        watch = wiring.build(settings, nodes, contract, book, SystemClock(), window, None, None, lambda *_: None).watch
        spent = {"read": 0.0, "decode": 0.0, "ledger": 0.0}
        with measuring(order.ground.tasks) as measured:
            for first in range(order.ground.start_block, head.number + 1, order.span_blocks):
                last = min(head.number, first + order.span_blocks - 1)
                marks = [cpu_s()]
                page = await _page(nodes, contract.address, contract.convention.topics0, first, last)
                marks.append(cpu_s())
                tasks, responses, _ = watch.decoded(page.logs)
                marks.append(cpu_s())
                await book.do(ledger_ingest.record, book.source_id, tasks, responses, page.last, head.number)
                marks.append(cpu_s())
                for name, began_s, ended_s in zip(spent, marks, marks[1:], strict=False):
                    spent[name] += ended_s - began_s
        await _verify(book, order, State.SEEN)
    measured.parts = {name: seconds / order.ground.tasks * 1e6 for name, seconds in spent.items()}
    return measured


async def burst(order: Order) -> Measured:
    """All stages of the daemon, from the first look at the chain to the commit of the last outcome."""
    bells, settings, clock = Bells(_STAGES), _settings(order), SystemClock()
    finish = _Finish(bells)
    async with AsyncExitStack() as stack:
        nodes = await stack.enter_async_context(_nodes(settings))
        crew = await stack.enter_async_context(wiring.crew(settings))
        while crew.alive < order.workers:  # noqa: ASYNC110 - the crew has no event for it; outside the measurement
            await asyncio.sleep(0.01)
        client = await stack.enter_async_context(wiring.client(settings, clock))
        finish.sender = client
        book = await stack.enter_async_context(_book(settings, bells, finish))
        contract = wiring.task_manager(settings, nodes)
        window = await contract.response_window(await nodes.head())
        rooms = wiring.build(settings, nodes, contract, book, clock, window, crew.run, finish, lambda *_: None)
        stopping = asyncio.Event()
        stages = [stage for stage in (rooms.watch, rooms.admit, rooms.respond, rooms.submit, rooms.confirm) if stage]
        began_s, began_cpu_s = time.perf_counter(), cpu_s()
        working = [asyncio.create_task(StageLoop(one, bells, clock, stopping).run()) for one in stages]
        async with asyncio.timeout(_FINISH_TIMEOUT_S):
            await finish.all_settled(book, order.ground.tasks)
        measured = Measured(order.ground.tasks, finish.last_commit_s - began_s, cpu_s() - began_cpu_s)
        stopping.set()
        bells.ring_all()
        await asyncio.gather(*working)
    return measured


class _Finish:
    """Counts what was sent and notes when an outcome was committed last. Hears every commit, as the daemon does."""

    def __init__(self, bells: Bells) -> None:
        self._bells = bells
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
        self._bells.committed(tx)
        if State.ACCEPTED in tx.entered:
            self.last_commit_s = time.perf_counter()
            self._committed.set()

    async def all_settled(self, book: Book, tasks: int) -> None:
        while True:
            await self._committed.wait()
            self._committed.clear()
            if self._sent < tasks:
                continue
            found = await book.ask(queries.count_by_state, book.source_id)
            if found == {State.ACCEPTED: tasks} and self._sent == tasks:
                return


def _settings(order: Order) -> Settings:
    ground = order.ground
    operator = {"api": "none"}
    if order.api_url:
        operator = {
            "api": "proxy",
            "url": order.api_url,
            "username": order.username,
            "password": order.password,
            "concurrency": order.concurrency,  # type: ignore[dict-item]
        }
    tables: dict[str, object] = {
        "chain": {"rpc_urls": (ground.rpc_url,), "chain_id": ground.chain_id, "max_span_blocks": order.span_blocks},
        "task_manager": {"address": ground.task_manager, "start_block": ground.start_block},
        "hook": {"target": "trivial:respond", "app_dir": str(Path(__file__).parent), "workers": order.workers},
        "operator": operator,
        "ledger": {"url": f"sqlite:///{order.folder / 'ours.db'}"},
        "http": {"listen": ""},
    }
    settings = Settings(**tables)  # type: ignore[arg-type]
    log.set_up(settings.log.level, settings.log.format, settings.secrets())  # logging is part of what a task costs
    return settings


@asynccontextmanager
async def _nodes(settings: Settings) -> AsyncIterator[Endpoints]:
    nodes = wiring.endpoints(settings, SystemClock())
    try:
        yield nodes
    finally:
        await nodes.close()


@asynccontextmanager
async def _book(settings: Settings, bells: Bells, finish: _Finish | None = None) -> AsyncIterator[Book]:
    url = parse_url(settings.ledger.url)
    schema.upgrade(url)
    wanted = settings.task_manager
    assert isinstance(wanted.start_block, int)
    on_commit = finish.committed if finish else bells.committed
    async with open_book(
        url, SystemClock(), settings.chain.chain_id, wanted.address_bytes, wanted.start_block, on_commit=on_commit
    ) as book:
        yield book


async def _page(nodes: Endpoints, address: bytes, topics0: Sequence[bytes], first: int, last: int) -> LogPage:
    return await nodes.page(address, topics0, first, last, None)


async def _verify(book: Book, order: Order, state: State) -> None:
    found = await book.ask(queries.count_by_state, book.source_id)
    if found != {state: order.ground.tasks}:
        raise RuntimeError(f"our side has {found}, not {order.ground.tasks} tasks in state {state}")
