"""Lines about single tasks: one for each, with its fields, and few of them for thousands at once."""

from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
from loguru import logger

from tests.kit.clocks import SetClock
from watcher.chain.expiry import Expiry
from watcher.chain.outcome_lines import OutcomeLines
from watcher.chain.source import Source
from watcher.chain.task_lines import SeenLines
from watcher.state import State
from watcher.task import Header, OpenTask, Responded, Sighting, Task

MANY = 3000
FINAL = Header(200, bytes(32), bytes(32))


class Proven:
    """A rule that proves every zero, and a ledger that takes every change."""

    source_id = 1

    async def proven(self, tasks: Sequence[OpenTask], *_: object) -> Sequence[OpenTask]:
        return tasks

    async def write(self, _verb: object, tasks: Sequence[OpenTask], *_: object, **__: object) -> Sequence[OpenTask]:
        return tasks


@pytest.fixture
def lines() -> Iterator[list[tuple[str, str, dict[str, Any]]]]:
    """Collect (level, event, fields) of each line."""
    records: list[tuple[str, str, dict[str, Any]]] = []

    def collect(message: Any) -> None:
        record = message.record
        records.append((record["level"].name, record["message"].partition(":")[0], dict(record["extra"])))

    sink = logger.add(collect, level="INFO")
    yield records
    logger.remove(sink)


def a_task(index: int = 3, block: int = 100, deadline_block: int | None = 120, deadline_s: int | None = None) -> Task:
    seen = Sighting(block, bytes(32), b"\x07" * 32, 0)
    return Task(1, bytes(20), index, bytes(32), block, b"", b"", 0, deadline_block, seen, deadline_s=deadline_s)


def an_open(index: int = 3, state: State = State.ACCEPTED) -> OpenTask:
    return OpenTask(index, a_task(index), state, 0, 1, 0, None, responded_block=110)


def a_response(index: int = 3) -> Responded:
    return Responded(index, b"", b"", bytes(32), Sighting(110, bytes(32), b"\x08" * 32, 0))


def an_expiry() -> Expiry:
    anything, contract = cast("Any", Proven()), cast("Any", SimpleNamespace(proves_answers=False))
    return Expiry(Source(anything, contract, anything, SetClock()), anything)


@pytest.mark.parametrize(
    ("deadline_block", "deadline_s", "deadline"),
    [
        (120, None, {"deadline_block": 120}),
        (None, 1_700_000_000, {"deadline_at": "2023-11-14T22:13:20Z"}),
        (120, 1_700_000_000, {"deadline_at": "2023-11-14T22:13:20Z"}),
        (None, 2**62, {"deadline_at": "9999-12-31T23:59:59Z"}),
        (None, 0, {"deadline_at": "1970-01-01T00:00:00Z"}),
        (None, None, {}),
    ],
)
async def test_missed_line_names_the_deadline_as_the_contract_does(
    deadline_block: int | None,
    deadline_s: int | None,
    deadline: dict[str, Any],
    lines: list[tuple[str, str, dict[str, Any]]],
) -> None:
    task = a_task(deadline_block=deadline_block, deadline_s=deadline_s)
    await an_expiry().unanswered([OpenTask(1, task, State.ACCEPTED, 0, 1, 0, None)], FINAL)
    ((level, event, fields),) = lines
    assert (level, event) == ("ERROR", "task.missed")
    assert (fields["task"], fields["tx"]) == (3, b"\x07" * 32)
    assert {name: value for name, value in fields.items() if name.startswith("deadline")} == deadline


def test_new_task_has_one_line_with_its_fields(lines: list[tuple[str, str, dict[str, Any]]]) -> None:
    SeenLines(SetClock()).seen([a_task()], begun_block=99)
    assert lines == [
        ("INFO", "task.seen", {"task": 3, "deadline_block": 120, "block": 100, "tx": b"\x07" * 32}),
    ]


def test_history_is_one_line_and_each_new_task_its_own(lines: list[tuple[str, str, dict[str, Any]]]) -> None:
    SeenLines(SetClock()).seen([*(a_task(i, block=i) for i in range(MANY)), a_task(MANY, MANY)], begun_block=MANY - 1)
    assert [(event, fields.get("task"), fields.get("tasks")) for _, event, fields in lines] == [
        ("task.seen", MANY, None),
        ("task.seen_more", None, MANY),
    ]


def test_landed_and_final_lines_say_who_answered(lines: list[tuple[str, str, dict[str, Any]]]) -> None:
    ours, theirs = an_open(1), an_open(2)
    log = OutcomeLines(SetClock())
    log.landed([ours], [(ours, a_response(1))])
    log.answered_by_other([theirs], [(theirs, a_response(2))])
    log.final([an_open(1, State.RESPONDED), an_open(2, State.RESPONDED_OTHER)], FINAL)
    assert [(level, event, fields["task"], fields["answered_by"]) for level, event, fields in lines] == [
        ("INFO", "task.landed", 1, "us"),
        ("WARNING", "task.answered_by_other", 2, "other"),
        ("INFO", "task.final", 1, "us"),
        ("INFO", "task.final", 2, "other"),
    ]
    assert {fields["block"] for _, _, fields in lines} == {110}
    assert lines[0][2]["tx"] == b"\x08" * 32


def test_task_that_did_not_move_has_no_landed_line(lines: list[tuple[str, str, dict[str, Any]]]) -> None:
    OutcomeLines(SetClock()).landed([], [(an_open(), a_response())])
    assert lines == []


async def test_log_is_not_flooded_when_thousands_of_tasks_end(lines: list[tuple[str, str, dict[str, Any]]]) -> None:
    expiry, batch = an_expiry(), 200
    for first in range(0, MANY, batch):
        await expiry.unanswered([an_open(index) for index in range(first, first + batch)], FINAL)
    assert len(lines) <= 100 + MANY // batch
    single = [event for _, event, _ in lines].count("task.missed")
    assert single + sum(fields.get("tasks", 0) for _, _, fields in lines) == MANY, "every task is counted"


def test_lines_return_after_a_minute(lines: list[tuple[str, str, dict[str, Any]]]) -> None:
    clock = SetClock()
    seen = SeenLines(clock)
    seen.seen([a_task(index) for index in range(MANY)], begun_block=None)
    clock.now_s += 60
    seen.seen([a_task(MANY)], begun_block=None)
    assert lines[-1][1:] == ("task.seen", {"task": MANY, "deadline_block": 120, "block": 100, "tx": b"\x07" * 32})
