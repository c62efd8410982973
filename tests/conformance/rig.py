"""A ledger under test: one fresh database, a clock that is set by hand, and values to put in."""

import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection, Engine, Row, select
from sqlalchemy.engine import URL

from tests import single_results as hook_results
from tests.kit.clocks import SetClock
from watcher.ledger import claims, ingest, outcomes, queries, sending
from watcher.ledger.answer_events import AnsweredTask, answer_events
from watcher.ledger.claims import RetryAt
from watcher.ledger.rows import WITH_SOURCE, open_task
from watcher.ledger.sending import Attempt, Settlement
from watcher.ledger.store import Ledger, open_ledger
from watcher.ledger.tables import attempts, journal, sources, tasks
from watcher.ledger.transaction import Tx
from watcher.ledger.verb_call import BatchedVerb
from watcher.state import State
from watcher.task import Accepted, Header, OpenTask, Outcome, Responded, Response, Sent, Sighting, Task, Unknown

P = ParamSpec("P")
T = TypeVar("T")
Item = TypeVar("Item")

CHAIN_ID = 31337
MANAGER = b"\x11" * 20
START_BLOCK = 100
LEASE_MS = 30_000
ANSWER = b"the answer"
DIGEST = b"\xdd" * 32
START = Sighting(0, bytes(32), bytes(32), 0)


def digest(*parts: object) -> bytes:
    """32 bytes that depend on all parts."""
    return hashlib.sha256(repr(parts).encode()).digest()


def header(number: int, fork: int = 0) -> Header:
    """A block of one of several chains."""
    return Header(number, digest("block", fork, number), digest("block", fork, number - 1))


def make_task(
    index: int,
    *,
    block: int = 101,
    deadline: int | None = 200,
    content: object = "",
    fork: int = 0,
    message: bytes = b"what is it?",
) -> Task:
    """A task; `content` changes what was asked, `fork` only where it was seen."""
    return Task(
        chain_id=CHAIN_ID,
        task_manager=MANAGER,
        task_index=index,
        task_hash=digest("task", index, content, message),
        created_block=block,
        message=message,
        quorum_numbers=b"\x00\x01",
        quorum_threshold=67,
        deadline_block=deadline,
        seen_at=Sighting(block, header(block, fork).hash, digest("tx", index, content, fork), index % 1000),
    )


def make_response(index: int, block: int, message: bytes = ANSWER, fork: int = 0) -> Responded:
    """The event that answers a task."""
    metadata = block.to_bytes(32, "big") + bytes(32)
    seen = Sighting(block, header(block, fork).hash, digest("answer tx", index, block, fork), index % 1000)
    return Responded(index, message, metadata, digest("response", index, message, block, fork), seen)


def sent(result: Outcome, http_status: int | None = 200) -> Sent:
    """A finished POST."""
    return Sent(result, http_status, b'{"result": "what came back"}', 12)


