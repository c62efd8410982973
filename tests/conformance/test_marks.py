"""The marks of head and finality go back when they proved wrong, and what rested on them with them."""

from dataclasses import replace
from typing import Any, cast
from unittest.mock import Mock

import pytest
from sqlalchemy import update

from tests.conformance.rig import ANSWER, MANAGER, LedgerRig, header, make_response, make_task
from watcher.chain.final_block import FinalBlock
from watcher.chain.rpc.finality import Final
from watcher.chain.source import Source
from watcher.chain.watch import Watch, WatchPlan
from watcher.errors import Halt, RetryElsewhere
from watcher.ledger import finality, ingest, marks, outcomes, queries, reorg
from watcher.ledger.cursor import Cursor
from watcher.ledger.tables import sources, tasks
from watcher.ledger.transaction import Tx
from watcher.state import State
from watcher.task import Header

FAR = 10**9


async def cursor_of(ledger: LedgerRig) -> Cursor:
    return await ledger.read(queries.cursor, ledger.source)


async def test_a_head_is_lowered_with_the_due_blocks_counted_from_it(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), make_task(1), to=State.ACCEPTED)
    await ledger.record(upto=110, head=FAR)
    first, second = await ledger.in_state(State.ACCEPTED)
    await ledger.write(outcomes.look_again, [first], FAR + 1)
    await ledger.write(outcomes.look_again, [second], 115)
    await ledger.write(marks.lower_head, ledger.source, 112)
    assert (await cursor_of(ledger)).head_block == 112
    assert [row.due_block for row in await ledger.rows()] == [113, 115]


async def test_a_head_is_not_lowered_below_what_was_read(ledger: LedgerRig) -> None:
    await ledger.record(upto=110, head=120)
    await ledger.write(marks.lower_head, ledger.source, 105)
    assert (await cursor_of(ledger)).head_block == 110
    await ledger.write(marks.lower_head, ledger.source, 130)
    assert (await cursor_of(ledger)).head_block == 110, "it is never raised so"


async def test_the_cursor_after_each_move_is_that_of_the_ledger(ledger: LedgerRig) -> None:
    steps: list[tuple[Any, ...]] = [
        (ingest.record, [], [], header(110), 110, None, (), (header(104), True)),
        (finality.finalise, header(105)),
        (ingest.record, [], [], header(112), FAR),
        (marks.lower_head, 115),
        (reorg.rewind, header(108)),
    ]
    for verb, *arguments in steps:
        await ledger.write(verb, ledger.source, *arguments)
        assert await ledger.store.cursor() == await cursor_of(ledger)
    assert (await cursor_of(ledger)).block == 108


async def test_the_commit_that_moves_the_cursor_takes_a_final_block_along(ledger: LedgerRig) -> None:
    await ledger.record(make_task(0, block=104), upto=105)
    await ledger.write(reorg.rewind, ledger.source, header(103))
    await ledger.write(ingest.record, ledger.source, [], [], header(110), 112, None, (), (header(104), False))
    cursor = await cursor_of(ledger)
    assert (cursor.block, cursor.final_block, cursor.firm_block) == (110, 104, -1)
    assert [row.state for row in await ledger.rows()] == [State.ORPHANED], "the chain has lost its block for good"


async def bring_to_finality(ledger: LedgerRig, *, firm: bool) -> None:
    """Task 0 is final by our response in block 110, task 1 expired, task 2 is final by another's; final is 130."""
    await ledger.bring(make_task(0), to=State.RESPONDED)
    await ledger.record(make_task(1, block=105), make_task(2, block=105), upto=112)
    await ledger.record(answered=[make_response(2, 114, b"theirs")], upto=130)
    (theirs,) = [task for task in await ledger.in_state(State.SEEN) if task.task.task_index == 2]
    response = await ledger.answer_event(2, None, since=theirs.task.seen_at)
    assert response is not None
    await ledger.write(outcomes.answered, [(theirs, response)], by_us=False)
    await ledger.write(finality.finalise, ledger.source, header(104))
    await ledger.write(finality.finalise, ledger.source, header(130), firm=firm)
    await ledger.write(
        lambda tx: tx.conn.execute(update(tasks).where(tasks.c.task_index == 1).values(deadline_block=120))
    )
    await ledger.write(
        outcomes.expired, [task for task in await ledger.in_state(State.SEEN) if task.task.task_index == 1]
    )
    for state in (State.RESPONDED, State.RESPONDED_OTHER):
        await ledger.write(outcomes.final, await ledger.in_state(state), header(130))
    assert [row.state for row in await ledger.rows()] == [State.FINAL, State.EXPIRED, State.FINAL_OTHER]


async def test_final_tasks_are_open_again_when_a_reorg_goes_below(ledger: LedgerRig) -> None:
    await bring_to_finality(ledger, firm=False)
    await ledger.write(reorg.rewind, ledger.source, header(106))
    cursor = await cursor_of(ledger)
    assert (cursor.final_block, cursor.final_hash, cursor.firm_block) == (104, header(104).hash, 104)
    assert [row.state for row in await ledger.rows()] == [State.UNKNOWN, State.SEEN, State.SEEN]
    assert all(row.canonical for row in await ledger.rows()), "their own blocks are still there"
    events = await ledger.read(queries.recent_events, ledger.source)
    assert "finality taken back" in [event.kind for event in events]


