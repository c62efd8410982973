"""A page of thousands of logs that are forged or cannot be decoded: one event, one commit, and true tasks go on."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.integration.node_rig import Answers, Relay
from tests.kit.chain import laid
from watcher.chain.admit import Admit
from watcher.chain.recheck import Recheck
from watcher.chain.watch import Watch, WatchPlan
from watcher.devnet.world import Devnet
from watcher.ledger import queries
from watcher.ledger.store import Ledger

FLOOD = 20_000
WINDOW = 100

Log = dict[str, Any]


@dataclass
class Rig:
    """A devnet behind a relay, and the stages that read it."""

    net: Devnet
    relay: Relay
    ledger: Ledger
    watch: Watch
    admit: Admit
    recheck: Recheck

    async def catch_up(self) -> None:
        while await self.watch.step() == 0:
            pass

    async def states(self) -> dict[int, str]:
        rows = await self.ledger.read(lambda conn: list(queries.list_tasks(conn, self.ledger.source_id)))
        return {row.task_index: row.state for row in rows}

    async def events(self) -> list[tuple[str, str]]:
        rows = await self.ledger.read(queries.recent_events, self.ledger.source_id)
        return [(row.kind, row.words) for row in rows]


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with AsyncExitStack() as stack:
        ground = await laid(stack, tmp_path, window=WINDOW, body_limit_bytes=1 << 25)
        watch = Watch(ground.source, WatchPlan(ground.net.chain_id, 30, 100, 1))
        recheck = Recheck(ground.source, watch.reader, 0, 100, 1)
        yield Rig(ground.net, ground.relays[0], ground.ledger, watch, Admit(ground.source, 0, 1), recheck)


def flooding(size: int, forge: Callable[[int, Log], Log]) -> Callable[[Answers, Answers], Answers]:
    """Beside the first true log of each list, so many that `forge(number, log)` makes of it."""

    def twist(asked: Answers, answers: Answers) -> Answers:
        for ask, reply in zip(asked, answers, strict=True):
            if ask["method"] == "eth_getLogs" and reply["result"]:
                log = reply["result"][0]
                reply["result"] = [*(log | forge(number, log) for number in range(size)), *reply["result"]]
        return answers

    return twist


def undecodable(number: int, log: Log) -> Log:
    return {"logIndex": hex(1000 + number), "data": "0x" + "ff" * 32}


def unknown_index(number: int, log: Log) -> Log:
    return {"logIndex": hex(1000 + number), "topics": [log["topics"][0], "0x" + (77 + number).to_bytes(32).hex()]}


def one_index(number: int, log: Log) -> Log:
    return {"transactionHash": "0x" + (number + 1).to_bytes(32).hex()} | undecodable(0, log)


@pytest.mark.parametrize(
    ("forge", "kind", "what"),
    [
        (undecodable, "undecodable log", "logs cannot be decoded"),
        (unknown_index, "tasks beyond the count", "tasks are shown beyond the 2 that the contract counts"),
        (one_index, "undecodable log", "logs cannot be decoded"),
    ],
)
async def test_a_flood_of_logs_is_one_event_and_true_tasks_are_stored(
    rig: Rig, forge: Callable[[int, Log], Log], kind: str, what: str
) -> None:
    await rig.net.create_tasks([b"one", b"two"])
    rig.relay.twist = flooding(FLOOD, forge)
    began_s = time.monotonic()
    await rig.catch_up()
    assert time.monotonic() - began_s < 60
    assert (await rig.states()).keys() == {0, 1}
    ((name, message),) = await rig.events()
    assert (name, message.partition(":")[0]) == (kind, f"{FLOOD} {what}")
    assert f"and {FLOOD - 3} more" in message
    await rig.admit.step()
    assert await rig.states() == {0: "ready", 1: "ready"}


async def test_indices_beyond_the_count_are_not_stored(rig: Rig) -> None:
    """A node that lags with its state makes true tasks look like forged ones: a later look stores them."""

    def behind(asked: Answers, answers: Answers) -> Answers:
        return [
            reply | {"result": "0x" + (1).to_bytes(32).hex()} if ask["method"] == "eth_call" else reply
            for ask, reply in zip(asked, answers, strict=True)
        ]

    await rig.net.create_tasks([b"one", b"two", b"three"])
    rig.relay.twist = behind
    await rig.catch_up()
    assert 2 not in await rig.states()
    rig.relay.twist = flooding(10, unknown_index)
    await rig.net.mine(4)
    await rig.catch_up()
    while await rig.recheck.step() == 0:
        pass
    assert await rig.states() == {0: "seen", 1: "seen", 2: "seen"}


async def test_second_reading_takes_fewer_blocks_after_many_logs(rig: Rig) -> None:
    ranges: list[tuple[int, int]] = []

    def noted(asked: Answers, answers: Answers) -> Answers:
        queries_asked = [ask["params"][0] for ask in asked if ask["method"] == "eth_getLogs"]
        ranges.extend((int(query["fromBlock"], 16), int(query["toBlock"], 16)) for query in queries_asked)
        return flooding(600, undecodable)(asked, answers)

    async def read_again(blocks: int) -> int:
        """Mine blocks, and return the most blocks in one range of the next second reading."""
        rig.relay.twist = lambda _, answers: answers
        await rig.net.mine(blocks)
        await rig.catch_up()
        ranges.clear()
        rig.relay.twist = noted
        await rig.recheck.step()
        return max(last - first + 1 for first, last in ranges)

    await rig.net.create_tasks([b"one"])
    blocks = await read_again(11)
    assert blocks > 2
    assert await read_again(20) <= blocks // 2


@pytest.mark.parametrize("count", ["0x" + "00" * 32, "0x", None])
async def test_a_count_of_zero_or_none_at_all_sets_no_task_aside(rig: Rig, count: str | None) -> None:
    def emptied(asked: Answers, answers: Answers) -> Answers:
        return [
            reply | {"result": count} if ask["method"] == "eth_call" else reply
            for ask, reply in zip(asked, answers, strict=True)
        ]

    await rig.net.create_tasks([b"one", b"two"])
    rig.relay.twist = emptied
    await rig.catch_up()
    assert await rig.states() == {0: "seen", 1: "seen"}
