"""No end rests on one reading of zero, or on the state of a block that full nodes have dropped."""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from loguru import logger

from tests import single_results as hook_results
from tests.integration.node_rig import Answers, Relay, Twist
from tests.kit.chain import laid
from watcher.chain.absence import APART_S
from watcher.chain.admit import Admit
from watcher.chain.confirm import Confirm
from watcher.chain.contract import TaskManager
from watcher.chain.drift import Drift
from watcher.chain.recheck import Recheck
from watcher.chain.reconcile import Reconcile
from watcher.chain.resolve import Resolver
from watcher.chain.rpc.nodes import NodePool
from watcher.chain.source import Source
from watcher.chain.watch import Watch, WatchPlan
from watcher.clock import SystemClock
from watcher.devnet.contract import response_digest
from watcher.devnet.world import Devnet
from watcher.errors import RetryElsewhere
from watcher.ledger import claims, ingest, queries, sending
from watcher.ledger.sending import Settlement
from watcher.ledger.store import Ledger
from watcher.state import State
from watcher.task import Accepted, Responded, Response, Sent, Sighting

WINDOW = 10
DEPTH = 2
ZERO = "0x" + "00" * 32


class Ahead(SystemClock):
    """The system's clock, moved on by hand; `stepped_s` is by how much the wall clock alone was set forward."""

    ahead_s = 0.0
    stepped_s = 0.0

    def now_ms(self) -> int:
        return super().now_ms() + round((self.ahead_s + self.stepped_s) * 1000)

    def monotonic_s(self) -> float:
        return super().monotonic_s() + self.ahead_s


@dataclass
class Rig:
    """A devnet, a relay per endpoint, and the chain's stages over a ledger. `restart` makes the stages anew."""

    net: Devnet
    relays: Sequence[Relay]
    nodes: NodePool
    contract: TaskManager
    ledger: Ledger
    clock: Ahead
    quorum: int
    window: int

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self.source = Source(self.nodes, self.contract, self.ledger, self.clock, self.window)
        self.watch = Watch(self.source, WatchPlan(self.net.chain_id, DEPTH, 100, 1))
        self.admit = Admit(self.source, 0, 1, self.quorum)
        self.confirm = Confirm(self.source, 1, quorum=self.quorum)
        self.recheck = Recheck(self.source, self.watch.reader, 0, 100, 1)
        self.reconcile = Reconcile(self.source, self.watch.reader)

    def lie(self, *twists: Twist) -> None:
        for relay, twist in zip(self.relays, twists or (honest,) * len(self.relays), strict=True):
            relay.twist = twist

    async def step(self) -> None:
        """Every stage until it rests."""
        for stage in (self.watch, self.admit, self.confirm, self.recheck, self.confirm):
            while await stage.step() == 0:
                pass

    async def later(self, seconds: float = APART_S, blocks: int = 1) -> None:
        self.clock.ahead_s += seconds
        await self.net.mine(blocks)
        await self.step()

    async def state(self, index: int = 0) -> str:
        rows = await self.ledger.read(lambda conn: list(queries.list_tasks(conn, self.ledger.source_id)))
        return {row.task_index: str(row.state) for row in rows}[index]

    async def respond(self, index: int, created_block: int, message: bytes) -> None:
        task, _ = await self.net.manager.task_at(index, created_block)
        assert task is not None
        aggregate = self.net.operators.aggregate(response_digest(index, message), b"\x00", created_block)
        await self.net.manager.respond(task, index, message, aggregate)
        await self.net.mine()


async def opened(folder: Path, stack: AsyncExitStack, node_count: int, quorum: int, window: int = WINDOW) -> Rig:
    clock = Ahead()
    ground = await laid(stack, folder, window=window, relays=node_count, quorum=quorum, clock=clock)
    return Rig(ground.net, ground.relays, ground.nodes, ground.contract, ground.ledger, clock, quorum, window)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with AsyncExitStack() as stack:
        yield await opened(tmp_path, stack, 1, 1)


@pytest.fixture
def held_again() -> Iterator[list[int]]:
    """The indices of the tasks that the log calls open again."""
    indices: list[int] = []

    def collect(message: Any) -> None:
        if message.record["message"].startswith("task.held_again:"):
            indices.append(message.record["extra"]["task"])

    sink = logger.add(collect, level="WARNING")
    yield indices
    logger.remove(sink)