@dataclass
class LedgerRig:
    """One book, with the short cuts the tests share."""

    store: Ledger
    clock: SetClock
    url: URL
    engine: Engine

    @property
    def source(self) -> int:
        return self.store.source_id

    @property
    def is_sqlite(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    async def write(self, verb: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        result = await self.store.write(verb, *args, **kwargs)
        assert await self.store.cursor() == await self.read(queries.cursor, self.source), "no verb moves a mark unseen"
        return result

    async def write_item(self, verb: BatchedVerb[Item, T], item: Item) -> T:
        return await self.store.write_item(verb, item)

    async def read(self, question: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.store.read(question, *args, **kwargs)

    async def answer_event(
        self, task_index: int, response_hash: bytes | None, upto_block: int | None = None, since: Sighting = START
    ) -> Responded | None:
        """Return the event that answers one task, in whose log `since` it was seen."""
        answered_tasks = [AnsweredTask(task_index, since, response_hash)]
        (event,) = await self.read(answer_events, self.source, answered_tasks, upto_block)
        return event

    async def record(
        self, *tasks: Task, answered: Sequence[Responded] = (), upto: int = 110, head: int | None = None, fork: int = 0
    ) -> int:
        """Record the content of the blocks up to `upto`, the head unless given. Return the number of new tasks."""
        head = upto if head is None else head
        return len(await self.write(ingest.record, self.source, tasks, answered, header(upto, fork), head))

    async def claim(self, *states: State, limit: int = 100, lease_ms: int = LEASE_MS) -> list[OpenTask]:
        return await self.write(claims.claim, self.source, states, limit, lease_ms)

    async def claim_one(self, state: State) -> OpenTask:
        (claimed,) = await self.claim(state, limit=1)
        return claimed

    async def begin(self, *claimed: OpenTask) -> list[Attempt]:
        return await self.write(sending.begin, claimed, "proxy", {task.row_id: DIGEST for task in claimed}, LEASE_MS)

    async def admit(self) -> None:
        """Every task seen becomes ready."""
        open_tasks = await self.read(outcomes.to_admit, self.source, 0, self.clock.now_ms(), 10_000)
        await self.write(outcomes.admitted, open_tasks, header(110))

    async def bring(self, *tasks: Task, to: State) -> None:
        """New tasks, one step after the other, up to a state that work leads to. Nothing else may be open."""
        await self.record(*tasks)
        steps = {
            State.READY: self.admit,
            State.COMPUTED: self._compute,
            State.SENDING: self._send,
            State.UNKNOWN: lambda: self._settle(Unknown("no answer within 60 s")),
            State.ACCEPTED: lambda: self._settle(Accepted(digest("claimed"), digest("sig"))),
            State.RESPONDED: self._see_answers,
        }
        way = [State.READY, State.COMPUTED, State.SENDING]
        way += [State.ACCEPTED, State.RESPONDED] if to is State.RESPONDED else [to]
        for step in () if to is State.SEEN else way[: way.index(to) + 1]:
            await steps[step]()

    async def _compute(self) -> None:
        for claimed in await self.claim(State.READY):
            await self.write(hook_results.keep_answer, claimed, Response(ANSWER, "hook 1", 5))

    async def _send(self) -> None:
        self._flying = await self.begin(*await self.claim(State.COMPUTED))

    async def _settle(self, result: Outcome) -> None:
        for attempt in self._flying:
            await self.write_item(sending.settle, Settlement(attempt, sent(result), RetryAt()))

    async def _see_answers(self) -> None:
        open_tasks = await self.in_state(State.ACCEPTED)
        responded = [(task, make_response(task.task.task_index, 110)) for task in open_tasks]
        await self.record(answered=[response for _, response in responded])
        await self.write(outcomes.answered, responded, by_us=True)

    async def in_state(self, state: State) -> list[OpenTask]:
        """Tasks as they stand, without a claim: what an observer such as confirmation holds."""

        def read(conn: Connection) -> list[OpenTask]:
            query = WITH_SOURCE.where(tasks.c.source_id == self.source, tasks.c.state == state).order_by(tasks.c.id)
            return [open_task(row) for row in conn.execute(query)]

        return await self.read(read)

    async def rows(self) -> list[Row[Any]]:
        """All tasks in the order of their index."""
        return await self.read(lambda conn: list(queries.list_tasks(conn, self.source)))

    async def row(self, index: int) -> Row[Any]:
        """The one task the ledger knows at this index."""
        (row,) = await self.read(queries.tasks_at, self.source, index)
        return row

    async def state(self, index: int) -> State:
        return State((await self.row(index)).state)

    async def story(self, index: int) -> tuple[Sequence[Row[Any]], Sequence[Row[Any]]]:
        return await self.read(queries.story_of, (await self.row(index)).id)

    async def transitions(self, index: int) -> list[tuple[str | None, str]]:
        """The journal of one task as (from, to)."""
        transitions, _ = await self.story(index)
        return [(line.from_state, line.to_state) for line in transitions]

    async def everything(self) -> tuple[list[Any], ...]:
        """All that a refused verb must leave as it was."""

        def read(conn: Connection) -> tuple[list[Any], ...]:
            return tuple(
                [tuple(row) for row in conn.execute(select(table).order_by(table.c.id))]
                for table in (tasks, attempts, journal, sources)
            )

        return await self.read(read)


def stale(claimed: OpenTask) -> OpenTask:
    """The same task as an earlier holder knows it."""
    return replace(claimed, fence=claimed.fence - 1)


@asynccontextmanager
async def opened(url: URL, engine: Engine) -> AsyncIterator[LedgerRig]:
    """The ledger at `url`, already migrated."""
    clock = SetClock()
    async with open_ledger(url, clock, CHAIN_ID, MANAGER, START_BLOCK) as store:
        yield LedgerRig(store, clock, url, engine)
