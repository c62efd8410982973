"""Faults of the daemon that the simulation has found, each told once more from its cause."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast
from unittest.mock import Mock

import pytest
from sqlalchemy.engine import URL

from tests import single_results as hook_results
from tests.conformance.rig import CHAIN_ID, MANAGER, header, make_response, make_task, opened
from tests.simulation.chain import Respond
from tests.simulation.rules import Rules
from tests.simulation.scenario import settle
from tests.simulation.world import World
from watcher.chain.confirm import Confirm
from watcher.chain.resolve import Resolver
from watcher.chain.source import Source
from watcher.chain.watch import Watch, WatchPlan
from watcher.daemon import startup
from watcher.errors import RetryElsewhere, StaleNode, TryLater
from watcher.ledger import by_index, finality, outcomes, queries, schema, sending
from watcher.ledger.engine import open_engine
from watcher.report.prove import Prover
from watcher.state import State
from watcher.task import Header, NotYet, Task

CALM = Rules(
    window=6, finality=3, by_depth=False, confirmations=0, nodes=1, quorum=1, drift=0, max_span=50, concurrency=4,
    resolve_after=2, hook_attempts=3, faults=(),
)  # fmt: skip


def test_response_hidden_from_every_log_search_is_found_once_nodes_show_it() -> None:
    """Both later looks missed it as well, and the task lay in `accepted` for ever, whatever the contract said."""
    world = World("hidden response", CALM)
    try:
        for action in (world.start, lambda: world.wait(1), lambda: world.create(1), world.mine, lambda: world.wait(1)):
            world.act(action)
        assert any(isinstance(transaction, Respond) for _, transaction in world.chain.pool)
        world.rates = {"withheld": 1.0}
        real, world.happens = world.happens, lambda fault: fault == "withheld"  # type: ignore[method-assign]
        for _ in range(12):
            world.act(world.mine)
            world.act(lambda: world.wait(25))
        world.happens = real  # type: ignore[method-assign]
        assert world.withheld > 2
        world.act(lambda: settle(world))
        world.act(world.oracle.resolver)
        assert world.oracle.ends == {State.FINAL: 1}
    finally:
        world.close()


def test_task_goes_on_when_the_ledger_fails_between_claim_and_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """It stayed claimed until its lease ran out, a minute and more."""
    world = World("no room for the attempt", CALM)
    fails, real = iter((True,)), sending.begin

    def begin(*arguments: Any) -> list[sending.Attempt]:
        if next(fails, False):
            raise TryLater("the ledger could not be written")
        return real(*arguments)

    monkeypatch.setattr(sending, "begin", begin)
    try:
        for action in (world.start, lambda: world.wait(1), lambda: world.create(1), world.mine):
            world.act(action)
        for _ in range(10):
            world.act(lambda: world.wait(1))
        assert next(fails, None) is None, "the ledger did fail"
        assert world.api.posts == 1
    finally:
        world.close()


async def test_finality_may_move_between_two_questions_of_confirmation(tmp_path: Path) -> None:
    """What was listed by the new final block was judged by the old one: a false "taken back", or the end of it all."""
    url = URL.create("sqlite", database=str(tmp_path / "watcher.db"))
    schema.upgrade(url)
    engine = open_engine(url)
    async with opened(url, engine) as ledger:
        await ledger.bring(make_task(0), to=State.RESPONDED)
        (responded,) = await ledger.in_state(State.RESPONDED)
        real = ledger.store.read

        async def ask(question: Any, *args: Any, **kwargs: Any) -> Any:
            rows = await real(question, *args, **kwargs)
            if question is queries.cursor and rows.final_hash is None:
                await ledger.write(finality.finalise, ledger.source, header(110))
            return rows

        class Contract:
            shows_answers = proves_answers = names_answers = True

            async def hashes_and_responses(
                self, indices: Sequence[int], at: Header
            ) -> list[tuple[bytes | None, bytes | None]]:
                return [(None, responded.response_hash if at.number >= 110 else None) for _ in indices]

        class Nodes:
            async def head(self) -> Header:
                return header(112)

        ledger.store.read = ask
        nodes, contract = cast("Any", Nodes()), cast("Any", Contract())
        confirm = Confirm(Source(nodes, contract, ledger.store, ledger.clock), 5.0)
        await confirm.step()
        assert await ledger.state(0) in (State.RESPONDED, State.FINAL)
        await ledger.write(finality.finalise, ledger.source, header(110))
        await confirm.step()
        assert await ledger.state(0) is State.FINAL
        assert ("responded", "unknown") not in await ledger.transitions(0)
    engine.dispose()


async def test_a_node_that_lacks_the_final_block_is_no_reason_to_halt(tmp_path: Path) -> None:
    """It lags, and was only asked because the others had no answer; the daemon gave up for good."""
    url = URL.create("sqlite", database=str(tmp_path / "watcher.db"))
    schema.upgrade(url)
    engine = open_engine(url)
    async with opened(url, engine) as ledger:
        await ledger.record(upto=105)
        await ledger.write(finality.finalise, ledger.source, header(104))
        await ledger.record(upto=110)

        class Nodes:
            def follow(self, anchor: Header | None) -> None:
                assert anchor is not None and anchor.hash == header(110).hash

            async def head(self) -> Header:
                return header(110, fork=1)

            async def header(self, which: int, head: Header) -> Header | None:
                return header(which, fork=1) if which > 104 else None

            async def answers(self, question: object) -> dict[int, object]:
                return {}

        plan = WatchPlan(CHAIN_ID, "finalized", 100, 1.0)
        contract = Mock(emitters=MANAGER, log_queries=(), convention=Mock(topics0=()))
        source = Source(cast("Any", Nodes()), contract, ledger.store, ledger.clock, 30)
        watch = Watch(source, plan)
        with pytest.raises(RetryElsewhere, match="block 104, which is final"):
            await watch.step()
    engine.dispose()


async def test_resolver_gives_no_verdict_when_the_head_is_below_the_highest(tmp_path: Path) -> None:
    """A node that lags shows zero for a task that is answered already."""
    url = URL.create("sqlite", database=str(tmp_path / "watcher.db"))
    schema.upgrade(url)
    engine = open_engine(url)
    async with opened(url, engine) as ledger:
        await ledger.bring(make_task(0), to=State.ACCEPTED)
        tasks = await ledger.in_state(State.ACCEPTED)
        highest = (await ledger.read(queries.cursor, ledger.source)).head_block
        heads = [header(highest - 1), header(highest)]

        class Contract:
            proves_tasks, proves_answers = False, True

            async def hashes_and_responses(self, indices: Sequence[int], at: Header) -> list[tuple[None, None]]:
                return [(None, None) for _ in indices]

        class Nodes:
            async def head(self) -> Header:
                return heads.pop(0)

        source = Source(cast("Any", Nodes()), cast("Any", Contract()), ledger.store, ledger.clock)
        with pytest.raises(StaleNode):
            await Resolver(source).resolve(tasks)
        (verdict,) = await Resolver(source).resolve(tasks)
        assert isinstance(verdict, NotYet), "the same reading counts at the highest head"
    engine.dispose()


async def test_a_reorg_while_the_daemon_starts_does_not_keep_it_waiting() -> None:
    """The window was asked for at a head that was gone, again and again."""

    class Nodes:
        heads = iter((header(7), header(7, fork=1)))

        async def head(self) -> Header:
            return next(self.heads)

    class Contract:
        async def response_window(self, at: Header) -> int:
            if at == header(7):
                raise StaleNode("no node has this block any more")
            return 30

    nodes, contract = cast("Any", Nodes()), cast("Any", Contract())
    ask = partial(startup._window, contract, nodes, 1)
    with pytest.raises(StaleNode):
        await ask()
    assert await ask() == 30


def test_an_endpoint_left_behind_on_a_dead_fork_does_not_stop_the_others() -> None:
    """Asked first, it kept saying that the chain was as we knew it; the daemon went back, on, and back, without end."""
    world = World("dead fork", replace(CALM, nodes=2))
    try:
        for _ in range(8):
            world.act(world.mine)
            world.act(world.start)
            world.act(lambda: world.wait(1))
        world.act(lambda: world.lag(0, 0))
        world.act(lambda: world.reorg(3, "kept"))
        world.act(lambda: world.mine(2))
        world.act(lambda: world.create(1))
        for _ in range(8):
            world.act(world.mine)
            world.act(lambda: world.wait(8))
        rewinds = list(world.database.raw.execute("SELECT words FROM events WHERE kind = 'rewind'"))
        assert 1 <= len(rewinds) <= 2
        assert list(world.database.raw.execute("SELECT state FROM tasks")) == [(State.FINAL,)]
    finally:
        world.close()


async def test_an_answer_that_was_read_just_before_the_hook_gave_up_is_reported(tmp_path: Path) -> None:
    """Only answers read after the failure were looked at: the task was called failed for good."""
    url = URL.create("sqlite", database=str(tmp_path / "watcher.db"))
    schema.upgrade(url)
    engine = open_engine(url)
    async with opened(url, engine) as ledger:
        await ledger.bring(make_task(0), make_task(1), to=State.READY)
        answered, other = await ledger.claim(State.READY)
        await ledger.record(answered=[make_response(0, 111)], upto=111)
        for task in (answered, other):
            await ledger.write(hook_results.hook_failed, task, "it raised", 1, None)
        named_tasks = await ledger.read(outcomes.to_look_again, ledger.source, 10)
        assert [named.task.task.task_index for named in named_tasks] == [0]
    engine.dispose()


async def test_a_forged_task_does_not_stand_in_for_the_one_that_has_its_index(tmp_path: Path) -> None:
    """The proof took either of the two, and a hole behind a forged task was never seen."""
    url = URL.create("sqlite", database=str(tmp_path / "watcher.db"))
    schema.upgrade(url)
    engine = open_engine(url)
    async with opened(url, engine) as ledger:
        true, forged = make_task(0), make_task(0, content="forged")
        lonely = make_task(1, content="forged")
        await ledger.record(true, forged, lonely)

        class Contract:
            counts_tasks = proves_tasks = proves_answers = names_answers = True
            lowest_index = 0

            async def header(self, number: int) -> Header:
                return header(number)

            async def latest_task_num(self, at: Header) -> int:
                return 1

            async def first_index(self, start_block: int, at: Header, lowest: by_index.Place | None) -> int:
                return 0

            async def hashes_and_responses(
                self, indices: Sequence[int], at: Header
            ) -> list[tuple[bytes | None, bytes | None]]:
                return [(true.task_hash, None) for _ in indices]

            def is_task(self, word: bytes | None, task_hash: bytes) -> bool:
                return word == task_hash

            def matches_log(self, task: Task) -> bool:
                return True

        open_tasks = await ledger.in_state(State.SEEN)
        await ledger.write(outcomes.never_there, [task for task in open_tasks if task.task != true], header(110))
        proof = await Prover(cast("Any", Contract()), ledger.read, ledger.source, CHAIN_ID, MANAGER).prove()
        assert (proof.ok, proof.open) == (True, [0])
        assert await ledger.read(by_index.known_indices, ledger.source, 0, 1) == {0}
    engine.dispose()