def honest(_: Answers, answers: Answers) -> Answers:
    return answers


def calls(change: Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]]) -> Twist:
    def twist(asked: Answers, answers: Answers) -> Answers:
        return [
            change(question, reply) if question["method"] == "eth_call" else reply
            for question, reply in zip(asked, answers, strict=True)
        ]

    return twist


zeros = calls(lambda _, reply: reply | {"result": ZERO})


def without_responses(rig: Rig) -> Twist:
    """The cache of the responses is empty; that of the tasks is not."""
    view = rig.contract.convention.all_task_responses
    assert view is not None
    selector = "0x" + view.call(0)[:4].hex()
    return calls(
        lambda question, reply: (
            reply | {"result": ZERO} if question["params"][0]["data"].startswith(selector) else reply
        )
    )


async def accept(rig: Rig) -> None:
    """Give the only task a response, and have an API accept it that never brings it on the chain."""
    source = rig.ledger.source_id
    (claimed,) = await rig.ledger.write(claims.claim, source, [State.READY], 1, 60_000)
    await rig.ledger.write(hook_results.keep_answer, claimed, Response(b"ours", "test", 1))
    to_send = await rig.ledger.write(claims.claim, source, [State.COMPUTED], 1, 60_000)
    (attempt,) = await rig.ledger.write(sending.begin, to_send, "proxy", {to_send[0].row_id: b"\0" * 32}, 60_000)
    await rig.ledger.write_item(sending.settle, Settlement(attempt, Sent(Accepted(), 200, b"", 1), claims.RetryAt()))


async def final_task(rig: Rig) -> int:
    """One task in a final block, which the stages have not read yet. Returns its block."""
    await rig.net.create_tasks([b"question"])
    created_block = await rig.net.chain.head()
    await rig.net.mine(DEPTH + 1)
    return created_block


async def test_one_reading_of_zero_sets_nothing_aside(rig: Rig) -> None:
    await final_task(rig)
    rig.lie(zeros)
    await rig.step()
    await rig.later(seconds=APART_S - 2)
    assert await rig.state() == "seen", "four seconds are too short"
    rig.lie()
    await rig.later()
    assert await rig.state() == "ready"


async def test_zeros_of_one_height_are_one_reading_however_old(rig: Rig) -> None:
    await final_task(rig)
    rig.lie(zeros)
    await rig.step()
    await rig.later(seconds=10 * APART_S, blocks=0)
    assert await rig.state() == "seen"


async def test_a_restart_measures_the_time_between_two_readings_anew(rig: Rig) -> None:
    await final_task(rig)
    rig.lie(zeros)
    await rig.step()
    rig.restart()
    await rig.later()
    assert await rig.state() == "seen", "how long the daemon was away is not known"
    await rig.later()
    assert await rig.state() == "quarantined"


@pytest.mark.parametrize("restarts", [False, True])
async def test_clock_set_forward_does_not_prove_an_absence(rig: Rig, restarts: bool) -> None:
    await final_task(rig)
    rig.lie(zeros)
    await rig.step()
    if restarts:
        rig.restart()
    rig.clock.stepped_s += 3600
    await rig.later(seconds=0)
    assert await rig.state() == "seen"
    await rig.later()
    assert await rig.state() == "quarantined", "six seconds and a block later"


async def test_a_clock_set_back_puts_no_second_reading_off(rig: Rig) -> None:
    await final_task(rig)
    rig.lie(zeros)
    await rig.step()
    rig.clock.stepped_s -= 3600
    await rig.later()
    await rig.later()
    assert await rig.state() == "quarantined"


async def test_a_true_reading_between_two_zeros_refutes_the_first(rig: Rig) -> None:
    created_block = await final_task(rig)
    await rig.step()
    await rig.respond(0, created_block, b"an answer")
    await rig.step()
    assert await rig.state() == "responded_other"
    rig.lie(without_responses(rig))
    await rig.later(blocks=DEPTH)
    assert await rig.state() == "responded_other", "one zero takes no response back"
    rig.lie()
    await rig.later()
    assert await rig.state() == "final_other"


