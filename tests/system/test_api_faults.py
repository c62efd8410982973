"""Whatever the hosted API answers, and however long: every task still open is answered once, and none reported wrongly.

The first rig makes blocks by itself and serves one daemon for the whole table, as a long outage would. The second makes
blocks by hand, for what depends on the very block: a rival who was faster, and the deadline.
"""

import asyncio
import json
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.system.daemon_rig import Daemon, Rig, running_rig
from watcher.devnet.contract import response_digest
from watcher.devnet.faults import Fault, FaultKind
from watcher.devnet.journal import read_journal
from watcher.ledger import queries
from watcher.ledger.engine import parse_url
from watcher.ledger.reader import Reader
from watcher.report.listing import task_fields

pytestmark = pytest.mark.asyncio(loop_scope="module")

BLOCK_S = 0.12
# A request may be on its way while a block comes.
ON_ITS_WAY_MS = 500
# Blocks enough for the transaction of an answer that was accepted, also on a busy machine.
SHORT = {
    "WATCHER_OPERATOR__TIMEOUT_S": "1",
    "WATCHER_OPERATOR__CONCURRENCY": "8",
    "WATCHER_OPERATOR__RESOLVE_AFTER_BLOCKS": "5",
}
HTML = "<html><body>It works! \u001b[31m</body></html>"
MIB = 1024 * 1024
K = FaultKind


# Answers while its gate is open; else it wants to be left alone for longer than any test takes.
GATED = """
from pathlib import Path

from rig_hook import dice
from watcher import Later, Task


def respond(task: Task) -> bytes | Later:
    return dice(task) if (Path(__file__).parent / "open").exists() else Later(seconds=3600)
"""


