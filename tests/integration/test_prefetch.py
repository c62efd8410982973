"""One look at a real chain: few requests for each block, and a hint that lies costs requests and nothing else."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.integration.node_rig import Answers
from tests.kit.chain import Ground, laid
from tests.kit.clocks import HandClock
from watcher.chain.admit import Admit
from watcher.chain.resolve import Resolver
from watcher.chain.rpc.bloom import Interest
from watcher.chain.rpc.poll import Pushed
from watcher.chain.rpc.prefetch import KEPT_S
from watcher.chain.rpc.subscription import _pushed
from watcher.chain.watch import Watch, WatchPlan
from watcher.errors import RetryElsewhere
from watcher.ledger import queries
from watcher.state import State
from watcher.task import NotYet, OpenTask

BLOCK = "eth_getBlockByNumber"


@dataclass(frozen=True)
class Rig:
    """The stage `watch` on a real chain, behind a relay that notes every request."""

    ground: Ground
    watch: Watch

    async def mine(self) -> Pushed:
        """Make a block. Return it as a subscription would push it."""
        number = await self.ground.net.mine()
        block = await self.ground.net.chain.block(number)
        assert block is not None
        return self.pushed(block)

    async def newest(self) -> Pushed:
        """Return the newest block as a subscription would push it."""
        block = await self.ground.net.chain.block(await self.ground.net.chain.head())
        assert block is not None
        return self.pushed(block)

    def pushed(self, block: dict[str, Any]) -> Pushed:
        contract = self.ground.source.contract
        interest = Interest(contract.emitters, contract.convention.topics0)
        pushed = _pushed(json.dumps({"params": {"result": block}}).encode(), interest)
        assert pushed is not None
        return pushed

    async def requests(self, pushed: Pushed | None) -> list[list[str]]:
        """Return the requests of a step after a push, without their chain ids."""
        asked = self.ground.relays[0].asked
        asked.clear()
        if pushed is not None:
            self.watch.push(pushed)
        await self.watch.step()
        return [methods[1:] for methods in asked]

    async def open_tasks(self) -> list[OpenTask]:
        return await self.ground.ledger.read(queries.newest_open, self.ground.ledger.source_id, 10)

    @property
    def mark_moves(self) -> int:
        """The number of commits that have moved a mark."""
        return self.ground.ledger._mark_version

    async def cursor_block(self) -> int:
        return (await self.ground.ledger.read(queries.cursor, self.ground.ledger.source_id)).block

    async def final_block(self) -> int:
        return (await self.ground.ledger.read(queries.cursor, self.ground.ledger.source_id)).final_block


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with AsyncExitStack() as stack:
        # The clock stands still, so that a look does not grow old.
        ground = await laid(stack, tmp_path, window=100, clock=HandClock(), prefetched_s=KEPT_S)
        watch = Watch(ground.source, WatchPlan(ground.net.chain_id, "finalized", 100, 60.0))
        head = await ground.net.chain.head()
        while (await ground.ledger.read(queries.cursor, ground.ledger.source_id)).block < head:
            await watch.step()
        yield Rig(ground, watch)


async def test_pushed_block_takes_one_look_when_finality_is_steady(rig: Rig) -> None:
    once = [BLOCK, BLOCK, "eth_getLogs", BLOCK, BLOCK, BLOCK]
    final_block = await rig.final_block()
    for asked, commits in ([once, [BLOCK, BLOCK]], 2), ([[*once, BLOCK, BLOCK]], 1), ([[*once, BLOCK, BLOCK]], 1):
        pushed, before = await rig.mine(), rig.mark_moves
        final_block += 1
        assert await rig.requests(pushed) == asked
        assert rig.mark_moves == before + commits, "the commit that moves the cursor records the final block"
        assert (await rig.cursor_block(), await rig.final_block()) == (pushed.number, final_block)
        assert await rig.requests(pushed) == [], "its logs are pushed, too, and are read already"


async def test_block_without_a_push_takes_one_request_more(rig: Rig) -> None:
    await rig.mine()
    assert [len(methods) for methods in await rig.requests(None)] == [1, 5, 2]
    assert [len(methods) for methods in await rig.requests(None)] == [1], "there is nothing new"


async def test_hint_that_lies_decides_nothing(rig: Rig) -> None:
    true = await rig.mine()
    for lie in (Pushed(true.number + 1, b"\x77" * 32), Pushed(2**62, b"\x77" * 32), Pushed(0, bytes(32))):
        await rig.requests(lie)
        assert await rig.cursor_block() == true.number
    await rig.mine()
    await rig.requests(Pushed(true.number + 5, b"\x77" * 32))
    assert await rig.cursor_block() == true.number + 1


async def test_node_that_refuses_a_look_is_asked_question_by_question(rig: Rig) -> None:
    def refusing(asked: Answers, answers: Answers) -> Answers:
        if sum(call["method"] == "eth_getBlockByNumber" for call in asked) < 4:
            return answers
        return [{"jsonrpc": "2.0", "id": call["id"], "error": {"code": -32600, "message": "no"}} for call in asked]

    rig.ground.relays[0].twist = refusing
    for _ in range(2):
        pushed = await rig.mine()
        await rig.requests(pushed)
        assert await rig.cursor_block() == pushed.number
    assert rig.ground.nodes.seen[0].reason is None


async def test_stages_share_the_look_at_a_new_task(rig: Rig) -> None:
    await rig.ground.net.create_tasks([b"one", b"two"])
    head = await rig.ground.net.chain.head()
    requests = await rig.requests(None)
    assert sum("eth_call" in methods for methods in requests) == 1, "count and words of both tasks"
    asked = rig.ground.relays[0].asked
    asked.clear()
    ready = await rig.open_tasks()
    assert [task.state for task in ready] == [State.READY, State.READY], "the commit that stores them admits them"
    verdicts = await Resolver(rig.ground.source).resolve(ready)
    assert [verdict.at.number for verdict in verdicts if isinstance(verdict, NotYet)] == [head, head]
    assert asked == [], "head and words were read in the same look"


async def test_words_of_the_next_task_come_with_its_logs(rig: Rig) -> None:
    await rig.ground.net.create_tasks([b"one"])
    await rig.requests(await rig.newest())
    await rig.ground.net.create_tasks([b"two"])
    pushed = await rig.newest()
    assert pushed.concerns, "the filter of a real header names address and topic"
    first, *rest = await rig.requests(pushed)
    assert first.count("eth_call") == 3 and "eth_getLogs" in first
    assert not any("eth_call" in methods for methods in rest)
    assert [task.state for task in await rig.open_tasks()] == [State.READY, State.READY]
    await rig.ground.net.create_tasks([b"three", b"four"])
    assert sum("eth_call" in methods for methods in await rig.requests(await rig.newest())) == 2
    assert {task.state for task in await rig.open_tasks()} == {State.READY}


async def test_block_without_a_log_of_ours_asks_for_no_words(rig: Rig) -> None:
    await rig.ground.net.create_tasks([b"one"])
    await rig.requests(await rig.newest())
    pushed = await rig.mine()
    assert not pushed.concerns
    assert not any("eth_call" in methods for methods in await rig.requests(pushed))


async def test_filter_that_lies_costs_requests_and_nothing_else(rig: Rig) -> None:
    await rig.ground.net.create_tasks([b"one"])
    await rig.requests(await rig.newest())
    await rig.ground.net.create_tasks([b"two"])
    await rig.requests(replace(await rig.newest(), concerns=False))
    assert [task.state for task in await rig.open_tasks()] == [State.READY, State.READY]
    for hash_ in (None, b"\x77" * 32):
        true = await rig.mine()
        lie = Pushed(true.number, hash_ or true.hash, concerns=True)
        await rig.requests(lie)
        assert await rig.cursor_block() == lie.number


def _zero_words(asked: Answers, answers: Answers) -> Answers:
    """Give every view the zero of an empty cache, except the count of tasks, which has no argument."""
    calls = {call["id"] for call in asked if call["method"] == "eth_call" and len(call["params"][0]["data"]) > 10}
    return [{**answer, "result": "0x" + "00" * 32} if answer["id"] in calls else answer for answer in answers]


def _swapped_words(asked: Answers, answers: Answers) -> Answers:
    """Give each index the word of another one."""
    calls = {call["id"] for call in asked if call["method"] == "eth_call" and len(call["params"][0]["data"]) > 10}
    changed = {answer["id"]: "0x" + "5a" * 32 for answer in answers if answer["id"] in calls}
    return [{**answer, "result": changed.get(answer["id"], answer.get("result"))} for answer in answers]


@pytest.mark.parametrize("twist", [_zero_words, _swapped_words])
async def test_task_that_the_look_does_not_prove_is_left_to_admit(rig: Rig, twist: Any) -> None:
    rig.ground.relays[0].twist = twist
    await rig.ground.net.create_tasks([b"one", b"two"])
    await rig.requests(None)
    assert [task.state for task in await rig.open_tasks()] == [State.SEEN, State.SEEN]
    rig.ground.relays[0].twist = lambda _asked, answers: answers
    await rig.mine()
    await rig.requests(None)
    await Admit(rig.ground.source, 0, 1.0).step()
    assert [task.state for task in await rig.open_tasks()] == [State.READY, State.READY]


async def test_task_that_needs_confirmations_is_not_admitted_with_its_block(rig: Rig) -> None:
    plan = WatchPlan(rig.ground.net.chain_id, "finalized", 100, 60.0, confirmations=1)
    await rig.ground.net.create_tasks([b"one"])
    await Watch(rig.ground.source, plan).step()
    assert [task.state for task in await rig.open_tasks()] == [State.SEEN]


async def test_one_of_several_nodes_reads_the_logs(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        ground = await laid(stack, tmp_path, window=100, clock=HandClock(), prefetched_s=KEPT_S, relays=2, quorum=2)
        rig = Rig(ground, Watch(ground.source, WatchPlan(ground.net.chain_id, "finalized", 100, 60.0)))
        while await rig.cursor_block() < await ground.net.chain.head():
            await rig.watch.step()
        pushed = await rig.mine()
        first, second = ground.relays
        second.asked.clear()
        assert sum("eth_getLogs" in methods for methods in await rig.requests(pushed)) == 1
        assert not any("eth_getLogs" in methods for methods in second.asked)
        pushed = await rig.mine()
        first.twist = lambda _asked, _answers: b"no JSON"
        with pytest.raises(RetryElsewhere):  # one of two cannot prove a head
            await rig.requests(pushed)


async def test_look_is_not_shared_with_a_later_head(rig: Rig) -> None:
    await rig.ground.net.create_tasks([b"one"])
    await rig.requests(None)
    pushed = await rig.mine()
    await rig.requests(pushed)
    _, at = await rig.ground.source.at_head()
    assert at.number == pushed.number


async def test_each_range_of_a_back_fill_is_read_once(rig: Rig) -> None:
    await rig.ground.net.create_tasks([b"one"])
    for _ in range(9):
        await rig.ground.net.mine()
    await rig.ground.net.create_tasks([b"two"])
    asked = rig.ground.relays[0].asked
    asked.clear()
    watch = Watch(rig.ground.source, WatchPlan(rig.ground.net.chain_id, "finalized", 3, 60.0))
    head = await rig.ground.net.chain.head()
    ranges = -(-(head - await rig.cursor_block()) // 3)
    while await rig.cursor_block() < head:
        await watch.step()
    pages = [methods for methods in asked if methods[1:] == [BLOCK, "eth_getLogs", BLOCK, BLOCK]]
    assert len(pages) == ranges - 1, "the last one comes with the look at the head"
    assert len(await rig.open_tasks()) == 2


async def test_reorg_below_a_range_that_was_read_ahead_is_seen(rig: Rig) -> None:
    cursor = await rig.cursor_block()
    await rig.ground.net.create_tasks([b"one"])
    for _ in range(9):
        await rig.ground.net.mine()
    watch = Watch(rig.ground.source, WatchPlan(rig.ground.net.chain_id, "finalized", 3, 60.0))
    await watch.step()
    assert await rig.cursor_block() == cursor + 3
    await rig.ground.net.chain.rollback(await rig.ground.net.chain.head() - cursor)
    await rig.ground.net.create_tasks([b"another", b"and one more"])
    for _ in range(12):
        await rig.ground.net.mine()
    head = await rig.ground.net.chain.head()
    while await rig.cursor_block() < head:
        await watch.step()
    assert sorted(task.task.message for task in await rig.open_tasks()) == [b"and one more", b"another"]