async def test_a_quarantined_task_is_taken_up_when_the_contract_shows_it(rig: Rig, held_again: list[int]) -> None:
    await final_task(rig)
    rig.lie(zeros)
    await rig.step()
    await rig.later()
    assert await rig.state() == "quarantined"
    rig.lie()
    await rig.later(seconds=60)
    await rig.step()
    assert await rig.state() == "ready"
    assert held_again == [0]


async def test_an_orphan_that_waits_for_its_log_has_no_line_that_it_is_open(rig: Rig, held_again: list[int]) -> None:
    await final_task(rig)
    await rig.step()
    rig.lie(zeros)
    await rig.net.mine(WINDOW + DEPTH)
    await rig.step()
    await rig.later()
    assert await rig.state() == "orphaned"
    rig.lie()
    rig.clock.ahead_s += 60
    await rig.confirm.step()
    assert await rig.state() == "orphaned"
    assert held_again == []


async def test_a_task_past_its_deadline_expires_by_the_second_reading(rig: Rig) -> None:
    await final_task(rig)
    await rig.net.mine(WINDOW + DEPTH)
    await rig.step()
    assert await rig.state() == "seen"
    await rig.later()
    assert await rig.state() == "expired"


async def test_an_answered_task_never_expires_while_its_event_stands(rig: Rig) -> None:
    created_block = await final_task(rig)
    rig.lie(without_responses(rig))
    await rig.step()
    await rig.respond(0, created_block, b"an answer")
    await rig.net.mine(WINDOW + DEPTH)
    for _ in range(5):
        await rig.later()
        assert await rig.state() == "ready"
    rig.lie()
    for _ in range(3):
        await rig.later()
    assert await rig.state() == "final_other"


async def test_an_invented_response_event_is_withdrawn_and_the_task_expires(rig: Rig) -> None:
    await final_task(rig)
    await rig.step()
    block = await rig.net.chain.head()
    header = await rig.nodes.header(block)
    assert header is not None
    forged = Responded(0, b"evil", b"\x01" * 64, b"\x02" * 32, Sighting(block, header.hash, b"\x03" * 32, 7))
    await rig.ledger.write(ingest.store_responses, rig.ledger.source_id, [forged])
    await rig.net.mine(WINDOW + DEPTH)
    for _ in range(5):
        await rig.later()
    assert await rig.state() == "expired"
    events = await rig.ledger.read(queries.recent_events, rig.ledger.source_id)
    assert [event.kind for event in events if event.kind == "response withdrawn"] == ["response withdrawn"]


async def test_an_expired_task_is_answered_when_its_response_is_shown_later(rig: Rig) -> None:
    """The node hides the log and the state of the response, longer than both later looks."""
    created_block = await final_task(rig)
    await rig.step()
    hide_state = without_responses(rig)

    def hiding(asked: Answers, answers: Answers) -> Answers:
        return [
            reply | {"result": []} if question["method"] == "eth_getLogs" else reply
            for question, reply in zip(asked, hide_state(asked, answers), strict=True)
        ]

    rig.lie(hiding)
    await rig.respond(0, created_block, b"an answer")
    await rig.net.mine(WINDOW + DEPTH)
    for _ in range(3):
        await rig.later()
    assert await rig.state() == "expired"
    rig.lie()
    for _ in range(4):
        await rig.later(seconds=60)
    assert await rig.state() == "final_other"


async def test_a_task_given_up_is_answered_although_the_first_reading_is_of_zero(rig: Rig) -> None:
    """The log of somebody else's response is read, and the node shows an empty state just then."""
    created_block = await final_task(rig)
    await rig.step()
    (claimed,) = await rig.ledger.write(claims.claim, rig.ledger.source_id, [State.READY], 1, 60_000)
    await rig.ledger.write(hook_results.hook_failed, claimed, "it raised", 1, None)
    rig.lie(without_responses(rig))
    await rig.respond(0, created_block, b"an answer")
    await rig.later()
    assert await rig.state() == "failed"
    rig.lie()
    for _ in range(4):
        await rig.later(seconds=60)
    assert await rig.state() == "final_other"


