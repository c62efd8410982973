"""The limit on requests at a time: it rises while the API keeps up, and falls at once when it does not."""

import pytest

from watcher.operator.limit import Limit, is_strained
from watcher.task import Accepted, Refused, Sent, Unknown

ACCEPTED = Sent(Accepted(), 200, b"", 5)
TOO_MANY = Sent(Refused("too many requests"), 429, b"", 5)


def run(limit: Limit, sent: Sent, times: int, *, at_s: float = 0.0, full: bool = True) -> None:
    """Record times of replies, each a second after the one before."""
    for number in range(times):
        began_s = at_s + number
        for _ in range(limit.now):
            limit.record(sent, began_s, began_s + 0.5, full=full)


def test_limit_begins_low_and_doubles_with_each_round() -> None:
    limit = Limit(256)
    seen = [limit.now]
    for number in range(4):
        run(limit, ACCEPTED, 1, at_s=number)
        seen.append(limit.now)
    assert seen == [4, 8, 16, 32, 64]


@pytest.mark.parametrize("most", [1, 3, 10])
def test_limit_never_exceeds_the_setting(most: int) -> None:
    limit = Limit(most)
    assert limit.now <= most
    run(limit, ACCEPTED, 20)
    assert limit.now == most


def test_limit_stays_while_slots_are_free() -> None:
    limit = Limit(64)
    run(limit, ACCEPTED, 10, full=False)
    assert limit.now == 4


@pytest.mark.parametrize(
    "sent",
    [
        TOO_MANY,
        Sent(Unknown("HTTP 503"), 503, b"", 5),
        Sent(Unknown("no whole reply within 60 s"), None, b"", 5),
        Sent(Refused("not sent: the connection was refused"), None, b"", 5),
    ],
)
def test_one_strained_reply_halves_the_limit_at_once(sent: Sent) -> None:
    limit = Limit(64)
    run(limit, ACCEPTED, 4)
    limit.record(sent, 10.0, 10.5, full=True)
    assert limit.now == 32


def test_requests_of_the_same_moment_lower_the_limit_once() -> None:
    limit = Limit(64)
    run(limit, ACCEPTED, 4)
    for _ in range(30):
        limit.record(TOO_MANY, 10.0, 10.5, full=True)
    assert limit.now == 32
    limit.record(TOO_MANY, 10.6, 11.0, full=True)
    assert limit.now == 16


def test_limit_never_falls_below_one() -> None:
    limit = Limit(64)
    run(limit, TOO_MANY, 20)
    assert limit.now == 1


def test_after_a_strain_the_limit_rises_by_one_a_round() -> None:
    limit = Limit(256)
    run(limit, ACCEPTED, 3)
    limit.record(TOO_MANY, 10.0, 10.5, full=True)
    assert limit.now == 16
    run(limit, ACCEPTED, 3, at_s=20.0)
    assert 18 <= limit.now <= 19


def test_refusal_of_a_task_is_no_strain() -> None:
    assert not is_strained(Sent(Refused("not part of task"), 400, b"", 5))
    assert not is_strained(Sent(Refused("who are you?", 401, endpoint=True), 401, b"", 5))


def test_work_ahead_follows_the_pace_of_the_api() -> None:
    slow, fast = Limit(8), Limit(8)
    for number in range(100):
        slow.record(ACCEPTED, number, number + 1.0, full=True)
        fast.record(ACCEPTED, number, number + 0.002, full=True)
    assert slow.taken_within(0.05) == 0
    assert fast.taken_within(0.05) >= 100
