"""The submit stage over a real ledger: a pipeline that keeps the promises before each POST."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any, cast

from sqlalchemy import Connection, func, select
from sqlalchemy.engine import URL

from tests.conformance.rig import CHAIN_ID, MANAGER, START_BLOCK, LedgerRig, header, make_response, make_task
from tests.kit.clocks import HandClock
from watcher.errors import TryLater
from watcher.ledger import claims, ingest, schema, sending
from watcher.ledger.engine import open_engine
from watcher.ledger.store import open_ledger
from watcher.ledger.tables import attempts, tasks
from watcher.ledger.transaction import Tx
from watcher.ledger.writer import Batch
from watcher.operator.circuit import Circuit
from watcher.operator.pacing import SubmitPlan
from watcher.operator.request import Request
from watcher.operator.route import Route, Router
from watcher.operator.submit import Submit
from watcher.stage import StageLoop, Wakeups
from watcher.state import State
from watcher.task import Accepted, Header, NotYet, OpenTask, Refused, RespondedOtherwise, Sent, Verdict

ACCEPTED = Sent(Accepted(b"\x01" * 32), 200, b"{}", 1)
FORBIDDEN = Sent(Refused("who are you?", 401, endpoint=True), 401, b"", 1)


class Api:
    """Plays the client of an API. Requests wait while `gate` is closed; `reply` makes the outcome."""

    def __init__(self, rig: "Rig") -> None:
        self._rig = rig
        self.gate = asyncio.Event()
        self.gate.set()
        self.posts: list[int] = []
        self.running = self.most_running = 0
        self.reply: Callable[[int], Sent] = lambda _index: ACCEPTED

    async def send(self, request: Request) -> Sent:
        index = int(request.body)
        self.posts.append(index)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        self._rig.changed.set()
        self._rig.check_verdict(index)
        state, is_open = await self._rig.ledger.read(_attempt_of, index)
        assert (state, is_open) == (State.SENDING, 1), "the attempt is committed before its POST"
        await self.gate.wait()
        self.running -= 1
        self._rig.changed.set()
        return self.reply(index)


def _attempt_of(conn: Connection, index: int) -> tuple[str, int]:
    row = conn.execute(select(tasks.c.id, tasks.c.state).where(tasks.c.task_index == index)).one()
    mine = (attempts.c.task_id == row.id, attempts.c.kind == "post", attempts.c.ended_at_ms.is_(None))
    return row.state, conn.execute(select(func.count()).where(*mine)).scalar_one()


class Rig:
    """One submit stage with its loop."""

    def __init__(self, ledger: LedgerRig, clock: HandClock, wakeups: Wakeups) -> None:
        self.ledger, self.clock, self.wakeups = ledger, clock, wakeups
        self.changed = asyncio.Event()
        self.commits = 0
        self.verdicts: dict[int, tuple[int, Header]] = {}  # by index: the ledger's count, and the block
        self.verdict: Callable[[OpenTask, Header], Verdict] = lambda _task, at: NotYet(at)
        self.resolved: list[list[int]] = []
        self.chain = asyncio.Event()  # while it is not set, only the first batch gets its verdicts
        self.chain.set()
        self.head = header(110)
        self.api = Api(self)
        self.circuit = Circuit(clock, Random(1).random)

    async def resolve(self, batch: Sequence[OpenTask]) -> Sequence[Verdict]:
        self.resolved.append([task.task.task_index for task in batch])
        for task in batch:
            self.verdicts[task.task.task_index] = (self.ledger.store.chain_moves, self.head)
        if len(self.resolved) > 1:
            await self.chain.wait()
        return [self.verdict(task, self.head) for task in batch]

    def check_verdict(self, index: int) -> None:
        chain_moves, _ = self.verdicts[index]
        assert chain_moves == self.ledger.store.chain_moves, "the verdict is one of the present head"

    async def move_head(self, number: int) -> None:
        """Record blocks up to `number`, a second after the last verdict."""
        self.head = header(number)
        self.clock.now_s += 1
        await self.ledger.write(ingest.record, self.ledger.source, [], [], self.head, number)

    def committed(self, tx: Tx) -> None:
        self.wakeups.committed(tx)
        self.changed.set()

    def observe(self, batch: Batch) -> None:
        self.commits += 1

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not holds():
                await self.changed.wait()
                self.changed.clear()

    async def until_states(self, expected: dict[State, int]) -> None:
        async with asyncio.timeout(20):
            while await self.states() != expected:
                await self.changed.wait()
                self.changed.clear()

    async def states(self) -> dict[State, int]:
        return dict(Counter(State(row.state) for row in await self.ledger.rows()))


@asynccontextmanager
async def submitting(tmp_path: Path, count: int, concurrency: int = 4) -> AsyncIterator[tuple[Rig, Submit]]:
    """A ledger of computed tasks, and the stage that runs once the block yields to the loop."""
    url = URL.create("sqlite", database=str(tmp_path / "watcher.db"))
    schema.upgrade(url)
    engine, clock, wakeups = open_engine(url), HandClock(), Wakeups(("submit",))
    rigs: list[Rig] = []
    async with open_ledger(
        url, clock, CHAIN_ID, MANAGER, START_BLOCK,
        on_commit=lambda tx: rigs[0].committed(tx) if rigs else None,
        observe=lambda batch: rigs[0].observe(batch) if rigs else None,
    ) as store:  # fmt: skip
        ledger = LedgerRig(store, cast("Any", clock), url, engine)
        await ledger.bring(*(make_task(index, deadline=1_000 - index) for index in range(count)), to=State.COMPUTED)
        rig = Rig(ledger, clock, wakeups)
        rigs.append(rig)
        plan = SubmitPlan(concurrency, 5.0, 0.5, 4.0, 2, 5.0)
        route = Route("proxy", rig.api, lambda task, number: _request(task, number), rig.circuit)
        submit = Submit(Router(route), rig.resolve, store, clock, Random(2), plan)
        stopping = asyncio.Event()
        loop = asyncio.create_task(StageLoop(submit, wakeups, clock, stopping).run())
        try:
            yield rig, submit
        finally:
            stopping.set()
            wakeups.wake_all()
            await loop
            draining = asyncio.create_task(submit.drain())
            await asyncio.sleep(0)  # the drain takes what is ready
            rig.api.gate.set()
            await draining
    engine.dispose()


def _request(task: OpenTask, number: int) -> Request:
    return Request(str(task.task.task_index).encode(), number, bytes(32))


async def test_burst_is_sent_once_each_nearest_deadline_first_and_in_few_commits(tmp_path: Path) -> None:
    async with submitting(tmp_path, 100) as (rig, _):
        await rig.until_states({State.ACCEPTED: 100})
        assert sorted(rig.api.posts) == list(range(100))
        assert rig.api.posts[:4] == [99, 98, 97, 96], "the nearest deadline is that of the last task"
        assert rig.api.most_running <= 4
        assert rig.commits < 60, "a commit serves many tasks"
        assert len(rig.resolved) < 20, "a reading serves many tasks"


async def test_cleared_tasks_are_sent_while_the_chain_is_asked_about_others(tmp_path: Path) -> None:
    async with submitting(tmp_path, 100) as (rig, _):
        rig.chain.clear()
        await rig.until(lambda: len(rig.resolved) == 2 and len(rig.api.posts) == len(rig.resolved[0]))
        assert set(rig.api.posts).isdisjoint(rig.resolved[1])
        rig.chain.set()
        await rig.until_states({State.ACCEPTED: 100})
        assert sorted(rig.api.posts) == list(range(100)), "each is sent once"


async def test_ledger_that_fails_now_and_then_loses_no_task(tmp_path: Path) -> None:
    fails: dict[Any, set[int]] = {claims.claim: {2}, sending.begin: {2, 5}, Verdict: {2}}
    async with submitting(tmp_path, 100) as (rig, submit):
        real, calls = submit._ledger.write, Counter[Any]()

        def count(verb: Any) -> None:
            calls[verb] += 1
            if calls[verb] in fails.get(verb, ()):
                raise TryLater("the disk is full")

        async def write(verb: Any, *args: Any, **kwargs: Any) -> Any:
            count(verb)
            return await real(verb, *args, **kwargs)

        def verdict(task: OpenTask, at: Header) -> Verdict:
            if task.task.task_index % 10 == 0:
                count(Verdict)
            return NotYet(at)

        submit._ledger.write, rig.verdict = write, verdict  # type: ignore[method-assign]
        await rig.until_states({State.ACCEPTED: 100})
        assert sorted(rig.api.posts) == list(range(100)), "each is sent once"
        assert all(calls[verb] > max(numbers) for verb, numbers in fails.items()), "each failure happened"


async def test_attempt_that_waits_while_the_head_moves_gets_another_verdict(tmp_path: Path) -> None:
    async with submitting(tmp_path, 8, concurrency=1) as (rig, _):
        rig.api.gate.clear()
        await rig.until(lambda: rig.api.running == 1)
        await rig.move_head(111)
        rig.api.gate.set()
        await rig.until_states({State.ACCEPTED: 8})
        assert sorted(rig.api.posts) == list(range(8)), "each is sent once"
        for index in range(8):
            _, posts = await rig.ledger.story(index)
            assert [post.outcome for post in posts if post.kind == "post"] == ["accepted"]


async def test_attempt_whose_task_is_answered_meanwhile_is_settled_as_not_sent(tmp_path: Path) -> None:
    async with submitting(tmp_path, 4, concurrency=1) as (rig, _):
        rig.api.gate.clear()
        await rig.until(lambda: rig.api.running == 1)
        first = rig.api.posts[0]
        events = [make_response(index, 111, b"theirs") for index in range(4) if index != first]
        by_index = {response.task_index: response for response in events}
        rig.verdict = lambda task, _at: RespondedOtherwise(by_index[task.task.task_index])
        await rig.ledger.write(ingest.record, rig.ledger.source, [], events, header(110), 110)
        await rig.move_head(112)
        rig.api.gate.set()
        await rig.until_states({State.ACCEPTED: 1, State.RESPONDED_OTHER: 3})
        assert rig.api.posts == [first]
        for index in by_index:
            _, posts = await rig.ledger.story(index)
            assert all(post.outcome == "refused" for post in posts if post.kind == "post"), "none is unknown"


async def test_refusal_of_the_operator_stops_what_is_begun(tmp_path: Path) -> None:
    async with submitting(tmp_path, 20, concurrency=2) as (rig, _):
        rig.api.reply = lambda _index: FORBIDDEN
        await rig.until(lambda: not rig.circuit.closed)
        await rig.until(lambda: rig.api.running == 0)
        sent = len(rig.api.posts)
        assert sent <= 2, "no more than the slots had taken"
        rig.api.reply = lambda _index: ACCEPTED
        rig.clock.now_s += 600
        rig.wakeups.wake("submit")
        await rig.until(lambda: len(set(rig.api.posts)) == 20)
        await rig.until_states({State.ACCEPTED: 20})


async def test_stop_gives_back_what_is_not_sent_and_keeps_the_outcome_of_what_is(tmp_path: Path) -> None:
    async with submitting(tmp_path, 60, concurrency=2) as (rig, _):
        rig.api.gate.clear()
        await rig.until(lambda: rig.api.running == 2)
        ledger = rig.ledger
    url = URL.create("sqlite", database=str(tmp_path / "watcher.db"))
    engine = open_engine(url)
    with engine.connect() as conn:
        rows = conn.execute(select(tasks.c.task_index, tasks.c.state, tasks.c.lease_until_ms)).all()
        open_attempts = conn.execute(
            select(func.count()).where(attempts.c.kind == "post", attempts.c.ended_at_ms.is_(None))
        ).scalar_one()
    engine.dispose()
    states = Counter(row.state for row in rows)
    assert states["accepted"] == len(rig.api.posts) == 2
    assert set(states) <= {"accepted", "waiting", "computed"}
    assert all(row.lease_until_ms == 0 for row in rows), "the next start claims at once"
    assert open_attempts == 0, "no outcome is unknown"
    assert ledger.source == 1


async def test_concurrency_rises_with_load_and_falls_at_a_refusal_for_too_many(tmp_path: Path) -> None:
    async with submitting(tmp_path, 100, concurrency=64) as (rig, submit):
        rig.api.gate.clear()
        await rig.until(lambda: rig.api.running == 4)
        rig.api.gate.set()
        await rig.until(lambda: len(rig.api.posts) == 100)
        assert rig.api.most_running > 4
        before = submit.limit
        too_many = Sent(Refused("too many requests", retry_after_s=0.0), 429, b"", 1)
        await rig.until_states({State.ACCEPTED: 100})
        rig.api.reply = lambda _index: too_many
        await rig.ledger.record(make_task(100, block=111, deadline=None), upto=111)
        await rig.ledger.admit()
        await rig.ledger._compute()
        rig.clock.now_s += 1
        await rig.until(lambda: 100 in rig.api.posts)
        await rig.until(lambda: rig.api.running == 0)
        assert submit.limit == before // 2