async def test_what_is_final_stays_when_a_reorg_stays_above(ledger: LedgerRig) -> None:
    await bring_to_finality(ledger, firm=False)
    await ledger.record(upto=140)
    await ledger.write(reorg.rewind, ledger.source, header(130))
    assert (await cursor_of(ledger)).final_block == 130
    assert [row.state for row in await ledger.rows()] == [State.FINAL, State.EXPIRED, State.FINAL_OTHER]


async def test_unread_takes_cursor_head_and_blocks_back_at_once(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0), to=State.ACCEPTED)
    (open_task,) = await ledger.in_state(State.ACCEPTED)
    await ledger.record(make_task(1, block=103), upto=2_110, fork=1)
    await ledger.write(outcomes.look_again, [open_task], 2_111)
    assert await ledger.write(reorg.unread, ledger.source, header(102), header(113)) == 1
    cursor = await cursor_of(ledger)
    assert (cursor.block, cursor.hash, cursor.head_block) == (102, header(102).hash, 113)
    first, second = await ledger.rows()
    assert (first.state, first.canonical, first.due_block) == (State.ACCEPTED, True, 114)
    assert (second.state, second.canonical) == (State.SEEN, False)
    assert await ledger.read(queries.known_hashes, ledger.source, 103, FAR, 10) == []
    (event,) = [
        event for event in await ledger.read(queries.recent_events, ledger.source) if event.kind != "head lowered"
    ]
    assert (event.kind, event.block_number) == ("cursor taken back", 102)
    assert "block 2110 is not on the chain" in event.words


async def test_unread_keeps_answers_and_what_is_read_again_is_one_task(ledger: LedgerRig) -> None:
    await ledger.bring(make_task(0, block=105), to=State.COMPUTED)
    await ledger.record(upto=2_110, fork=1)
    await ledger.write(reorg.unread, ledger.source, header(104), header(113))
    assert not await ledger.claim(State.COMPUTED), "nothing is sent while its block is not read again"
    await ledger.record(make_task(0, block=105), upto=113)
    (claimed,) = await ledger.claim(State.COMPUTED)
    assert claimed.response == ANSWER
    assert len(await ledger.rows()) == 1


class Denial:
    """Says whether the block that was read cannot be on the chain."""

    def __init__(self) -> None:
        self.proven = False
        self.left_times = 0

    async def disproves(self, cursor: Header, head: Header) -> bool:
        return self.proven

    def left(self) -> None:
        self.left_times += 1


class Nodes:
    """Nodes that show one chain up to a head: the trunk up to `shared`, and a fork above it."""

    def __init__(self, head: int, shared: int = FAR, *, finality: Final | None = None) -> None:
        self.height, self.shared, self.finality = head, shared, finality
        self.less_s = 0.0
        self.unreached = Denial()

    def at(self, number: int) -> Header:
        return header(number, 0 if number <= self.shared else 1)

    def follow(self, anchor: Header | None) -> None:
        pass

    def shows_less_for_s(self, mark: int) -> float:
        return self.less_s if self.height < mark else 0.0

    async def head(self) -> Header:
        return self.at(self.height)

    async def header(self, number: int, head: Header) -> Header | None:
        return self.at(number) if number <= self.height else None

    async def final(self, finality: str | int, head: Header, confirmations: int, above: int) -> Final | None:
        return self.finality

    async def answers(self, question: object) -> dict[int, object]:
        return {}  # no node has anything ready before it is asked


CONTRACT = Mock(emitters=MANAGER, log_queries=(), convention=Mock(topics0=()))


def watch_of(ledger: LedgerRig, nodes: Nodes) -> Watch:
    return Watch(source_of(ledger, nodes), WatchPlan(1, "finalized", 100, 1.0))


def source_of(ledger: LedgerRig, nodes: Nodes) -> Source:
    return Source(cast("Any", nodes), CONTRACT, ledger.store, ledger.clock, 30)


class FinalBehind(Nodes):
    """Nodes whose final block is five blocks below the head, or cannot be read."""

    can_tell = True

    async def final(self, finality: str | int, head: Header, confirmations: int, above: int) -> Final | None:
        if not self.can_tell:
            raise RetryElsewhere("no node answers")
        return Final(header(head.number - 5), firm=True)


async def test_no_cursor_waits_for_a_final_block_that_cannot_be_read(ledger: LedgerRig) -> None:
    nodes = FinalBehind(111)
    final_block = FinalBlock(source_of(ledger, nodes), "finalized", 0)
    for number in (109, 110):
        assert await final_block.beside(await ledger.store.cursor(), header(number)) is None, "it is not steady yet"
        await ledger.record(upto=number)
        await final_block.record(await ledger.store.cursor(), header(number))
        assert (await cursor_of(ledger)).final_block == number - 5
    nodes.can_tell = False
    read = replace(await ledger.store.cursor(), block=111, hash=header(111).hash)
    assert await final_block.beside(read, header(111)) is None
    with pytest.raises(RetryElsewhere):
        await final_block.record(read, header(111))
    nodes.can_tell = True
    assert await final_block.beside(read, header(111)) == Final(header(106), firm=True)