def without_logs(asked: Answers, answers: Answers) -> Answers:
    return [
        reply | {"result": []} if question["method"] == "eth_getLogs" else reply
        for question, reply in zip(asked, answers, strict=True)
    ]


async def test_response_hidden_at_first_is_found_before_the_deadline(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        rig = await opened(tmp_path, stack, 1, 1, window=1000)
        created_block = await final_task(rig)
        await rig.step()
        rig.lie(without_logs)
        await rig.respond(0, created_block, b"an answer")
        await accept(rig)
        for _ in range(4):
            await rig.later(blocks=DEPTH)
        assert await rig.state() == "accepted"
        rig.lie()
        for _ in range(6):
            await rig.later(blocks=DEPTH)
        assert await rig.state() == "final_other"


async def test_a_response_window_of_zero_is_no_reading(rig: Rig) -> None:
    """A daemon that took it would give each task a deadline in its own block, and every task would expire."""
    drift = Drift(rig.source, rig.watch.reader, None)
    await drift.run()
    await final_task(rig)
    rig.lie(zeros)
    await rig.net.mine()  # what was read of a block is not asked again
    with pytest.raises(RetryElsewhere, match="is 0 at block"):
        await drift.run()
    assert rig.watch.reader.window_blocks == WINDOW
    rig.lie()
    await rig.net.mine()
    await drift.run()
    await rig.step()
    assert await rig.state() == "ready"


async def test_nodes_that_agree_need_one_reading_only(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        rig = await opened(tmp_path, stack, 2, 2)
        await final_task(rig)
        rig.lie(zeros, zeros)
        await rig.step()
        assert await rig.state() == "quarantined"


async def test_one_of_two_nodes_that_shows_zeros_ends_nothing(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        rig = await opened(tmp_path, stack, 2, 2)
        await final_task(rig)
        rig.lie(honest, zeros)
        await rig.watch.step()
        for _ in range(3):
            rig.clock.ahead_s += APART_S
            await rig.net.mine()
            await rig.admit.step()
        assert await rig.state() == "seen"
        rig.lie(honest, honest)
        await rig.net.mine()
        await rig.step()
        assert await rig.state() == "ready"


async def test_failing_work_past_its_deadline_holds_up_nothing_else(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The judge cannot say anything of old tasks; the event of a new one is still believed, and the trouble told."""
    await final_task(rig)
    await rig.net.mine(WINDOW + DEPTH)
    await rig.net.create_tasks([b"another"])
    created_block = await rig.net.chain.head()
    while await rig.watch.step() == 0:
        pass
    await rig.admit.step()
    await rig.respond(1, created_block, b"an answer")
    while await rig.watch.step() == 0:
        pass

    async def broken(*_: Any) -> Any:
        raise RetryElsewhere("the state is gone")

    monkeypatch.setattr(Resolver, "past_deadline", broken)
    confirm = Confirm(rig.source, 1)
    with pytest.raises(RetryElsewhere, match="the state is gone"):
        await confirm.step()
    assert await rig.state(1) == "responded_other"


@pytest.mark.parametrize("answered", [True, False])
async def test_the_state_of_the_head_is_enough_for_every_end(rig: Rig, answered: bool) -> None:
    """A node that keeps the state of its newest block alone."""
    created_block = await final_task(rig)
    gone = {"code": -32000, "message": "missing trie node 5d2a (path ) state 0x5d2a is not available, not found"}
    newest: dict[str, int] = {}

    def pruned(asked: Answers, answers: Answers) -> Answers:
        for reply in answers:
            if isinstance(reply.get("result"), dict) and "parentHash" in reply["result"]:
                newest[reply["result"]["hash"]] = int(reply["result"]["number"], 16)
        return [
            {"jsonrpc": "2.0", "id": reply["id"], "error": gone}
            if question["method"] == "eth_call"
            and newest.get(question["params"][1]["blockHash"], 0) < max(newest.values(), default=0)
            else reply
            for question, reply in zip(asked, answers, strict=True)
        ]

    rig.lie(pruned)
    await rig.step()
    if answered:
        await rig.respond(0, created_block, b"an answer")
    await rig.net.mine(WINDOW + DEPTH)
    for _ in range(3):
        await rig.later()
    assert await rig.state() == ("final_other" if answered else "expired")
