"""Pauses that others dictate, and our own, leave room for several tries before the deadline."""

import math
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watcher.chain.rpc.pace import Pace, longest_pause_s
from watcher.clock import SystemClock
from watcher.operator.circuit import Circuit
from watcher.operator.pacing import SubmitPlan
from watcher.state import State
from watcher.task import Accepted, Header, OpenTask, Outcome, Refused, Sent, Unknown
from watcher.testing import make_task

PLAN = SubmitPlan(4, 60.0, 1.0, 300.0, 5, 5.0)


def head(number: int, time_s: int, l1_block: int | None = None) -> Header:
    return Header(number, number.to_bytes(32), b"", time_s, l1_block)


def again_s(outcome: Outcome, left_s: float | None, *, attempts: int = 1, duration_ms: int = 0) -> float:
    open_task = OpenTask(1, make_task(), State.SENDING, 1, attempts, 0, b"answer")
    sent = Sent(outcome, 429, b"", duration_ms)
    return PLAN.retry_at(open_task, sent, head(100, 0), lambda: 0.99, left_s).after_ms / 1000


@pytest.mark.parametrize(
    "outcome", [Refused("busy", retry_after_s=1e12), Refused("busy"), Unknown("busy", retry_after_s=1e12)]
)
def test_pause_leaves_room_for_tries_when_a_deadline_is_near(outcome: Outcome) -> None:
    assert again_s(outcome, 120.0, attempts=20) <= 30.0
    assert again_s(outcome, 2.0, attempts=20) <= PLAN.retry_base_s
    assert again_s(outcome, None, attempts=20) > 250.0, "without a deadline the API has its way"


def test_request_that_took_long_shortens_the_pause() -> None:
    assert again_s(Refused("busy", retry_after_s=600), 120.0, duration_ms=60_000) <= 15.0


@given(left_s=st.floats(4, 10_000), wait_s=st.floats(0, 1e12))
def test_at_least_four_tries_fit_before_the_deadline(left_s: float, wait_s: float) -> None:
    tries, rest_s = 0, left_s
    while rest_s > 0 and tries < 10_000:
        rest_s -= PLAN.within_s(wait_s, rest_s) + 1e-6
        tries += 1
    assert tries >= 4


def test_refusal_of_the_endpoint_is_probed_before_the_deadline() -> None:
    circuit = Circuit(SystemClock(), Random(1).random)
    circuit.record(Refused("go away", endpoint=True, retry_after_s=1e9), within_s=PLAN.within_s(math.inf, 40.0))
    assert 0 < circuit.wait_s() <= 10.0


def test_pace_follows_the_chains_own_time() -> None:
    pace = Pace()
    task = make_task(deadline_block=160)
    assert pace.left_s(task, head(100, 1000)) == 120.0, "until it is known, time is taken to run fast"
    assert pace.left_s(task, head(110, 1120)) == 50 * 12.0
    assert pace.left_s(replace(task, deadline_block=None, deadline_s=1150), head(110, 1120)) == 30.0
    assert pace.left_s(replace(task, deadline_block=None), head(110, 1120)) is None
    assert pace.left_s(task, head(200, 2200)) == 0.0


def test_pace_counts_the_parents_blocks_where_contracts_do() -> None:
    pace = Pace()
    task = make_task(deadline_block=30)
    pace.follow(head(1000, 1000, 10))
    assert pace.left_s(task, head(1480, 1120, 20)) == 11 * 12.0, "its own block may still hold the response"


@pytest.mark.parametrize("times", [(0, 0, 0), (1000, 1000, 1000), (1000, 500, 2**40)])
def test_pace_stays_within_bounds_when_block_times_are_nonsense(times: tuple[int, int, int]) -> None:
    pace = Pace()
    for number, time_s in zip((100, 200, 300), times, strict=True):
        pace.follow(head(number, time_s))
    assert 0.05 <= pace.block_s <= 60.0


def test_all_endpoints_are_left_alone_for_a_share_of_the_time_left() -> None:
    assert (longest_pause_s(None), longest_pause_s(1e9), longest_pause_s(40.0), longest_pause_s(0.0)) == (60, 60, 10, 2)


@pytest.mark.parametrize("outcome", [Accepted(), Unknown("cut off"), Unknown("busy", retry_after_s=1.0)])
@pytest.mark.parametrize(
    ("at", "deadline_block", "due_block"),
    [
        (head(1_000_000, 0, l1_block=100), 130, 1_000_005),
        (head(1_000_000, 0, l1_block=129), 130, 1_000_005),  # one of the parent's blocks is many of the chain's
        (head(1_000_000, 0, l1_block=100), None, 1_000_005),
        (head(100, 0), 130, 105),
        (head(123, 0), 130, 127),  # three blocks are left for another attempt
        (head(129, 0), 130, 130),
    ],
)
def test_chain_gets_its_blocks_to_show_an_answer_by_either_numbering(
    outcome: Outcome, at: Header, deadline_block: int | None, due_block: int
) -> None:
    open_task = OpenTask(1, make_task(deadline_block=deadline_block), State.SENDING, 1, 1, 0, b"answer")
    assert PLAN.retry_at(open_task, Sent(outcome, 200, b"", 0), at, lambda: 0.5).at_block == due_block