async def test_a_poisoned_head_is_lowered_when_nodes_show_less(ledger: LedgerRig) -> None:
    await ledger.record(make_task(0), upto=110, head=FAR)
    nodes = Nodes(110)
    await watch_of(ledger, nodes).step()
    assert (await cursor_of(ledger)).head_block == FAR, "a node may lag"
    nodes.less_s = 10.0
    await watch_of(ledger, nodes).step()
    assert (await cursor_of(ledger)).head_block == 110
    assert await ledger.read(outcomes.to_admit, ledger.source, 0, ledger.clock.now_ms(), 10)


async def test_a_cursor_goes_back_to_the_newest_shared_block(ledger: LedgerRig) -> None:
    for upto in (105, 110):
        await ledger.record(upto=upto)
    await ledger.record(upto=2_110, fork=1)
    nodes = Nodes(113)
    watch = watch_of(ledger, nodes)
    assert await watch.step() == 1.0
    assert (await cursor_of(ledger)).block == 2_110, "a node may lag"
    nodes.unreached.proven = True
    assert await watch.step() == 0
    cursor = await cursor_of(ledger)
    assert (cursor.block, cursor.hash, cursor.head_block) == (110, header(110).hash, 113)
    assert nodes.unreached.left_times == 1


async def test_a_final_block_beyond_the_head_is_taken_back_unless_firm(ledger: LedgerRig) -> None:
    await ledger.record(upto=110)
    await ledger.write(finality.finalise, ledger.source, header(104))
    await ledger.record(upto=2_110, fork=1)
    await ledger.write(finality.finalise, ledger.source, header(2_000, 1), firm=False)
    nodes = Nodes(113)
    nodes.unreached.proven = True
    await watch_of(ledger, nodes).step()
    cursor = await cursor_of(ledger)
    assert (cursor.block, cursor.final_block, cursor.firm_block) == (110, 104, 104)


async def test_a_cursor_stays_when_the_head_is_below_firm_finality(ledger: LedgerRig) -> None:
    await ledger.record(upto=110)
    await ledger.record(upto=2_110, fork=1)
    await ledger.write(finality.finalise, ledger.source, header(2_000, 1))
    nodes = Nodes(113)
    nodes.unreached.proven = True
    assert await watch_of(ledger, nodes).step() == 1.0
    assert (await cursor_of(ledger)).block == 2_110


async def test_a_source_that_begins_above_the_head_only_waits(ledger: LedgerRig) -> None:
    nodes = Nodes(50)
    nodes.unreached.proven = True
    assert await watch_of(ledger, nodes).step() == 1.0
    assert (await cursor_of(ledger)).block == 99


async def test_a_reorg_below_a_block_one_node_called_final_is_a_reorg(ledger: LedgerRig) -> None:
    await bring_to_finality(ledger, firm=False)
    nodes = Nodes(130, shared=112)
    assert await watch_of(ledger, nodes).step() == 0
    assert (await cursor_of(ledger)).block == 112
    assert [row.state for row in await ledger.rows()] == [State.FINAL, State.SEEN, State.SEEN]


async def test_a_reorg_below_firm_finality_halts(ledger: LedgerRig) -> None:
    await bring_to_finality(ledger, firm=True)
    with pytest.raises(Halt, match="block 130 was final and has changed"):
        await watch_of(ledger, Nodes(130, shared=112)).step()
    assert [row.state for row in await ledger.rows()] == [State.FINAL, State.EXPIRED, State.FINAL_OTHER]


async def test_finality_becomes_firm_when_enough_nodes_name_it_later(ledger: LedgerRig) -> None:
    await ledger.record(upto=110)
    nodes = Nodes(110, finality=Final(header(110), firm=False))
    watch = watch_of(ledger, nodes)
    await watch.step()
    cursor = await cursor_of(ledger)
    assert (cursor.final_block, cursor.firm_block) == (110, -1)
    await ledger.record(upto=111)
    nodes.height, nodes.finality = 111, Final(header(109), firm=True)
    await watch.step()
    cursor = await cursor_of(ledger)
    assert (cursor.final_block, cursor.firm_block, cursor.firm_hash) == (110, 109, header(109).hash)


async def test_a_ledger_of_an_older_version_has_no_firm_finality(ledger: LedgerRig) -> None:
    """What it called final may rest on one node: a reorg below it is a reorg, once."""
    await bring_to_finality(ledger, firm=True)

    def forget(tx: Tx) -> None:
        tx.conn.execute(update(sources).values(firm_block=None, firm_hash=None))
        tx.final_moved = True

    await ledger.write(forget)
    assert await watch_of(ledger, Nodes(130, shared=112)).step() == 0
    assert (await cursor_of(ledger)).final_block == -1
