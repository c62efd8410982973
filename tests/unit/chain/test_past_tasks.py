"""Past tasks from logs alone: each with the answer that the contract holds, whatever else the logs show."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.conformance.rig import CHAIN_ID, header, make_response, make_task
from tests.kit.clocks import QuickClock
from watcher.chain import past_tasks
from watcher.chain.page import LogReader
from watcher.chain.past_tasks import PastTasks
from watcher.chain.rpc.calls import LogQuery
from watcher.errors import NarrowRange, RetryElsewhere
from watcher.ledger.replay import PastTask
from watcher.task import Header, Responded, Task

HEAD = Header(200, b"\x01" * 32, b"", 2000)


class Chain:
    """Logs by block, a contract that holds the hashes of `true`, and a node that fails as told."""

    def __init__(
        self, *logs: Task | Responded, true: Sequence[Responded] = (), fails: Sequence[Exception] = ()
    ) -> None:
        self.logs, self.fails = logs, list(fails)
        self.hashes = {response.task_index: response.response_hash for response in true}
        self.ranges: list[tuple[int, int]] = []
        self.names_answers = True

    async def response_window(self, at: Header) -> int | None:
        return 100

    async def header(self, number: int) -> Header:
        return Header(number, b"", b"", number * 10)

    async def hashes_and_responses(self, indices: Sequence[int], at: Header) -> list[tuple[bytes | None, bytes | None]]:
        return [(None, self.hashes.get(index)) for index in indices]

    def log_query(self, first: int, last: int) -> LogQuery:
        return LogQuery((), (), first, last)

    async def page(self, query: LogQuery, _head: Header) -> Any:
        if self.fails:
            raise self.fails.pop(0)
        self.ranges.append((query.first, query.last))
        logs = [log for log in self.logs if query.first <= log.seen_at.block_number <= query.last]
        return SimpleNamespace(logs=logs, last=header(query.last))


@pytest.fixture(autouse=True)
def _decoded_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(_reader: LogReader, logs: Sequence[Any]) -> tuple[list[Task], list[Responded], list[Any]]:
        return [log for log in logs if isinstance(log, Task)], [log for log in logs if isinstance(log, Responded)], []

    monkeypatch.setattr(LogReader, "decode", decode)


async def read(chain: Chain, first: int, last: int, span: int = 20) -> list[PastTask]:
    parts = cast("Any", chain)
    return [past async for past in PastTasks(parts, parts, QuickClock(), CHAIN_ID, span).read(first, last, HEAD)]


async def test_answers_count_when_the_contract_holds_their_hash() -> None:
    forged, own = make_response(0, 110, b"forged"), make_response(0, 111, b"true")
    chain = Chain(make_task(0), make_task(1), forged, own, make_response(1, 112, b"forged"), true=[own])
    past = {item.task.task_index: item.accepted for item in await read(chain, 100, 120)}
    assert past == {0: b"true", 1: None}


async def test_answers_are_read_beyond_the_range_of_the_tasks() -> None:
    late = make_response(0, 150)
    chain = Chain(make_task(0), make_task(1, block=130), late, true=[late])
    past = await read(chain, 100, 120)
    assert [(item.task.task_index, item.accepted) for item in past] == [(0, late.message)]
    assert chain.ranges[-1][1] < HEAD.number  # nothing waits any more


async def test_reading_goes_on_when_a_node_refuses_or_fails() -> None:
    answer = make_response(0, 110)
    chain = Chain(make_task(0), answer, true=[answer], fails=[NarrowRange("too wide"), RetryElsewhere("away")])
    assert [item.accepted for item in await read(chain, 100, 120)] == [answer.message]
    assert chain.ranges[0] == (100, 109)
    for failure in (RetryElsewhere("away"), NarrowRange("a block holds too much")):
        with pytest.raises(type(failure)):
            await read(Chain(fails=[failure] * 20), 100, 120)


async def test_waiting_tasks_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(past_tasks, "_WAITING_LIMIT", 3)
    past = await read(Chain(*(make_task(index) for index in range(10))), 100, 120)
    assert [item.task.task_index for item in past] == list(range(10))


@pytest.mark.parametrize(("time_s", "block"), [(0, 0), (505, 51), (510, 51), (99_999, 200)])
async def test_block_at_a_time_is_the_first_of_that_time(time_s: float, block: int) -> None:
    parts = cast("Any", Chain())
    assert await PastTasks(parts, parts, QuickClock(), CHAIN_ID, 20).block_at(time_s, HEAD) == block
