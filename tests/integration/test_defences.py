"""What stands between the ledger and nodes that withhold, lag or lie: the real stages over a real chain."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import single_results as hook_results
from tests.integration.node_rig import Answers, Relay, Twist
from tests.kit.chain import laid
from watcher.chain.admit import Admit
from watcher.chain.confirm import Confirm
from watcher.chain.contract import TaskManager
from watcher.chain.recheck import Recheck
from watcher.chain.reconcile import Reconcile
from watcher.chain.rpc.nodes import NodePool
from watcher.chain.source import Source
from watcher.chain.watch import Watch, WatchPlan
from watcher.clock import SystemClock
from watcher.devnet.contract import response_digest
from watcher.devnet.world import Devnet
from watcher.errors import FixConfiguration, RetryElsewhere
from watcher.ledger import claims, ingest, manual, queries, schema, sending
from watcher.ledger.engine import parse_url
from watcher.ledger.lock import open_mark, sole_writer
from watcher.ledger.sending import Settlement
from watcher.ledger.store import Ledger, open_ledger
from watcher.state import State
from watcher.task import Accepted, Responded, Response, Sent, Sighting

WINDOW = 100
DEPTH = 4


@dataclass
class Rig:
    """A devnet, two relays in front of its node, and the chain's stages over a ledger."""

    net: Devnet
    relays: Sequence[Relay]
    nodes: NodePool
    contract: TaskManager
    ledger: Ledger
    source: Source
    watch: Watch
    admit: Admit
    confirm: Confirm
    recheck: Recheck

    async def catch_up(self) -> None:
        while await self.watch.step() == 0:
            pass
        await self.admit.step()

    async def states(self) -> dict[int, str]:
        rows = await self.ledger.read(lambda conn: list(queries.list_tasks(conn, self.ledger.source_id)))
        return {row.task_index: row.state for row in rows}

    async def respond(self, index: int, created_block: int, message: bytes) -> None:
        """Everybody signs, and the aggregator brings it on the chain, whatever the ledger thinks."""
        task, _ = await self.net.manager.task_at(index, created_block)
        assert task is not None
        digest = response_digest(index, message)
        aggregate = self.net.operators.aggregate(digest, b"\x00", created_block)
        tx = await self.net.manager.respond(task, index, message, aggregate)
        await self.net.mine()
        receipt = await self.net.chain.receipt(tx)
        assert receipt is not None
        assert int(receipt["status"], 16) == 1


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with AsyncExitStack() as stack:
        ground = await laid(stack, tmp_path, window=WINDOW, relays=2, quorum=2)
        watch = Watch(ground.source, WatchPlan(ground.net.chain_id, DEPTH, 100, 1))
        yield Rig(
            ground.net,
            ground.relays,
            ground.nodes,
            ground.contract,
            ground.ledger,
            ground.source,
            watch,
            Admit(ground.source, 0, 1),
            Confirm(ground.source, 1),
            Recheck(ground.source, watch.reader, 0, 100, 1),
        )


def withholding(asked: Answers, answers: Answers) -> Answers:
    """A node that has the block and not its logs yet."""
    return [
        reply | {"result": []} if ask["method"] == "eth_getLogs" else reply
        for ask, reply in zip(asked, answers, strict=True)
    ]


def zeroing(asked: Answers, answers: Answers) -> Answers:
    """A node whose contract is empty."""
    return [
        reply | {"result": "0x" + "00" * 32} if ask["method"] == "eth_call" else reply
        for ask, reply in zip(asked, answers, strict=True)
    ]


def honest(_: Answers, answers: Answers) -> Answers:
    return answers


def twist(rig: Rig, first: Twist, second: Twist) -> None:
    rig.relays[0].twist, rig.relays[1].twist = first, second


async def test_a_withheld_task_is_found_when_its_block_is_confirmed(rig: Rig) -> None:
    twist(rig, withholding, withholding)
    await rig.net.create_tasks([b"hidden"])
    await rig.catch_up()
    assert await rig.states() == {}
    twist(rig, honest, honest)
    await rig.net.mine(3)
    await rig.catch_up()
    assert await rig.states() == {}, "the first look is over"
    while await rig.recheck.step() == 0:
        pass
    assert await rig.states() == {0: "seen"}


