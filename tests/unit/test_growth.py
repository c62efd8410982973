"""How the chain grows, step by step on a clock that is set by hand."""

import pytest

from tests.conformance.rig import SetClock
from watcher.health.observers import Growth


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


def test_the_interval_is_an_average_over_enough_blocks(clock: SetClock) -> None:
    growth = Growth(clock)
    for block in range(10):
        growth.follow(100 + block, 60)
        clock.at_ms += 12_000
    assert growth.usual_interval_s is None
    growth.follow(110, 60)
    assert growth.usual_interval_s == 12
    clock.at_ms += 7_000
    assert (growth.head_block, growth.head_moved_ago_s) == (110, 7)


def test_finality_is_left_behind_by_a_head_that_moves_on(clock: SetClock) -> None:
    growth = Growth(clock)
    growth.follow(100, 60)
    clock.at_ms += 5_000_000
    growth.follow(100, 60)
    assert growth.final_left_behind_s == 0, "the chain rests"
    growth.follow(101, 60)
    clock.at_ms += 400_000
    growth.follow(130, 60)
    assert growth.final_left_behind_s == 400
    growth.follow(131, 61)
    assert growth.final_left_behind_s == 0
    growth.follow(132, 61)
    clock.at_ms += 3_000
    assert growth.final_left_behind_s == 3


def test_nothing_is_left_behind_before_the_ledger_was_read(clock: SetClock) -> None:
    growth = Growth(clock)
    growth.follow(100, None)
    growth.follow(101, None)
    clock.at_ms += 5_000_000
    assert growth.final_left_behind_s == 0


def test_the_time_of_the_chain_goes_on_between_its_blocks(clock: SetClock) -> None:
    growth = Growth(clock)
    assert growth.chain_time_s is None
    growth.follow(100, 60, 1_000)
    clock.at_ms += 4_500
    growth.follow(100, 60, 1_000)
    assert growth.chain_time_s == 1_004.5
    growth.follow(101, 60, 1_012)
    assert growth.chain_time_s == 1_012
    growth.follow(102, 60)
    assert growth.chain_time_s is None, "a node that names no time"
