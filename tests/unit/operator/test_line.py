"""The line before the slots: nearest deadline first, and no verdict that has expired."""

from dataclasses import replace
from typing import Any, cast

from tests.kit.clocks import SetClock
from tests.unit.operator.test_request import make_task
from watcher.operator.line import Freshness, Line
from watcher.operator.post import Cleared
from watcher.state import State
from watcher.task import Header, OpenTask


class Marks:
    """Plays the ledger: the count of commits that have moved its marks on the chain."""

    chain_moves = 0


class Rig:
    def __init__(self) -> None:
        self.clock, self.marks = SetClock(), Marks()
        self.freshness = Freshness(cast("Any", self.marks), self.clock)
        self.line = Line(self.freshness)

    def cleared(self, index: int, deadline: int | None = 200) -> Cleared:
        task = replace(make_task(task_index=index), deadline_block=deadline)
        open_task = OpenTask(index, task, State.COMPUTED, 1, 0, 0, b"answer")
        return Cleared(open_task, Header(100, b"", b""), self.marks.chain_moves, self.clock.monotonic_s())

    def take(self, count: int = 10) -> list[int]:
        return [cleared.task.task.task_index for cleared in self.line.take(count)]


def test_nearest_deadline_comes_first_and_no_deadline_last() -> None:
    rig = Rig()
    rig.line.add([rig.cleared(0, None), rig.cleared(1, 300), rig.cleared(2, 200)])
    rig.line.add([rig.cleared(3, 250), rig.cleared(4, 200)])
    assert rig.take(2) == [2, 4]
    assert rig.take() == [3, 1, 0]


def test_task_may_come_twice_when_its_lease_ran_out() -> None:
    """As after the process was stopped for longer than the lease: it claims the task again."""
    rig = Rig()
    rig.line.add([rig.cleared(0), rig.cleared(1)])
    rig.line.add([rig.cleared(0)])
    assert rig.take() == [0, 0, 1]


def test_verdict_expires_when_the_head_moves() -> None:
    rig = Rig()
    rig.line.add([rig.cleared(0), rig.cleared(1)])
    assert rig.take(1) == [0]
    rig.marks.chain_moves += 1
    rig.clock.at_ms += 300
    assert rig.take() == []
    assert [task.task.task_index for task in rig.line.take_expired()] == [1]
    assert rig.line.take_expired() == []


def test_verdict_expires_after_seconds_at_the_same_head() -> None:
    rig = Rig()
    rig.line.add([rig.cleared(0), rig.cleared(1)])
    rig.clock.at_ms += 4_900
    assert rig.take(1) == [0]
    rig.clock.at_ms += 200
    assert rig.take() == []


def test_verdict_just_read_is_used_though_the_head_moved() -> None:
    rig = Rig()
    rig.line.add([rig.cleared(0)])
    rig.marks.chain_moves += 1
    rig.clock.at_ms += 200
    assert rig.take() == [0]


def test_all_tasks_can_be_taken_back() -> None:
    rig = Rig()
    rig.line.add([rig.cleared(0), rig.cleared(1)])
    rig.marks.chain_moves += 1
    rig.clock.at_ms += 300
    rig.line.take(1)
    rig.line.add([rig.cleared(2)])
    assert sorted(task.task.task_index for task in rig.line.take_all()) == [0, 1, 2]
    assert len(rig.line) == 0