async def test_task_withheld_by_one_node_is_found_through_the_other(rig: Rig) -> None:
    twist(rig, withholding, honest)
    await rig.net.create_tasks([b"hidden"])
    await rig.net.mine(8)
    await rig.catch_up()
    assert await rig.states() == {}
    while await rig.recheck.step() == 0:
        pass
    assert await rig.states() == {0: "seen"}


async def count_differs(rig: Rig) -> list[str]:
    events = await rig.ledger.read(queries.recent_events, rig.ledger.source_id)
    return [event.words for event in events if event.kind == "count differs"]


async def test_task_that_no_node_shows_is_reported_once(rig: Rig) -> None:
    reconcile = Reconcile(rig.source, rig.watch.reader)
    await rig.net.create_tasks([b"shown"])
    await rig.catch_up()
    twist(rig, withholding, withholding)
    await rig.net.create_tasks([b"hidden", b"too"])
    await rig.catch_up()
    assert await reconcile.run() == 0
    assert await count_differs(rig) == [], "it may be a passing thing"
    for _ in range(3):
        assert await reconcile.run() == 0
    assert await count_differs(rig) == [
        "the contract counts tasks 1, 2, and no node has a log of them that can be read"
    ]
    twist(rig, honest, honest)
    assert await reconcile.run() == 2
    assert len(await rig.states()) == 3


async def test_tasks_beyond_the_count_are_reported_once(rig: Rig) -> None:
    reconcile = Reconcile(rig.source, rig.watch.reader)
    await rig.net.create_tasks([b"known", b"too"])
    await rig.catch_up()
    assert await reconcile.run() == 0
    twist(rig, zeroing, zeroing)
    await rig.net.mine()  # what was read of a block is not asked again
    await rig.catch_up()
    for _ in range(3):
        await reconcile.run()
    assert await count_differs(rig) == ["the contract counts 0 tasks, and the ledger holds tasks 0, 1"]


async def test_a_withheld_response_is_found_and_settles_its_task(rig: Rig) -> None:
    await rig.net.create_tasks([b"question"])
    created_block = await rig.net.chain.head()
    await rig.catch_up()
    twist(rig, withholding, withholding)
    await rig.respond(0, created_block, b"somebody's answer")
    await rig.catch_up()
    twist(rig, honest, honest)
    await rig.net.mine(8)
    await rig.catch_up()
    await rig.confirm.step()
    assert await rig.states() == {0: "ready"}
    while await rig.recheck.step() == 0:
        pass
    for _ in range(2):
        await rig.confirm.step()
    assert await rig.states() == {0: "final_other"}


async def test_answer_to_a_failed_task_is_recorded(rig: Rig) -> None:
    await rig.net.create_tasks([b"question", b"another"])
    created_block = await rig.net.chain.head()
    await rig.catch_up()
    for index in (0, 1):
        await rig.ledger.write(manual.skip, rig.ledger.source_id, index, "not ours")
    await rig.respond(1, created_block, b"theirs")
    await rig.catch_up()
    await rig.confirm.step()
    assert await rig.states() == {0: "skipped", 1: "responded_other"}
    await rig.net.mine(DEPTH + 1)
    await rig.catch_up()
    await rig.confirm.step()
    assert await rig.states() == {0: "skipped", 1: "final_other"}


