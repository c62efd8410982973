"""The pause before an answer is sent again that the API accepts and the chain never shows."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conformance.rig import make_task
from watcher.chain.resend import Pause, pause
from watcher.state import State
from watcher.task import Header, OpenTask


def sent(attempts: int, *, deadline: int | None = None, deadline_s: int | None = None) -> OpenTask:
    task = replace(make_task(0, deadline=deadline), deadline_s=deadline_s)
    return OpenTask(1, task, State.ACCEPTED, 1, attempts, 0, b"answer")


@pytest.mark.parametrize(
    ("open_task", "expected"),
    [
        (sent(1), Pause(at_block=110)),
        (sent(5), Pause(at_block=260)),
        (sent(500), Pause(at_block=100 + 5 * 256)),
        (sent(1, deadline=200), Pause(at_block=110)),
        (sent(5, deadline=200), Pause(at_block=150)),  # half of what is left
        (sent(5, deadline=101), Pause(at_block=100)),  # at once: no time for pauses
        (sent(5, deadline=90), Pause(at_block=100)),
        (sent(2, deadline_s=1_000_600), Pause(after_ms=40_000)),
        (sent(9, deadline_s=1_000_600), Pause(after_ms=300_000)),
        (sent(9, deadline_s=999_000), Pause()),
    ],
)
def test_pause_doubles_and_takes_half_of_what_is_left_at_most(open_task: OpenTask, expected: Pause) -> None:
    assert pause(open_task, Header(100, b"", b"", 1_000_000), 5) == expected


def test_pause_is_none_when_the_time_of_the_block_is_unknown() -> None:
    assert pause(sent(9, deadline_s=1_000_600), Header(100, b"", b""), 5) == Pause()


@given(window=st.integers(8, 10_000), patience=st.integers(0, 100))
def test_pause_leaves_room_for_several_attempts_in_any_window(window: int, patience: int) -> None:
    """Each attempt gets `patience` blocks to show, then the pause: three at least fit before the deadline, or as many
    as fit without any pause."""
    at, attempts, deadline = 100, 5, 100 + window
    while at < deadline and attempts < 100:
        at = max(at + 1, pause(sent(attempts, deadline=deadline), Header(at, b"", b""), patience).at_block)
        attempts += 1
    assert attempts - 5 >= 3