@dataclass
class World:
    """A rig, its daemon, and the height of the chain at every moment of the test."""

    rig: Rig
    daemon: Daemon
    heights: list[tuple[int, int]]

    async def watch_heights(self) -> None:
        while True:
            height = await self.rig.net.chain.head()
            if not self.heights or height > self.heights[-1][1]:
                self.heights.append((time.time_ns() // 1_000_000, height))
            await asyncio.sleep(0.02)

    def height_at(self, at_ms: int) -> int:
        """The chain was at least this high then."""
        return max((height for seen_ms, height in self.heights if seen_ms <= at_ms), default=0)

    def misbehave(self, *faults: Fault) -> None:
        self.rig.net.hosted.faults.add(*faults)

    def behave(self) -> None:
        self.rig.net.hosted.faults.clear()

    @property
    def faults_left(self) -> int:
        return len(self.rig.net.hosted.faults.active)

    def requests(self, *indices: int) -> list[dict[str, Any]]:
        """What was asked of the API for these tasks."""
        return [request for request in self.rig.received() if request.get("task_index") in indices]

    def faults_met(self, *indices: int) -> Counter[str]:
        """The faults that requests for these tasks met, by name."""
        numbers = {request["request"] for request in self.requests(*indices)}
        answered = [entry for entry in read_journal(self.rig.net.journal.path) if entry["what"] == "answered"]
        return Counter(fault for entry in answered if entry["request"] in numbers for fault in entry["faults"])

    def journey(self, index: int) -> list[str]:
        """The states the canonical task at `index` went through."""
        ((row_id,),) = self.rig.query("SELECT id FROM tasks WHERE canonical AND task_index = ?", index)
        return self.rig.journeys()[row_id]

    def tasks(self) -> dict[int, dict[str, Any]]:
        """The canonical tasks by index, as `tasks list --json` prints them."""
        reader = Reader(parse_url(f"sqlite:///{self.rig.ledger}"))
        try:
            rows = list(reader.stream(queries.list_tasks, 1, None))
        finally:
            reader.close()
        return {row.task_index: task_fields(row) for row in rows if row.canonical}

    async def final(self, indices: Sequence[int], timeout_s: float = 30) -> None:
        await self.rig.until(
            lambda: self.rig.all_in("final", indices=indices), f"{indices} are final", timeout_s=timeout_s
        )

    async def answered_once(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Chain, emulator's journal, hook's notes and ledger agree about these tasks. Returns them.

        Each was computed once and is final, with the one response the chain holds and the transaction it came in; each
        request was for a task of the chain, with that task's one answer, and none was made after the deadline.
        """
        rig = self.rig
        tasks = self.tasks()
        chain: defaultdict[int, list[tuple[str, str]]] = defaultdict(list)
        for answer in await rig.net.manager.answers():
            chain[answer.index].append(("0x" + answer.message.hex(), answer.tx_hash))
        hook_answers = rig.hook_answers()
        for index in indices:
            task = tasks[index]
            assert task["state"] == "final", task
            assert chain[index] == [(task["response"], task["responded_tx_hash"])]
            assert hook_answers[index, task["task_hash"]] == [task["response"]]
            assert await self._exists(task)
            requests = self.requests(index)
            # An attempt may be given up before it is sent, when the endpoint has just refused another.
            assert 1 <= len(requests) <= task["attempts"]
            for request in requests:
                (asked,) = json.loads(request["body"])["params"]
                assert asked == {
                    "method": "respondToTask",
                    "task_created_block": task["task_created_block"],
                    "message": task["message"],
                    "task_index": index,
                    "resp_message": task["response"],
                }
                assert self.height_at(request["at_ms"] - ON_ITS_WAY_MS) < task["deadline_block"]
        return [tasks[index] for index in indices]

    async def _exists(self, task: dict[str, Any]) -> bool:
        stored_task, stored_hash = await self.rig.net.manager.task_at(task["task_index"], task["task_created_block"])
        return (
            stored_task is not None
            and stored_task.hash() == stored_hash
            and "0x" + stored_task.message.hex() == task["message"]
        )


@asynccontextmanager
async def running_world(folder: Path, **options: Any) -> AsyncIterator[World]:
    async with running_rig(folder, **options) as rig:
        (rig.hook_folder / "gated.py").write_text(GATED)
        (rig.hook_folder / "open").touch()
        rig.write_config(target="gated:respond")
        world = World(rig, await rig.start(environment=SHORT), [])
        watching = asyncio.create_task(world.watch_heights())
        yield world
        watching.cancel()
        assert world.daemon.running, rig.story()
        assert await world.daemon.stop() == 0
        assert "Traceback" not in world.daemon.log


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder = tmp_path_factory.mktemp("faults")
    async with running_world(folder, mining=BLOCK_S, window_blocks=400, seed=7) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def by_hand(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder = tmp_path_factory.mktemp("by_hand")
    async with running_world(folder, window_blocks=12) as running:
        yield running


@pytest.fixture(autouse=True)
def _faults_end_with_the_test(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    for name in ("world", "by_hand"):
        if name in request.fixturenames:
            world: World = request.getfixturevalue(name)
            world.behave()
            (world.rig.hook_folder / "open").touch()


# What the API does for a while. More of the same kinds are in the mixture below.
TABLE: dict[str, Fault] = {
    "400 with a transient error": Fault(K.TRANSIENT_400),
    "502 with HTML": Fault(K.STATUS, status=502),
    "502 with HTML after acceptance": Fault(K.STATUS, status=502, after=True),
    "malformed JSON": Fault(K.MALFORMED_JSON),
    "malformed JSON before acceptance": Fault(K.MALFORMED_JSON, after=False),
    "HTML with 200": Fault(K.RAW_BODY, text=HTML),
    "an empty body": Fault(K.EMPTY_BODY),
    "a truncated body": Fault(K.TRUNCATED),
    "a huge body": Fault(K.HUGE_BODY, size_bytes=4 * MIB),
    "a reset before acceptance": Fault(K.RESET),
    "a dripping body": Fault(K.SLOW_DRIP, seconds=0.2),
    "the tx_hash of nothing": Fault(K.WRONG_TX_HASH),
    "the tx_hash of nothing, not accepted": Fault(K.WRONG_TX_HASH, after=False),
    "another sig_hash": Fault(K.WRONG_SIG_HASH),
    "accepted, never lands": Fault(K.NEVER_LANDS),
    "accepted, lands late": Fault(K.LANDS_LATE, blocks=8),
    "accepted, reverts": Fault(K.REVERTS),
    "a lie: already responded": Fault(K.ALREADY_RESPONDED),
}
MIXTURE = [
    *TABLE.values(),
    Fault(K.TIMEOUT),
    Fault(K.TIMEOUT, after=True),
    Fault(K.GZIP_BOMB, size_bytes=4 * MIB),
    Fault(K.RESET, after=True),
    Fault(K.WRONG_ID),
    Fault(K.ERROR_AND_RESULT),
    Fault(K.NULL_RESULT, after=False),
    Fault(K.EMPTY_BODY, after=False),
    Fault(K.TX_HASH_GARBAGE),
    Fault(K.STATUS, status=429, retry_after="1"),
]
STRIKES = 3


@pytest.mark.parametrize("name", TABLE)
async def test_while_the_api_answers_wrongly_every_task_is_answered_once(world: World, name: str) -> None:
    world.misbehave(replace(TABLE[name], times=STRIKES))
    indices = await world.rig.create(2)
    await world.final(indices)
    await world.answered_once(indices)
    assert world.faults_met(*indices)[TABLE[name].kind] >= 2


async def test_time_out_before_acceptance_sends_the_same_answer_again(world: World) -> None:
    world.misbehave(Fault(K.TIMEOUT, times=2))
    indices = await world.rig.create(2)
    await world.final(indices)
    for task in await world.answered_once(indices):
        assert task["attempts"] == 2
        assert world.journey(task["task_index"])[-6:] == [
            "unknown", "waiting", "sending", "accepted", "responded", "final",
        ]  # fmt: skip


async def test_time_out_after_acceptance_sends_nothing_again(world: World) -> None:
    world.misbehave(Fault(K.TIMEOUT, after=True, times=2))
    indices = await world.rig.create(2)
    await world.final(indices)
    for task in await world.answered_once(indices):
        assert task["attempts"] == 1
        assert world.journey(task["task_index"])[-4:] == ["sending", "unknown", "responded", "final"]
        assert task["error"] is None


async def test_time_out_after_acceptance_gives_one_answer_when_mined_late(world: World) -> None:
    world.misbehave(Fault(K.LANDS_LATE, times=2, blocks=15), Fault(K.TIMEOUT, after=True, times=2))
    indices = await world.rig.create(2)
    await world.final(indices)
    tasks = await world.answered_once(indices)
    assert all(task["attempts"] > 1 for task in tasks)


async def test_retry_after_is_honoured(world: World) -> None:
    world.misbehave(Fault(K.STATUS, status=429, retry_after="2", times=1))
    indices = await world.rig.create()
    await world.final(indices)
    await world.answered_once(indices)
    first, second = world.requests(*indices)
    assert 2000 <= second["at_ms"] - first["at_ms"] < 6000


async def test_a_refusal_of_us_blocks_the_endpoint_and_not_the_tasks(world: World) -> None:
    """The probes come every 2.5 s with these settings (five times the longest wait between two attempts)."""
    world.misbehave(Fault(K.STATUS, status=401))
    indices = await world.rig.create(20)

    def probes() -> list[int]:
        """When it was tried again, in ms. What comes within a second of the first was on its way already."""
        made = [request["at_ms"] for request in world.requests(*indices)]
        return [at_ms for at_ms in made if at_ms > made[0] + 1000]

    await world.rig.until(lambda: len(probes()) >= 2, "two probes were made", timeout_s=20)
    first_ms, second_ms = probes()[:2]
    assert second_ms - first_ms > 2000
    assert len(world.requests(*indices)) <= 8 + len(probes())
    assert world.rig.all_in("ready", "computed", "sending", "blocked", indices=indices)
    opened = [line for line in world.daemon.log.splitlines() if "operator.circuit_opened" in line]
    assert len(opened) == 1
    assert "api=proxy cause=refused" in opened[0]
    assert "HTTP 401" in opened[0]
    world.behave()
    await world.final(indices)
    await world.answered_once(indices)
    assert world.daemon.running


async def test_a_random_mixture_of_everything_answers_a_hundred_tasks_once(world: World) -> None:
    world.misbehave(*(replace(fault, probability=0.025) for fault in MIXTURE))
    world.misbehave(Fault(K.STATUS, status=401, probability=0.02, times=2))
    indices: list[int] = []
    for _ in range(5):
        indices += await world.rig.create(20)
    await world.final(indices, timeout_s=60)
    tasks = await world.answered_once(indices)
    met = world.faults_met(*indices)
    assert len(met) > 12
    assert sum(met.values()) > 30
    assert max(task["attempts"] for task in tasks) > 1


async def test_after_all_of_it_the_proof_holds(world: World) -> None:
    await world.rig.settle()
    proof = await world.rig.prove()
    count = await world.rig.net.manager.count()
    assert (proof["ok"], proof["known"], proof["answered_by_us"]) == (True, count, count)
    assert (proof["answered_otherwise"], proof["expired"], proof["open"]) == ([], [], [])
    assert all(len(answers) == 1 for answers in world.rig.sent().values())


async def respond_elsewhere(world: World, index: int) -> None:
    """The aggregator answers this task with something else, of which neither the API nor we know anything."""
    net = world.rig.net
    created_block = world.tasks()[index]["task_created_block"]
    task, _ = await net.manager.task_at(index, created_block)
    assert task is not None
    answer = b"somebody else's"
    aggregate = net.operators.aggregate(response_digest(index, answer), task.quorum_numbers, created_block, set())
    await net.manager.respond(task, index, answer, aggregate)
    await net.mine()


async def one_task(world: World) -> int:
    """One more task, with the confirmation it needs."""
    (index,) = await world.rig.create()
    await world.rig.net.mine()
    return index


async def answered_otherwise(world: World, index: int) -> None:
    """The ledger and the proof say that it was somebody else, and nothing was sent once that was known."""
    await world.rig.until(lambda: world.rig.state(index) in ("responded_other", "final_other"), "the rival is seen")
    world.behave()
    await world.rig.settle()
    assert world.journey(index)[-2:] == ["responded_other", "final_other"]
    ((seen_ms,),) = world.rig.query(
        "SELECT min(journal.at_ms) FROM journal JOIN tasks ON tasks.id = task_id"
        " WHERE canonical AND task_index = ? AND to_state = 'responded_other'",
        index,
    )
    assert all(request["at_ms"] <= seen_ms + ON_ITS_WAY_MS for request in world.requests(index))
    proof = await world.rig.prove()
    assert proof["ok"]
    assert index in proof["answered_otherwise"]
    task = world.tasks()[index]
    assert task["responded_tx_hash"] in {answer.tx_hash for answer in await world.rig.net.manager.answers()}


async def test_a_rival_who_answers_before_we_could_is_seen_and_nothing_is_sent(by_hand: World) -> None:
    gate = by_hand.rig.hook_folder / "open"
    gate.unlink()
    index = await one_task(by_hand)
    await by_hand.rig.until(lambda: by_hand.rig.state(index) == "ready", "it waits for the hook")
    await respond_elsewhere(by_hand, index)
    for _ in range(3):
        await by_hand.rig.caught_up()
        await by_hand.rig.net.mine()
    seen = ("responded_other", "final_other")
    await by_hand.rig.until(lambda: by_hand.rig.state(index) in seen, "the rival is seen", timeout_s=10)
    gate.touch()
    await answered_otherwise(by_hand, index)
    assert by_hand.requests(index) == []
    assert by_hand.tasks()[index]["response"] is None


async def test_a_rival_who_answers_while_the_api_refuses_ends_our_attempts(by_hand: World) -> None:
    by_hand.misbehave(Fault(K.TRANSIENT_400))
    index = await one_task(by_hand)
    async with by_hand.rig.mining(0.2):
        await by_hand.rig.until(lambda: len(by_hand.requests(index)) >= 2, "it was refused twice", timeout_s=8)
    await respond_elsewhere(by_hand, index)
    await answered_otherwise(by_hand, index)


async def test_a_rival_who_answers_in_our_place_is_not_taken_for_us(by_hand: World) -> None:
    by_hand.misbehave(Fault(K.RIVAL, times=1))
    index = await one_task(by_hand)
    await by_hand.rig.until(lambda: by_hand.rig.state(index) == "accepted", "the API claims to have it")
    await by_hand.rig.net.mine()
    await answered_otherwise(by_hand, index)
    assert len(by_hand.requests(index)) == 1


@pytest.mark.parametrize("kind", [K.TRANSIENT_400, K.RESET, K.NEVER_LANDS])
async def test_nothing_is_sent_after_the_deadline_and_the_task_is_expired(by_hand: World, kind: FaultKind) -> None:
    by_hand.misbehave(Fault(kind))
    index = await one_task(by_hand)
    await by_hand.rig.settle()
    assert by_hand.rig.state(index) == "expired"
    task = by_hand.tasks()[index]
    requests = by_hand.requests(index)
    assert requests
    for request in requests:
        assert by_hand.height_at(request["at_ms"] - ON_ITS_WAY_MS) < task["deadline_block"]
    assert by_hand.height_at(time.time_ns() // 1_000_000) > task["deadline_block"]
    proof = await by_hand.rig.prove()
    assert proof["ok"]
    assert index in proof["expired"]


async def test_an_answer_in_the_last_block_of_the_window_counts(by_hand: World) -> None:
    by_hand.misbehave(Fault(K.TRANSIENT_400))
    index = await one_task(by_hand)
    await by_hand.rig.caught_up()
    deadline_block = by_hand.tasks()[index]["deadline_block"]
    await by_hand.rig.net.mine(deadline_block - 1 - await by_hand.rig.net.chain.head())
    await by_hand.rig.caught_up()
    by_hand.behave()
    await by_hand.rig.until(lambda: by_hand.rig.state(index) == "accepted", "it is accepted at the last moment")
    await by_hand.rig.settle()
    (task,) = await by_hand.answered_once([index])
    assert task["responded_block"] == deadline_block