async def test_forged_response_does_not_send_an_answer_early(rig: Rig) -> None:
    """It made its task due at once, and the chain, which showed nothing yet, was taken for a refusal."""
    await rig.net.create_tasks([b"question"])
    created_block = await rig.net.chain.head()
    await rig.catch_up()
    source = rig.ledger.source_id
    (claimed,) = await rig.ledger.write(claims.claim, source, [State.READY], 1, 60_000)
    await rig.ledger.write(hook_results.keep_answer, claimed, Response(b"our answer", "", 1))
    (claimed,) = await rig.ledger.write(claims.claim, source, [State.COMPUTED], 1, 60_000)
    (attempt,) = await rig.ledger.write(sending.begin, [claimed], "proxy", {claimed.row_id: bytes(32)}, 60_000)
    await rig.ledger.write_item(
        sending.settle, Settlement(attempt, Sent(Accepted(), 200, b"{}", 1), claims.RetryAt(at_block=created_block + 3))
    )
    at = Sighting(created_block, claimed.task.seen_at.block_hash, bytes(32), 7)
    await rig.ledger.write(ingest.store_responses, source, [Responded(0, b"forged", b"", bytes(32), at)])
    for _ in range(2):
        await rig.confirm.step()
    assert await rig.states() == {0: "accepted"}
    await rig.respond(0, created_block, b"our answer")
    await rig.catch_up()
    await rig.confirm.step()
    assert await rig.states() == {0: "responded"}


async def test_nodes_that_disagree_about_the_contract_are_not_believed(rig: Rig) -> None:
    await rig.net.create_tasks([b"question"])
    twist(rig, honest, zeroing)
    await rig.catch_up()
    assert await rig.states() == {0: "seen"}
    rows = await rig.ledger.read(lambda conn: list(queries.list_tasks(conn, rig.ledger.source_id)))
    assert "disagree about the contract" in rows[0].error
    twist(rig, honest, honest)
    await rig.net.mine()
    await rig.catch_up()
    assert await rig.states() == {0: "ready"}


async def test_tasks_are_admitted_when_nodes_disagree_about_another(rig: Rig) -> None:
    """One node's cache lacks one hash: that task waits, with the reason, and the others do not."""
    await rig.net.create_tasks([b"one", b"two", b"three"])
    hash_of_second = "0x" + (await rig.net.manager.view("allTaskHashes", 1)).hex()

    def lacking(asked: Answers, answers: Answers) -> Answers:
        return [
            reply | {"result": "0x" + "00" * 32} if reply.get("result") == hash_of_second else reply
            for reply in answers
        ]

    twist(rig, honest, lacking)
    await rig.catch_up()
    assert await rig.states() == {0: "ready", 1: "seen", 2: "ready"}
    twist(rig, honest, honest)
    await rig.net.mine()
    await rig.catch_up()
    assert await rig.states() == {0: "ready", 1: "ready", 2: "ready"}


async def test_one_node_is_not_enough_where_two_must_agree(rig: Rig) -> None:
    await rig.net.create_tasks([b"question"])
    twist(rig, honest, lambda _asked, _answers: b"<html>")
    with pytest.raises(RetryElsewhere, match="only 1 of the 2"):
        await rig.catch_up()
    assert await rig.states() == {}, "one node alone proves no head, and nothing is read up to it"


async def test_a_ledger_begun_on_another_chain_is_refused(tmp_path: Path) -> None:
    url = parse_url(f"sqlite:///{tmp_path / 'watcher.db'}")
    schema.upgrade(url)
    for genesis in (b"\x01" * 32, None, b"\x01" * 32):
        async with open_ledger(url, SystemClock(), 1, b"\x02" * 20, 0, genesis):
            pass
    with pytest.raises(FixConfiguration, match="a chain that was reset needs a new ledger"):
        async with open_ledger(url, SystemClock(), 1, b"\x02" * 20, 0, b"\x03" * 32):
            pass


@pytest.mark.parametrize("empty", [True, False])
def test_missing_ledger_is_refused_when_it_was_begun(tmp_path: Path, empty: bool) -> None:
    path = tmp_path / "watcher.db"
    url = parse_url(f"sqlite:///{path}")
    with sole_writer(url):
        schema.upgrade(url)
        with open_mark(url):
            pass
    with sole_writer(url):
        pass
    path.unlink()
    if empty:
        path.touch()
    with pytest.raises(FixConfiguration, match=r"is gone or empty.*watcher\.db\.begun"), sole_writer(url):
        pass
    path.with_name("watcher.db.begun").unlink()
    with sole_writer(url):
        pass
