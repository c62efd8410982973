"""How the chain grows, step by step on a clock that is set by hand."""

import pytest

from tests.kit.clocks import SetClock
from watcher.health.observers import ChainProgress


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


def test_the_interval_is_an_average_over_enough_blocks(clock: SetClock) -> None:
    progress = ChainProgress(clock)
    for block in range(10):
        progress.follow(100 + block, 60)
        clock.at_ms += 12_000
    assert progress.usual_interval_s is None
    progress.follow(110, 60)
    assert progress.usual_interval_s == 12
    clock.at_ms += 7_000
    assert (progress.head_block, progress.head_moved_ago_s) == (110, 7)


def test_finality_is_left_behind_by_a_head_that_moves_on(clock: SetClock) -> None:
    progress = ChainProgress(clock)
    progress.follow(100, 60)
    clock.at_ms += 5_000_000
    progress.follow(100, 60)
    assert progress.final_left_behind_s == 0, "the chain rests"
    progress.follow(101, 60)
    clock.at_ms += 400_000
    progress.follow(130, 60)
    assert progress.final_left_behind_s == 400
    progress.follow(131, 61)
    assert progress.final_left_behind_s == 0
    progress.follow(132, 61)
    clock.at_ms += 3_000
    assert progress.final_left_behind_s == 3


def test_nothing_is_left_behind_before_the_ledger_was_read(clock: SetClock) -> None:
    progress = ChainProgress(clock)
    progress.follow(100, None)
    progress.follow(101, None)
    clock.at_ms += 5_000_000
    assert progress.final_left_behind_s == 0


def test_the_time_of_the_chain_goes_on_between_its_blocks(clock: SetClock) -> None:
    progress = ChainProgress(clock)
    assert progress.chain_time_s is None
    progress.follow(100, 60, 1_000)
    clock.at_ms += 4_500
    progress.follow(100, 60, 1_000)
    assert progress.chain_time_s == 1_004.5
    progress.follow(101, 60, 1_012)
    assert progress.chain_time_s == 1_012
    progress.follow(102, 60)
    assert progress.chain_time_s is None, "a node that names no time"
