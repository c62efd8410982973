"""The lines of the submit stage: one for each accepted answer, within bounds, and one for each problem of an API."""

from collections.abc import Iterator

import pytest
from loguru import logger

from tests.kit.clocks import SetClock
from tests.unit.operator.test_request import make_task
from watcher.ledger.claims import RetryAt
from watcher.ledger.sending import Attempt, Settlement
from watcher.operator.log_once import LogOnce
from watcher.state import State
from watcher.task import Accepted, OpenTask, Outcome, Sent, Unknown

AWAY = Sent(Unknown("no whole reply within 1 s"), None, b"", 1000)


@pytest.fixture
def lines() -> Iterator[list[str]]:
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(str(message)), format="{level} {message} {extra}", level="DEBUG")
    yield lines
    logger.remove(sink)


def attempt(index: int) -> Attempt:
    return Attempt(
        index, OpenTask(index, make_task(task_index=index), State.SENDING, 1, 1, 0, b"answer"), 0, "proxy", bytes(32)
    )


def sent(outcome: Outcome) -> Sent:
    return Sent(outcome, 200, b"", 7)


def accept(log_once: LogOnce, index: int, outcome: Accepted, warning: str | None = None) -> None:
    settlement = Settlement(attempt(index), sent(outcome), RetryAt(), warning)
    log_once.attempt(settlement, State.ACCEPTED, repeated=False)


def test_accepted_answer_is_one_line_with_its_claimed_transaction(lines: list[str]) -> None:
    accept(LogOnce(SetClock()), 5, Accepted(b"\x01" * 32))
    (line,) = lines
    assert line.startswith("INFO task.sent: ")
    assert "'task': 5" in line
    assert "'tx': " in line


def test_many_accepted_answers_share_lines_that_count_them(lines: list[str]) -> None:
    clock = SetClock()
    log_once = LogOnce(clock)
    for index in range(250):
        accept(log_once, index, Accepted())
    assert len([line for line in lines if line.startswith("INFO task.sent: ")]) == 100
    assert len([line for line in lines if line.startswith("DEBUG task.sent: ")]) == 150
    (begin,) = [line for line in lines if line.startswith("INFO task.sent_more: ")]
    assert "'count': 1}" in begin
    lines.clear()
    clock.at_ms += 61_000
    for index in range(2):
        accept(log_once, index, Accepted())
    assert [line.split()[1] for line in lines] == ["task.sent_more:", "task.sent:", "task.sent:"]
    assert "'count': 150}" in lines[0]


def test_contradicting_claim_is_a_warning_beside_the_acceptance(lines: list[str]) -> None:
    accept(LogOnce(SetClock()), 5, Accepted(), "another digest")
    assert [line.split()[1] for line in lines] == ["operator.digest_differs:", "task.sent:"]
    assert lines[0].startswith("WARNING")


def test_unreachable_api_is_logged_once_until_it_replies(lines: list[str]) -> None:
    log_once = LogOnce(SetClock())
    assert [log_once.is_repeated("proxy", AWAY) for _ in range(3)] == [False, True, True]
    assert not log_once.is_repeated("proxy", sent(Accepted()))
    assert not log_once.is_repeated("proxy", AWAY)
    assert [line.split()[1] for line in lines] == [
        "operator.unreachable:",
        "operator.reachable:",
        "operator.unreachable:",
    ]
